"""HRNet (arXiv:1908.07919), the small one that `yang2021` compared with.

One module for each stage and one 3x3 convolution before the first, so that the
finest branch has half the image's size. The final fusion is a decoder's.
"""

from collections.abc import Iterator, Sequence
from typing import ClassVar

import flax.linen as nn

from jaxderm.models.layers import Array, ConvNormAct, Encoder, upsample


class HRNet(Encoder):
  """Branches of several resolutions side by side, fused after each stage.

  Attributes:
    taps: Features to return: 'stem', 'layer1_block1' to 'layer1_block4' (half
      the image's size); 'stage2_branch1' (1/2) and 'stage2_branch2' (1/4),
      fused 'stage2_fused1', 'stage2_fused2'; the same of stage 3, which has a
      branch of 1/8; 'stage4_branch1' to 'stage4_branch4' (1/16).
    widths: Channels of the branches, finest first.
    depth: Residual blocks of each branch in each stage.
  """

  normalisation: ClassVar[str] = 'imagenet_mean'

  taps: Sequence[str] | None = (
    'stage4_branch1',
    'stage4_branch2',
    'stage4_branch3',
    'stage4_branch4',
  )
  widths: Sequence[int] = (32, 64, 128, 256)
  depth: int = 4

  @nn.nowrap
  def features(self, image: Array, train: bool) -> Iterator[tuple[str, Array]]:
    x = ConvNormAct(64, stride=2, name='stem')(image, train)
    yield 'stem', x
    for i in range(4):
      name = f'layer1_block{i + 1}'
      x = _bottleneck(x, train, name)
      yield name, x
    fused = [x]
    for stage in range(2, len(self.widths) + 1):
      branches = []
      for i in range(stage):
        name = f'stage{stage}_branch{i + 1}'
        x = self._enter(fused, train, name, i)
        for j in range(self.depth):
          x = _basic(x, train, f'{name}_block{j + 1}')
        branches.append(x)
        yield name, x
      if stage < len(self.widths):
        fused = []
        for i in range(stage):
          fused.append(self._fuse(branches, train, f'stage{stage}_fuse', i))
          yield f'stage{stage}_fused{i + 1}', fused[i]

  @nn.nowrap
  def _enter(self, fused: list[Array], train: bool, name: str, i: int):
    """What branch i starts from; a new one from the coarsest that there is."""
    new = i == len(fused)
    conv = ConvNormAct(
      self.widths[i], stride=2 if new else 1, name=f'{name}_enter'
    )
    return conv(fused[-1 if new else i], train)

  @nn.nowrap
  def _fuse(self, branches: list[Array], train: bool, name: str, i: int):
    """The sum of all branches in the resolution and width of branch i."""
    total = branches[i]
    for j, x in enumerate(branches):
      path = f'{name}_{j + 1}_to_{i + 1}'
      if j > i:
        x = _linear(x, train, path, self.widths[i], size=1)
        x = upsample(x, factor=2 ** (j - i))
        # A map of odd size was rounded up on the way down.
        total += x[:, : total.shape[1], : total.shape[2]]
      if j < i:
        for k in range(j + 1, i):
          via = ConvNormAct(x.shape[-1], stride=2, name=f'{path}_via_{k + 1}')
          x = via(x, train)
        total += _linear(x, train, path, self.widths[i], stride=2)
    return total


def _linear(x: Array, train: bool, name: str, features: int, **settings):
  return ConvNormAct(features, activation='none', name=name, **settings)(
    x, train
  )


def _basic(x: Array, train: bool, name: str) -> Array:
  width = x.shape[-1]
  y = ConvNormAct(width, name=f'{name}_1')(x, train)
  return nn.relu(x + _linear(y, train, f'{name}_2', width))


def _bottleneck(x: Array, train: bool, name: str) -> Array:
  y = ConvNormAct(64, 1, name=f'{name}_1')(x, train)
  y = ConvNormAct(64, 3, name=f'{name}_2')(y, train)
  y = _linear(y, train, f'{name}_3', 256, size=1)
  if x.shape[-1] != 256:
    x = _linear(x, train, f'{name}_0', 256, size=1)
  return nn.relu(x + y)
