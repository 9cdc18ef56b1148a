"""The tables of le2020 (paper 004)."""

from jaxderm.data.ham10000 import LABELS
from jaxderm.tables.plan import Changes, Plan, Row

_HAM10000 = {'ham10000': 'ham10000.py'}
_OURS = 'ResNet50'
_MEANS = {
  'Accuracy': 'scores.accuracy',
  'Precision': 'macro.precision',
  'Recall': 'macro.recall',
  'F1-score': 'macro.f1',
}
# What each experiment leaves out.
_WITHOUT: dict[str, Changes] = {
  'no dropout': {'model.changes.dropout': 0.0},
  'no augment': {'data.augment': {}},
  'no CW': {'loss.alpha': 'equal'},
  'no FC': {'loss.gamma': 0.0},
  'no GAP': {'model.changes.end': 'flattened'},
  'full': {},
}
# Flips and quarter turns; the paper does not list its views (SPEC 5.5).
_VIEWS = ('identity', 'hflip', 'vflip', 'rot180', 'rot90', 'rot270')


def _experiments(score: str) -> Plan:
  """Tables 3 to 5: one score of each class."""
  columns = {name: f'per_class.{name}.{score}' for name in LABELS}
  return Plan(
    f'{score} of each class, by experiment',
    _HAM10000,
    tuple(
      Row(str(number), _OURS, changes)
      for number, changes in enumerate(_WITHOUT.values(), 1)
    ),
    columns | {'Average': f'macro.{score}'},
  )


PLANS = {
  '2': Plan(
    'Ablation of ResNet50',
    _HAM10000,
    tuple(
      Row(f'{number} ({name})', _OURS, changes)
      for number, (name, changes) in enumerate(_WITHOUT.items(), 1)
    ),
    _MEANS,
    scale=100,
  ),
  '3': _experiments('precision'),
  '4': _experiments('recall'),
  '5': _experiments('f1'),
  '6': Plan(
    'Backbones',
    _HAM10000,
    (
      Row('6 / ResNet50', 'ResNet50'),
      Row('7 / VGG16', 'VGG16'),
      Row('8 / MobileNet', 'MobileNet'),
      Row('9 / EfficientNet B1', 'EfficientNetB1'),
    ),
    _MEANS,
    scale=100,
  ),
  '7': Plan(
    'Five folds, their ensemble, and test-time augmentation',
    _HAM10000,
    (
      *(Row(str(k + 1), _OURS, {'fold': k}) for k in range(5)),
      Row('Ensemble', _OURS, ensemble=True),
      Row('By TTA', _OURS, {'evaluate.views': _VIEWS}, ensemble=True),
    ),
    {
      'Acc': 'scores.accuracy',
      'Pre': 'macro.precision',
      'Recall': 'macro.recall',
      'F1-score': 'macro.f1',
      'Top 2': 'scores.top2',
      'Top 3': 'scores.top3',
      'AUC': 'macro.auc',
    },
    scale=100,
    one_seed=True,
    splits={'honest': 'le2020_grouped'},
  ),
  '8': Plan(
    'Beside other publications',
    _HAM10000,
    (
      # The paper prints its fourth fold as the single network.
      Row('Ours / 2020 / ResNet50', _OURS, {'fold': 3}),
      Row('Ours / 2020 / Ensemble', _OURS, ensemble=True),
    ),
    {
      'Acc': 'scores.accuracy',
      'Pre': 'macro.precision',
      'Rec': 'macro.recall',
      'FS': 'macro.f1',
    },
    scale=100,
    one_seed=True,
    splits={'honest': 'le2020_grouped'},
  ),
}
