"""Which images train, which choose the best epoch, and which are scored.

Every split is a pure function of what the data set holds and of the arguments,
and not of the order in which records are stored.
"""

import numpy as np
import scipy.sparse

from jaxderm.data import leaks, papers
from jaxderm.data.index import Index
from jaxderm.data.papers import PAPER_MODES, PAPERS, PARTS
from jaxderm.data.split import Split, read

__all__ = ['PAPER_MODES', 'Split', 'groups', 'make', 'modes', 'read']


def modes(index: Index) -> tuple[str, ...]:
  """The modes that a data set has."""
  official = (
    ('official', 'official_clean') if papers.has_official(index) else ()
  )
  printed = tuple(mode for mode in PAPERS if index.name in PAPERS[mode])
  mended = ('le2020_grouped',) if 'le2020' in printed else ()
  return ('grouped', *official, 'deploy', *printed, *mended)


def make(
  index: Index,
  mode: str = 'grouped',
  *,
  seed: int = 0,
  folds: int = 5,
  fold: int = 0,
  validation: float = 0.1,
) -> Split:
  """Splits a data set.

  Modes, and `modes(index)` says which of them a data set has:

  - 'grouped': `folds` parts with the classes' shares of the whole, that
    together hold every image once and keep together what shows one thing
    (`groups`). Part `fold` is the test set.
  - 'official': the publisher's parts. Where he has no validation set, a grouped
    share of his training set.
  - 'official_clean': the same, less the images that leak into a later part.
  - 'deploy': all but a validation share is for training; no test set.
  - a paper's name: random by image as in the paper (`papers.PAPERS`). They
    leak. `fold` moves the test set along, or where the paper's test set is
    fixed the validation set.
  - 'le2020_grouped': that paper's test set, and `folds` parts of the images of
    other lesions, of which `fold` is the validation set. Members share their
    test images, as an ensemble of folds needs, and no lesion is on two sides.

  Args:
    index: The data set.
    mode: One of the above.
    seed: Another seed is another draw.
    folds: Number of folds, at least 2.
    fold: Which of them, from 0.
    validation: Share of the images that are not for testing that is held out to
      choose the best epoch, in [0, 1); the papers' modes have their own.

  Raises:
    ValueError: If the data set lacks the mode, or an argument is out of range.
  """
  if mode not in modes(index):
    raise ValueError(
      f'The data set {index.name} has no split {mode!r}. It has '
      f'{", ".join(modes(index))}.'
    )
  if folds < 2 or not 0 <= fold < folds:
    raise ValueError(
      f'fold is from 0 to folds - 1 and folds at least 2, got fold {fold} of '
      f'{folds}.'
    )
  if not 0 <= validation < 1:
    raise ValueError(f'validation is a share in [0, 1), got {validation}.')
  # All that follows works on rows in the order of names.
  ordered = index.take(np.argsort(index.image_id, kind='stable'))
  if mode in PAPERS:
    rows, note = papers.draw(ordered, mode, seed, folds, fold)
  elif mode == 'grouped':
    rows, note = _grouped(ordered, seed, folds, fold, validation), ''
  elif mode == 'le2020_grouped':
    rows, note = _shared_test(ordered, seed, folds, fold)
  elif mode == 'deploy':
    every = np.arange(len(ordered))
    rows, note = (*_hold_out(ordered, every, validation, seed), every[:0]), ''
  else:
    clean = mode == 'official_clean'
    rows, note = _official(ordered, seed, validation, clean)
  names = {
    part: tuple(sorted(ordered.image_id[r].tolist()))
    for part, r in zip(PARTS, rows, strict=True)
  }
  return Split(
    mode, seed, folds, fold, **names, data_hash=index.hash, note=note
  )


def groups(index: Index) -> np.ndarray:
  """Numbers images so that those of one thing have one number, int `[N]`.

  One thing is what a chain of equal names, files or lesions and near-duplicate
  pictures joins.
  """
  # To stay linear in the images of one lesion, each text is joined to the first
  # row that has it.
  edges = [
    np.stack([first[inverse], np.arange(len(index))])[:, texts != '']
    for texts in (
      np.array([leaks.canonical_id(i) for i in index.image_id], np.str_),
      index.lesion_id,
      index.sha256,
    )
    for _, first, inverse in [
      np.unique(texts, return_index=True, return_inverse=True)
    ]
  ]
  near = np.array(leaks.near_duplicates(index.phash), np.int64).reshape(-1, 3)
  a, b = np.concatenate([*edges, near[:, :2].T], axis=1)
  graph = scipy.sparse.coo_matrix(
    (np.ones(len(a), bool), (a, b)), (len(index), len(index))
  )
  return scipy.sparse.csgraph.connected_components(graph, directed=False)[1]


