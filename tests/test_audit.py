"""The audit finds what cannot be true, and nothing else."""

from fractions import Fraction

import numpy as np
import pytest

from jaxderm import audit
from jaxderm.audit import names, printed


def table(text: str) -> dict[str, list[str]]:
  """{heading: cells} of lines of words."""
  head, *rows = [line.split() for line in text.strip().splitlines()]
  return {name: [row[i] for row in rows] for i, name in enumerate(head)}


def found(text: str, **hints) -> list[tuple[str, str]]:
  """Row and rule of each finding."""
  return [(f.name, f.rule) for f in audit.findings(table(text), **hints)]


def only(text: str, **hints) -> audit.Finding:
  (finding,) = audit.findings(table(text), **hints)
  return finding


@pytest.mark.parametrize(
  'text, low, high',
  [
    ('0.90', '0.895', '0.905'),
    ('0.9', '0.85', '0.95'),
    ('84.32', '84.315', '84.325'),
    ('84', '83.5', '84.5'),
    ('76.4%', '76.35', '76.45'),
    ('91.63 ± 0.09', '91.625', '91.635'),
    ('91.63+/-0.09', '91.625', '91.635'),
    ('0.93 (0.91 to 0.95)', '0.925', '0.935'),
    ('**0.93**', '0.925', '0.935'),
    ('.5', '0.45', '0.55'),
    ('−0.1', '-0.15', '-0.05'),
  ],
)
def test_digits_stand_for_what_is_rounded_to_them(text, low, high):
  number = printed.parse(text)
  assert (number.low, number.high) == (Fraction(low), Fraction(high))


def test_cells_without_a_number():
  for text in ('', '-', '—', 'n/a', 'NaN', ' '):
    assert printed.parse(text) is None
    assert printed.count(text) is None
  for text in ('abc', '0,93', '0.9.1', '12e999999999', '0.9/0.8', 'inf', '1_0'):
    with pytest.raises(ValueError, match='not a number'):
      printed.parse(text)
  assert printed.parse('91.6 ± 0.1').spread == Fraction('0.15')
  assert printed.count('10,015').value == 10015
  assert printed.count('2594').low == 2594
  assert printed.count('70%') is None
  assert printed.parse('1').share(percent=False).high == 1
  assert printed.parse('100').share(percent=True).high == 1
  with pytest.raises(ValueError, match='whole number|not a count'):
    printed.count('2.5k')


@pytest.mark.parametrize(
  'name, role, more',
  [
    ('Dice', 'Dice', ()),
    ('DC', 'Dice', ()),
    ('DSC (%)', 'Dice', ()),
    ('Dice similarity coefficient', 'Dice', ()),
    ('JA', 'IoU', ()),
    ('Jaccard index', 'IoU', ()),
    ('Intersection over Union', 'IoU', ()),
    ('BCE_mIoU', 'IoU', ('bce',)),
    ('Dice_mIoU', 'IoU', ('dice',)),
    ('IoU ISIC 2017', 'IoU', ('isic', '2017')),
    ('IoU (Dice loss)', 'IoU', ('dice', 'loss')),
    ('Thresholded Jaccard', 'IoU', ('thresholded',)),
    ('FS', 'F1', ()),
    ('F1-score(avg)', 'F1', ()),
    ('ROC-AUC-score(avg)', 'AUC', ()),
    ('Average precision', 'AP', ()),
    ('Balanced Accuracy(avg)', 'Balanced accuracy', ()),
    ('SE', 'Recall', ()),
    ('Sensitivity', 'Recall', ()),
  ],
)
def test_names_of_scores(name, role, more):
  column = names.recognise(name)
  assert column.role == role
  assert column.group[2:] == more
  assert not column.pooled


def test_names_of_kinds():
  for name in ('mDice*', 'pooled_dice'):
    assert names.recognise(name).pooled
  for name in ('mDice', 'mean Dice', 'Dice (avg)', 'Macro F1'):
    assert names.recognise(name).averaged
  for name in ('Validation Images', 'No. of validation samples', 'Val'):
    assert names.recognise(name).role == 'Validation'


