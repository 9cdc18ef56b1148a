"""What a network is asked to do: its inputs, its loss, its probabilities."""

import dataclasses
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from jaxderm import losses, metrics

Array = jax.Array
Batch = Mapping[str, Array]


@dataclasses.dataclass(frozen=True)
class Task:
  """A task, as a training or evaluation step sees it.

  Attributes:
    name: 'segmentation', ...
    inputs: Entries of a batch that go into the network, in its order.
    loss: (logits, batch) to the loss of each image, [B] float32.
    probabilities: Logits to probabilities.
    rows: (probabilities, batch) to what is kept of each image, columns of [B].
    scores: Columns of all images to scores by name, on the host.
    score_names: Which names those are.
  """

  name: str
  inputs: tuple[str, ...]
  loss: Callable[[Array, Batch], Array]
  probabilities: Callable[[Array], Array]
  rows: Callable[[Array, Batch], dict[str, Array]]
  scores: Callable[[Mapping[str, np.ndarray]], dict[str, float]]
  score_names: tuple[str, ...]


def _heads(logits: Array | tuple[Array, ...]) -> tuple[Array, ...]:
  """One head, or the several of a deeply supervised network."""
  return logits if isinstance(logits, tuple) else (logits,)


def _lesion(logits: Array) -> Array:
  """[B, H, W, 1 or 2] logits to the probability of lesion, [B, H, W, 1]."""
  logits = logits.astype(jnp.float32)
  if logits.shape[-1] == 1:
    return jax.nn.sigmoid(logits)
  return jax.nn.softmax(logits)[..., 1:]


def segmentation(loss: Mapping, threshold: float = 0.5) -> Task:
  """Lesion against skin, pixel by pixel.

  Heads of a deeply supervised network (arXiv:1807.10165) each bear the loss,
  and their probabilities are averaged.

  Args:
    loss: Name and constants of a loss in `losses.SEGMENTATION`.
    threshold: A pixel with a higher probability is lesion.
  """
  loss_fn = losses.make(**loss)

  names = ('dice', 'jaccard', 'accuracy')

  def per_image(logits, batch):
    heads = [loss_fn(head, batch['mask']) for head in _heads(logits)]
    return jnp.mean(jnp.stack(heads), axis=0)

  def probabilities(logits):
    heads = [_lesion(head) for head in _heads(logits)]
    return jnp.mean(jnp.stack(heads), axis=0)

  def rows(probability, batch):
    return metrics.count_on_device(probability, batch['mask'], threshold)

  def scores(columns):
    counts = metrics.Counts(
      **{k: np.asarray(columns[k]) for k in ('tp', 'fp', 'fn', 'tn')}
    )
    return {
      name: float(np.mean(getattr(metrics, name)(counts))) for name in names
    }

  return Task(
    'segmentation', ('image',), per_image, probabilities, rows, scores, names
  )


TASKS = {'segmentation': segmentation}
