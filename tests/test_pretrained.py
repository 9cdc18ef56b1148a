"""Whole files of other libraries, through `load` and `convert`."""

import os

os.environ.setdefault('KERAS_BACKEND', 'jax')

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

from jaxderm import pretrained
from jaxderm.models import encoders
from jaxderm.pretrained import names
from jaxderm.pretrained.__main__ import main
from jaxderm.pretrained.files import write_safetensors
from jaxderm.pretrained.fit import rename
from jaxderm.pretrained.table import norms, places, source

IMAGE = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)


def numbered(encoder):
  """Variables of an encoder, no two of their leaves alike."""
  shapes = jax.eval_shape(encoder.init, jax.random.key(0), IMAGE)
  leaves, structure = jax.tree.flatten(shapes)
  values = [
    np.linspace(i, i + 0.5, leaf.size, dtype=np.float32).reshape(leaf.shape)
    for i, leaf in enumerate(leaves)
  ]
  return jax.tree.unflatten(structure, values)


def as_torch(variables, encoder):
  """What torchvision's file of these variables would hold."""
  (table,) = (t for t in names.of(encoder) if t.library == 'torchvision')
  leaves = places(variables)
  normalised = norms(leaves)
  shapes = {}
  for place, leaf in leaves.items():
    name, *_ = source(table, place, place[1:-1] in normalised, leaf.shape).names
    order = {4: (3, 2, 0, 1), 2: (1, 0)}.get(leaf.ndim, range(leaf.ndim))
    shapes[name] = tuple(leaf.shape[axis] for axis in order)
  tensors = rename(variables, shapes, table)
  return {k: np.ascontiguousarray(v) for k, v in tensors.items()}


WHOLE = encoders.ResNet18(taps=('predictions',))


@pytest.fixture(scope='module')
def resnet():
  return numbered(WHOLE)


@pytest.fixture
def torch_file(resnet, tmp_path):
  path = tmp_path / 'resnet18.safetensors'
  write_safetensors(path, as_torch(resnet, WHOLE), {})
  return path


def assert_equal(a, b):
  jax.tree.map(np.testing.assert_array_equal, a, b)


def test_torchvision_file(resnet, torch_file):
  weights = pretrained.load(torch_file, WHOLE)
  assert_equal(weights.variables, resnet)
  assert (weights.normalisation, weights.library) == ('torch', 'torchvision')
  assert weights.dropped == ()
  encoder = encoders.ResNet18()
  weights = pretrained.load(torch_file, encoder)
  assert set(weights.dropped) == {'fc.weight', 'fc.bias'}
  assert 'fc.weight' in str(weights)
  assert 'predictions' not in weights.variables['params']
  early = pretrained.load(torch_file, encoders.ResNet18(taps=('conv1_relu',)))
  assert set(early.variables['params']) == {'conv1_conv', 'conv1_bn'}
  assert len(weights.dropped) < len(early.dropped)


def spoilt(tensors, how):
  tensors = dict(tensors)
  if how == 'missing':
    del tensors['layer1.0.conv1.weight'], tensors['bn1.running_mean']
  if how == 'left over':
    tensors['layer9.weight'] = np.zeros(3, np.float32)
  if how == 'shape':
    tensors['conv1.weight'] = np.zeros((64, 3, 3, 3), np.float32)
  return tensors


@pytest.mark.parametrize(
  'how, told',
  [
    (
      'missing',
      [
        r'missing: layer1.0.conv1.weight [3, 3, 64, 64]',
        r'missing: bn1.running_mean [64]',
        '2 tensors do not fit',
      ],
    ),
    ('left over', ['left over: layer9.weight [3]', '1 tensors do not fit']),
    (
      'shape',
      [
        'shape of conv1.weight: [3, 3, 3, 64] in our order, '
        'expected [7, 7, 3, 64]'
      ],
    ),
  ],
)
def test_what_does_not_fit_is_named(resnet, tmp_path, how, told):
  path = tmp_path / 'weights.safetensors'
  write_safetensors(path, spoilt(as_torch(resnet, WHOLE), how), {})
  with pytest.raises(pretrained.WeightsError) as error:
    pretrained.load(path, encoders.ResNet18())
  for words in (str(path), 'ResNet', *told):
    assert words in str(error.value)


def test_another_network(torch_file):
  with pytest.raises(pretrained.WeightsError, match='not the weights of this'):
    pretrained.load(torch_file, encoders.ResNet34())
  with pytest.raises(pretrained.WeightsError, match='nobody publishes'):
    pretrained.load(torch_file, encoders.Plain8())


