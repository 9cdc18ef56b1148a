r"""The systems of yang2021 on PH2 (paper 000, table 4).

Printed: Dice 0.93 (EfficientUNet++), 0.89 (UNet++ and U-Net), on 40 images.
Ours, with its command, machine and time: docs/results.md.

  python -m jaxderm.main --config=configs/ph2_unetpp.py \
    --workdir=runs/ph2 --config.data.manual_dir=PH2 --config.fold=0

After ':' goes the system: EfficientUNetPlusPlus, XceptionUNetPlusPlus,
UNetPlusPlus, UNet, SegNet, HRNet, or of the ablation (table 2)
EfficientNetUNet, EfficientNetInception, EfficientNetXception. Table 3 changes
`--set=model.changes.activation=mish`. `--config.data.split=yang2021` takes
the paper's random 160/40 split instead of a fold.
"""

from jaxderm import recipe
from jaxderm.data import augment


def get_config(system: str = 'EfficientUNetPlusPlus'):
  config = recipe.default()
  config.model.system = f'yang2021/{system}'
  config.loss = dict(name='bce_dice', alpha=1.0, convex=False)
  config.data.name = 'ph2'
  config.data.size = 256
  config.data.batch_size = 2
  config.data.augment = augment.RECIPES['yang2021']
  config.optim.name = 'adam'
  config.optim.learning_rate = 1e-4
  config.epochs = 100
  return config
