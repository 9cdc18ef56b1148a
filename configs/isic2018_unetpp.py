r"""The systems of yang2021 on ISIC 2018 Task 1 (paper 000, table 5).

Printed: Dice 0.96 (EfficientUNet++), on 200 images of a split that cannot be
(2,570 + 200 images of 2,594). Ours: docs/results.md.

  python -m jaxderm.main --config=configs/isic2018_unetpp.py \
    --workdir=runs/isic2018 --config.data.manual_dir=ISIC2018

After ':' goes the system, as in ph2_unetpp.py. `--config.data.split=official`
takes the challenge's own validation and test images.
"""

from jaxderm import recipe
from jaxderm.data import augment


def get_config(system: str = 'EfficientUNetPlusPlus'):
  config = recipe.default()
  config.model.system = f'yang2021/{system}'
  config.loss = dict(name='bce_dice', alpha=1.0, convex=False)
  config.data.name = 'isic2018_task1'
  config.data.size = 256
  config.data.batch_size = 2
  config.data.augment = augment.RECIPES['yang2021']
  config.optim.name = 'adam'
  config.optim.learning_rate = 1e-4
  config.epochs = 100
  return config
