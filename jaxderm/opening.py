"""A config's data set: opened, split, and made into examples."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
from ml_collections import ConfigDict

from jaxderm.data import (
  build,
  folds,
  layout,
  leaks,
  metadata,
  oversampling,
  papers,
  pipeline,
)
from jaxderm.data.index import OFFICIAL, Index, from_columns
from jaxderm.data.papers import PARTS
from jaxderm.data.split import Split
from jaxderm.writer import say


@dataclasses.dataclass(frozen=True)
class Data:
  """A data set, split.

  Attributes:
    dataset: As built.
    index: A column for each fact about its records.
    split: Which images are for what.
    parts: Examples of 'train', 'validation' and 'test', each image once.
    training: What an epoch shows: the training images, some of them repeated.
    notes: What a person should read about them.
    encoding: How metadata are numbers, where the network takes them.
  """

  dataset: build.Dataset
  index: Index
  split: Split
  parts: dict[str, pipeline.Examples]
  training: pipeline.Examples
  notes: tuple[str, ...]
  encoding: metadata.Encoding | None = None


def open_data(
  config: ConfigDict,
  workdir: pathlib.Path,
  inputs: Sequence[str] = ('image',),
) -> Data:
  """Opens (or builds) a data set and splits it.

  Args:
    config: Of the run.
    workdir: The run's folder; its `split.json` is read if it is there.
    inputs: Entries of a batch that the network is called with.

  Raises:
    leaks.LeakError: Two parts share a picture, a lesion or a file, and no
      paper's mode was named.
    ValueError, FileNotFoundError: Data that is not as it should be.
  """
  data = config.data
  dataset = build.open_or_build(
    data.name,
    manual_dir=data.manual_dir,
    data_dir=data.data_dir,
    **data.options.to_dict(),
  )
  index = from_columns(dataset.name, dataset.labels, dataset.columns_by_split())
  split = _split(config, index, workdir / 'split.json')
  found, told = leaks.check(index, split)
  about = f'fold {split.fold} of {split.folds}' if split.folds > 1 else ''
  notes = [dataset.report(), f'split {split.mode} {about} {split.note}', told]
  if found:
    say(f'warning: {told}')
  rows = {part: index.rows(split.images(part)) for part in PARTS}
  if data.dilation >= 0:
    notes.append(
      f'images are black further than {data.dilation} pixels from the lesion'
    )
  _check_masks(config, index, np.concatenate([*rows.values()]))
  encoding, columns = None, {}
  if 'metadata' in inputs:
    ages = index.age[rows['train']]
    encoding = metadata.fit(ages, data.missing_age, index.name)
    columns['metadata'] = encoding(index.age, index.sex, index.site)
    notes += metadata.notes(index.sex, index.site)
  # In the order of the index.
  stored = [p for p in OFFICIAL if p in dataset.sources]
  train = pipeline.Examples(
    pipeline.Chain([dataset.sources[part] for part in stored]),
    rows['train'],
    data.size,
    fit=data.fit,
    dilation=data.dilation,
    columns=columns,
  )
  parts = {part: train.with_rows(rows[part]) for part in PARTS}
  shown = _shown(data.repeats.to_dict(), index, split, rows['train'])
  if len(shown) > len(train):
    notes.append(f'an epoch shows {len(shown):,} images, some several times')
  training = train.with_rows(shown)
  return Data(dataset, index, split, parts, training, tuple(notes), encoding)


def _check_masks(config: ConfigDict, index: Index, rows: np.ndarray) -> None:
  """Raises ValueError if the images at `rows` need masks that are not there.

  What a record has without a mask looks like the mask of an empty image.
  """
  radius, whose = config.data.dilation, "its publisher's"
  if radius >= 0:
    asks = f'data.dilation={radius}'
    whose += ', or what --mode=predict of a network that segments writes'
  elif config.task == 'segmentation':
    asks = f'task={config.task}'
  else:
    return
  bare = np.unique(rows[~index.has_mask[rows]])
  if len(bare) and not index.has_mask.any():
    raise ValueError(
      f'{asks} needs masks of the lesions, but {index.name} has none. Put them '
      f'into data.manual_dir ({whose}), or choose other data.'
    )
  if len(bare):
    raise ValueError(
      f'{asks} needs a mask of every image, but {len(bare)} of the {len(rows)} '
      f'of {index.name} have none: {layout.some(index.image_id[bare])}. Put '
      f'theirs into data.manual_dir ({whose}), or leave these images out by '
      'data.split_file.'
    )


def _shown(
  repeats: Mapping[str, int], index: Index, split: Split, rows: np.ndarray
) -> np.ndarray:
  """Rows of the training images that an epoch shows, some several times."""
  times = oversampling.times(repeats, index.labels, index.name)
  copies = papers.copies(split.mode, index.name)
  if not copies:
    return np.repeat(rows, oversampling.often(index.label[rows], times))
  if repeats and tuple(times) != copies:
    told = ', '.join(map('{} {}'.format, index.labels, copies))
    raise ValueError(
      f'data.split={split.mode!r} has copies of its own ({told}), which '
      f'data.repeats={repeats} contradicts. Leave data.repeats out.'
    )
  return index.rows(split.train)


def _split(config: ConfigDict, index: Index, path: pathlib.Path) -> Split:
  data = config.data
  if path.exists():
    return Split.read(path, index)
  if data.split_file:
    split = Split.read(data.split_file, index)
  else:
    split = folds.make(
      index,
      mode=data.split,
      seed=data.split_seed,
      folds=data.folds,
      fold=config.fold,
      validation=data.validation,
    )
  if data.missing_age == 'drop':
    split = split.without(index.image_id[np.isnan(index.age)], 'unknown age')
  return split
