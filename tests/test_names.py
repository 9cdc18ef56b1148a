"""Every family's tables of names, against the layers that it has."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from families import FAMILIES, member

from jaxderm.models import encoders
from jaxderm.models.encoders.efficientnet import Normalization
from jaxderm.pretrained import names
from jaxderm.pretrained.fit import fit, rename
from jaxderm.pretrained.table import norms, places, source

IMAGE = jax.ShapeDtypeStruct((1, 75, 75, 3), jnp.float32)
CASES = [
  member(name, each)
  for name in encoders.__all__
  for each in names.of(getattr(encoders, name)())
]


def test_every_table_belongs_to_an_encoder():
  assert set(names.TABLES) <= set(FAMILIES)
  for family, tables in names.TABLES.items():
    libraries = [each.library for each in tables]
    assert len(set(libraries)) == len(libraries), family


@functools.cache
def whole(name, origin):
  """The variables of a member with all its layers, by their places."""
  encoder = getattr(encoders, name)(taps=None)
  if origin is not None and hasattr(encoder, 'origin'):
    encoder = encoder.clone(origin=origin)
  return jax.eval_shape(encoder.init, jax.random.key(0), IMAGE)


@pytest.mark.parametrize(
  'family, made',
  [
    (family, each) for family, tables in names.TABLES.items() for each in tables
  ],
  ids=lambda value: getattr(value, 'library', getattr(value, '__name__', '')),
)
def test_every_row_is_about_a_layer(family, made):
  """Of some member, and no row before it hides it."""
  numbered = made._replace(
    layers={row: str(i) for i, row in enumerate(made.layers)}, identical=False
  )
  rows = set(numbered.layers.values()) | set(made.constants)
  for name in FAMILIES[family] if rows else ():
    for _, *layers, variable in places(whole(name, made.origin)):
      layer = '/'.join(layers)
      rows -= {row for row, _ in numbered.names(layer, variable)}
      rows -= {f'{layer}/{variable}'}
    if not rows:
      return
  assert not {row for i, row in enumerate(made.layers) if str(i) in rows}
  assert not rows


def filed(name, place, norm, leaf, made):
  """What a variable is called in a made file, and its shape there."""
  found = source(made, place, norm, leaf.shape)
  sides = leaf.shape
  if made.style == 'torch':
    order = {4: (3, 2, 0, 1), 2: (1, 0)}.get(len(sides), range(len(sides)))
    sides = tuple(sides[axis] for axis in order)
  elif len(sides) == 4 and sides[2] == 1:
    sides = (*sides[:2], sides[3], 1)
  return found, sides


@pytest.mark.parametrize(
  'name, made', CASES, ids=lambda value: getattr(value, 'library', value)
)
def test_renaming_comes_back(name, made):
  """No two variables of a network have one name, and all have one."""
  template = whole(name, made.origin)
  leaves = places(template)
  normalisations = norms(leaves)
  values, shapes = [], {}
  for i, (place, leaf) in enumerate(leaves.items()):
    norm = place[1:-1] in normalisations
    found, sides = filed(name, place, norm, leaf, made)
    value = i if found.constant is None else found.constant
    values.append(np.broadcast_to(np.float32(value), leaf.shape))
    if found.constant is None:
      assert found.names, f'{"/".join(place)} has no name'
      assert found.names[0] not in shapes, f'two are called {found.names[0]}'
      shapes[found.names[0]] = sides
  variables = jax.tree.unflatten(jax.tree.structure(template), values)
  renamed = rename(variables, shapes, made)
  assert {k: v.shape for k, v in renamed.items()} == shapes
  fitted = fit(template, template, renamed, made)
  assert (fitted.problems, fitted.dropped) == ((), ())
  assert fitted.found == len(shapes)
  back = places(fitted.variables)
  for (place, leaf), value in zip(back.items(), values, strict=True):
    assert leaf.shape == value.shape
    assert leaf.flat[0] == value.flat[0], place


# Keras' EfficientNet.


def normalised(variance):
  """What the first layer makes of red, with what a file has for a variance."""
  (keras,) = (
    t for t in names.of(encoders.EfficientNetB0()) if t.library == 'keras'
  )
  red = np.array([[[[1.0, 0.0, 0.0]]]], np.float32)
  layer = Normalization(name='normalization')
  stats = jax.eval_shape(layer.init, jax.random.key(0), red)['batch_stats']
  template = {'batch_stats': {'normalization': stats}}
  file = {
    'normalization/mean': np.array([0.485, 0.456, 0.406], np.float32),
    'normalization/variance': np.array(variance, np.float32),
    'normalization/count': np.array(0),
  }
  fitted = fit(template, template, file, keras)
  assert fitted.problems == ()
  stats = fitted.variables['batch_stats']['normalization']
  return stats['variance'], layer.apply({'batch_stats': stats}, red)[0, 0, 0]


def test_deviation_in_place_of_the_variance():
  """Keras divides by its root twice: by 0.229, 0.224 and 0.225 in all."""
  variance, red = normalised([0.229, 0.224, 0.225])
  np.testing.assert_allclose(variance, [0.052441, 0.050176, 0.050625], 1e-6)
  # (1 - 0.485) / 0.229, -0.456 / 0.224, -0.406 / 0.225
  np.testing.assert_allclose(red, [2.248908, -2.035714, -1.804444], 1e-5)


@pytest.mark.parametrize(
  'variance', [(1.0, 1.0, 1.0), (0.052441, 0.050176, 0.050625)]
)
def test_variance_stays(variance):
  found, red = normalised(variance)
  np.testing.assert_array_equal(found, np.float32(variance))
  np.testing.assert_allclose(
    red, np.array([0.515, -0.456, -0.406]) / np.sqrt(variance), 1e-5
  )
