"""Names of MobileNetV1 in other libraries."""

from jaxderm.pretrained.table import Table

# In order of execution; conv_dw_1 is 1, conv_pw_1 is 2.
TFLITE = Table(
  'tflite',
  {
    'conv1': '00_conv_2d',
    'conv1_bn': '00_conv_2d',
    'conv_dw_{i}': '{2*i-1:02}_depthwise_conv_2d',
    'conv_dw_{i}_bn': '{2*i-1:02}_depthwise_conv_2d',
    'conv_pw_{i}': '{2*i:02}_conv_2d',
    'conv_pw_{i}_bn': '{2*i:02}_conv_2d',
    'conv_preds': '27_conv_2d',
  },
  normalisation='tf',
  origin='keras',
  folded=1e-3,
)


def _timm(*repeats: int) -> Table:
  """For the numbers of blocks in its stages."""
  layers = {
    'conv1': 'conv_stem',
    'conv1_bn': 'bn1',
    'conv_preds': 'classifier',
  }
  places = [(i, j) for i, n in enumerate(repeats) for j in range(n)]
  for block, (i, j) in enumerate(places, start=1):
    layers |= {
      f'conv_dw_{block}': f'blocks.{i}.{j}.conv_dw',
      f'conv_dw_{block}_bn': f'blocks.{i}.{j}.bn1',
      f'conv_pw_{block}': f'blocks.{i}.{j}.conv_pw',
      f'conv_pw_{block}_bn': f'blocks.{i}.{j}.bn2',
    }
  return Table('timm', layers, normalisation='tf', origin='torch')


TABLES = (
  Table('keras', {}, 'tf', 'keras', style='keras', identical=True),
  _timm(1, 2, 2, 6, 2),
  TFLITE,
)
