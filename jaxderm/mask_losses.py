"""Losses of segmentation: logits and a mask to one value per image.

Logits are [B, H, W, 1] (sigmoid) or [B, H, W, 2] (softmax; 1 is the lesion), the
mask is [B, H, W, 1]. What all losses promise is in `losses`.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import nn

Array = jax.Array
_PIXELS = (1, 2, 3)


def lesion_logit(logits: Array) -> Array:
  """The logit of the lesion's probability, float32 [B, H, W, 1].

  The softmax of two logits is the sigmoid of their difference, exactly.

  Args:
    logits: [B, H, W, 1], or [B, H, W, 2] for background and lesion.

  Raises:
    ValueError: If the logits have another shape.
  """
  if logits.ndim != 4 or logits.shape[-1] not in (1, 2):
    raise ValueError(
      'Segmentation losses need logits [B, H, W, 1] or [B, H, W, 2], not '
      f'{list(logits.shape)}.'
    )
  logits = logits.astype(jnp.float32)
  return logits[..., -1:] - logits[..., :1] if logits.shape[-1] == 2 else logits


def _binary(logits: Array, mask: Array) -> tuple[Array, Array]:
  """Logits and mask as float32 [B, H, W, 1]."""
  logit = lesion_logit(logits)
  if mask.shape != logit.shape:
    raise ValueError(
      f'The mask must have the shape {list(logit.shape)}, not '
      f'{list(mask.shape)}.'
    )
  return logit, mask.astype(jnp.float32)


def bce(logits: Array, mask: Array, *, clip: float = 0.0) -> Array:
  """Binary cross-entropy, the mean over the pixels.

  Args:
    logits: [B, H, W, 1] or [B, H, W, 2].
    mask: 1 on the lesion, 0 off it, [B, H, W, 1].
    clip: Keeps the probability in [clip, 1 - clip], as Keras does with 1e-7;
      done by clipping the logit at +-log((1 - clip) / clip), 16.1 for 1e-7,
      which is the same. Pixels beyond it get no gradient, however wrong; 0
      clips nothing and needs nothing clipped.

  Returns:
    Losses of at least 0, [B].
  """
  logit, mask = _binary(logits, mask)
  if clip:
    limit = float(np.log1p(-clip) - np.log(clip))
    logit = jnp.clip(logit, -limit, limit)
  # Two softplus, not one and a product: those cancel where logits are large.
  pixel = mask * nn.softplus(-logit) + (1 - mask) * nn.softplus(logit)
  return jnp.mean(pixel, axis=_PIXELS)


def soft_dice(
  logits: Array, mask: Array, *, smooth: float = 1.0, batch_dice: bool = False
) -> Array:
  """One minus the Dice coefficient of probabilities (arXiv:1606.04797).

  Unlike that paper we do not square the denominator; most code does not.

  Args:
    logits: [B, H, W, 1] or [B, H, W, 2].
    mask: 1 on the lesion, 0 off it, [B, H, W, 1].
    smooth: Added above and below, in pixels, more than 0. An empty mask that is
      predicted empty then costs nothing.
    batch_dice: Sums over the whole batch, padding included, as Keras code that
      flattens does; each image then gets the batch's value.

  Returns:
    Losses in [0, 1], [B].
  """
  logit, mask = _binary(logits, mask)
  probability = nn.sigmoid(logit)
  overlap = jnp.sum(probability * mask, axis=_PIXELS)
  total = jnp.sum(probability + mask, axis=_PIXELS)
  if batch_dice:
    shape = overlap.shape
    overlap = jnp.broadcast_to(jnp.sum(overlap), shape)
    total = jnp.broadcast_to(jnp.sum(total), shape)
  return 1.0 - (2.0 * overlap + smooth) / (total + smooth)


def bce_dice(
  logits: Array,
  mask: Array,
  *,
  alpha: float = 1.0,
  convex: bool = False,
  smooth: float = 1.0,
  batch_dice: bool = False,
  clip: float = 0.0,
) -> Array:
  """alpha * bce + soft_dice, or with `convex` alpha and 1 - alpha.

  The loss of Yang 2021 (000; SPEC 1.9) and of Wei 2020's U-Nets (001; 2.4).

  Args:
    logits: [B, H, W, 1] or [B, H, W, 2].
    mask: 1 on the lesion, 0 off it, [B, H, W, 1].
    alpha: Weight of the cross-entropy. With `convex` it must be in (0, 1).
    convex: Weighs the Dice loss by 1 - alpha instead of 1.
    smooth: See `soft_dice`.
    batch_dice: See `soft_dice`.
    clip: See `bce`.

  Returns:
    Losses of at least 0, [B].

  Raises:
    ValueError: If `convex` leaves one of the two losses out.
  """
  if convex and not 0 < alpha < 1:
    raise ValueError(
      f'bce_dice: convex needs alpha between 0 and 1, such as 0.5, not {alpha}.'
    )
  dice = soft_dice(logits, mask, smooth=smooth, batch_dice=batch_dice)
  entropy = bce(logits, mask, clip=clip)
  return alpha * entropy + (1.0 - alpha if convex else 1.0) * dice


def focal(
  logits: Array,
  mask: Array,
  *,
  alpha: float = 0.25,
  gamma: float = 2.0,
  literal: bool = False,
) -> Array:
  """Focal loss of pixels (arXiv:1708.02002), the mean over them.

  Args:
    logits: [B, H, W, 1] or [B, H, W, 2].
    mask: 1 on the lesion, 0 off it, [B, H, W, 1].
    alpha: Weight of the lesion; the background's is 1 - alpha.
    gamma: Power of the probability of the wrong class, at least 0.
    literal: Multiplies the background's term by 1 - p once more, as eq. (4) of
      Wei 2020 (001) is printed.

  Returns:
    Losses of at least 0, [B].
  """
  logit, mask = _binary(logits, mask)
  log_p, log_q = nn.log_sigmoid(logit), nn.log_sigmoid(-logit)
  # exp(gamma log q), not q**gamma, whose gradient is infinite at q = 0 when
  # gamma is below 1.
  lesion = alpha * jnp.exp(gamma * log_q) * log_p
  background = (1.0 - alpha) * jnp.exp(gamma * log_p) * log_q
  if literal:
    background = background * jnp.exp(log_q)
  pixel = mask * lesion + (1.0 - mask) * background
  return -jnp.mean(pixel, axis=_PIXELS)


def exponential(logits: Array, mask: Array) -> Array:
  """exp(-p) on the lesion and exp(p - 1) off it, the mean over the pixels.

  Zarrin 2025 (003; SPEC 4.4), `adapt_exp` without its weights.

  Args:
    logits: [B, H, W, 1] or [B, H, W, 2].
    mask: 1 on the lesion, 0 off it, [B, H, W, 1].

  Returns:
    Losses in [1/e, 1], [B].
  """
  logit, mask = _binary(logits, mask)
  p, q = nn.sigmoid(logit), nn.sigmoid(-logit)
  pixel = mask * jnp.exp(-p) + (1.0 - mask) * jnp.exp(-q)
  return jnp.mean(pixel, axis=_PIXELS)


def adapt_exp(logits: Array, mask: Array, *, eps: float = 1e-6) -> Array:
  """The exponential loss, both classes weighted alike in each image.

  Zarrin 2025 (003; SPEC 4.4): lesion pixels weigh 1 / (k + eps) and the others
  1 / (1 - k + eps), where k is the share of lesion pixels in the image.

  Args:
    logits: [B, H, W, 1] or [B, H, W, 2].
    mask: 1 on the lesion, 0 off it, [B, H, W, 1].
    eps: Added to both shares.

  Returns:
    Losses, [B]: 2/e to 2 up to O(eps / k) where the mask holds both classes,
    1/e to 1 where it holds one.
  """
  logit, mask = _binary(logits, mask)
  p, q = nn.sigmoid(logit), nn.sigmoid(-logit)
  share = jax.lax.stop_gradient(jnp.mean(mask, axis=_PIXELS, keepdims=True))
  pixel = mask * jnp.exp(-p) / (share + eps)
  pixel += (1.0 - mask) * jnp.exp(-q) / (1.0 - share + eps)
  return jnp.mean(pixel, axis=_PIXELS)


def tversky(
  logits: Array,
  mask: Array,
  *,
  alpha: float = 0.3,
  beta: float = 0.7,
  smooth: float = 1.0,
) -> Array:
  """One minus the Tversky index of probabilities (arXiv:1706.05721).

  Args:
    logits: [B, H, W, 1] or [B, H, W, 2].
    mask: 1 on the lesion, 0 off it, [B, H, W, 1].
    alpha: Weight of false positives.
    beta: Weight of false negatives.
    smooth: Added above and below, in pixels, more than 0. The Tversky index at
      alpha = beta = 1/2 halves both sides of the Dice coefficient, so it is
      `soft_dice` with twice this `smooth`.

  Returns:
    Losses in [0, 1], [B].
  """
  logit, mask = _binary(logits, mask)
  p, q = nn.sigmoid(logit), nn.sigmoid(-logit)
  overlap = jnp.sum(p * mask, axis=_PIXELS)
  wrong = alpha * jnp.sum(p * (1.0 - mask), axis=_PIXELS)
  wrong += beta * jnp.sum(q * mask, axis=_PIXELS)
  return wrong / (overlap + wrong + smooth)


def focal_tversky(
  logits: Array,
  mask: Array,
  *,
  alpha: float = 0.3,
  beta: float = 0.7,
  gamma: float = 4.0 / 3.0,
  smooth: float = 1.0,
) -> Array:
  """`tversky` to the power 1 / gamma (arXiv:1810.07842).

  That paper's alpha weighs false negatives and its beta false positives; here
  both mean what they do in `tversky`, so its 0.7 is our beta.

  Args:
    logits: [B, H, W, 1] or [B, H, W, 2].
    mask: 1 on the lesion, 0 off it, [B, H, W, 1].
    alpha: Weight of false positives.
    beta: Weight of false negatives.
    gamma: The inverse of the power.
    smooth: See `tversky`.

  Returns:
    Losses in [0, 1], [B].
  """
  loss = tversky(logits, mask, alpha=alpha, beta=beta, smooth=smooth)
  # The power's gradient at 0 is infinite: a perfect image gets none instead.
  some = loss > 1e-30
  return jnp.where(some, jnp.where(some, loss, 1.0) ** (1.0 / gamma), 0.0)
