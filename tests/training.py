"""The gradients of a training step, of networks that are small."""

import jax
import numpy as np
from compiling import draw, quick_jit

from jaxderm import step, task


def in_both_precisions(network, image):
  """Yields loss and gradients of the parameters in float32 and in bfloat16.

  Args:
    network: Of segmentation.
    image: [B, H, W, 3]; its red is the mask.
  """
  batch = {
    'image': image,
    'mask': (image[..., :1] > 0).astype(np.uint8),
    'valid': np.ones(len(image), 'f'),
  }
  variables = draw(network, image)
  for precision in ('float32', 'bfloat16'):
    gradient = step.make_gradient(
      network, task.segmentation({'name': 'bce_dice'}), precision, False
    )
    (loss, _), found = quick_jit(gradient)(
      variables['params'], variables['batch_stats'], batch, jax.random.key(0)
    )
    yield float(loss), found
