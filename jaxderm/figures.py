"""Outlines on images, and curves of a run, as pixels."""

import io
import json
import math
import pathlib

import cv2
import numpy as np

from jaxderm.metrics import as_mask

# RGB. Orange on top of a wider green stays apart from it for those who do not
# tell red from green, by its width, and from brown skin by its dark rim.
TRUTH = (60, 220, 110)
PREDICTION = (255, 150, 30)
_RIM = (20, 20, 20)

_NOT_SCORES = {'step', 'epoch', 'loss', 'learning_rate', 'images_per_second'}


def outline(
  image: np.ndarray,
  mask: np.ndarray,
  colour: tuple[int, int, int],
  width: float = 1.0,
) -> np.ndarray:
  """Draws the outline of a mask, with its holes, on a copy of an image.

  Args:
    image: RGB, uint8 [H, W, 3].
    mask: 1 on the lesion, 0 off it, [H, W] or [H, W, 1].
    colour: RGB, 0 to 255.
    width: Of the line, in 1/250 of the longer side of the image.

  Returns:
    RGB, uint8 [H, W, 3].

  Raises:
    ValueError: If the image is not RGB bytes or the mask has another size.
  """
  mask = as_mask(mask)
  if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
    raise ValueError(
      f'The image must be RGB, uint8 [H, W, 3]; got {image.dtype} '
      f'{image.shape}.'
    )
  if mask.shape not in (image.shape[:2], (*image.shape[:2], 1)):
    raise ValueError(
      f'The mask has shape {mask.shape}, its image {image.shape}; resize one.'
    )
  drawn = np.ascontiguousarray(image).copy()
  pixels = np.ascontiguousarray(mask.reshape(image.shape[:2]), np.uint8)
  found, _ = cv2.findContours(pixels, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
  thick = max(1, round(width * max(image.shape[:2]) / 250))
  rim = thick + max(1, thick // 2)
  # Not antialiased: that leaves no pixel of a thin line in its own colour.
  cv2.drawContours(drawn, found, -1, _RIM, rim)
  cv2.drawContours(drawn, found, -1, colour, thick)
  return drawn


def overlay(
  image: np.ndarray, truth: np.ndarray, prediction: np.ndarray
) -> np.ndarray:
  """The image with the true outline in green, the predicted one in orange.

  Where both agree an orange line lies on a wider green one.

  Args:
    image: RGB, uint8 [H, W, 3].
    truth: 1 on the lesion, 0 off it, [H, W] or [H, W, 1].
    prediction: Shaped as `truth`.
  """
  return outline(
    outline(image, truth, TRUTH, width=2.8), prediction, PREDICTION, width=1.3
  )


def shrink(
  image: np.ndarray, masks: list[np.ndarray], side: int
) -> tuple[np.ndarray, list[np.ndarray]]:
  """An image and its masks with the longer side at most `side` pixels.

  Args:
    image: RGB, uint8 [H, W, 3].
    masks: Each of 0 and 1, [H, W] or [H, W, 1].
    side: In pixels. Smaller images stay as they are.

  Returns:
    The image and its masks, uint8 [h, w].
  """
  height, width = image.shape[:2]
  scale = min(1.0, side / max(height, width))
  size = (max(1, round(width * scale)), max(1, round(height * scale)))
  small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
  masks = [as_mask(m).reshape(m.shape[:2]).astype(np.uint8) for m in masks]
  return small, [
    cv2.resize(m, size, interpolation=cv2.INTER_NEAREST_EXACT) for m in masks
  ]


def png(image: np.ndarray) -> bytes:
  """An RGB image, uint8 [H, W, 3], as the bytes of a PNG file."""
  done, data = cv2.imencode('.png', np.ascontiguousarray(image[..., ::-1]))
  if not done:
    raise ValueError(f'An image of shape {image.shape} cannot be a PNG.')
  return data.tobytes()


def curves(path: str | pathlib.Path) -> bytes | None:
  """Loss and validation scores of a run, from its `metrics.jsonl`.

  Nulls leave a gap, half a line (of a run killed while it wrote) is passed
  over, and of two lines for one step the later holds.

  Args:
    path: The file. Each line has 'step', 'kind' ('train' or 'validation'),
      mostly 'epoch', and numbers.

  Returns:
    The bytes of a PNG file, or None if there is no such file or nothing in it
    to draw.
  """
  lines = _read_metrics(pathlib.Path(path))
  losses = {kind: _series(rows, 'loss') for kind, rows in lines.items()}
  scores = {
    name: _series(lines['validation'], name)
    for name in sorted({k for row in lines['validation'] for k in row})
    if name not in _NOT_SCORES
  }
  scores = {k: v for k, v in scores.items() if _is_score(v)}
  losses = {k: v for k, v in losses.items() if np.isfinite(v).any()}
  if not losses and not scores:
    return None
  return _draw(lines, losses, scores)


def _read_metrics(path: pathlib.Path) -> dict[str, list[dict]]:
  """Lines of each kind by ascending step."""
  kept: dict[str, dict] = {'train': {}, 'validation': {}}
  text = path.read_text(encoding='utf-8') if path.is_file() else ''
  for line in text.splitlines():
    try:
      row = json.loads(line)
    except json.JSONDecodeError:
      continue
    if isinstance(row, dict) and row.get('kind') in kept:
      step = _number(row.get('step'))
      if math.isfinite(step):
        kept[row['kind']][step] = row
  return {
    kind: [rows[step] for step in sorted(rows)] for kind, rows in kept.items()
  }


def _number(value) -> float:
  """A finite number, or NaN for null, text, infinity and truth values."""
  if isinstance(value, bool) or not isinstance(value, int | float):
    return math.nan
  return float(value) if math.isfinite(value) else math.nan


def _series(rows: list[dict], name: str) -> np.ndarray:
  return np.array([_number(row.get(name)) for row in rows], np.float64)


def _is_score(values: np.ndarray) -> bool:
  """Some are numbers, and those lie within 0 and 1."""
  known = values[np.isfinite(values)]
  return bool(known.size and known.min() >= 0 and known.max() <= 1)


def _draw(lines, losses, scores) -> bytes:
  # The object interface leaves pyplot and its windows alone.
  from matplotlib.backends.backend_agg import FigureCanvasAgg
  from matplotlib.figure import Figure

  rows = lines['train'] + lines['validation']
  unit = 'epoch' if np.isfinite(_series(rows, 'epoch')).all() else 'step'
  where = {kind: _series(lines[kind], unit) for kind in lines}
  figure = Figure(figsize=(9, 3.6), layout='constrained')
  FigureCanvasAgg(figure)
  left, right = figure.subplots(1, 2)
  for kind, values in losses.items():
    _line(left, where[kind], values, kind)
  for name, values in scores.items():
    _line(right, where['validation'], values, name.replace('_', ' '))
  left.set_title('Loss')
  right.set_title('Validation scores')
  for axes in (left, right):
    axes.set_xlabel(unit)
    axes.grid(alpha=0.3)
    if axes.lines:
      axes.legend(frameon=False)
  file = io.BytesIO()
  figure.savefig(file, format='png', dpi=110)
  return file.getvalue()


def _line(axes, x: np.ndarray, y: np.ndarray, label: str) -> None:
  # A point between two gaps has no line; a marker shows it.
  marker = 'o' if len(x) <= 30 or not np.isfinite(y[:-1] + y[1:]).any() else ''
  axes.plot(x, y, marker=marker, markersize=3, linewidth=1.4, label=label)
