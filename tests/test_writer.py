"""What a run tells: lines that survive a kill, numbers that are JSON."""

import json
import pathlib
import struct

import pytest

from jaxderm import writer
from jaxderm.writer import MetricWriter


def line(step, **scalars):
  return json.dumps({'step': step, 'kind': 'train'} | scalars) + '\n'


def steps(workdir):
  lines = (workdir / 'metrics.jsonl').read_text().splitlines()
  return [json.loads(x)['step'] for x in lines]


def open_and_close(workdir, start):
  MetricWriter(workdir, start).close()


def test_lines_past_the_restart_go(tmp_path):
  path = tmp_path / 'metrics.jsonl'
  path.write_text(''.join(line(k, loss=k / 2) for k in (1, 5, 10, 11, 15)))
  kept = path.read_text().splitlines()[:3]
  made = MetricWriter(tmp_path, 10)
  assert path.read_text().splitlines() == kept  # at once, unchanged
  made.write(11, 1.1, 'train', {'loss': 0.25})
  made.close()
  assert steps(tmp_path) == [1, 5, 10, 11]


def test_a_fresh_run_in_an_old_folder_starts_anew(tmp_path):
  (tmp_path / 'metrics.jsonl').write_text(line(1) + line(2))
  open_and_close(tmp_path, 0)
  assert steps(tmp_path) == []


def test_a_new_run_begins_with_an_empty_file(tmp_path):
  made = MetricWriter(tmp_path, 0)
  assert (tmp_path / 'metrics.jsonl').read_text() == ''
  made.close()


@pytest.mark.parametrize('keep', range(1, len(line(3, loss=0.5)) - 1))
def test_a_half_written_line_goes(keep, tmp_path, monkeypatch):
  monkeypatch.setitem(__import__('sys').modules, 'tensorboardX', None)
  half = line(3, loss=0.5)[:keep]
  (tmp_path / 'metrics.jsonl').write_text(line(1) + line(2) + half)
  made = MetricWriter(tmp_path, 10)
  made.write(3, 0.5, 'train', {'loss': 1.0})
  made.close()
  assert steps(tmp_path) == [1, 2, 3]


def test_a_whole_line_without_its_end_is_kept(tmp_path):
  (tmp_path / 'metrics.jsonl').write_text(line(1) + line(2).rstrip('\n'))
  made = MetricWriter(tmp_path, 10)
  made.write(3, 0.5, 'train', {})
  made.close()
  assert steps(tmp_path) == [1, 2, 3]


def test_an_event_by_hand(tmp_path):
  made = MetricWriter(tmp_path, 0)
  made.write(7, 1 / 3, 'validation', {'loss': 0.5, 'dice': 1})
  # At once, so that a killed run has told what it knew.
  (only,) = (tmp_path / 'metrics.jsonl').read_text().splitlines()
  made.close()
  assert json.loads(only) == {
    'step': 7,
    'epoch': 0.3333,
    'kind': 'validation',
    'loss': 0.5,
    'dice': 1.0,
  }


@pytest.mark.parametrize('bad', ['nan', 'inf', '-inf'])
def test_what_is_not_finite_is_null(bad, tmp_path):
  made = MetricWriter(tmp_path, 0)
  made.write(1, 0.1, 'train', {'loss': float(bad), 'rate': 0.5})
  made.close()

  def refuse(name):
    raise AssertionError(f'{name} is no JSON')

  text = (tmp_path / 'metrics.jsonl').read_text()
  event = json.loads(text, parse_constant=refuse)
  assert event['loss'] is None
  assert event['rate'] == 0.5


def test_other_processes_write_nothing(tmp_path, monkeypatch):
  monkeypatch.setattr(writer.jax, 'process_index', lambda: 1)
  made = MetricWriter(tmp_path, 0)
  made.write(1, 0.1, 'train', {'loss': 1.0})
  made.close()
  assert list(tmp_path.iterdir()) == []


def test_one_process_speaks(capsys, monkeypatch):
  writer.say('first')
  monkeypatch.setattr(writer.jax, 'process_index', lambda: 1)
  writer.say('second')
  assert capsys.readouterr().out == 'first\n'


# ------------------------------------------------------------- whole files


def test_text_is_replaced(tmp_path):
  path = tmp_path / 'a.json'
  writer.replace_text(path, 'one')
  writer.replace_text(path, 'two')
  assert path.read_text() == 'two'
  assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_leaves_what_was_there(tmp_path, monkeypatch):
  path = tmp_path / 'config.json'
  writer.write_json(path, {'a': 1})
  before = path.read_bytes()

  def half(self, text, *args, **kwargs):
    with self.open('w') as file:
      file.write(text[: len(text) // 2])
    raise OSError(28, 'No space left on device')

  monkeypatch.setattr(pathlib.Path, 'write_text', half)
  with pytest.raises(OSError, match='No space'):
    writer.write_json(path, {'a': 2, 'b': 3})
  assert path.read_bytes() == before


def test_json_is_for_people_too(tmp_path):
  path = tmp_path / 'a.json'
  writer.write_json(path, {'b': 1, 'a': {'c': [1, 2]}})
  text = path.read_text()
  assert json.loads(text) == {'a': {'c': [1, 2]}, 'b': 1}
  assert text.startswith('{\n  "a"')
  assert text.endswith('\n}\n')


# --------------------------------------------------------------- TensorBoard


def events(workdir):
  """Scalars of event files, read as TensorBoard does: length, checksums, proto."""
  event_pb2 = pytest.importorskip('tensorboardX.proto.event_pb2')
  found = []
  for path in sorted(workdir.glob('events.out.tfevents.*')):
    data, at = path.read_bytes(), 0
    while at < len(data):
      (length,) = struct.unpack_from('<Q', data, at)
      event = event_pb2.Event.FromString(data[at + 12 : at + 12 + length])
      found += [
        (event.step, value.tag, value.simple_value)
        for value in event.summary.value
      ]
      at += 12 + length + 4
  return found


def test_tensorboard_sees_the_same(tmp_path):
  pytest.importorskip('tensorboardX')
  made = MetricWriter(tmp_path, 0)
  made.write(4, 1.0, 'train', {'loss': 0.5, 'rate': float('nan')})
  made.write(4, 1.0, 'validation', {'dice': 0.75})
  made.close()
  assert events(tmp_path) == [
    (4, 'train/loss', 0.5),
    (4, 'validation/dice', 0.75),
  ]


def test_tensorboard_purges_what_was_past_the_restart(tmp_path):
  event_pb2 = pytest.importorskip('tensorboardX.proto.event_pb2')
  open_and_close(tmp_path, 6)
  (path,) = tmp_path.glob('events.out.tfevents.*')
  data, at, starts = path.read_bytes(), 0, []
  while at < len(data):
    (length,) = struct.unpack_from('<Q', data, at)
    event = event_pb2.Event.FromString(data[at + 12 : at + 12 + length])
    if event.session_log.status == event_pb2.SessionLog.START:
      starts.append(event.step)
    at += 12 + length + 4
  assert starts == [7]


def test_without_tensorboard_the_lines_are_there(tmp_path, monkeypatch):
  monkeypatch.setitem(__import__('sys').modules, 'tensorboardX', None)
  made = MetricWriter(tmp_path, 0)
  made.write(1, 0.1, 'train', {'loss': 1.0})
  made.close()
  assert [p.name for p in tmp_path.iterdir()] == ['metrics.jsonl']
  assert steps(tmp_path) == [1]
