"""A program is traced by the first process, and found by all others."""

import functools
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_step import SIZE, Net, make_batch, prepare

from jaxderm import fresh_state, inference, optim, sharding, task, traces
from jaxderm import step as step_lib
from jaxderm.checkpoint import Checkpoints

SEGMENTATION = task.segmentation({'name': 'bce_dice'})
FACTOR = 2.0


@pytest.fixture(autouse=True)
def no_folder():
  yield jax.config.update('jax_compilation_cache_dir', None)
  jax.config.update('jax_compilation_cache_dir', None)


@pytest.fixture
def folder(tmp_path):
  """Of traced programs, in that which JAX is told of."""
  jax.config.update('jax_compilation_cache_dir', str(tmp_path))
  return tmp_path / traces.FOLDER


def function(x, tree):
  print('traced')
  return {'y': x * FACTOR, 'list': [tree['a'].sum(), (x,)]}


def call(capsys, x=3.0, a=(1, 2)):
  """What it gives, and whether it was traced; anew, as in a new process."""
  result = jax.jit(traces.recalled(function))(
    jnp.float32(x), {'a': jnp.asarray(a)}
  )
  return result, capsys.readouterr().out.count('traced')


def test_it_is_traced_once(folder, capsys):
  first, times = call(capsys)
  assert times == 1
  again, times = call(capsys, x=4.0)
  assert times == 0
  assert (float(first['y']), float(again['y'])) == (6.0, 8.0)
  assert jax.tree.structure(first) == jax.tree.structure(again)
  assert int(again['list'][0]) == 3
  assert len(list(folder.iterdir())) == 1


def test_what_is_called_otherwise_is_another_program(folder, capsys):
  call(capsys)
  for a in ([1, 2, 3], [1.0, 2.0], [[1, 2]]):
    result, times = call(capsys, a=a)
    assert times == 1
    assert float(result['list'][0]) == np.sum(a)


def test_what_was_changed_is_another_program(folder, capsys, monkeypatch):
  call(capsys)
  monkeypatch.setattr(sys.modules[__name__], 'FACTOR', 5.0)
  result, times = call(capsys)
  assert (float(result['y']), times) == (15.0, 1)


def test_a_setting_of_jax_is_another_program(folder, capsys):
  call(capsys)
  with jax.default_matmul_precision('highest'):
    assert call(capsys)[1] == 1
  assert call(capsys)[1] == 0


@pytest.mark.parametrize('harm', ['cut', 'changed', 'empty', 'folder'])
def test_a_file_that_was_harmed_is_not_used(folder, capsys, harm):
  call(capsys)
  (path,) = folder.iterdir()
  content = bytearray(path.read_bytes())
  content[-9] ^= 1
  path.unlink()
  if harm == 'folder':
    path.mkdir()
  else:
    harmed = {'cut': content[:-1], 'changed': content, 'empty': b''}[harm]
    path.write_bytes(harmed)
  result, times = call(capsys)
  assert float(result['y']) == 6.0
  assert times >= 1
  if harm != 'folder':
    assert call(capsys)[1] == 0


def test_without_a_folder_it_is_traced_as_ever(capsys):
  assert [call(capsys)[1] for _ in range(2)] == [1, 1]


def test_what_has_no_digest_is_traced_as_ever(folder, capsys):
  class Stranger:
    factor = 3.0

  def add(x, stranger):
    print('traced')
    return x * stranger.factor

  for _ in range(2):
    bound = functools.partial(add, stranger=Stranger())
    assert float(jax.jit(traces.recalled(bound))(2.0)) == 6.0
    assert capsys.readouterr().out.count('traced') == 1
  assert not folder.exists()


def test_an_error_is_that_of_the_function(folder):
  def wrong(x):
    return x + jnp.ones(3)

  with pytest.raises(TypeError, match='add got incompatible shapes'):
    jax.jit(traces.recalled(wrong))(jnp.ones(2))


def run_steps(mesh):
  """A fresh state, three steps, an evaluation and a prediction."""
  adam = optim.make_optimizer('adam', schedule=optim.constant(0.01, 1))
  example = {'image': jax.ShapeDtypeStruct((1, SIZE, SIZE, 3), jnp.float32)}
  planned = fresh_state.plan(Net(), SEGMENTATION, adam, example, 3, mesh)
  given = (Net(), SEGMENTATION)
  train = step_lib.make_train_step(*given, adam, prepare, mesh)
  evaluate = step_lib.make_eval_step(*given, prepare, mesh)
  predict = inference.make_predict(*given, prepare, mesh)
  first = state = planned.make()
  batch = sharding.place(make_batch(0), mesh)
  for _ in range(3):
    state, scalars = train(state, batch)
  assert all(x.is_deleted() for x in jax.tree.leaves(first.params))
  columns = evaluate(state.params, state.batch_stats, batch)
  variables = {'params': state.params, 'batch_stats': state.batch_stats}
  member = inference.fold(*given, variables, example)
  state = state.replace(key=jax.random.key_data(state.key))
  return state, scalars, columns, predict(member, batch)


def test_steps_are_the_same_to_the_bit(folder, mesh, monkeypatch):
  jax.config.update('jax_compilation_cache_dir', None)
  want = run_steps(mesh)
  jax.config.update('jax_compilation_cache_dir', str(folder.parent))
  traced = run_steps(mesh)
  # The state, the step, the evaluation, the prediction.
  assert len(list(folder.iterdir())) == 4
  monkeypatch.setattr(traces, '_trace', lambda *args: pytest.fail('traced'))
  found = run_steps(mesh)
  for got in (traced, found):
    assert jax.tree.structure(got) == jax.tree.structure(want)
    jax.tree.map(np.testing.assert_array_equal, got, want)


TRAIN = """
import sys
import small_runs
from jaxderm import train
config = small_runs.config(sys.argv[1], epochs=1)
config.data.resident = sys.argv[3] == 'True'
train.train(config, sys.argv[2])
"""


@pytest.mark.parametrize('resident', [False, True])
def test_the_next_process_traces_nothing(tmp_path, resident):
  seen, trained = [], []
  for run in ('first', 'second'):
    subprocess.run(
      [
        sys.executable,
        '-c',
        TRAIN,
        str(tmp_path),
        str(tmp_path / run),
        str(resident),
      ],
      env=os.environ | {'PYTHONPATH': os.path.dirname(__file__)},
      check=True,
      capture_output=True,
    )
    kept = tmp_path / 'compiled' / traces.FOLDER
    seen.append({p.name: p.stat().st_mtime_ns for p in kept.iterdir()})
    checkpoints = Checkpoints(tmp_path / run / 'checkpoints')
    trained.append(checkpoints.raw()['params'])
  # A state's making, the steps, the evaluation.
  assert len(seen[0]) >= 3
  assert seen[0] == seen[1]
  jax.tree.map(np.testing.assert_array_equal, *trained)
