r"""The U-Nets of wei2020 on ISBI 2016, part 1 (paper 001, tables 8 to 11).

Printed: Jaccard 0.859 with MobileNetV1 and with DenseNet121, 0.867 for their
mean. Ours: docs/results.md. With ImageNet weights, as in the paper:

  python -m jaxderm.main --config=configs/isic2016_unet.py:UMobileNetV1 \
    --workdir=runs/isic2016 --config.data.manual_dir=ISIC2016 \
    --config.model.encoder_weights=WEIGHTS

After ':' goes the system: UNet, UVGG16, UResNeXt50, UDenseNet121,
UMobileNetV1; Literal after the last two has the paper's own taps. The paper
splits after it has augmented, with copies of an image on both sides; here
`--config.data.split=wei2020` splits first.
"""

from jaxderm import recipe
from jaxderm.data import augment


def get_config(system: str = 'UMobileNetV1'):
  config = recipe.default()
  config.model.system = f'wei2020/{system}'
  config.loss = dict(name='bce_dice')
  config.data.name = 'isic2016_part1'
  config.data.size = 224
  config.data.batch_size = 32
  config.data.split = 'official'
  config.data.colour = 'none'
  config.data.augment = augment.RECIPES['wei2020']
  config.optim.name = 'adam'
  config.optim.learning_rate = 1e-4
  config.monitor.plateau_patience = 3
  config.monitor.plateau_factor = 0.5
  config.monitor.plateau_min_delta = 1e-4
  config.epochs = 50
  return config
