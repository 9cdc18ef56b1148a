"""Files of weights: what comes out of good ones, and that bad ones do nothing."""

import hashlib
import io
import json
import os
import pathlib
import pickle
import shutil
import struct
import subprocess
import sys
import tracemalloc
import zipfile

import ml_dtypes
import numpy as np
import pytest

from jaxderm.pretrained import files, keras_files, limits, safetensors_files
from jaxderm.pretrained.files import WeightsError, read, write_safetensors

ARRAYS = {
  'features.0.weight': np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2),
  'features.0.bias': np.float32([-1, 2.5]),
  'half': np.array([[1.5]], np.float16),
  'brain': np.array([1, -3], ml_dtypes.bfloat16),
  'double': np.array(0.1),
  'count': np.array(7, np.int64),
  'small': np.array([1, 2], np.int32),
  'bytes': np.array([0, 255], np.uint8),
  'flags': np.array([True, False]),
}
NO_BRAIN = {name: x for name, x in ARRAYS.items() if name != 'brain'}


def same(found, expected):
  assert found.keys() == expected.keys()
  for name, value in expected.items():
    assert found[name].dtype == value.dtype, name
    np.testing.assert_array_equal(found[name], value, strict=True)


def refused(path, match=None):
  with pytest.raises(WeightsError, match=match) as error:
    read(path)
  message = str(error.value)
  assert message.startswith(f'{path}: ') and len(message) < 800
  return message


def backbone():
  """A small network with layers of every kind, some named by Keras."""
  import keras

  layer = keras.layers
  image = keras.Input((16, 16, 3))
  x = layer.Normalization()(layer.Rescaling(1 / 255)(image))
  x = layer.Conv2D(4, 3, name='stem_conv')(x)
  x = layer.BatchNormalization(scale=False)(x)
  x = layer.DepthwiseConv2D(3, use_bias=False, name='expanded_conv')(x)
  x = layer.BatchNormalization()(x)
  x = layer.SeparableConv2D(5, 3, use_bias=False)(x)
  x = layer.PReLU()(layer.BatchNormalization(center=False)(x))
  x = layer.Conv2D(2, 1)(x)
  x = layer.Conv2D(3, 1)(x)
  x = layer.LayerNormalization(scale=False)(x)
  x = layer.Dropout(0.1)(layer.Activation('relu')(x))
  x = layer.GlobalAveragePooling2D()(x)
  return keras.Model(image, x, name='backbone')


BACKBONE = {  # in the order of `model.weights`, and as in a fresh session
  'normalization': ('mean', 'variance', 'count'),
  'stem_conv': ('kernel', 'bias'),
  'batch_normalization': ('beta', 'moving_mean', 'moving_variance'),
  'expanded_conv': ('kernel',),
  'batch_normalization_1': ('gamma', 'beta', 'moving_mean', 'moving_variance'),
  'separable_conv2d': ('depthwise_kernel', 'pointwise_kernel'),
  'batch_normalization_2': ('gamma', 'moving_mean', 'moving_variance'),
  'p_re_lu': ('alpha',),
  'conv2d': ('kernel', 'bias'),
  'conv2d_1': ('kernel', 'bias'),
  'layer_normalization': ('beta',),
}


def randomise(model):
  rng = np.random.default_rng(0)
  for weight in model.weights:
    value = 10 * rng.standard_normal(weight.shape)
    weight.assign(value.astype(weight.dtype))


def expected(model):
  """Arrays of the backbone by name, taken from Keras' own lists."""
  found = {}
  layers = [layer for layer in model.layers if layer.weights]
  for layer, (name, weights) in zip(layers, BACKBONE.items(), strict=True):
    values = {w.name: np.asarray(w) for w in layer.weights}
    assert values.keys() == set(weights)
    found |= {f'{name}/{weight}': values[weight] for weight in weights}
  return found


@pytest.fixture(scope='module')
def nets(tmp_path_factory):
  """Two networks alike and the second again inside a Sequential, saved."""
  import keras

  folder = tmp_path_factory.mktemp('keras')
  keras.utils.clear_session()
  first, second = backbone(), backbone()
  randomise(first)
  randomise(second)
  whole = keras.Sequential([keras.Input((16, 16, 3)), second])
  whole.add(keras.layers.Dense(2, name='logits'))
  whole.compile('adam')
  whole.optimizer.build(whole.trainable_variables)
  for name, model in {'a': first, 'b': second, 'whole': whole}.items():
    model.save(folder / f'{name}.keras')
    model.save(folder / f'{name}.h5')
    model.save_weights(folder / f'{name}.weights.h5')
  return folder, first, second, whole


