"""Names of Xception in other libraries."""

from jaxderm.pretrained.table import Table

# timm's blocks are Keras' less one. Each is a list of ReLU, separable
# convolution, BatchNorm, ReLU, and so on; the first block has no first ReLU.
_SHORTCUTS = {'': 1, '_1': 2, '_2': 3, '_3': 12}

TABLES = (
  Table('keras', {}, 'tf', 'keras', style='keras', identical=True),
  Table(
    'timm',  # legacy_xception
    {
      'block1_conv{i}': 'conv{i}',
      'block1_conv{i}_bn': 'bn{i}',
      **{f'conv2d{k}': f'block{i}.skip' for k, i in _SHORTCUTS.items()},
      **{
        f'batch_normalization{k}': f'block{i}.skipbn'
        for k, i in _SHORTCUTS.items()
      },
      'block2_sepconv{j}/depthwise_kernel': 'block1.rep.{3*j-3}.conv1.weight',
      'block2_sepconv{j}/pointwise_kernel': (
        'block1.rep.{3*j-3}.pointwise.weight'
      ),
      'block2_sepconv{j}_bn': 'block1.rep.{3*j-2}',
      'block14_sepconv{j}/depthwise_kernel': 'conv{j+2}.conv1.weight',
      'block14_sepconv{j}/pointwise_kernel': 'conv{j+2}.pointwise.weight',
      'block14_sepconv{j}_bn': 'bn{j+2}',
      'block{i}_sepconv{j}/depthwise_kernel': (
        'block{i-1}.rep.{3*j-2}.conv1.weight'
      ),
      'block{i}_sepconv{j}/pointwise_kernel': (
        'block{i-1}.rep.{3*j-2}.pointwise.weight'
      ),
      'block{i}_sepconv{j}_bn': 'block{i-1}.rep.{3*j-1}',
      'predictions': 'fc',
    },
    normalisation='tf',
    origin='torch',
  ),
)
