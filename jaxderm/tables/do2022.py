"""The tables of do2022 (paper 002)."""

from jaxderm.data.ham10000 import LABELS
from jaxderm.tables.plan import Changes, Plan, Row

_HAM10000 = {'ham10000': 'ham10000_soft_attention.py'}
_ACCURACY = {'Accuracy': 'scores.accuracy'}
_AUGMENTED = 'ham10000_augmented.py'
# Melanoma weighs more in all others (SPEC 3.6).
_EQUAL: Changes = {'loss': {'name': 'cross_entropy'}}
_WITH_AUGMENTED = (
  ('DenseNet201', 'DenseNet201', {}),
  ('InceptionResNetV2', 'InceptionResNetV2', {}),
  ('Resnet50', 'ResNet50Augmented', {}),
  ('VGG16', 'VGG16', _EQUAL),
)
_WITH_METADATA = (
  ('DenseNet201', 'DenseNet201'),
  ('InceptionResNetV2', 'InceptionResNetV2'),
  ('Resnet50', 'ResNet50'),
  ('Resnet152', 'ResNet152'),
  ('NasNetLarge', 'NASNetLarge'),
  ('MobileNetV2', 'MobileNetV2'),
  ('MobileNetV3Large', 'MobileNetV3Large'),
  ('MobileNetV3Small', 'MobileNetV3Small'),
  ('NasNetMobile', 'NASNetMobile'),
)
_APPENDIX = (
  *(
    Row(f'{name} with Augmented Data', system, changes, config=_AUGMENTED)
    for name, system, changes in _WITH_AUGMENTED
  ),
  *(
    Row(f'{name} with Metadata and WeightLoss', system)
    for name, system in _WITH_METADATA
  ),
)


def _of_classes(score: str) -> dict[str, str]:
  """A column for each class and one for their mean."""
  columns = {name: f'per_class.{name}.{score}' for name in LABELS}
  return columns | {'Mean': f'macro.{score}'}


PLANS = {
  '5': Plan(
    'Soft-Attention with augmentation, without metadata',
    {'ham10000': _AUGMENTED},
    tuple(
      Row(name.replace('Resnet', 'ResNet'), system, changes)
      for name, system, changes in _WITH_AUGMENTED
    ),
    _ACCURACY,
    splits={'paper': 'do2022_augmented'},
  ),
  '6': Plan(
    'Soft-Attention with metadata and weights of classes',
    _HAM10000,
    tuple(
      Row(
        name.replace('Resnet50', 'ResNet50'),
        # The run of this table is another one than that of table 7 (SPEC 3.1).
        'MobileNetV3LargeDepthwise' if system == 'MobileNetV3Large' else system,
      )
      for name, system in _WITH_METADATA
    ),
    _ACCURACY,
  ),
  '7': Plan(
    'The best of the small and of the large',
    _HAM10000,
    (
      Row('MobileNetV3Large', 'MobileNetV3Large'),
      Row('DenseNet201', 'DenseNet201'),
      Row('InceptionResnetV2', 'InceptionResNetV2'),
    ),
    _ACCURACY,
  ),
  'A3': Plan('F1 of each class', _HAM10000, _APPENDIX, _of_classes('f1')),
  'A4': Plan(
    'Recall of each class', _HAM10000, _APPENDIX, _of_classes('recall')
  ),
  'A5': Plan(
    'Small networks',
    _HAM10000,
    (
      Row('[21] MobileNetV2', 'MobileNetV2'),
      Row('[22]Small MobileNetV3Small', 'MobileNetV3Small'),
      Row('[22]Large MobileNetV3Large', 'MobileNetV3Large'),
      Row('[33]Mobile NasNetMobile', 'NASNetMobile'),
    ),
    {
      'Accuracy(avg)': 'scores.accuracy',
      # The paper's own: the mean of sensitivity and specificity.
      'Balanced Accuracy(avg)': 'scores.mean_sensitivity_specificity',
      'Precision(avg)': 'macro.precision',
      'F1-score(avg)': 'macro.f1',
      'Sensitivity(avg)': 'macro.recall',
      'Specificity(avg)': 'macro.specificity',
      'ROC-AUC-score(avg)': 'macro.auc',
    },
  ),
}
