"""What a trained network looks at: heat maps, and its features as a map.

`--mode=explain` draws the images of a part of the data as points of a plane,
by t-SNE (van der Maaten and Hinton, JMLR 9, 2008): once by the network's
features, which is what it made of them, and once by their pixels, which is what
it was given. And it draws heat maps (Grad-CAM, gradcam.py) of the answers that
the network is surest of, right and wrong ones.
"""

import csv
import pathlib
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from jaxderm import (
  class_figures,
  ensemble,
  evaluate,
  figures,
  gradcam,
  report,
  sharding,
)
from jaxderm.data import pipeline
from jaxderm.experiment import Experiment
from jaxderm.writer import say

PERPLEXITY = 30  # neighbours of a point, more or less (SPEC 2.7)
SEED = 0
SURE = 6  # heat maps of right answers, and of wrong ones
PIXELS = 64  # of each side of the images that pixels are compared of


class Explainer:
  """Examples to heat maps and features, in float32, of the image as it is.

  Neither views nor several members: the mean of their probabilities has no map.

  Attributes:
    tap: Name of the map that is explained.
  """

  def __init__(self, made: Experiment, variables, tap: str | None = None):
    """Cuts the network.

    Args:
      made: The experiment; its network gives one answer.
      variables: Of the network.
      tap: See `gradcam.cut`.
    """
    self._made, self._variables = made, variables
    self._batch_size = made.config.evaluate.batch_size
    example = made.example(self._batch_size)
    inputs = [example[name] for name in made.task.inputs]
    cut = gradcam.cut(made.network, variables, inputs, tap)
    self.tap = cut.tap
    threshold = made.config.evaluate.threshold

    def prepared(batch):
      batch = made.prepare(batch, None)
      return [batch[name] for name in made.task.inputs]

    def heat(variables, batch, chosen):
      def score(outputs):
        if made.task.name != 'segmentation':
          return gradcam.of_class(outputs, chosen)
        found = made.task.probabilities(outputs) > threshold
        return gradcam.of_lesion(outputs, found)

      return gradcam.explain(cut, variables, prepared(batch), score)[0]

    def features(variables, batch, chosen):
      del chosen
      return jnp.mean(cut.before(variables, *prepared(batch)), axis=(1, 2))

    rows = sharding.by_row(made.mesh)
    self._heat = jax.jit(heat, out_shardings=rows)
    self._features = jax.jit(features, out_shardings=rows)

  def __call__(
    self, examples: pipeline.Examples, chosen: np.ndarray
  ) -> Iterator[tuple[int, np.ndarray]]:
    """Yields (index, heat map [size, size]) of this process's share.

    Args:
      examples: What to explain.
      chosen: The class of each whose logit is explained, [N]; a segmentation
        explains the lesion that it finds.
    """
    yield from self._each(self._heat, examples, chosen)

  def features(
    self, examples: pipeline.Examples
  ) -> Iterator[tuple[int, np.ndarray]]:
    """Yields (index, means over the map [C]) of this process's share."""
    chosen = np.zeros(len(examples), np.int32)
    yield from self._each(self._features, examples, chosen)

  def _each(self, function: Callable, examples, chosen):
    mesh = self._made.mesh
    for indices, batch in pipeline.evaluation_batches(
      examples, self._batch_size
    ):
      which = np.asarray(chosen, np.int32)[np.maximum(indices, 0)]
      placed = sharding.place({**batch, 'chosen': which}, mesh)
      chosen_on_device = placed.pop('chosen')
      found = function(self._variables, placed, chosen_on_device)
      for index, value in zip(indices, sharding.own(found), strict=True):
        if index >= 0:
          yield int(index), np.asarray(value)


def project(values: np.ndarray) -> np.ndarray:
  """Points of a plane whose neighbours are neighbours, [N, 2].

  t-SNE of a perplexity of 30 (fewer of few images), from the principal
  components, of a fixed seed.

  Args:
    values: [N, D], four images or more.

  Raises:
    ValueError: There are fewer images, or scikit-learn is not installed.
  """
  if len(values) < 4:
    raise ValueError(
      f't-SNE needs four images or more; there are {len(values)}.'
    )
  try:
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits
  except ImportError as error:
    raise ValueError(
      '--mode=explain needs scikit-learn: pip install "jaxderm[explain]".'
    ) from error
  perplexity = min(PERPLEXITY, (len(values) - 1) / 3)
  made = TSNE(2, perplexity=perplexity, init='pca', random_state=SEED)
  # One thread: the same picture on every machine, and of few images in a
  # hundredth of the time that threads take to wait for one another.
  with threadpool_limits(1):
    return made.fit_transform(np.asarray(values, np.float64))


