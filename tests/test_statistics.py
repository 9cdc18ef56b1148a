"""Statistics of BatchNorm from images: of made networks, and of real weights."""

import flax.linen as nn
import jax
import numpy as np
import pytest
from compiling import draw, quick_jit
from conftest import real_data

from jaxderm import pretrained
from jaxderm.data import colour
from jaxderm.models import encoders
from jaxderm.models.layers import BatchNorm, Conv, DepthwiseConv

EPSILON = 1e-3


class Net(nn.Module):
  """Two layers, each of a convolution without bias and BatchNorm."""

  @nn.compact
  def __call__(self, x, train=False):
    x = Conv(6, 3, bias=False, name='a')(x)
    x = nn.relu(BatchNorm(epsilon=EPSILON, name='a_bn')(x, train))
    x = DepthwiseConv(3, 2, bias=False, name='b')(x)
    return nn.relu(BatchNorm(epsilon=EPSILON, name='b_bn')(x, train))


def batch(seed):
  return np.random.default_rng(seed).normal(1, 2, (4, 9, 8, 3)).astype('f4')


def folded():
  """Variables as `load` makes them of a file without statistics."""
  variables = draw(Net(), batch(0))
  for name in ('a_bn', 'b_bn'):
    ones = np.ones(6, np.float32)
    variables['params'][name]['scale'] = ones
    variables['batch_stats'][name] = {'mean': 0 * ones, 'var': ones - EPSILON}
  # As of a filter whose weights are all rounded to zero.
  variables['params']['a']['kernel'][..., 2] = 0
  return variables


def in_training(network, variables, image):
  """What the network answers in a step of training."""

  @quick_jit
  def apply(variables, image):
    return network.apply(variables, image, True, mutable=['batch_stats'])[0]

  return apply(variables, image)


def test_unfold_finds_the_statistics():
  variables = folded()
  image = batch(0)
  found = pretrained.unfold(Net(), variables, image)
  kernel = variables['params']['a']['kernel']
  x = np.pad(image, ((0, 0), (1, 1), (1, 1), (0, 0)))
  windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), (1, 2))
  x = np.einsum('bhwckl,klcd->bhwd', windows, kernel, dtype=np.float64)
  stats, params = found['batch_stats']['a_bn'], found['params']['a_bn']
  mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
  np.testing.assert_allclose(stats['mean'], mean, rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(stats['var'], var, rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(params['scale'], np.sqrt(var + EPSILON), rtol=1e-4)
  np.testing.assert_allclose(
    params['bias'], variables['params']['a_bn']['bias'] + mean, atol=1e-5
  )
  np.testing.assert_array_equal(found['params']['a']['kernel'], kernel)


def test_unfolded_network_answers_as_before():
  variables = folded()
  found = pretrained.unfold(Net(), variables, batch(0))
  for seed in (0, 1):  # whatever batch the statistics are of
    expected = Net().apply(variables, batch(seed))
    assert np.std(expected) > 1
    np.testing.assert_allclose(
      Net().apply(found, batch(seed)), expected, rtol=0, atol=1e-4
    )


def test_unfolded_network_answers_as_before_in_training():
  """To the batch that its statistics are of; to another nearly."""
  variables = folded()
  found = pretrained.unfold(Net(), variables, batch(0))
  expected = Net().apply(variables, batch(0))
  trained = in_training(Net(), found, batch(0))
  np.testing.assert_allclose(trained, expected, rtol=0, atol=1e-4)
  before = in_training(Net(), variables, batch(0))
  assert np.abs(before - expected).max() > 1, 'nothing was to be done'
  other = np.abs(in_training(Net(), found, batch(1)) - expected)
  assert np.abs(other).max() > 1e-3, 'training does not normalise by the batch'


def test_calibrated_network_answers_alike_in_training():
  variables = draw(Net(), batch(0))
  found = pretrained.calibrate(Net(), variables, batch(0), jit=quick_jit)
  jax.tree.map(
    np.testing.assert_array_equal, found['params'], variables['params']
  )
  expected = in_training(Net(), variables, batch(0))
  np.testing.assert_allclose(
    Net().apply(found, batch(0)), expected, rtol=0, atol=1e-4
  )
  assert np.abs(Net().apply(variables, batch(0)) - expected).max() > 0.1


def pieces(side=96):
  """Pieces of two photographs [8, side, side, 3], 0 to 255."""
  datasets = pytest.importorskip('sklearn.datasets')
  images = np.stack(datasets.load_sample_images().images)
  corners = [(40, 20), (60, 330), (240, 60), (260, 420)]
  return np.concatenate(
    [images[:, y : y + side, x : x + side] for y, x in corners]
  ).astype(np.float32)


@pytest.mark.data
def test_unfold_keeps_what_real_weights_answer():
  name = 'mobilenet_v1_1.0_224_imagenet_backbone_bnfolded.npz'
  encoder = encoders.MobileNetV1()
  weights = pretrained.load(real_data('weights') / name, encoder)
  assert weights.folded
  image = colour.normalise(pieces(), weights.normalisation)
  found = pretrained.unfold(encoder, weights.variables, image)
  apply = quick_jit(encoder.apply)
  expected = apply(weights.variables, image)
  evaluated = apply(found, image)
  trained = in_training(encoder, found, image)
  for tap, a, b, c in zip(
    encoder.taps, expected, evaluated, trained, strict=True
  ):
    assert np.std(a) > 0.2, f'{tap} does not see'
    np.testing.assert_allclose(b, a, rtol=0, atol=5e-4, err_msg=tap)
    np.testing.assert_allclose(c, a, rtol=0, atol=5e-4, err_msg=tap)
