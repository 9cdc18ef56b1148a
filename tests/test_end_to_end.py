"""A run from the command line: what it leaves, and what can be done with it."""

import csv
import json
import os
import shutil
import subprocess
import sys

import cv2
import numpy as np
import pytest
from programs import ROOT, SMALL, environment, main

from jaxderm import metrics
from jaxderm.data import lesions
from jaxderm.rows import read_rows

SYNTHETIC = [f'--config={ROOT}/configs/synthetic.py', *SMALL]


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  workdir = tmp_path_factory.mktemp('end') / 'run'
  told = main(workdir, '--config.epochs=6', '--config.data.options.n=80')
  return workdir, told


def test_it_tells_what_it_does(run):
  _, told = run
  assert 'yang2021/UNet (487,289 parameters) on synthetic' in told
  assert 'epoch 6  validation  loss' in told
  assert '(best)' in told
  assert 'report.html' in told
  assert 'Traceback' not in told


def test_it_leaves_what_design_promises(run):
  workdir, _ = run
  names = {p.name for p in workdir.iterdir()}
  assert names >= {
    'config.json',
    'split.json',
    'metrics.jsonl',
    'checkpoints',
    'rows.csv',
    'summary.json',
    'report.html',
  }
  events = [json.loads(x) for x in (workdir / 'metrics.jsonl').open()]
  kinds = [e['kind'] for e in events]
  assert kinds.count('validation') == 6
  assert {e['epoch'] for e in events if e['kind'] == 'validation'} == set(
    range(1, 7)
  )
  assert json.loads((workdir / 'config.json').read_text())['epochs'] == 6
  assert '<script' not in (workdir / 'report.html').read_text()


def test_scores_are_those_of_the_rows(run):
  workdir, _ = run
  summary = json.loads((workdir / 'summary.json').read_text())
  rows = read_rows(workdir / 'rows.csv')
  again = metrics.summarise(rows, resamples=50)
  assert summary['per_image'] == pytest.approx(again['per_image'])
  split = json.loads((workdir / 'split.json').read_text())
  assert sorted(r['image_id'] for r in rows) == split['test']
  # Scored at the size of the images (48), not of the network (32).
  assert {r['tp'] + r['fp'] + r['fn'] + r['tn'] for r in rows} == {48 * 48}
  assert summary['run']['images']['test'] == len(rows)
  assert len(summary['run']['data_hash']) == 64


def test_another_part_with_more_views(run, tmp_path):
  workdir, _ = run
  told = main(
    workdir,
    '--mode=evaluate',
    '--split=validation',
    '--checkpoint=latest',
    f'--out={tmp_path / "out"}',
    '--config.epochs=6',
    '--config.data.options.n=80',
    "--config.evaluate.views=('identity','hflip','vflip','rot180')",
  )
  assert 'validation: ' in told
  summary = json.loads((tmp_path / 'out' / 'summary.json').read_text())
  assert summary['run']['part'] == 'validation'
  assert len(summary['run']['views']) == 4
  split = json.loads((workdir / 'split.json').read_text())
  rows = read_rows(tmp_path / 'out' / 'rows.csv')
  assert sorted(r['image_id'] for r in rows) == split['validation']


def test_a_checkpoint_that_is_not_there(run):
  told = main(
    run[0],
    '--mode=evaluate',
    '--checkpoint=3',
    config=None,
    small=False,
    expect=2,
  )
  assert "there are 'latest', 'best' and the steps" in told


