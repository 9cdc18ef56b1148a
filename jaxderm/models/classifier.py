"""Classification networks: encoder, head, one logit for each class."""

import dataclasses
from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp

from jaxderm.models.layers import Array, norm_momentum
from jaxderm.models.metadata import MetadataBranch


class Classifier(nn.Module):
  """Joins parts that it receives, at any size of image.

  The variables are {'encoder', 'head', 'logits'}, so the weights of an encoder
  replace one subtree; a head without parameters has no entry.

  Attributes:
    encoder: Image to pyramid, of which the coarsest map is used.
    head: That map to features [B, D].
    classes: Logits for each image.
    momentum: Of the network's BatchNorm, instead of its family's.
    inputs: Entries of a batch that it is called with, in this order.
  """

  task: ClassVar[str] = 'classification'
  inputs: ClassVar[tuple[str, ...]] = ('image',)

  encoder: nn.Module
  head: nn.Module
  classes: int
  momentum: float | None = None

  @nn.compact
  def __call__(self, image: Array, train: bool = False) -> Array:
    """Computes logits.

    Args:
      image: [B, H, W, 3], normalised as the encoder expects.
      train: Whether batches are normalised by themselves and dropout is on
        (its keys are the collection 'dropout').

    Returns:
      [B, classes].
    """
    return self.classify(self.features(image, train))

  @nn.nowrap
  def features(self, image: Array, train: bool) -> Array:
    """What the head makes of an image, [B, D]."""
    with norm_momentum(self.momentum):
      *_, coarsest = self.encoder(image, train)
      return self.head(coarsest, train)

  @nn.nowrap
  def classify(self, features: Array) -> Array:
    # Keras' own start, as in the papers.
    kernel_init = nn.initializers.glorot_uniform()
    return nn.Dense(self.classes, kernel_init=kernel_init, name='logits')(
      features
    )


class MetadataClassifier(Classifier):
  """The same with metadata, which joins the features before the logits.

  Attributes:
    metadata: Metadata [B, M] to features; its variables are 'metadata'.
  """

  inputs: ClassVar[tuple[str, ...]] = ('image', 'metadata')

  metadata: nn.Module = dataclasses.field(default_factory=MetadataBranch)

  @nn.compact
  def __call__(
    self, image: Array, metadata: Array, train: bool = False
  ) -> Array:
    """Computes logits.

    Args:
      image: [B, H, W, 3], normalised as the encoder expects.
      metadata: [B, M], as `data.metadata.encode` makes it.
      train: As in `Classifier`.

    Returns:
      [B, classes].
    """
    features = [self.features(image, train), self.metadata(metadata)]
    return self.classify(jnp.concatenate(features, axis=-1))
