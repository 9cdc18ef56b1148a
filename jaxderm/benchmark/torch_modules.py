"""Networks of paper 000 (SPEC 1) written in PyTorch, where no library has them.

They have the parameters of ours to the last one: see tests/test_benchmark.py.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def _double_conv(before: int, width: int, bias: bool = True) -> nn.Sequential:
  layers = []
  for channels in (before, width):
    layers += [
      nn.Conv2d(channels, width, 3, padding=1, bias=bias),
      nn.BatchNorm2d(width),
      nn.ReLU(inplace=True),
    ]
  return nn.Sequential(*layers)


class Plain(nn.Module):
  """The encoder of U-Net: a map for each width, finest first."""

  def __init__(self, widths: Sequence[int]):
    super().__init__()
    self.channels = tuple(widths)
    before = (3, *widths)
    self.stages = nn.ModuleList(map(_double_conv, before, widths))

  def forward(self, x: Tensor) -> list[Tensor]:
    pyramid = []
    for i, stage in enumerate(self.stages):
      x = stage(F.max_pool2d(x, 2) if i else x)
      pyramid.append(x)
    return pyramid


class DenseNetPyramid(nn.Module):
  """torchvision's DenseNet121 up to its last map, with the taps of ours."""

  channels = (64, 128, 256, 512, 1024)

  def __init__(self, densenet: nn.Module):
    super().__init__()
    self.features = densenet.features

  def forward(self, x: Tensor) -> list[Tensor]:
    f = self.features
    x = f.relu0(f.norm0(f.conv0(x)))
    pyramid = [x]
    x = f.pool0(x)
    for i in (1, 2, 3):
      x = getattr(f, f'denseblock{i}')(x)
      transition = getattr(f, f'transition{i}')
      x = transition.conv(transition.relu(transition.norm(x)))
      pyramid.append(x)
      x = transition.pool(x)
    return [*pyramid, F.relu(f.norm5(f.denseblock4(x)), inplace=True)]


class EfficientNetPyramid(nn.Module):
  """torchvision's EfficientNet up to the expansion that halves to 1/32.

  Maps are what the first block of stages 2, 3, 4 and 6 is expanded to.
  """

  def __init__(self, efficientnet: nn.Module):
    super().__init__()
    stages = efficientnet.features
    # Ours builds nothing after its last tap.
    self.start = stages[:2]
    self.expansions = nn.ModuleList(stages[i][0].block[0] for i in (2, 3, 4, 6))
    self.rests = nn.ModuleList(
      nn.Sequential(*stages[i][0].block[1:], *stages[i][1:], *more)
      for i, more in ((2, ()), (3, ()), (4, stages[5]))
    )
    self.channels = tuple(e[0].out_channels for e in self.expansions)

  def forward(self, x: Tensor) -> list[Tensor]:
    x = self.expansions[0](self.start(x))
    pyramid = [x]
    for rest, expansion in zip(self.rests, self.expansions[1:], strict=True):
      x = expansion(rest(x))
      pyramid.append(x)
    return pyramid


class UNet(nn.Module):
  """U-Net (arXiv:1505.04597) on any encoder with `channels`."""

  def __init__(
    self,
    encoder: nn.Module,
    widths: Sequence[int],
    classes: int,
    *,
    transpose: bool = False,
    bias: bool = True,
  ):
    super().__init__()
    self.encoder = encoder
    *skips, before = encoder.channels
    self.ups, self.blocks = nn.ModuleList(), nn.ModuleList()
    for width in widths:
      if transpose:
        self.ups.append(nn.ConvTranspose2d(before, width, 2, 2))
        before = width
      else:
        self.ups.append(nn.Upsample(scale_factor=2))
      joined = before + (skips.pop() if skips else 0)
      self.blocks.append(_double_conv(joined, width, bias))
      before = width
    self.logits = nn.Conv2d(before, classes, 1)

  def forward(self, image: Tensor) -> Tensor:
    *skips, x = self.encoder(image)
    for up, block in zip(self.ups, self.blocks, strict=True):
      x = up(x)
      x = block(torch.cat([x, skips.pop()], 1) if skips else x)
    return self.logits(x)


