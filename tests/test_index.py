"""An index: its order, its columns, and what it refuses."""

import numpy as np
import pytest
from indices import bits

from jaxderm.data import index


def test_an_index_has_train_before_test_and_reads_hashes():
  pictures = bits(3)
  data = index.from_columns(
    'two',
    ['a'],
    {
      'test': {'image_id': [b'x'], 'label': [0], 'phash': pictures[:1]},
      'train': {
        'image_id': ['z', 'y'],
        'label': [-1, 0],
        'phash': [np.packbits(b).tobytes().hex() for b in pictures[1:]],
      },
    },
  )
  assert data.image_id.tolist() == data.lesion_id.tolist() == ['z', 'y', 'x']
  assert data.official.tolist() == ['train', 'train', 'test']
  assert np.array_equal(data.phash, pictures[[1, 2, 0]])
  assert np.isnan(data.age).all()
  assert data.rows(['y', 'x']).tolist() == [1, 2]


@pytest.mark.parametrize(
  'columns, told',
  [
    (
      {'image_id': ['x', 'x'], 'label': [0, 0]},
      'occur more than once, first x',
    ),
    ({'image_id': ['x', 'y'], 'label': [0]}, "'label' has shape"),
    ({'image_id': ['x'], 'label': [2]}, 'labels go from -1'),
    ({'image_id': ['x'], 'label': [-2]}, 'labels go from -1'),
    ({'image_id': ['x']}, "column 'label' is missing"),
    ({'image_id': ['x'], 'label': [0], 'phash': ['ab']}, '64 hexadecimal'),
  ],
)
def test_an_index_refuses_what_cannot_be(columns, told):
  with pytest.raises(ValueError, match=told):
    index.from_columns('bad', ['a', 'b'], {'train': columns})
  with pytest.raises(ValueError, match='parts are named'):
    index.from_columns('bad', ['a', 'b'], {'trian': columns})
