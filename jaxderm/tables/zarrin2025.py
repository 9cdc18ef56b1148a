"""The tables of zarrin2025 (paper 003)."""

from jaxderm.tables.plan import Changes, Plan, Row

_ZARRIN_DATA = {
  'isic2018_task1': 'isic2018_rfe.py',
  'isic2017_part1': 'isic2017_rfe.py',
  'ph2': 'ph2_rfe.py',
}
_SECTION = {
  'isic2018_task1': 'ISIC2018',
  'isic2017_part1': 'ISIC2017',
  'ph2': 'PH2',
}
_OURS = 'ResNet101RFE'


def _loss(name: str) -> Changes:
  return {'loss': {'name': name}}


_BCE, _DICE, _EXP = _loss('bce'), _loss('soft_dice'), _loss('exponential')
_ADAPT = _loss('adapt_exp')
_BOTH = {
  'mIoU': 'per_image.jaccard',
  'mDice': 'per_image.dice',
  'mIoU*': 'pooled.jaccard',
  'mDice*': 'pooled.dice',
}
_MEANS = {'IoU': 'per_image.jaccard', 'Dice': 'per_image.dice'}


def _beside_others(data: str) -> Plan:
  """Tables 4 to 6; the other lines are quoted from another paper (SPEC 4.3)."""
  rows = (
    Row('TransUnet', 'TransUNet', _BCE),
    Row('SwinNet', 'SwinUNet', _BCE),
    Row('UNet', 'UNet', _BCE),
    Row('AttUNet', 'AttentionUNet', _BCE),
    Row('ExpUNET', _OURS, _EXP),
    Row('Our Method', _OURS, _ADAPT),
  )
  return Plan(
    f'Beside other publications, {data}',
    {data: _ZARRIN_DATA[data]},
    rows,
    _BOTH,
    scale=100,
  )


def _by_loss(printed: str, system: str) -> tuple[Row, ...]:
  """The four results of a line of table 7."""
  losses = {
    'BCE': _BCE,
    'DiceLoss': _DICE,
    'FocalLoss': _loss('focal'),
    'AdaEXP': _ADAPT,
  }
  return tuple(
    Row(printed, system, loss, {k: f'{name}_{k}' for k in ('mIoU', 'mDice')})
    for name, loss in losses.items()
  )


PLANS = {
  '4': _beside_others('isic2018_task1'),
  '5': _beside_others('isic2017_part1'),
  '6': _beside_others('ph2'),
  '7': Plan(
    'Networks and losses',
    _ZARRIN_DATA,
    (
      *_by_loss('Trans unet', 'TransUNet'),
      *_by_loss('Unet', 'UNet'),
      *_by_loss('Attunet', 'AttentionUNet'),
      *_by_loss('Swinnet', 'SwinUNet'),
      *_by_loss('Ours(resnet34)', 'ResNet34RFE'),
      *_by_loss('Ours(resnet50)', 'ResNet50RFE'),
      *_by_loss('Ours(resnet101)', _OURS),
    ),
    {k: _BOTH[k] for k in ('mIoU', 'mDice')},
    scale=100,
    section=_SECTION,
  ),
  '8': Plan(
    'Losses of ResNet101-RFE',
    _ZARRIN_DATA,
    (
      Row('BCE', _OURS, _BCE),
      Row('DICE', _OURS, _DICE),
      Row('FOCAL', _OURS, _loss('focal')),
      Row('EXP', _OURS, _EXP),
      Row('Ours', _OURS, _ADAPT),
    ),
    _MEANS,
    scale=100,
    section=_SECTION,
  ),
  '9': Plan(
    'Ablation of ResNet101-RFE',
    _ZARRIN_DATA,
    (
      Row('Base Line (BCE)', 'ResNet101', _BCE),
      Row('Base Line (BCE) + RFE', _OURS, _BCE),
      Row('Base Line + RFE + Exp Loss', _OURS, _EXP),
      Row('Base Line + RFE + Adapt Exp Loss', _OURS, _ADAPT),
    ),
    _MEANS,
    scale=100,
    section=_SECTION,
  ),
  '10': Plan(
    'Gaussian noise of 0.1 added to the test images',
    _ZARRIN_DATA,
    tuple(
      Row(f'Ours(resnet{n})', f'ResNet{n}RFE', {'evaluate.noise': 0.1})
      for n in (34, 50, 101)
    ),
    {k: _BOTH[k] for k in ('mIoU', 'mDice')},
    scale=100,
    section={
      **_SECTION,
      'isic2018_task1': 'ISIC 2018',
      'isic2017_part1': 'ISIC 2017',
    },
  ),
  '11': Plan(
    'Five folds of PH2',
    {'ph2': 'ph2_rfe.py'},
    tuple(Row(str(i + 1), _OURS, {'fold': i}) for i in range(5)),
    {'mIoU (%)': 'per_image.jaccard', 'mDice (%)': 'per_image.dice'},
    scale=100,
    one_seed=True,
  ),
}
