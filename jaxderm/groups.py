"""Scores of groups of patients: by age, sex, place on the body, and method.

A group with fewer images than a stated number is listed with that number and
not scored: its interval would be as wide as the scale.
"""

from collections.abc import Callable, Mapping

import numpy as np

from jaxderm.data.index import Index

SMALLEST = 30
_YEARS = 10  # of a band of ages
UNKNOWN = 'unknown'


def age_bands(age: np.ndarray) -> np.ndarray:
  """Ages in years to '40-49' and so on, 'unknown' for NaN; str [N]."""
  low = np.floor(np.nan_to_num(np.asarray(age, np.float64)) / _YEARS) * _YEARS
  return np.array(
    [
      f'{int(a)}-{int(a) + _YEARS - 1}' if known else UNKNOWN
      for a, known in zip(low, np.isfinite(age), strict=True)
    ],
    np.str_,
  )


def facts(index: Index, records: np.ndarray) -> dict[str, np.ndarray]:
  """Which group each image is in, by everything that is known of any.

  Args:
    index: Of the data.
    records: Rows of it, [N].

  Returns:
    'age', 'sex', 'site' and 'diagnosis_method' to names [N]; what is known of
    no image is left out.
  """
  named = {'age': age_bands(index.age[records])}
  for name in ('sex', 'site', 'diagnosis_method'):
    given = np.asarray(getattr(index, name))[records]
    named[name] = np.where(given == '', UNKNOWN, given)
  return {k: v for k, v in named.items() if (v != UNKNOWN).any()}


def summarise(
  rows: Mapping,
  by: Mapping[str, np.ndarray],
  score: Callable[[dict], dict],
  smallest: int = SMALLEST,
) -> dict:
  """Scores of every group that is large enough.

  Args:
    rows: Columns of rows, [N] each, with 'lesion_id'.
    by: See `facts`.
    score: Columns of a group to its scores.
    smallest: Images that a group must have to be scored.

  Returns:
    'smallest', and 'by': {'sex': {'female': {'n_images', 'n_lesions', and what
    `score` gave}}}; smaller groups have the counts alone. Bands of age are in
    the order of age, other groups in that of the alphabet, 'unknown' last.
  """
  table = {k: np.asarray(v) for k, v in rows.items()}
  found: dict = {}
  for fact, names in by.items():
    found[fact] = {}
    for name in sorted(set(names.tolist()), key=_order):
      chosen = np.flatnonzero(names == name)
      part = {k: v[chosen] for k, v in table.items()}
      counts = {
        'n_images': len(chosen),
        'n_lesions': len(np.unique(part['lesion_id'])),
      }
      scored = score(part) if len(chosen) >= smallest else {}
      found[fact][name] = {**counts, **scored}
  return {'smallest': smallest, 'by': found}


def _order(name: str) -> tuple:
  start = name.partition('-')[0]
  number = int(start) if start.isdigit() else 0
  return (name == UNKNOWN, number, name)
