"""BatchNorm put into the convolutions before it, for networks that only answer.

With fixed statistics, normalisation multiplies each channel by a number and
adds another. Where a convolution made the channel and nothing else reads it,
its kernel can be multiplied beforehand, and only the sum is left to compute.
"""

from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
from flax import traverse_util
from jax.ad_checkpoint import checkpoint_name

from jaxderm.cost import inner_programs
from jaxderm.models.forms import use_form
from jaxderm.models.layers import Conv, DepthwiseConv, SeparableConv

Path = tuple[str, ...]
CONVOLUTIONS = (Conv, DepthwiseConv, SeparableConv)
# The kernels whose last axis is the channels of the output.
_KERNELS = ('kernel', 'pointwise_kernel')


class Pair(NamedTuple):
  """A BatchNorm, the convolution before it, and its epsilon."""

  norm: Path
  conv: Path
  epsilon: float


class Folded(flax.struct.PyTreeNode):
  """Variables of a network, some of whose BatchNorms only add a bias.

  Attributes:
    variables: {'params', 'batch_stats'}; folded layers have no statistics.
    norms: The path of each of these layers.
  """

  variables: Any
  norms: tuple[Path, ...] = flax.struct.field(pytree_node=False, default=())


def fold(network: nn.Module, variables: Any, *inputs: Any) -> Folded:
  """Folds every BatchNorm that can be, for `apply`.

  What can be is found by tracing the network, not by names: the input must be
  the output of a convolution that nothing else reads. Where normalisation
  comes first (DenseNet), or after a sum, it stays.

  Args:
    network: A network that is called with its inputs and `train`.
    variables: {'params', 'batch_stats'}, float32; left as they are.
    *inputs: Of the network, or their shapes and types. Whether a map is padded
      or cropped may depend on them, so use the result with no other.
  """
  found = pairs(network, variables, *inputs)
  if not found:
    return Folded(variables)
  return Folded(_multiply(variables, found), tuple(pair.norm for pair in found))


def apply(network: nn.Module, member: Any, *inputs: jax.Array) -> Any:
  """What a network that does not train answers.

  Args:
    network: The network.
    member: Its variables, or what `fold` made of them.
    *inputs: Of the network.
  """
  if not isinstance(member, Folded):
    return network.apply(member, *inputs, False)
  folded = set(member.norms)

  def intercept(following, args, kwargs, context):
    layer = context.module
    if not isinstance(layer, nn.BatchNorm) or layer.scope.path not in folded:
      return following(*args, **kwargs)
    x = args[0]
    # A convolution that has a bias has taken this one's, too.
    if not layer.has_variable('params', 'bias'):
      return x
    return x + layer.get_variable('params', 'bias').astype(x.dtype)

  with nn.intercept_methods(intercept):
    return network.apply(member.variables, *inputs, False)


def pairs(network: nn.Module, variables: Any, *inputs: Any) -> tuple[Pair, ...]:
  """Which BatchNorm can be folded into which convolution; nothing is computed.

  Args:
    network: A network.
    variables: Its variables, or their shapes and types.
    *inputs: Of the network, or their shapes and types.
  """
  calls: Counter[Path] = Counter()
  outputs: dict[int, tuple[Path, jax.Array]] = {}  # of convolutions
  found: list[Pair] = []

  def intercept(following, args, kwargs, context):
    layer = context.module
    if context.method_name != '__call__':
      return following(*args, **kwargs)
    if isinstance(layer, CONVOLUTIONS):
      path = layer.scope.path
      calls[path] += 1
      y = checkpoint_name(following(*args, **kwargs), _mark(path))
      outputs[id(y)] = path, y  # held, so that no other gets its identity
      return y
    if isinstance(layer, nn.BatchNorm):
      path = layer.scope.path
      calls[path] += 1
      if id(args[0]) in outputs:
        conv, y = outputs[id(args[0])]
        found.append(Pair(path, conv, layer.epsilon))
        # Not made of its input: what reads that now is somebody else.
        return jnp.zeros_like(y)
    return following(*args, **kwargs)

  def run(variables, *inputs):
    with nn.intercept_methods(intercept):
      return network.apply(variables, *inputs, False)

  with use_form('lax'):  # it is traced in half the time
    program = jax.make_jaxpr(run)(variables, *inputs)
  read = set(_read_marks(program.jaxpr))
  norms = Counter(pair.conv for pair in found)
  return tuple(
    pair
    for pair in found
    if calls[pair.norm] == calls[pair.conv] == norms[pair.conv] == 1
    and _mark(pair.conv) not in read
  )


def _mark(path: Path) -> str:
  return 'folding:' + '/'.join(path)


def _read_marks(program: Any) -> Iterator[str]:
  """The marks of arrays that an equation reads, or that are returned."""
  marks = {
    id(equation.outvars[0]): equation.params['name']
    for equation in program.eqns
    if equation.primitive.name == 'name'
  }
  for variables in [program.outvars, *(e.invars for e in program.eqns)]:
    yield from (marks[id(v)] for v in variables if id(v) in marks)
  for equation in program.eqns:
    for inner in inner_programs(equation.params):
      yield from _read_marks(inner)


@partial(jax.jit, static_argnums=1)
def _multiply(variables: Any, found: tuple[Pair, ...]) -> Any:
  """scale (kernel x + bias - mean) / sqrt(var + epsilon) + shift, multiplied."""
  params = traverse_util.flatten_dict(variables['params'])
  stats = traverse_util.flatten_dict(variables['batch_stats'])
  for norm, conv, epsilon in found:
    mean, var = stats.pop((*norm, 'mean')), stats.pop((*norm, 'var'))
    factor = params.pop((*norm, 'scale'), 1.0) / jnp.sqrt(var + epsilon)
    shift = params.pop((*norm, 'bias'), 0.0) - mean * factor
    kernel = next((*conv, k) for k in _KERNELS if (*conv, k) in params)
    params[kernel] = params[kernel] * factor
    own = (*conv, 'bias')
    if own in params:
      params[own] = params[own] * factor + shift
    else:
      params[(*norm, 'bias')] = shift
  return variables | {
    'params': traverse_util.unflatten_dict(params),
    'batch_stats': traverse_util.unflatten_dict(stats),
  }
