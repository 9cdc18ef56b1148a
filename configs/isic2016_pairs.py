r"""The systems of wei2020 that classify ISBI 2016, part 3 (paper 001).

Printed (tables 3 to 7): average precision 0.665 with DC-MobileNetV1, 0.645 with
MobileNetV1, 0.724 of the fusion of two. Ours: docs/results.md. With ImageNet
weights, as in the paper:

  python -m jaxderm.main --config=configs/isic2016_pairs.py:DCMobileNetV1 \
    --workdir=runs/pairs --config.data.manual_dir=ISIC2016 \
    --config.model.encoder_weights=WEIGHTS

After ':' goes the system: DCMobileNetV1 and DCDenseNet121, which are trained on
pairs of images, or one of MobileNetV1, DenseNet121, SqueezeNet, ResNet18 and
ShuffleNet. A step sees 32 images, or 32 pairs.

An epoch shows benign images three times and malignant ones 13 times, as the
paper did; `--config.data.repeats.benign=1 --config.data.repeats.malignant=1`
shows each once. The paper splits what it has repeated, with copies of an image
on both sides: `--config.data.split=wei2020_leaky`; `=wei2020` splits first.
"""

from jaxderm import recipe, systems
from jaxderm.data import augment


def get_config(system: str = 'DCMobileNetV1'):
  config = recipe.default()
  config.model.system = f'wei2020/{system}'
  config.task = systems.find(config.model.system).task
  config.loss = dict(name='cross_entropy')
  config.data.name = 'isic2016_part3'
  config.data.size = 224
  config.data.batch_size = dict(pairwise=64, classification=32)[config.task]
  config.data.split = 'official'
  config.data.validation = 0.2
  config.data.repeats = dict(benign=3, malignant=13)
  config.data.colour = 'none'
  config.data.augment = augment.RECIPES['wei2020']
  config.optim.name = 'adam'
  config.optim.learning_rate = 1e-4
  config.monitor.plateau_patience = 3
  config.monitor.plateau_factor = 0.5
  config.monitor.plateau_min_delta = 1e-4
  # A step on pairs sees twice the images; it takes as many steps as the others.
  config.epochs = dict(pairwise=100, classification=50)[config.task]
  config.monitor.every = dict(pairwise=2, classification=1)[config.task]
  return config