def _grouped(index, seed, folds, fold, validation):
  group = groups(index)
  if group.size == 0 or group.max() + 1 < folds:
    raise ValueError(
      f'{index.name}: {folds} folds need as many lesions, and there are '
      f'{len(np.unique(group))} in {len(index)} images.'
    )
  every = np.arange(len(index))
  shares = np.full(folds, 1 / folds)
  part = _deal(index, every, group, shares, f'{seed} folds')
  rest = every[part != fold]
  # The draw of the validation set is another one in each fold.
  train, held = _hold_out(index, rest, validation, f'{seed} fold {fold}', group)
  return train, held, every[part == fold]


def _shared_test(index, seed, folds, fold):
  """The test images of le2020, and folds of all other lesions (SPEC 5.4)."""
  (*_, test), note = papers.draw(index, 'le2020', seed, folds, 0)
  group = groups(index)
  rest = np.flatnonzero(~np.isin(group, group[test]))
  shares = np.full(folds, 1 / folds)
  part = _deal(index, rest, group[rest], shares, f'{seed} folds')
  gone = len(index) - len(rest) - len(test)
  left_out = f'Left out {gone:,} images of lesions that are tested on.'
  kept = rest[part != fold], rest[part == fold], test
  return kept, f'{note} {left_out}'.strip()


def _hold_out(index, rows, share, seed, group=None):
  """Parts `rows` into (kept, held out) without cutting a group."""
  if share == 0 or len(rows) == 0:
    return rows, rows[:0]
  group = groups(index) if group is None else group
  shares = np.array([1 - share, share])
  part = _deal(index, rows, group[rows], shares, f'{seed} validation')
  if not (part == 0).any() or not (part == 1).any():
    raise ValueError(
      f'{index.name}: {len(rows)} images in {len(np.unique(group[rows]))} '
      f'groups are too few to hold out {share:g} of them for validation; '
      'validation=0 holds out none.'
    )
  return rows[part == 0], rows[part == 1]


def _deal(index, rows, group, shares, seed) -> np.ndarray:
  """Deals groups out to parts, by size and class close to `shares`.

  Large groups first, then by lot; each goes where it brings the classes and the
  whole nearest to what is due, by squared error over what is due.

  Args:
    index: The data set.
    rows: Its rows to deal, `[n]`.
    group: Their groups, `[n]`.
    shares: Of each part, summing to 1.
    seed: Text to draw lots with.

  Returns:
    The part of each row, int `[n]`.
  """
  number = np.unique(group, return_inverse=True)[1]
  kinds, kind = np.unique(index.label[rows], return_inverse=True)
  counts = np.zeros((number.max() + 1, len(kinds) + 1))
  np.add.at(counts, (number, kind), 1)
  counts[:, -1] = counts.sum(axis=1)  # all classes together count as one more
  lot = papers.lots(index.image_id[rows], seed)
  lots = np.full(len(counts), np.iinfo(np.uint64).max, np.uint64)
  np.minimum.at(lots, number, lot)
  due = shares[:, None] * counts.sum(axis=0)
  dealt = np.zeros_like(due)
  part_of = np.zeros(len(counts), np.int64)
  for g in np.lexsort((lots, -counts[:, -1])):
    cost = counts[g] * (2 * (dealt - due) + counts[g]) / due
    part_of[g] = np.argmin(cost.sum(axis=1))
    dealt[part_of[g]] += counts[g]
  return part_of[number]


def _official(index, seed, validation, clean):
  train, held, test = (np.flatnonzero(index.official == p) for p in PARTS)
  given = len(held) > 0
  left_out = {'train': 0, 'validation': 0}
  if clean:
    train, left_out['train'] = _without_leaks(index, train, test)
    held, left_out['validation'] = _without_leaks(index, held, test)
  if given and clean:
    train, more = _without_leaks(index, train, held)
    left_out['train'] += more
  if not given:
    train, held = _hold_out(index, train, validation, seed)
  note = '' if given else 'The validation set is a part of the official train. '
  if clean:
    counts = ' and '.join(f'{n} {part}' for part, n in left_out.items())
    note += f'Left out {counts} images that leak into a later part.'
  return (train, held, test), note.strip()


def _without_leaks(index, rows, later):
  found = leaks.overlap(index.take(rows), index.take(later))
  keep = ~np.isin(index.image_id[rows], [leak.first for leak in found])
  return rows[keep], int((~keep).sum())
