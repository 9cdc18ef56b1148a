"""The nested decoder of UNet++ (arXiv:1807.10165, 1912.05074)."""

import flax.linen as nn

from jaxderm.models.layers import Array, DoubleConv, Pyramid, Up, join


class UNetPlusPlus(nn.Module):
  """Nodes X(i, j): level i, 0 the finest; column j, 0 the encoder.

  A node's name is x{i}{j} and does not depend on `depth`, so the variables of
  a shallower decoder are a subset of those of a deeper one.

  Attributes:
    depth: Columns, 1 to one less than the levels of the pyramid (that, if
      None). Levels below `depth` are not used.
    dense: Whether a node takes all the nodes to its left, or only the last.
    up: 'nearest', 'bilinear' or 'transpose' (2x2, to the width of the node).
    deep_supervision: Returns X(0, 1), ..., X(0, depth), not just the last.
  """

  depth: int | None = None
  dense: bool = True
  up: str = 'nearest'
  deep_supervision: bool = False
  activation: str = 'relu'
  bias: bool = True
  origin: str = 'keras'

  @nn.compact
  def __call__(
    self, pyramid: Pyramid, train: bool = False
  ) -> Array | tuple[Array, ...]:
    depth = len(pyramid) - 1 if self.depth is None else self.depth
    if not 1 <= depth < len(pyramid):
      raise ValueError(
        f'UNet++ of depth {depth} on {len(pyramid)} levels: expected '
        f'1 to {len(pyramid) - 1}'
      )
    x = {(i, 0): features for i, features in enumerate(pyramid[: depth + 1])}
    for j in range(1, depth + 1):
      for i in range(depth + 1 - j):
        width = pyramid[i].shape[-1]
        left = join(*[x[i, k] for k in (range(j) if self.dense else [j - 1])])
        up = Up(width, self.up, whole=False, name=f'up{i}{j}')
        x[i, j] = DoubleConv(
          width, self.activation, self.bias, self.origin, name=f'x{i}{j}'
        )(join(left, up(x[i + 1, j - 1])), train)
    if self.deep_supervision:
      return tuple(x[0, j] for j in range(1, depth + 1))
    return x[0, depth]
