"""VGG16 (arXiv:1409.1556): as published, with BatchNorm, and as in `do2022`.

Modules bear Keras' names. The tap 'block2_conv1' is what leaves that layer:
after ReLU, and after BatchNorm where there is one.
"""

from collections.abc import Iterator, Sequence
from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from jaxderm.models.layers import Array, BatchNorm, Conv, Encoder, max_pool

# Channels of the convolutions of each block. After a block, 2x2 maxima.
BLOCKS = ((64,) * 2, (128,) * 2, (256,) * 3, (512,) * 3, (512,) * 3)


class VGG16(Encoder):
  """Thirteen 3x3 convolutions, and three dense layers to classify.

  Keras and torchvision compute the same numbers. They differ in what the input
  must look like, and torchvision's classifier drops half its units in training.

  Attributes:
    taps: Features to return: 'block1_conv1' (of the image's size),
      'block1_conv2', 'block1_pool' (half of it) and so on to 'block5_conv3'
      (1/16), 'block5_pool' (1/32), 'predictions'.
    classes: Of the tap 'predictions', logits [B, 1, 1, classes].
    origin: 'keras' or 'torch'.
  """

  taps: Sequence[str] | None = (
    'block2_conv2',
    'block3_conv3',
    'block4_conv3',
    'block5_conv3',
    'block5_pool',
  )
  classes: int = 1000
  origin: str = 'keras'

  @property
  def normalisation(self) -> str:
    return 'caffe' if self.origin == 'keras' else 'torch'

  @nn.nowrap
  def features(self, image: Array, train: bool) -> Iterator[tuple[str, Array]]:
    x = image
    for i, widths in enumerate(BLOCKS, start=1):
      for j, width in enumerate(widths, start=1):
        x = self._layer(x, train, f'block{i}', j, width)
        yield f'block{i}_conv{j}', x
      x = max_pool(x)
      yield f'block{i}_pool', x
    yield 'predictions', self._classify(x, train)

  @nn.nowrap
  def _layer(self, x, train, block, j, width):
    return nn.relu(Conv(width, name=f'{block}_conv{j}')(x))

  @nn.nowrap
  def _classify(self, x, train):
    drop = nn.Dropout(0.5, deterministic=not train or self.origin == 'keras')
    # A 7x7 convolution is a dense layer on the flattened map, in whichever
    # order of axes a library flattens it.
    fc1 = Conv(4096, 7, padding='VALID', name='fc1')
    x = drop(nn.relu(fc1(mean_to(x, 7))))
    x = drop(nn.relu(nn.Dense(4096, name='fc2')(x)))
    return nn.Dense(self.classes, name='predictions')(x)


class VGG16BN(VGG16):
  """VGG16 with BatchNorm between each convolution (with bias) and its ReLU.

  torchvision's vgg16_bn, and the encoder of SegNet in `yang2021` (SPEC 1.3),
  for which `origin` is 'keras' and nobody publishes weights.
  """

  origin: str = 'torch'

  @property
  def normalisation(self) -> str:
    return 'imagenet_mean' if self.origin == 'keras' else 'torch'

  @nn.nowrap
  def _layer(self, x, train, block, j, width):
    x = Conv(width, name=f'{block}_conv{j}')(x)
    return nn.relu(BatchNorm(self.origin, name=f'{block}_bn{j}')(x, train))


class VGG16Do2022(Encoder):
  """VGG16 as `do2022` compared Soft-Attention on it (SPEC 3.1).

  Three things are not VGG16's: BatchNorm comes after ReLU, the last convolution
  of each block is 1x1, and the map stays as it is after the fourth block, which
  is where Soft-Attention begins. Nobody publishes weights.

  Attributes:
    taps: Features to return: 'block1_conv1' (of the image's size) to
      'block4_conv3' (1/8).
  """

  normalisation: ClassVar[str] = 'caffe'  # Keras' for VGG16: the paper is mute

  taps: Sequence[str] | None = ('block2_conv2', 'block3_conv3', 'block4_conv3')

  @nn.nowrap
  def features(self, image: Array, train: bool) -> Iterator[tuple[str, Array]]:
    x = image
    for i, widths in enumerate(BLOCKS[:4], start=1):
      x = x if i == 1 else max_pool(x)
      for j, width in enumerate(widths, start=1):
        size = 1 if j == len(widths) else 3
        x = nn.relu(Conv(width, size, name=f'block{i}_conv{j}')(x))
        x = BatchNorm(name=f'block{i}_bn{j}')(x, train)
        yield f'block{i}_conv{j}', x


def mean_to(x: Array, side: int) -> Array:
  """Means over side x side windows that cover the map, whatever its size.

  torch's adaptive average pooling: window i of n pixels is from the floor of
  i n / side to the ceiling of (i + 1) n / side.
  """
  if x.shape[1:3] == (side, side):
    return x
  rows, columns = (_shares(n, side).astype(x.dtype) for n in x.shape[1:3])
  return jnp.einsum('ph,qw,bhwc->bpqc', rows, columns, x)


def _shares(n: int, windows: int) -> np.ndarray:
  """What each of n pixels adds to the mean of each window, [windows, n]."""
  i, place = np.arange(windows)[:, None], np.arange(n)
  inside = (i * n // windows <= place) & (place < -(-(i + 1) * n // windows))
  return inside / inside.sum(axis=1, keepdims=True)
