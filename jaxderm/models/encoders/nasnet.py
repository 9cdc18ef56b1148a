"""NASNet-A (arXiv:1707.07012), layer for layer as Keras has it.

Modules and taps bear Keras' names. A cell takes the outputs of the two cells
before it, x of the last and p of the one before, and what it makes of them is
figure 4 of the paper.
"""

from collections.abc import Generator, Iterator, Sequence
from functools import partial
from typing import ClassVar, NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from jaxderm.models.layers import (
  Array,
  BatchNorm,
  Conv,
  Encoder,
  SeparableConv,
  avg_pool,
  global_mean,
  max_pool,
)


class Cell(NamedTuple):
  """What the parts of a cell have in common.

  Attributes:
    kind: 'normal' or 'reduction'.
    number: How Keras counts the cells: 'stem_1', '0', 'reduce_4', ...
    features: Channels of each of its sums.
    train: Whether batches are normalised by themselves.
  """

  kind: str
  number: str
  features: int
  train: bool

  def squeeze(self, x: Array) -> Array:
    """The output of the last cell, in this cell's width."""
    x = self.conv(nn.relu(x), f'{self.kind}_conv_1', self.features)
    return self.norm(x, f'{self.kind}_bn_1')

  def adjust(self, p: Array, x: Array) -> Array:
    """The output of the cell before the last, in the size of x too."""
    if p.shape[1:3] != x.shape[1:3]:
      p = nn.relu(p)
      shifted = jnp.pad(p, ((0, 0), (0, 1), (0, 1), (0, 0)))[:, 1:, 1:]
      halves = [
        self.conv(grid[:, ::2, ::2], f'adjust_conv_{i}', self.features // 2)
        for i, grid in enumerate((p, shifted), start=1)
      ]
      p = jnp.concatenate(halves, axis=-1)
    else:
      p = self.conv(nn.relu(p), 'adjust_conv_projection', self.features)
    return self.norm(p, 'adjust_bn')

  def separable(self, x: Array, size: int, part: str, stride: int = 1) -> Array:
    """Twice ReLU, separable convolution, normalisation."""
    x = self.half(nn.relu(x), 1, size, part, stride)
    return self.half(nn.relu(x), 2, size, part)

  def half(
    self, x: Array, i: int, size: int, part: str, stride: int = 1
  ) -> Array:
    name = f'separable_conv_{i}'
    part = f'{self.kind}_{part}_{self.number}'
    # TensorFlow's SAME is what Keras' correct_pad comes to, at every size.
    x = SeparableConv(
      self.features, size, stride, bias=False, name=f'{name}_{part}'
    )(x)
    return _norm(x, f'{name}_bn_{part}', self.train)

  def conv(self, x: Array, name: str, features: int) -> Array:
    return Conv(features, 1, bias=False, name=f'{name}_{self.number}')(x)

  def norm(self, x: Array, name: str) -> Array:
    return _norm(x, f'{name}_{self.number}', self.train)


def _norm(x: Array, name: str, train: bool) -> Array:
  return BatchNorm(momentum=0.9997, name=name)(x, train)


Steps = Generator[tuple[str, Array], None, Array]


def _normal(cell: Cell, x: Array, p: Array, relu: int) -> Steps:
  """The left of figure 4. `relu` is the number of the last ReLU in it."""
  h = cell.squeeze(x)
  # The fifth sum comes first: `do2022` cuts the network off inside the last
  # cell's, and counts what has gone into it only.
  y = nn.relu(cell.half(nn.relu(h), 1, 3, 'left5'))
  yield f'activation_{relu}', y
  sum5 = cell.half(y, 2, 3, 'left5') + h
  p = cell.adjust(p, x)
  sum1 = cell.separable(h, 5, 'left1') + cell.separable(p, 3, 'right1')
  sum2 = cell.separable(p, 5, 'left2') + cell.separable(p, 3, 'right2')
  sum3 = _mean(h) + p
  sum4 = 2 * _mean(p)  # the search chose it for both sides
  x = jnp.concatenate([p, sum1, sum2, sum3, sum4, sum5], axis=-1)
  yield f'normal_concat_{cell.number}', x
  return x


def _reduction(cell: Cell, x: Array, p: Array | None) -> Steps:
  """The right of figure 4: half the size. The first cell's p is its x."""
  p = x if p is None else cell.adjust(p, x)
  h = cell.squeeze(x)
  height, width = h.shape[1:3]
  # These zeros count, in the maxima and in the means.
  padded = jnp.pad(h, ((0, 0), (height % 2, 1), (width % 2, 1), (0, 0)))
  greatest = max_pool(padded, 3, 2)
  sum1 = cell.separable(h, 5, 'left1', 2) + cell.separable(p, 7, 'right1', 2)
  sum2 = greatest + cell.separable(p, 7, 'right2', 2)
  sum3 = avg_pool(padded, 3, 2) + cell.separable(p, 5, 'right3', 2)
  sum4 = sum2 + _mean(sum1)
  sum5 = cell.separable(sum1, 3, 'left4') + greatest
  x = jnp.concatenate([sum2, sum3, sum4, sum5], axis=-1)
  yield f'reduction_concat_{cell.number}', x
  return x


def _mean(x: Array) -> Array:
  return avg_pool(x, 3, 1, 'SAME')


class NASNet(Encoder):
  """Cells found by search: N normal ones, a reduction, N, a reduction, N.

  Attributes:
    repeats: Normal cells in a row, N.
    width: Channels of each sum of the first N; they double at reductions.
    stem: Channels of the first convolution.
    skips: Whether p of the cell after a reduction is what the reduction itself
      had for p, not for x.
    taps: Features to return: 'stem_bn1' (half the image's size, less one),
      'reduction_concat_stem_1' (1/4), 'reduction_concat_stem_2' (1/8),
      'normal_concat_0' and so on, of a normal cell also the ReLU inside its
      fifth sum, 'activation_<n>', 'reduction_concat_reduce_<N>' (1/16),
      'reduction_concat_reduce_<2N>' (1/32), at the end a last
      'activation_<n>', and 'predictions'.
    classes: Of the tap 'predictions', logits [B, 1, 1, classes].
  """

  normalisation: ClassVar[str] = 'tf'

  repeats: int
  width: int
  stem: int
  skips: bool
  taps: Sequence[str] | None
  classes: int = 1000

  @nn.nowrap
  def features(self, image: Array, train: bool) -> Iterator[tuple[str, Array]]:
    x = Conv(self.stem, 3, 2, 'VALID', bias=False, name='stem_conv1')(image)
    x = _norm(x, 'stem_bn1', train)
    yield 'stem_bn1', x
    p, relus = None, 0
    for kind, number, features in self._cells():
      cell = Cell(kind, number, features, train)
      # Keras numbers the ReLUs: one in front, ten in the five separable pairs,
      # and one of p, but for the first cell and where p is larger than x.
      relus += 11 if p is None or p.shape[1:3] != x.shape[1:3] else 12
      last = x
      if kind == 'normal':
        x = yield from _normal(cell, x, p, relus - 1)
      else:
        x = yield from _reduction(cell, x, p)
      if not (self.skips and number.startswith('reduce')):
        p = last
    x = nn.relu(x)
    yield f'activation_{relus}', x
    yield (
      'predictions',
      nn.Dense(self.classes, name='predictions')(global_mean(x)),
    )

  @nn.nowrap
  def _cells(self) -> Iterator[tuple[str, str, int]]:
    """Kind, Keras' number and channels of each."""
    n, width = self.repeats, self.width
    yield 'reduction', 'stem_1', width // 4
    yield 'reduction', 'stem_2', width // 2
    for stage in range(3):
      if stage:
        yield 'reduction', f'reduce_{stage * n}', width * 2**stage
      for i in range(n):
        number = stage * n + i + (stage > 0)
        yield 'normal', f'{number}', width * 2**stage


def _nasnet(repeats: int, **settings) -> partial:
  # The numbers of the last normal cell before each reduction, and of the
  # network's last ReLU.
  taps = (
    'stem_bn1',
    'reduction_concat_stem_1',
    f'normal_concat_{repeats - 1}',
    f'normal_concat_{2 * repeats}',
    f'activation_{36 * repeats + 43}',
  )
  return partial(NASNet, repeats=repeats, taps=taps, **settings)


NASNetMobile = _nasnet(4, width=44, stem=32, skips=False)
NASNetLarge = _nasnet(6, width=168, stem=96, skips=True)