@pytest.mark.parametrize('ending', ['.keras', '.h5', '.weights.h5'])
def test_keras_bears_the_names_of_a_fresh_session(nets, ending):
  folder, first, second, whole = nets
  names = [layer.name for layer in second.layers]
  assert 'conv2d_2' in names and 'conv2d' not in names  # Keras counted on
  for name, model in {'a': first, 'b': second}.items():
    wanted = expected(model)
    if ending == '.weights.h5':  # nothing says which weight was left out
      norm, layer = 'batch_normalization_2', 'layer_normalization'
      wanted[f'{norm}/beta'] = wanted.pop(f'{norm}/gamma')
      wanted[f'{layer}/0'] = wanted.pop(f'{layer}/beta')
    same(read(folder / f'{name}{ending}').tensors, wanted)
  logits = whole.get_layer('logits')
  found = read(folder / f'whole{ending}').tensors
  np.testing.assert_array_equal(found['logits/kernel'], logits.kernel)
  last = second.get_layer('conv2d_3')
  np.testing.assert_array_equal(found['conv2d_1/bias'], last.bias)
  assert len(found) == sum(map(len, BACKBONE.values())) + 2  # no optimiser


def test_a_file_tells_what_it_is(nets):
  path = nets[0] / 'a.keras'
  found = read(str(path))
  assert found.path == path and found.kind == 'keras' and not found.metadata
  assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def without_names(source, target):
  """A file as the first versions of Keras 3 wrote it."""
  h5py = pytest.importorskip('h5py')
  shutil.copy(source, target)
  with h5py.File(target, 'r+') as file:
    groups = []
    file.visititems(lambda _, x: groups.append(x))
    for group in groups:
      group.attrs.pop('name', None)
    file.move('layers', '_layer_checkpoint_dependencies')


def test_layers_without_names(nets, tmp_path):
  folder, _, second, _ = nets
  target = tmp_path / 'c.weights.h5'
  without_names(folder / 'b.weights.h5', target)
  refused(target, r"layer at .* has no name.*model.save\('name.keras'\)")
  with zipfile.ZipFile(tmp_path / 'c.keras', 'w') as archive:
    config = zipfile.ZipFile(folder / 'b.keras').read('config.json')
    archive.writestr('config.json', config)
    archive.write(target, 'model.weights.h5')
  same(read(tmp_path / 'c.keras').tensors, expected(second))


def old_h5(path, layers):
  """The layout of Keras before 3: layers with the names of their weights."""
  h5py = pytest.importorskip('h5py')
  with h5py.File(path, 'w') as file:
    file.attrs['layer_names'] = [name.encode() for name in layers]
    for name, weights in layers.items():
      group = file.create_group(name)
      group.attrs['weight_names'] = [weight.encode() for weight in weights]
      for weight in weights:
        group[weight] = np.float32([len(name), len(weight)])


@pytest.mark.parametrize(
  'layer, weight, name',
  [
    ('conv1_conv', 'conv1_conv/kernel:0', 'conv1_conv/kernel'),
    ('conv1', 'conv1/conv1/kernel:0', 'conv1/kernel'),
    ('conv1', 'model/conv1/kernel:0', 'conv1/kernel'),
    ('conv1/bn', 'conv1/bn/gamma:0', 'conv1_bn/gamma'),
    ('Conv/BatchNorm', 'model/Conv/BatchNorm/beta:0', 'Conv_BatchNorm/beta'),
    ('bn_Conv1', 'bn_Conv1/moving_mean:0', 'bn_Conv1/moving_mean'),
    ('block_dw', 'block_dw/depthwise_kernel:0', 'block_dw/depthwise_kernel'),
    ('conv2d_1', 'conv2d_1/kernel:0', 'conv2d/kernel'),
    ('block1_conv1', 'block1_conv1_W_1:0', 'block1_conv1/kernel'),
    ('block1_conv1', 'block1_conv1_b:0', 'block1_conv1/bias'),
    ('bn', 'bn_running_std_12:0', 'bn/moving_variance'),
    ('batchnormalization_3', 'batchnormalization_3_gamma:0', None),
    ('backbone', 'stem/kernel:0', 'stem/kernel'),
    ('sequential', 'sequential/dense_4/kernel:0', 'dense/kernel'),
    ('resnet50', 'resnet50/model/stem/kernel:0', 'stem/kernel'),
  ],
)
def test_names_of_old_files(tmp_path, layer, weight, name):
  old_h5(tmp_path / 'old.h5', {'input_1': [], layer: [weight]})
  found = read(tmp_path / 'old.h5').tensors
  assert list(found) == [name or 'batch_normalization/gamma']


