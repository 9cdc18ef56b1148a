"""Batch normalisation as its publishers set it up. Reached through `layers`.

Its gradient is written down. What autodiff makes of the same sums is a little
slower, and takes longer to trace than all else in a network of many small
layers; this is traced once for all layers of a shape.
"""

import contextlib
import contextvars
import functools
from collections.abc import Iterator, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxderm.models import sums
from jaxderm.models.forms import form
from jaxderm.models.ops import choose
from jaxderm.models.parameters import parameter
from jaxderm.models.taps import Array

ORIGINS = ('keras', 'torch')
# What may follow in the same pass, and where it ends.
CLIPS = {'none': None, 'relu': np.inf, 'relu6': 6.0}
# Epsilon, and what a step keeps of the old statistics.
BATCH_NORM = {'keras': (1e-3, 0.99), 'torch': (1e-5, 0.9)}
_ROWS, _SIZE = 2**13, 2**20  # of a map that is small
_LARGE = 2**22  # numbers of a map that no cache holds

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


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def normalise(
  x: Array,
  scale: Array,
  bias: Array,
  epsilon: float,
  activation: str = 'none',
) -> tuple[Array, Array, Array]:
  """Normalises each channel by its own statistics (arXiv:1502.03167).

  Args:
    x: [..., C].
    scale: [C].
    bias: [C].
    epsilon: Added to the variance.
    activation: Of the result: 'none', 'relu' or 'relu6'.

  Returns:
    scale (x - mean) / sqrt(var + epsilon) + bias, activated, and the mean and
    the variance [C] in float32, through which no gradient flows.
  """
  return _forward(x, scale, bias, epsilon, activation)[0]


def _standardise(
  x: Array, mean: Array, var: Array, scale: Array, bias: Array, epsilon: float
) -> Array:
  y = (x - mean) * (lax.rsqrt(var + epsilon) * scale) + bias
  return y.astype(jnp.result_type(x, scale, bias))


def _clip(y: Array, activation: str) -> Array:
  if activation == 'none':
    return y
  y = jnp.maximum(y, 0)
  return y if activation == 'relu' else jnp.minimum(y, CLIPS[activation])


def _is_large(x: Array, form: str) -> bool:
  """Whether loops over it wait for memory, so that fewer are faster."""
  return form == 'cpu' and x.ndim == 4 and x.size >= _LARGE


def _sums(maps: Sequence[Array], form: str) -> Sequence[Array]:
  """Sums of each over all axes but the last.

  On the CPU those of large maps are made in one loop, and those of small ones
  are products with ones: YNNPACK's sums, which they would be, read a large map
  twice, and of small maps run a little sooner, but each takes two milliseconds
  to get ready before it runs for the first time, and there are hundreds.
  """
  x = maps[0]
  rows = x.size // x.shape[-1]
  if _is_large(x, form):
    parts = max(n for n in range(1, sums.PARTS + 1) if x.shape[1] % n == 0)
    if 2 * parts >= sums.PARTS:
      b, h, w, c = x.shape
      maps = [x.reshape(b, parts, h // parts, w, c) for x in maps]
      return sums.of_pixels(sums.in_one_loop(maps, 1))
  if form == 'cpu' and rows <= _ROWS and x.size <= _SIZE:
    ones = jnp.ones((1, rows), x.dtype)
    return [(ones @ x.reshape(rows, -1))[0] for x in maps]
  return [jnp.sum(x, tuple(range(x.ndim - 1))) for x in maps]


def _forward(
  x: Array, scale: Array, bias: Array, epsilon: float, activation: str
):
  return _normalised(x, scale, bias, epsilon, activation, form())


@functools.partial(jax.jit, static_argnums=(3, 4, 5))
def _normalised(
  x: Array,
  scale: Array,
  bias: Array,
  epsilon: float,
  activation: str,
  form: str,
):
  wide = x.astype(jnp.float32)
  count = x.size // x.shape[-1]
  total, squares = _sums((wide, wide * wide), form)
  mean = total / count
  # In one pass; rounding may make it negative.
  var = jnp.maximum(squares / count - mean * mean, 0)
  y = _clip(_standardise(x, mean, var, scale, bias, epsilon), activation)
  return (y, mean, var), (x, scale, bias, mean, var)


def _backward(epsilon: float, activation: str, saved, cotangents):
  return _gradients(saved, cotangents, epsilon, activation, form())


@functools.partial(jax.jit, static_argnums=(2, 3, 4))
def _gradients(saved, cotangents, epsilon: float, activation: str, form: str):
  x, scale, bias, mean, var = saved
  dy, wide = (z.astype(jnp.float32) for z in (cotangents[0], x))
  count = x.size // x.shape[-1]
  inverse = lax.rsqrt(var + epsilon)

  def passed(factor: Array) -> Array:
    """What the activation lets through of dy."""
    if activation == 'none':
      return dy
    y = (wide - mean) * factor + bias
    return jnp.where((y > 0) & (y < CLIPS[activation]), dy, 0)

  # Behind a barrier: a number of each channel, and not made anew at each pixel.
  factor = lax.optimization_barrier(inverse * scale)
  through = passed(factor)
  # Of x, not of x - mean: XLA would keep that as well, from the forward pass.
  dbias, products = _sums((through, through * wide), form)
  dscale = (products - mean * dbias) * inverse
  along = inverse * dscale / count
  if activation != 'none' and _is_large(x, form):
    # Made again where it is read, which is faster than to write it down.
    through = passed(lax.optimization_barrier((factor, dscale))[0])
  rest = along * mean - dbias / count
  dx = scale * inverse * (through - along * wide + rest)
  return (
    dx.astype(x.dtype),
    dscale.astype(scale.dtype),
    dbias.astype(bias.dtype),
  )


normalise.defvjp(_forward, _backward)


class _BatchNorm(nn.BatchNorm):
  """Flax's, over all axes but the last, with the gradient above.

  With statistics that are given it does not activate: `folding` answers in its
  place then.
  """

  activation: str = 'none'

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
    y, *seen = normalise(x, scale, bias, self.epsilon, self.activation)
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
    activation: Of the result: 'none', 'relu' or 'relu6'. Here, and not after
      it, for the gradient of both takes fewer passes over memory.
  """

  origin: str = 'keras'
  epsilon: float | None = None
  momentum: float | None = None
  use_scale: bool = True
  activation: str = 'none'

  @nn.compact
  def __call__(self, x: Array, train: bool = False) -> Array:
    choose('origin', self.origin, ORIGINS)
    choose('activation of BatchNorm', self.activation, CLIPS)
    epsilon, momentum = BATCH_NORM[self.origin]
    if self.momentum is not None:
      momentum = self.momentum
    share = _momentum.get()
    norm = _BatchNorm(
      epsilon=epsilon if self.epsilon is None else self.epsilon,
      momentum=momentum if share is None else share,
      use_scale=self.use_scale,
      activation=self.activation,
    )
    nn.share_scope(self, norm)
    y = norm(x, use_running_average=not train)
    return y if train else _clip(y, self.activation)
