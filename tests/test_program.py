"""What is in the program of a step: its precision, transposes, collectives."""

import collections
import json
import re
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import quick_jit
from programs import run

from jaxderm import step, systems, task
from jaxderm.cost import inner_programs
from jaxderm.models.forms import use_form

BATCH, SIDE = 5, 32  # five is the side of no kernel here


def make(name):
  """A system or a classifier on an encoder, and its task."""
  if '/' in name:
    return systems.build(name), task.segmentation({'name': 'bce_dice'})
  network = systems.build('classifier', encoder=name)
  return network, task.classification({'name': 'cross_entropy'})


def arguments(network, dtype=jnp.float32):
  """Shapes and types of what `step.make_gradient` gives takes."""

  def shape(*sizes, dtype=dtype):
    return jax.ShapeDtypeStruct((BATCH, *sizes), dtype)

  batch = {
    'image': shape(SIDE, SIDE, 3),
    'mask': shape(SIDE, SIDE, 1, dtype=jnp.uint8),
    'label': shape(dtype=jnp.int32),
    'valid': shape(),
  }
  variables = jax.eval_shape(network.init, jax.random.key(0), batch['image'])
  key = jax.eval_shape(lambda: jax.random.key(0))
  return variables['params'], variables['batch_stats'], batch, key


# ---------------------------------------------------------------- precision

# What a float32 copy of an activation may go into: what XLA puts into one loop
# with the conversions before and after it, so that no such copy is stored.
ELEMENTWISE = {
  'abs',
  'add',
  'add_any',
  'convert_element_type',
  'div',
  'eq',
  'exp',
  'gt',
  'integer_pow',
  'log1p',
  'logistic',
  'lt',
  'max',
  'mul',
  'ne',
  'neg',
  'reduce_sum',
  'rsqrt',
  'select_n',
  'square',
  'sub',
}


def equations(program):
  for equation in program.eqns:
    inner = inner_programs(equation.params)
    for each in inner:
      yield from equations(each)
    if not inner:
      yield equation


def dtypes(equation):
  return {str(v.aval.dtype) for v in equation.invars}


def is_activation(variable):
  shape = variable.aval.shape
  return len(shape) == 4 and shape[0] == BATCH and shape[1] > 1


@use_form('lax')  # on the CPU the sums of depthwise convolutions are float32
def traced(name, precision='bfloat16'):
  network, its_task = make(name)
  gradient = step.make_gradient(network, its_task, precision)
  return list(equations(jax.make_jaxpr(gradient)(*arguments(network)).jaxpr))


def products(found, dtype):
  return [
    e
    for e in found
    if e.primitive.name in ('dot_general', 'conv_general_dilated')
    and dtype in dtypes(e)
  ]


@pytest.mark.parametrize(
  'name', ['yang2021/UNet', 'ResNet18', 'MobileNetV2', 'DenseNet121']
)
def test_bfloat16_computes_and_float32_adds_up(name):
  found = traced(name)
  # The logits and their two gradients; all else in bfloat16, on both sides.
  assert len(products(found, 'float32')) == 3
  narrow = products(found, 'bfloat16')
  assert len(narrow) > 30
  assert all(dtypes(e) == {'bfloat16'} for e in narrow)
  sums = [
    e
    for e in found
    if e.primitive.name == 'reduce_sum' and is_activation(e.invars[0])
  ]
  assert len(sums) > 30  # means, variances, gradients of scale and bias
  assert all(dtypes(e) == {'float32'} for e in sums)
  # The gradient of the head's own reshape, one channel for each class.
  stored = collections.Counter(
    e.primitive.name
    for e in found
    for v in e.invars
    if is_activation(v)
    and v.aval.dtype == jnp.float32
    and v.aval.shape[-1] > 3
    and e.primitive.name not in ELEMENTWISE
  )
  stored.pop('reshape', None) if '/' in name else None
  assert not stored


def test_float32_is_seen():
  """What the test above looks for is there without bfloat16."""
  found = traced('yang2021/UNet', 'float32')
  assert len(products(found, 'float32')) > 30
  assert not products(found, 'bfloat16')


@pytest.mark.parametrize('name', ['yang2021/UNet', 'MobileNetV2'])
def test_what_is_kept_is_float32(name):
  network, its_task = make(name)
  given = arguments(network)
  gradient = step.make_gradient(network, its_task, 'bfloat16')
  with use_form('lax'):
    (loss, stats), grads = jax.eval_shape(gradient, *given)
  for leaf in jax.tree.leaves((loss, stats, grads)):
    assert leaf.dtype == jnp.float32


# --------------------------------------------------------------- transposes

LINE = re.compile(r'= \w+\[([\d,]*)\]\S* transpose\((?:.*op_name="([^"]*)")?')
LARGE = BATCH * 4 * 4 * 8  # elements, of the smallest map that counts


