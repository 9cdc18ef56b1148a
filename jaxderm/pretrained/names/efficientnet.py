"""Names of EfficientNet in other libraries."""

import numpy as np

from jaxderm.models.encoders.efficientnet import IMAGENET_MEAN, IMAGENET_STD
from jaxderm.pretrained.table import Table, Tensors

_VARIANCE = 'normalization/variance'


def square_deviation(tensors: Tensors) -> Tensors:
  """Makes a variance of the deviation that Keras' ImageNet files have there.

  Where Keras builds the network for these files it divides by the root of the
  deviation a second time (github.com/tensorflow/tensorflow/issues/49930). Files
  of networks that began from random weights have what they say.
  """
  value = tensors.get(_VARIANCE)
  if value is None or value.size != 3:
    return tensors
  if not np.allclose(value.reshape(3), IMAGENET_STD, rtol=0, atol=1e-3):
    return tensors
  return {**tensors, _VARIANCE: np.square(value)}


_TIMM = {
  'stem_conv': 'conv_stem',
  'stem_bn': 'bn1',
  'block1{j:a}_dwconv': 'blocks.0.{j}.conv_dw',
  'block1{j:a}_bn': 'blocks.0.{j}.bn1',
  'block1{j:a}_project_conv': 'blocks.0.{j}.conv_pw',
  'block1{j:a}_project_bn': 'blocks.0.{j}.bn2',
  'block{i}{j:a}_expand_conv': 'blocks.{i-1}.{j}.conv_pw',
  'block{i}{j:a}_expand_bn': 'blocks.{i-1}.{j}.bn1',
  'block{i}{j:a}_dwconv': 'blocks.{i-1}.{j}.conv_dw',
  'block{i}{j:a}_bn': 'blocks.{i-1}.{j}.bn2',
  'block{i}{j:a}_se_reduce': 'blocks.{i-1}.{j}.se.conv_reduce',
  'block{i}{j:a}_se_expand': 'blocks.{i-1}.{j}.se.conv_expand',
  'block{i}{j:a}_project_conv': 'blocks.{i-1}.{j}.conv_pwl',
  'block{i}{j:a}_project_bn': 'blocks.{i-1}.{j}.bn3',
  'top_conv': 'conv_head',
  'top_bn': 'bn2',
  'predictions': 'classifier',
}

TABLES = (
  Table(
    'keras',
    {},
    normalisation='none',
    origin='keras',
    style='keras',
    identical=True,
    repair=square_deviation,
  ),
  Table(
    'torchvision',
    {
      'stem_conv': 'features.0.0',
      'stem_bn': 'features.0.1',
      'block1{j:a}_dwconv': 'features.1.{j}.block.0.0',
      'block1{j:a}_bn': 'features.1.{j}.block.0.1',
      'block1{j:a}_se_reduce': 'features.1.{j}.block.1.fc1',
      'block1{j:a}_se_expand': 'features.1.{j}.block.1.fc2',
      'block1{j:a}_project_conv': 'features.1.{j}.block.2.0',
      'block1{j:a}_project_bn': 'features.1.{j}.block.2.1',
      'block{i}{j:a}_expand_conv': 'features.{i}.{j}.block.0.0',
      'block{i}{j:a}_expand_bn': 'features.{i}.{j}.block.0.1',
      'block{i}{j:a}_dwconv': 'features.{i}.{j}.block.1.0',
      'block{i}{j:a}_bn': 'features.{i}.{j}.block.1.1',
      'block{i}{j:a}_se_reduce': 'features.{i}.{j}.block.2.fc1',
      'block{i}{j:a}_se_expand': 'features.{i}.{j}.block.2.fc2',
      'block{i}{j:a}_project_conv': 'features.{i}.{j}.block.3.0',
      'block{i}{j:a}_project_bn': 'features.{i}.{j}.block.3.1',
      'top_conv': 'features.8.0',
      'top_bn': 'features.8.1',
      'predictions': 'classifier.1',
    },
    normalisation='torch',
    origin='torch',
  ),
  # Its efficientnet_b0 and so on. Weights tagged ra4 want a mean and deviation
  # of 0.5, which is 'tf'.
  Table('timm', _TIMM, normalisation='torch', origin='timm'),
  # Its tf_efficientnet_b0 and so on, which Google trained: no file tells them
  # from the others by its names. The normaliser is ours. Weights tagged ap
  # (AdvProp) want a mean of 0.5 and a variance of 0.25 in it.
  Table(
    'timm_tf',
    _TIMM,
    normalisation='none',
    origin='keras',
    constants={
      'normalization/mean': IMAGENET_MEAN,
      'normalization/variance': tuple(std**2 for std in IMAGENET_STD),
      'normalization/count': 0.0,
    },
  ),
)
