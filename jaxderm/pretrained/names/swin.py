"""Names of Swin in torchvision."""

from jaxderm.pretrained.table import Table

_BLOCK = 'features.{2*i-1}.{j-1}'
TABLES = (
  Table(
    'torchvision',
    {
      'embedding': 'features.0.0',
      'embedding_norm': 'features.0.2',
      'stage{i}_block{j}/norm{k}': f'{_BLOCK}.norm{{k}}',
      'stage{i}_block{j}/attention/position_bias': (
        f'{_BLOCK}.attn.relative_position_bias_table'
      ),
      'stage{i}_block{j}/attention/qkv': f'{_BLOCK}.attn.qkv',
      'stage{i}_block{j}/attention/out': f'{_BLOCK}.attn.proj',
      'stage{i}_block{j}/mlp/dense1': f'{_BLOCK}.mlp.0',
      'stage{i}_block{j}/mlp/dense2': f'{_BLOCK}.mlp.3',
      'merge{i}': 'features.{2*i}.reduction',
      'merge{i}_norm': 'features.{2*i}.norm',
      'norm': 'norm',
      'predictions': 'head',
    },
    normalisation='torch',
    origin=None,
    ignored=('relative_position_index',),  # which follows from the window
  ),
)
