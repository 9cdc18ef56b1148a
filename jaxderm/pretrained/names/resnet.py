"""Names of ResNet and ResNeXt in other libraries."""

from jaxderm.pretrained.table import Table

# timm calls them as torchvision does.
TABLES = (
  Table('keras', {}, 'caffe', 'keras', style='keras', identical=True),
  Table(
    'torchvision',
    {
      'conv1_conv': 'conv1',
      'conv1_bn': 'bn1',
      'conv{i}_block{j}_0_conv': 'layer{i-1}.{j-1}.downsample.0',
      'conv{i}_block{j}_0_bn': 'layer{i-1}.{j-1}.downsample.1',
      'conv{i}_block{j}_{k}_conv': 'layer{i-1}.{j-1}.conv{k}',
      'conv{i}_block{j}_{k}_bn': 'layer{i-1}.{j-1}.bn{k}',
      'predictions': 'fc',
    },
    normalisation='torch',
    origin='torch',
  ),
)
