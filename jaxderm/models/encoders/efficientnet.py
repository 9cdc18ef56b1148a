"""EfficientNet B0 to B7 (arXiv:1905.11946), whoever trained it.

Modules and taps bear Keras' names. As Keras has it, the input is RGB of 0 to
255 and normalised inside; as torchvision and timm have it, it comes normalised,
padding is symmetric and BatchNorm is torch's.
"""

import math
import string
from collections.abc import Generator, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from jaxderm.models.layers import (
  Array,
  BatchNorm,
  Conv,
  DepthwiseConv,
  Encoder,
  global_mean,
  same_padding,
  scaled,
  swish,
)

IMAGENET_MEAN = (0.485, 0.456, 0.406)  # of 1
IMAGENET_STD = (0.229, 0.224, 0.225)
kernel_init = nn.initializers.variance_scaling(
  2.0, 'fan_out', 'truncated_normal'
)
dense_init = nn.initializers.variance_scaling(1 / 3, 'fan_out', 'uniform')


class Stage(NamedTuple):
  """One row of the paper's table 1: what B0 has before scaling."""

  size: int
  repeats: int
  features: int
  expand: int
  stride: int


STAGES = (
  Stage(size=3, repeats=1, features=16, expand=1, stride=1),
  Stage(size=3, repeats=2, features=24, expand=6, stride=2),
  Stage(size=5, repeats=2, features=40, expand=6, stride=2),
  Stage(size=3, repeats=3, features=80, expand=6, stride=2),
  Stage(size=5, repeats=3, features=112, expand=6, stride=1),
  Stage(size=5, repeats=4, features=192, expand=6, stride=2),
  Stage(size=3, repeats=1, features=320, expand=6, stride=1),
)


class Normalization(nn.Module):
  """Subtracts a mean and divides by a deviation that no step updates.

  They are in 'batch_stats' beside a count, as in Keras' layer of this name,
  and those of ImageNet until weights are loaded.
  """

  @nn.compact
  def __call__(self, image: Array) -> Array:
    def constant(name: str, value) -> Array:
      value = jnp.asarray(value, jnp.float32)
      return self.variable('batch_stats', name, lambda: value).value

    mean = constant('mean', IMAGENET_MEAN)
    variance = constant('variance', [std**2 for std in IMAGENET_STD])
    constant('count', 0.0)
    return ((image - mean) / jnp.sqrt(variance)).astype(image.dtype)


