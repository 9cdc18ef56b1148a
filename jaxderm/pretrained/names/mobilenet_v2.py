"""Names of MobileNetV2 in other libraries."""

from jaxderm.pretrained.table import Table

TORCHVISION = Table(
  'torchvision',
  {
    'Conv1': 'features.0.0',
    'bn_Conv1': 'features.0.1',
    'expanded_conv_depthwise': 'features.1.conv.0.0',
    'expanded_conv_depthwise_BN': 'features.1.conv.0.1',
    'expanded_conv_project': 'features.1.conv.1',
    'expanded_conv_project_BN': 'features.1.conv.2',
    'block_{i}_expand': 'features.{i+1}.conv.0.0',
    'block_{i}_expand_BN': 'features.{i+1}.conv.0.1',
    'block_{i}_depthwise': 'features.{i+1}.conv.1.0',
    'block_{i}_depthwise_BN': 'features.{i+1}.conv.1.1',
    'block_{i}_project': 'features.{i+1}.conv.2',
    'block_{i}_project_BN': 'features.{i+1}.conv.3',
    'Conv_1': 'features.18.0',
    'Conv_1_bn': 'features.18.1',
    'predictions': 'classifier.1',
  },
  normalisation='torch',
  origin='torch',
)

# In order of execution; block_1_expand is 3.
TFLITE = Table(
  'tflite',
  {
    'Conv1': '00_conv_2d',
    'bn_Conv1': '00_conv_2d',
    'expanded_conv_depthwise': '01_depthwise_conv_2d',
    'expanded_conv_depthwise_BN': '01_depthwise_conv_2d',
    'expanded_conv_project': '02_conv_2d',
    'expanded_conv_project_BN': '02_conv_2d',
    'block_{i}_expand': '{3*i:02}_conv_2d',
    'block_{i}_expand_BN': '{3*i:02}_conv_2d',
    'block_{i}_depthwise': '{3*i+1:02}_depthwise_conv_2d',
    'block_{i}_depthwise_BN': '{3*i+1:02}_depthwise_conv_2d',
    'block_{i}_project': '{3*i+2:02}_conv_2d',
    'block_{i}_project_BN': '{3*i+2:02}_conv_2d',
    'Conv_1': '51_conv_2d',
    'Conv_1_bn': '51_conv_2d',
    'predictions': '52_conv_2d',
  },
  normalisation='tf',
  origin='keras',
  folded=1e-3,
)


def _timm(*repeats: int) -> Table:
  """For the numbers of blocks in its stages after the first."""
  layers = {
    'Conv1': 'conv_stem',
    'bn_Conv1': 'bn1',
    'expanded_conv_depthwise': 'blocks.0.0.conv_dw',
    'expanded_conv_depthwise_BN': 'blocks.0.0.bn1',
    'expanded_conv_project': 'blocks.0.0.conv_pw',
    'expanded_conv_project_BN': 'blocks.0.0.bn2',
    'Conv_1': 'conv_head',
    'Conv_1_bn': 'bn2',
    'predictions': 'classifier',
  }
  places = [(i, j) for i, n in enumerate(repeats, start=1) for j in range(n)]
  for block, (i, j) in enumerate(places, start=1):
    layers |= {
      f'block_{block}_expand': f'blocks.{i}.{j}.conv_pw',
      f'block_{block}_expand_BN': f'blocks.{i}.{j}.bn1',
      f'block_{block}_depthwise': f'blocks.{i}.{j}.conv_dw',
      f'block_{block}_depthwise_BN': f'blocks.{i}.{j}.bn2',
      f'block_{block}_project': f'blocks.{i}.{j}.conv_pwl',
      f'block_{block}_project_BN': f'blocks.{i}.{j}.bn3',
    }
  return Table('timm', layers, normalisation='torch', origin='torch')


TABLES = (
  Table('keras', {}, 'tf', 'keras', style='keras', identical=True),
  TORCHVISION,
  _timm(2, 3, 4, 3, 3, 1),
  TFLITE,
)
