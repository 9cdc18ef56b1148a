"""What every decoder promises, alone and in a Segmenter."""

from collections.abc import Callable
from functools import cache, partial
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import draw, quick_jit

from jaxderm.cost import parameters
from jaxderm.models import decoders, encoders, layers
from jaxderm.models.decoders.residual import Inception, Stage
from jaxderm.models.segmenter import Segmenter

KEY = jax.random.key(0)
# A pyramid's finest map, as a share of the image, that each decoder takes.
DECODERS = {
  'Fuse': (decoders.Fuse, 1),
  'GatedUNet': (partial(decoders.GatedUNet, widths=(8, 4, 4)), 1),
  'ResidualDecoder': (partial(decoders.ResidualDecoder, base=2), 2),
  'SegNet': (partial(decoders.SegNet, depths=(1, 2, 2)), 1),
  'SwinDecoder': (partial(decoders.SwinDecoder, window=3, factor=2), 2),
  'UNet': (partial(decoders.UNet, widths=(8, 4, 4)), 1),
  'UNetPlusPlus': (decoders.UNetPlusPlus, 1),
}
SIDES = [(64, 64), (32, 96)]
Small = partial(
  encoders.Plain8,
  widths=(2, 3, 4, 5),
  taps=('stage1', 'stage2', 'stage3', 'stage4'),
)


def shapes(module, *inputs):
  return jax.eval_shape(lambda *x: module.init_with_output(KEY, *x), *inputs)


