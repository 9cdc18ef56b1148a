"""Networks of torchvision and timm that ours are compared with.

A row: our member, where it is there, and which of its modules gives which of
our taps. The golden file of a row is `golden/<library>_<name>.npz`, made by
`scripts/make_golden.py`.
"""

import functools
import importlib
from typing import NamedTuple

import numpy as np
import parity
from compiling import quick_jit

from jaxderm.benchmark.torch_networks import library
from jaxderm.data import colour
from jaxderm.models import encoders
from jaxderm.pretrained import names
from jaxderm.pretrained.fit import rename

SIDE = (65, 64)  # rows stay odd at every level and columns even
LARGE = (97, 80)  # for networks that shrink theirs more


class Member(NamedTuple):
  """One row.

  Attributes:
    name: Of our encoder.
    library: Of the table of names, 'torchvision' or 'timm'.
    factory: Path of the function that makes the network without weights.
    taps: Our taps, finest first, and the modules that give them.
    side: Of the images that they are compared on.
    changes: Fields of our encoder.
    settings: Arguments of the factory.
    normalisation: What is done to their images and is inside our network.
    channels_last: Whether their maps are [B, H, W, C].
  """

  name: str
  library: str
  factory: str
  taps: dict[str, str]
  side: tuple[int, int] = SIDE
  changes: dict = {}  # noqa: RUF012  nobody writes to it
  settings: dict = {}  # noqa: RUF012
  normalisation: str = 'none'
  channels_last: bool = False

  @property
  def golden(self) -> str:
    return f'{self.library}_{self.name}.npz'


def _resnet(name: str, factory: str, *depths: int) -> Member:
  taps = {'conv1_relu': 'relu'} | {
    f'conv{i + 2}_block{depth}_out': f'layer{i + 1}'
    for i, depth in enumerate(depths)
  }
  return Member(name, 'torchvision', factory, taps, changes={'origin': 'torch'})


def _vgg(name: str, factory: str, *places: int) -> Member:
  """For the places of the ReLUs before the last four maxima, and the last."""
  taps = (
    'block2_conv2',
    'block3_conv3',
    'block4_conv3',
    'block5_conv3',
    'block5_pool',
  )
  modules = {tap: f'features.{i}' for tap, i in zip(taps, places, strict=True)}
  return Member(
    name,
    'torchvision',
    f'torchvision.models.{factory}',
    modules,
    changes={'origin': 'torch'},
    settings={'init_weights': False},
  )


def _efficientnet(library: str, factory: str, *modules: str, **row) -> Member:
  """For the modules that give the taps."""
  taps = (
    'block2a_expand_activation',
    'block3a_expand_activation',
    'block4a_expand_activation',
    'block6a_expand_activation',
    'top_activation',
    'predictions',
  )
  modules = dict(zip(taps, modules, strict=True))
  return Member('EfficientNetB0', library, factory, modules, **row)


def _mobilenet(name: str, factory: str, *modules: str, **row) -> Member:
  """For the modules that give the default taps and the predictions."""
  library = row.pop('library', factory.partition('.')[0])
  taps = (*getattr(encoders, name)().taps, 'predictions')
  return Member(
    name, library, factory, dict(zip(taps, modules, strict=True)), **row
  )


