"""Batch normalisation as its publishers set it up. Reached through `layers`."""

import contextlib
import contextvars
from collections.abc import Iterator

import flax.linen as nn

from jaxderm.models.ops import choose
from jaxderm.models.taps import Array

ORIGINS = ('keras', 'torch')
# Epsilon, and what a step keeps of the old statistics.
BATCH_NORM = {'keras': (1e-3, 0.99), 'torch': (1e-5, 0.9)}

_momentum: contextvars.ContextVar[float | None] = contextvars.ContextVar(
  'norm_momentum', default=None
)


@contextlib.contextmanager
def norm_momentum(share: float | None) -> Iterator[None]:
  """Within it, every BatchNorm keeps this share of its old statistics.

  Whatever its family says: some publishers keep 0.999 or 0.9997, with which a
  few hundred steps of fine-tuning end with the statistics of ImageNet.

  Args:
    share: From 0 to 1; None leaves each as it is.

  Raises:
    ValueError: for a share outside.
  """
  if share is not None and not 0 <= share < 1:
    raise ValueError(f'norm_momentum {share}: expected from 0 to below 1')
  token = _momentum.set(share)
  try:
    yield
  finally:
    _momentum.reset(token)


class BatchNorm(nn.Module):
  """Batch normalisation over the channels, as Keras or torch sets it up.

  Attributes:
    origin: 'keras' (epsilon 1e-3, momentum 0.99) or 'torch' (1e-5, 0.9).
    epsilon: Instead of the origin's, where a family departs from it.
    momentum: The same, as the share of the old statistics that is kept.
    use_scale: False for the Keras Inception networks, which have no gamma.
  """

  origin: str = 'keras'
  epsilon: float | None = None
  momentum: float | None = None
  use_scale: bool = True

  @nn.compact
  def __call__(self, x: Array, train: bool = False) -> Array:
    choose('origin', self.origin, ORIGINS)
    epsilon, momentum = BATCH_NORM[self.origin]
    if self.momentum is not None:
      momentum = self.momentum
    share = _momentum.get()
    norm = nn.BatchNorm(
      epsilon=epsilon if self.epsilon is None else self.epsilon,
      momentum=momentum if share is None else share,
      use_scale=self.use_scale,
    )
    nn.share_scope(self, norm)
    return norm(x, use_running_average=not train)
