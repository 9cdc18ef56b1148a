"""Templates of names, orders of axes, and what fits a network."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxderm.pretrained.fit import fit, rename
from jaxderm.pretrained.table import Table, ours, source, theirs


def shape(*sides):
  return jax.ShapeDtypeStruct(sides, jnp.float32)


def table(layers, **settings):
  return Table('made', layers, 'none', None, **settings)


def called(layers, path, **settings):
  layer, _, variable = path.rpartition('/')
  return list(table(layers, **settings).names(layer, variable))


@pytest.mark.parametrize(
  'row, path, expected',
  [
    (('conv{i}', 'c{i}'), 'conv12/kernel', 'c12'),
    (
      ('conv{i}_block{j}_{k}_bn', 'layer{i-1}.{j-1}.bn{k}'),
      'conv3_block1_2_bn/scale',
      'layer2.0.bn2',
    ),
    (('dw_{i}', '{3*i+1:02}_dw'), 'dw_2/kernel', '07_dw'),
    (('dw_{i}', '{3*i+1:02}_dw'), 'dw_4/kernel', '13_dw'),
    (('dw_{i}', '{2*i-2}'), 'dw_1/kernel', '0'),
    (('block{i}{j:a}_bn', '{i-1}.{j}.bn'), 'block7m_bn/scale', '6.12.bn'),
    (('stem.conv', 'conv'), 'stem.conv/kernel', 'conv'),
  ],
)
def test_template(row, path, expected):
  assert called(dict([row]), path) == [(expected, False)]


@pytest.mark.parametrize(
  'row, path',
  [
    ('conv{i}', 'conv1_bn/scale'),  # a row is about the whole name
    ('conv{i}', 'my_conv1/kernel'),
    ('conv{i}', 'convx/kernel'),
    ('block{i}{j:a}_bn', 'block12_bn/scale'),  # a letter is no digit
    ('stem.conv', 'stem_conv/kernel'),  # a dot is a dot
  ],
)
def test_template_of_another_layer(row, path):
  assert called({row: 'theirs'}, path) == []
  layer = path.rpartition('/')[0]
  assert called({row: 'theirs'}, path, identical=True) == [(layer, False)]


def test_first_row_counts():
  layers = {'conv1': 'stem', 'conv{i}': 'layer{i}'}
  assert called(layers, 'conv1/kernel') == [('stem', False)]
  assert called(layers, 'conv2/kernel') == [('layer2', False)]


def test_several_names_in_their_order():
  layers = {'conv{i}': ('new{i}', 'old.{i-1}')}
  place = ('params', 'conv3', 'bias')
  found = source(table(layers), place, False, (4,))
  assert found == (('new3.bias', 'old.2.bias'), None)


def test_row_about_one_variable():
  """It is their whole name, and comes before a row about the layer."""
  layers = {'sep{i}': 'conv{i}', 'sep{i}/bias': 'conv{i}.pointwise.b'}
  assert called(layers, 'sep2/bias') == [('conv2.pointwise.b', True)]
  assert called(layers, 'sep2/kernel') == [('conv2', False)]
  made = table(layers)
  bias = source(made, ('params', 'sep2', 'bias'), False, (4,))
  assert bias.names == ('conv2.pointwise.b',)
  kernel = source(made, ('params', 'sep2', 'kernel'), False, (1, 1, 3, 4))
  assert kernel.names == ('conv2.weight',)


@pytest.mark.parametrize(
  'style, collection, name, expected',
  [
    ('keras', 'params', 'scale', 'bn/gamma'),
    ('keras', 'params', 'bias', 'bn/beta'),
    ('keras', 'batch_stats', 'mean', 'bn/moving_mean'),
    ('keras', 'batch_stats', 'var', 'bn/moving_variance'),
    ('torch', 'params', 'scale', 'bn.weight'),
    ('torch', 'params', 'bias', 'bn.bias'),
    ('torch', 'batch_stats', 'mean', 'bn.running_mean'),
    ('torch', 'batch_stats', 'var', 'bn.running_var'),
  ],
)
def test_normalisation_is_called(style, collection, name, expected):
  made = table({}, style=style, identical=True)
  assert source(made, (collection, 'bn', name), True, (4,)).names == (expected,)


def test_depthwise_kernel_has_two_names_in_keras():
  made = table({}, style='keras', identical=True)
  found = source(made, ('params', 'dw', 'kernel'), False, (3, 3, 1, 8))
  assert found.names == ('dw/kernel', 'dw/depthwise_kernel')
  found = source(made, ('params', 'conv', 'kernel'), False, (3, 3, 2, 8))
  assert found.names == ('conv/kernel',)


# Of each layout: the style, the shape of a file's array and of ours, and where
# an entry is in the file and in ours.
LAYOUTS = {
  'torch convolution': (
    ('torch', (5, 4, 2, 3), (2, 3, 4, 5)),
    ((4, 1, 0, 2), (0, 2, 1, 4)),
  ),
  'torch depthwise': (
    ('torch', (5, 1, 2, 3), (2, 3, 1, 5)),
    ((4, 0, 1, 2), (1, 2, 0, 4)),
  ),
  'torch dense': (('torch', (5, 4), (4, 5)), ((3, 2), (2, 3))),
  'torch matrix for 1x1': (
    ('torch', (5, 4), (1, 1, 4, 5)),
    ((3, 2), (0, 0, 2, 3)),
  ),
  'torch 1x1 for matrix': (
    ('torch', (5, 4, 1, 1), (4, 5)),
    ((3, 2, 0, 0), (2, 3)),
  ),
  # 4 channels of 2x3 pixels: column 17 = 2 * 6 + 1 * 3 + 2.
  'torch flattened': (
    ('torch', (5, 24), (2, 3, 4, 5)),
    ((3, 17), (1, 2, 2, 3)),
  ),
  'keras convolution': (
    ('keras', (2, 3, 4, 5), (2, 3, 4, 5)),
    ((1, 2, 3, 4), (1, 2, 3, 4)),
  ),
  'keras depthwise': (
    ('keras', (2, 3, 5, 1), (2, 3, 1, 5)),
    ((1, 2, 3, 0), (1, 2, 0, 3)),
  ),
  'keras dense': (('keras', (4, 5), (4, 5)), ((3, 2), (3, 2))),
  'keras matrix for 1x1': (
    ('keras', (4, 5), (1, 1, 4, 5)),
    ((3, 2), (0, 0, 3, 2)),
  ),
  # 2x3 pixels of 4 channels: row 22 = (1 * 3 + 2) * 4 + 2.
  'keras flattened': (
    ('keras', (24, 5), (2, 3, 4, 5)),
    ((22, 3), (1, 2, 2, 3)),
  ),
  'vector': (('torch', (5,), (5,)), ((3,), (3,))),
}


@pytest.mark.parametrize('layout', LAYOUTS)
def test_order_of_axes(layout):
  (style, there, here), (entry, expected) = LAYOUTS[layout]
  value = np.arange(np.prod(there), dtype=np.float32).reshape(there)
  found = ours(value, style, here)
  assert found.shape == here
  assert found[expected] == value[entry]
  np.testing.assert_array_equal(theirs(found, style, there), value)


def test_misshapen_array_is_shown_in_our_order():
  value = np.zeros((64, 3, 5, 7))
  assert ours(value, 'torch', (3, 3, 3, 64)).shape == (5, 7, 3, 64)
  assert ours(np.zeros((8, 4)), 'torch', (1, 1, 4, 9)).shape == (4, 8)
  value = np.zeros((3, 3, 8, 1))
  assert ours(value, 'keras', (5, 5, 1, 8)).shape == (3, 3, 1, 8)


# A network of a convolution with BatchNorm, and a classifier.
WHOLE = {
  'params': {
    'conv': {'kernel': shape(3, 3, 2, 4)},
    'bn': {'scale': shape(4), 'bias': shape(4)},
    'top': {'kernel': shape(4, 5), 'bias': shape(5)},
  },
  'batch_stats': {'bn': {'mean': shape(4), 'var': shape(4)}},
}
BODY = {
  'params': {name: WHOLE['params'][name] for name in ('conv', 'bn')},
  'batch_stats': WHOLE['batch_stats'],
}
ROWS = {'conv': 'c', 'bn': 'n', 'top': 'fc'}


def tensors(seed=0):
  """What a torch file of it holds."""
  rng = np.random.default_rng(seed)
  shapes = {
    'c.weight': (4, 2, 3, 3),
    **{
      f'n.{name}': (4,)
      for name in ('weight', 'bias', 'running_mean', 'running_var')
    },
    'fc.weight': (5, 4),
    'fc.bias': (5,),
  }
  file = {k: rng.normal(size=v).astype(np.float32) for k, v in shapes.items()}
  return file | {'n.num_batches_tracked': np.array(7)}


def test_fit():
  file = tensors()
  fitted = fit(WHOLE, WHOLE, file, table(ROWS))
  assert fitted.problems == fitted.dropped == ()
  assert fitted.found == 7
  params = fitted.variables['params']
  stats = fitted.variables['batch_stats']
  assert params['conv']['kernel'][2, 1, 0, 3] == file['c.weight'][3, 0, 2, 1]
  assert params['top']['kernel'][1, 4] == file['fc.weight'][4, 1]
  np.testing.assert_array_equal(params['bn']['scale'], file['n.weight'])
  np.testing.assert_array_equal(params['bn']['bias'], file['n.bias'])
  np.testing.assert_array_equal(stats['bn']['mean'], file['n.running_mean'])
  np.testing.assert_array_equal(stats['bn']['var'], file['n.running_var'])


def test_fit_has_the_types_of_the_template():
  half = jax.tree.map(
    lambda leaf: jax.ShapeDtypeStruct(leaf.shape, jnp.bfloat16), WHOLE
  )
  fitted = fit(half, half, tensors(), table(ROWS))
  leaves = jax.tree.leaves(fitted.variables)
  assert {leaf.dtype for leaf in leaves} == {jnp.dtype(jnp.bfloat16)}


def test_fit_drops_what_is_not_built():
  fitted = fit(BODY, WHOLE, tensors(), table(ROWS))
  assert fitted.problems == ()
  assert set(fitted.dropped) == {'fc.weight', 'fc.bias'}
  assert set(fitted.variables['params']) == {'conv', 'bn'}
  assert fitted.found == 7
  # A file without a classifier is no worse.
  file = {k: v for k, v in tensors().items() if not k.startswith('fc')}
  fitted = fit(BODY, WHOLE, file, table(ROWS))
  assert (fitted.problems, fitted.dropped, fitted.found) == ((), (), 5)


def test_fit_names_every_problem():
  file = tensors()
  del file['n.running_var'], file['fc.bias']
  file['c.weight'] = np.zeros((4, 2, 5, 7), np.float32)
  file['n.bias'] = np.zeros(3, np.float32)
  file['aux.weight'] = np.zeros((5, 4), np.float32)
  fitted = fit(WHOLE, WHOLE, file, table(ROWS | {'top': ('fc', 'head')}))
  assert fitted.variables is None
  assert set(fitted.problems) == {
    'missing: n.running_var [4]',
    'missing: fc.bias or head.bias [5]',
    'shape of c.weight: [5, 7, 2, 4] in our order, expected [3, 3, 2, 4]',
    'shape of n.bias: [3] in our order, expected [4]',
    'left over: aux.weight [5, 4]',
  }


def test_fit_names_a_layer_that_is_in_no_row():
  rows = {'conv': 'c', 'bn': 'n'}
  fitted = fit(WHOLE, WHOLE, tensors(), table(rows))
  assert set(fitted.problems) == {
    'missing: params/top/kernel [4, 5]',
    'missing: params/top/bias [5]',
    'left over: fc.weight [5, 4]',
    'left over: fc.bias [5]',
  }


def test_fit_ignores_what_the_table_says():
  file = tensors() | {'fc.extra': np.zeros(2)}
  assert fit(WHOLE, WHOLE, file, table(ROWS)).problems == (
    'left over: fc.extra [2]',
  )
  assert (
    fit(WHOLE, WHOLE, file, table(ROWS, ignored=('.extra',))).problems == ()
  )


def test_folded_normalisation_adds_the_bias_of_the_convolution():
  file = {k: v for k, v in tensors().items() if k[0] != 'n'}
  file['c.bias'] = np.array([1, 2, 3, 4], np.float32)
  rows = {'conv': 'c', 'bn': 'c', 'top': 'fc'}
  fitted = fit(WHOLE, WHOLE, file, table(rows, folded=1e-3))
  assert fitted.problems == ()
  bn = fitted.variables['params']['bn'] | fitted.variables['batch_stats']['bn']
  np.testing.assert_array_equal(bn['scale'], [1, 1, 1, 1])
  np.testing.assert_array_equal(bn['bias'], [1, 2, 3, 4])
  np.testing.assert_array_equal(bn['mean'], [0, 0, 0, 0])
  np.testing.assert_allclose(bn['var'], [0.999] * 4, rtol=1e-7)


def test_constants_of_a_table():
  rows = {'conv': 'c', 'top': 'fc'}
  constants = {
    'bn/scale': (1.0, 2.0, 3.0, 4.0),
    **{'bn/bias': 0.5, 'bn/mean': 0.0, 'bn/var': 1.0},
  }
  made = table(rows, constants=constants)
  file = {k: v for k, v in tensors().items() if k[0] != 'n'}
  fitted = fit(WHOLE, WHOLE, file, made)
  assert (fitted.problems, fitted.found) == ((), 3)
  np.testing.assert_array_equal(
    fitted.variables['params']['bn']['scale'], [1, 2, 3, 4]
  )
  np.testing.assert_array_equal(
    fitted.variables['params']['bn']['bias'], [0.5] * 4
  )
  # And the way back has none of them, or refuses.
  shapes = {k: v.shape for k, v in file.items()}
  assert set(rename(fitted.variables, shapes, made)) == set(file)
  fitted.variables['params']['bn']['scale'][2] = 3.1
  with pytest.raises(KeyError, match='params/bn/scale'):
    rename(fitted.variables, shapes, made)


def test_rename_names_what_the_other_network_does_not_have():
  variables = fit(WHOLE, WHOLE, tensors(), table(ROWS)).variables
  shapes = {k: v.shape for k, v in tensors().items() if k != 'fc.bias'}
  with pytest.raises(KeyError, match=r"params/top/bias: .*'fc.bias'"):
    rename(variables, shapes, table(ROWS))