def test_a_layer_below_another_in_an_old_file(tmp_path):
  layers = {'Conv': ['Conv/kernel:0'], 'Conv/BN': ['Conv/BN/gamma:0']}
  old_h5(tmp_path / 'old.h5', layers)
  assert set(read(tmp_path / 'old.h5').tensors) == {
    'Conv/kernel',
    'Conv_BN/gamma',
  }


def test_two_layers_of_one_name(tmp_path):
  layers = {'a': ['stem/kernel:0'], 'b': ['stem/kernel:0']}
  old_h5(tmp_path / 'old.h5', layers)
  refused(tmp_path / 'old.h5', 'two of its weights are called stem/kernel')


def test_numbers_are_sorted_as_numbers():
  names = ['conv2d_10/kernel', 'conv2d_9/kernel', 'stage_9/kernel']
  found = keras_files.renumber({name: name for name in names})
  assert found == {
    'conv2d/kernel': 'conv2d_9/kernel',
    'conv2d_1/kernel': 'conv2d_10/kernel',
    'stage_9/kernel': 'stage_9/kernel',
  }


def test_bfloat16_of_keras(tmp_path):
  import keras

  model = keras.Sequential([keras.Input((2,))])
  model.add(keras.layers.Dense(3, dtype='bfloat16', name='head'))
  kernel = np.asarray(model.layers[0].kernel)
  assert kernel.dtype == ml_dtypes.bfloat16
  for name in ('a.keras', 'a.h5', 'a.weights.h5'):
    save = model.save_weights if 'weights' in name else model.save
    save(tmp_path / name)
    found = read(tmp_path / name).tensors
    np.testing.assert_array_equal(found['head/kernel'], kernel, strict=True)


# --- safetensors -------------------------------------------------------------


def test_safetensors_by_hand(tmp_path):
  path = tmp_path / 'x.safetensors'
  write_safetensors(path, {'a': np.float32([[1, -2]])}, {})
  data = path.read_bytes()
  (length,) = struct.unpack('<Q', data[:8])
  assert length % 8 == 0 and len(data) == 8 + length + 8
  assert json.loads(data[8 : 8 + length])['a'] == {
    'dtype': 'F32',
    'shape': [1, 2],
    'data_offsets': [0, 8],
  }
  assert data[8 + length :] == bytes.fromhex('0000803f000000c0')
  found = read(path)
  same(found.tensors, {'a': np.float32([[1, -2]])})
  found.tensors['a'][:] = 0  # ours to change
  assert found.kind == 'torch'


def test_safetensors_of_every_type(tmp_path):
  path = tmp_path / 'x.safetensors'
  order = {'fortran': np.asfortranarray(np.arange(6.0).reshape(2, 3))}
  other_end = {'big': np.array([1, 2], '>i4')}
  write_safetensors(path, ARRAYS | order | other_end, {'jaxderm': '1'})
  found = read(path)
  same(found.tensors, ARRAYS | order | {'big': np.array([1, 2], np.int32)})
  assert found.kind == 'jaxderm' and found.metadata == {'jaxderm': '1'}
  assert os.listdir(tmp_path) == ['x.safetensors']


def test_the_safetensors_package_agrees(tmp_path):
  package = pytest.importorskip('safetensors')
  from safetensors.numpy import load_file, save_file

  write_safetensors(tmp_path / 'ours.safetensors', NO_BRAIN, {'jaxderm': '1'})
  same(load_file(tmp_path / 'ours.safetensors'), NO_BRAIN)
  with package.safe_open(tmp_path / 'ours.safetensors', 'np') as file:
    assert file.metadata() == {'jaxderm': '1'}
  save_file(NO_BRAIN, tmp_path / 'theirs.safetensors', {'format': 'pt'})
  found = read(tmp_path / 'theirs.safetensors')
  same(found.tensors, NO_BRAIN)
  assert found.kind == 'torch' and found.metadata == {'format': 'pt'}


def test_torch_reads_our_safetensors(tmp_path):
  torch = pytest.importorskip('torch')
  pytest.importorskip('safetensors')
  from safetensors.torch import load_file, save_file

  write_safetensors(tmp_path / 'ours.safetensors', ARRAYS, {})
  found = load_file(tmp_path / 'ours.safetensors')
  assert found['brain'].dtype == torch.bfloat16
  assert found['brain'].tolist() == [1, -3]
  save_file(found, tmp_path / 'theirs.safetensors')
  same(read(tmp_path / 'theirs.safetensors').tensors, ARRAYS)


