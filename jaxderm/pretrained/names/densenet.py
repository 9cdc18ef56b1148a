"""Names of DenseNet in other libraries."""

from jaxderm.pretrained.table import Table

LAYER = 'features.denseblock{i-1}.denselayer{j}.'

TABLES = (
  Table('keras', {}, 'torch', 'keras', style='keras', identical=True),
  # timm calls them as torchvision does. The files that torchvision downloads
  # have a dot before the number in a layer's names.
  Table(
    'torchvision',
    {
      'conv1_conv': 'features.conv0',
      'conv1_bn': 'features.norm0',
      'conv{i}_block{j}_0_bn': (f'{LAYER}norm1', f'{LAYER}norm.1'),
      'conv{i}_block{j}_1_bn': (f'{LAYER}norm2', f'{LAYER}norm.2'),
      'conv{i}_block{j}_{k}_conv': (
        f'{LAYER}conv{{k}}',
        f'{LAYER}conv.{{k}}',
      ),
      'pool{i}_bn': 'features.transition{i-1}.norm',
      'pool{i}_conv': 'features.transition{i-1}.conv',
      'bn': 'features.norm5',
      'predictions': 'classifier',
    },
    normalisation='torch',
    origin='torch',
  ),
)
