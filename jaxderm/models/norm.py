"""Batch normalisation as its publishers set it up. Reached through `layers`.

Its gradient is written down. What autodiff makes of the same sums is a little
slower, and takes longer to trace than all else in a network of many small
layers; this is traced once for all layers of a shape.
"""

import contextlib
import contextvars
import functools
from collections.abc import Iterator

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from jaxderm.models.forms import form
from jaxderm.models.ops import choose
from jaxderm.models.parameters import parameter
from jaxderm.models.taps import Array

ORIGINS = ('keras', 'torch')
# Epsilon, and what a step keeps of the old statistics.
BATCH_NORM = {'keras': (1e-3, 0.99), 'torch': (1e-5, 0.9)}
_ROWS, _SIZE = 2**13, 2**20  # of a map that is small

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


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def normalise(
  x: Array, scale: Array, bias: Array, epsilon: float
) -> tuple[Array, Array, Array]:
  """Normalises each channel by its own statistics (arXiv:1502.03167).

  Args:
    x: [..., C].
    scale: [C].
    bias: [C].
    epsilon: Added to the variance.

  Returns:
    scale (x - mean) / sqrt(var + epsilon) + bias, and the mean and the variance
    [C] in float32, through which no gradient flows.
  """
  return _forward(x, scale, bias, epsilon)[0]


def _standardise(
  x: Array, mean: Array, var: Array, scale: Array, bias: Array, epsilon: float
) -> Array:
  y = (x - mean) * (lax.rsqrt(var + epsilon) * scale) + bias
  return y.astype(jnp.result_type(x, scale, bias))


def _sums(x: Array, form: str) -> Array:
  """Sums over all axes but the last.

  On the CPU those of small maps are products with ones. YNNPACK's sums, which
  they would be, run a little sooner, but each takes two milliseconds to get
  ready before it runs for the first time, and there are hundreds.
  """
  rows = x.size // x.shape[-1]
  if form == 'cpu' and rows <= _ROWS and x.size <= _SIZE:
    return (jnp.ones((1, rows), x.dtype) @ x.reshape(rows, -1))[0]
  return jnp.sum(x, tuple(range(x.ndim - 1)))


def _forward(x: Array, scale: Array, bias: Array, epsilon: float):
  return _normalised(x, scale, bias, epsilon, form())


@functools.partial(jax.jit, static_argnums=(3, 4))
def _normalised(x: Array, scale: Array, bias: Array, epsilon: float, form: str):
  wide = x.astype(jnp.float32)
  count = x.size // x.shape[-1]
  mean = _sums(wide, form) / count
  # In one pass; rounding may make it negative.
  var = jnp.maximum(_sums(wide * wide, form) / count - mean * mean, 0)
  y = _standardise(x, mean, var, scale, bias, epsilon)
  return (y, mean, var), (x, scale, bias, mean, var)


def _backward(epsilon: float, saved, cotangents):
  return _gradients(saved, cotangents, epsilon, form())


@functools.partial(jax.jit, static_argnums=(2, 3))
def _gradients(saved, cotangents, epsilon: float, form: str):
  x, scale, bias, mean, var = saved
  dy, wide = (z.astype(jnp.float32) for z in (cotangents[0], x))
  count = x.size // x.shape[-1]
  inverse = lax.rsqrt(var + epsilon)
  dbias = _sums(dy, form)
  # Of x, not of x - mean: XLA would keep that as well, from the forward pass.
  dscale = (_sums(dy * wide, form) - mean * dbias) * inverse
  along = inverse * dscale / count
  dx = scale * inverse * (dy - along * wide + (along * mean - dbias / count))
  return (
    dx.astype(x.dtype),
    dscale.astype(scale.dtype),
    dbias.astype(bias.dtype),
  )


normalise.defvjp(_forward, _backward)


class _BatchNorm(nn.BatchNorm):
  """Flax's, over all axes but the last, with the gradient above."""

  @nn.compact
  def __call__(self, x: Array, use_running_average: bool) -> Array:
    shape = x.shape[-1:]
    mean = self.variable('batch_stats', 'mean', jnp.zeros, shape)
    var = self.variable('batch_stats', 'var', jnp.ones, shape)
    bias = parameter(self, 'bias', self.bias_init, shape)
    scale = jnp.ones_like(bias)
    if self.use_scale:
      scale = parameter(self, 'scale', self.scale_init, shape)
    if use_running_average:
      return _standardise(x, mean.value, var.value, scale, bias, self.epsilon)
    y, *seen = normalise(x, scale, bias, self.epsilon)
    if not self.is_initializing():
      kept = self.momentum
      for old, new in zip((mean, var), seen, strict=True):
        old.value = kept * old.value + (1 - kept) * new
    return y


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
    norm = _BatchNorm(
      epsilon=epsilon if self.epsilon is None else self.epsilon,
      momentum=momentum if share is None else share,
      use_scale=self.use_scale,
    )
    nn.share_scope(self, norm)
    return norm(x, use_running_average=not train)
