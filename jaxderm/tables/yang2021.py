"""The tables of yang2021 (paper 000)."""

from jaxderm.tables.plan import Plan, Row

_YANG = {
  'Dice': 'per_image.dice',
  'Accuracy': 'per_image.accuracy',
  'IoU': 'per_image.jaccard',
}
_YANG_SYSTEMS = (
  Row('HRNeT', 'HRNet'),
  Row('SegNet', 'SegNet'),
  Row('U-Net', 'UNet'),
  Row('UNet++', 'UNetPlusPlus'),
  Row('XceptionUNet++', 'XceptionUNetPlusPlus'),
  Row('EfficientUNet++', 'EfficientUNetPlusPlus'),
)
_PH2, _ISIC2018 = (
  {'ph2': 'ph2_unetpp.py'},
  {'isic2018_task1': 'isic2018_unetpp.py'},
)


def _activation(printed: str, name: str) -> Row:
  changes = {'model.changes.activation': name, 'optim.learning_rate': 1e-3}
  return Row(printed, 'EfficientUNetPlusPlus', changes)


PLANS = {
  '2': Plan(
    'Ablation of the decoder of EfficientNet-B1',
    _PH2,
    (
      Row('EfficientNet + U-Net', 'EfficientNetUNet'),
      Row('EfficientNet + inception', 'EfficientNetInception'),
      Row('EfficientNet + xception', 'EfficientNetXception'),
      Row('EfficientNet + UNet++', 'EfficientUNetPlusPlus'),
    ),
    _YANG,
  ),
  '3': Plan(
    'Activations of the decoder of EfficientUNet++',
    _PH2,
    (
      _activation('Mish', 'mish'),
      _activation('Swish', 'swish'),
      _activation('GeLU', 'gelu'),
      _activation('PReLU', 'prelu'),
      _activation('ReLU', 'relu'),
    ),
    {'Accuracy': 'per_image.accuracy'},
  ),
  '4': Plan('Systems on PH2', _PH2, _YANG_SYSTEMS, _YANG),
  '5': Plan('Systems on ISIC 2018', _ISIC2018, _YANG_SYSTEMS, _YANG),
  '6': Plan('Parameters', _PH2, _YANG_SYSTEMS, {}, sizes='Trainable parameter'),
}
