"""The page of a classification: scores, classes, confusions, mistakes."""

import pathlib
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from jaxderm import class_metrics, figures, group_report, page, report
from jaxderm.rows import Rows, columns

_SCORES = {
  'accuracy': 'Accuracy',
  'balanced_accuracy': 'Balanced accuracy (mean recall)',
  'mean_sensitivity_specificity': 'Mean of sensitivity and specificity',
  'top2': 'True class among the first 2',
  'top3': 'True class among the first 3',
}
_OF_CLASS = {
  'recall': 'Recall (sensitivity)',
  'specificity': 'Specificity',
  'precision': 'Precision',
  'f1': 'F1',
  'auc': 'AUC',
  'average_precision': 'Average precision',
}
_OF_GROUP = {
  ('scores', 'accuracy'): 'Accuracy',
  ('scores', 'balanced_accuracy'): 'Balanced accuracy',
  ('macro', 'f1'): 'F1, mean of classes',
  ('macro', 'auc'): 'AUC, mean of classes',
}
_CALIBRATION = {
  'ece': 'Expected calibration error, 15 bins',
  'brier': 'Brier score, sum over classes (0 to 2)',
  'nll': 'Negative log-likelihood, nats',
}
_CHOSEN_ON = {
  'validation': 'Thresholds chosen on validation images',
  'scored': 'Thresholds chosen on the scored images: this flatters',
}


def pick_mistakes(rows: Rows, k: int = 6) -> list[report.Pick]:
  """The k wrong images with the most probable predictions, surest first.

  Ties are broken by image_id.

  Args:
    rows: See `class_metrics.summarise`.
    k: At most.
  """
  table = columns(rows, ('label',))
  labels, label, probability = class_metrics.read(table)
  predicted = probability.argmax(1)
  sure = probability.max(1)
  order = np.lexsort((table['image_id'], -sure))
  wrong = [i for i in order if predicted[i] != label[i]]
  return [
    report.Pick(
      image_id=str(table['image_id'][i]),
      group='wrong',
      title=f'{labels[label[i]]}, taken for {labels[predicted[i]]}',
      caption=(
        f'{table["image_id"][i]}: {labels[predicted[i]]} {sure[i]:.3f}, '
        f'{labels[label[i]]} {probability[i, label[i]]:.3f}'
      ),
    )
    for i in wrong[:k]
  ]


def write_report(
  path: str | pathlib.Path,
  summary: Mapping,
  curves_png: bytes | None,
  examples: Sequence[Mapping],
  plots: Mapping[str, bytes] | None = None,
) -> None:
  """Writes the page of an evaluation; it loads nothing.

  Args:
    path: Of the HTML file, written whole or not at all.
    summary: What `class_summary.finish` or `class_metrics.summarise` returned,
      and 'run' as in `report.write_report`.
    curves_png: What `figures.curves` returned.
    examples: Mistakes, each with 'title', 'caption' and 'image' (RGB, uint8
      [H, W, 3]).
    plots: What each shows, and the bytes of its PNG file.
  """
  plots = plots or {}
  sections = [
    _tiles(summary),
    _scores(summary),
    _classes(summary),
    _confusion(summary),
    *(
      f'<div class="paper">{page.picture(v, k)}</div>' for k, v in plots.items()
    ),
    _calibration(summary),
    _operating_points(summary.get('operating_points', {})),
    group_report.section(summary.get('groups', {'by': {}}), _OF_GROUP),
    _gallery(examples),
  ]
  report.write_page(path, summary, sections, curves_png, 'Classification')


def _tiles(summary: Mapping) -> str:
  auc = summary['macro']['auc']
  return page.tiles(
    [
      (f'{summary["n_images"]:,}', 'images scored'),
      (f'{summary["n_lesions"]:,}', 'lesions'),
      (f'{summary["scores"]["accuracy"]:.3f}', 'accuracy'),
      (f'{summary["scores"]["balanced_accuracy"]:.3f}', 'balanced accuracy'),
      ('&#8211;' if auc is None else f'{auc:.3f}', 'AUC, mean of classes'),
    ]
  )


def _scores(summary: Mapping) -> str:
  body = ''.join(
    f'<tr><th>{_SCORES[name]}</th>'
    + page.cell('Score', value, summary['intervals']['scores'][name])
    + '</tr>'
    for name, value in summary['scores'].items()
  )
  text = report.about_intervals(summary)
  return (
    '<h2>Scores</h2><table><thead><tr><th></th><th>Score</th></tr></thead>'
    f'<tbody>{body}</tbody></table><p>{escape(text)}</p>'
  )


