"""Grad-CAM on any feature map of any network (arXiv:1610.02391).

The program of a network is cut at a map, found by the name that its encoder
gives it: what comes before makes the map of the inputs, what comes after makes
the logits of the map. Networks need to know nothing of it, whatever else they
are called with and wherever the map goes.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.extend import core

from jaxderm.models.forms import use_form
from jaxderm.models.taps import Encoder, Taps

Array = jax.Array
_MARK = 'map:'


@dataclasses.dataclass(frozen=True)
class Cut:
  """A network in two.

  Attributes:
    tap: Name of the map that it is cut at.
    before: (variables, *inputs) to the map [B, h, w, C].
    after: (map, variables, *inputs) to what the network returns.
  """

  tap: str
  before: Callable[..., Array]
  after: Callable[..., Any]


def cut(
  network: nn.Module, variables: Any, inputs: Sequence, tap: str | None = None
) -> Cut:
  """Cuts a network that does not train.

  Args:
    network: A network, called with its inputs and `train`.
    variables: Its variables, or their shapes and types.
    inputs: Its inputs, or their shapes and types. The cut network takes no
      others.
    tap: Name of a map of its encoder; None takes the last one that is built,
      has more than one position and is no pool: mostly what the head reads.

  Raises:
    ValueError: The network builds no such map; lists those it builds.
  """

  def run(variables, *inputs):
    with nn.intercept_methods(_mark_maps):
      return network.apply(variables, *inputs, False)

  with use_form(
    'lax'
  ):  # a gradient of one batch; it is traced in half the time
    closed, shape = jax.make_jaxpr(run, return_shape=True)(variables, *inputs)
  maps = _maps(closed.jaxpr)
  tap = _choose(maps, tap)
  at = maps[tap]
  program = closed.jaxpr
  # The first equation that has the map makes it; none that follow are needed.
  end = next(i for i, e in enumerate(program.eqns) if at in e.outvars) + 1
  head = program.replace(outvars=[at], eqns=program.eqns[:end])
  tail = program.replace(
    invars=[at, *program.invars],
    eqns=[e for e in program.eqns if at not in e.outvars],
  )
  made, given = (
    core.jaxpr_as_fun(core.ClosedJaxpr(part, closed.consts))
    for part in (head, tail)
  )

  def before(variables, *inputs):
    return made(*jax.tree.leaves((variables, *inputs)))[0]

  def after(map_, variables, *inputs):
    leaves = given(map_, *jax.tree.leaves((variables, *inputs)))
    return jax.tree.unflatten(jax.tree.structure(shape), leaves)

  return Cut(tap, before, after)


def _mark_maps(following, args, kwargs, context):
  """An encoder that gives every map it builds its name in the program."""
  encoder = context.module
  if not isinstance(encoder, Encoder) or context.method_name != '__call__':
    return following(*args, **kwargs)
  if encoder.taps is None:
    maps = encoder.features(*args, **kwargs)
    return {name: checkpoint_name(x, _MARK + name) for name, x in maps}
  wanted = Taps(encoder.taps)
  for name, x in encoder.features(*args, **kwargs):
    if wanted(name, checkpoint_name(x, _MARK + name)):
      return wanted.features
  raise wanted.unknown()


def _maps(program: core.Jaxpr) -> dict[str, core.Var]:
  """Variables that are maps [B, h, w, C] by name, in the order of building."""
  made = {v for e in program.eqns if len(e.outvars) == 1 for v in e.outvars}
  maps = {}
  for equation in program.eqns:
    name = equation.params.get('name')
    if isinstance(name, str) and name.startswith(_MARK):
      (at,) = equation.invars
      if at in made and len(at.aval.shape) == 4:
        maps.setdefault(name.removeprefix(_MARK), at)
  return maps


def _choose(maps: dict[str, core.Var], tap: str | None) -> str:
  if tap is None:
    # Of a pooled map, as VGG's last is, the finer one before it shows more.
    wide = [
      name
      for name, at in maps.items()
      if max(at.aval.shape[1:3]) > 1 and not name.endswith('_pool')
    ]
    # At a small size of image the last maps may all be of one position.
    tap = (wide or list(maps) or [None])[-1]
  if tap not in maps:
    raise ValueError(
      f'the network builds no map called {tap!r}; there are: '
      f'{", ".join(maps) or "none"}. Name one of them with --tap.'
    )
  return tap


def of_class(logits: Array, chosen: Array) -> Array:
  """The logit of one class of each image, [B].

  Args:
    logits: [B, C].
    chosen: A class of each, int32 [B].
  """
  return jnp.take_along_axis(logits, chosen[:, None], axis=-1)[:, 0]


def of_lesion(logits: Array | tuple[Array, ...], found: Array) -> Array:
  """The mean logit of lesion over the pixels that are called lesion, [B].

  0 where there are none: the heat map is then empty. Heads of a deeply
  supervised network count alike; of two channels the logit is the second less
  the first.

  Args:
    logits: [B, H, W, 1 or 2], or several of them.
    found: 1 on the predicted lesion, 0 off it, [B, H, W, 1].
  """
  heads = logits if isinstance(logits, tuple) else (logits,)
  lesion = [
    x[..., -1:] - (x[..., :1] if x.shape[-1] == 2 else 0) for x in heads
  ]
  total = sum(jnp.sum(x * found, axis=(1, 2, 3)) for x in lesion) / len(heads)
  return total / jnp.maximum(jnp.sum(found, axis=(1, 2, 3)), 1)


def heat(features: Array, gradient: Array, height: int, width: int) -> Array:
  """Heat maps of maps and of the gradients of a logit by them.

  The weight of a channel is the mean of its gradient over positions; the
  weighted sum of the channels is cut at 0, enlarged (bilinear) and stretched to
  [0, 1] (SPEC 6).

  Args:
    features: [B, h, w, C].
    gradient: Likewise.
    height: Of the image, in pixels.
    width: Likewise.

  Returns:
    float32 [B, height, width]; 0 throughout where all is equal.
  """
  weights = jnp.mean(gradient, axis=(1, 2), keepdims=True)
  maps = nn.relu(jnp.sum(weights * features, axis=-1)).astype(jnp.float32)
  shape = (len(maps), height, width)
  maps = jax.image.resize(maps, shape, 'bilinear', antialias=False)
  least = jnp.min(maps, axis=(1, 2), keepdims=True)
  span = jnp.max(maps, axis=(1, 2), keepdims=True) - least
  return (maps - least) / jnp.where(span > 0, span, 1)


def explain(
  network: Cut,
  variables: Any,
  inputs: Sequence[Array],
  score: Callable[[Any], Array],
) -> tuple[Array, Any]:
  """Grad-CAM of each image.

  Args:
    network: What `cut` made.
    variables: Of the network.
    inputs: Likewise; the first is the image, [B, H, W, 3].
    score: What the network returns to the logit of each image that is
      explained, [B].

  Returns:
    Heat maps, [B, H, W], and what the network returns.
  """
  features = network.before(variables, *inputs)

  def total(features):
    outputs = network.after(features, variables, *inputs)
    return jnp.sum(score(outputs)), outputs

  gradient, outputs = jax.grad(total, has_aux=True)(features)
  return heat(features, gradient, *inputs[0].shape[1:3]), outputs
