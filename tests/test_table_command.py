"""`python -m jaxderm.tables` on real files: trained, killed, gone on."""

import csv
import json
import signal
import subprocess
import sys
import time

import publishers
import pytest
from programs import ROOT, environment

from jaxderm.tables.__main__ import main


@pytest.fixture(scope='module')
def ph2(tmp_path_factory):
  """Twenty drawn pictures in the folders of PH2."""
  root = tmp_path_factory.mktemp('ph2')
  ids = [f'IMD{k:03d}' for k in range(20)]
  publishers.ph2(root, ids)
  head = '||   Name || Histological Diagnosis || Clinical Diagnosis ||'
  lines = [f'|| {i} ||                ||                  0 ||' for i in ids]
  text = '\n'.join([head, *lines, '', 'Legends for Clinical Diagnosis: '])
  (root / 'PH2Dataset' / 'PH2_dataset.txt').write_text(text)
  return root


def words(ph2, out, *more):
  changes = {
    'data.size': 32,
    'data.batch_size': 4,
    'data.data_dir': str(ph2 / 'built'),
    'data.augment': {},
    'evaluate.resamples': 20,
    'epochs': 8,
    'compilation_cache': str(ph2 / 'compiled'),
  }
  return [
    *('yang2021', '--table=4', f'--configs={ROOT / "configs"}'),
    *(f'--set={key}={value}' for key, value in changes.items()),
    *(f'--manual_dir={ph2}', f'--out={out}', '--rows=UNet'),
    *('--protocols=paper,honest', '--seeds=0', '--folds=0', *more),
  ]


def start_and_kill(ph2, out, log_path):
  """Kills the command in the training of its first row."""
  command = [sys.executable, '-m', 'jaxderm.tables', *words(ph2, out)]
  with log_path.open('w') as log:
    process = subprocess.Popen(
      command, env=environment(), cwd=ROOT, stdout=log, stderr=log
    )
    deadline = time.monotonic() + 240
    while not any(
      path.stat().st_size for path in out.glob('runs/*/seed*/metrics.jsonl')
    ):
      assert time.monotonic() < deadline, log_path.read_text()
      assert process.poll() is None, log_path.read_text()
      time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()


def listed(ph2, out, capsys):
  """What each run is, 'there' or 'to do'."""
  capsys.readouterr()
  assert main(words(ph2, out, '--list')) == 0
  return [x.split('  ')[0] for x in capsys.readouterr().out.splitlines()]


def test_a_table_that_is_killed_goes_on(ph2, tmp_path, capsys):
  out, whole = tmp_path / 'killed', tmp_path / 'whole'
  start_and_kill(ph2, out, tmp_path / 'log')
  assert not list(out.glob('*.csv'))
  assert listed(ph2, out, capsys) == ['to do'] * 2
  tables = []
  for folder in (out, whole):
    assert main(words(ph2, folder)) == 0
    with (folder / 'yang2021_table4_ph2.csv').open() as file:
      tables.append(list(csv.DictReader(file)))
  assert listed(ph2, out, capsys) == ['there'] * 2
  for table in tables:
    assert [r['protocol'] for r in table] == ['printed', 'paper', 'honest']
    assert [r['members'] for r in table] == ['', '1', '1']
    assert table[0]['Dice'] == '0.89'
    assert {r['parameters'] for r in table[1:]} == {'487289'}
    for record in table:
      record.pop('images_per_second')
  assert tables[0] == tables[1]
  page = (out / 'yang2021_table4_ph2.md').read_text()
  assert '**Not as in the paper**: data.size=32' in page
  # Done: nothing is trained or evaluated again.
  summaries = sorted(out.rglob('summary.json'))
  times = [path.stat().st_mtime_ns for path in summaries]
  assert main(words(ph2, out)) == 0
  assert [path.stat().st_mtime_ns for path in summaries] == times
  scored = {json.loads(x.read_text())['run']['scored_at'] for x in summaries}
  assert scored == {
    "each image's own size",
    "the network's size, 32 x 32 pixels",
  }


@pytest.mark.parametrize(
  'more, message',
  [
    ('--rows=UNett', "--rows has 'UNett'; the table has"),
    ('--set=data.sise=3', '--set data.sise: no such key'),
    ('--set=data.size', '--set data.size: expected KEY=VALUE'),
    ('--protocols=best', "--protocols has 'best'; it takes paper and honest"),
    ('--configs=nowhere', 'nowhere/ph2_unetpp.py: no such config'),
  ],
)
def test_errors_of_the_command(more, message, tmp_path, capsys):
  assert main(words(tmp_path, tmp_path, '--list', more)) == 2
  assert message in capsys.readouterr().err
