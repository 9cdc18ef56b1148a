"""BatchNorm folded into convolutions: which, and that nothing else changes."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import parity
import pytest
from compiling import draw, quick_jit
from families import member

from jaxderm import folding, inference, sharding, systems, task
from jaxderm.models import encoders
from jaxderm.models.forms import use_form
from jaxderm.models.layers import BatchNorm, Conv, DepthwiseConv, SeparableConv

# BatchNorms of each encoder with its default taps: those that follow a
# convolution, and all. DenseNet normalises what it has concatenated, its second
# of each layer apart; NASNet twice a concatenation, for reductions two; the
# units of PreResNet begin with one; VGG16Do2022 has them after ReLU.
NORMS = {
  'VGG16': (0, 0),
  'VGG16BN': (13, 13),
  'VGG16Do2022': (0, 10),
  'DenseNet121': (59, 121),
  'DenseNet169': (83, 169),
  'DenseNet201': (99, 201),
  'EfficientNetB0': (34, 34),
  'EfficientNetB1': (48, 48),
  'EfficientNetB2': (48, 48),
  'EfficientNetB3': (54, 54),
  'EfficientNetB4': (66, 66),
  'EfficientNetB5': (80, 80),
  'EfficientNetB6': (92, 92),
  'EfficientNetB7': (112, 112),
  'HRNet': (104, 104),
  'InceptionResNetV2': (204, 204),
  'MobileNetV1': (27, 27),
  'MobileNetV2': (52, 52),
  'MobileNetV3Large': (46, 46),
  'MobileNetV3Small': (34, 34),
  'NASNetLarge': (260, 264),
  'NASNetMobile': (188, 192),
  'Plain8': (10, 10),
  'Plain24': (10, 10),
  'Plain64': (10, 10),
  'PlainResidual64': (4, 7),  # what comes first in a unit follows a sum
  'PreResNet18': (9, 19),
  'R50ViT': (0, 0),  # it normalises groups and layers
  'ResNeXt50': (53, 53),
  'ResNet18': (20, 20),
  'ResNet34': (36, 36),
  'ResNet50': (53, 53),
  'ResNet101': (104, 104),
  'ResNet152': (155, 155),
  'ShuffleNet': (48, 48),
  'SqueezeNet10': (0, 0),
  'SqueezeNet11': (0, 0),
  'SwinCao2021': (0, 0),
  'SwinTiny': (0, 0),
  'Xception': (37, 37),
}
# Members of a family that differ in their widths only.
SAME = {'MobileNetV1x', 'MobileNetV2x'}


def count(network, side=96):
  """How many BatchNorms can be folded, and how many there are."""
  image = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
  with use_form('lax'):
    variables = jax.eval_shape(network.init, jax.random.key(0), image)
  stats = jax.tree_util.tree_leaves_with_path(variables.get('batch_stats', {}))
  every = sum(path[-1].key == 'var' for path, _ in stats)
  return len(folding.pairs(network, variables, image)), every


def test_every_encoder_is_counted():
  rest = set(encoders.__all__) - NORMS.keys()
  assert {name[: len('MobileNetV1x')] for name in rest} == SAME


@pytest.mark.parametrize('name', [member(name) for name in NORMS])
def test_how_many_fold(name):
  assert count(getattr(encoders, name)()) == NORMS[name]


@pytest.mark.parametrize(
  'name, expected',
  [
    ('yang2021/UNet', (18, 18)),
    ('yang2021/UNetPlusPlus', (30, 30)),
    # Of the four in each of the six residuals, norm2 and norm3.
    ('yang2021/EfficientUNetPlusPlus', (48 + 12, 48 + 24)),
    ('yang2021/XceptionUNetPlusPlus', (37 + 24, 37 + 48)),
    # Three in the fusion, one in the head.
    ('yang2021/HRNet', (104 + 4, 104 + 4)),
    ('yang2021/SegNet', (13 + 13, 13 + 13)),
    # Of each RFE two SPPFs of two, a C2f of four; a convolution each level.
    ('zarrin2025/ResNet34RFE', (36 + 32 + 5, 36 + 32 + 5)),
    ('zarrin2025/AttentionUNet', (10 + 24, 10 + 24)),
    ('zarrin2025/ResUNet', (4 + 3, 7 + 6)),
  ],
)
def test_how_many_fold_in_systems(name, expected):
  assert count(systems.build(name)) == expected


# ------------------------------------------------------------------ numbers


def folded_and_not(network, variables, image):
  member = folding.fold(network, variables, image)
  plain = quick_jit(lambda v, x: network.apply(v, x, False))(variables, image)
  ours = quick_jit(functools.partial(folding.apply, network))(member, image)
  return member, jax.tree.leaves(plain), jax.tree.leaves(ours)


@use_form('lax')  # which compiles faster
def assert_same(network, image, atol=1e-4):
  variables = parity.draw(network, image)
  member, plain, ours = folded_and_not(network, variables, image)
  assert member.norms
  for a, b in zip(plain, ours, strict=True):
    parity.assert_sees(np.asarray(a), type(network).__name__)
    scale = float(np.std(a))
    np.testing.assert_allclose(a, b, rtol=0, atol=atol * scale)


@pytest.mark.parametrize(
  'name', ['ResNet18', 'MobileNetV2', 'PreResNet18', 'Xception', 'VGG16BN']
)
def test_encoders_answer_alike(name):
  encoder = getattr(encoders, name)()
  assert_same(encoder, parity.inputs(encoder, (64, 64)))


@pytest.mark.parametrize(
  'name',
  ['UNet', 'UNetPlusPlus', 'EfficientUNetPlusPlus', 'SegNet', 'HRNet'],
)
def test_systems_answer_alike(name):
  network = systems.build(f'yang2021/{name}')
  assert_same(network, parity.inputs(network.encoder, (64, 64)))


def test_by_hand():
  """One channel: (3 x + 1 - 4) 2 / sqrt(0.25) + 5 = 12 x - 7."""

  class One(nn.Module):
    bias: bool

    @nn.compact
    def __call__(self, x, train=False):
      x = Conv(1, 1, bias=self.bias, name='conv')(x)
      return BatchNorm(epsilon=0.09, name='norm')(x, train)

  x = jnp.arange(4.0).reshape(1, 2, 2, 1)
  for bias, mean in ((True, 4.0), (False, 3.0)):
    conv = {'kernel': jnp.full((1, 1, 1, 1), 3.0)}
    norm = {'scale': jnp.full(1, 2.0), 'bias': jnp.full(1, 5.0)}
    stats = {'mean': jnp.full(1, mean), 'var': jnp.full(1, 0.16)}
    variables = {
      'params': {
        'conv': conv | ({'bias': jnp.ones(1)} if bias else {}),
        'norm': norm,
      },
      'batch_stats': {'norm': stats},
    }
    member = folding.fold(One(bias), variables, x)
    assert member.variables['batch_stats'] == {}
    params = member.variables['params']
    np.testing.assert_allclose(params['conv']['kernel'], 12.0)
    shift = params['conv' if bias else 'norm']['bias']
    np.testing.assert_allclose(shift, -7.0)
    # A convolution with a bias leaves nothing to the normalisation.
    assert set(params) == ({'conv'} if bias else {'conv', 'norm'})
    np.testing.assert_allclose(
      folding.apply(One(bias), member, x), 12 * x - 7, rtol=1e-6
    )
    assert variables['params']['norm'] is norm  # left as it was


@pytest.mark.parametrize(
  'conv',
  [
    Conv(6, 3, 2, bias=True),
    Conv(6, 3, groups=2, bias=False),
    DepthwiseConv(3),
    DepthwiseConv(5, 2, 'VALID', bias=False),
    SeparableConv(6),
    SeparableConv(6, bias=False),
  ],
)
@pytest.mark.parametrize('scale', [True, False])
def test_every_convolution(conv, scale):
  network = nn.Sequential([conv.clone(), BatchNorm(use_scale=scale), nn.relu])
  network = WithTrain(network)
  image = np.random.default_rng(0).normal(size=(2, 9, 9, 4)).astype('f')
  assert_same(network, image, atol=1e-5)


class WithTrain(nn.Module):
  """A network that is called as ours are."""

  inner: nn.Module

  @nn.compact
  def __call__(self, x, train=False):
    return self.inner(x)


# ------------------------------------------------------- what must not fold


# From a map, its convolution, both layers and another BatchNorm to an output.
FORMS = {
  'nothing': lambda x, y, conv, norm, other: norm(y),
  'relu': lambda x, y, conv, norm, other: norm(nn.relu(y)),
  'sum': lambda x, y, conv, norm, other: norm(y + x),
  'concatenation': lambda x, y, conv, norm, other: norm(
    jnp.concatenate([y, x], -1)
  ),
  'another reader': lambda x, y, conv, norm, other: norm(y) + y,
  'a reader in a function': lambda x, y, conv, norm, other: (
    norm(y) + jax.jit(nn.relu)(y)
  ),
  'it is returned, too': lambda x, y, conv, norm, other: (norm(y), y),
  'two norms': lambda x, y, conv, norm, other: norm(y) + other(y),
  'the convolution again': lambda x, y, conv, norm, other: (
    norm(y) + conv(nn.relu(x))
  ),
  'the norm again': lambda x, y, conv, norm, other: norm(y) + norm(x),
}


class Joined(nn.Module):
  """A convolution and a BatchNorm, joined in one of these forms."""

  form: str

  @nn.compact
  def __call__(self, x, train=False):
    conv, norm = Conv(3, name='conv'), BatchNorm(name='norm')
    other = BatchNorm(name='other')
    return FORMS[self.form](x, conv(x), conv, norm, other)


@pytest.mark.parametrize('form', FORMS)
def test_only_what_nothing_else_reads_folds(form):
  network = Joined(form)
  image = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype('f')
  variables = parity.draw(network, image)
  member, plain, ours = folded_and_not(network, variables, image)
  assert len(member.norms) == (form == 'nothing')
  for a, b in zip(plain, ours, strict=True):
    np.testing.assert_allclose(a, b, atol=1e-5)


class Inside(nn.Module):
  """The same in a program of its own, inside the network's."""

  form: str

  @nn.compact
  def __call__(self, x, train=False):
    return nn.remat(Joined)(self.form, name='inner')(x)