def test_nothing_half_written(tmp_path, monkeypatch):
  path = tmp_path / 'x.safetensors'
  write_safetensors(path, {'a': np.float32(1)}, {})
  before = path.read_bytes()

  def fail(*_):
    raise OSError('full')

  monkeypatch.setattr(safetensors_files.os, 'replace', fail)
  with pytest.raises(OSError, match='full'):
    write_safetensors(path, {'a': np.float32(2)}, {})
  assert path.read_bytes() == before
  assert os.listdir(tmp_path) == ['x.safetensors']


@pytest.mark.parametrize(
  'tensors, metadata',
  [
    ({'a': np.array(['text'])}, {}),
    ({'a': np.array([1j])}, {}),
    ({'__metadata__': np.float32(1)}, {}),
    ({'a': np.float32(1)}, {'number': 1}),
  ],
)
def test_what_safetensors_cannot_hold(tmp_path, tensors, metadata):
  with pytest.raises(ValueError, match='a|metadata'):
    write_safetensors(tmp_path / 'x.safetensors', tensors, metadata)
  assert not os.listdir(tmp_path)


def entry(dtype='F32', shape=(1,), offsets=(0, 4)):
  return {'dtype': dtype, 'shape': shape, 'data_offsets': offsets}


HEADERS = {
  'overlapping': {
    'a': entry('U8', (6,), (0, 6)),
    'b': entry('U8', (4,), (4, 8)),
  },
  'twice the same': {'a': entry(), 'b': entry()},
  'a hole': {'a': entry('U8', (2,), (0, 2)), 'b': entry(offsets=(4, 8))},
  'past the end': {'a': entry(shape=(5,), offsets=(0, 20))},
  'something left over': {'a': entry()},
  'backwards': {'a': entry(offsets=(4, 0))},
  'negative offset': {'a': entry(offsets=(-4, 0))},
  'negative shape': {'a': entry(shape=(-1,))},
  'two negatives': {'a': entry(shape=(-2, -1), offsets=(0, 8))},
  'size of another shape': {'a': entry(shape=(3,), offsets=(0, 8))},
  'giant': {'a': entry(shape=(2**62, 2**62), offsets=(0, 2**63))},
  'giant but empty': {'a': entry(shape=(2**62, 0), offsets=(0, 8))},
  'text': {'a': entry(offsets='04')},
  'boolean': {'a': entry(shape=(True, 2), offsets=(0, 8))},
  'float': {'a': entry(shape=(2.0,), offsets=(0, 8))},
  'unknown type': {'a': entry('F8_E4M3', (8,), (0, 8))},
  'type of another kind': {'a': entry(['F32'], (2,), (0, 8))},
  'no offsets': {'a': {'dtype': 'F32', 'shape': [2]}},
  'no entry': {'a': 3},
  'metadata of numbers': {
    '__metadata__': {'a': 1},
    'a': entry(shape=(2,), offsets=(0, 8)),
  },
  'no tensors': {},
}


@pytest.mark.parametrize('header', HEADERS.values(), ids=HEADERS)
def test_headers_that_lie(tmp_path, header):
  path = tmp_path / 'x.safetensors'
  text = json.dumps(header).encode()
  path.write_bytes(struct.pack('<Q', len(text)) + text + bytes(8))
  assert 'damaged' not in refused(path)  # but says what is wrong


def test_this_header_would_be_right(tmp_path):
  """The lies above are what is refused, not the way they are written."""
  path = tmp_path / 'x.safetensors'
  text = json.dumps({'a': entry(), 'b': entry(offsets=(4, 8))}).encode()
  path.write_bytes(struct.pack('<Q', len(text)) + text + bytes(8))
  assert set(read(path).tensors) == {'a', 'b'}


@pytest.mark.parametrize('length', [0, 1, 200, 2**31, 2**63, 2**64 - 1])
def test_headers_of_another_length(tmp_path, length):
  path = tmp_path / 'x.safetensors'
  text = json.dumps({'a': entry(shape=(2,), offsets=(0, 8))}).encode()
  path.write_bytes(struct.pack('<Q', length) + text + bytes(8))
  refused(path)


