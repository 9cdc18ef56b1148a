"""Activations made anew on the way back: the same gradient, in less memory."""

import functools
import math
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import draw, quick_jit
from jax.extend import core

from jaxderm import remat, step, systems, task
from jaxderm.models.forms import compiler_options
from jaxderm.models.layers import (
  BatchNorm,
  Conv,
  ConvNormAct,
  DepthwiseConv,
  max_pool,
  upsample,
)

SIDE = 16


class Net(nn.Module):
  """Each kind of layer: a depthwise one, a skip, dropout, custom gradients."""

  @nn.compact
  def __call__(self, x, train=False):
    x = skip = ConvNormAct(8, name='first')(x, train)
    x = DepthwiseConv(3, name='depthwise')(max_pool(x))
    x = nn.relu(BatchNorm(name='norm')(x, train))
    x = nn.Dropout(0.3, deterministic=not train)(x)
    x = ConvNormAct(8, activation='swish', name='second')(x, train)
    x = jnp.concatenate([upsample(x), skip], axis=-1)
    return Conv(1, 1, name='logits')(x)


@functools.cache
def segmentation():
  return task.segmentation({'name': 'bce_dice'})


def make_batch(count=4, side=SIDE):
  rng = np.random.default_rng(0)
  image = rng.normal(size=(count, side, side, 3)).astype('f')
  mask = (image[..., :1] > 0).astype(np.uint8)
  return {'image': image, 'mask': mask, 'valid': np.ones(count, 'f')}


@pytest.mark.parametrize('precision', ['float32', 'bfloat16'])
def test_loss_gradient_and_statistics_are_the_same(precision):
  network, batch = Net(), make_batch()
  variables = draw(network, batch['image'])
  given = (variables['params'], variables['batch_stats'], batch)
  ((loss, stats), plain), ((loss_again, stats_again), again) = (
    quick_jit(step.make_gradient(network, segmentation(), precision, each))(
      *given, jax.random.key(1)
    )
    for each in (False, True)
  )
  atol = 1e-6 if precision == 'float32' else 0.02
  np.testing.assert_allclose(loss, loss_again, rtol=atol)
  same = functools.partial(np.testing.assert_allclose, atol=atol)
  jax.tree.map(same, stats, stats_again)
  jax.tree.map(same, plain, again)
  # The batch's statistics came out, and the dropout's key went in.
  assert not np.array_equal(
    stats['norm']['mean'], variables['batch_stats']['norm']['mean']
  )
  other = quick_jit(
    step.make_gradient(network, segmentation(), precision, True)
  )
  (third, _), _ = other(*given, jax.random.key(2))
  assert abs(float(third) - float(loss)) > 1e-4


def program(network, side=SIDE):
  """What is traced of a network in training, its convolutions marked."""
  image = jax.ShapeDtypeStruct((2, side, side, 3), jnp.float32)
  variables = jax.eval_shape(network.init, jax.random.key(0), image)

  def apply(variables, image):
    with nn.intercept_methods(remat._name_maps):
      rngs = {'dropout': jax.random.key(0)}
      return network.apply(
        variables, image, True, mutable=['batch_stats'], rngs=rngs
      )

  return jax.make_jaxpr(apply)(variables, image).jaxpr


@pytest.mark.parametrize('count', [None, 1, 3, 4])
def test_segments_are_the_program(count):
  whole = program(Net())
  parts = list(remat._segments(whole, count))
  # Four convolutions: the root is two.
  assert len(parts) == (count or 2)
  assert [e for part in parts for e in part.eqns] == list(whole.eqns)
  known = {*whole.invars, *whole.constvars}
  for part in parts:
    assert known >= set(part.invars)
    known |= set(part.outvars)
  needed = {v for v in whole.outvars if not isinstance(v, core.Literal)}
  assert known >= needed
  convolutions = [
    sum(e.params.get('name') == remat.KEPT for e in part.eqns) for part in parts
  ]
  assert sum(convolutions) == 4
  assert min(convolutions) >= 1


def test_a_network_without_convolutions():
  function = remat.rematerialised(lambda x: {'y': jnp.sin(x), 'one': 1.0})
  assert function(jnp.float32(2.0))['one'] == 1.0
  gradient = jax.grad(lambda x: function(x)['y'])(jnp.float32(2.0))
  assert float(gradient) == pytest.approx(math.cos(2.0))


def memory(network, remat, side):
  """Bytes that the compiled gradient needs beside what goes in and out."""
  count = 8
  image = jax.ShapeDtypeStruct((count, side, side, 3), jnp.float32)
  variables = jax.eval_shape(network.init, jax.random.key(0), image)
  batch = make_batch(count, side)
  gradient = step.make_gradient(network, segmentation(), 'float32', remat)
  lowered = jax.jit(gradient).lower(
    variables['params'], variables['batch_stats'], batch, jax.random.key(0)
  )
  compiled = lowered.compile(compiler_options=compiler_options())
  return compiled.memory_analysis().temp_size_in_bytes


def test_it_takes_less_memory():
  network = systems.build('unetpp', encoder='Plain8', depth=2)
  plain, less = (memory(network, remat, 32) for remat in (False, True))
  print(f'{plain / 2**20:.1f} MiB, with remat {less / 2**20:.1f} MiB')
  assert less < 0.75 * plain


@pytest.mark.parametrize(
  'wanted, platform, expected',
  [
    (True, 'cpu', 0),
    (False, 'cpu', math.inf),
    (None, 'cpu', 2.5 * 2**30),
    (True, 'gpu', 0),
    (None, 'gpu', math.inf),
  ],
)
def test_when_they_are_made_anew(monkeypatch, wanted, platform, expected):
  monkeypatch.setattr(jax, 'default_backend', lambda: platform)
  assert remat.limit(wanted) == expected


def made_anew(remat):
  """Segments in the program of a gradient."""
  batch = make_batch()
  variables = draw(Net(), batch['image'])
  gradient = step.make_gradient(Net(), segmentation(), 'float32', remat)
  program = jax.make_jaxpr(gradient)(
    variables['params'], variables['batch_stats'], batch, jax.random.key(0)
  )
  return len(re.findall('= (remat|checkpoint)', str(program)))


def test_by_itself_where_there_are_many(monkeypatch):
  # Of four images: convolved and normalised at full size, the logits there;
  # at half of it two convolutions, each normalised.
  numbers = SIDE**2 * (8 + 8 + 1) + (SIDE // 2) ** 2 * 2 * (8 + 8)
  kept = 4 * numbers * 4
  monkeypatch.setattr(remat, '_PLENTY', kept)
  assert made_anew(None) == made_anew(False) == 0
  monkeypatch.setattr(remat, '_PLENTY', kept - 1)
  assert made_anew(None) == made_anew(True) == 2
