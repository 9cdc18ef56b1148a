"""Names of Inception-ResNet v2 in other libraries.

Keras numbers its layers in the order they are made; timm says where they are.
"""

from jaxderm.pretrained.table import Table

BLOCK35 = (
  'branch0',
  'branch1.0',
  'branch1.1',
  *(f'branch2.{i}' for i in range(3)),
)
BLOCK17 = BLOCK8 = ('branch0', *(f'branch1.{i}' for i in range(3)))

# timm's in the order of Keras' numbers.
NUMBERED = (
  'conv2d_1a',
  'conv2d_2a',
  'conv2d_2b',
  'conv2d_3b',
  'conv2d_4a',
  *(f'mixed_5b.{layer}' for layer in (*BLOCK35, 'branch3.1')),
  *(f'repeat.{i}.{layer}' for i in range(10) for layer in BLOCK35),
  *(f'mixed_6a.{layer}' for layer in BLOCK17),
  *(f'repeat_1.{i}.{layer}' for i in range(20) for layer in BLOCK17),
  *(f'mixed_7a.branch{i}.{j}' for i in (0, 1) for j in (0, 1)),
  *(f'mixed_7a.branch2.{j}' for j in range(3)),
  *(f'repeat_2.{i}.{layer}' for i in range(9) for layer in BLOCK8),
  *(f'block8.{layer}' for layer in BLOCK8),
)


def _numbered(ours: str, theirs: str) -> dict[str, str]:
  return {
    f'{ours}_{i}' if i else ours: f'{name}.{theirs}'
    for i, name in enumerate(NUMBERED)
  }


TABLES = (
  Table('keras', {}, 'tf', 'keras', style='keras', identical=True),
  Table(
    'timm',
    {
      **_numbered('conv2d', 'conv'),
      **_numbered('batch_normalization', 'bn'),
      'block35_{i}_conv': 'repeat.{i-1}.conv2d',
      'block17_{i}_conv': 'repeat_1.{i-1}.conv2d',
      'block8_10_conv': 'block8.conv2d',
      'block8_{i}_conv': 'repeat_2.{i-1}.conv2d',
      'conv_7b': 'conv2d_7b.conv',
      'conv_7b_bn': 'conv2d_7b.bn',
      'predictions': 'classif',
    },
    normalisation='tf',
    origin='torch',
  ),
)