@pytest.mark.parametrize(
  'name',
  [
    *('Dice loss', 'SE-ResNet50', 'Pre-trained', 'mIoU*_sd', '± Dice', 'Mean'),
    *('Dice ±', 'Dice_low', 'Test time', 'Top 2', 'Hausdorff', 'Depth', ''),
  ],
)
def test_names_of_other_things(name):
  assert names.recognise(name) is None


def test_iou_above_dice():
  finding = only("""
    Method  Dice  IoU
    fine    0.90  0.90
    touch   0.90  0.91
  """)
  assert (finding.name, finding.row) == ('touch', 1)
  assert finding.rule == 'iou_above_dice'
  assert finding.columns == ('IoU', 'Dice')
  assert finding.printed == ('0.91', '0.90')
  assert finding.difference == pytest.approx(0.01)
  assert finding.beyond == 0
  wide = only('Method mDice mIoU\nwide 93.0 96.4')
  assert wide.difference == pytest.approx(3.4)
  assert wide.beyond == pytest.approx(3.3)
  assert found('Method Dice IoU\ncoarse 0.9 0.945') == []  # 0.9 may be 0.949


def test_pooled_identity():
  """D 0.925 to 0.935 has D / (2 - D) 0.8605 to 0.8779."""
  assert found('M Dice* IoU*\na 0.93 0.88\nb 0.93 0.86\nc 0.93 0.87') == []
  high = only('M Dice* IoU*\na 0.93 0.89')
  assert high.rule == 'pooled_identity'
  assert high.difference == pytest.approx(0.89 - 0.93 / 1.07)
  assert high.beyond == pytest.approx(0.885 - 0.935 / 1.065)
  assert '0.8692' in high.reason
  low = only('M Dice* IoU*\na 0.93 0.85')
  assert low.beyond == pytest.approx(0.925 / 1.075 - 0.855)
  assert low.difference == pytest.approx(0.85 - 0.93 / 1.07)
  assert found('M Dice* IoU*\na 0.93 0.96') == [('a', 'iou_above_dice')]
  assert found('M Dice IoU\na 0.93 0.89') == []
  assert found('M Dice IoU\na 0.93 0.89', averaging='pooled')
  assert found('M Dice* IoU*\na 0.93 0.89', averaging='per_image') == []
  assert found('Fold Dice* IoU*\nMean 0.93 0.89') == []


@pytest.mark.parametrize('spread, n', [('0.01', 1), ('0.08', 0)])
def test_runs_that_differ_may_leave_the_pooled_identity(spread, n):
  """0.0071 is more than 2 x 0.015^2, and less than 2 x 0.085^2 = 0.0145."""
  text = f'M Dice* Dice*_sd IoU*\na 0.93 {spread} 0.89'
  assert len(found(text)) == n
  cells = {'M': ['a'], 'Dice*': [f'0.93 ± {spread}'], 'IoU*': ['0.89']}
  assert len(audit.findings(cells)) == n


def test_a_spread_is_rounded_too():
  """0.01 may be 0.015."""
  finding = only('M Dice* Dice*_sd IoU*\na 0.93 0.01 0.89')
  gap = 0.885 - 0.935 / 1.065
  assert finding.beyond == pytest.approx(gap - 2 * 0.015**2)


def test_mean_iou_has_a_least_value():
  """D 0.925 to 0.935: IoU is at least 0.8605."""
  assert found('M Dice IoU\na 0.93 0.86\nb 93 87.4') == []
  finding = only('M Dice IoU\na 0.93 0.85')
  assert finding.rule == 'iou_below_bound'
  assert finding.beyond == pytest.approx(0.925 / 1.075 - 0.855)
  assert found('M F1 IoU\na 0.93 0.85') == [('a', 'iou_below_bound')]


