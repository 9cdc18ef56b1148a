"""The mesh: placing states and batches, and joining several hosts.

One program serves one device, many devices and many hosts: `jit` over a named
mesh, with arrays that are global. We do not use `pmap`: it is in maintenance
mode, and under it BatchNorm sees one device's share of a batch unless told
otherwise, where here it sees the whole batch by itself.
"""

import os
from collections.abc import Mapping

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

_CLUSTERS = (
  # Set by `srun` alone: a shell inside an allocation is still one process.
  ('SLURM_STEP_NUM_TASKS', lambda value: int(value) > 1),
  ('OMPI_COMM_WORLD_SIZE', lambda value: int(value) > 1),
  ('TPU_WORKER_HOSTNAMES', lambda value: ',' in value),
  ('TPU_PROCESS_ADDRESSES', lambda value: ',' in value),
  ('JOBSET_NAME', bool),  # Kubernetes
  ('JAX_COORDINATOR_ADDRESS', bool),
)


def join_hosts(
  coordinator: str | None = None,
  num_processes: int | None = None,
  process_id: int | None = None,
  *,
  distributed: bool | None = None,
) -> None:
  """Joins the processes of one run; does nothing where there is only one.

  Under `srun`, Open MPI, on TPU pods and in Kubernetes JobSets this is found
  out; `distributed` says so where it is not (an indexed Job, a TPU VM without
  environment variables), and JAX finds the other hosts. Anywhere else name all
  three arguments, the same in every process but for `process_id`.

  Args:
    coordinator: 'host:port' of process 0.
    num_processes: How many processes there are.
    process_id: Which of them this is, from 0.
    distributed: Whether there are several processes; looked for if None.

  Raises:
    ValueError: Only some of the three are given.
  """
  given = (coordinator, num_processes, process_id)
  if any(x is not None for x in given):
    if any(x is None for x in given):
      raise ValueError(
        '--coordinator, --num_processes and --process_id go together; got '
        f'{given}. Give all three, or none on SLURM, TPU or Kubernetes.'
      )
    jax.distributed.initialize(coordinator, num_processes, process_id)
    return
  if distributed is None:
    distributed = any(
      name in os.environ and several(os.environ[name])
      for name, several in _CLUSTERS
    )
  if distributed:
    jax.distributed.initialize()


def make_mesh() -> Mesh:
  """A mesh of all devices of all hosts along one axis, 'data'."""
  # Without `Auto`, newer JAX asks for the sharding of every intermediate.
  return jax.make_mesh(
    (jax.device_count(),), ('data',), axis_types=(AxisType.Auto,)
  )


def replicated(mesh: Mesh) -> NamedSharding:
  """Every device holds the whole array: states."""
  return NamedSharding(mesh, P())


def by_row(mesh: Mesh) -> NamedSharding:
  """The first axis is cut among the devices: batches."""
  return NamedSharding(mesh, P('data'))


def check_batch_size(batch_size: int, accumulate: int = 1) -> None:
  """Raises ValueError where the devices cannot share a batch evenly.

  Args:
    batch_size: Images in a step, over all hosts.
    accumulate: Parts that a step is cut into, one after the other.
  """
  devices = jax.device_count()
  if batch_size < 1:
    raise ValueError(f'data.batch_size is {batch_size}; it must be 1 or more.')
  if accumulate < 1 or batch_size % accumulate:
    raise ValueError(
      f'data.batch_size is {batch_size}, which optim.accumulate='
      f'{accumulate} does not divide. Choose a divisor of {batch_size}.'
    )
  part = batch_size // accumulate
  if part % devices:
    good = [
      part // devices * devices or devices,
      (part // devices + 1) * devices,
    ]
    choices = ' or '.join(str(n * accumulate) for n in sorted(set(good)))
    raise ValueError(
      f'data.batch_size {batch_size} in {accumulate} part(s) cannot be cut '
      f'evenly among {devices} devices. Use a batch size of {choices}, or '
      'fewer devices.'
    )


def own_rows(batch_size: int) -> slice:
  """The rows of every global batch that this process is to load."""
  count, me = jax.process_count(), jax.process_index()
  return slice(batch_size * me // count, batch_size * (me + 1) // count)


def place(batch: Mapping[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
  """Makes one global batch of the rows that each process holds."""
  sharding = by_row(mesh)
  return {
    name: jax.make_array_from_process_local_data(sharding, rows)
    for name, rows in batch.items()
  }


def placed(
  example: Mapping[str, np.ndarray], batch_size: int, mesh: Mesh
) -> dict[str, jax.ShapeDtypeStruct]:
  """What `place` makes of batches of such examples: the global shapes."""
  return {
    name: jax.ShapeDtypeStruct(
      (batch_size, *value.shape), value.dtype, sharding=by_row(mesh)
    )
    for name, value in example.items()
  }


def own(array: jax.Array) -> np.ndarray:
  """The rows of a global array that this process's devices hold, in order."""
  shards = {s.index[0].start or 0: s.data for s in array.addressable_shards}
  return np.concatenate([np.asarray(shards[start]) for start in sorted(shards)])


def gather(rows: np.ndarray) -> np.ndarray:
  """Stacks equally many rows [n, ...] of every process: [processes * n, ...]."""
  if jax.process_count() == 1:
    return rows
  return np.asarray(multihost_utils.process_allgather(rows, tiled=True))


def gather_uneven(rows: np.ndarray) -> np.ndarray:
  """Stacks the rows of every process, of which each may hold another number."""
  counts = gather(np.array([len(rows)]))
  padded = np.zeros((int(counts.max()), *rows.shape[1:]), rows.dtype)
  padded[: len(rows)] = rows
  parts = gather(padded).reshape(len(counts), *padded.shape)
  return np.concatenate([p[:n] for p, n in zip(parts, counts, strict=True)])


def barrier(name: str) -> None:
  """Waits until every process is here."""
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices(name)
