"""The same architectures in PyTorch: a library's, or ours where none has it.

Imports torch where it is needed: the package must do without.
"""

import contextlib
import importlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

# Number of classes to a network.
Factory = Callable[[int], Any]


@contextlib.contextmanager
def _lenient_operators() -> Iterator[None]:
  """Lets torchvision be imported beside a torch that it was not compiled for.

  Its own operators (boxes, regions) are missing then; no network here has any.
  """
  import torch

  register = torch.library.register_fake

  def skip(op, *args, **kwargs):
    if isinstance(op, str) and op.startswith('torchvision::'):
      return lambda function: function
    return register(op, *args, **kwargs)

  torch.library.register_fake = skip
  try:
    yield
  finally:
    torch.library.register_fake = register


def library(name: str) -> Any:
  """A module of a library that may need torchvision.

  Raises:
    ImportError: It is not installed; says what to do.
  """
  try:
    with _lenient_operators():
      importlib.import_module('torchvision')
      return importlib.import_module(name)
  except ImportError as error:
    raise ImportError(
      f"the peer needs {name}: {error}. pip install 'jaxderm[benchmark]'"
    ) from error


# --- Classifiers -------------------------------------------------------------


def _torchvision(name: str, **settings) -> Factory:
  def make(classes: int):
    models = library('torchvision.models')
    return getattr(models, name)(num_classes=classes, **settings)

  return make


def _timm(name: str) -> Factory:
  return lambda classes: library('timm').create_model(name, num_classes=classes)


# What drops and skips at random is off: ours has none of it.
_EFFICIENTNET = {'dropout': 0.0, 'stochastic_depth_prob': 0.0}


# --- Segmentation ------------------------------------------------------------


def _smp_unet(encoder: str) -> Factory:
  def make(classes: int):
    from torch import nn

    smp = library('segmentation_models_pytorch')
    network = smp.Unet(
      encoder,
      encoder_weights=None,
      decoder_channels=(256, 128, 64, 32, 16),
      classes=classes,
    )
    network.segmentation_head[0] = nn.Conv2d(16, classes, 1)  # as ours
    return network

  return make


def _modules() -> Any:
  """The module that defines networks of torch, which only torch can import."""
  try:
    return importlib.import_module('jaxderm.benchmark.torch_modules')
  except ImportError as error:
    raise ImportError(
      f"the peer needs torch: {error}. pip install 'jaxderm[benchmark]'"
    ) from error


def _unet(classes: int):
  m = _modules()
  return m.UNet(
    m.Plain((8, 16, 32, 64, 128)), (64, 32, 16, 8), classes, transpose=True
  )


def _unetpp(classes: int):
  m = _modules()
  return m.UNetPlusPlus(m.Plain((24, 48, 96, 192, 384)), classes)


def _efficientunetpp(classes: int):
  m = _modules()
  b1 = library('torchvision.models').efficientnet_b1(**_EFFICIENTNET)
  return m.EfficientUNetPlusPlus(m.EfficientNetPyramid(b1), classes)


def _densenet_unet(classes: int):
  m = _modules()
  densenet = library('torchvision.models').densenet121()
  return m.UNet(
    m.DenseNetPyramid(densenet), (256, 128, 64, 32, 16), classes, bias=False
  )


FACTORIES: dict[str, Factory] = {
  'ResNet50': _torchvision('resnet50'),
  'MobileNetV1': _timm('mobilenetv1_100'),
  'MobileNetV2': _torchvision('mobilenet_v2', dropout=0.0),
  'EfficientNetB0': _torchvision('efficientnet_b0', **_EFFICIENTNET),
  'EfficientNetB1': _torchvision('efficientnet_b1', **_EFFICIENTNET),
  'DenseNet121': _torchvision('densenet121'),
  'yang2021/UNet': _unet,
  'yang2021/UNetPlusPlus': _unetpp,
  'yang2021/EfficientUNetPlusPlus': _efficientunetpp,
  'UNet-ResNet34': _smp_unet('resnet34'),
  'UNet-ResNet50': _smp_unet('resnet50'),
  'UNet-MobileNetV1': _smp_unet('tu-mobilenetv1_100'),
  # smp's taps lie elsewhere in a DenseNet: ours, in torch.
  'UNet-DenseNet121': _densenet_unet,
}


def parameters(network: Any) -> int:
  """Trainable parameters of a torch network."""
  return sum(p.numel() for p in network.parameters() if p.requires_grad)


def make(name: str, classes: int) -> Any:
  """A network with random weights.

  Args:
    name: In `FACTORIES`.
    classes: Logits of each image or pixel.

  Raises:
    ImportError: A library of the peer is not installed.
  """
  return FACTORIES[name](classes)


def names() -> Sequence[str]:
  return list(FACTORIES)
