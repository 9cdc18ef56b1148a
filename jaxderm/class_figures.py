"""Pictures of a classification: curves, calibration, heat maps, maps of images."""

import io
from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from jaxderm import calibration, class_metrics, ranking

_HEAT = 0.45  # share of the colour of a heat map in its overlay


def of_rows(rows: Mapping) -> dict[str, bytes]:
  """The plots of an evaluation: what each shows, and its PNG file.

  Args:
    rows: Columns; see `class_metrics.summarise`.
  """
  labels, label, probability = class_metrics.read(rows)
  return {
    'ROC, and precision and recall, of each class against the rest': (
      roc_and_precision(labels, label, probability)
    ),
    'Reliability: how often a probability is right': reliability(
      calibration.reliability(label, probability)
    ),
  }


def roc_and_precision(
  labels: Sequence[str], label: np.ndarray, probability: np.ndarray
) -> bytes:
  """ROC and precision-recall curves, a line for each class against the rest.

  Args:
    labels: Names of the classes, [C].
    label: True classes in 0..C-1, [N].
    probability: [N, C].

  Returns:
    The bytes of a PNG file. Classes without an image, or with all of them, are
    left out.
  """
  figure, (left, right) = _figure((9, 4), 1, 2)
  for c, name in enumerate(labels):
    positive = label == c
    if positive.all() or not positive.any():
      continue
    auc, precision = ranking.ranking(positive, probability[:, c])
    x, y, _ = ranking.roc(positive, probability[:, c])
    left.plot(x, y, linewidth=1.3, label=f'{name} {auc:.3f}')
    x, y = ranking.precision_recall(positive, probability[:, c])
    right.step(
      x, y, where='pre', linewidth=1.3, label=f'{name} {precision:.3f}'
    )
  left.plot([0, 1], [0, 1], color='0.7', linewidth=0.8, linestyle='--')
  _name(left, 'ROC (area)', '1 - specificity', 'sensitivity')
  _name(right, 'Precision and recall (average)', 'recall', 'precision')
  for axes in (left, right):
    axes.set_xlim(-0.01, 1.01)
    axes.set_ylim(-0.01, 1.01)
    if len(axes.lines) > (axes is left):
      axes.legend(frameon=False, fontsize=8)
  return _png(figure)


def reliability(found: Mapping) -> bytes:
  """A reliability diagram and how many images are in each bin.

  Args:
    found: What `calibration.reliability` returned.

  Returns:
    The bytes of a PNG file.
  """
  edges = np.array(found['edges'])
  width, middle = np.diff(edges), (edges[1:] + edges[:-1]) / 2
  figure, (left, right) = _figure((9, 4), 1, 2)
  full = [i for i, count in enumerate(found['counts']) if count]
  right_share = np.array([found['accuracy'][i] for i in full])
  sure = np.array([found['confidence'][i] for i in full])
  left.bar(middle[full], right_share, width[full] * 0.92, color='#1f6feb')
  left.plot(sure, right_share, 'o', color='#d9480f', markersize=4)
  left.plot([0, 1], [0, 1], color='0.5', linewidth=0.8, linestyle='--')
  left.set_xlim(0, 1)
  left.set_ylim(0, 1)
  right.bar(middle, found['counts'], width * 0.92, color='#1f6feb')
  right.set_xlim(0, 1)
  _name(
    left, 'Reliability', 'probability of the predicted class', 'share right'
  )
  _name(right, 'Images', 'probability of the predicted class', 'images')
  return _png(figure)


def heat_overlay(image: np.ndarray, heat: np.ndarray) -> np.ndarray:
  """A heat map over an image: blue where it is 0, red where it is 1.

  Args:
    image: RGB, uint8 [H, W, 3].
    heat: From 0 to 1, [h, w]; brought to the image's size, bilinear.

  Returns:
    RGB, uint8 [H, W, 3].
  """
  height, width = image.shape[:2]
  heat = cv2.resize(np.asarray(heat, np.float32), (width, height))
  grey = np.round(heat.clip(0, 1) * 255).astype(np.uint8)
  colours = cv2.applyColorMap(grey, cv2.COLORMAP_JET)[..., ::-1]
  mixed = (1 - _HEAT) * image + _HEAT * colours.astype(np.float32)
  return np.round(mixed).astype(np.uint8)


def explained(
  image: np.ndarray,
  heat: np.ndarray,
  names: Sequence[str],
  probability: np.ndarray,
  title: str = '',
) -> bytes:
  """An image, its heat map over it, and a bar for each class.

  Args:
    image: RGB, uint8 [H, W, 3].
    heat: From 0 to 1, [h, w].
    names: Of the classes, [C].
    probability: [C].
    title: Above the heat map.

  Returns:
    The bytes of a PNG file.
  """
  figure, (plain, seen, bars) = _figure((11, 3.6), 1, 3)
  plain.imshow(image)
  seen.imshow(heat_overlay(image, heat))
  seen.set_title(title, fontsize=10)
  for axes in (plain, seen):
    axes.axis('off')
  place = np.arange(len(names))[::-1]
  best = int(np.argmax(probability))
  colours = ['#d9480f' if c == best else '#1f6feb' for c in range(len(names))]
  bars.barh(place, probability, color=colours)
  bars.set_yticks(place, names)
  bars.set_xlim(0, 1)
  for y, p in zip(place, probability, strict=True):
    bars.text(min(p + 0.02, 0.86), y, f'{p:.3f}', va='center', fontsize=9)
  bars.set_title('probability', fontsize=10)
  return _png(figure)


def scatter(
  points: np.ndarray, label: np.ndarray, names: Sequence[str], title: str
) -> bytes:
  """Images as points of a plane, coloured by class.

  Args:
    points: [N, 2].
    label: In 0..C-1, or -1 for none, [N].
    names: Of the classes, [C].
    title: Above them.

  Returns:
    The bytes of a PNG file.
  """
  figure, axes = _figure((6, 5), 1, 1)
  for c, name in [(-1, 'no label'), *enumerate(names)]:
    chosen = points[label == c]
    if len(chosen):
      axes.scatter(*chosen.T, s=10, alpha=0.7, label=f'{name} ({len(chosen)})')
  axes.set_title(title)
  axes.set_xticks([])
  axes.set_yticks([])
  axes.legend(frameon=False, fontsize=8)
  return _png(figure)


def _figure(size: tuple[float, float], rows: int, columns: int):
  # The object interface leaves pyplot and its windows alone.
  from matplotlib.backends.backend_agg import FigureCanvasAgg
  from matplotlib.figure import Figure

  figure = Figure(figsize=size, layout='constrained')
  FigureCanvasAgg(figure)
  return figure, figure.subplots(rows, columns)


def _name(axes, title: str, x: str, y: str) -> None:
  axes.set_title(title, fontsize=11)
  axes.set_xlabel(x)
  axes.set_ylabel(y)
  axes.grid(alpha=0.3)


def _png(figure) -> bytes:
  file = io.BytesIO()
  figure.savefig(file, format='png', dpi=110)
  return file.getvalue()
