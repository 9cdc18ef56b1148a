r"""The systems of zarrin2025 on PH2 (paper 003, tables 6 to 11).

Printed: mean Dice 96.02 % (ResNet101-RFE, Adapt Exp), on 40 images. Ours:
docs/results.md.

  python -m jaxderm.main --config=configs/ph2_rfe.py:ResNet34RFE \
    --workdir=runs/rfe --config.data.manual_dir=PH2 \
    --config.loss.name=adapt_exp --config.data.split=zarrin2025

After ':' goes the system: ResNet34RFE, ResNet50RFE, ResNet101RFE, the same
without RFE, UNet, AttentionUNet, TransUNet, SwinUNet, ResUNet. The losses are
bce, soft_dice, focal, exponential and adapt_exp. Where the rate diverges,
`--config.optim.learning_rate=1e-3`.
"""

from jaxderm import recipe
from jaxderm.data import augment


def get_config(system: str = 'ResNet101RFE'):
  config = recipe.default()
  config.model.system = f'zarrin2025/{system}'
  config.loss = dict(name='adapt_exp')
  config.data.name = 'ph2'
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