def _classes(summary: Mapping) -> str:
  """A row for each class and one for their mean."""
  counts = np.sum(summary['confusion']['counts'], axis=1)
  labels = summary['confusion']['labels']
  spans = summary['intervals']
  lines = [
    (k, f'{n:,}', summary['per_class'][k], spans['per_class'][k])
    for k, n in zip(labels, counts, strict=True)
  ]
  lines.append(
    ('Mean of classes', f'{counts.sum():,}', summary['macro'], spans['macro'])
  )
  body = ''
  for name, number, values, intervals in lines:
    body += f'<tr><th>{escape(name)}</th><td data-of="Images">{number}</td>'
    for key, told in _OF_CLASS.items():
      body += page.cell(told, values[key], intervals[key])
    body += '</tr>'
  head = ''.join(f'<th>{told}</th>' for told in ('Images', *_OF_CLASS.values()))
  text = 'Each class against all others; AUC with ties half.'
  if summary['absent']:
    text += (
      f' No image is of {", ".join(summary["absent"])}: left out of means.'
    )
  return (
    f'<h2>Classes</h2><table><thead><tr><th></th>{head}</tr></thead>'
    f'<tbody>{body}</tbody></table><p>{escape(text)}</p>'
  )


def _confusion(summary: Mapping) -> str:
  """Images by true and predicted class, shaded by their share of the row."""
  labels = summary['confusion']['labels']
  body = ''
  for name, counts in zip(labels, summary['confusion']['counts'], strict=True):
    body += f'<tr><th>{escape(name)}</th>'
    for other, count in zip(labels, counts, strict=True):
      share = count / max(1, sum(counts))
      body += (
        f'<td data-of="as {escape(other)}" style="background:'
        f'rgba(31,111,235,{0.6 * share:.2f})">{count:,}</td>'
      )
    body += '</tr>'
  head = ''.join(f'<th>as {escape(name)}</th>' for name in labels)
  return (
    '<h2>Confusions</h2><table class="confusion"><thead><tr><th></th>'
    f'{head}</tr></thead><tbody>{body}</tbody></table><p>Rows are true classes, '
    'columns predicted ones; shaded by the share of the row.</p>'
  )


def _calibration(summary: Mapping) -> str:
  """How far probabilities can be believed, and what was done about it."""
  if 'calibration' not in summary:
    return ''
  found, told = summary['calibration'], summary['temperature']
  body = ''.join(
    f'<tr><th>{name}</th>'
    + page.cell('Score', found[key], found['intervals'][key])
    + '</tr>'
    for key, name in _CALIBRATION.items()
  )
  text = f'Temperature {told["value"]:.4g} ({told["from"]}).'
  if told.get('of_scored'):
    text += (
      f' It was fitted on {told["of_scored"]} of the images that are scored: '
      'this flatters.'
    )
  if 'uncalibrated' in summary:
    before = summary['uncalibrated']
    text += ' Before it: ' + ', '.join(
      f'{key} {before[key]:.3f}' for key in _CALIBRATION
    )
  return (
    '<h2>Calibration</h2><table><thead><tr><th></th><th>Score</th></tr></thead>'
    f'<tbody>{body}</tbody></table><p>{escape(text)}</p>'
  )


def _operating_points(points: Mapping) -> str:
  """What is left of the specificity at a fixed sensitivity."""
  tables = ''
  for where, title in _CHOSEN_ON.items():
    if not points.get(where):
      continue
    tables += f'<h2>{title}</h2><table><thead><tr><th></th>' + ''.join(
      f'<th>{name}</th>'
      for name in ('Aim', 'Threshold', 'Sensitivity', 'Specificity')
    )
    tables += '</tr></thead><tbody>'
    for label, of_class in points[where].items():
      for aim, point in of_class.items():
        tables += f'<tr><th>{escape(label)}</th><td data-of="Aim">{aim}</td>'
        for name in ('threshold', 'sensitivity', 'specificity'):
          value = point and point[name]
          span = point and point['intervals'].get(name)
          tables += page.cell(name.capitalize(), value, span)
        tables += '</tr>'
    tables += '</tbody></table>'
  return tables


def _gallery(examples: Sequence[Mapping]) -> str:
  if not examples:
    return ''
  cells = ''
  for example in examples:
    image, _ = figures.shrink(example['image'], [], report.SIDE)
    cells += page.figure(
      figures.png(image), example['title'], example['caption']
    )
  return f'<h2>The surest mistakes</h2><div class="gallery">{cells}</div>'
