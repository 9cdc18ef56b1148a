"""MobileNets: normalisation, number types, and real weights on photographs."""

import cv2
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import quick_jit
from conftest import real_data

from jaxderm import pretrained
from jaxderm.data import colour
from jaxderm.models import encoders

NAMES = ('MobileNetV1', 'MobileNetV2', 'MobileNetV3Small', 'MobileNetV3Large')
FILES = {
  'MobileNetV1': 'mobilenet_v1_1.0_224_imagenet_backbone_bnfolded.npz',
  'MobileNetV2': 'mobilenet_v2_1.0_224_imagenet_bnfolded.npz',
  'MobileNetV2x035': 'mobilenet_v2_0.35_224_imagenet_keras_notop.npz',
}
# The five most probable classes; class 0 is the background, so each is one
# above ImageNet's: 286 is Egyptian cat, 283 tiger cat, 282 tabby, 288 lynx; 968
# espresso. The flower is a dahlia, of which there is no class: 600 is
# honeycomb, 986 daisy.
ANSWERS = {
  'chelsea': [286, 283, 282, 288, 905],
  'coffee': [968, 926, 970, 961, 969],
  'flower': [600, 986, 310, 110, 109],
}


# As the constructors of Keras, torchvision and timm say; torch calls 1 - 0.99
# what we call 0.99.
@pytest.mark.parametrize(
  'name, origin, expected',
  [
    ('MobileNetV1', 'keras', (1e-3, 0.99)),
    ('MobileNetV1', 'torch', (1e-5, 0.9)),
    ('MobileNetV2', 'keras', (1e-3, 0.999)),
    ('MobileNetV2', 'torch', (1e-5, 0.9)),
    ('MobileNetV3Small', 'keras', (1e-3, 0.999)),
    ('MobileNetV3Small', 'torch', (1e-3, 0.99)),
    ('MobileNetV3Small', 'timm', (1e-5, 0.9)),
  ],
)
def test_epsilon_and_momentum(name, origin, expected):
  found = set()

  def look(following, args, kwargs, context):
    if isinstance(context.module, nn.BatchNorm):
      found.add((context.module.epsilon, context.module.momentum))
    return following(*args, **kwargs)

  encoder = getattr(encoders, name)(origin=origin)
  image = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
  with nn.intercept_methods(look):
    jax.eval_shape(encoder.init, jax.random.key(0), image)
  assert found == {expected}


@pytest.mark.parametrize('origin', ['keras', 'torch'])
@pytest.mark.parametrize('name', NAMES)
def test_every_map_has_the_type_of_the_image(name, origin):
  encoder = getattr(encoders, name)(taps=None, origin=origin)
  image = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.bfloat16)
  variables = jax.eval_shape(encoder.init, jax.random.key(0), image)
  variables['params'] = jax.tree.map(
    lambda leaf: jax.ShapeDtypeStruct(leaf.shape, jnp.bfloat16),
    variables['params'],
  )
  maps = jax.eval_shape(encoder.apply, variables, image)
  assert {feature.dtype.name for feature in maps.values()} == {'bfloat16'}


def photographs(side: int = 224) -> np.ndarray:
  """The middle squares [3, side, side, 3]."""
  skimage = pytest.importorskip('skimage')
  datasets = pytest.importorskip('sklearn.datasets')
  images = [
    skimage.data.chelsea(),
    skimage.data.coffee(),
    datasets.load_sample_image('flower.jpg'),
  ]
  squares = []
  for image in images:
    edge = min(image.shape[:2])
    top, left = ((length - edge) // 2 for length in image.shape[:2])
    square = image[top : top + edge, left : left + edge]
    squares.append(
      cv2.resize(square, (side, side), interpolation=cv2.INTER_AREA)
    )
  return np.stack(squares)


@pytest.mark.data
@pytest.mark.parametrize(
  'name, tensors, folded',
  [
    ('MobileNetV1', 54, True),
    ('MobileNetV2', 106, True),
    ('MobileNetV2x035', 260, False),
  ],
)
def test_real_files_fit_to_the_last_tensor(name, tensors, folded):
  """`load` refuses a file of which anything is missing or left over."""
  classes = 1001 if name == 'MobileNetV2' else 1000
  encoder = getattr(encoders, name)(classes=classes)
  path = real_data('weights') / FILES[name]
  weights = pretrained.load(path, encoder)
  assert (weights.normalisation, weights.origin) == ('tf', 'keras')
  assert weights.folded is folded
  with np.load(path) as file:
    assert len(file.files) == tensors
    stored = sum(value.size for value in file.values())
    top = [n for n in file.files if n.startswith('52_')]
    stored -= sum(file[n].size for n in top)
  assert sorted(weights.dropped) == sorted(top)
  # Of a folded BatchNorm there is only the bias in the file.
  made = {'scale', 'mean', 'var'} if folded else set()
  leaves = jax.tree_util.tree_leaves_with_path(weights.variables)
  ours = sum(x.size for path, x in leaves if path[-1].key not in made)
  assert ours == stored


@pytest.mark.data
def test_real_weights_name_what_is_in_photographs():
  encoder = encoders.MobileNetV2(taps=('predictions',), classes=1001)
  path = real_data('weights') / FILES['MobileNetV2']
  weights = pretrained.load(path, encoder)
  image = colour.normalise(photographs(), weights.normalisation)
  (logits,) = quick_jit(encoder.apply)(weights.variables, image)
  best = np.argsort(-logits[:, 0, 0])[:, :5]
  assert dict(zip(ANSWERS, best.tolist(), strict=True)) == ANSWERS
