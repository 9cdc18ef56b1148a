"""Which of two heads answers: the one that is better on validation images.

So Wei 2020 (paper 001, SPEC 2.7) takes "the better of the two heads by
validation AP". Both are scored whenever a run is validated, and the scores are
in its `metrics.jsonl`; evaluation and use look them up there, for the state
that they use. In prediction there are no validation images any more.
"""

import pathlib
from collections.abc import Callable, Mapping

import numpy as np

from jaxderm.ranking import ranking
from jaxderm.writer import events

# What `evaluate.head` may be.
CHOICES = ('validation', '1', '2')
_EACH = ('average_precision_1', 'average_precision_2')
SCORES = ('average_precision', *_EACH)


def average_precision(label: np.ndarray, probability: np.ndarray) -> float:
  """How well a network finds what is looked for, NaN without such images.

  Args:
    label: Classes in 0..C-1, [N].
    probability: [N, C].

  Returns:
    Of two classes, the average precision of the second (melanoma); of more, the
    mean of those that have images.
  """
  columns = enumerate(probability.T)
  found = np.array([ranking(label == c, p)[1] for c, p in columns])
  found = found[1:] if len(found) == 2 else found
  found = found[np.isfinite(found)]
  return float(found.mean()) if found.size else float('nan')


def scores(
  columns: Mapping[str, np.ndarray], of_one: Callable[[Mapping], dict]
) -> dict[str, float]:
  """Scores of the better head, and the average precision of each.

  Args:
    columns: 'label' [N] and 'probability', [N, 2, C] of both heads or [N, C]
      of the one that was chosen.
    of_one: Columns of one head to its scores by name.
  """
  label, probability = columns['label'], columns['probability']
  if probability.ndim == 2:
    named = {'average_precision': average_precision(label, probability)}
    best = probability
  else:
    each = [average_precision(label, p) for p in probability.swapaxes(0, 1)]
    k = better(*each) - 1
    named = {'average_precision': each[k]} | dict(zip(_EACH, each, strict=True))
    best = probability[:, k]
  named = {k: v for k, v in named.items() if np.isfinite(v)}
  return of_one({'label': label, 'probability': best}) | named


def better(first: float, second: float) -> int:
  """1 or 2; 1 where they are equal or are no numbers."""
  return 2 if second > first else 1


def choose(wanted: str, workdir: pathlib.Path, step: int) -> tuple[int, dict]:
  """The head that answers, and why.

  Args:
    wanted: A name in `CHOICES`.
    workdir: The run's folder.
    step: Updates that the state has seen.

  Returns:
    1 or 2, and what a summary says of it.

  Raises:
    ValueError: It is to be the better one, and the run was never validated.
  """
  if wanted != 'validation':
    return int(wanted), {'number': int(wanted), 'from': 'given'}
  told = events(workdir / 'metrics.jsonl', 'validation')
  told = [event for event in told if event['step'] <= step]
  if not told:
    raise ValueError(
      f'{workdir / "metrics.jsonl"} has no validation up to step {step}, so it '
      "does not say which head is the better. Set evaluate.head to '1' or '2'."
    )
  each = [told[-1].get(name) for name in _EACH]
  # There is none of validation images without a melanoma.
  head = 1 if None in each else better(*each)
  return head, {
    'number': head,
    'from': 'validation',
    'average_precision': each,
    'step': told[-1]['step'],
  }
