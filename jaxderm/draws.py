"""Random draws of one shape are made together.

A network's parameters are drawn one by one, each by two loops of their own in
the compiled program. For a network of a hundred layers that program is larger
than the training step's, takes seconds to compile and more than one to read
from a cache. But all keys are folded in the same way, and most parameters share
their shape with others: one loop does for all of these.
"""

import collections
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import core


def together(program: core.ClosedJaxpr) -> Callable[..., list[jax.Array]]:
  """The same function, to be compiled with fewer loops.

  Args:
    program: What `jax.make_jaxpr` makes of a function. Whatever it does with
      keys is run by `vmap` where it does the same with several; what no result
      needs is left out.

  Returns:
    From its arguments to its results, both flat.
  """
  jaxpr = program.jaxpr

  def run(*args):
    known = dict(zip(jaxpr.constvars, program.consts, strict=True))
    known |= zip(jaxpr.invars, args, strict=True)

    def read(v):
      return v.val if isinstance(v, core.Literal) else known[v]

    def run_alike(eqns):
      given = [[read(v) for v in eqn.invars] for eqn in eqns]
      made = _results(_as_function(eqns[0], jaxpr), given)
      return {
        v: value
        for eqn, values in zip(eqns, made, strict=True)
        for v, value in zip(eqn.outvars, values, strict=True)
      }

    left = _needed(jaxpr)
    while left:
      alike, waiting = collections.defaultdict(list), []
      for eqn in left:
        if not known.keys() >= _variables(eqn.invars):
          waiting.append(eqn)
        elif _reads_key(eqn):
          alike[_kind(eqn)].append(eqn)
        else:
          known |= run_alike([eqn])
      for eqns in alike.values():
        known |= run_alike(eqns)
      left = waiting
    return [read(v) for v in jaxpr.outvars]

  return run


def _variables(atoms: Iterable[Any]) -> set[core.Var]:
  return {v for v in atoms if not isinstance(v, core.Literal)}


def _needed(jaxpr: core.Jaxpr) -> list[core.JaxprEqn]:
  wanted = _variables(jaxpr.outvars)
  needed = []
  for eqn in reversed(jaxpr.eqns):
    if not wanted.isdisjoint(eqn.outvars):
      needed.append(eqn)
      wanted |= _variables(eqn.invars)
  return needed[::-1]


def _reads_key(eqn: core.JaxprEqn) -> bool:
  return any(
    jnp.issubdtype(v.aval.dtype, jax.dtypes.prng_key) for v in eqn.invars
  )


def _kind(eqn: core.JaxprEqn) -> Hashable:
  """The same for equations that differ in nothing but what they read."""
  settings = tuple((k, _comparable(v)) for k, v in sorted(eqn.params.items()))
  return eqn.primitive, settings, tuple(str(v.aval) for v in eqn.invars)


def _comparable(value: Any) -> Hashable:
  try:
    hash(value)
  except TypeError:
    return id(value)  # the same only if it is the same object
  return value


def _as_function(
  eqn: core.JaxprEqn, program: core.Jaxpr
) -> Callable[..., list]:
  inputs = [core.Var(v.aval) for v in eqn.invars]
  alone = core.Jaxpr(
    (),
    inputs,
    eqn.outvars,
    [eqn.replace(invars=inputs)],
    debug_info=program.debug_info.with_unknown_names(),
  )
  return core.jaxpr_as_fun(core.ClosedJaxpr(alone, ()))


def _results(
  compute: Callable[..., list], given: Sequence[Sequence[jax.Array]]
) -> Iterable[Sequence[jax.Array]]:
  """What it computes of each row of arguments."""
  if len(given) == 1:
    return [compute(*given[0])]
  columns = [jnp.stack(column) for column in zip(*given, strict=True)]
  return zip(*map(jnp.unstack, jax.vmap(compute)(*columns)), strict=True)
