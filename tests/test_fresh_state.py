"""A state is known by its shapes, and made beside the program of its steps."""

import dataclasses
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_runs
from test_step import SIZE, Net, make_batch, prepare

from jaxderm import (
  ensemble,
  experiment,
  fresh_state,
  optim,
  sharding,
  task,
  train,
)
from jaxderm import step as step_lib
from jaxderm.checkpoint import Checkpoints

SEGMENTATION = task.segmentation({'name': 'bce_dice'})
ADAM = optim.make_optimizer('adam', schedule=optim.constant(0.01, 1))


def plan(mesh, start=None):
  example = {'image': jax.ShapeDtypeStruct((1, SIZE, SIZE, 3), jnp.float32)}
  return fresh_state.plan(Net(), SEGMENTATION, ADAM, example, 3, mesh, start)


def seen(state):
  return [
    jax.random.key_data(x)
    if jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
    else x
    for x in jax.tree.leaves(state)
  ]


@pytest.fixture(scope='module')
def planned(mesh):
  return plan(mesh)


def test_it_is_what_was_said(planned):
  state = planned.make()
  said = jax.tree_util.tree_leaves_with_path(planned.shapes)
  made = jax.tree_util.tree_leaves_with_path(state)
  assert [path for path, _ in said] == [path for path, _ in made]
  for (path, shape), (_, array) in zip(said, made, strict=True):
    assert isinstance(shape, jax.ShapeDtypeStruct), path
    assert (shape.shape, shape.dtype) == (array.shape, array.dtype), path
    assert shape.sharding.is_equivalent_to(array.sharding, array.ndim), path


def test_each_time_the_same(planned):
  first, second = seen(planned.make()), seen(planned.make())
  # A step donates the first; the second may not be the same memory.
  jax.tree.map(lambda x: x.delete(), first)
  assert not any(x.is_deleted() for x in second)
  for a, b in zip(seen(planned.make()), second, strict=True):
    np.testing.assert_array_equal(a, b)


def test_it_starts_from_what_is_given(mesh):
  kernel = np.full((3, 3, 3, 8), 2.0, np.float32)
  given = {'conv': {'kernel': kernel, 'bias': np.ones(8, np.float32)}}
  state = plan(mesh, {'params': given}).make()
  np.testing.assert_array_equal(state.params['conv']['kernel'], kernel)
  assert set(state.params) > {'conv'}


def test_the_program_is_made_beside_and_fits(mesh, planned):
  update = step_lib.make_update(Net(), SEGMENTATION, ADAM, prepare)
  batch = make_batch(0)
  example = {name: value[0] for name, value in batch.items()}
  shapes = sharding.placed(example, len(batch['image']), mesh)
  lowered = step_lib.jit_update(update, mesh).lower(planned.shapes, shapes)
  began, threads = threading.Event(), {}

  class Lowered:
    def compile(self):
      threads['program'] = threading.current_thread()
      began.set()
      return lowered.compile()

  def make():
    assert began.wait(60), 'the state waits for the program'
    threads['state'] = threading.current_thread()
    return planned.make()

  (state,), program = fresh_state.make_beside(
    [dataclasses.replace(planned, make=make)], Lowered()
  )
  # By this one, whose memory is kept from step to step (host.py).
  assert threads['state'] is threading.main_thread()
  assert threads['program'] is not threading.main_thread()
  after, scalars = program(state, sharding.place(batch, mesh))
  assert int(after.step) == 1
  assert np.isfinite(scalars['loss'])


@pytest.mark.parametrize('fails', ['state', 'program'])
def test_what_goes_wrong_is_told(planned, fails):
  def fail():
    raise ValueError(f'no {fails}')

  class Lowered:
    compile = staticmethod(fail if fails == 'program' else lambda: 'compiled')

  make = fail if fails == 'state' else planned.make
  with pytest.raises(ValueError, match=f'no {fails}'):
    fresh_state.make_beside(
      [dataclasses.replace(planned, make=make)], Lowered()
    )


def test_who_restores_makes_none(synthetic_dir, tmp_path, monkeypatch):
  config = small_runs.config(synthetic_dir, epochs=1)
  workdir = small_runs.save_untrained(config, tmp_path / 'run')
  saved = Checkpoints(workdir / 'checkpoints').raw()['params']
  planned = fresh_state.plan

  def unmakable(*args):
    shapes = planned(*args).shapes
    return fresh_state.Plan(shapes, lambda: pytest.fail('a state was made'))

  monkeypatch.setattr(fresh_state, 'plan', unmakable)
  made = experiment.make(config, workdir)
  variables, step = ensemble.load_member(made, workdir, 'latest')
  assert step == 0
  jax.tree.map(np.testing.assert_array_equal, variables['params'], saved)
  train.train(config, workdir)
  assert Checkpoints(workdir / 'checkpoints').latest() > 0
