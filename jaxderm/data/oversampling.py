"""Images that an epoch shows several times, class by class (SPEC 2.6)."""

from collections.abc import Mapping, Sequence

import numpy as np


def times(
  repeats: Mapping[str, int], labels: Sequence[str], name: str
) -> np.ndarray:
  """How often an epoch shows an image of each class, int [C].

  Args:
    repeats: By names of classes; once where a class is not named.
    labels: Names of the C classes.
    name: Of the data set.

  Raises:
    ValueError: There is no such class, or a number is not whole and positive.
  """
  for label, number in repeats.items():
    if label not in labels:
      raise ValueError(
        f'data.repeats.{label}: {name} has no such class; its classes are '
        f'{", ".join(labels) or "none"}.'
      )
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
      raise ValueError(
        f'data.repeats.{label} is {number!r}; an image is shown a whole number '
        'of times, 1 or more.'
      )
  return np.array([repeats.get(label, 1) for label in labels], np.int64)


def often(label: np.ndarray, of_class: Sequence[int]) -> np.ndarray:
  """How often each of n images is shown, int [n].

  Args:
    label: Their classes, [n]; -1 where there is none: those are shown once.
    of_class: How often an image of each class is shown, [C].
  """
  return np.append(of_class, 1)[label]  # -1 is the last
