"""The tables of wei2020 (paper 001) that segment."""

from jaxderm.tables.plan import Plan, Row

_WEI = {
  'AC': 'per_image.accuracy',
  'DC': 'per_image.dice',
  'JA': 'per_image.jaccard',
  'SE': 'per_image.sensitivity',
  'SP': 'per_image.specificity',
}
_ISIC2016 = {'isic2016_part1': 'isic2016_unet.py'}
_FUSED = Row('Fusion(our)', members=('UDenseNet121', 'UMobileNetV1'))
_LIGHT = {'U-MobileNetV1': 'UMobileNetV1', 'U-DenseNet121': 'UDenseNet121'}
_PLAIN = {'data.augment': {}}
_FOCAL = {'loss': {'name': 'focal'}}

PLANS = {
  '8': Plan(
    'Encoders of the U-Net',
    _ISIC2016,
    (
      Row('U-NET[49]', 'UNet'),
      Row('U-ResNeXt50', 'UResNeXt50'),
      Row('U-VGG16', 'UVGG16'),
      Row('U-DenseNet12', 'UDenseNet121'),
      Row('U-MobileNet V1', 'UMobileNetV1'),
      _FUSED,
    ),
    _WEI,
  ),
  '9': Plan(
    'With and without augmentation',
    _ISIC2016,
    tuple(
      Row(printed + with_, system, changes)
      for printed, system in _LIGHT.items()
      for with_, changes in (('', _PLAIN), (' (with data-aug)', {}))
    ),
    _WEI,
  ),
  '10': Plan(
    'Losses',
    _ISIC2016,
    tuple(
      Row(f'{loss} / {printed}', system, changes)
      for loss, changes in (('Focal Loss', _FOCAL), ('BCE Dice Loss', {}))
      for printed, system in _LIGHT.items()
    ),
    _WEI,
  ),
  '11': Plan(
    'Beside other publications',
    _ISIC2016,
    (
      Row('U-DenseNet121', 'UDenseNet121'),
      Row('U-MobileNetV1', 'UMobileNetV1'),
      _FUSED,
    ),
    _WEI,
  ),
}
