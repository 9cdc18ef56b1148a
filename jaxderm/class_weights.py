"""Weights of classes from how many training images they have."""

from collections.abc import Callable, Sequence

import numpy as np


def balanced(counts: np.ndarray) -> np.ndarray:
  """N / (C N_c): the mean over the images is 1 (SPEC 3.6)."""
  return counts.sum() / (len(counts) * counts)


def balanced_mean(counts: np.ndarray) -> np.ndarray:
  """The same divided by its mean: the mean over classes is 1 (SPEC 5.2)."""
  weights = balanced(counts)
  return weights / weights.mean()


def inverse_sqrt(counts: np.ndarray) -> np.ndarray:
  """As 1 / sqrt(N_c), the mean over classes 1: milder (SPEC 5.2)."""
  weights = 1 / np.sqrt(counts)
  return weights / weights.mean()


def equal(counts: np.ndarray) -> np.ndarray:
  """1 for each: no weights, where a command line can give a name alone."""
  return np.ones(len(counts))


# Constants of losses that are weights of classes.
CONSTANTS = ('alpha', 'weights')
# What they may be, instead of numbers.
RULES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
  'balanced': balanced,
  'balanced_mean': balanced_mean,
  'inverse_sqrt': inverse_sqrt,
  'equal': equal,
}


def asked(loss: dict) -> dict[str, str]:
  """The constants of a loss that are rules: name of each, and its rule.

  Raises:
    ValueError: Weights of classes are a text, and no rule.
  """
  texts = {k: v for k, v in loss.items() if k in CONSTANTS}
  texts = {k: v for k, v in texts.items() if isinstance(v, str)}
  for key, value in texts.items():
    if value not in RULES:
      raise ValueError(
        f'loss.{key} is {value!r}; it must be numbers or one of '
        f'{", ".join(RULES)}.'
      )
  return texts


def weigh(
  loss: dict, labels: Sequence[str], counts: Sequence[int]
) -> dict[str, tuple[float, ...]]:
  """The constants of a loss that are rules, as numbers.

  Args:
    loss: Name and constants of a loss.
    labels: Names of the classes, C of them.
    counts: Training images of each class, [C].

  Raises:
    ValueError: A class has no training image.
  """
  rules, counts = asked(loss), np.asarray(counts, np.float64)
  absent = [k for k, n in zip(labels, counts, strict=True) if n == 0]
  if rules and absent:
    key, rule = next(iter(rules.items()))
    raise ValueError(
      f'loss.{key}={rule!r} needs training images of every class; there is '
      f'none of {", ".join(absent)}. Give the weights as numbers.'
    )
  return {k: tuple(RULES[rule](counts).tolist()) for k, rule in rules.items()}
