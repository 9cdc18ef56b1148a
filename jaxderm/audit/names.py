"""What a column is, from its name."""

import dataclasses
import re
from collections.abc import Iterable

_WORDS = {  # anywhere in a name, as in 'BCE_mIoU' and 'IoU ISIC 2017'
  'dice similarity': 'Dice',
  'dice': 'Dice',
  'dsc': 'Dice',
  'intersection over union': 'IoU',
  'iou': 'IoU',
  'jaccard': 'IoU',
  'f1': 'F1',
  'f1score': 'F1',
  'f score': 'F1',
  'f measure': 'F1',
  'average precision': 'AP',
  'precision': 'Precision',
  'ppv': 'Precision',
  'recall': 'Recall',
  'sensitivity': 'Recall',
  'tpr': 'Recall',
  'specificity': 'Specificity',
  'tnr': 'Specificity',
  'balanced accuracy': 'Balanced accuracy',
  'bacc': 'Balanced accuracy',
  'accuracy': 'Accuracy',
  'acc': 'Accuracy',
  'auc': 'AUC',
  'auroc': 'AUC',
}
_ALONE = {  # only as the whole name: SE-ResNet is no sensitivity
  'dc': 'Dice',
  'ja': 'IoU',
  'ji': 'IoU',
  'jac': 'IoU',
  'fs': 'F1',
  'ap': 'AP',
  'pre': 'Precision',
  'prec': 'Precision',
  'rec': 'Recall',
  'se': 'Recall',
  'sen': 'Recall',
  'sens': 'Recall',
  'sp': 'Specificity',
  'spe': 'Specificity',
  'spec': 'Specificity',
  'ac': 'Accuracy',
}
_COUNTS = {
  'total': 'Total',
  'train': 'Train',
  'training': 'Train',
  'validation': 'Validation',
  'val': 'Validation',
  'valid': 'Validation',
  'test': 'Test',
  'testing': 'Test',
}
SCORES = tuple(dict.fromkeys([*_WORDS.values(), *_ALONE.values()]))
COUNTS = tuple(dict.fromkeys(_COUNTS.values()))

_LONGEST_FIRST = '|'.join(sorted(_WORDS, key=len, reverse=True))
_WORD = re.compile(rf'\b(m?)({_LONGEST_FIRST})\b(?! loss)')
_AVERAGED = {'m', 'mean', 'average', 'averaged', 'avg', 'macro'}
_NOISE = {'score', 'coefficient', 'coeff', 'index', 'roc', 'value'}
_OF_IMAGES = {'n', 'no', 'num', 'number', 'of', 'set', 'cases', 'samples'}
_OF_IMAGES |= {'image', 'images'}
_SPREAD = {'sd', 'std', 'stdev', 'stddev', 'dev', 'deviation', 'variance'}
_ENDS = {'low', 'high', 'lower', 'upper', 'min', 'max', 'median', 'ci'}
_OTHER_SUMS = {'micro', 'weighted', 'total', 'overall', 'all', 'accuracy'}
_JOINED = {'ensemble', 'fusion', 'tta'}


@dataclasses.dataclass(frozen=True)
class Column:
  """A column that the audit understands.

  Attributes:
    name: Its heading.
    role: Of SCORES or COUNTS.
    group: What else its name says; columns are compared within a group, so
      that BCE_mIoU is with BCE_mDice, and mIoU not with Dice: one may be a
      mean over lesion and skin.
    pooled: Counts are pooled over all images before the ratio.
    averaged: It is a mean of images or classes.
  """

  name: str
  role: str
  group: tuple = ()
  pooled: bool = False
  averaged: bool = False


def words(name: str) -> list[str]:
  """A name in lower case, cut where there is neither letter nor digit."""
  return re.sub(r'[^a-z0-9]+', ' ', name.lower()).split()


def recognise(name: str) -> Column | None:
  """The score or count of a heading; None for all else.

  A star, or 'pooled', is for pooled; what stands before ' ±' counts alone.
  """
  said = words(name.partition('±')[0])
  if is_spread(name) or _ENDS & set(said):
    return None
  rest = [w for w in said if w not in _OF_IMAGES]
  if len(rest) == 1 and rest[0] in _COUNTS:
    return Column(name, _COUNTS[rest[0]])
  found = list(_WORD.finditer(text := ' '.join(said)))
  if found:
    m, word = found[-1].groups()
    said = (text[: found[-1].start()] + text[found[-1].end() :]).split()
    role = _WORDS[word]
  else:
    m, alone = '', [w for w in said if w not in _AVERAGED | _NOISE]
    if len(alone) != 1 or alone[0] not in _ALONE:
      return None
    said.remove(alone[0])
    role = _ALONE[alone[0]]
  averaged = bool(m) or bool(_AVERAGED & set(said))
  pooled = '*' in name or 'pooled' in said
  more = [w for w in said if w not in _AVERAGED | _NOISE | {'pooled'}]
  return Column(name, role, (averaged, pooled, *more), pooled, averaged)


def is_spread(name: str) -> bool:
  """Whether a column holds deviations, not scores."""
  before, sign, after = name.partition('±')
  only_sign = bool(sign) and not (words(before) and words(after))
  return only_sign or bool(_SPREAD & set(words(before)))


def is_deviation(name: str) -> bool:
  """Whether a row of this name holds the deviations of the others."""
  said = set(words(name))
  known = _SPREAD | {'st', 'standard'}
  return name.startswith('±') or bool(said & _SPREAD and said <= known)


def spread_of(name: str, names: Iterable[str]) -> str | None:
  """The column of deviations that belongs to a column of scores."""
  ends = ('_sd', '_std', ' sd', ' std', ' ±', '_±')
  return next((other for e in ends if (other := name + e) in names), None)


def is_mean(name: str) -> bool:
  """Whether a column or a row of this name is a plain mean of the others."""
  said = set(words(name)) - _NOISE
  return bool(said) and said <= _AVERAGED


def is_summary(name: str) -> bool:
  """Whether a row of this name is made of other rows."""
  said = set(words(name)) - _NOISE
  known = _AVERAGED | _OTHER_SUMS | _SPREAD | _JOINED | {'st', 'by', 'standard'}
  return bool(said) and said <= known