@pytest.mark.parametrize('form', ['nothing', 'another reader'])
def test_a_program_inside_is_looked_into(form):
  network = Inside(form)
  image = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype('f')
  variables = draw(network, image)
  member, plain, ours = folded_and_not(network, variables, image)
  assert len(member.norms) == (form == 'nothing')
  np.testing.assert_allclose(plain[0], ours[0], atol=1e-5)


def test_a_feature_that_is_asked_for_stays():
  """The tap 'block_1_depthwise' is a convolution's output before its norm."""
  taps = ('block_1_depthwise', 'out_relu')
  assert count(encoders.MobileNetV2(taps=taps)) == (51, 52)


# ------------------------------------------------------------------ members


def prepare(batch, key):
  assert key is None
  return {**batch, 'image': batch['image'].astype(jnp.float32) / 255}


class Small(nn.Module):
  """A convolution, its BatchNorm, a logit for each pixel."""

  @nn.compact
  def __call__(self, x, train=False):
    x = Conv(8, name='conv')(x)
    x = nn.relu(BatchNorm(name='norm')(x, train))
    return Conv(1, 1, name='logits')(x)


@pytest.mark.parametrize(
  'precision, atol', [('float32', 1e-5), ('bfloat16', 0.05)]
)
def test_members_predict_alike(precision, atol):
  network, mesh = Small(), sharding.make_mesh()
  segmentation = task.segmentation({'name': 'bce'})
  rng = np.random.default_rng(0)
  image = rng.integers(0, 256, (2, 16, 16, 3)).astype(np.uint8)
  batch = sharding.place({'image': image}, mesh)
  example = prepare(batch, None)
  plain, ours = (
    inference.make_predict(
      network,
      segmentation,
      prepare,
      mesh,
      views=('identity', 'rot90'),
      precision=each,
    )
    for each in ('float32', precision)
  )
  members = [
    parity.draw(network, np.asarray(example['image']), seed) for seed in (0, 1)
  ]
  folded = [inference.fold(network, segmentation, m, example) for m in members]
  assert [m.norms for m in folded] == [(('norm',),)] * 2
  expected = inference.mean_of_members(plain, members, batch)
  actual = inference.mean_of_members(ours, folded, batch)
  assert np.std(expected) > 0.05
  assert actual.dtype == jnp.float32
  np.testing.assert_allclose(expected, actual, atol=atol)


def test_networks_without_batchnorm_pass():
  network = systems.build('unet', encoder='SqueezeNet11')
  image = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
  variables = jax.eval_shape(
    lambda x: network.encoder.init(jax.random.key(0), x), image
  )
  member = folding.fold(network.encoder, variables, image)
  assert member.norms == ()
  assert member.variables is variables
