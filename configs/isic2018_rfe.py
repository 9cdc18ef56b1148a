r"""The systems of zarrin2025 on ISIC 2018 Task 1 (paper 003, tables 4, 7 to 10).

Printed: mean Dice 91.63 % (ResNet101-RFE, Adapt Exp), on 520 images. Ours:
docs/results.md.

  python -m jaxderm.main --config=configs/isic2018_rfe.py:ResNet34RFE \
    --workdir=runs/rfe --config.data.manual_dir=ISIC2018 \
    --config.loss.name=adapt_exp --config.data.split=zarrin2025

After ':' goes the system, as in ph2_rfe.py; the losses are the same.
"""

from jaxderm import recipe
from jaxderm.data import augment


def get_config(system: str = 'ResNet101RFE'):
  config = recipe.default()
  config.model.system = f'zarrin2025/{system}'
  config.loss = dict(name='adapt_exp')
  config.data.name = 'isic2018_task1'
  config.data.size = 256
  config.data.batch_size = 8
  config.data.colour = 'none'
  config.data.augment = augment.RECIPES['zarrin2025']
  config.optim.name = 'adam'
  config.optim.learning_rate = 0.01
  config.optim.schedule = dict(name='poly', power=0.9)
  config.optim.weight_decay = 1e-4
  config.optim.decayed = 'convolutions'
  config.epochs = 50
  return config
