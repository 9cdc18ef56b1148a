"""SqueezeNet: its pools, its dropout, and its real weights on photographs."""

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch_members
from compiling import draw, quick_jit
from conftest import real_data

from jaxderm.cost import feature_maps
from jaxderm.data import colour
from jaxderm.models import encoders
from jaxderm.pretrained import names
from jaxderm.pretrained.fit import fit, rename

# What torchvision's squeezenet1_0 answers to these photographs with the arrays
# of the file: its five classes of highest probability. 285 is Egyptian cat, 282
# tiger cat, 281 tabby, 287 lynx; 967 espresso. The flower is a dahlia, of which
# ImageNet has no class: 328 is sea urchin.
ANSWERS = {
  'chelsea': [285, 282, 281, 287, 293],
  'coffee': [967, 809, 968, 960, 925],
  'flower': [328, 947, 599, 109, 115],
}


# As Caffe's with an image of 227; 111 and 55 are odd, 109 is, 54 is not.
@pytest.mark.parametrize(
  'name, side, expected',
  [
    ('SqueezeNet10', 227, [111, 55, 27, 13]),
    ('SqueezeNet10', 224, [109, 54, 27, 13]),
    ('SqueezeNet11', 224, [111, 55, 27, 13]),
    ('SqueezeNet11', 226, [112, 56, 28, 14]),
  ],
)
def test_sizes_of_pooled_maps(name, side, expected):
  image = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
  encoder = getattr(encoders, name)()
  maps = feature_maps(encoder, image)
  assert [maps[tap].shape[1] for tap in encoder.taps] == expected


def test_half_of_what_enters_the_classifier_is_dropped_in_training():
  encoder = encoders.SqueezeNet11(taps=('conv10',), classes=512)
  image = np.random.default_rng(0).normal(size=(1, 48, 48, 3))
  image = image.astype(np.float32)
  variables = draw(encoder, image)
  # Each class shows one channel of what enters.
  variables['params']['conv10'] = {
    'kernel': jnp.eye(512)[None, None],
    'bias': jnp.zeros(512),
  }

  @quick_jit
  def apply(key):
    return encoder.apply(variables, image, True, rngs={'dropout': key})[0]

  (kept,) = quick_jit(encoder.apply)(variables, image)
  a, b = apply(jax.random.key(0)), apply(jax.random.key(1))
  alive = kept > 0
  share = np.mean(a[alive] > 0)
  assert alive.sum() > 500
  assert 0.4 < share < 0.6
  np.testing.assert_allclose(a[a > 0], 2 * kept[a > 0], atol=1e-3)
  assert np.any((a > 0) != (b > 0))


def photographs() -> np.ndarray:
  """The middle squares, as Caffe's network takes them: [3, 227, 227, 3]."""
  skimage = pytest.importorskip('skimage')
  datasets = pytest.importorskip('sklearn.datasets')
  images = [
    skimage.data.chelsea(),
    skimage.data.coffee(),
    datasets.load_sample_image('flower.jpg'),
  ]
  return np.stack([_middle(image) for image in images])


def _middle(image: np.ndarray, side: int = 227) -> np.ndarray:
  edge = min(image.shape[:2])
  top, left = ((length - edge) // 2 for length in image.shape[:2])
  square = image[top : top + edge, left : left + edge]
  return cv2.resize(square, (side, side), interpolation=cv2.INTER_AREA)


def published():
  """Encoder, variables and tensors of the authors' file."""
  encoder = encoders.SqueezeNet10(taps=('predictions',))
  (table,) = (t for t in names.of(encoder) if t.library == 'caffe')
  path = real_data('weights') / 'squeezenet_v1.0_imagenet.npz'
  with np.load(path) as file:
    tensors = dict(file)
  image = jax.ShapeDtypeStruct((1, 227, 227, 3), jnp.float32)
  template = jax.eval_shape(encoder.init, jax.random.key(0), image)
  fitted = fit(template, template, tensors, table)
  assert fitted.problems == ()
  return encoder, fitted.variables, colour.NORMALISATIONS[table.normalisation]


@pytest.mark.data
def test_real_weights_name_what_is_in_photographs():
  encoder, variables, normalise = published()
  images = normalise(photographs().astype(np.float32))
  (logits,) = quick_jit(encoder.apply)(variables, images)
  best = np.argsort(-logits[:, 0, 0])[:, :5]
  assert dict(zip(ANSWERS, best.tolist(), strict=True)) == ANSWERS


@pytest.mark.data
def test_real_weights_answer_as_in_torchvision():
  torch = pytest.importorskip('torch')
  encoder, variables, normalise = published()
  images = np.asarray(normalise(photographs().astype(np.float32)))
  (found,) = quick_jit(encoder.apply)(variables, images)
  (member,) = (m for m in torch_members.MEMBERS if m.name == 'SqueezeNet10')
  network = torch_members.make(member)
  shapes = {n: tuple(v.shape) for n, v in network.state_dict().items()}
  renamed = rename(variables, shapes, torch_members.table(member))
  network.load_state_dict(
    {name: torch.from_numpy(np.array(value)) for name, value in renamed.items()}
  )
  with torch.no_grad():
    expected = network(torch.from_numpy(images.transpose(0, 3, 1, 2).copy()))
  assert np.std(expected.numpy()) > 1
  np.testing.assert_allclose(found[:, 0, 0], expected, rtol=0, atol=1e-4)
