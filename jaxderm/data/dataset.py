"""A built data set: its records, its columns, its hash."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from jaxderm.data import index

_DTYPES = {'label': np.int64, 'has_mask': np.int32, 'age': np.float32}


class Source(Sequence):
  """Decoded records of one split, by number; texts are str, not bytes."""

  def __init__(self, records: Sequence[Mapping[str, Any]]):
    """Wraps a tfds data source."""
    self._records = records

  def __len__(self) -> int:
    return len(self._records)

  def __getitem__(self, i: int) -> dict[str, Any]:
    if not -len(self) <= i < len(self):
      raise IndexError(f'record {i} of {len(self)}')
    values = self._records[int(i) % len(self)]
    return {
      k: v.decode() if isinstance(v, bytes) else v for k, v in values.items()
    }


@dataclasses.dataclass(frozen=True)
class Dataset:
  """A built data set.

  Attributes:
    name: In `DATASETS`.
    labels: Class names, in the order of `label`; empty if it has none.
    path: The folder it is in; `tfds.builder_from_directory` reads it.
    sources: Official split to its records (data/record.py); a single 'train'
      where there are no official splits.
    notes: What was left out, and why.
    published: Images in each split as the publisher has it.
  """

  name: str
  labels: tuple[str, ...]
  path: Path
  sources: dict[str, Source]
  notes: tuple[str, ...]
  published: dict[str, int]

  def columns_by_split(self) -> dict[str, dict[str, np.ndarray]]:
    """Every feature but the images, in the order of `sources`.

    Returns:
      Split to feature to `[N]`: str for texts (`phash` is hex, see
      `numpy.unpackbits`), int for `label` and `has_mask`, float32 for `age`.
    """
    return self._columns

  @cached_property
  def _columns(self) -> dict[str, dict[str, np.ndarray]]:
    rows = _metadata(self.path)['columns']
    return {
      split: {
        name: np.array([r[name] for r in rows[split]], _DTYPES.get(name, str))
        for name in rows[split][0]
      }
      for split in self.sources
    }

  @cached_property
  def hash(self) -> str:
    """The data hash: same images, labels and lesions, same hash, anywhere."""
    return index.from_columns(self.name, self.labels, self._columns).hash

  def report(self) -> str:
    """Counts by split and class, what is missing, and the folder."""
    lines = [f'{self.name}: {sum(map(len, self.sources.values()))} images']
    for split, columns in self._columns.items():
      label = columns['label']
      counts = [f'{n} {np.sum(label == i)}' for i, n in enumerate(self.labels)]
      counts += [f'no label {np.sum(label < 0)}'] * bool(np.any(label < 0))
      counts += [f'masks {np.sum(columns["has_mask"])}']
      lines.append(f'  {split}: {len(label)} ({", ".join(counts)})')
      if len(label) < self.published.get(split, 0):
        lines.append(
          f'    {self.published[split] - len(label)} fewer than the '
          f'{self.published[split]} published'
        )
    lines += [f'  note: {note}' for note in self.notes]
    return '\n'.join([*lines, f'  hash {self.hash}', f'  path {self.path}'])


def open_built(path: Path) -> Dataset:
  """Opens a folder that `build` made."""
  info = tfds.builder_from_directory(path)
  about = _metadata(path)
  return Dataset(
    name=info.name,
    labels=tuple(about['labels']),
    path=path,
    sources={s: Source(info.as_data_source(s)) for s in about['columns']},
    notes=tuple(about['notes']),
    published=about['published'],
  )


def _metadata(path: Path) -> dict[str, Any]:
  return json.loads((path / 'metadata.json').read_text())
