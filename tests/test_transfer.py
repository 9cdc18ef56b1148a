"""A run that starts from a file of weights."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import draw, quick_jit
from conftest import real_data
from test_configs import shrunk

from jaxderm import ensemble, experiment, pretrained, train, transfer
from jaxderm.models import encoders
from jaxderm.pretrained.files import write_safetensors
from jaxderm.pretrained.table import places

IMAGE = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
ABOUT = {
  'jaxderm': '1',
  'encoder': 'Plain8',
  'origin': 'keras',
  'normalisation': 'tf',
  'folded': 'False',
  'library': 'made up',
  'source': 'none',
  'source_sha256': '0' * 64,
}


@pytest.fixture
def weights(tmp_path):
  """A file for Plain8, and the variables in it."""
  variables = draw(encoders.Plain8(), IMAGE)
  path = tmp_path / 'plain8.safetensors'
  tensors = {'/'.join(k): np.asarray(v) for k, v in places(variables).items()}
  write_safetensors(path, tensors, ABOUT)
  return path, variables


@pytest.fixture
def config(weights, tmp_path):
  config = shrunk('synthetic', 'UNet', tmp_path)
  config.model.encoder_weights = str(weights[0])
  # Nothing is learnt, so that what it started from can be seen.
  config.optim.learning_rate = 1e-30
  return config


def test_training_starts_from_the_file_and_remembers_it(
  config, weights, tmp_path
):
  path, variables = weights
  workdir = tmp_path / 'run'
  train.train(config, workdir)
  record = json.loads((workdir / transfer.RECORD).read_text())
  assert record['normalisation'] == 'tf'
  assert record['sha256'] == ABOUT['source_sha256']
  made = experiment.make(config, workdir)
  assert made.weights is None
  found, _ = ensemble.load_member(made, workdir, 'latest')
  jax.tree.map(
    np.testing.assert_array_equal,
    found['params']['encoder'],
    variables['params'],
  )
  # What it says now is in the run's own folder: the file may go.
  path.unlink()
  train.train(config, workdir)
  batch = {'image': np.full((1, 2, 2, 3), 255, np.uint8)}
  again = experiment.make(config, workdir).prepare(batch, None)
  np.testing.assert_allclose(again['image'], 1.0)
  with pytest.raises(FileNotFoundError, match='plain8'):
    train.train(config, tmp_path / 'another')


def test_input_is_normalised_as_the_weights_expect(config):
  prepare = experiment.make(config).prepare
  batch = {'image': np.full((1, 2, 2, 3), 255, np.uint8)}
  np.testing.assert_allclose(prepare(batch, None)['image'], 1.0)
  config.data.normalisation = 'torch'
  with pytest.raises(ValueError, match="'torch', but the weights of .* 'tf'"):
    experiment.make(config)
  config.data.normalisation = 'tf'
  experiment.make(config)


def test_without_weights_the_config_may_choose(config):
  config.model.encoder_weights = None
  config.data.normalisation = 'unit'
  batch = {'image': np.full((1, 2, 2, 3), 255, np.uint8)}
  prepared = experiment.make(config).prepare(batch, None)
  np.testing.assert_allclose(prepared['image'], 1.0)


def test_weights_of_another_encoder_train_nothing(config, tmp_path):
  config.model.system = 'yang2021/UNetPlusPlus'
  workdir = tmp_path / 'run'
  with pytest.raises(pretrained.WeightsError, match='shape of'):
    train.train(config, workdir)
  assert not (workdir / 'config.json').exists()


@pytest.mark.data
@pytest.mark.parametrize('name', ['UMobileNetV1', 'UMobileNetV1Literal'])
def test_networks_of_wei2020_take_real_weights(name, config):
  """All of a file, whichever of its maps the decoder joins."""
  file = 'mobilenet_v1_1.0_224_imagenet_backbone_bnfolded.npz'
  config.model.system = f'wei2020/{name}'
  config.model.encoder_weights = str(real_data('weights') / file)
  made = experiment.make(config)
  assert made.weights.normalisation == 'tf'
  assert made.weights.dropped == ()
  variables = jax.eval_shape(made.network.init, jax.random.key(0), IMAGE)
  assert {
    kind: jax.tree.map(jnp.shape, tree)
    for kind, tree in made.weights.variables.items()
  } == {
    kind: jax.tree.map(jnp.shape, tree['encoder'])
    for kind, tree in variables.items()
  }


def test_folded_weights_get_statistics_from_training_images(config, tmp_path):
  made = experiment.make(config)
  encoder = made.network.encoder
  fold = {'scale': 1.0, 'mean': 0.0, 'var': 1.0 - 1e-3}  # each norm is x + bias
  folded = jax.tree_util.tree_map_with_path(
    lambda path, x: np.full_like(x, fold.get(path[-1].key, x)),
    made.weights.variables,
  )
  weights = dataclasses.replace(made.weights, variables=folded, folded=True)
  examples = experiment.open_data(config, tmp_path).parts['train']
  found = transfer.variables(weights, encoder, examples, made.prepare)
  assert np.ptp(found['batch_stats']['stage5']['conv2']['norm']['var']) > 0
  batch = {'image': np.stack([examples[i]['image'] for i in range(8)])}
  image = made.prepare(batch, None)['image']
  apply = quick_jit(encoder.apply, static_argnums=2)
  before, after = apply(folded, image), apply(found, image)
  for a, b in zip(before, after, strict=True):
    np.testing.assert_allclose(a, b, atol=1e-4 * np.std(a))
  # The statistics are theirs: in training the network is nearly the same.
  trained, _ = encoder.apply(found, image, True, mutable=['batch_stats'])
  spoilt, _ = encoder.apply(folded, image, True, mutable=['batch_stats'])
  assert distance(trained[-1], after[-1]) < 0.3
  assert distance(spoilt[-1], before[-1]) > 0.6


def distance(a, b):
  return float(np.std(a - b) / np.std(b))