def explain(
  config: ConfigDict,
  workdir: pathlib.Path,
  split: str | None = None,
  checkpoint: str = 'best',
  out: str | None = None,
  tap: str | None = None,
) -> dict[str, np.ndarray]:
  """Draws a part of the data as a run sees it.

  Args:
    config: Of the run.
    workdir: The run's folder.
    split: As `evaluate.evaluate` takes it.
    checkpoint: 'best', 'latest' or a step.
    out: Where `tsne_features.png`, `tsne_pixels.png`, `tsne.csv` and
      `<image>_gradcam.png` go; 'explain' in the workdir if None.
    tap: The map whose means over positions are the features; see `gradcam.cut`.

  Returns:
    Points [N, 2] by 'features' and by 'pixels'.

  Raises:
    FileNotFoundError: No such run or checkpoint.
    ValueError: There are several processes, too few images, no scikit-learn.
  """
  if jax.process_count() > 1:
    raise ValueError('explain works in one process.')
  member = ensemble.load(config, workdir, checkpoint)
  split = evaluate.choose_part(member, split)
  # The mapper's are folded, and then a map is not what its layer made.
  variables, _ = ensemble.load_member(member.made, workdir, checkpoint)
  explainer = Explainer(member.made, variables, tap)
  examples = member.data.parts[split]
  say(f'{member.made.name}, step {member.step}, map {explainer.tap}')
  found = dict(explainer.features(examples))
  points = {
    'features': project(np.stack([found[i] for i in range(len(examples))])),
    'pixels': project(_pixels(examples)),
  }
  folder = pathlib.Path(out) if out else workdir / 'explain'
  folder.mkdir(parents=True, exist_ok=True)
  index = member.data.index
  label = index.label[examples.rows]
  for name, drawn in points.items():
    title = f'{split} images by {name}, t-SNE'
    picture = class_figures.scatter(drawn, label, index.labels, title)
    (folder / f'tsne_{name}.png').write_bytes(picture)
  _write_points(folder / 'tsne.csv', index, examples.rows, points)
  count = _write_heat_maps(member, explainer, examples, folder)
  say(f'{len(label)} {split} images in {folder}, {count} heat maps')
  return points


def _write_heat_maps(
  member: ensemble.Trained,
  explainer: Explainer,
  examples: pipeline.Examples,
  folder: pathlib.Path,
) -> int:
  """Writes those of the surest right and wrong answers; returns how many.

  Of a segmentation, of the first images.
  """
  names = member.data.index.labels
  maps = member.made.task.name == 'segmentation'
  if maps:
    picked = np.arange(min(2 * SURE, len(examples)))
    best = np.zeros(len(examples), int)
  else:
    probability = np.stack([p for _, p in member.mapper(examples)])
    best, label = probability.argmax(1), member.data.index.label[examples.rows]
    order = np.argsort(-probability.max(1), kind='stable')
    right = best[order] == label[order]
    picked = np.concatenate([order[right][:SURE], order[~right][:SURE]])
  chosen = examples.subset(picked)
  for i, heat in explainer(chosen, best[picked]):
    image = as_seen(chosen, i)
    if maps:
      picture = figures.png(class_figures.heat_overlay(image, heat))
    else:
      at = picked[i]
      title = f'{names[best[at]]}, true: {names[label[at]]}'
      picture = class_figures.explained(
        image, heat, names, probability[at], title
      )
    name = member.data.index.image_id[chosen.rows[i]]
    (folder / f'{name}_gradcam.png').write_bytes(picture)
  return len(picked)


def as_seen(examples: pipeline.Examples, i: int) -> np.ndarray:
  """An image over which a heat map of the network's input may lie.

  Args:
    examples: As the network takes them.
    i: Which of them.

  Returns:
    uint8 [h, w, 3]: what the network sees, at the image's own shape; see
    `Examples.picture`.
  """
  return figures.shrink(examples.picture(i), [], report.SIDE)[0]


def _pixels(examples: pipeline.Examples) -> np.ndarray:
  """The images, small, as numbers from 0 to 1, [N, D]."""
  small = [
    pipeline.resize(examples[i]['image'], PIXELS) for i in range(len(examples))
  ]
  return np.stack(small).reshape(len(small), -1) / 255


def _write_points(path: pathlib.Path, index, rows, points) -> None:
  """Writes where each image lies."""
  with path.open('w', newline='') as file:
    table = csv.writer(file)
    names = [f'{name}_{axis}' for name in points for axis in 'xy']
    table.writerow(['image_id', 'label', *names])
    for i, row in enumerate(rows):
      label = index.label[row]
      told = index.labels[label] if label >= 0 else ''
      where = [f'{v:.6g}' for drawn in points.values() for v in drawn[i]]
      table.writerow([index.image_id[row], told, *where])