def test_columns_are_compared_within_their_kind():
  same = 'M BCE_mIoU BCE_mDice EXP_mIoU EXP_mDice\na 0.80 0.85 0.88 0.90'
  assert found(same) == []
  crossed = 'M BCE_mIoU BCE_mDice EXP_mIoU EXP_mDice\na 0.88 0.85 0.80 0.86'
  assert only(crossed).columns == ('BCE_mIoU', 'BCE_mDice')
  # A mean over lesion and skin may be above the Dice of lesions alone.
  assert found('M Dice mIoU\na 0.90 0.91') == []
  assert found(
    'M Dice mIoU\na 0.90 0.91', named={'Dice': 'Dice', 'IoU': 'mIoU'}
  )
  assert found('M over Jac\na 0.8 0.9', named={'DSC': 'over'})


def test_percents_and_shares_beside_each_other():
  assert found('M Dice IoU Acc\na 0.90 84% 95.1\nb 0.91 84% 96.0') == []
  assert found('M Dice IoU\na 0.90 0.82\nb 90.2 82.4\nc 91.1 84.0') == []
  assert found('M Dice* IoU*\na 0.90 0.82\nb 90.2 82.2\nc 91.1 83.7') == []
  assert found('M Dice IoU\na 0.90 91%\nb 0.91 84%') == [
    ('a', 'iou_above_dice')
  ]


def test_out_of_range():
  assert found('M Dice AUC\na 1.00 1.0\nb 0.9 0\nc 1 0.9') == []
  finding = only('M Dice AUC\na 0.93 1.02\nb 0.91 0.97\nc 0.9 0.9')
  assert (finding.name, finding.rule) == ('a', 'out_of_range')
  assert finding.difference == pytest.approx(0.02)
  assert finding.beyond == pytest.approx(0.015)
  finding = only('M Acc\na 93.1\nb 102.5\nc 91.0')
  assert finding.difference == pytest.approx(2.5)
  assert finding.beyond == pytest.approx(2.45)
  assert '0 and 100' in finding.reason
  assert found('M Acc\na 0.9\nb -0.2\nc 0.8') == [('b', 'out_of_range')]
  # What is out of range is told once.
  once = [('a', 'out_of_range')]
  assert found('M IoU Dice\na 1.2 0.9\nb 0.8 0.9\nc 0.8 0.9') == once


def test_f1_of_one_class():
  """P 0.8 and R 0.6 have F1 0.6857; rounding to 0.01 gives 0.680 to 0.691."""
  rows = 'Class Precision Recall F1\nmel 0.80 0.60 {}'
  for f1 in ('0.68', '0.69'):
    assert found(rows.format(f1)) == []
  for f1, beyond in [('0.67', 0.005612), ('0.70', 0.004184)]:
    finding = only(rows.format(f1))
    assert finding.rule == 'f1'
    assert finding.difference == pytest.approx(float(f1) - 24 / 35)
    assert finding.beyond == pytest.approx(beyond, abs=2e-6)
  assert found('M Pre Rec FS\na 0.80 0.60 0.67') == []
  assert found('M Pre Rec FS\na 0.80 0.60 0.67', one_class=True)
  assert found('Class Pre Rec FS\nmacro 0.80 0.60 0.50') == []
  # Means of folds: F1 may be below that of the means.
  spread = {
    'Class': ['mel'],
    'Pre': ['0.80 ± 0.2'],
    'Rec': ['0.60'],
    'FS': ['0.67'],
  }
  assert audit.findings(spread) == []


def test_f1_averaged_over_classes():
  """It is at most (P + R) / 2, and may lie below both."""
  assert found('M Precision Recall F1\na 88 86 84') == []
  assert found('M Precision Recall F1\na 0.75 0.80 0.78') == []
  finding = only('M Precision Recall F1\na 0.75 0.80 0.79')
  assert finding.difference == pytest.approx(0.015)
  assert finding.beyond == pytest.approx(0.785 - 0.78)