@pytest.fixture(scope='module')
def predicted(run, tmp_path_factory):
  """Images of many kinds, one of them no image, through --mode=predict."""
  folder = tmp_path_factory.mktemp('predict')
  images, out = folder / 'images', folder / 'out'
  images.mkdir()
  drawn, mask = lesions.draw(1, 7, 96)
  wide = cv2.resize(drawn[..., ::-1], (130, 71))
  cv2.imwrite(str(images / 'wide.jpg'), wide)
  cv2.imwrite(str(images / 'wide.png'), wide)
  cv2.imwrite(str(images / 'grey.png'), cv2.cvtColor(wide, cv2.COLOR_BGR2GRAY))
  encoded = cv2.imencode('.png', drawn[..., ::-1])[1].tobytes()
  (images / 'läsion 1.PNG').write_bytes(encoded)
  (images / 'broken.png').write_bytes(encoded[:100])
  photo = cv2.imencode('.jpg', drawn)[1].tobytes()
  (images / 'cut.jpg').write_bytes(photo[: len(photo) // 2])
  (images / 'text.jpg').write_text('not an image')
  (images / 'empty.bmp').write_bytes(b'')
  (images / 'notes.txt').write_text('to be left alone')
  told = main(
    run[0],
    '--mode=predict',
    f'--images={images}',
    f'--out={out}',
    config=None,
    small=False,
    expect=1,
  )
  with (out / 'predictions.csv').open() as file:
    return told, {r['image']: r for r in csv.DictReader(file)}, out, mask


def test_every_image_has_a_row_and_the_bad_are_named(predicted):
  told, rows, _, _ = predicted
  good = {'wide.jpg', 'wide.png', 'grey.png', 'läsion 1.PNG'}
  bad = {'broken.png', 'cut.jpg', 'text.jpg', 'empty.bmp'}
  assert set(rows) == good | bad
  assert {k for k, r in rows.items() if r['status'] == 'ok'} == good
  for name in bad:
    assert name in told
  assert '4 of 8' in told


def test_masks_have_the_size_of_their_image(predicted):
  _, rows, out, true = predicted
  for name, size in [('wide.jpg', (71, 130)), ('läsion 1.PNG', (96, 96))]:
    row = rows[name]
    data = np.fromfile(out / row['mask'], np.uint8)
    mask = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    assert mask.shape == size
    assert set(np.unique(mask)) <= {0, 255}
    assert int(row['area']) == (mask > 0).sum()
    assert (int(row['height']), int(row['width'])) == size
    inside = mask[
      int(row['top']) : int(row['top']) + int(row['box_height']),
      int(row['left']) : int(row['left']) + int(row['box_width']),
    ]
    assert (inside > 0).sum() == (mask > 0).sum()
    assert 0.5 <= float(row['mean_confidence']) <= 1
    assert (out / row['overlay']).stat().st_size > 0
  assert true.shape == (96, 96)
  assert rows['wide.jpg']['mask'] != rows['wide.png']['mask']


def test_the_notebook_runs_top_to_bottom(tmp_path):
  import nbclient
  import nbformat

  path = ROOT / 'colab' / 'quickstart.ipynb'
  notebook = nbformat.read(path, as_version=4)
  client = nbclient.NotebookClient(
    notebook,
    timeout=300,
    kernel_name='python3',
    resources={'metadata': {'path': str(tmp_path)}},
  )
  os.environ['JAXDERM_SMALL'] = '1'
  try:
    client.execute()
  finally:
    del os.environ['JAXDERM_SMALL']
  shown = json.dumps([c.get('outputs', []) for c in notebook.cells])
  assert 'text/html' in shown
  assert 'image/png' in shown
  assert (tmp_path / 'predictions' / 'predictions.csv').exists()


@pytest.mark.parametrize(
  'flags, told',
  [
    (['--config.epoch=3'], 'Did you mean epochs?'),
    (['--config.data.name=ph3'], 'ph2'),
    (['--config.model.system=yang2021/UNt'], "'yang2021/UNet'"),
    (['--config.loss.name=dise'], 'soft_dice'),
    (['--config.optim.name=adm'], 'adam'),
    (['--config.data.split=official'], 'grouped'),
    ([f'--config={ROOT}/configs/ph2_unetpp.py:UNet'], 'Fill in the form'),
    (
      [
        f'--config={ROOT}/configs/ph2_unetpp.py:UNet',
        '--config.data.manual_dir=/nowhere',
      ],
      '/nowhere',
    ),
    (['--config.optim.schedule.powr=2'], 'powr'),
    (
      ['--config.model.changes.activation=mish'],
      '--set=model.changes.activation=VALUE',
    ),
    (['--set=model.changes.activation=mich'], 'mish'),
    (['--config.task=segmentaton'], 'segmentation'),
    (['--config.data.colour=gray'], 'grey_world'),
    (['--config.precision=float16'], 'bfloat16'),
    (['--config.optim.learning_rate=0.0'], 'must be above 0'),
    (['--config.monitor.name=dicee'], 'dice'),
    (["--config.evaluate.views=('identity','sideways')"], 'hflip'),
    (['--workdir=/proc/nothing/run'], 'cannot be written'),
  ],
)
def test_wrong_values_are_told_in_one_message(flags, told, tmp_path):
  """`error: ...`, status 2, no traceback, and no run is begun."""
  done = subprocess.run(
    [
      sys.executable,
      '-m',
      'jaxderm.main',
      *flags[: '.py' in flags[0]],
      *([] if '.py' in flags[0] else SYNTHETIC),
      f'--workdir={tmp_path / "run"}',
      f'--config.data.data_dir={tmp_path / "data"}',
      *flags['.py' in flags[0] :],
    ],
    env=environment(),
    cwd=ROOT,
    capture_output=True,
    text=True,
    timeout=120,
    check=False,
  )
  assert done.returncode == 2, done.stdout + done.stderr
  assert done.stderr.strip().splitlines()[-1]
  assert 'error: ' in done.stderr
  assert told in done.stderr
  assert 'Traceback' not in done.stderr
  assert not (tmp_path / 'run' / 'config.json').exists()
  assert not (tmp_path / 'run' / 'checkpoints').exists()


def test_a_loss_that_is_no_number_stops_the_run(tmp_path):
  told = main(tmp_path / 'run', '--config.optim.learning_rate=1e30', expect=2)
  assert 'not finite at step' in told
  assert 'Traceback' not in told


def test_a_full_disk_is_found_before_training(monkeypatch, tmp_path):
  import jax
  import jax.numpy as jnp

  from jaxderm import step, workdirs

  usage = shutil.disk_usage(tmp_path)
  monkeypatch.setattr(
    shutil, 'disk_usage', lambda _: usage._replace(free=100 << 20)
  )
  small = {'w': jnp.zeros(10)}
  zero = jnp.zeros(())
  state = step.TrainState(zero, small, {}, (), jax.random.key(0), zero, zero)
  workdirs.check_space(tmp_path, state)
  with pytest.raises(OSError, match='100 MiB free'):
    workdirs.check_space(
      tmp_path, state.replace(params={'w': jnp.zeros(4_000_000)})
    )


def test_a_users_folder_and_a_planted_leak(tmp_path):
  """Own images train; a split that cuts a lesion in two does not."""
  for i in range(20):
    image, mask = lesions.draw(5, i, 40)
    for kind, picture in (('images', image[..., ::-1]), ('masks', mask * 255)):
      path = tmp_path / 'mine' / kind / f'mole{i:02}.png'
      path.parent.mkdir(parents=True, exist_ok=True)
      cv2.imwrite(str(path), picture)
  ids = [f'mole{i:02}' for i in range(20)]
  rows = [f'{name},nevus,lesion{i // 2}' for i, name in enumerate(ids)]
  table = '\n'.join(['image_id,label,lesion_id', *rows])
  (tmp_path / 'mine' / 'labels.csv').write_text(table)
  flags = [
    f'--config.data.manual_dir={tmp_path / "mine"}',
    f'--config.data.data_dir={tmp_path / "data"}',
    '--config.data.size=32',
    '--config.data.batch_size=4',
    '--config.epochs=1',
    '--config.evaluate.resamples=20',
  ]
  how = {'config': 'configs/folder.py:yang2021/UNet', 'small': False}
  told = main(tmp_path / 'run', *flags, **how)
  assert 'folder: 20 images' in told
  split = json.loads((tmp_path / 'run' / 'split.json').read_text())
  # mole00 and mole01 show lesion0.
  split |= {
    'train': ids[1:16],
    'validation': ids[16:18],
    'test': [ids[0], *ids[18:]],
    'mode': 'mine',
  }
  (tmp_path / 'split.json').write_text(json.dumps(split))
  planted = f'--config.data.split_file={tmp_path / "split.json"}'
  told = main(tmp_path / 'leaky', *flags, planted, expect=2, **how)
  assert 'mole00' in told
  assert 'mole01' in told
  assert 'lesion' in told
  assert not (tmp_path / 'leaky' / 'config.json').exists()
