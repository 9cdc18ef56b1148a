"""Losses: one value per image, pure, float32, constants by keyword.

`loss(logits, target, *, constants) -> [B]`. There is no mean over the batch in
any of them, so padding is masked outside and changes nothing. Segmentation
losses (`mask_losses`) take logits [B, H, W, 1] (sigmoid) or [B, H, W, 2]
(softmax; 1 is the lesion) and a mask [B, H, W, 1]; classification losses
(`class_losses`) take logits [B, C] and labels [B]. Values and gradients are
finite for empty and full masks and for logits of +-1e4: everything is computed
from logits, without log(0) or 0/0. All are reached through this module.
"""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax

from jaxderm.class_losses import cross_entropy, focal_cross_entropy
from jaxderm.mask_losses import (
  adapt_exp,
  bce,
  bce_dice,
  exponential,
  focal,
  focal_tversky,
  soft_dice,
  tversky,
)

Array = jax.Array


def _by_name(*functions: Callable) -> dict[str, Callable]:
  return {f.__name__: f for f in functions}


SEGMENTATION: Mapping[str, Callable] = _by_name(
  bce,
  soft_dice,
  bce_dice,
  focal,
  exponential,
  adapt_exp,
  tversky,
  focal_tversky,
)
CLASSIFICATION: Mapping[str, Callable] = _by_name(
  cross_entropy, focal_cross_entropy
)


def make(name: str, **constants: Any) -> Callable[[Array, Array], Array]:
  """A loss of either table with its constants set.

  Args:
    name: Of the loss, such as 'bce_dice'.
    **constants: Its keyword arguments; the rest keep their defaults.

  Returns:
    A function of (logits, target) to losses [B].

  Raises:
    ValueError: If the name or a constant is unknown; it lists the right ones.
  """
  table = {**SEGMENTATION, **CLASSIFICATION}
  if name not in table:
    raise ValueError(
      f'Unknown loss {name!r}; it must be one of {", ".join(table)}.'
    )
  parameters = inspect.signature(table[name]).parameters.values()
  right = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
  wrong = [constant for constant in constants if constant not in right]
  if wrong:
    raise ValueError(
      f'The loss {name} has no constant {wrong[0]!r}; it takes '
      f'{", ".join(right) or "none"}.'
    )
  return functools.partial(table[name], **constants)
