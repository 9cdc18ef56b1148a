"""Names of VGG16 in other libraries."""

from jaxderm.pretrained.table import Table

# torchvision and timm number convolutions, ReLUs and maxima in one sequence.
CONVOLUTIONS = {
  'block1_conv{j}': 'features.{2*j-2}',
  'block2_conv{j}': 'features.{2*j+3}',
  'block3_conv{j}': 'features.{2*j+8}',
  'block4_conv{j}': 'features.{2*j+15}',
  'block5_conv{j}': 'features.{2*j+22}',
}
NORMALISED = {
  'block1_conv{j}': 'features.{3*j-3}',
  'block1_bn{j}': 'features.{3*j-2}',
  'block2_conv{j}': 'features.{3*j+4}',
  'block2_bn{j}': 'features.{3*j+5}',
  'block3_conv{j}': 'features.{3*j+11}',
  'block3_bn{j}': 'features.{3*j+12}',
  'block4_conv{j}': 'features.{3*j+21}',
  'block4_bn{j}': 'features.{3*j+22}',
  'block5_conv{j}': 'features.{3*j+31}',
  'block5_bn{j}': 'features.{3*j+32}',
}
CLASSIFIERS = {
  'torchvision': {
    'fc1': 'classifier.0',
    'fc2': 'classifier.3',
    'predictions': 'classifier.6',
  },
  'timm': {
    'fc1': 'pre_logits.fc1',
    'fc2': 'pre_logits.fc2',
    'predictions': 'head.fc',
  },
}


def _torch(layers: dict[str, str]) -> tuple[Table, ...]:
  return tuple(
    Table(library, layers | top, normalisation='torch', origin='torch')
    for library, top in CLASSIFIERS.items()
  )


TABLES = (
  Table('keras', {}, 'caffe', 'keras', style='keras', identical=True),
  *_torch(CONVOLUTIONS),
)
BN_TABLES = _torch(NORMALISED)
