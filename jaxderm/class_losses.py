"""Losses of classification: logits and labels to one value per image.

Logits are [B, C], labels [B]. What all losses promise is in `losses`. The last
one makes of a loss for images one for pairs.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import nn

Array = jax.Array


def _one_hot(logits: Array, label: Array) -> tuple[Array, Array]:
  """Logits as float32 and labels as rows of 0 and 1; -1 is a row of 0."""
  if logits.ndim != 2 or label.shape != logits.shape[:1]:
    raise ValueError(
      'Classification losses need logits [B, C] and labels [B], not '
      f'{list(logits.shape)} and {list(label.shape)}.'
    )
  return logits.astype(jnp.float32), nn.one_hot(label, logits.shape[1])


def _weights(values: float | Sequence[float], classes: int) -> Array:
  """One weight per class from a number or a row of them."""
  values = jnp.asarray(values, jnp.float32)
  if values.shape not in ((), (classes,)):
    raise ValueError(
      f'There must be one weight or one for each of {classes} classes, not '
      f'{list(values.shape)}.'
    )
  return jnp.broadcast_to(values, (classes,))


def cross_entropy(
  logits: Array, label: Array, *, weights: Sequence[float] | None = None
) -> Array:
  """-W[y] log p[y]; not divided by the sum of weights (SPEC 3.6).

  Args:
    logits: [B, C].
    label: Classes in 0..C-1, [B]. An image without a label, -1, costs 0.
    weights: Of the classes, [C]; None is 1 for all.

  Returns:
    Losses of at least 0, [B].
  """
  logits, true = _one_hot(logits, label)
  if weights is not None:
    true = true * _weights(weights, logits.shape[1])
  return -jnp.sum(true * nn.log_softmax(logits), axis=-1)


def focal_cross_entropy(
  logits: Array,
  label: Array,
  *,
  alpha: float | Sequence[float] | None = None,
  gamma: float = 2.0,
  literal: bool = False,
) -> Array:
  """-alpha[y] (1 - p[y])**gamma log p[y] (arXiv:1708.02002; SPEC 5.2, 2.4).

  Args:
    logits: [B, C].
    label: Classes in 0..C-1, [B]. An image without a label, -1, costs 0.
    alpha: Weights of the classes, [C], or one for all; None is 1. The binary
      alpha of 0.25 for melanoma is (0.75, 0.25).
    gamma: Power of the probability of the wrong classes, at least 0.
    literal: Multiplies the loss of class 0 of two by its probability, as
      eq. (4) of Wei 2020 (001) is printed.

  Returns:
    Losses of at least 0, [B].

  Raises:
    ValueError: If `literal` is asked for with other than two classes.
  """
  if literal and logits.shape[-1] != 2:
    raise ValueError(
      f'focal_cross_entropy: literal needs 2 classes, not {logits.shape[-1]}.'
    )
  logits, true = _one_hot(logits, label)
  log_p = jnp.sum(true * nn.log_softmax(logits), axis=-1)
  # log(1 - p) without the difference, which is 0 for a certain image.
  others = nn.logsumexp(jnp.where(true > 0, -jnp.inf, logits), axis=-1)
  log_q = others - nn.logsumexp(logits, axis=-1)
  loss = -jnp.exp(gamma * log_q) * log_p
  if literal:
    loss = jnp.where(label == 0, loss * jnp.exp(log_p), loss)
  if alpha is not None:
    loss = loss * jnp.sum(true * _weights(alpha, logits.shape[1]), axis=-1)
  return loss


def discriminant(
  heads: Array,
  same_logits: Array,
  label: Array,
  same: Array | None,
  *,
  of_heads: Callable[[Array, Array], Array] = cross_entropy,
  first: float = 1.0,
  second: float = 1.0,
  discriminator: float = 0.5,
) -> Array:
  """The loss of Wei 2020 (001; SPEC 2.2), of pairs half a batch apart.

  first CE(head 1 of x1, y1) + second CE(head 2 of x2, y2)
  + discriminator CE(x1 and x2, whether y1 = y2). Without pairs, as where images
  are only scored, each image has the losses of both heads.

  Args:
    heads: Logits of both heads, [B, 2, C]. Image i is x1, image i + B / 2 x2.
    same_logits: Of the pair that an image is in, [B, 2]; 1 is the same class.
    label: Classes in 0..C-1, [B].
    same: 1 where the pair's labels are equal, else 0, [B]; None without pairs.
    of_heads: The loss of a head; the discriminator has cross-entropy always.
    first: Weight of head 1.
    second: Weight of head 2.
    discriminator: Weight of the discriminator.

  Returns:
    Losses [B], both images of a pair with that of the pair, so that the mean
    over the images is that over the pairs.
  """
  one, two = (of_heads(heads[:, k], label) for k in (0, 1))
  if same is None:
    return first * one + second * two
  half = len(label) // 2
  pair = first * one[:half] + second * two[half:]
  pair += discriminator * cross_entropy(same_logits[:half], same[:half])
  return jnp.concatenate([pair, pair])
