"""Names of SqueezeNet in other libraries."""

from jaxderm.pretrained.table import Table

PARTS = {
  'squeeze1x1': 'squeeze',
  'expand1x1': 'expand1x1',
  'expand3x3': 'expand3x3',
}


def _torchvision(*fires: int) -> Table:
  """For the places of fire2 to fire9 in a sequence of layers and pools."""
  layers = {
    f'fire{i}_{ours}': f'features.{place}.{theirs}'
    for i, place in enumerate(fires, start=2)
    for ours, theirs in PARTS.items()
  }
  ends = {'conv1': 'features.0', 'conv10': 'classifier.1'}
  return Table('torchvision', layers | ends, normalisation='torch', origin=None)


# The authors' weights, exported from Caffe.
CAFFE = Table(
  'caffe',
  {
    f'fire{{i}}_{ours}': f'fire{{i}}.{theirs}' for ours, theirs in PARTS.items()
  },
  normalisation='caffe_104',
  origin=None,
  identical=True,
)
TABLES_10 = (_torchvision(3, 4, 5, 7, 8, 9, 10, 12), CAFFE)
TABLES_11 = (_torchvision(3, 4, 6, 7, 9, 10, 11, 12), CAFFE)