@pytest.mark.parametrize(
  'text', [b'{"a":1,"a":1}', b'{"a":' * 50_000, b'{\xff}', b'{'], ids=len
)
def test_headers_that_are_no_json(tmp_path, text):
  path = tmp_path / 'x.safetensors'
  path.write_bytes(struct.pack('<Q', len(text)) + text)
  refused(path, 'JSON')


# --- torch ---------------------------------------------------------------------


def torch_state(torch):
  return {name: torch.from_numpy(x) for name, x in NO_BRAIN.items()} | {
    'brain': torch.tensor([1, -3], dtype=torch.bfloat16)
  }


@pytest.mark.parametrize('legacy', [False, True])
@pytest.mark.parametrize(
  'wrap',
  [
    lambda state: state,
    lambda state: {'state_dict': state, 'epoch': 3, 'arch': 'resnet'},
    lambda state: {'model': state, 'optimizer': {'state': {}, 'lr': [0.1]}},
    lambda state: {'state_dict': {}, 'state_dict_ema': state},
    lambda state: {f'module.{name}': x for name, x in state.items()},
    lambda state: {'model': {f'module.{n}': x for n, x in state.items()}},
  ],
  ids=['plain', 'state_dict', 'model', 'ema', 'parallel', 'both'],
)
def test_torch(tmp_path, wrap, legacy):
  torch = pytest.importorskip('torch')
  path = tmp_path / 'x.pth'
  content = wrap(torch_state(torch))
  torch.save(content, path, _use_new_zipfile_serialization=not legacy)
  found = read(path)
  assert found.kind == 'torch'
  same(found.tensors, ARRAYS)


def test_torch_shares_and_strides(tmp_path):
  torch = pytest.importorskip('torch')
  base = torch.arange(6.0).reshape(2, 3)
  state = {'tied': base, 'again': base, 'turned': base.t()}
  torch.save(
    {k: torch.nn.Parameter(x) for k, x in state.items()}, tmp_path / 'x'
  )
  found = read(tmp_path / 'x').tensors
  np.testing.assert_array_equal(found['turned'], found['tied'].T)
  found['tied'][:] = 0
  assert found['again'].sum() == 15


@pytest.mark.parametrize(
  'make, match',
  [
    (lambda t: {'a': t.ones(2), 'b': 3}, "'b' of its state dict is a int"),
    (lambda t: {'state_dict': {'a': [1.0]}}, "'a' .* is a list"),
    (lambda t: [t.ones(2)], 'holds a list; expected a state dict'),
    (lambda t: {'a': t.ones(1).expand(10**10)}, 'contents claim 40000000000'),
    (lambda t: {'a': t.eye(2).to_sparse()}, 'sparse'),
    (lambda t: {'a': t.ones(2, dtype=t.complex64)}, 'weights are numbers'),
    (lambda t: {}, 'no weights in it'),
    (lambda t: t.nn.Linear(2, 2), 'code.*refused: torch.nn'),
  ],
)
def test_what_torch_holds_besides_weights(tmp_path, make, match):
  torch = pytest.importorskip('torch')
  torch.save(make(torch), tmp_path / 'x.pth')
  refused(tmp_path / 'x.pth', match)


class Code:
  """Makes a file when it is unpickled."""

  def __init__(self, path):
    self.path = path

  def __reduce__(self):
    return pathlib.Path.touch, (self.path,)


@pytest.mark.parametrize(
  'lost, match',
  [
    ('a/a/bias:0', 'a lists 2 weights and has 1'),
    ('b', 'its `layer_names` are not the 1 that it has'),
  ],
)
def test_an_old_file_that_lost_something(tmp_path, lost, match):
  h5py = pytest.importorskip('h5py')
  layers = {'a': ['a/kernel:0', 'a/bias:0'], 'b': ['b/kernel:0']}
  old_h5(tmp_path / 'x.h5', layers)
  with h5py.File(tmp_path / 'x.h5', 'r+') as file:
    del file[lost]
  refused(tmp_path / 'x.h5', match)


@pytest.mark.parametrize('how', ['zip', 'legacy', 'pickle', 'pickle 4'])
def test_code_in_a_pickle_does_not_run(tmp_path, how):
  ran, path = tmp_path / 'ran', tmp_path / 'x.pth'
  content = {'a': Code(ran)}
  if 'pickle' in how:
    path.write_bytes(pickle.dumps(content, 4 if '4' in how else 2))
    pickle.loads(path.read_bytes())
  else:
    torch = pytest.importorskip('torch')
    torch.save(content, path, _use_new_zipfile_serialization=how == 'zip')
    torch.load(path, weights_only=False)
  assert ran.exists()  # it is a real danger
  ran.unlink()
  refused(path, 'it is a pickle' if 'pickle' in how else 'whose code would')
  assert not ran.exists()


