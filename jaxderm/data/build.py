r"""Builds data sets and opens them.

  python -m jaxderm.data.build --dataset=ph2 --manual_dir=/data/ph2
  python -m jaxderm.data.build --dataset=synthetic --n=512 --size=128

A built data set is a folder `<data_dir>/<name>-<fingerprint>` that tfds reads,
too. The fingerprint is of the source files' names, sizes and times (or of the
arguments, for drawn images), so that changed files are built anew.
"""

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import tensorflow_datasets as tfds

from jaxderm.data import (
  folder,
  ham10000,
  isic2016,
  isic2017,
  isic2018,
  ph2,
  record,
  synthetic,
)
from jaxderm.data.builder import LesionBuilder
from jaxderm.data.dataset import Dataset, open_built

DATASETS: dict[str, type[LesionBuilder]] = {
  builder.name: builder
  for builder in (
    ph2.Ph2,
    isic2016.Isic2016Part1,
    isic2016.Isic2016Part3,
    isic2017.Isic2017Part1,
    isic2017.Isic2017Part3,
    isic2018.Isic2018Task1,
    isic2018.Isic2018Task3,
    ham10000.Ham10000,
    synthetic.Synthetic,
    folder.Folder,
  )
}
_UNFINISHED = '.building-'


def open_or_build(
  name: str,
  manual_dir: str | os.PathLike | None = None,
  data_dir: str | os.PathLike | None = None,
  **options,
) -> Dataset:
  """Opens a data set; builds it first where that is not done.

  Args:
    name: In `DATASETS`.
    manual_dir: Folder with the publisher's files. Without it, the only copy
      of `name` in `data_dir` is opened.
    data_dir: Where built data sets are; $JAXDERM_DATA_DIR or
      ~/.cache/jaxderm if not given.
    **options: Fields of the builder's `OPTIONS`.

  Raises:
    FileNotFoundError: There is nothing to open or to build from.
    ValueError: A name is unknown, or the files are not as published.
  """
  builder = _find_builder(name)
  chosen = _choose_options(builder, options)
  data_dir = Path(
    data_dir or os.environ.get('JAXDERM_DATA_DIR') or '~/.cache/jaxderm'
  )
  data_dir = data_dir.expanduser().absolute()
  if builder.NEEDS_FILES and not manual_dir:
    if options:
      raise ValueError(
        f'{name}: the options {", ".join(options)} need manual_dir, the folder '
        'to build from. Give it, or leave the options out.'
      )
    return open_built(_only_copy(builder, data_dir))
  if manual_dir and not builder.NEEDS_FILES:
    raise ValueError(
      f'{name}: needs no files, but manual_dir={manual_dir} was given. Leave '
      'it out.'
    )
  root = _existing(builder, Path(manual_dir)) if manual_dir else None
  listing = builder.listing(root, chosen)
  path = data_dir / f'{name}-{_fingerprint(builder, listing, chosen)}'
  if not path.exists():
    _build(builder, root, chosen, path)
  return open_built(path)


def _find_builder(name: str) -> type[LesionBuilder]:
  if name not in DATASETS:
    raise ValueError(
      f'There is no data set {name!r}; those there are: {", ".join(DATASETS)}.'
    )
  return DATASETS[name]


def _choose_options(builder: type[LesionBuilder], options: Mapping):
  fields = dataclasses.fields(builder.OPTIONS) if builder.OPTIONS else ()
  names = [field.name for field in fields]
  if wrong := [name for name in options if name not in names]:
    raise ValueError(
      f'{builder.name} has no option {", ".join(wrong)}; its options: '
      f'{", ".join(names) or "none"}.'
    )
  return builder.OPTIONS(**options) if builder.OPTIONS else None


def _existing(builder: type[LesionBuilder], root: Path) -> Path:
  """The folder itself, if it is one and has something in it."""
  root = root.expanduser().absolute()
  if not root.is_dir() or not any(root.iterdir()):
    wrong = 'is empty' if root.is_dir() else 'is not a folder that exists'
    raise FileNotFoundError(
      f'{builder.name}: manual_dir {root} {wrong}. {builder.HOW_TO_GET}'
    )
  return root


