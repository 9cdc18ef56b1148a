"""Names of MobileNetV3 in other libraries.

Where Large and Small call a layer otherwise, both names are here, and the file
decides: they are in such an order that the first is in one network only.
"""

from jaxderm.pretrained.table import Table, Template

TORCHVISION = Table(
  'torchvision',
  {
    'conv': 'features.0.0',
    'conv_bn': 'features.0.1',
    'expanded_conv_depthwise': 'features.1.block.0.0',
    'expanded_conv_depthwise_bn': 'features.1.block.0.1',
    'expanded_conv_squeeze_excite_conv': 'features.1.block.1.fc1',
    'expanded_conv_squeeze_excite_conv_1': 'features.1.block.1.fc2',
    'expanded_conv_project': ('features.1.block.2.0', 'features.1.block.1.0'),
    'expanded_conv_project_bn': (
      'features.1.block.2.1',
      'features.1.block.1.1',
    ),
    'expanded_conv_{i}_expand': 'features.{i+1}.block.0.0',
    'expanded_conv_{i}_expand_bn': 'features.{i+1}.block.0.1',
    'expanded_conv_{i}_depthwise': 'features.{i+1}.block.1.0',
    'expanded_conv_{i}_depthwise_bn': 'features.{i+1}.block.1.1',
    'expanded_conv_{i}_squeeze_excite_conv': 'features.{i+1}.block.2.fc1',
    'expanded_conv_{i}_squeeze_excite_conv_1': 'features.{i+1}.block.2.fc2',
    # The place of the squeeze-and-excitation is not left empty.
    'expanded_conv_{i}_project': (
      'features.{i+1}.block.3.0',
      'features.{i+1}.block.2.0',
    ),
    'expanded_conv_{i}_project_bn': (
      'features.{i+1}.block.3.1',
      'features.{i+1}.block.2.1',
    ),
    'conv_1': ('features.16.0', 'features.12.0'),  # Large, Small
    'conv_1_bn': ('features.16.1', 'features.12.1'),
    'conv_2': 'classifier.0',
    'logits': 'classifier.3',
  },
  normalisation='torch',
  origin='torch',
)

# Stage and place in it, of our blocks from 1 on.
TIMM_BLOCKS = (
  ('1.0',),
  ('1.1',),
  ('2.0',),
  ('2.1',),
  ('2.2',),
  ('3.0',),
  ('3.1',),
  ('3.2', '4.0'),  # Large, Small
  ('3.3', '4.1'),
  ('4.2', '4.0'),  # Small, Large
  ('4.1',),
  ('5.0',),
  ('5.1',),
  ('5.2',),
)
TIMM_LAYERS = {
  'expand': 'conv_pw',
  'expand_bn': 'bn1',
  'depthwise': 'conv_dw',
  'depthwise_bn': 'bn2',
  'squeeze_excite_conv': 'se.conv_reduce',
  'squeeze_excite_conv_1': 'se.conv_expand',
  'project': 'conv_pwl',
  'project_bn': 'bn3',
}


def _timm(library: str, normalisation: str, origin: str) -> Table:
  layers: dict[str, Template] = {
    'conv': 'conv_stem',
    'conv_bn': 'bn1',
    'expanded_conv_depthwise': 'blocks.0.0.conv_dw',
    'expanded_conv_depthwise_bn': 'blocks.0.0.bn1',
    'expanded_conv_squeeze_excite_conv': 'blocks.0.0.se.conv_reduce',
    'expanded_conv_squeeze_excite_conv_1': 'blocks.0.0.se.conv_expand',
    'expanded_conv_project': 'blocks.0.0.conv_pw',
    'expanded_conv_project_bn': 'blocks.0.0.bn2',
    'conv_1': ('blocks.6.0.conv', 'blocks.5.0.conv'),  # Large, Small
    'conv_1_bn': ('blocks.6.0.bn1', 'blocks.5.0.bn1'),
    'conv_2': 'conv_head',
    'logits': 'classifier',
  }
  for block, places in enumerate(TIMM_BLOCKS, start=1):
    for ours, theirs in TIMM_LAYERS.items():
      if 'squeeze' in ours and block < 3:
        continue  # neither of them has it there
      layers[f'expanded_conv_{block}_{ours}'] = tuple(
        f'blocks.{place}.{theirs}' for place in places
      )
  return Table(library, layers, normalisation, origin)


TABLES = (
  Table('keras', {}, 'none', 'keras', style='keras', identical=True),
  TORCHVISION,
  # Weights tagged ra4 want a mean and deviation of 0.5 ('tf'), those tagged miil
  # only a division by 255 ('unit').
  _timm('timm', 'torch', 'timm'),
  # Its tf_mobilenetv3, as Keras', so that the scaling is inside ours. No file
  # tells them from the others by its names.
  _timm('timm_tf', 'none', 'keras'),
)
