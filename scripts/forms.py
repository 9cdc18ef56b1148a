r"""What the forms of `jaxderm.models` save against those of lax, on this device.

  python scripts/forms.py            # prints the table in docs/benchmarks.md

Each line is a layer, forward and with its gradients, compiled by itself as the
training step is (`forms.compiler_options`): milliseconds as lax has it, as ours
has it, and as torch has it where torch is installed. The contestants take turns
(`jaxderm.benchmark.timing`); the median of the turns is told.
"""

import argparse
import functools
import os

# Torch's threads spin between operations, and sleep while others run.
os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')
os.environ.setdefault('GOMP_SPINCOUNT', '1000000')

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxderm import host
from jaxderm.benchmark.timing import interleave
from jaxderm.models import layers
from jaxderm.models.forms import compiler_options, use_form
from jaxderm.models.joined import Doubled

CONV = ('NHWC', 'HWIO', 'NHWC')


def lax_conv(x, kernel, stride=1, padding='SAME', groups=1):
  return lax.conv_general_dilated(
    x,
    kernel,
    (stride, stride),
    padding,
    dimension_numbers=CONV,
    feature_group_count=groups,
  )


def lax_transposed(x, kernel):
  return lax.conv_transpose(x, kernel, (2, 2), 'SAME', dimension_numbers=CONV)


def lax_doubled(x, kernel):
  return lax_conv(jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2), kernel)


def ours_doubled(x, kernel):
  return layers.conv(layers.join(Doubled(x)), kernel)


# Name: image [B, H, W, C], kernel [k, l, C / groups, D], lax, ours, torch.
LAYERS = {
  '1x1, 64x64x16 to 96': (
    (8, 64, 64, 16),
    (1, 1, 16, 96),
    lax_conv,
    layers.conv,
    {},
  ),
  '1x1, 56x56x256 to 64': (
    (8, 56, 56, 256),
    (1, 1, 256, 64),
    lax_conv,
    layers.conv,
    {},
  ),
  **{
    f'3x3, {h}x{h}x{c} to {d}': (
      (8, h, h, c),
      (3, 3, c, d),
      lax_conv,
      layers.conv,
      {'padding': 1},
    )
    for h, c, d in [
      (256, 3, 8),
      (256, 8, 8),
      (256, 32, 16),
      (128, 32, 32),
      (56, 64, 64),
      (28, 128, 128),
      (14, 256, 256),
      (64, 336, 16),
      (256, 16, 8),
    ]
  },
  **{
    f'3x3 of {2 * h}x{2 * h}x{c}, doubled, to {d}': (
      (8, h, h, c),
      (3, 3, c, d),
      lax_doubled,
      ours_doubled,
      'doubled',
    )
    for h, c, d in [(8, 512, 256), (32, 128, 64), (128, 32, 16)]
  },
  **{
    f'depthwise {k}x{k}, {h}x{h}x{c}': (
      (8, h, h, c),
      (k, k, 1, c),
      functools.partial(lax_conv, groups=c),
      layers.depthwise_conv,
      {'groups': c, 'padding': k // 2},
    )
    for h, c, k in [(64, 96, 3), (32, 144, 3), (8, 384, 3), (32, 240, 5)]
  },
  'grouped 3x3 of 32, 28x28x256': (
    (8, 28, 28, 256),
    (3, 3, 8, 256),
    functools.partial(lax_conv, groups=32),
    functools.partial(layers.conv, groups=32),
    {'groups': 32, 'padding': 1},
  ),
  'transposed 2x2, 32x32x64 to 32': (
    (8, 32, 32, 64),
    (2, 2, 64, 32),
    lax_transposed,
    layers.conv_transpose_2x2,
    'transposed',
  ),
  'maximum 2x2, 128x128x16': (
    (8, 128, 128, 16),
    (1, 1, 1, 1),
    lambda x, _: nn.max_pool(x, (2, 2), (2, 2)),
    lambda x, _: layers.max_pool(x),
    (2, 2, 0),
  ),
  'maximum 3x3 stride 2, 112x112x64': (
    (8, 112, 112, 64),
    (1, 1, 1, 1),
    lambda x, _: nn.max_pool(x, (3, 3), (2, 2), [(1, 1)] * 2),
    lambda x, _: layers.max_pool(x, 3, 2, [(1, 1)] * 2),
    (3, 2, 1),
  ),
}


def jax_runs(layer, x, kernel, form):
  """(forward, forward with gradients) as functions of how many times."""

  def gradients(x, kernel):
    y, back = jax.vjp(layer, x, kernel)
    return back(y)

  def run(function):
    jitted = jax.jit(function, compiler_options=compiler_options())
    with use_form(form):  # `lax` is plain anyway; ours chooses by the form
      compiled = jitted.lower(x, kernel).compile()

    def times(n):
      for _ in range(n):
        out = compiled(x, kernel)
      jax.block_until_ready(out)

    return times

  return run(layer), run(gradients)


def torch_runs(x, kernel, how):
  """The same of torch, channels last; None without torch."""
  try:
    import torch
    import torch.nn.functional as F
  except ImportError:
    return None

  def last(array, *order):
    tensor = torch.from_numpy(array.transpose(order).copy())
    tensor = tensor.contiguous(memory_format=torch.channels_last)
    return tensor.requires_grad_()

  image = last(x, 0, 3, 1, 2)
  if how == 'transposed':
    weight = last(kernel, 2, 3, 0, 1)
    layer = functools.partial(F.conv_transpose2d, image, weight, stride=2)
  elif how == 'doubled':
    weight = last(kernel, 3, 2, 0, 1)

    def layer():
      return F.conv2d(F.interpolate(image, None, 2), weight, padding=1)

  elif isinstance(how, tuple):
    weight = image
    layer = functools.partial(F.max_pool2d, image, *how)
  else:
    weight = last(kernel, 3, 2, 0, 1)
    layer = functools.partial(F.conv2d, image, weight, **how)

  def forward(n):
    with torch.no_grad():
      for _ in range(n):
        layer()

  def both(n):
    for _ in range(n):
      image.grad = weight.grad = None
      y = layer()
      y.backward(y.detach())

  return forward, both


def main():
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--seconds', type=float, default=1.0)
  seconds = parser.parse_args().seconds
  host.keep_memory()
  print('| layer, batch 8 | lax, ms | ours, ms | torch, ms |')
  print('|---|---|---|---|')
  rng = np.random.default_rng(0)
  for name, (size, kernel_size, plain, ours, how) in LAYERS.items():
    x = rng.normal(size=size).astype(np.float32)
    kernel = rng.normal(size=kernel_size).astype(np.float32)
    platform = 'cpu' if jax.default_backend() == 'cpu' else 'lax'
    runs = {
      'lax': jax_runs(plain, jnp.asarray(x), jnp.asarray(kernel), 'lax'),
      'ours': jax_runs(ours, jnp.asarray(x), jnp.asarray(kernel), platform),
      'torch': torch_runs(x, kernel, how),
    }
    cells = {who: [] for who in runs}
    for part in (0, 1):
      contestants = {k: v[part] for k, v in runs.items() if v is not None}
      found = interleave(
        contestants, images=1, seconds=seconds, block_seconds=seconds / 5
      )
      for who, rate in found.items():
        cells[who].append(f'{1e3 / rate.median:.2f}')
    told = ' | '.join(' / '.join(parts) for parts in cells.values())
    print(f'| {name} | {told} |', flush=True)


if __name__ == '__main__':
  main()
