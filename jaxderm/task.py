"""What a network is asked to do: its inputs, its loss, its probabilities."""

import dataclasses
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from jaxderm import class_losses, class_metrics, losses, metrics, pair_heads
from jaxderm.data import pairs

Array = jax.Array
Batch = Mapping[str, Array]

_PAIR_WEIGHTS = ('first', 'second', 'discriminator')


@dataclasses.dataclass(frozen=True)
class Task:
  """A task, as a training or evaluation step sees it.

  Attributes:
    name: 'segmentation', 'classification' or 'pairwise'.
    inputs: Entries of a batch that go into the network, in its order.
    loss: (logits, batch) to the loss of each image, [B] float32.
    probabilities: Logits to probabilities.
    rows: (probabilities, batch) to what is kept of each image, columns of [B]
      or [B, C].
    scores: Columns of all images to scores by name, on the host.
    score_names: Which names those are, at most.
    arrange: (batch, step) to the batch that a training step sees, before it is
      augmented.
  """

  name: str
  inputs: tuple[str, ...]
  loss: Callable[[Array, Batch], Array]
  probabilities: Callable[[Array], Array]
  rows: Callable[[Array, Batch], dict[str, Array]]
  scores: Callable[[Mapping[str, np.ndarray]], dict[str, float]]
  score_names: tuple[str, ...]
  arrange: Callable[[Batch, Array], Batch] = lambda batch, step: batch


def _loss(loss: Mapping, table: Mapping, task: str) -> Callable:
  """The loss of a config, if it is one of the task's."""
  every = {**losses.SEGMENTATION, **losses.CLASSIFICATION}
  if loss['name'] in every and loss['name'] not in table:
    raise ValueError(
      f'The loss {loss["name"]!r} is not one of {task}; loss.name must be one '
      f'of {", ".join(table)}.'
    )
  return losses.make(**loss)


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
  loss_fn = _loss(loss, losses.SEGMENTATION, 'segmentation')

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


def classification(loss: Mapping, threshold: float = 0.5) -> Task:
  """One class of several for each image.

  Args:
    loss: Name and constants of a loss in `losses.CLASSIFICATION`.
    threshold: Not used: the most probable class is chosen.
  """
  del threshold
  loss_fn = _loss(loss, losses.CLASSIFICATION, 'classification')

  def per_image(logits, batch):
    return loss_fn(logits, batch['label'])

  def probabilities(logits):
    return jax.nn.softmax(logits.astype(jnp.float32))

  def rows(probability, batch):
    return {'label': batch['label'], 'probability': probability}

  def scores(columns):
    label, probability = columns['label'], columns['probability']
    matrix = class_metrics.confusion(
      label, probability.argmax(1), probability.shape[1]
    )
    named = {
      'accuracy': float(class_metrics.accuracy(matrix)),
      'balanced_accuracy': float(class_metrics.balanced_accuracy(matrix)),
      'auc': class_metrics.macro_auc(label, probability),
    }
    # Images of one class only have no AUC.
    return {k: v for k, v in named.items() if np.isfinite(v)}

  names = ('accuracy', 'balanced_accuracy', 'auc')
  return Task(
    'classification', ('image',), per_image, probabilities, rows, scores, names
  )


def pairwise(loss: Mapping, threshold: float = 0.5) -> Task:
  """Classification by two heads that are trained on pairs (SPEC 2.2 to 2.4).

  A network whose head is chosen (`Discriminant.chosen`) answers as any that
  classifies. One that has both is scored by the better of them.

  Args:
    loss: Name and constants of a loss in `losses.CLASSIFICATION`, which both
      heads bear, and the weights `first`, `second` and `discriminator` of
      `class_losses.discriminant`.
    threshold: Not used: the most probable class is chosen.
  """
  of_image = {k: v for k, v in loss.items() if k not in _PAIR_WEIGHTS}
  weights = {k: v for k, v in loss.items() if k in _PAIR_WEIGHTS}
  loss_fn = _loss(of_image, losses.CLASSIFICATION, 'pairwise')
  alone = classification(of_image, threshold)

  def per_image(logits, batch):
    if not isinstance(logits, tuple):
      return alone.loss(logits, batch)
    same = batch.get('same')  # there in training: `pairs.arrange`
    if same is not None:
      pairs.check_even(len(same))  # a part of a batch, with optim.accumulate
    return class_losses.discriminant(
      *logits, batch['label'], same, of_heads=loss_fn, **weights
    )

  def probabilities(logits):
    heads = logits[0] if isinstance(logits, tuple) else logits
    return alone.probabilities(heads)

  def scores(columns):
    return pair_heads.scores(columns, alone.scores)

  return dataclasses.replace(
    alone,
    name='pairwise',
    loss=per_image,
    probabilities=probabilities,
    scores=scores,
    score_names=(*alone.score_names, *pair_heads.SCORES),
    arrange=pairs.arrange,
  )


TASKS = {
  'segmentation': segmentation,
  'classification': classification,
  'pairwise': pairwise,
}