def test_balanced_accuracy():
  rows = 'Class BACC Sensitivity Specificity\nmel {} 0.80 0.95'
  for balanced, n in [('0.87', 0), ('0.88', 0), ('0.89', 1), ('0.80', 1)]:
    assert len(found(rows.format(balanced))) == n
  finding = only('M BACC Sensitivity Specificity\na 0.90 0.80 0.95')
  assert finding.rule == 'balanced_accuracy'
  assert finding.difference == pytest.approx(0.025)
  assert finding.beyond == pytest.approx(0.015)
  # Of several classes it may be their mean recall.
  assert found('M BACC Sensitivity Specificity\na 0.80 0.80 0.95') == []


def test_split_sum():
  head = 'Dataset Total Train Validation Test'
  assert found(f'{head}\na 2,594 1,815 259 520\nb 200 140 - 60') == []
  more = only(f'{head}\na 2000 1400 150 600')
  assert (more.rule, more.beyond) == ('split_sum', 150)
  assert '2,150' in more.reason and '2,000' in more.reason
  assert only(f'{head}\na 2000 1400 150 400').beyond == 50
  # What is not printed may be the rest.
  assert found('Dataset Total Train Test\na 2594 1815 520') == []
  assert found('Dataset Total Train Test\na 2594 2570 200')
  # Such headings alone may hold anything.
  assert found('M Train Test\na ISIC PH2') == []


CLASSES = """
  Model a    b    c    Mean
  x     0.50 0.60 0.70 0.60
  y     0.55 0.60 0.70 0.62
  z     0.50 0.60 0.70 {}
"""


def test_mean_of_classes():
  assert found(CLASSES.format('0.61')) == []  # 0.605 is both
  finding = only(CLASSES.format('0.63'))
  assert (finding.name, finding.rule) == ('z', 'class_mean')
  assert finding.columns == ('Mean',)
  assert finding.difference == pytest.approx(0.03)
  assert finding.beyond == pytest.approx(0.02)


def test_mean_of_what_is_not_printed():
  weighted = 'M a b Mean\nx 0.5 0.7 0.69\ny 0.4 0.8 0.77\nz 0.5 0.7 0.6'
  assert found(weighted) == []
  assert len(found(weighted.replace('Mean', 'Macro'))) == 2
  epochs = CLASSES.replace('Model', 'Model Epochs').format('0.63')
  for name in 'xyz':  # a number before the classes is none of them
    epochs = epochs.replace(f'{name} ', f'{name} 50 ')
  assert found(epochs) == [('z', 'class_mean')]


def test_mean_row():
  rows = 'Fold Dice IoU\n1 0.90 0.82\n2 0.92 0.86\n{}\nSD 0.014 0.028'
  assert found(rows.format('Mean 0.91 0.84')) == []
  finding = only(rows.format('Mean 0.91 0.87'))
  assert (finding.name, finding.rule) == ('Mean', 'class_mean')
  assert finding.columns == ('IoU',)
  assert finding.beyond == pytest.approx(0.865 - 0.845)


def test_mean_rows_of_data_sets():
  """Each is of the rows of its own data set, right above it."""
  rows = """
    Set  Fold Dice IoU
    PH2  1    0.90 0.82
    PH2  2    0.92 0.86
    ISIC 1    0.80 0.70
    ISIC 2    0.82 0.72
    ISIC mean 0.81 {}
    ISIC sd   0.01 0.01
    ISIC avg  0.81 0.71
  """
  assert found(rows.format('0.71')) == []
  assert found(rows.format('0.73')) == [('ISIC / mean', 'class_mean')]


def test_a_report_of_classes():
  """As scikit-learn writes it: each average is of the rows above."""
  report = """
    class         precision recall f1-score support
    mel           0.80      0.60   0.69     100
    nv            0.90      0.96   0.93     500
    accuracy      -         -      0.90     600
    macro_avg     0.85      0.78   {}       600
    weighted_avg  0.88      0.90   0.89     600
  """
  assert found(report.format('0.81')) == []
  assert found(report.format('0.85')) == [
    ('macro_avg', 'f1'),
    ('macro_avg', 'class_mean'),
  ]


def test_rows_of_deviations_are_no_scores():
  assert found('Fold Dice IoU\n1 0.90 0.82\nSt._Dev. 0.29 0.02') == []
  assert found('Fold Dice IoU\n1 0.90 0.82\nOther 0.29 0.02')
  assert found(CLASSES.format('0.6') + 'SD 0.02 0.01 0.01 0.20') == []


