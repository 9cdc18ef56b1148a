"""A segmentation network: encoder, neck, decoder, one logit for each pixel."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxderm.models.layers import Array, Conv, norm_momentum


class Segmenter(nn.Module):
  """Joins parts that it receives, at any size of image.

  The variables are {'encoder', 'neck', 'decoder', 'logits'}, so the weights of
  an encoder replace one subtree. With deep supervision the decoder returns
  several maps and the heads are 'logits1', 'logits2' and so on.

  Attributes:
    encoder: Image to pyramid.
    decoder: Pyramid to features, or to a tuple of them (deep supervision).
    neck: Pyramid to pyramid.
    classes: Logits for each pixel.
    multiple: Images are padded, by repeating the edge, until both sides are
      multiples of this; the logits are cropped back.
    strides: Of the encoder's maps. Where its convolutions have no padding, a
      map is smaller than the image over its stride; it gets zeros on top and
      on the left (SPEC 1.6). None if all are as large as they should be.
    momentum: Of the encoder's BatchNorm, instead of its family's.
    head: Makes the convolution that gives the logits: called with the number of
      classes and a `name`, it gives a module that is called with (x, train).
    enlarge: How logits get the size of the image where the decoder stopped at
      the encoder's finest map: 'bilinear' or 'nearest'.
  """

  task: ClassVar[str] = 'segmentation'

  encoder: nn.Module
  decoder: nn.Module
  neck: nn.Module | None = None
  classes: int = 1
  multiple: int = 32
  strides: Sequence[int] | None = None
  momentum: float | None = None
  head: Callable[..., nn.Module] = partial(Conv, size=1)
  enlarge: str = 'bilinear'

  @nn.compact
  def __call__(
    self, image: Array, train: bool = False
  ) -> Array | tuple[Array, ...]:
    """Computes logits.

    Args:
      image: [B, H, W, 3], normalised as the encoder expects.
      train: Whether batches are normalised by themselves and dropout is on
        (its keys are the collection 'dropout').

    Returns:
      [B, H, W, classes], or a tuple of them with deep supervision.
    """
    height, width = image.shape[1:3]
    below, right = -height % self.multiple, -width % self.multiple
    padded = jnp.pad(image, ((0, 0), (0, below), (0, right), (0, 0)), 'edge')
    with norm_momentum(self.momentum):
      pyramid = self.encoder(padded, train)
    if self.strides is not None:
      pyramid = tuple(
        _fill_up(x, padded.shape[1] // stride, padded.shape[2] // stride)
        for x, stride in zip(pyramid, self.strides, strict=True)
      )
    if self.neck is not None:
      pyramid = self.neck(pyramid, train)
    features = self.decoder(pyramid, train)

    def logits(x: Array, name: str) -> Array:
      x = self.head(self.classes, name=name)(x, train)
      if x.shape[1:3] != padded.shape[1:3]:
        shape = (x.shape[0], *padded.shape[1:3], x.shape[-1])
        x = jax.image.resize(x, shape, self.enlarge)
      return x[:, :height, :width]

    if isinstance(features, tuple):
      return tuple(logits(x, f'logits{i + 1}') for i, x in enumerate(features))
    return logits(features, 'logits')


def _fill_up(x: Array, height: int, width: int) -> Array:
  """Zeros on top and on the left, to [B, height, width, C]."""
  top, left = height - x.shape[1], width - x.shape[2]
  if not top and not left:
    return x
  return jnp.pad(x, ((0, 0), (top, 0), (left, 0), (0, 0)))
