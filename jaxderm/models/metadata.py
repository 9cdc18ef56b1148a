"""What is known of the patient, as features (`do2022`, paper 002, SPEC 3.4)."""

import flax.linen as nn
import jax.numpy as jnp

from jaxderm.models.layers import Array

# Least deviation that is divided by, as in Keras' Normalization.
EPSILON = 1e-7


class MetadataBranch(nn.Module):
  """Standardises the age, and one hidden layer.

  Mean and variance of the age are those of the training images. They are
  variables that no step changes: 'mean', 'variance' and 'count' (how many
  images they are of) in the collection 'batch_stats'. As they start, 0, 1 and
  0, the age passes as it is.

  Attributes:
    width: Columns of the metadata: the age, then ones and zeros for sex (4) and
      place on the body (16).
    hidden: Features that come out.
  """

  width: int = 21
  hidden: int = 4096

  @nn.compact
  def __call__(self, metadata: Array) -> Array:
    """Turns metadata [B, width] into features [B, hidden].

    Args:
      metadata: Column 0 is the age in years, the others are 0 or 1.

    Raises:
      ValueError: for another number of columns.
    """
    if metadata.ndim != 2 or metadata.shape[1] != self.width:
      raise ValueError(
        f'metadata of the shape {metadata.shape}: expected [B, {self.width}]. '
        "The network's change `metadata` is the number of its columns."
      )

    def known(name: str, start: float) -> Array:
      start = jnp.full((), start, jnp.float32)
      return self.variable('batch_stats', name, lambda: start).value

    mean, variance = known('mean', 0), known('variance', 1)
    known('count', 0)
    age = metadata[:, :1].astype(jnp.float32) - mean
    age /= jnp.maximum(jnp.sqrt(variance), EPSILON)
    x = jnp.concatenate([age.astype(metadata.dtype), metadata[:, 1:]], axis=-1)
    # Keras' own start, as in the paper.
    kernel_init = nn.initializers.glorot_uniform()
    x = nn.Dense(self.hidden, kernel_init=kernel_init, name='hidden')(x)
    return nn.relu(x)
