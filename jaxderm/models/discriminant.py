"""The discriminant network of Wei 2020 (paper 001): one encoder, two heads."""

from typing import ClassVar, NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from jaxderm.models.classifier import Classifier
from jaxderm.models.heads import glorot_uniform
from jaxderm.models.layers import Array


class Verdicts(NamedTuple):
  """What the network says of a batch of B images.

  Attributes:
    heads: Logits of the classes, [B, 2, classes]: both heads of each image.
    same: Logits of 'the labels of the pair differ' and 'they are equal', of
      each image and its partner, [B, 2].
  """

  heads: Array
  same: Array


class Discriminant(Classifier):
  """Two heads on one encoder, and a discriminator of pairs (SPEC 2.2).

  The two images of a pair lie in one batch, half a batch apart, and go through
  the encoder together: one pass, and one BatchNorm statistic over both. The
  first image of a pair is for head 1, the second for head 2; which logits bear
  a loss is the task's matter, for the heads cost nothing beside the encoder.
  The squared difference of the features of a pair goes into the discriminator.
  In float32 in any case: what two bfloat16 differ by would mostly be rounding.

  Without pairs, as in evaluation, both heads answer for each image, and what
  the discriminator says means nothing.

  The variables are {'encoder', 'head', 'logits1', 'logits2', 'hidden',
  'logits_same'}, with the encoder as in `Classifier`.

  Attributes:
    hidden: Units of the discriminator.
    chosen: The head that answers, 1 or 2. The network is then called and
      answers as a `Classifier`; for one that is trained. None for both heads.
  """

  task: ClassVar[str] = 'pairwise'

  hidden: int = 512
  chosen: int | None = None

  @nn.compact
  def __call__(self, image: Array, train: bool = False) -> Verdicts | Array:
    """Computes logits.

    Args:
      image: [B, H, W, 3], normalised as the encoder expects. Image i and image
        i + B / 2 are a pair.
      train: As in `Classifier`.

    Returns:
      `Verdicts`; [B, classes] where a head is chosen.
    """

    def dense(units: int, name: str) -> nn.Dense:
      return nn.Dense(units, kernel_init=glorot_uniform, name=name)

    features = self.features(image, train).astype(jnp.float32)
    heads = [dense(self.classes, f'logits{k}')(features) for k in (1, 2)]
    partner = jnp.roll(features, len(features) // 2, axis=0)
    x = jnp.square(features - partner)
    same = dense(2, 'logits_same')(nn.relu(dense(self.hidden, 'hidden')(x)))
    if self.chosen is not None:
      return heads[self.chosen - 1]
    return Verdicts(jnp.stack(heads, axis=1), same)