def test_scores_in_rows():
  """The columns are then the systems."""
  turned = 'Model A B\nDice 0.90 0.91\nIoU 0.92 0.84\nSize 5.5M 2M'
  finding = only(turned)
  assert (finding.name, finding.row) == ('A', 0)
  assert finding.columns == ('IoU', 'Dice')
  losses = 'Loss PH2 ISIC\nDice 0.80 0.80\nIoU 0.90 0.90'
  assert found(losses) == []
  assert found(losses.replace('Loss', 'Score')) != []


def test_findings_are_in_the_order_of_rows():
  told = found(
    'M IoU Dice BCE_IoU BCE_Dice\na 0.80 0.85 0.94 0.90\nb 0.94 0.90 0.80 0.85'
  )
  assert [name for name, _ in told] == ['a', 'b']


def test_a_table_in_memory_is_checked():
  with pytest.raises(ValueError, match=r"row 2, column 'Dice': 'good'"):
    audit.findings({'M': ['a', 'b'], 'Dice': ['0.9', 'good']})
  with pytest.raises(ValueError, match='differ in length'):
    audit.findings({'M': ['a', 'b'], 'Dice': ['0.9']})
  with pytest.raises(ValueError, match="no column 'Jac'.*M, Dice"):
    audit.findings({'M': ['a'], 'Dice': ['0.9']}, named={'IoU': 'Jac'})
  with pytest.raises(ValueError, match=r"'Size' is no score.*Dice, IoU"):
    audit.findings({'M': ['a'], 'Dice': ['0.9']}, named={'Size': 'M'})
  assert audit.findings({'M': ['a'], 'Dice': [None], 'IoU': ['0.9']}) == []


def scores_of(counts: np.ndarray) -> dict[str, float]:
  """Every score of images [N, 4] of TP, FP, FN, TN, as their definitions are."""

  def dice(tp, fp, fn, tn):
    return 2 * tp / (2 * tp + fp + fn)

  def iou(tp, fp, fn, tn):
    return tp / (tp + fp + fn)

  image, skin, pooled = counts.T, counts[:, ::-1].T, counts.sum(axis=0)
  tp, fp, fn, tn = pooled
  return {
    'Dice': dice(*image).mean(),
    'IoU': iou(*image).mean(),
    'Dice*': dice(*pooled),
    'IoU*': iou(*pooled),
    'mDice': (dice(*image).mean() + dice(*skin).mean()) / 2,
    'mIoU': (iou(*image).mean() + iou(*skin).mean()) / 2,
    'Precision': tp / (tp + fp),
    'Sensitivity': tp / (tp + fn),
    'Specificity': tn / (tn + fp),
    'F1': dice(*pooled),
    'Balanced accuracy': (tp / (tp + fn) + tn / (tn + fp)) / 2,
    'Accuracy': (tp + tn) / pooled.sum(),
  }


@pytest.mark.parametrize('percent', [False, True])
@pytest.mark.parametrize('digits', [1, 2, 4])
def test_true_tables_have_no_findings(percent, digits):
  """Scores of drawn counts, bad and good, however they are rounded."""
  draw = np.random.default_rng(digits)
  for _ in range(20):
    rows = [
      scores_of(draw.integers(1, 100 ** draw.integers(1, 3), (n, 4)))
      for n in draw.integers(1, 40, size=5)
    ]
    rows.append({name: np.mean([r[name] for r in rows]) for name in rows[0]})
    cells = {'Class': [*'abcde', 'macro avg']}
    for name in rows[0]:
      values = [row[name] * (100 if percent else 1) for row in rows]
      cells[name] = [f'{value:.{digits}f}' for value in values]
    assert audit.findings(cells) == []
    lines = [[name, *column] for name, column in cells.items()]
    turned = {head: rest for head, *rest in zip(*lines, strict=True)}
    assert audit.findings(turned) == []