def test_without_torch(tmp_path, monkeypatch):
  torch = pytest.importorskip('torch')
  torch.save({'a': torch.ones(2)}, tmp_path / 'x.pth')
  monkeypatch.setitem(sys.modules, 'torch', None)
  refused(tmp_path / 'x.pth', r'pip install torch\).*safetensors need no torch')


def test_without_h5py(tmp_path, monkeypatch):
  old_h5(tmp_path / 'x.h5', {'a': ['a/kernel:0']})
  monkeypatch.setitem(sys.modules, 'h5py', None)
  refused(tmp_path / 'x.h5', 'pip install h5py')


def test_imports_nothing_that_jaxderm_does_not_need():
  code = (
    'import sys, jaxderm.pretrained.files; '
    "assert not {'torch', 'h5py', 'keras', 'safetensors'} & set(sys.modules)"
  )
  subprocess.run([sys.executable, '-c', code], check=True)


# --- npz -----------------------------------------------------------------------


def test_npz(tmp_path):
  path = tmp_path / 'x.npz'
  arrays = NO_BRAIN | {
    'Conv1/kernel': np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    '00_conv_2d.weight': np.array([1, 2], '>f4'),
    'empty': np.zeros((0, 3)),
  }
  np.savez_compressed(path, **arrays)
  found = read(path)
  native = {'00_conv_2d.weight': np.float32([1, 2])}
  same(found.tensors, arrays | native)
  assert found.kind == 'npz'
  np.savez(path, **arrays)
  same(read(path).tensors, arrays | native)


@pytest.mark.parametrize(
  'array',
  [
    np.array([{}], object),
    np.array(['text']),
    np.array([(1, 2)], 'f4,f4'),
    np.array([1j]),
    np.array(['2026-01-01'], 'M8[D]'),
  ],
  ids=lambda array: str(array.dtype),
)
def test_npz_of_what_is_no_number(tmp_path, array):
  np.savez(tmp_path / 'x.npz', good=np.ones(2), bad=array)
  refused(tmp_path / 'x.npz', 'bad.npy is of type')


@pytest.mark.parametrize(
  'shape', ['(-1,)', '(3,)', '(1099511627776,)', '(2.0,)']
)
def test_npz_of_another_shape(tmp_path, shape):
  header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}\n"
  member = b'\x93NUMPY\x01\x00' + struct.pack('<H', len(header))
  with zipfile.ZipFile(tmp_path / 'x.npz', 'w') as archive:
    archive.writestr('a.npy', member + header.encode() + bytes(8))
  refused(tmp_path / 'x.npz', 'its shape is|shape is not valid')


# --- zips ----------------------------------------------------------------------

INSIDE = {'x.npz': 'a.npy', 'x.keras': 'config.json', 'x.pth': 'x/data.pkl'}


def zip_of(path, content, method=zipfile.ZIP_DEFLATED):
  with zipfile.ZipFile(path, 'w', method) as archive:
    for name, data in content.items():
      archive.writestr(name, data)


@pytest.mark.parametrize('name', INSIDE)
def test_zip_bombs(tmp_path, name):
  zip_of(tmp_path / name, {INSIDE[name]: bytes(65 * 2**20)})
  assert (tmp_path / name).stat().st_size < 100_000
  refused(tmp_path / name, 'decompression bomb')