class EfficientNet(Encoder):
  """Mobile inverted bottlenecks with squeeze-and-excitation.

  Attributes:
    width: Factor of the channels.
    depth: Factor of the blocks in each stage.
    taps: Features to return, by the names of Keras' layers:
      'stem_activation', 'block2a_expand_activation', 'block2a_activation',
      'block2a_project_bn', 'block2b_add', and so on to 'top_activation', and
      'predictions'.
    drop_rate: Probability with which the last block is left out of an image's
      network in training; that of the others grows towards it from 0
      (stochastic depth, arXiv:1603.09382).
    dropout: Share of the features before the classifier that training drops.
    classes: Of the tap 'predictions', logits [B, 1, 1, classes].
    origin: 'keras', 'torch' (torchvision) or 'timm'. timm's networks called tf_
      are as Keras' are.
    torchvision_norm: Whose BatchNorm it has in torchvision, 'keras' or 'torch';
      in timm it has torch's. Nothing else is between them.
  """

  width: float
  depth: float
  taps: Sequence[str] | None = (
    'block2a_expand_activation',
    'block3a_expand_activation',
    'block4a_expand_activation',
    'block6a_expand_activation',
  )
  drop_rate: float = 0.2
  dropout: float = 0.2
  classes: int = 1000
  origin: str = 'keras'
  torchvision_norm: str = 'torch'

  @property
  def normalisation(self) -> str:
    return 'none' if self.origin == 'keras' else 'torch'

  @nn.nowrap
  def features(self, image: Array, train: bool) -> Iterator[tuple[str, Array]]:
    x = image
    if self.origin == 'keras':
      x = Normalization(name='normalization')(x / 255)
    x = self._conv(x, scaled(32, self.width), 'stem_conv', size=3, stride=2)
    x = swish(self._norm(x, train, 'stem_bn'))
    yield 'stem_activation', x
    repeats = [math.ceil(self.depth * stage.repeats) for stage in STAGES]
    built = 0
    for i, stage in enumerate(STAGES):
      features = scaled(stage.features, self.width)
      for j in range(repeats[i]):
        stride = stage.stride if j == 0 else 1
        row = stage._replace(features=features, stride=stride)
        rate = self.drop_rate * built / sum(repeats)
        name = f'block{i + 1}{string.ascii_lowercase[j]}_'
        x = yield from self._block(x, row, rate, train, name)
        built += 1
    x = self._conv(x, scaled(1280, self.width), 'top_conv')
    x = swish(self._norm(x, train, 'top_bn'))
    yield 'top_activation', x
    x = nn.Dropout(self.dropout, deterministic=not train, name='top_dropout')(
      global_mean(x)
    )
    yield (
      'predictions',
      nn.Dense(self.classes, kernel_init=dense_init, name='predictions')(x),
    )

  @nn.nowrap
  def _block(
    self, x: Array, stage: Stage, drop_rate: float, train: bool, name: str
  ) -> Generator[tuple[str, Array], None, Array]:
    """Expands, filters by channel, weighs the channels, projects, adds."""
    entered = x
    if stage.expand > 1:
      x = self._conv(x, x.shape[-1] * stage.expand, f'{name}expand_conv')
      x = swish(self._norm(x, train, f'{name}expand_bn'))
      yield f'{name}expand_activation', x
    x = DepthwiseConv(
      stage.size,
      stage.stride,
      self._padding(stage.size),
      bias=False,
      name=f'{name}dwconv',
    )(x)
    x = swish(self._norm(x, train, f'{name}bn'))
    yield f'{name}activation', x
    x = x * self._excitation(x, max(1, entered.shape[-1] // 4), name)
    x = self._conv(x, stage.features, f'{name}project_conv')
    x = self._norm(x, train, f'{name}project_bn')
    yield f'{name}project_bn', x
    if stage.stride == 1 and x.shape[-1] == entered.shape[-1]:
      x = entered + nn.Dropout(
        drop_rate,
        broadcast_dims=(1, 2, 3),
        deterministic=not train,
        name=f'{name}drop',
      )(x)
      yield f'{name}add', x
    return x

  @nn.nowrap
  def _excitation(self, x: Array, squeezed: int, name: str) -> Array:
    """One weight for each image and channel (arXiv:1709.01507)."""
    weight = self._conv(global_mean(x), squeezed, f'{name}se_reduce', bias=True)
    weight = swish(weight)
    weight = self._conv(weight, x.shape[-1], f'{name}se_expand', bias=True)
    return nn.sigmoid(weight)

  @nn.nowrap
  def _conv(self, x, features, name, size=1, stride=1, bias=False):
    return Conv(
      features,
      size,
      stride,
      self._padding(size),
      bias=bias,
      kernel_init=kernel_init,
      name=name,
    )(x)

  @nn.nowrap
  def _padding(self, size):
    # TensorFlow's SAME is what Keras' correct_pad comes to, at every size.
    return same_padding(size, 'torch' if self.origin == 'timm' else self.origin)

  @nn.nowrap
  def _norm(self, x, train, name):
    norms = {
      'keras': 'keras',
      'torch': self.torchvision_norm,
      'timm': 'torch',
    }
    return BatchNorm(norms[self.origin], name=name)(x, train)


EfficientNetB0 = partial(EfficientNet, width=1.0, depth=1.0)
EfficientNetB1 = partial(EfficientNet, width=1.0, depth=1.1)
EfficientNetB2 = partial(EfficientNet, width=1.1, depth=1.2, dropout=0.3)
EfficientNetB3 = partial(EfficientNet, width=1.2, depth=1.4, dropout=0.3)
EfficientNetB4 = partial(EfficientNet, width=1.4, depth=1.8, dropout=0.4)
_Large = partial(EfficientNet, torchvision_norm='keras')
EfficientNetB5 = partial(_Large, width=1.6, depth=2.2, dropout=0.4)
EfficientNetB6 = partial(_Large, width=1.8, depth=2.6, dropout=0.5)
EfficientNetB7 = partial(_Large, width=2.0, depth=3.1, dropout=0.5)