class UNetPlusPlus(nn.Module):
  """UNet++ (arXiv:1807.10165), dense, with nearest upsampling."""

  def __init__(self, encoder: nn.Module, classes: int):
    super().__init__()
    self.encoder, widths = encoder, encoder.channels
    self.depth = len(widths) - 1
    self.nodes = nn.ModuleDict()
    for j in range(1, len(widths)):
      for i in range(len(widths) - j):
        joined = j * widths[i] + widths[i + 1]
        self.nodes[f'x{i}{j}'] = _double_conv(joined, widths[i])
    self.logits = nn.Conv2d(widths[0], classes, 1)

  def forward(self, image: Tensor) -> Tensor:
    x = {(i, 0): f for i, f in enumerate(self.encoder(image))}
    for j in range(1, self.depth + 1):
      for i in range(self.depth + 1 - j):
        below = F.interpolate(x[i + 1, j - 1], scale_factor=2.0)
        row = [x[i, k] for k in range(j)]
        x[i, j] = self.nodes[f'x{i}{j}'](torch.cat([*row, below], 1))
    return self.logits(x[0, self.depth])


class Stage(nn.Module):
  """A convolution to the width, one pre-activation residual, ReLU."""

  def __init__(self, before: int, width: int):
    super().__init__()
    self.conv = nn.Conv2d(before, width, 3, padding=1)
    self.shortcut = nn.BatchNorm2d(width)
    self.residual = nn.Sequential(
      nn.ReLU(),
      nn.BatchNorm2d(width),
      nn.Conv2d(width, width, 3, padding=1),
      nn.BatchNorm2d(width),
      nn.ReLU(inplace=True),
      nn.Conv2d(width, width, 3, padding=1),
      nn.BatchNorm2d(width),
    )

  def forward(self, x: Tensor) -> Tensor:
    x = self.conv(x)
    return F.relu(self.residual(x) + self.shortcut(x))


def _up(before: int, width: int) -> nn.ConvTranspose2d:
  return nn.ConvTranspose2d(before, width, 3, 2, padding=1, output_padding=1)


class EfficientUNetPlusPlus(nn.Module):
  """The residual decoder of paper 000 with nested skips (SPEC 1.7)."""

  def __init__(self, encoder: nn.Module, classes: int, base: int = 8):
    super().__init__()
    self.encoder = encoder
    self.levels = levels = len(encoder.channels)
    self.dropout, self.last_dropout = nn.Dropout(0.1), nn.Dropout(0.05)
    self.stages, self.ups = nn.ModuleDict(), nn.ModuleDict()
    before = base * 2 ** (levels + 1)
    self.stages['middle'] = Stage(encoder.channels[-1], before)
    raw: list[int] = []  # channels of the upsamplings that go on
    for i in range(levels, 0, -1):
      width = base * 2**i
      for k, channels in enumerate(raw, start=1):
        self.ups[f'd{i + k}u{k}'] = _up(channels, channels)
      self.ups[f'd{i}'] = _up(before, width)
      raw.insert(0, width)
      self.stages[f'u{i}'] = Stage(sum(raw) + encoder.channels[i - 1], width)
      before = width
    self.ups['d0'] = _up(before, base)
    self.stages['u0'] = Stage(base, base)
    self.logits = nn.Conv2d(base, classes, 1)

  def forward(self, image: Tensor) -> Tensor:
    *skips, coarsest = self.encoder(image)
    skips.append(F.relu(coarsest))
    x = self.stages['middle'](self.dropout(F.max_pool2d(skips[-1], 2)))
    raw: list[Tensor] = []
    for i in range(self.levels, 0, -1):
      raw = [self.ups[f'd{i + k}u{k}'](y) for k, y in enumerate(raw, start=1)]
      raw.insert(0, self.ups[f'd{i}'](x))
      joined = torch.cat([*raw, skips[i - 1]], 1)
      x = self.stages[f'u{i}'](self.dropout(joined))
    x = self.stages['u0'](self.dropout(self.ups['d0'](x)))
    return self.logits(self.last_dropout(x))
