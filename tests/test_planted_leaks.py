"""What must not be on two sides of a split stops a run before it starts."""

import csv
import json

import cv2
import numpy as np
import pytest
import small_runs

from jaxderm import experiment, train
from jaxderm.data import folds, leaks, lesions

COUNT = 12
# Image of the test set, image of the training set that shows the same thing.
PLANTED = {
  'same lesion': ('i00', 'i01'),
  'same file': ('i02', 'copy'),
  'near-duplicate': ('i03', 'flipped'),
}


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """Drawn lesions, two views of one, a copied file and a flipped picture."""
  root = tmp_path_factory.mktemp('folder')
  drawn = {f'i{k:02d}': lesions.draw(3, 5 * k, 96) for k in range(COUNT)}
  drawn['copy'] = drawn['i02']
  drawn['flipped'] = tuple(x[:, ::-1] for x in drawn['i03'])
  for name, (image, mask) in drawn.items():
    for part, pixels in (('images', image[..., ::-1]), ('masks', mask)):
      (root / part).mkdir(exist_ok=True)
      scale = 255 if part == 'masks' and mask.max() == 1 else 1
      path = str(root / part / f'{name}.png')
      assert cv2.imwrite(path, np.ascontiguousarray(pixels) * np.uint8(scale))
  with (root / 'labels.csv').open('w', newline='') as file:
    table = csv.writer(file)
    table.writerow(['image_id', 'label', 'lesion_id'])
    for name in drawn:
      lesion = 'one' if name in ('i00', 'i01') else f'L{name}'
      table.writerow([name, 'nevus', lesion])
  return root


@pytest.fixture(scope='module')
def opened(folder, tmp_path_factory):
  """The config, and the data under the honest split."""
  root = tmp_path_factory.mktemp('built')
  config = small_runs.config(root)
  config.data.name, config.data.options = 'folder', dict()
  config.data.manual_dir = str(folder)
  return config, experiment.open_data(config, root / 'nowhere')


def spoiled(opened, path, planted):
  """A config whose split has some images on the test side."""
  config, data = opened
  config = config.copy_and_resolve_references()
  names = sorted(data.index.image_id)
  sides = [pair for kind, pair in PLANTED.items() if kind != planted]
  together = [name for pair in sides for name in pair]  # all of them train
  test = [PLANTED[planted][0]] if planted else []
  held = [n for n in names if n not in sum(PLANTED.values(), ())][:3]
  test += held[1:]
  kept = {
    'train': [n for n in names if n not in test + held[:1]],
    'validation': held[:1],
    'test': test,
  }
  assert set(together) <= set(kept['train'])
  content = vars(data.split) | kept
  path.write_text(json.dumps(content))
  config.data.split_file = str(path)
  return config


@pytest.mark.parametrize('kind', PLANTED)
def test_a_planted_leak_stops_a_run(kind, opened, tmp_path):
  config = spoiled(opened, tmp_path / 'split.json', kind)
  one, other = PLANTED[kind]
  with pytest.raises(leaks.LeakError) as error:
    train.train(config, tmp_path / 'run')
  assert f'train/test: {other} and {one} ({kind})' in str(error.value)
  assert 'has 1 pairs of images of one thing' in str(error.value)
  assert not (tmp_path / 'run' / 'config.json').exists()


def test_without_them_it_would_go_on(opened, tmp_path):
  config = spoiled(opened, tmp_path / 'split.json', None)
  experiment.open_data(config, tmp_path)


def test_the_honest_split_keeps_them_together(opened):
  _, data = opened
  group = folds.groups(data.index)
  for one, other in PLANTED.values():
    a, b = data.index.rows([one, other])
    assert group[a] == group[b]
  assert len(set(group.tolist())) == COUNT - 1