MEMBERS = (
  _resnet('ResNet18', 'torchvision.models.resnet18', 2, 2, 2, 2),
  _resnet('ResNet50', 'torchvision.models.resnet50', 3, 4, 6, 3),
  _resnet('ResNeXt50', 'torchvision.models.resnext50_32x4d', 3, 4, 6, 3),
  _vgg('VGG16', 'vgg16', 8, 15, 22, 29, 30),
  _vgg('VGG16BN', 'vgg16_bn', 12, 22, 32, 42, 43),
  Member(
    'DenseNet121',
    'torchvision',
    'torchvision.models.densenet121',
    {
      'conv1_relu': 'features.relu0',
      'pool2_conv': 'features.transition1.conv',
      'pool3_conv': 'features.transition2.conv',
      'pool4_conv': 'features.transition3.conv',
      'conv5_block15_1_relu': 'features.denseblock4.denselayer15.relu2',
    },
    changes={'origin': 'torch'},
  ),
  Member(
    'InceptionResNetV2',
    'timm',
    'timm.models.inception_resnet_v2.inception_resnet_v2',
    {
      'activation_2': 'conv2d_2b',
      'activation_4': 'conv2d_4a',
      'block35_10_ac': 'repeat',
      'block17_20_ac': 'repeat_1',
      'conv_7b_ac': 'conv2d_7b',
    },
    side=(139, 160),  # whose last map is 3x3
    changes={'origin': 'torch'},
  ),
  Member(
    'SqueezeNet10',
    'torchvision',
    'torchvision.models.squeezenet1_0',
    {
      'conv1': 'features.1',
      'fire4': 'features.5',
      'fire8': 'features.10',
      'fire9': 'features.12',
      'predictions': 'classifier.3',
    },
  ),
  Member(
    'SqueezeNet11',
    'torchvision',
    'torchvision.models.squeezenet1_1',
    {
      'conv1': 'features.1',
      'fire3': 'features.4',
      'fire5': 'features.7',
      'fire9': 'features.12',
      'predictions': 'classifier.3',
    },
  ),
  Member(
    'SwinTiny',
    'torchvision',
    'torchvision.models.swin_t',
    {
      'embedding': 'features.0',
      'merge1': 'features.2',
      'merge2': 'features.4',
      'merge3': 'features.6',
      'norm': 'norm',
    },
    LARGE,  # 24 x 20 pixels at first, and an odd number at last
    channels_last=True,
  ),
  Member(
    'Xception',
    'timm',
    'timm.models.legacy_xception',
    {
      'block2_sepconv2_bn': 'block1.rep.4',
      'block3_sepconv2_bn': 'block2.rep.5',
      'block4_sepconv2_bn': 'block3.rep.5',
      'block13_sepconv2_bn': 'block12.rep.5',
      'block14_sepconv2_act': 'act4',
    },
    LARGE,
    changes={'origin': 'torch'},
  ),
  _efficientnet(
    'torchvision',
    'torchvision.models.efficientnet_b0',
    *(f'features.{i}.0.block.0' for i in (2, 3, 4, 6)),
    'features.8',
    'classifier',
    changes={'origin': 'torch'},
  ),
  _efficientnet(
    'timm',
    'timm.models.efficientnet_b0',
    *(f'blocks.{i}.0.bn1' for i in (1, 2, 3, 5)),
    'bn2',
    'classifier',
    changes={'origin': 'timm'},
  ),
  _efficientnet(
    'timm_tf',
    'timm.models.tf_efficientnet_b0',
    *(f'blocks.{i}.0.bn1' for i in (1, 2, 3, 5)),
    'bn2',
    'classifier',
    changes={'origin': 'keras'},
    normalisation='torch',
  ),
  _mobilenet(
    'MobileNetV1',
    'timm.models.mobilenetv1_100',
    *(f'blocks.{i}' for i in ('0.0', '1.1', '2.1', '3.5', '4.1')),
    'classifier',
    changes={'origin': 'torch'},
  ),
  _mobilenet(
    'MobileNetV2',
    'torchvision.models.mobilenet_v2',
    *(f'features.{i}.conv.0' for i in (2, 4, 7, 14)),
    'features.18',
    'classifier',
    changes={'origin': 'torch'},
  ),
  _mobilenet(
    'MobileNetV2',
    'timm.models.mobilenetv2_100',
    *(f'blocks.{i}.0.bn1' for i in (1, 2, 3, 5)),
    'bn2',
    'classifier',
    changes={'origin': 'torch'},
  ),
  _mobilenet(
    'MobileNetV3Small',
    'torchvision.models.mobilenet_v3_small',
    'features.0',
    *(f'features.{i}.block.0' for i in (2, 4, 9)),
    'features.12',
    'classifier',
    changes={'origin': 'torch'},
  ),
  _mobilenet(
    'MobileNetV3Large',
    'torchvision.models.mobilenet_v3_large',
    *(f'features.{i}.block.0' for i in (2, 4, 7, 13)),
    'features.16',
    'classifier',
    changes={'origin': 'torch'},
  ),
  _mobilenet(
    'MobileNetV3Large',
    'timm.models.mobilenetv3_large_100',
    *(f'blocks.{i}.0.bn1' for i in (1, 2, 3, 5)),
    'blocks.6.0',
    'classifier',
    changes={'origin': 'timm'},
  ),
  _mobilenet(
    'MobileNetV3Large',
    'timm.models.tf_mobilenetv3_large_100',
    *(f'blocks.{i}.0.bn1' for i in (1, 2, 3, 5)),
    'blocks.6.0',
    'classifier',
    library='timm_tf',
    normalisation='tf',
  ),
)


@functools.cache
def _drawn(golden: str):
  (member,) = (m for m in MEMBERS if m.golden == golden)
  return _draw(member)


def drawn(member: Member):
  """As `_draw`, which is done once for all tests of a member."""
  return _drawn(member.golden)


def _draw(member: Member):
  """Our encoder, its variables and images."""
  encoder = getattr(encoders, member.name)(
    taps=tuple(member.taps), **member.changes
  )
  image = parity.inputs(encoder, member.side)
  constants = table(member).constants
  return encoder, parity.draw(encoder, image, constants=constants), image


def apply(encoder, variables, image):
  return quick_jit(encoder.apply)(variables, image)


def table(member: Member):
  encoder = getattr(encoders, member.name)(**member.changes)
  tables = names.of(encoder)
  (found,) = (t for t in tables if t.library == member.library)
  return found


def make(member: Member):
  """Their network with random weights, in evaluation mode."""
  library('torchvision')  # timm imports it
  module, _, function = member.factory.rpartition('.')
  make = getattr(importlib.import_module(module), function)
  return make(**member.settings).eval()


def reference(member: Member, variables, image) -> list[np.ndarray]:
  """The maps of their network with our variables, [B, H, W, C] each."""
  import torch

  network = make(member)
  state = network.state_dict()
  shapes = {name: tuple(value.shape) for name, value in state.items()}
  renamed = rename(variables, shapes, table(member))
  for name, value in renamed.items():
    state[name] = torch.from_numpy(np.array(value))
  network.load_state_dict(state)
  found = {}
  for tap, path in member.taps.items():
    network.get_submodule(path).register_forward_hook(
      # What a hook returns, unless None, takes the output's place.
      lambda _, __, out, tap=tap: found.update({tap: out.detach().clone()})
    )
  image = np.asarray(colour.normalise(image, member.normalisation))
  with torch.no_grad():
    network(torch.from_numpy(image.transpose(0, 3, 1, 2)))
  features = [found[tap].numpy() for tap in member.taps]
  features = [x[..., None, None] if x.ndim == 2 else x for x in features]
  if member.channels_last:
    return features
  return [x.transpose(0, 2, 3, 1) for x in features]


def samples(feature: np.ndarray, n: int = 400) -> np.ndarray:
  """Values at some places of a map, the same places for its shape always."""
  flat = np.asarray(feature).reshape(-1)
  return flat[np.random.RandomState(0).randint(0, flat.size, n)]
