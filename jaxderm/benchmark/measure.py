"""One measurement in a process of its own; `jobs` starts it.

python -m jaxderm.benchmark.measure job.json result.json

A job says what is to be done: 'device' (limits of the machine), 'first_step'
(seconds to the first step, nothing else) or 'workload' (all the rest).
"""

import contextlib
import dataclasses
import json
import pathlib
import sys
import time
from typing import Any

import jax

from jaxderm import cost, host, systems, writer
from jaxderm.benchmark import device, ours, real
from jaxderm.benchmark.timing import interleave
from jaxderm.benchmark.workloads import Workload
from jaxderm.data import pipeline


@dataclasses.dataclass(frozen=True)
class Job:
  """What one process is to measure.

  Attributes:
    kind: 'device', 'first_step' or 'workload'.
    workload: What is run; its batch is the one to use.
    precision: 'float32' or 'bfloat16'.
    modes: 'train', 'inference' or both.
    peer: 'torch' or 'none'.
    peer_compile: See `torch_peer.Peer`.
    seconds: Of timed blocks, for each contestant.
    cache: Folder of compiled programs; '' for none.
    data: Folder of generated lesions; '' leaves out real input.
    members: Seeds to train in one program, on real input.
    fill: Whether the batch is the one that fills the device.
    limits: What 'device' gave.
  """

  kind: str
  workload: Workload
  precision: str = 'float32'
  modes: tuple[str, ...] = ('train', 'inference')
  peer: str = 'none'
  peer_compile: str = 'auto'
  seconds: float = 5.0
  cache: str = ''
  data: str = ''
  members: int = 1
  fill: bool = False
  limits: dict[str, Any] = dataclasses.field(default_factory=dict)

  @classmethod
  def read(cls, path: pathlib.Path) -> 'Job':
    content = json.loads(path.read_text())
    content['workload'] = Workload(**content['workload'])
    content['modes'] = tuple(content['modes'])
    return cls(**content)

  def write(self, path: pathlib.Path) -> None:
    writer.write_json(path, dataclasses.asdict(self))


def _use_cache(folder: str) -> None:
  if folder:
    jax.config.update('jax_compilation_cache_dir', folder)
    # Every program, so that the second start compiles nothing at all.
    jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.0)
    jax.config.update('jax_persistent_cache_min_entry_size_bytes', -1)


class _Measurement:
  """A workload on this device: what the parts below share."""

  def __init__(self, job: Job):
    self.job = job
    work = job.workload
    self.images = work.batch_for(jax.default_backend(), fill=job.fill)
    network = systems.build(work.system, **work.changes)
    self.network, self.classes = network, network.classes
    labels = 2 if network.task == 'segmentation' else network.classes
    self.batch = ours.random_batch(work.size, self.images, labels)
    self.batch |= ours.random_metadata(network, self.images)
    self.made = ours.make(work, job.precision)

  def first_step(self) -> tuple[ours.Training, float]:
    """From a network's name to the result of its first training step.

    Counted are the making of the state, tracing, compiling (or reading from
    the cache) and one step; not the imports, nor the start of the device.
    """
    jax.devices()
    start = time.perf_counter()
    training = ours.Training(self.made, self.batch)
    training(1)
    return training, time.perf_counter() - start

  def make_peer(self) -> tuple[Any, str | None]:
    """Theirs, or None and why there is none."""
    job = self.job
    if job.peer == 'none':
      return None, None
    if job.workload.peer is None:
      return None, 'no network of theirs is known'
    try:
      # Only here: torch is no dependency.
      from jaxderm.benchmark import torch_peer

      peer = torch_peer.Peer(
        job.workload.peer,
        self.network.task,
        self.classes,
        self.batch,
        precision=job.precision,
        compile_mode=job.peer_compile,
        tf32=jax.config.jax_default_matmul_precision in (None, 'default'),
      )
    except ImportError as error:
      return None, str(error)
    return peer, None

  def check(self, probability: Any, whose: str) -> None:
    ours.check_probability(
      probability, self.batch, self.network.task, self.classes, whose
    )


def _training_rates(m: _Measurement, training, peer) -> dict[str, Any]:
  """Rates of training, on real input too, and of several members at once."""
  job, contestants = m.job, {'ours': training}
  if peer is not None:
    contestants['peer'] = peer.train
  if job.data:
    examples = real.lesions(
      job.workload.size, pathlib.Path(job.data), m.network
    )
    if jax.default_backend() == 'cpu':  # as training has it there
      contestants['real'] = training.on(
        pipeline.training_batches(examples, seed=0, batch_size=m.images)
      )
    else:
      contestants['real'] = real.Resident(m.made, m.batch, examples)
    if job.members > 1:
      contestants['members'] = real.Resident(
        m.made, m.batch, examples, job.members
      )
  return _run(m, contestants)


def _run(m: _Measurement, contestants: dict[str, Any]) -> dict[str, Any]:
  rates = interleave(
    contestants,
    images={k: getattr(v, 'images', m.images) for k, v in contestants.items()},
    seconds=m.job.seconds,
    block_seconds=min(1.0, m.job.seconds / 2),
    joules=device.energy_meter(),
  )
  return {name: dataclasses.asdict(rate) for name, rate in rates.items()}


def _costs(m: _Measurement, training: ours.Training) -> dict[str, Any]:
  """Operations, bytes and memory of one training step."""
  size = m.job.workload.size
  trainable, _ = cost.parameters(m.network, size)
  memory, source = device.peak_memory(training.compiled)
  analysis = training.compiled.cost_analysis() or {}
  return {
    'parameters': trainable,
    # A product and a sum; backward is twice forward.
    'flops': 6 * cost.multiply_adds(m.network, size) * m.images,
    'bytes': analysis.get('bytes accessed'),
    'memory': memory,
    'memory_source': source,
  }


def workload(job: Job) -> dict[str, Any]:
  """All that is measured of one workload, as JSON has it."""
  m = _Measurement(job)
  training, seconds = m.first_step()
  result: dict[str, Any] = {
    'name': job.workload.name,
    'size': job.workload.size,
    'batch': m.images,
    'members': job.members,
    'precision': job.precision,
    'first_step': seconds,
    **_costs(m, training),
  }
  peer, reason = m.make_peer()
  result |= {'peer': job.peer, 'peer_absent': reason}
  if peer is not None:
    result |= {
      'peer_parameters': peer.parameters,
      'peer_compiled': peer.compiled,
    }
  if 'train' in job.modes:
    result['train'] = _training_rates(m, training, peer)
    training.check()
    if peer is not None:
      peer.check()
  if 'inference' in job.modes:
    predict = ours.Inference(m.made, training.state, m.batch)
    contestants = {'ours': predict}
    if peer is not None:
      contestants['peer'] = peer.predict
    result['inference'] = _run(m, contestants)
    m.check(jax.device_get(predict.probability), 'our')
    if peer is not None:
      m.check(peer.probability, "the peer's")
  return result


def run(job: Job) -> dict[str, Any]:
  """Does a job."""
  _use_cache(job.cache)
  if job.kind == 'device':
    return device.describe(job.precision)
  if job.kind == 'first_step':
    return {'first_step': _Measurement(job).first_step()[1]}
  return workload(job)


def main(argv: list[str]) -> None:
  job_path, result_path = map(pathlib.Path, argv)
  host.prepare()  # both sides gain by it
  # What libraries print shall not stand between the lines of the table.
  with contextlib.redirect_stdout(sys.stderr):
    result = run(Job.read(job_path))
  writer.write_json(result_path, result)


if __name__ == '__main__':
  main(sys.argv[1:])