def _fingerprint(
  builder: type[LesionBuilder], listing: record.Listing, options: Any
) -> str:
  """12 hex digits that change with the source files or the arguments."""
  facts = [builder.name, str(builder.VERSION), repr(options)]
  for file in listing.files():
    about = file.stat()
    name = os.path.relpath(file, listing.root)
    facts.append((name, about.st_size, about.st_mtime_ns))
  return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:12]


def _only_copy(builder: type[LesionBuilder], data_dir: Path) -> Path:
  """The one built copy there is."""
  copies = [
    info.parent
    for info in sorted(data_dir.glob(f'{builder.name}-*/dataset_info.json'))
    if json.loads(info.read_text())['version'] == str(builder.VERSION)
  ]
  if not copies:
    raise FileNotFoundError(
      f'{builder.name} is not built in {data_dir}. {builder.HOW_TO_GET} Then '
      f'run: python -m jaxderm.data.build --dataset={builder.name} '
      f'--manual_dir=FOLDER --data_dir={data_dir}'
    )
  if len(copies) > 1:
    raise ValueError(
      f'{builder.name} is built {len(copies)} times: '
      f'{", ".join(map(str, copies))}. Give manual_dir to say from which files, '
      'or remove all folders but one.'
    )
  return copies[0]


@contextlib.contextmanager
def _alone(data_dir: Path) -> Iterator[bool]:
  """One builder at a time in a folder; a killed one lets go of it by itself.

  Yields:
    Whether it is certain: some network file systems cannot lock.
  """
  handle = os.open(data_dir, os.O_RDONLY)
  try:
    try:
      fcntl.flock(handle, fcntl.LOCK_EX)
      certain = True
    except OSError:
      certain = False
    yield certain
  finally:
    os.close(handle)


def _build(
  builder: type[LesionBuilder],
  root: Path | None,
  options: Any,
  path: Path,
) -> None:
  """Builds beside the final place and moves it there when it is whole."""
  path.parent.mkdir(parents=True, exist_ok=True)
  cv2.setNumThreads(0)  # several images at a time instead
  tfds.disable_progress_bar()  # it counts shards; ours counts images
  with _alone(path.parent) as certain:
    if path.exists():  # another process was faster
      return
    for left in path.parent.glob(f'{_UNFINISHED}*') if certain else ():
      shutil.rmtree(left, ignore_errors=True)
    print(f'{builder.name}: licence: {builder.LICENCE}', flush=True)
    place = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=path.parent))
    try:
      made = builder(data_dir=place, options=options)
      made.download_and_prepare(
        download_config=tfds.download.DownloadConfig(manual_dir=root)
      )
      try:
        os.rename(made.data_dir, path)
      except OSError:
        if not path.exists():
          raise
    finally:
      shutil.rmtree(place, ignore_errors=True)


def _define_flags() -> None:
  from absl import flags

  flags.DEFINE_enum('dataset', None, list(DATASETS), 'Which data set.')
  flags.DEFINE_string('manual_dir', None, "Folder of the publisher's files.")
  flags.DEFINE_string('data_dir', None, 'Where built data sets are.')
  flags.mark_flag_as_required('dataset')
  for builder in DATASETS.values():
    for field in dataclasses.fields(builder.OPTIONS) if builder.OPTIONS else ():
      define = {int: flags.DEFINE_integer, str: flags.DEFINE_string}[field.type]
      about = f'Of {builder.name}; {field.default} if not given.'
      define(field.name, None, about)


def _option_flags() -> Iterator[str]:
  for builder in DATASETS.values():
    for field in dataclasses.fields(builder.OPTIONS) if builder.OPTIONS else ():
      yield field.name


def main(argv: Sequence[str]) -> None:
  """Builds what the flags say and reports it."""
  from absl import flags, logging

  logging.set_verbosity(logging.WARNING)  # tfds tells where its folders are

  if len(argv) > 1:
    sys.exit(f'error: {argv[1]!r} is no flag; write --dataset=NAME and so on.')
  values = flags.FLAGS
  given = {n: values[n].value for n in _option_flags()}
  options = {n: v for n, v in given.items() if v is not None}
  try:
    dataset = open_or_build(
      values.dataset, values.manual_dir, values.data_dir, **options
    )
  except (ValueError, OSError) as e:
    sys.exit(f'error: {e}')
  print(dataset.report())


if __name__ == '__main__':
  from absl import app

  _define_flags()
  app.run(main)
