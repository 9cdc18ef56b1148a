"""Several runs as one: the weighted mean of their probabilities.

The runs may be folds, seeds or other systems, each with its own config, size
and normalisation; what they must share is the data and the images scored.
"""

import pathlib
from collections.abc import Callable, Sequence

import numpy as np
from ml_collections import ConfigDict

from jaxderm import evaluate, inference, scoring
from jaxderm.ensemble import Ensemble, Trained, load
from jaxderm.writer import say

STEP = 0.05  # of a weight that is searched for
_ROUNDS = 10  # over all members, at most

# Weights [C, K] to what each of them is worth, [C].
Worth = Callable[[np.ndarray], np.ndarray]


def check(members: Sequence[Trained], part: str) -> None:
  """Raises ValueError unless the members may be scored together on a part.

  They need the same kind of answer, data, labels and images, none of which any
  of them was trained on.
  """
  first = members[0]
  for member in members:
    _check_data(first, member)
    _check_images(first, member, part)
  sizes = sorted({member.mapper.size for member in members})
  settings = first.made.config.evaluate
  if settings.scored_at == 'network' and len(sizes) > 1:
    raise ValueError(
      f"evaluate.scored_at is 'network', but the networks' sizes are "
      f"{', '.join(map(str, sizes))}. Use 'own'."
    )


def _check_data(first: Trained, member: Trained) -> None:
  """Raises ValueError where they were made for other things."""
  both = (first, member)
  indices = [m.data.index for m in both]
  for what, values in (
    ('answers', [m.gives for m in both]),
    ('labels', [', '.join(i.labels) or 'none' for i in indices]),
    ('data', [f'{i.name} of hash {i.hash[:12]}' for i in indices]),
  ):
    if values[0] != values[1]:
      raise ValueError(
        f'{first.workdir} and {member.workdir} have other {what}: {values[0]}, '
        f'and {values[1]}. Fuse runs that answer alike on the same data.'
      )


def _check_images(first: Trained, member: Trained, part: str) -> None:
  """Raises ValueError unless a part is new to a member, and its own part."""
  scored = set(first.image_ids(part))
  learnt = scored & set(member.image_ids('train'))
  if learnt:
    raise ValueError(
      f'{member.workdir} was trained on {len(learnt)} of the {len(scored)} '
      f'{part} images of {first.workdir}, first {min(learnt)}. Fusion needs '
      f'images that are {part} images of all its members: folds have them where '
      "that part is fixed, such as the publisher's test set."
    )
  apart = scored ^ set(member.image_ids(part))
  if apart:
    raise ValueError(
      f'The {part} images of {first.workdir} and {member.workdir} differ in '
      f'{len(apart)}, first {min(apart)}. Fusion needs images that are {part} '
      'images of all its members.'
    )


def line(weights: np.ndarray, k: int) -> np.ndarray:
  """Weights [C, K] with that of member k from 0 to 1; the others keep shares.

  The weights given come first and the rest by their distance from them, so
  that the first of equally good ones is the nearest.
  """
  others = np.delete(weights, k)
  total = others.sum()
  share = others / total if total else np.full(len(others), 1 / len(others))
  steps = np.round(np.linspace(0, 1, round(1 / STEP) + 1), 2)
  steps = steps[np.argsort(np.abs(steps - weights[k]), kind='stable')]
  rest = np.outer(1 - steps, share)
  return np.vstack([weights, np.insert(rest, k, steps, axis=1)])


def search(worth: Worth, count: int) -> np.ndarray:
  """Weights that are worth most, in steps of 0.05 of one member's weight.

  Two members: all 21 pairs are tried. More: coordinate search over the simplex
  from equal weights; one member's weight after the other takes its best value
  while the others keep their proportions, until a round changes nothing, or
  ten times. Equal weights stay where nothing is worth more.

  Args:
    worth: Weights [C, K] to what each of them is worth [C], the higher the
      better; NaN where that cannot be said.
    count: Members.

  Returns:
    Weights that add up to one, [K].
  """
  weights = np.full(count, 1 / count)
  for _ in range(_ROUNDS):
    before = weights
    # The line of the second of two members is that of the first.
    for k in range(count if count > 2 else 1):
      tried = line(weights, k)
      values = worth(tried)
      if not np.isnan(values[0]):
        weights = tried[np.nanargmax(values)]
    if count == 2 or np.array_equal(weights, before):
      break
  return weights


def pick(members: Sequence[Trained]) -> tuple[np.ndarray, dict]:
  """Weights that are best on the validation images, and how they were found.

  Raises:
    ValueError: The members may not be compared on these images.
  """
  equal, part = np.full(len(members), 1 / len(members)), 'validation'
  score = evaluate.make_scoring(members[0])
  image_ids = members[0].image_ids(part)
  found = {'picked_by': score.ranked_by, 'picked_on': part}
  if not image_ids:
    say('warning: there are no validation images; the weights stay equal.')
    return equal, found | {'picked_of': 0}
  check(members, part)
  examples = members[0].data.parts[part]
  probabilities = Ensemble(members, equal).everywhere(image_ids, noisy=False)

  def worth(tried):
    return _worth(score, examples, probabilities, tried)

  weights = search(worth, len(members))
  values = worth(np.stack([equal, weights])).tolist()
  told = [None if np.isnan(value) else value for value in values]
  found |= {'score_of_equal': told[0], 'score_of_picked': told[1]}
  return weights, found | {'picked_of': len(image_ids)}


