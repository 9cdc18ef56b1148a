"""Names of R50-ViT in Google's files, such as R50+ViT-B_16.npz."""

import math

import numpy as np

from jaxderm.models.attention import interpolate
from jaxderm.pretrained.table import Table

_BLOCK = 'Transformer/encoderblock_{i}'
_ATTENTION = f'{_BLOCK}/MultiHeadDotProductAttention_1'


def _other_grid(value: np.ndarray, shape: tuple[int, ...]) -> np.ndarray | None:
  """Positions [1, tokens, C] of a file for another grid, [pixels, C].

  A first token that has no place in the grid is the class's, and left out. What
  lies between others is interpolated, as the reference does it.

  Returns:
    None if the tokens are not those of a square.
  """
  if value.ndim != 3 or value.shape[::2] != (1, shape[1]):
    return None
  (tokens,) = value
  side, wanted = math.isqrt(len(tokens)), math.isqrt(shape[0])
  extra = len(tokens) - side**2
  if extra > 1:
    return None
  grid = tokens[extra:].reshape(side, side, -1)
  return np.asarray(interpolate(grid, (wanted, wanted))).reshape(shape)


TABLES = (
  Table(
    'google',
    {
      'block{i}_unit{j}_conv{k}': 'block{i}/unit{j}/conv{k}',
      'block{i}_unit{j}_gn{k}': 'block{i}/unit{j}/gn{k}',
      'block{i}_unit{j}_conv_proj': 'block{i}/unit{j}/conv_proj',
      'block{i}_unit{j}_gn_proj': 'block{i}/unit{j}/gn_proj',
      'position/embedding': 'Transformer/posembed_input/pos_embedding',
      'encoderblock_{i}/norm1': f'{_BLOCK}/LayerNorm_0',
      'encoderblock_{i}/norm2': f'{_BLOCK}/LayerNorm_2',
      'encoderblock_{i}/attention/query': f'{_ATTENTION}/query',
      'encoderblock_{i}/attention/key': f'{_ATTENTION}/key',
      'encoderblock_{i}/attention/value': f'{_ATTENTION}/value',
      'encoderblock_{i}/attention/out': f'{_ATTENTION}/out',
      'encoderblock_{i}/mlp/dense1': f'{_BLOCK}/MlpBlock_3/Dense_0',
      'encoderblock_{i}/mlp/dense2': f'{_BLOCK}/MlpBlock_3/Dense_1',
      'encoder_norm': 'Transformer/encoder_norm',
    },
    normalisation='tf',
    origin=None,
    # A matrix of ours is theirs, also where theirs has an axis for the heads.
    style='keras',
    identical=True,
    # The class's token and what is made of it, for which we have no layer.
    ignored=(
      'cls',
      'head/kernel',
      'head/bias',
      'pre_logits/kernel',
      'pre_logits/bias',
    ),
    adapters={'position/embedding': _other_grid},
  ),
)
