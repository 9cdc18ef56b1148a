"""Gradients in less memory: activations are computed anew on the way back.

What a convolution made is kept. Normalised, activated, joined, pooled and
enlarged maps are not: they cost little time to make again, and most of the
memory to keep (arXiv:1604.06174).

On the CPU it needs the option in `models.forms.compiler_options`, which the
training step has: XLA takes the barriers out that hold the second making back.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import flax.linen as nn
import jax
from jax.ad_checkpoint import checkpoint_name
from jax.extend import core

from jaxderm.models.layers import (
  Conv,
  ConvTranspose,
  DepthwiseConv,
  SeparableConv,
)

KEPT, NORMALISED = 'convolution', 'normalised'
CONVOLUTIONS = (Conv, ConvTranspose, DepthwiseConv, SeparableConv)
# Bytes of what convolutions and normalisations make, beyond which a CPU makes
# activations anew unless it is told. It costs ResNet50 and DenseNet121 no time
# (docs/benchmarks.md), and the others there, which are below it, up to a quarter.
_PLENTY = 5 * 2**29


def limit(remat: bool | None) -> float:
  """Bytes of maps beyond which they are made anew.

  Args:
    remat: The config's `model.remat`: always, never, or by itself (None), which
      is never on an accelerator.
  """
  if remat is None:
    return _PLENTY if jax.default_backend() == 'cpu' else math.inf
  return 0 if remat else math.inf


def rematerialised(
  function: Callable, segments: int | None = None, above: float = 0
) -> Callable:
  """The same function, whose gradient keeps the outputs of convolutions only.

  The function's program is cut into segments, one after the other. As one
  segment, all maps would be made again before the first of them is used, and
  nothing would be saved.

  Args:
    function: Applies a network; of arrays in trees.
    segments: How many; None takes the root of the number of convolutions, so
      that a segment holds about as many maps as there are between segments.
    above: Bytes of maps up to which all is kept.
  """

  def applied(*args: Any) -> Any:
    with nn.intercept_methods(_name_maps):
      return function(*args)

  def run(*args: Any) -> Any:
    closed, shape = jax.make_jaxpr(applied, return_shape=True)(*args)
    program = closed.jaxpr
    if _bytes(program) <= above:
      made = core.jaxpr_as_fun(closed)(*jax.tree.leaves(args))
      return jax.tree.unflatten(jax.tree.structure(shape), made)
    known = dict(
      zip(
        [*program.constvars, *program.invars],
        [*closed.consts, *jax.tree.leaves(args)],
        strict=True,
      )
    )
    for part in _segments(program, segments):
      made = jax.checkpoint(
        core.jaxpr_as_fun(core.ClosedJaxpr(part, ())),
        policy=jax.checkpoint_policies.save_only_these_names(KEPT),
      )(*(known[v] for v in part.invars))
      known |= zip(part.outvars, made, strict=True)
    leaves = [
      v.val if isinstance(v, core.Literal) else known[v]
      for v in program.outvars
    ]
    return jax.tree.unflatten(jax.tree.structure(shape), leaves)

  return run


def _name_maps(following, args, kwargs, context):
  y = following(*args, **kwargs)
  if isinstance(context.module, CONVOLUTIONS):
    return checkpoint_name(y, KEPT)
  if isinstance(context.module, nn.BatchNorm):
    return checkpoint_name(y, NORMALISED)
  return y


def _bytes(program: core.Jaxpr) -> int:
  """Of the maps that were named."""
  return sum(
    v.aval.size * v.aval.dtype.itemsize
    for e in program.eqns
    if e.params.get('name') in (KEPT, NORMALISED)
    for v in e.outvars
  )


def _segments(program: core.Jaxpr, count: int | None) -> Iterator[core.Jaxpr]:
  """Programs that, one after the other, do what the whole one does."""
  equations = program.eqns
  ends = [
    i + 1 for i, e in enumerate(equations) if e.params.get('name') == KEPT
  ]
  count = count or max(1, math.isqrt(len(ends)))
  # Cut where a convolution has just been, in parts of as many convolutions.
  cuts = [ends[len(ends) * k // count - 1] for k in range(1, count)]
  bounds = [0, *cuts, len(equations)]
  for start, end in itertools.pairwise(bounds):
    part, later = equations[start:end], equations[end:]
    made = _unique(v for e in part for v in e.outvars)
    reads = _unique(v for e in part for v in e.invars)
    wanted = {*_unique(program.outvars)}
    wanted |= {*_unique(v for e in later for v in e.invars)}
    own = set(made)
    yield core.Jaxpr(
      (),
      [v for v in reads if v not in own],
      [v for v in made if v in wanted],
      part,
      effects=program.effects,
      debug_info=program.debug_info.with_unknown_names(),
    )


def _unique(variables: Sequence | Iterator) -> list:
  found = (v for v in variables if not isinstance(v, core.Literal))
  return list(dict.fromkeys(found))
