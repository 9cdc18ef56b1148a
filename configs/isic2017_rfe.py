r"""The systems of zarrin2025 on ISIC 2017 part 1 (paper 003, tables 5, 7 to 10).

Printed: mean Dice 90.19 % (ResNet101-RFE, Adapt Exp), on the publisher's 600
test images. We have none of its files, so nothing of ours is measured.

  python -m jaxderm.main --config=configs/isic2017_rfe.py:ResNet34RFE \
    --workdir=runs/rfe --config.data.manual_dir=ISIC2017 \
    --config.loss.name=adapt_exp --config.data.split=zarrin2025

After ':' goes the system, as in ph2_rfe.py; the losses are the same. The paper
lists two rates and does not say whose: here it is the lower one, constant.
"""

from jaxderm import recipe
from jaxderm.data import augment


def get_config(system: str = 'ResNet101RFE'):
  config = recipe.default()
  config.model.system = f'zarrin2025/{system}'
  config.loss = dict(name='adapt_exp')
  config.data.name = 'isic2017_part1'
  config.data.size = 256
  config.data.batch_size = 8
  config.data.colour = 'none'
  config.data.augment = augment.RECIPES['zarrin2025']
  config.optim.name = 'adam'
  config.optim.learning_rate = 1e-3
  config.optim.weight_decay = 1e-4
  config.optim.decayed = 'convolutions'
  config.epochs = 50
  return config
