"""The tables of wei2020 (paper 001)."""

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

# Of melanoma against the rest.
_CLASSES = {
  'AC': 'scores.accuracy',
  'AP': 'per_class.malignant.average_precision',
  'AUC': 'per_class.malignant.auc',
}
_PART3 = {'isic2016_part3': 'isic2016_pairs.py'}
_DC = {'DC-MobileNetV1': 'DCMobileNetV1', 'DC-DenseNet121': 'DCDenseNet121'}
_DISCRIMINANT = tuple(Row(printed, system) for printed, system in _DC.items())
# The paper split what it had repeated.
_LEAKY = {'paper': 'wei2020_leaky'}
# Images as they are, each as often as the others.
_ORIGINALS = {'data.augment': {}, 'data.repeats': {}}
_FOCAL_CLASSES = {
  'loss': {'name': 'focal_cross_entropy', 'alpha': (0.75, 0.25), 'gamma': 0.75}
}

PLANS = {
  '3': Plan(
    'Light networks',
    _PART3,
    (
      Row('SqueezeNet[54]', 'SqueezeNet'),
      Row('ShuffleNet[55]', 'ShuffleNet'),
      Row('ResNet18[29]', 'ResNet18'),
      Row('MobileNetV1[46]', 'MobileNetV1'),
      Row('DenseNet-121[47]', 'DenseNet121'),
    ),
    _CLASSES,
    sizes='Parameters',
    splits=_LEAKY,
  ),
  # Both on images that were split first: originals have no copies to leak.
  '4': Plan(
    'With and without augmentation',
    _PART3,
    tuple(
      Row(printed + with_, system, changes)
      for printed, system in (
        ('MobileNetV1[46]', 'MobileNetV1'),
        ('DenseNet-121[47]', 'DenseNet121'),
      )
      for with_, changes in (('', _ORIGINALS), (' (with data-aug)', {}))
    ),
    _CLASSES,
  ),
  '5': Plan(
    'With and without the discriminator',
    _PART3,
    (
      Row('MobileNetV1[46]', 'MobileNetV1'),
      Row('DenseNet-121[47]', 'DenseNet121'),
      *_DISCRIMINANT,
    ),
    _CLASSES,
    sizes='Parameters',
    splits=_LEAKY,
  ),
  '6': Plan(
    'Losses of the discriminant networks',
    _PART3,
    tuple(
      Row(f'{loss} / {printed}', system, changes)
      for loss, changes in (
        ('Focal Loss', _FOCAL_CLASSES),
        ('Cross Entropy Loss', {}),
      )
      for printed, system in _DC.items()
    ),
    _CLASSES,
    splits=_LEAKY,
  ),
  '7': Plan(
    'Beside other publications',
    _PART3,
    (*_DISCRIMINANT, Row('Fusion (our)', members=tuple(_DC.values()))),
    _CLASSES,
    splits=_LEAKY,
  ),
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
