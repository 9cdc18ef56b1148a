"""What convolutions make of maps that nobody joined is what they always made."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import quick_jit

from jaxderm.cost import inner_programs
from jaxderm.models import decoders, joined, layers
from jaxderm.models.forms import use_form
from jaxderm.models.layers import Conv, ConvNormAct, DoubleConv, Up, join

KEY = jax.random.key(0)


def normal(seed, *shape):
  return jax.random.normal(jax.random.key(seed), shape)


def by_lax(maps, kernel):
  """Doubled, joined and convolved by lax; a map of half the size is doubled."""
  side = max(x.shape[1] for x in maps)
  whole = [x if x.shape[1] == side else layers.upsample(x) for x in maps]
  with use_form('lax'):
    return layers.conv(jnp.concatenate(whole, axis=-1), kernel)


def by_us(maps, kernel):
  side = max(x.shape[1] for x in maps)
  lazy = [x if x.shape[1] == side else joined.Doubled(x) for x in maps]
  return layers.conv(join(*lazy), kernel)


def results(convolve, sizes, features, dtype=jnp.float32):
  """Forward, and the gradients of every map and of the kernel."""
  maps = [normal(i, 2, *size).astype(dtype) for i, size in enumerate(sizes)]
  channels = sum(size[-1] for size in sizes)
  kernel = normal(9, 3, 3, channels, features).astype(dtype)
  y, back = jax.vjp(convolve, maps, kernel)
  return jax.tree.leaves((y, back(normal(8, *y.shape).astype(dtype))))


# Sizes of maps, the coarse ones of half the size; and channels of the output.
CASES = [
  ([(4, 5, 6), (8, 10, 3)], 7),  # as U-Net has them
  ([(8, 6, 4), (4, 3, 8)], 20),  # as UNet++ has them
  ([(1, 1, 3), (2, 2, 2), (1, 1, 4)], 5),  # nothing but border
]


@pytest.mark.parametrize('sizes, features', CASES)
def test_equals_lax(sizes, features):
  ours, theirs = quick_jit(
    lambda: [results(f, sizes, features) for f in (by_us, by_lax)]
  )()
  for a, b in zip(ours, theirs, strict=True):
    assert a.shape == b.shape
    assert np.abs(a - b).max() < 3e-6 * np.abs(b).max()


def test_one_map_alone():
  x, kernel = normal(0, 2, 4, 5, 3), normal(1, 3, 3, 3, 4)
  np.testing.assert_allclose(
    layers.conv(join(joined.Doubled(x)), kernel),
    layers.conv(layers.upsample(x), kernel),
    atol=1e-5,
  )


def test_by_hand():
  # In a row 1 2, doubled 1 1 2 2, each pixel and its neighbours add up to:
  x = jnp.array([1.0, 2.0]).reshape(1, 1, 2, 1)
  y = layers.conv(join(joined.Doubled(x)), jnp.ones((3, 3, 1, 1)))
  # Twice, for there are two rows of them.
  assert y[0, :, :, 0].tolist() == [[4, 8, 10, 8]] * 2


@pytest.mark.parametrize('sizes, features', CASES)
def test_bfloat16_is_as_near_as_that_of_lax(sizes, features):
  exact, ours, theirs = quick_jit(
    lambda: [
      results(by_lax, sizes, features),
      results(by_us, sizes, features, jnp.bfloat16),
      results(by_lax, sizes, features, jnp.bfloat16),
    ]
  )()
  for right, a, b in zip(exact, ours, theirs, strict=True):
    assert a.dtype == jnp.bfloat16
    off, usual = (
      np.abs(np.asarray(v, np.float32) - right).max() for v in (a, b)
    )
    assert off <= 1.5 * usual


def convolutions(function, *arguments):
  """Taps and channels of the convolutions of a forward pass, and its joins."""
  kernels, joins = [], 0

  def look(program):
    nonlocal joins
    for equation in program.eqns:
      joins += equation.primitive.name == 'concatenate'
      if equation.primitive.name == 'conv_general_dilated':
        kernels.append(equation.invars[1].aval.shape)
      for inner in inner_programs(equation.params):
        look(inner)

  look(jax.make_jaxpr(function)(*arguments).jaxpr)
  return kernels, joins


PYRAMID = [
  jax.ShapeDtypeStruct((1, 16 // 2**i, 16 // 2**i, 32 * 2**i), jnp.float32)
  for i in range(3)
]


def decoded(decoder, form):
  variables = jax.eval_shape(decoder.init, KEY, PYRAMID)
  with use_form(form):
    return convolutions(decoder.apply, variables, PYRAMID)


@pytest.mark.parametrize(
  'decoder, coarse',
  [
    # Into each level: the channels from below, and four times the width.
    (
      decoders.UNet((64, 32, 24)),
      [(2, 2, 128, 256), (2, 2, 64, 128), (2, 2, 32, 96)],
    ),
    (
      decoders.UNetPlusPlus(),
      [(2, 2, 64, 128), (2, 2, 128, 256), (2, 2, 64, 128)],
    ),
    (
      decoders.GatedUNet((64, 32)),
      [(2, 2, 128, 256), (2, 2, 64, 128)],
    ),
  ],
)
def test_decoders_read_coarse_maps_as_they_are(decoder, coarse):
  kernels, _ = decoded(decoder, 'cpu')
  assert [k for k in kernels if k[:2] == (2, 2)] == coarse
  kernels, _ = decoded(decoder, 'lax')
  assert all(k[:2] in [(3, 3), (1, 1)] for k in kernels)


def test_unet_writes_no_joined_map():
  assert decoded(decoders.UNet((64, 32)), 'cpu')[1] == 0
  assert decoded(decoders.UNet((64, 32)), 'lax')[1] == 2


@pytest.mark.parametrize(
  'decoder',
  [
    decoders.UNet((8, 8, 4)),
    decoders.UNet((8, 8), block=layers.ResidualUnit),
    decoders.UNet((8, 8), up='bilinear'),
    decoders.UNet((8, 8), up='conv2'),
    decoders.UNetPlusPlus(),
    decoders.UNetPlusPlus(dense=False, up='transpose'),
    decoders.GatedUNet((8, 8)),
    decoders.GatedUNet((8, 8), up='bilinear'),
  ],
)
def test_decoders_are_the_same_in_both_forms(decoder):
  pyramid = [normal(i, 1, 16 // 2**i, 16 // 2**i, 4 * 2**i) for i in range(3)]
  variables = decoder.init(KEY, pyramid)

  def decode(form):
    with use_form(form):
      return decoder.apply(variables, pyramid)

  ours, theirs = quick_jit(lambda: (decode('cpu'), decode('lax')))()
  np.testing.assert_allclose(ours, theirs, atol=2e-5)


class Custom(nn.Module):
  """A stranger's block, which wants a map to compute with."""

  features: int

  @nn.compact
  def __call__(self, x, train=False):
    return Conv(self.features)(nn.relu(x) + 1)


