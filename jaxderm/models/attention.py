"""Transformers on maps [B, H, W, C]: attention, MLP, the block of both."""

from collections.abc import Callable, Sequence
from functools import partial

import einops
import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from jaxderm.models.layers import Activation, Array, Conv
from jaxderm.models.parameters import parameter

xavier_uniform = nn.initializers.xavier_uniform()
truncated_normal = nn.initializers.truncated_normal(0.02)
# Between tokens that are neighbours only because a map was rolled.
APART = -100.0


class Softmax(nn.Module):
  """Over the last axis, in float32. A module, so that a profiler sees it."""

  @nn.compact
  def __call__(self, x: Array) -> Array:
    return nn.softmax(x.astype(jnp.float32), axis=-1)


class Attention(nn.Module):
  """Multi-head self-attention (arXiv:1706.03762) within groups of tokens.

  Attributes:
    heads: Each has its share of the channels.
    fused: Whether queries, keys and values come from one layer, 'qkv', as in
      the weights of Swin; else from 'query', 'key' and 'value', as in ViT's.
    kernel_init: Of every layer.
  """

  heads: int
  fused: bool = False
  kernel_init: Callable = xavier_uniform

  @nn.compact
  def __call__(self, x: Array, bias: Array | None = None) -> Array:
    """Mixes the tokens of each group.

    Args:
      x: [B, groups, tokens, C].
      bias: Added to the scores, [groups or 1, heads, tokens, tokens].

    Returns:
      Shaped as `x`.
    """
    width = x.shape[-1]
    dense = partial(Conv, size=1, kernel_init=self.kernel_init)
    if self.fused:
      parts = jnp.split(dense(3 * width, name='qkv')(x), 3, axis=-1)
    else:
      parts = [dense(width, name=name)(x) for name in ('query', 'key', 'value')]
    query, key, value = (
      einops.rearrange(part, 'b g n (h c) -> b g h n c', h=self.heads)
      for part in parts
    )
    scores = jnp.einsum(
      'bghnc,bghmc->bghnm', query, key, preferred_element_type=jnp.float32
    )
    scores *= query.shape[-1] ** -0.5
    if bias is not None:
      scores += bias
    weights = Softmax(name='softmax')(scores).astype(x.dtype)
    y = jnp.einsum('bghnm,bghmc->bghnc', weights, value)
    y = einops.rearrange(y, 'b g h n c -> b g n (h c)')
    return dense(width, name='out')(y)


class GlobalAttention(nn.Module):
  """Attention of every pixel to every pixel."""

  heads: int
  kernel_init: Callable = xavier_uniform

  @nn.compact
  def __call__(self, x: Array) -> Array:
    attention = Attention(self.heads, kernel_init=self.kernel_init)
    nn.share_scope(self, attention)
    tokens = einops.rearrange(x, 'b h w c -> b 1 (h w) c')
    return attention(tokens).reshape(x.shape)