def test_origin_is_the_weights(tmp_path):
  encoder = encoders.ResNet50(origin='torch')
  path = tmp_path / 'resnet50.safetensors'
  write_safetensors(path, as_torch(numbered(encoder), encoder), {})
  assert pretrained.load(path, encoder).origin == 'torch'
  with pytest.raises(pretrained.WeightsError, match="Build it with origin='to"):
    pretrained.load(path, encoders.ResNet50())


def test_file_that_two_libraries_may_have_written(tmp_path):
  """timm calls its own layers and those of Google's weights alike."""
  encoder = encoders.MobileNetV3Small(taps=('conv_activation',))
  (table,) = (t for t in names.of(encoder) if t.library == 'timm_tf')
  variables = numbered(encoder)
  leaves = places(variables)
  normalised = norms(leaves)
  tensors = {}
  for place, leaf in leaves.items():
    name, *_ = source(table, place, place[1:-1] in normalised, leaf.shape).names
    tensors[name] = np.transpose(leaf)
  path = tmp_path / 'mobilenetv3.safetensors'
  write_safetensors(path, tensors, {})
  for origin, library, other in (
    ('keras', 'timm_tf', 'timm'),
    ('timm', 'timm', 'timm_tf'),
  ):
    weights = pretrained.load(path, encoder.clone(origin=origin))
    assert (weights.library, weights.also) == (library, (other,))
    assert f"what origin='{origin}' makes it" in str(weights)


def test_converted_file_says_where_it_is_from(resnet, torch_file, tmp_path):
  out = tmp_path / 'ours.safetensors'
  assert main(['convert', str(torch_file), str(out)]) == 0
  theirs = pretrained.load(torch_file, WHOLE)
  ours = pretrained.load(out, WHOLE)
  assert_equal(ours.variables, resnet)
  assert (ours.sha256, ours.normalisation) == (theirs.sha256, 'torch')
  assert ours.library == 'torchvision'
  part = pretrained.load(out, encoders.ResNet18(taps=('conv1_relu',)))
  assert set(part.variables['params']) == {'conv1_conv', 'conv1_bn'}
  with pytest.raises(pretrained.WeightsError, match='those of ResNet18'):
    pretrained.load(out, encoders.ResNet34())
  with pytest.raises(pretrained.WeightsError, match='jaxderm already'):
    pretrained.convert(out, tmp_path / 'again.safetensors')


def test_convert_keeps_what_classes_there_are(tmp_path):
  seven = encoders.ResNet18(taps=('predictions',), classes=7)
  path, out = tmp_path / 'seven.safetensors', tmp_path / 'out.safetensors'
  write_safetensors(path, as_torch(numbered(seven), seven), {})
  assert 'ResNet18' in pretrained.convert(path, out)
  assert_equal(pretrained.load(out, seven).variables, numbered(seven))
  with pytest.raises(pretrained.WeightsError, match='shape of'):
    pretrained.load(out, WHOLE)


@pytest.mark.parametrize(
  'arguments, told',
  [
    (['absent.pth', 'out.safetensors'], 'absent.pth'),
    (['{file}', 'out.npz'], 'must end in .safetensors'),
    (['{file}', 'o.safetensors', '--encoder=ResNet9'], 'no encoder is called'),
    (['{file}', 'o.safetensors', '--encoder=ResNet34'], 'not ResNet34'),
    (['{file}', 'o.safetensors', '--origin=keras'], 'no encoder fits'),
  ],
)
def test_convert_says_what_is_wrong(torch_file, capsys, arguments, told):
  given = [a.replace('{file}', str(torch_file)) for a in arguments]
  assert main(['convert', *given]) == 1
  error = capsys.readouterr().err
  assert told in error
  assert 'Traceback' not in error


@pytest.mark.parametrize('ending', ['weights.h5', 'keras'])
def test_keras_file(tmp_path, ending):
  """Written by Keras, with a classifier of its own."""
  keras.utils.clear_session()
  theirs = keras.applications.ResNet50(weights=None)
  path = tmp_path / f'resnet50.{ending}'
  theirs.save_weights(path) if ending == 'weights.h5' else theirs.save(path)
  weights = pretrained.load(path, encoders.ResNet50())
  assert set(weights.dropped) == {'predictions/kernel', 'predictions/bias'}
  assert weights.normalisation == 'caffe'
  layer = theirs.get_layer('conv4_block6_2_conv')
  kernel = weights.variables['params']['conv4_block6_2_conv']['kernel']
  np.testing.assert_array_equal(kernel, layer.kernel)
