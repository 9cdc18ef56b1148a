"""Non-linearities by name. Reached through `layers`."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype

from jaxderm.models.ops import choose
from jaxderm.models.parameters import parameter
from jaxderm.models.taps import Array


@jax.custom_vjp
def swish(x: Array) -> Array:
  """x sigmoid(x) (arXiv:1710.05941), also known as SiLU.

  Its gradient needs x alone. XLA would keep the sigmoid too, from the forward
  pass.
  """
  return nn.swish(x)


def _swish_forward(x: Array) -> tuple[Array, Array]:
  return swish(x), x


def _swish_backward(x: Array, gradient: Array) -> tuple[Array]:
  # The sigmoid; called by that name, it would be the one of the forward pass.
  # In float32: the difference of two halves has few digits left in bfloat16.
  wide = x.astype(jnp.float32)
  s = 0.5 + 0.5 * jnp.tanh(0.5 * wide)
  return ((gradient * s * (1 + wide * (1 - s))).astype(x.dtype),)


swish.defvjp(_swish_forward, _swish_backward)


class PReLU(nn.Module):
  """Leaky ReLU with one learnt slope for each channel (arXiv:1502.01852)."""

  @nn.compact
  def __call__(self, x: Array) -> Array:
    init = nn.initializers.constant(0.25)
    slope = parameter(self, 'slope', init, (x.shape[-1],))
    x, slope = promote_dtype(x, slope)
    return jnp.where(x >= 0, x, slope * x)


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
  'relu': nn.relu,
  'relu6': nn.relu6,
  'leaky_relu': lambda x: nn.leaky_relu(x, 0.1),
  'swish': swish,
  'hard_swish': nn.hard_swish,
  'mish': lambda x: x * jnp.tanh(nn.softplus(x)),
  'gelu': lambda x: nn.gelu(x, approximate=False),
  'selu': nn.selu,
  'sigmoid': nn.sigmoid,
  'none': lambda x: x,
}


class Activation(nn.Module):
  """A non-linearity by name; a module because 'prelu' has parameters."""

  kind: str = 'relu'

  @nn.compact
  def __call__(self, x: Array) -> Array:
    choose('activation', self.kind, [*ACTIVATIONS, 'prelu'])
    if self.kind == 'prelu':
      prelu = PReLU()
      # Its slope lies in this module: 'act/slope'.
      nn.share_scope(self, prelu)
      return prelu(x)
    return ACTIVATIONS[self.kind](x)