def _worth(
  score: scoring.Scoring, examples, probabilities: Sequence, tried: np.ndarray
) -> np.ndarray:
  """What each of the weights [C, K] is worth on those examples, [C]."""
  outcomes = []
  for i, of_members in enumerate(probabilities):
    truth = score.truth(examples, i)
    placed = [score.place(p, truth) for p in of_members]
    outcomes.append(
      [
        score.outcome(inference.weighted_mean(placed, weights), truth)
        for weights in tried
      ]
    )
  outcomes = np.array(outcomes, np.float64)  # [N, C, what `outcome` gives]
  return np.array([score.worth(outcomes[:, c]) for c in range(len(tried))])


def _given(weights: Sequence, count: int) -> np.ndarray:
  """Weights as a person gives them, numbers or text, to a sum of one."""
  try:
    given = np.array(weights, np.float64)
  except ValueError:
    given = np.empty(0)
  right = given.shape == (count,) and np.isfinite(given).all()
  if not right or given.min() < 0 or not given.any():
    told = weights if isinstance(weights, str) else ','.join(map(str, weights))
    raise ValueError(
      f'--weights={told} must be {count} numbers from 0 '
      "on, one for each member, not all 0; or 'mean' or 'validation'."
    )
  return given / given.sum()


def _weigh(
  members: Sequence[Trained], weights: str | Sequence, split: str
) -> tuple[list[float], dict]:
  """The weight of each member, and where it is from."""
  if weights == 'mean':
    return [1 / len(members)] * len(members), {'from': 'mean'}
  if weights != 'validation':
    return _given(weights, len(members)).tolist(), {'from': 'given'}
  picked, found = pick(members)
  both = set(members[0].image_ids(split)) & set(
    members[0].image_ids('validation')
  )
  if both:
    say(
      f'warning: the weights were picked on {len(both)} of the images that are '
      'scored: the scores flatter.'
    )
  found['picked_of_scored'] = len(both)
  return picked.tolist(), {'from': 'validation', **found}


def _open(
  members: Sequence[tuple[ConfigDict, pathlib.Path]],
  checkpoint: str,
  settings: ConfigDict | None,
) -> list[Trained]:
  """The runs, all evaluated in one way."""
  folders = [workdir for _, workdir in members]
  if len(folders) < 2 or len(set(folders)) < len(folders):
    raise ValueError(
      f'--members={",".join(map(str, folders))} must name two or more runs, '
      'each once.'
    )
  if settings is None:
    settings = members[0][0].evaluate
  opened = []
  for config, workdir in members:
    config = config.copy_and_resolve_references()
    config.evaluate.update(settings.to_dict())
    opened.append(load(config, workdir, checkpoint))
    say(f'{workdir}: {opened[-1].made.name}, step {opened[-1].step}')
  return opened


def fuse(
  members: Sequence[tuple[ConfigDict, pathlib.Path]],
  folder: pathlib.Path,
  weights: str | Sequence = 'mean',
  split: str | None = None,
  checkpoint: str = 'best',
  settings: ConfigDict | None = None,
) -> dict:
  """Evaluates the weighted mean of several runs on one part of their data.

  Args:
    members: Config and folder of each run, two or more.
    folder: Where `rows.csv`, `summary.json` and `report.html` go.
    weights: 'mean' for equal ones; 'validation' for those that are best on the
      validation images (`search`); or a number for each member.
    split: As `evaluate.evaluate` takes it.
    checkpoint: 'best', 'latest' or a step; of every member.
    settings: A config's `evaluate` for all members; that of the first if None.

  Returns:
    The summary.

  Raises:
    FileNotFoundError: No such run or checkpoint.
    ValueError: The members do not go together; says in what.
  """
  if (folder / 'config.json').exists():
    raise ValueError(
      f'{folder} holds a run of its own, whose results would be lost. Choose '
      'another --workdir, or --out.'
    )
  trained = _open(members, checkpoint, settings)
  split = evaluate.choose_part(trained[0], split)
  check(trained, split)
  shares, origin = _weigh(trained, weights, split)
  told = {}
  for member, weight in zip(trained, shares, strict=True):
    say(f'{weight:.3f} of {member.workdir}')
    told[str(member.workdir)] = {'weight': weight, **member.about()}
  system = 'fusion of ' + ' + '.join(m.made.name for m in trained)
  about = {'system': system, 'weights': origin, 'members': told}
  return evaluate.report_on(Ensemble(trained, shares), split, about, folder)
