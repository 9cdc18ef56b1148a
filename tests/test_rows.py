"""Rows on disk: nothing is lost, changed or guessed."""

import csv

import numpy as np
import pytest
from made_rows import some_rows

from jaxderm import metrics, rows


def test_rows_come_back_as_they_were(tmp_path):
  table = some_rows(5)
  odd = ['007', 'a,b', 'say "x"', 'line\nbreak', 'ünï']
  for r, name in zip(table, odd, strict=True):
    r |= {'image_id': name, 'hausdorff': 1 / 3, 'height': 560, 'site': ''}
  path = tmp_path / 'rows.csv'
  metrics.write_rows(path, table)
  assert metrics.read_rows(path) == table
  assert [p.name for p in tmp_path.iterdir()] == ['rows.csv']
  by_column = {k: np.array([r[k] for r in table]) for k in table[0]}
  metrics.write_rows(path, by_column)
  assert metrics.read_rows(path) == table
  with path.open(newline='') as file:
    assert next(csv.reader(file)) == list(table[0])


def test_text_that_looks_like_numbers_is_refused_and_nothing_is_lost(tmp_path):
  path = tmp_path / 'rows.csv'
  metrics.write_rows(path, some_rows(3))
  before = path.read_bytes()
  for code in ('00{}', 'nan', 'a\r{}'):
    table = [r | {'code': code.format(i)} for i, r in enumerate(some_rows(3))]
    with pytest.raises(ValueError, match="'code' (would not|has a carr)"):
      rows.write_rows(path, table)
  assert path.read_bytes() == before


def test_broken_file_is_named(tmp_path):
  path = tmp_path / 'rows.csv'
  with pytest.raises(FileNotFoundError, match=r'rows\.csv'):
    metrics.read_rows(path)
  metrics.write_rows(path, some_rows(3))
  path.write_text(path.read_text()[:-30])
  with pytest.raises(ValueError, match=r'rows\.csv: row 3'):
    metrics.read_rows(path)
