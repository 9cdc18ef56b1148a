"""Indices of made-up data, and what splits of them are asked."""

import numpy as np

from jaxderm.data import folds, index

PARTS = ('train', 'validation', 'test')


def bits(n: int, seed: int = 0) -> np.ndarray:
  """Hashes of pictures that do not resemble one another."""
  return np.random.default_rng(seed).random((n, 256)) < 0.5


def make_index(n: int = 400, name: str = 'made', parts=('train',), **columns):
  """An index of lesions with up to four images, in three uneven classes."""
  rng = np.random.default_rng(1)
  lesion = np.sort(rng.integers(0, max(n // 2, 1), n))
  label = rng.choice([-1, 0, 1], size=n, p=[0.1, 0.7, 0.2])[lesion]
  columns = {
    'image_id': [f'i{k:05d}' for k in range(n)],
    'lesion_id': [f'L{k}' for k in lesion],
    'label': label,
    'sha256': [f'{k:064x}' for k in range(n)],
    'phash': bits(n),
    **columns,
  }
  edges = np.linspace(0, n, len(parts) + 1).astype(int)
  return index.from_columns(
    name,
    ['benign', 'malignant'],
    {
      part: {key: v[a:b] for key, v in columns.items()}
      for part, a, b in zip(parts, edges[:-1], edges[1:], strict=True)
    },
  )


def singles(n: int, name: str, **columns) -> index.Index:
  ids = [f'i{k:05d}' for k in range(n)]
  columns = {'lesion_id': ids, 'label': np.arange(n) % 2, **columns}
  return make_index(n, name, **columns)


def sizes(split: folds.Split) -> tuple[int, int, int]:
  return len(split.train), len(split.validation), len(split.test)


def shuffled(data: index.Index) -> index.Index:
  return data.take(np.random.default_rng(2).permutation(len(data)))


def assert_apart(data: index.Index, split: folds.Split):
  everything = split.train + split.validation + split.test
  assert len(set(everything)) == len(everything)
  group = folds.groups(data)
  owners = [set(group[data.rows(getattr(split, part))]) for part in PARTS]
  assert not owners[0] & owners[1]
  assert not owners[0] & owners[2]
  assert not owners[1] & owners[2]
