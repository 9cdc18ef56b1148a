"""Steps as the device is given them: one, many at once, of several runs at once.

A dispatch advances members (runs of one recipe) by a number of steps. Where
the host decodes, a dispatch is one step of one member. Where the data are on
the device it may be many steps, for the host sends only the numbers of the
images; and on an accelerator, where one small network leaves most of the
device idle, it is the steps of all members (`vmap`).
"""

from collections.abc import Callable, Iterator, Sequence

import grain
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxderm import sharding, traces
from jaxderm.data import resident
from jaxderm.models import forms
from jaxderm.step import TrainState, Update

Scalars = dict[str, jax.Array]  # of [steps]
Feed = Callable[[int, int], object]  # (first step, steps) to what they see
Advance = Callable[
  [Sequence[TrainState], Sequence[Feed], int, int],
  tuple[list[TrainState], list[Scalars]],
]

# Steps that an accelerator is given at once, unless the config says. A CPU is
# given one: XLA's convolutions there are slow in a loop (U-Net at 64 pixels,
# batch 8, 2 cores: 46 ms a step alone, 363 in a scan; scripts/steps.py).
STEPS = 16


def steps_per_dispatch(wanted: int | None, is_resident: bool) -> int:
  """Steps that are dispatched together.

  Args:
    wanted: The config's `dispatch`; None to choose.
    is_resident: Whether the data are on the device.

  Raises:
    ValueError: It is less than 1, or the host has to decode between the steps.
  """
  if wanted is None:
    on_cpu = jax.default_backend() == 'cpu'
    return STEPS if is_resident and not on_cpu else 1
  if wanted < 1:
    raise ValueError(f'dispatch is {wanted}; it must be 1 step or more.')
  if wanted > 1 and not is_resident:
    raise ValueError(
      f'dispatch is {wanted}, but the training images are not on the device. '
      'Set data.resident=True if they fit there, or dispatch=1.'
    )
  return wanted


def end(step: int, between: int, total: int, most: int) -> int:
  """Where the dispatch that begins after `step` updates ends.

  It depends on the step alone, so a run that was stopped repeats the same
  dispatches, and no dispatch goes past an evaluation.

  Args:
    step: Updates done.
    between: Steps between two evaluations.
    total: Steps in the run.
    most: Steps in a dispatch.
  """
  evaluated = step // between * between
  whole = (step - evaluated) // most + 1
  return min(evaluated + whole * most, evaluated + between, total)


def batch_feed(batches: Iterator, mesh: Mesh) -> Feed:
  """Batches that the host decodes, asked for in their order."""

  def feed(first, steps):
    assert steps == 1, (first, steps)
    return sharding.place(next(batches), mesh)

  return feed


def row_feed(order: grain.MapDataset, positions: np.ndarray) -> Feed:
  """Rows of resident data, int32 [steps, B].

  Args:
    order: Of the examples (`pipeline.order`).
    positions: Where each example is among those that are resident.
  """

  def feed(first, steps):
    return np.stack([positions[order[first + k]] for k in range(steps)])

  return feed


def make_streamed(update: Callable) -> Advance:
  """Advances members by turns, a step each.

  Args:
    update: The program of one step (`step.jit_update`).
  """

  def advance(states, feeds, first, steps):
    done = [
      update(state, feed(first, steps))
      for state, feed in zip(states, feeds, strict=True)
    ]
    return (
      [state for state, _ in done],
      [{k: v[None] for k, v in scalars.items()} for _, scalars in done],
    )

  return advance


def _apart(stacked, count: int) -> tuple:
  """A tree for each index of the first axis of its arrays."""
  return tuple(jax.tree.map(lambda x, i=i: x[i], stacked) for i in range(count))


def make_program(update: Update, mesh: Mesh) -> Callable:
  """The program `(states, columns, rows) -> (states, scalars)`.

  `states` are n members' and are donated, `columns` the resident data, `rows`
  int32 [n, steps, B]; scalars are [n, steps]. Members are kept apart outside of
  the program, so that each can be saved, evaluated and left behind by itself;
  putting them side by side costs two copies of the states in a dispatch.
  """
  everywhere = sharding.replicated(mesh)

  def steps(state, columns, rows):
    def body(state, rows):
      return update(state, resident.take(columns, rows, mesh))

    if len(rows) == 1:  # XLA's CPU convolutions are slow in a loop, even of one
      state, scalars = body(state, rows[0])
      return state, jax.tree.map(lambda x: x[None], scalars)
    return jax.lax.scan(body, state, rows)

  def program(states, columns, rows):
    if len(states) == 1:  # no axis of one, which would make other convolutions
      state, scalars = steps(states[0], columns, rows[0])
      return (state,), jax.tree.map(lambda x: x[None], scalars)
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *states)
    stacked, scalars = jax.vmap(steps, (0, None, 0))(stacked, columns, rows)
    return _apart(stacked, len(states)), scalars

  return jax.jit(
    traces.recalled_step(program),
    in_shardings=(everywhere, everywhere, rows_sharding(mesh)),
    out_shardings=everywhere,
    donate_argnums=0,
    compiler_options=forms.compiler_options(),
  )


def rows_sharding(mesh: Mesh) -> NamedSharding:
  """Of rows [members, steps, B]: every device its share of each batch."""
  return NamedSharding(mesh, P(None, None, 'data'))


def make_resident(
  update: Update,
  columns: resident.Columns,
  mesh: Mesh,
  together: bool | None = None,
) -> Advance:
  """Advances members by many steps on resident data.

  Args:
    update: As `step.make_update` makes it.
    columns: The resident data.
    mesh: The devices.
    together: Whether members share a program or take turns with one. None is
      together except on the CPU, which one network fills: there `vmap` makes
      grouped convolutions, that XLA is slow at.
  """
  if together is None:
    together = jax.default_backend() != 'cpu'
  program, where = make_program(update, mesh), rows_sharding(mesh)

  def run(states, rows):
    placed = jax.make_array_from_callback(
      rows.shape, where, lambda cut: rows[cut]
    )
    states, scalars = program(tuple(states), columns, placed)
    return list(states), list(_apart(scalars, len(states)))

  def advance(states, feeds, first, steps):
    rows = np.stack([feed(first, steps) for feed in feeds])
    if together:
      return run(states, rows)
    turns = [run([s], r[None]) for s, r in zip(states, rows, strict=True)]
    return [s for (s,), _ in turns], [x for _, (x,) in turns]

  return advance
