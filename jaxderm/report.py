"""One HTML file that tells what a run is worth, and that needs nothing else."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from jaxderm import figures, group_report, metrics, page
from jaxderm.figures import curves  # noqa: F401  (the page's other picture)
from jaxderm.writer import replace_text

SIDE = 480  # pixels of the longer side of a picture on the page

_CONVENTIONS = {
  'per_image': ('Per image', 'mean of the scores of the images (ISIC rule)'),
  'pooled': ('Pooled', 'one score of the pixels of all images together'),
  'two_class': (
    'Two-class, pooled',
    'mean of lesion and background, from pooled pixels; it flatters',
  ),
  'two_class_per_image': (
    'Two-class, per image',
    'mean of lesion and background on each image, then over images',
  ),
}
_NAMES = {
  'hd95': '95 % Hausdorff, pixels',
  'hausdorff': 'Hausdorff, pixels',
  'jaccard': 'Jaccard (IoU)',
  'thresholded_jaccard': 'Jaccard, 0 below 0.65',
}
_OF_GROUP = {
  ('per_image', 'dice'): 'Dice, mean of images',
  ('per_image', 'jaccard'): 'Jaccard, mean of images',
  ('failures',): 'Jaccard below 0.65',
}


@dataclasses.dataclass(frozen=True)
class Pick:
  """An image worth a look.

  Attributes:
    image_id: Which.
    group: 'best', 'median' or 'worst'.
    title: Group, rank and id.
    caption: Its scores.
  """

  image_id: str
  group: str
  title: str
  caption: str


def pick_examples(rows: metrics.Rows, k: int = 3) -> list[Pick]:
  """The k best, middle and worst images by Dice.

  Ties are broken by image_id, so the same rows in any order give the same
  picks, and no image is picked twice. With fewer than 3k images each group
  gets a third of them; one or two images go to 'best', then 'worst'.

  Args:
    rows: See `metrics.columns`.
    k: Images in each group.

  Returns:
    Best first, then the middle, then the worst, worst last.
  """
  table = metrics.columns(rows)
  counts = metrics.Counts(*(table[c] for c in ('tp', 'fp', 'fn', 'tn')))
  dice, jaccard = metrics.dice(counts), metrics.jaccard(counts)
  order = np.lexsort((table['image_id'], -dice))
  k = min(k, max(1, len(order) // 3))
  best, rest = order[:k], order[k:]
  worst, rest = rest[max(0, len(rest) - k) :], rest[: max(0, len(rest) - k)]
  start = max(0, (len(rest) - k) // 2)
  groups = {'best': best, 'median': rest[start : start + k], 'worst': worst}
  picks = []
  for group, members in groups.items():
    for i in members:
      name = str(table['image_id'][i])
      caption = f'Dice {dice[i]:.3f}, Jaccard {jaccard[i]:.3f}'
      if 'hd95' in table:
        caption += f', HD95 {float(table["hd95"][i]):.1f} px'
      picks.append(Pick(name, group, f'{group.capitalize()}: {name}', caption))
  return picks


def write_report(
  path: str | pathlib.Path,
  summary: Mapping,
  curves_png: bytes | None,
  examples: Sequence[Mapping],
) -> None:
  """Writes the page of an evaluation.

  The page loads nothing: pictures are inside, there are no scripts.

  Args:
    path: Of the HTML file, written whole or not at all.
    summary: What `metrics.summarise` returned, and under 'run' what was run:
      any names and values; 'system', 'dataset' and 'part' make the title,
      'versions' and 'command' go to the bottom.
    curves_png: What `figures.curves` returned.
    examples: Each with 'title', 'caption', 'image' (RGB, uint8 [H, W, 3]),
      'truth' and 'prediction' (0 and 1, [H, W] or [H, W, 1]).
  """
  sections = [
    _tiles(summary),
    _scores(summary),
    _dice(summary.get('dice_histogram')),
    group_report.section(summary.get('groups', {'by': {}}), _OF_GROUP),
    _gallery(examples),
  ]
  write_page(path, summary, sections, curves_png, 'Segmentation')


def write_page(
  path: str | pathlib.Path,
  summary: Mapping,
  sections: Sequence[str],
  curves_png: bytes | None,
  task: str,
) -> None:
  """Writes a page of what was run around the sections of a task.

  Args:
    path: Of the HTML file, written whole or not at all.
    summary: See `write_report`; only 'run' is read.
    sections: HTML.
    curves_png: What `figures.curves` returned.
    task: Stands in the title where no system is named.
  """
  run = dict(summary.get('run', {}))
  versions, command = run.pop('versions', {}), run.pop('command', '')
  title = f'{run.get("system", task)} on {run.get("dataset", "data")}'
  part = f', {run["part"]} images' if 'part' in run else ''
  parts = [
    f'<h1>{escape(title + part)}</h1>',
    _trained_on(run),
    *sections,
    _curves(curves_png),
    '<h2>What was run</h2>' + page.facts(run),
    '<h2>Versions and command</h2>' + page.facts(versions),
    f'<code>{escape(str(command))}</code>' if command else '',
  ]
  replace_text(pathlib.Path(path), page.document(title, '\n'.join(parts)))


def _trained_on(run: Mapping) -> str:
  """How many images were learnt from, where the run says so."""
  images = run.get('images')
  if not isinstance(images, Mapping):
    return ''
  parts = ', '.join(f'{count} {part}' for part, count in images.items())
  return f'<p>{escape(f"Images of the split: {parts}.")}</p>'


def _tiles(summary: Mapping) -> str:
  """The numbers to see first."""
  tiles = [
    (f'{summary["n_images"]:,}', 'images scored'),
    (f'{summary["n_lesions"]:,}', 'lesions'),
    (f'{summary["per_image"]["dice"]:.3f}', 'Dice, mean of images'),
    (f'{summary["per_image"]["jaccard"]:.3f}', 'Jaccard, mean of images'),
    (f'{100 * summary["failures"]:.1f} %', 'failures: Jaccard below 0.65'),
  ]
  return page.tiles(tiles)


def _scores(summary: Mapping) -> str:
  """The table of scores: one row for each, one column for each convention."""
  present = [c for c in _CONVENTIONS if c in summary]
  head = ''.join(f'<th>{_CONVENTIONS[c][0]}</th>' for c in present)
  body = ''
  for name in dict.fromkeys(n for c in present for n in summary[c]):
    body += f'<tr><th>{escape(_label(name))}</th>'
    for convention in present:
      body += f'<td data-of="{_CONVENTIONS[convention][0]}">'
      if name in summary[convention]:
        digits = 1 if name in ('hausdorff', 'hd95') else 3
        value = summary[convention][name]
        low, high = summary['intervals'][convention][name]
        body += f'{value:.{digits}f}<small>{low:.{digits}f} to '
        body += f'{high:.{digits}f}</small>'
      body += '</td>'
    body += '</tr>'
  notes = '; '.join(f'{a.lower()}: {b}' for a, b in _CONVENTIONS.values())
  low, high = summary['intervals']['failures']
  text = (
    f'{about_intervals(summary)} Failures {100 * low:.1f} % to '
    f'{100 * high:.1f} %. {notes[0].upper()}{notes[1:]}.'
  )
  if summary['n_lesions'] == 1:
    text += ' One lesion alone has no interval: its width of 0 means nothing.'
  return (
    f'<h2>Scores</h2><table><thead><tr><th></th>{head}</tr></thead>'
    f'<tbody>{body}</tbody></table><p>{escape(text)}</p>'
  )


def about_intervals(summary: Mapping) -> str:
  """Where the small print of a table comes from."""
  drawn = summary.get('bootstrap', {})
  return (
    f'Small print in the table: {100 * drawn.get("level", 0.95):g} % intervals '
    f'from {drawn.get("resamples", "?")} bootstrap draws of '
    f'{summary["n_lesions"]} lesions.'
  )


def _label(name: str) -> str:
  return _NAMES.get(name, name.replace('_', ' ').capitalize())


def _dice(histogram: Mapping | None) -> str:
  """How many images have which Dice."""
  if not histogram:
    return ''
  bars = page.bars(histogram['edges'], histogram['counts'], 'Dice')
  return f'<h2>Dice of the images</h2>{bars}'


def _gallery(examples: Sequence[Mapping]) -> str:
  """Pictures with both outlines."""
  if not examples:
    return ''
  cells = ''
  for example in examples:
    image, masks = figures.shrink(
      example['image'], [example['truth'], example['prediction']], SIDE
    )
    drawn = figures.png(figures.overlay(image, *masks))
    cells += page.figure(drawn, example['title'], example['caption'])
  legend = ' '.join(
    f'<span class="key" style="background:rgb{colour}"></span>{text}&emsp;'
    for colour, text in (
      (figures.TRUTH, 'true outline'),
      (figures.PREDICTION, 'predicted outline'),
    )
  )
  return (
    f'<h2>Best, median and worst images</h2><p>{legend}</p>'
    f'<div class="gallery">{cells}</div>'
  )


def _curves(png: bytes | None) -> str:
  if png is None:
    return ''
  picture = page.picture(png, 'Loss and validation scores during training')
  return f'<h2>Training</h2><div class="paper">{picture}</div>'
