"""SegNet: places of maxima, its decoder, neck and head (SPEC 1.3)."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import draw, quick_jit
from training import in_both_precisions

from jaxderm import systems
from jaxderm.models import decoders, encoders, layers, necks
from jaxderm.models.segmenter import Segmenter

KEY = jax.random.key(0)


def image_of(rows):
  """[1, H, W, 1]."""
  return jnp.asarray(rows, jnp.float32)[None, :, :, None]


# ------------------------------------------------------------------- places

# The maxima are 3, 0, 6 and -1; where there are two, the first counts.
LIKE = [[1, 3, 0, 0], [2, 3, 0, 0], [5, 4, -1, -2], [4, 6, -3, -1]]


@pytest.mark.parametrize(
  'like, expected',
  [
    (LIKE, [[0, 10, 20, 0], [0, 0, 0, 0], [0, 0, 40, 0], [0, 30, 0, 0]]),
    # Of odd sides, the last row and column are in no window.
    (
      [[*row, 9] for row in LIKE] + [[9] * 5],
      [[0, 10, 20, 0, 0], [0] * 5, [0, 0, 40, 0, 0], [0, 30, 0, 0, 0], [0] * 5],
    ),
  ],
)
def test_unpool_by_hand(like, expected):
  x, like = image_of([[10, 20], [30, 40]]), image_of(like)
  y = layers.max_unpool(x, like)
  np.testing.assert_array_equal(y[0, :, :, 0], expected)
  both = layers.max_unpool(*(jnp.concatenate([a, -a], -1) for a in (x, like)))
  np.testing.assert_array_equal(both[..., :1], y)
  assert not np.array_equal(both[..., 1:], -y)  # a place for each channel
  assert layers.max_unpool(x.astype(jnp.bfloat16), like).dtype == jnp.bfloat16


def test_gradient_of_unpool_is_what_is_at_the_places():
  weights = jnp.arange(16.0).reshape(1, 4, 4, 1)

  def weighed(x, like):
    return jnp.sum(weights * layers.max_unpool(x, like))

  dx, dlike = jax.grad(weighed, (0, 1))(jnp.ones((1, 2, 2, 1)), image_of(LIKE))
  np.testing.assert_array_equal(dx[0, :, :, 0], [[1, 2], [13, 10]])
  np.testing.assert_array_equal(dlike, jnp.zeros((1, 4, 4, 1)))


def test_unpool_is_that_of_torch():
  torch = pytest.importorskip('torch')
  rng = np.random.default_rng(0)
  like = rng.integers(-2, 3, (2, 3, 8, 6)).astype(np.float32)  # many equals
  x = rng.normal(size=(2, 3, 4, 3)).astype(np.float32)
  _, places = torch.nn.MaxPool2d(2, return_indices=True)(torch.tensor(like))
  expected = torch.nn.MaxUnpool2d(2)(torch.tensor(x), places).numpy()
  ours = layers.max_unpool(*(a.transpose(0, 2, 3, 1) for a in (x, like)))
  np.testing.assert_array_equal(ours, expected.transpose(0, 2, 3, 1))


@pytest.mark.parametrize('shape', [(1, 2, 2, 3), (1, 2, 3, 1)])
def test_unpool_refuses(shape):
  with pytest.raises(ValueError, match=r'expected \(1, 2, 2, 1\)'):
    layers.max_unpool(jnp.ones(shape), jnp.ones((1, 4, 4, 1)))


# ------------------------------------------------------------------ decoder


def make_pyramid(*channels, side=16):
  """Maps of whole numbers, so that maxima are not alone."""
  rng = np.random.default_rng(0)
  return tuple(
    rng.integers(-2, 3, (2, side >> i, side >> i, c)).astype(np.float32)
    for i, c in enumerate(channels)
  )


def changed_by(decoder, pyramid, change):
  """Which maps, if they are changed, change what is decoded."""
  variables = draw(decoder, pyramid)
  apply = quick_jit(decoder.apply)
  expected = np.asarray(apply(variables, pyramid))
  assert expected.std() > 0.1
  found = []
  for i in range(len(pyramid)):
    other = [change(x) if i == k else x for k, x in enumerate(pyramid)]
    if not np.allclose(apply(variables, tuple(other)), expected, atol=1e-4):
      found.append(i)
  return found


def turned(x):
  return x[:, ::-1, ::-1]


@pytest.mark.parametrize(
  'channels, unpool, expected',
  [
    ((3, 4, 5, 7), 'indices', [0, 1, 3]),  # a neck has made 7 of 5
    ((3, 4, 5, 5), 'indices', [0, 1, 2, 3]),
    ((3, 4, 5, 5), 'nearest', [3]),
  ],
)
def test_which_maps_are_looked_at(channels, unpool, expected):
  decoder = decoders.SegNet((1, 1, 2), unpool)
  assert changed_by(decoder, make_pyramid(*channels), turned) == expected


def test_only_the_places_come_from_the_encoder():
  decoder = decoders.SegNet((1, 1, 2))
  pyramid = make_pyramid(3, 4, 5, 7)
  assert changed_by(decoder, pyramid, lambda x: 2 * x + 1) == [3]


def test_decoder_is_the_same_in_torch():
  torch = pytest.importorskip('torch')
  functional = torch.nn.functional
  decoder = decoders.SegNet((1, 2))
  pyramid = make_pyramid(3, 4, 6)
  variables = draw(decoder, pyramid)
  fine, middle, x = (torch.tensor(a.transpose(0, 3, 1, 2)) for a in pyramid)

  def block(x, name):
    params, stats = (
      jax.tree.map(lambda a: torch.tensor(np.asarray(a)), variables[kind][name])
      for kind in ('params', 'batch_stats')
    )
    kernel = params['conv']['kernel'].permute(3, 2, 0, 1)
    x = functional.conv2d(x, kernel, params['conv']['bias'], padding=1)
    stats, norm = stats['norm'], params['norm']
    x = functional.batch_norm(
      x, stats['mean'], stats['var'], norm['scale'], norm['bias'], eps=1e-3
    )
    return functional.relu(x)

  x = functional.interpolate(x, scale_factor=2, mode='nearest')
  assert x.shape[2:] == middle.shape[2:]
  x = block(block(x, 'block2_conv1'), 'block2_conv2')
  _, places = functional.max_pool2d(fine, 2, return_indices=True)
  x = block(functional.max_unpool2d(x, places, 2), 'block1_conv1')
  ours = np.asarray(quick_jit(decoder.apply)(variables, pyramid))
  assert ours.std() > 0.1
  np.testing.assert_allclose(ours.transpose(0, 3, 1, 2), x, atol=1e-5)


@pytest.mark.parametrize(
  'decoder, message',
  [
    (decoders.SegNet((1, 2)), '2 depths for 3 maps'),
    (decoders.SegNet(unpool='maxima'), 'expected one of indices, nearest'),
  ],
)
def test_decoder_refuses(decoder, message):
  with pytest.raises(ValueError, match=message):
    jax.eval_shape(decoder.init, KEY, make_pyramid(3, 4, 5, 7))


# ------------------------------------------------------------------ network


def test_neck_by_hand():
  neck = necks.Pointwise((2, 1))
  fine, x = image_of([[5.0, 6.0]]), image_of([[1.0, -2.0]])
  kernels = {
    'dense1': jnp.array([[3.0, -1.0]]),
    'dense2': jnp.array([[1.0], [2.0]]),
  }
  params = {
    name: {'kernel': k[None, None], 'bias': jnp.full(k.shape[1], 0.5)}
    for name, k in kernels.items()
  }
  finer, y = neck.apply({'params': params}, (fine, x))
  assert finer is fine
  # 1 becomes (3.5, -0.5), then 3.5 + 0.5; -2 becomes (-5.5, 2.5), 5 + 0.5.
  np.testing.assert_allclose(y[0, 0, :, 0], [4.0, 5.5])


def variables_of(network):
  image = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
  return jax.eval_shape(network.init, KEY, image)


def test_layout_is_that_of_the_paper():
  """SPEC 1.3: 512 x3, 512 x2 and 256, ..., on two layers of 1024."""
  params = variables_of(systems.build('yang2021/SegNet'))['params']
  widths = {
    name: layer['conv']['kernel'].shape[2:]
    for name, layer in params['decoder'].items()
  }
  assert widths == {
    'block5_conv1': (1024, 512),
    'block5_conv2': (512, 512),
    'block5_conv3': (512, 512),
    'block4_conv1': (512, 512),
    'block4_conv2': (512, 512),
    'block4_conv3': (512, 256),
    'block3_conv1': (256, 256),
    'block3_conv2': (256, 256),
    'block3_conv3': (256, 128),
    'block2_conv1': (128, 128),
    'block2_conv2': (128, 64),
    'block1_conv1': (64, 64),
  }
  assert all('bias' in layer['conv'] for layer in params['decoder'].values())
  dense = {k: v['kernel'].shape[2:] for k, v in params['neck'].items()}
  assert dense == {'dense1': (512, 1024), 'dense2': (1024, 1024)}
  logits = jax.tree.map(lambda x: x.shape, params['logits'])
  assert logits == {
    'conv': {'kernel': (1, 1, 64, 1), 'bias': (1,)},
    'norm': {'scale': (1,), 'bias': (1,)},
  }


def test_maps_are_those_before_the_pools():
  taps = systems.build('yang2021/SegNet').encoder.taps
  lasts = ['block1_conv2', 'block2_conv2', 'block3_conv3']
  lasts += ['block4_conv3', 'block5_conv3', 'block5_pool']
  assert list(taps) == lasts


def test_trains_in_both_precisions():
  """A loss and gradients, also of what comes before the unpooling."""
  network = Segmenter(
    encoders.Plain8(widths=(3, 3), taps=('stage1', 'stage2')),
    decoders.SegNet((1,)),
    necks.Pointwise((3,)),
    multiple=2,
    head=functools.partial(
      layers.ConvNormAct, size=1, activation='none', bias=True
    ),
  )
  rng = np.random.default_rng(0)
  image = rng.normal(size=(2, 8, 8, 3)).astype('f')
  losses = []
  for loss, found in in_both_precisions(network, image):
    losses.append(loss)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(found))
    for first in (
      found['encoder']['stage1']['conv1']['conv']['kernel'],
      found['neck']['dense1']['kernel'],
      found['logits']['norm']['scale'],
    ):
      assert np.abs(first).max() > 1e-4
  assert losses[0] == pytest.approx(losses[1], rel=0.05)