def test_other_blocks_get_whole_maps():
  decoder = decoders.UNet((8, 8), block=Custom)
  with use_form('cpu'):
    y, _ = decoder.init_with_output(
      KEY, [normal(i, 1, 16 // 2**i, 16 // 2**i, 4) for i in range(3)]
    )
  assert y.shape == (1, 16, 16, 8)


@pytest.mark.parametrize(
  'conv', [Conv(4, 1), Conv(4, 5), Conv(4, 3, 2), Conv(4, 3, groups=2)]
)
def test_other_convolutions_make_it_whole(conv):
  x, skip = normal(0, 1, 4, 4, 2), normal(1, 1, 8, 8, 4)
  parts = join(joined.Doubled(x), skip)
  whole = jnp.concatenate([layers.upsample(x), skip], axis=-1)
  assert parts.shape == whole.shape
  with use_form('cpu'):
    y, variables = conv.init_with_output(KEY, parts)
    np.testing.assert_allclose(y, conv.apply(variables, whole), atol=1e-5)


def test_up_is_whole_unless_told_otherwise():
  x = normal(0, 1, 2, 2, 3)
  with use_form('cpu'):
    assert Up(3).apply({}, x).shape == (1, 4, 4, 3)
    assert isinstance(Up(3).apply({}, x), jax.Array)
    assert isinstance(Up(3, whole=False).apply({}, x), joined.Doubled)
  with use_form('lax'):
    assert isinstance(Up(3, whole=False).apply({}, x), jax.Array)


def test_maps_of_two_sizes():
  with pytest.raises(ValueError, match=r'\(1, 8, 8, 2\), \(1, 7, 8, 2\).*one'):
    join(joined.Doubled(jnp.ones((1, 4, 4, 2))), jnp.ones((1, 7, 8, 2)))


def test_blocks_are_of_the_type_of_their_kernels():
  """Images in bfloat16, parameters in float32: float32, as of whole maps."""
  x = jnp.ones((1, 4, 4, 2), jnp.bfloat16)
  for block in (ConvNormAct(4), DoubleConv(4)):
    with use_form('cpu'):
      y, _ = block.init_with_output(KEY, join(joined.Doubled(x)))
    assert y.dtype == jnp.float32