def transposes(program):
  """Transposes of activations: (by our code, by XLA's own kernel gradients)."""
  ours, xlas = [], 0
  for line in program.splitlines():
    found = LINE.search(line)
    if not found:
      continue
    sizes = [int(n) for n in found[1].split(',')]
    if BATCH not in sizes or np.prod(sizes) < LARGE:
      continue  # a kernel
    # What XLA adds has no name, or that of the convolution it is for.
    if found[2] and not found[2].endswith('conv_general_dilated'):
      ours.append(found[2])
    else:
      xlas += 1
  return ours, xlas


def compiled(name):
  network, its_task = make(name)
  gradient = step.make_gradient(network, its_task, 'float32')
  return quick_jit(gradient).lower(*arguments(network)).compile().as_text()


def test_a_classifier_transposes_nothing():
  ours, xlas = transposes(compiled('ResNet18'))
  assert ours == []
  # XLA's form of a kernel's gradient on the CPU takes both maps with the batch
  # last. Twenty convolutions, three of them products.
  assert 0 < xlas <= 2 * 17


def test_a_unet_transposes_only_where_it_enlarges():
  ours, xlas = transposes(compiled('yang2021/UNet'))
  # Four 2x2 transposed convolutions, to pixels and from their gradient.
  assert len(ours) <= 4 * 2
  assert all('ConvTranspose' in name for name in ours), ours
  assert xlas <= 2 * 18


def test_a_transpose_is_seen():
  def planted(x):
    return jnp.sin(jnp.transpose(x, (0, 3, 1, 2)).reshape(BATCH, -1)) @ (
      jnp.ones((SIDE * SIDE * 8, 2))
    )

  x = jax.ShapeDtypeStruct((BATCH, SIDE, SIDE, 8), jnp.float32)
  ours, _ = transposes(jax.jit(planted).lower(x).compile().as_text())
  assert len(ours) == 1


# -------------------------------------------------------------- collectives


def test_on_eight_devices_only_sums_travel():
  done = run(
    [sys.executable, 'scripts/mesh.py', '--one', '--size=32', '--steps=1'],
    devices=8,
    xla_flags='--xla_backend_optimization_level=0 '
    '--xla_llvm_disable_expensive_passes=true',
  )
  row = json.loads(done.stdout.splitlines()[-1])
  assert row['devices'] == 8
  counts = row['collectives']
  assert np.isfinite(row['loss'])
  # The statistics of 18 BatchNorms forward and backward, and the gradients.
  assert counts.pop('all-reduce') >= 2 * 18
  assert set(counts.values()) == {0}, counts


GATHERS = """
import sys
sys.path.insert(0, 'scripts')
import jax, jax.numpy as jnp
import mesh
from jaxderm import sharding
rows = sharding.by_row(sharding.make_mesh())
sort = jax.jit(lambda x: jnp.sort(x, 0), in_shardings=rows, out_shardings=rows)
text = sort.lower(jnp.ones((16, 4))).compile().as_text()
counts = mesh.collectives(text)
assert counts['all-gather'] + counts['all-to-all'] > 0, counts
"""


def test_rows_that_travel_are_seen():
  run([sys.executable, '-c', GATHERS], devices=8)


# Depthwise, Winograd's, by taps, and a coarse map that is not doubled: forward
# and back.
FORMS = """
import sys
sys.path.insert(0, 'scripts')
import jax, jax.numpy as jnp
import mesh
from jaxderm import sharding
from jaxderm.models import joined, layers, winograd
from jaxderm.models.forms import compiler_options
devices = sharding.make_mesh()
shapes = [(8, 32, 32, 96), (8, 16, 16, 8)]
assert winograd.pays(shapes[0], 96, gradient=True)
kernels = [(3, 3, 96, 96), (3, 3, 96, 16), (3, 3, 24, 16), (3, 3, 1, 96)]
def loss(kernels, wide, half):
  wide = layers.depthwise_conv(wide, kernels[3])
  few = layers.conv(layers.conv(wide, kernels[0]), kernels[1])
  both = layers.join(joined.Doubled(half), few)
  return jnp.sum(layers.conv(both, kernels[2]) ** 2)
rows, everywhere = sharding.by_row(devices), sharding.replicated(devices)
step = jax.jit(
  jax.grad(loss, (0, 1, 2)),
  in_shardings=(everywhere, rows, rows),
  out_shardings=(everywhere, rows, rows),
  compiler_options=compiler_options(),
)
zeros = jax.tree.map(
  lambda shape: jax.ShapeDtypeStruct(shape, jnp.float32),
  [kernels, *shapes],
  is_leaf=lambda x: isinstance(x, tuple),
)
counts = mesh.collectives(step.lower(*zeros).compile().as_text())
assert counts.pop('all-reduce') > 0
assert set(counts.values()) == {0}, counts
"""


def test_no_form_lets_rows_travel():
  run(
    [sys.executable, '-c', FORMS],
    devices=8,
    xla_flags='--xla_backend_optimization_level=0 '
    '--xla_llvm_disable_expensive_passes=true',
  )