class WindowAttention(nn.Module):
  """Attention within windows, with learnt relative positions (Swin).

  arXiv:2103.14030. A map is filled up with zeros, below and on the right, to
  whole windows, and what was filled in takes part, as in torchvision. Windows
  are not shifted along a side that holds one of them.

  Attributes:
    heads: See `Attention`.
    window: Side of a window, in pixels.
    shifted: Whether windows begin half a window later, and go round.
    kernel_init: Of every layer.
  """

  heads: int
  window: int = 7
  shifted: bool = False
  kernel_init: Callable = truncated_normal

  @nn.compact
  def __call__(self, x: Array) -> Array:
    size, (height, width) = self.window, x.shape[1:3]
    fill = (0, -height % size), (0, -width % size)
    x = jnp.pad(x, ((0, 0), *fill, (0, 0)))
    rows, columns = (side // size for side in x.shape[1:3])
    shift = [
      size // 2 if self.shifted and n > 1 else 0 for n in (rows, columns)
    ]

    # A row for each head, so that it is the transpose of what others have.
    table = (self.heads, (2 * size - 1) ** 2)
    table = parameter(self, 'position_bias', truncated_normal, table)
    bias = jnp.take(table, _distances(size), axis=1)[None]
    if any(shift):
      bias += _apart(x.shape[1:3], size, shift)[:, None]

    x = jnp.roll(x, [-n for n in shift], (1, 2))
    attention = Attention(self.heads, True, self.kernel_init)
    nn.share_scope(self, attention)
    x = einops.rearrange(
      x, 'b (h p) (w q) c -> b (h w) (p q) c', p=size, q=size
    )
    x = attention(x, bias)
    x = einops.rearrange(
      x, 'b (h w) (p q) c -> b (h p) (w q) c', h=rows, p=size
    )
    return jnp.roll(x, shift, (1, 2))[:, :height, :width]


def _distances(size: int) -> np.ndarray:
  """Which entry of the table is for two tokens of a window, [N, N]."""
  place = np.stack(np.divmod(np.arange(size**2), size))
  down, right = place[:, :, None] - place[:, None] + size - 1
  return down * (2 * size - 1) + right


def _apart(sides: Sequence[int], size: int, shift: Sequence[int]) -> np.ndarray:
  """`APART` between tokens of which one came round, else 0, [windows, N, N]."""
  down, right = (
    np.arange(side) >= side - n for side, n in zip(sides, shift, strict=True)
  )
  region = einops.rearrange(
    2 * down[:, None] + right, '(h p) (w q) -> (h w) (p q)', p=size, q=size
  )
  together = region[:, :, None] == region[:, None]
  return np.where(together, 0, APART).astype(np.float32)


class MLP(nn.Module):
  """Two dense layers on each pixel, with GELU between them.

  Attributes:
    hidden: Channels between them.
    dropout: Share of values left out after each.
    kernel_init: Of both.
  """

  hidden: int
  dropout: float = 0.0
  kernel_init: Callable = xavier_uniform

  @nn.compact
  def __call__(self, x: Array, train: bool = False) -> Array:
    dense = partial(Conv, size=1, kernel_init=self.kernel_init)
    drop = partial(nn.Dropout, self.dropout, deterministic=not train)
    y = Activation('gelu', name='act')(dense(self.hidden, name='dense1')(x))
    y = dense(x.shape[-1], name='dense2')(drop(name='drop1')(y))
    return drop(name='drop2')(y)


class Block(nn.Module):
  """Attention and an MLP, each of what is normalised, each added.

  Attributes:
    attention: Makes the layer that mixes the pixels: called with `kernel_init`
      and a `name`, it gives a module that is called with x.
    hidden: See `MLP`.
    epsilon: Of the normalisations.
    dropout: See `MLP`.
    drop_path: Probability with which each of the two is left out of an image's
      path (arXiv:1603.09382).
    kernel_init: Of every dense layer.
  """

  attention: Callable[..., nn.Module]
  hidden: int
  epsilon: float = 1e-6
  dropout: float = 0.0
  drop_path: float = 0.0
  kernel_init: Callable = xavier_uniform

  @nn.compact
  def __call__(self, x: Array, train: bool = False) -> Array:
    norm = partial(nn.LayerNorm, epsilon=self.epsilon)
    drop = partial(
      nn.Dropout,
      self.drop_path,
      broadcast_dims=(1, 2, 3),
      deterministic=not train,
    )
    attention = self.attention(kernel_init=self.kernel_init, name='attention')
    mlp = MLP(self.hidden, self.dropout, self.kernel_init, name='mlp')
    x += drop(name='path1')(attention(norm(name='norm1')(x)))
    return x + drop(name='path2')(mlp(norm(name='norm2')(x), train))


def swin_block(
  width: int, window: int, shifted: bool, drop_path: float, name: str
) -> Block:
  """The block of Swin: a head for 32 channels, four times `width` hidden."""
  # The next fewer heads where they would not divide the channels.
  most = max(width // 32, 1)
  heads = max(n for n in range(1, most + 1) if width % n == 0)
  return Block(
    partial(WindowAttention, heads, window, shifted),
    4 * width,
    epsilon=1e-5,
    drop_path=drop_path,
    kernel_init=truncated_normal,
    name=name,
  )


class GridPosition(nn.Module):
  """Adds a learnt vector to each pixel of a map (arXiv:2010.11929).

  Attributes:
    grid: Side of the map that the vectors belong to. A map of other sides gets
      what lies between them.
  """

  grid: int

  @nn.compact
  def __call__(self, x: Array) -> Array:
    shape = (self.grid**2, x.shape[-1])
    vectors = parameter(self, 'embedding', nn.initializers.zeros, shape)
    vectors = vectors.reshape(self.grid, self.grid, -1)
    return x + interpolate(vectors, x.shape[1:3]).astype(x.dtype)


def interpolate(grid: Array, sides: Sequence[int]) -> Array:
  """A grid of vectors with other sides, linear between them, corner on corner.

  Args:
    grid: [h, w, C].
    sides: Wanted, (height, width).

  Returns:
    [height, width, C]; `grid` itself if it has these sides.
  """
  if grid.shape[:2] == tuple(sides):
    return grid
  down, right = (
    _between(n, wanted) for n, wanted in zip(grid.shape, sides, strict=False)
  )
  return jnp.einsum('hi,wj,ijc->hwc', down, right, grid)


def _between(n: int, wanted: int) -> np.ndarray:
  """Weights of `n` neighbours at `wanted` places from first to last."""
  places = np.linspace(0, n - 1, wanted)
  distances = np.abs(places[:, None] - np.arange(n))
  return np.maximum(0, 1 - distances).astype(np.float32)
