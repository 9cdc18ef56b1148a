"""Swin Transformer (arXiv:2103.14030), layer for layer as in torchvision."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import ClassVar

import einops
import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from jaxderm.models.attention import swin_block, truncated_normal
from jaxderm.models.layers import Array, Conv, Encoder, global_mean

layer_norm = partial(nn.LayerNorm, epsilon=1e-5)


class Swin(Encoder):
  """Attention within windows, which are shifted in every second block.

  Attributes:
    depths: Blocks in each of the four stages.
    taps: Features to return: 'embedding' (a quarter of the image's size),
      'stage1_block1' and so on; 'merge1' (1/8), 'merge2', 'merge3' (1/32), what
      stages 2 to 4 start from; 'norm' (1/32), 'predictions'.
    width: Channels of the first stage.
    window: Side of the windows, in pixels of a map.
    drop_rate: Probability with which either half of the last block is left out
      of an image's path; blocks before are left out less often.
    classes: Of the tap 'predictions', logits [B, 1, 1, classes].
  """

  normalisation: ClassVar[str] = 'torch'

  depths: Sequence[int]
  taps: Sequence[str] | None = ('embedding', 'merge1', 'merge2', 'norm')
  width: int = 96
  window: int = 7
  drop_rate: float = 0.2
  classes: int = 1000

  @nn.nowrap
  def features(self, image: Array, train: bool) -> Iterator[tuple[str, Array]]:
    x = Conv(self.width, 4, 4, 'VALID', name='embedding')(image)
    x = layer_norm(name='embedding_norm')(x)
    yield 'embedding', x
    rates = iter(np.linspace(0, self.drop_rate, sum(self.depths)).tolist())
    for i, depth in enumerate(self.depths):
      if i > 0:
        x = _merge(x, f'merge{i}')
        yield f'merge{i}', x
      for j in range(depth):
        name = f'stage{i + 1}_block{j + 1}'
        shifted = j % 2 == 1
        block = swin_block(x.shape[-1], self.window, shifted, next(rates), name)
        x = block(x, train)
        yield name, x
    x = layer_norm(name='norm')(x)
    yield 'norm', x
    yield (
      'predictions',
      nn.Dense(self.classes, name='predictions')(global_mean(x)),
    )


def _merge(x: Array, name: str) -> Array:
  """Four pixels side by side as channels, and half of these."""
  odd = [(0, side % 2) for side in x.shape[1:3]]
  x = jnp.pad(x, ((0, 0), *odd, (0, 0)))
  x = einops.rearrange(x, 'b (h p) (w q) c -> b h w (q p c)', p=2, q=2)
  x = layer_norm(name=f'{name}_norm')(x)
  half = x.shape[-1] // 2
  return Conv(half, 1, bias=False, kernel_init=truncated_normal, name=name)(x)


SwinTiny = partial(Swin, depths=(2, 2, 6, 2))
# What Swin-Unet has of it (arXiv:2105.05537).
SwinCao2021 = partial(Swin, depths=(2, 2, 2, 2))