def pyramid(side, finest, levels=4):
  return tuple(
    jax.ShapeDtypeStruct(
      (2, side[0] // finest >> i, side[1] // finest >> i, 3 + i), jnp.float32
    )
    for i in range(levels)
  )


def count(tree):
  return sum(leaf.size for leaf in jax.tree.leaves(tree))


def test_every_decoder_is_tested():
  assert set(DECODERS) == set(decoders.__all__)


@pytest.mark.parametrize('name', DECODERS)
@pytest.mark.parametrize('side', SIDES)
def test_decodes_to_the_size_of_the_image(name, side):
  make, finest = DECODERS[name]
  features, _ = shapes(make(), pyramid(side, finest))
  assert features.shape[:3] == (2, *side)


@pytest.mark.parametrize('name', DECODERS)
@pytest.mark.parametrize(
  'side, classes', [((64, 64), 1), ((65, 33), 2), ((50, 71), 1)]
)
def test_segments_any_size(name, side, classes):
  make, finest = DECODERS[name]
  encoder = Small() if finest == 1 else encoders.EfficientNetB0()
  if name == 'ResidualDecoder':
    encoder = encoders.EfficientNetB0()
  network = Segmenter(encoder, make(), None, classes, multiple=32)
  image = jax.ShapeDtypeStruct((2, *side, 3), jnp.float32)
  logits, variables = shapes(network, image)
  assert logits.shape == (2, *side, classes)
  assert set(variables['params']) == {'encoder', 'decoder', 'logits'}


def test_segmenter_crops_what_it_padded():
  """The logits of a part of an image that is padded are those of the part."""
  taps = ('stage1', 'stage2')
  network = Segmenter(Small(taps=taps), decoders.UNet((3,)), multiple=8)
  image = np.random.default_rng(0).normal(size=(1, 13, 10, 3))
  variables = draw(network, image)
  padded = np.pad(image, ((0, 0), (0, 3), (0, 6), (0, 0)), 'edge')
  apply = quick_jit(network.apply)
  logits = np.asarray(apply(variables, image))
  assert logits.std() > 0.1
  np.testing.assert_allclose(
    logits, apply(variables, padded)[:, :13, :10], atol=1e-5
  )


def test_neck_stands_between():
  class Neck(nn.Module):
    @nn.compact
    def __call__(self, pyramid, train):
      return tuple(layers.Conv(4, 1)(x) for x in pyramid)

  network = Segmenter(Small(), decoders.UNet((4, 4, 4)), Neck())
  logits, variables = shapes(network, jnp.ones((1, 32, 32, 3)))
  assert logits.shape == (1, 32, 32, 1)
  parts = {'encoder', 'neck', 'decoder', 'logits'}
  assert set(variables['params']) == parts


# SPEC 1.4, with a head for each output.
@pytest.mark.parametrize(
  'changes, expected',
  [
    ({}, 5_156_593),
    ({'up': 'transpose'}, 5_092_705),
    ({'up': 'transpose', 'deep_supervision': True}, 5_092_780),
    ({'dense': False}, 4_980_337),
    ({'dense': False, 'up': 'transpose'}, 4_916_449),
  ],
)
def test_size_of_unetpp(changes, expected):
  network = Segmenter(encoders.Plain24(), decoders.UNetPlusPlus(**changes))
  assert parameters(network, 32)[0] == expected


class Nested(NamedTuple):
  """A small UNet++ with a head for each depth, compiled."""

  make: Callable[..., nn.Module]
  apply: Callable[..., tuple[jax.Array, ...]]
  variables: dict
  image: np.ndarray


@pytest.fixture(scope='module', params=[True, False], ids=['dense', 'plain'])
def nested(request):
  def make(depth=3):
    return Segmenter(
      Small(taps=Small().taps[: depth + 1]),
      decoders.UNetPlusPlus(depth, request.param, deep_supervision=True),
      multiple=8,
    )

  image = np.random.default_rng(0).normal(size=(2, 8, 16, 3))
  variables = draw(make(), image)
  return Nested(make, quick_jit(make().apply), variables, image)


def test_pruned_unetpp_is_a_head_of_the_full_one(nested):
  heads = nested.apply(nested.variables, nested.image)
  assert len(heads) == 3
  small = nested.make(depth=2)
  pruned = jax.eval_shape(small.init, KEY, nested.image)

  def subset(part, whole):
    return (
      {key: subset(part[key], whole[key]) for key in part}
      if isinstance(part, dict)
      else whole
    )

  variables = subset(pruned, nested.variables)
  assert count(pruned) < count(nested.variables)
  ours = quick_jit(small.apply)(variables, nested.image)
  assert len(ours) == 2
  for pruned_head, head in zip(ours, heads, strict=False):
    np.testing.assert_allclose(pruned_head, head, atol=1e-5)
  assert not np.allclose(heads[1], heads[2], atol=1e-2)


def test_unetpp_head_rests_on_the_triangle_before_it(nested):
  """X(0, j) is made of the nodes X(i, k) with i + k <= j, and of no other."""
  heads = nested.apply(nested.variables, nested.image)
  used = [set() for _ in heads]
  params = nested.variables['params']
  for name, node in params['decoder'].items():
    other = jax.tree.map(lambda x: 1.5 * x, node)
    decoder = {**params['decoder'], name: other}
    changed = {**nested.variables, 'params': {**params, 'decoder': decoder}}
    for k, head in enumerate(nested.apply(changed, nested.image)):
      if not np.array_equal(head, heads[k]):
        used[k].add(name)
  for j, names in enumerate(used, start=1):
    nodes = {f'x{i}{k}' for i in range(3) for k in range(1, j + 1 - i)}
    assert names == nodes


@pytest.mark.parametrize('depth', [0, 4])
def test_unetpp_refuses_a_depth_it_has_no_levels_for(depth):
  with pytest.raises(ValueError, match='expected 1 to 3'):
    shapes(decoders.UNetPlusPlus(depth), pyramid((32, 32), 1))


def test_unet_needs_a_width_for_each_skip():
  with pytest.raises(ValueError, match='2 widths for 3 skips'):
    shapes(decoders.UNet((4, 4)), pyramid((32, 32), 1))


@cache
def efficientnet(**changes):
  """Its parameters: trainable ones, and all."""
  decoder = decoders.ResidualDecoder(**changes)
  return parameters(Segmenter(encoders.EfficientNetB1(), decoder), 64)


# SPEC 1.7 and 1.8.
@pytest.mark.parametrize(
  'changes, trainable, everything',
  [
    ({}, 6_653_133, 6_681_396),
    ({'nested': False}, 5_965_997, 5_994_260),
    ({'nested': False, 'conv': Inception}, 4_867_361, 4_899_152),
    ({'nested': False, 'conv': layers.SeparableConv}, 4_577_309, 4_605_572),
  ],
)
def test_size_of_the_residual_decoder(changes, trainable, everything):
  assert efficientnet(**changes) == (trainable, everything)


def test_inception_by_hand():
  """Two bright pixels side by side, convolutions that are sums."""
  x = jnp.zeros((1, 5, 5, 1)).at[0, 2, 2:4].set(1)
  inception = Inception(4)
  variables = draw(inception, x)
  constants = {'kernel': 1.0, 'scale': 1.0, 'var': 1 - 1e-3}
  variables = jax.tree_util.tree_map_with_path(
    lambda path, leaf: jnp.full_like(leaf, constants.get(path[-1].key, 0.0)),
    variables,
  )
  y = quick_jit(inception.apply)(variables, x)
  # The pixel, the sum of 3x3, that twice (rows of 1 2 2 1), the maximum.
  np.testing.assert_allclose(y[0, 2, 2], [1, 2, 3 * (1 + 2 + 2), 1], rtol=1e-6)
  np.testing.assert_allclose(y[0, 1, 1], [0, 1, 2 * (1 + 2), 1], rtol=1e-6)


def test_inception_refuses_what_is_no_multiple_of_four():
  with pytest.raises(ValueError, match='6 channels: expected a multiple of 4'):
    jax.eval_shape(Inception(6).init, KEY, jnp.ones((1, 4, 4, 6)))


# Table 3 of paper 000.
@pytest.mark.parametrize('activation', ['mish', 'swish', 'gelu', 'relu'])
def test_activations_have_no_parameters(activation):
  assert efficientnet(activation=activation) == efficientnet()


def test_prelu_has_a_slope_for_each_channel():
  # The coarsest skip has 672 channels; each stage has two activations in its
  # residual and one after it, of the stage's width: 256, 128, 64, 32, 16, 8.
  slopes = 672 + 3 * (256 + 128 + 64 + 32 + 16 + 8)
  with_slopes, _ = efficientnet(activation='prelu')
  assert with_slopes - efficientnet()[0] == slopes


def test_xception_unetpp_is_this_decoder():
  """The printed size (SPEC 1.6), with the encoder as Keras counts it."""
  channels = (128, 256, 728, 1024)
  image = tuple(
    jax.ShapeDtypeStruct((1, 64 >> i, 64 >> i, c), jnp.float32)
    for i, c in enumerate(channels)
  )
  decoder = decoders.ResidualDecoder(base=16, residuals=2, nested=False)
  _, variables = shapes(decoder, image)
  counted = {k: count(tree) for k, tree in variables.items()}
  # keras.applications.Xception up to 'block13_sepconv2_bn': 15,310,632, and
  # 15,355,944 with its statistics. The head has 16 weights and a bias.
  assert counted['params'] + 15_310_632 + 17 == 38_370_009
  assert sum(counted.values()) + 15_355_944 + 17 == 38_431_449


def test_residual_stage_by_hand():
  """With convolutions that are identities, and a shortcut that doubles."""
  stage = Stage(1, activation='leaky_relu')
  x = jnp.array([-1.0, 2.0]).reshape(1, 1, 2, 1)
  variables = quick_jit(stage.init)(KEY, x)
  centre = jnp.zeros((3, 3, 1, 1)).at[1, 1].set(1)
  params = jax.tree.map(
    lambda p: centre if p.ndim == 4 else p, variables['params']
  )
  params['residual1']['norm_shortcut']['scale'] = jnp.array([2.0])
  y = quick_jit(stage.apply)({**variables, 'params': params}, x)
  # -1 is activated to -0.1 and again to -0.01; with the shortcut, -2, it is
  # -2.01, and a tenth of that in the end. 2 becomes 2 + 4. The epsilons of
  # the normalisations take a thousandth.
  np.testing.assert_allclose(y[0, 0, :, 0], [-0.201, 6.0], rtol=3e-3)


def test_raw_upsamplings_go_on_to_every_finer_level():
  """The names of SPEC 1.7, each with the width at which it began."""
  decoder = decoders.ResidualDecoder(base=8)
  _, variables = shapes(decoder, pyramid((64, 64), 2))
  kernels = {
    name: part['kernel'].shape[2:]
    for name, part in variables['params'].items()
    if name.startswith('d')
  }
  assert kernels == {
    'd4': (256, 128),
    'd4u1': (128, 128),
    'd4u2': (128, 128),
    'd4u3': (128, 128),
    'd3': (128, 64),
    'd3u1': (64, 64),
    'd3u2': (64, 64),
    'd2': (64, 32),
    'd2u1': (32, 32),
    'd1': (32, 16),
    'd0': (16, 8),
  }


def test_dropout_of_the_residual_decoder():
  decoder = decoders.ResidualDecoder(base=2, activation='none', dropout=0.0)
  x = tuple(np.ones(s.shape) for s in pyramid((32, 32), 2, levels=1))
  variables = draw(decoder, x)

  @partial(quick_jit, static_argnums=1)
  def zeros(key, train):
    y, _ = decoder.apply(
      variables, x, train, mutable=['batch_stats'], rngs={'dropout': key}
    )
    return y == 0

  # A twentieth of the features is zero before the head, of 4096.
  assert 0.03 < float(jnp.mean(zeros(KEY, True))) < 0.07
  assert not jnp.any(zeros(KEY, False))
  _, sown = jax.eval_shape(
    lambda: decoder.clone(dropout=0.1).apply(
      variables, x, False, capture_intermediates=True, mutable='intermediates'
    )
  )
  dropouts = [k for k in sown['intermediates'] if k.startswith('Dropout')]
  # After the pool, the concatenation, the last upsampling; before the head.
  assert len(dropouts) == 4
