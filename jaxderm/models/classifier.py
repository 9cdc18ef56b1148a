"""A classification network: encoder, head, one logit for each class."""

from typing import ClassVar

import flax.linen as nn

from jaxderm.models.layers import Array, norm_momentum


class Classifier(nn.Module):
  """Joins parts that it receives, at any size of image.

  The variables are {'encoder', 'head', 'logits'}, so the weights of an encoder
  replace one subtree; a head without parameters has no entry.

  Attributes:
    encoder: Image to pyramid, of which the coarsest map is used.
    head: That map to features [B, D].
    classes: Logits for each image.
    momentum: Of the encoder's BatchNorm, instead of its family's.
  """

  task: ClassVar[str] = 'classification'

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
    with norm_momentum(self.momentum):
      *_, coarsest = self.encoder(image, train)
    features = self.head(coarsest, train)
    # Keras' own start, as in the papers.
    kernel_init = nn.initializers.glorot_uniform()
    return nn.Dense(self.classes, kernel_init=kernel_init, name='logits')(
      features
    )
