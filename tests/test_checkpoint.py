"""Which states of a run are kept, and what is said about those that are not."""

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxderm.checkpoint import Checkpoints, load_json
from jaxderm.control import Progress, Rules, advance


class State(flax.struct.PyTreeNode):
  step: jax.Array
  params: dict


def state(step):
  return State(jnp.int32(step), {'w': jnp.full(3, float(step))})


def save(directory, values, mode='max'):
  checkpoints, progress = Checkpoints(directory), Progress()
  for step, value in enumerate(values, start=1):
    progress = advance(progress, Rules(mode=mode), step, value)
    checkpoints.save(state(step), progress)
  checkpoints.close()


@pytest.mark.parametrize(
  'values, best',
  [
    ([0.5, 0.9, 0.6, 0.7, 0.2], 2),
    ([0.5, 0.9, float('nan'), 0.9], 2),  # neither NaN nor a tie wins
    ([0.1, 0.2, 0.3], 3),
    ([float('nan'), 0.3, 0.2], 2),
  ],
)
def test_the_best_and_the_latest_are_kept(tmp_path, values, best):
  save(tmp_path / 'c', values)
  checkpoints = Checkpoints(tmp_path / 'c')
  kept = {int(p.name) for p in (tmp_path / 'c').iterdir() if p.name.isdigit()}
  assert kept == {best, len(values)}
  for which, step in [('best', best), ('latest', len(values)), (best, best)]:
    restored, progress = checkpoints.restore(state(0), which)
    assert int(restored.step) == step
    np.testing.assert_array_equal(restored.params['w'], [step] * 3)
    assert progress.best_step == best or which != 'latest'
  checkpoints.close()


def test_a_step_is_saved_once(tmp_path):
  checkpoints = Checkpoints(tmp_path / 'c')
  checkpoints.save(state(1), Progress())
  checkpoints.save(state(1), Progress(best=3.0))
  checkpoints.wait()
  assert checkpoints.progress(1) == Progress()
  checkpoints.close()


def test_a_relative_path_will_do(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  save('c', [0.5])
  assert (tmp_path / 'c' / '1').is_dir()


def test_only_saving_touches_the_folder(tmp_path):
  """orbax makes and tidies a folder in a thread that nothing else awaits."""
  directory = tmp_path / 'c'
  checkpoints = Checkpoints(directory)
  assert checkpoints.latest() is None
  assert not directory.exists()
  save(directory, [0.5])
  # Of several processes one may be the first to make it: none looks again.
  assert checkpoints.latest() is None
  checkpoints = Checkpoints(directory)
  unfinished = directory / '2.orbax-checkpoint-tmp'
  unfinished.mkdir()
  assert checkpoints.latest() == 1
  assert int(checkpoints.restore(state(0))[0].step) == 1
  assert unfinished.exists()
  checkpoints.save(state(2), Progress())
  checkpoints.close()
  assert not unfinished.exists()
  assert checkpoints.latest() == 2
  checkpoints.close()


def test_what_is_not_there_is_told(tmp_path):
  checkpoints = Checkpoints(tmp_path / 'c')
  with pytest.raises(FileNotFoundError, match=f'{tmp_path}.*Train first'):
    checkpoints.restore(state(0))
  checkpoints.save(state(4), Progress())
  checkpoints.wait()
  with pytest.raises(FileNotFoundError, match="'7'.*'best' and the steps 4"):
    checkpoints.restore(state(0), '7')
  checkpoints.close()
  with pytest.raises(FileNotFoundError, match='workdir of a run'):
    load_json(tmp_path / 'config.json')
  (tmp_path / 'config.json').write_text('{')
  with pytest.raises(ValueError, match='config.json is not JSON'):
    load_json(tmp_path / 'config.json')


@pytest.mark.parametrize(
  'params', [{'v': jnp.zeros(3)}, {'w': {'mu': jnp.zeros(3)}}]
)
def test_a_checkpoint_of_other_arrays_is_told(tmp_path, params):
  save(tmp_path / 'c', [0.5])
  checkpoints = Checkpoints(tmp_path / 'c')
  with pytest.raises(
    ValueError, match='Step 1 in .*c cannot be read .*not match'
  ):
    checkpoints.restore(State(jnp.int32(0), params))
  restored, _ = checkpoints.restore(state(0))
  np.testing.assert_array_equal(restored.params['w'], [1] * 3)
  checkpoints.close()