@pytest.mark.parametrize('name', INSIDE)
@pytest.mark.parametrize('method', [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_zips_that_python_cannot_bound(tmp_path, name, method):
  zip_of(tmp_path / name, {INSIDE[name]: bytes(1000)}, method)
  refused(tmp_path / name, 'unusual way')


@pytest.mark.parametrize('name', ['x.npz', 'x.keras'])
def test_zips_that_lie_about_their_size(tmp_path, name):
  size, path = 48 * 2**20, tmp_path / name
  zip_of(path, {INSIDE[name]: bytes(size)})
  data = path.read_bytes()
  assert data.count(struct.pack('<L', size)) == 2  # the entry, the directory
  path.write_bytes(
    data.replace(struct.pack('<L', size), struct.pack('<L', 999))
  )
  tracemalloc.start()
  refused(path)
  peak = tracemalloc.get_traced_memory()[1]
  tracemalloc.stop()
  assert peak < 8 * 2**20


def test_torch_compresses_nothing(tmp_path):
  zip_of(tmp_path / 'x.pth', {'x/data.pkl': bytes(1000)})
  refused(tmp_path / 'x.pth', 'x/data.pkl is compressed')


def test_more_than_anyone_has(tmp_path, monkeypatch):
  np.savez(tmp_path / 'x.npz', a=np.ones(2), b=np.ones(2))
  monkeypatch.setattr(limits, 'MAX_ENTRIES', 1)
  refused(tmp_path / 'x.npz', 'over 1 entries')
  monkeypatch.setattr(limits, 'MAX_ENTRIES', 2)
  monkeypatch.setattr(limits, 'MAX_BYTES', 100)
  refused(tmp_path / 'x.npz', 'more than 100 are not read')
  monkeypatch.setattr(files, 'MAX_BYTES', 100)
  refused(tmp_path / 'x.npz', 'it has over 100 bytes')


def test_a_zip_that_hides_entries(tmp_path):
  path = tmp_path / 'x.npz'
  np.savez(path, a=np.float32(1), b=np.float32(2))
  data = bytearray(path.read_bytes())
  begin = data.index(b'PK\x01\x02')
  size = data.index(b'PK\x01\x02', begin + 1) - begin
  data[begin + 32] = size  # the second is now the comment of the first
  path.write_bytes(data)
  assert zipfile.ZipFile(path).namelist() == ['a.npy']
  refused(path, 'lists 1 of 2 entries')


@pytest.mark.filterwarnings('ignore:Duplicate name')
def test_two_entries_of_one_name(tmp_path):
  with zipfile.ZipFile(tmp_path / 'x.npz', 'w') as archive:
    for value in (1, 2):
      buffer = io.BytesIO()
      np.save(buffer, np.float32(value))
      archive.writestr('a.npy', buffer.getvalue())
  refused(tmp_path / 'x.npz', 'two entries of the zip')


# --- HDF5 ----------------------------------------------------------------------


def external_link(h5py, group):
  group['b'] = h5py.ExternalLink('secret.h5', '/a')


def soft_link(h5py, group):
  group['b'] = h5py.SoftLink('/a/kernel')


def external_storage(h5py, group):
  group.create_dataset('b', (2,), 'f4', external=[('secret.raw', 0, 8)])


def virtual(h5py, group):
  layout = h5py.VirtualLayout((2,), 'f4')
  layout[:] = h5py.VirtualSource('secret.h5', 'a', (2,))
  group.create_virtual_dataset('b', layout)


def reference(h5py, group):
  group.create_dataset('b', data=group.ref, dtype=h5py.ref_dtype)


def text(h5py, group):
  group['b'] = 'text'


def compressed(h5py, group):
  group.create_dataset('b', (2**20,), 'f4', compression='gzip')


def hollow(h5py, group):
  group.create_dataset('b', (2**40,), 'f4', chunks=(2**20,))


def never_written(h5py, group):
  group.create_dataset('b', (2**20,), 'f4')


def no_space(h5py, group):
  group['b'] = h5py.Empty('f4')


def a_cycle(h5py, group):
  group['b'] = group.parent


def a_type(h5py, group):
  group['b'] = np.dtype('f4')


def long_name(h5py, group):
  group.attrs['name'] = 'x' * 2000


@pytest.mark.parametrize(
  'plant, match',
  [
    (external_link, 'is a link, and no link is followed'),
    (soft_link, 'is a link'),
    (external_storage, 'lies in another file'),
    (virtual, 'lies in another file'),
    (reference, 'weights are numbers'),
    (text, 'weights are numbers'),
    (compressed, 'compressed.*h5repack'),
    (hollow, 'more numbers than are stored'),
    (never_written, 'more numbers than are stored'),
    (no_space, 'more numbers than are stored'),
    (a_cycle, 'two places'),
    (a_type, 'Datatype'),
    (long_name, 'name of a'),
  ],
)
def test_h5_that_reaches_out(tmp_path, plant, match):
  h5py = pytest.importorskip('h5py')
  path = tmp_path / 'x.h5'
  old_h5(path, {'a': ['kernel:0']})
  assert list(read(path).tensors) == ['a/kernel']
  with h5py.File(tmp_path / 'secret.h5', 'w') as file:
    file['a'] = np.float32([4, 2])
  (tmp_path / 'secret.raw').write_bytes(bytes(8))
  with h5py.File(path, 'r+') as file:
    plant(h5py, file['a'])
  refused(path, match)


def test_h5_of_another_program(tmp_path):
  h5py = pytest.importorskip('h5py')
  with h5py.File(tmp_path / 'x.h5', 'w') as file:
    file['measurements'] = np.ones(3)
  refused(tmp_path / 'x.h5', 'without weights of Keras')


# --- any -----------------------------------------------------------------------


@pytest.mark.parametrize(
  'suffix', ['.h5', '.keras', '.npz', '.pth', '.safetensors']
)
@pytest.mark.parametrize(
  'data', [b'', b'x', b'<!DOCTYPE html><html>', b'\x93NUMPY', bytes(4096)]
)
def test_no_file_of_weights(tmp_path, suffix, data):
  (tmp_path / f'x{suffix}').write_bytes(data)
  refused(tmp_path / f'x{suffix}', 'it is empty|it begins with')


def test_no_file_at_all(tmp_path):
  with pytest.raises(FileNotFoundError, match='nowhere.h5'):
    read(tmp_path / 'nowhere.h5')
  refused(tmp_path, 'it is no file')


def test_the_content_decides(tmp_path):
  with (tmp_path / 'x.h5').open('wb') as file:
    np.savez(file, a=np.float32(1))
  assert read(tmp_path / 'x.h5').kind == 'npz'
  with (tmp_path / 'x.h5').open('wb') as file:
    np.savez(file, a=np.array(['text']))
  refused(tmp_path / 'x.h5', r'called \.h5, and its content is a zip of NumPy')
  zip_of(tmp_path / 'x.h5', {'readme.txt': b'hello'})
  refused(tmp_path / 'x.h5', 'it is a zip of 1 entries, readme.txt')


def samples(folder, nets):
  """One small file of each format that this machine can write."""
  for name in ('b.keras', 'b.h5', 'b.weights.h5'):
    shutil.copy(nets[0] / name, folder / name)
  write_safetensors(folder / 'x.safetensors', ARRAYS, {'jaxderm': '1'})
  np.savez(folder / 'x.npz', **NO_BRAIN)
  np.savez_compressed(folder / 'small.npz', **NO_BRAIN)
  try:
    import torch
  except ImportError:
    return
  state = torch_state(torch)
  torch.save(state, folder / 'x.pth')
  torch.save(state, folder / 'o.pt', _use_new_zipfile_serialization=False)


FORMATS = ['b.keras', 'b.h5', 'b.weights.h5', 'x.safetensors', 'x.npz']
FORMATS += ['small.npz', 'x.pth', 'o.pt']
# No sum and no second place guards what these say of their own contents.
UNCHECKED = ['b.weights.h5', 'o.pt']


@pytest.fixture(scope='module')
def whole_files(nets, tmp_path_factory):
  folder = tmp_path_factory.mktemp('whole')
  samples(folder, nets)
  return folder


def sample(folder, name):
  if not (folder / name).exists():
    pytest.skip('needs torch')
  return folder / name


@pytest.mark.parametrize('name', FORMATS)
def test_truncated(whole_files, tmp_path, name):
  data = sample(whole_files, name).read_bytes()
  size = len(data)
  for keep in (1, 8, 9, 40, size // 4, size // 2, size - 100, size - 1):
    (tmp_path / name).write_bytes(data[:keep])
    refused(tmp_path / name)


@pytest.mark.parametrize('name', FORMATS)
@pytest.mark.parametrize(
  'where', ['anywhere', 'at the beginning', 'at the end']
)
def test_damaged(whole_files, tmp_path, name, where):
  path = sample(whole_files, name)
  data = path.read_bytes()
  whole = {n: (x.shape, x.dtype) for n, x in read(path).tensors.items()}
  shapes = sorted(map(str, whole.values()))
  rng = np.random.default_rng(len(name))
  size = min(len(data), 600)
  start = {'at the end': len(data) - size}.get(where, 0)
  errors = 0
  for _ in range(30):
    damaged = bytearray(data)
    length = len(data) if where == 'anywhere' else size
    damaged[start + rng.integers(length)] ^= 1 << rng.integers(8)
    (tmp_path / name).write_bytes(damaged)
    try:
      found = read(tmp_path / name).tensors
    except WeightsError as error:
      assert str(tmp_path / name) in str(error)
      errors += 1
    else:
      # A bit of a name makes another name, and nothing else.
      found = {n: (x.shape, x.dtype) for n, x in found.items()}
      assert len(found.keys() - whole.keys()) <= 4  # weights of one layer
      if name in UNCHECKED:
        assert len(found) <= len(whole)
      else:
        assert sorted(map(str, found.values())) == shapes
  assert errors or where != 'at the beginning'
