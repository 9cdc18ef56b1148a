r"""Your own images with masks: U-Net x any encoder we have.

  python -m jaxderm.main --config=configs/folder.py --workdir=runs/mine \
    --config.data.manual_dir=MINE

MINE holds `images/` and `masks/` (the same names), and may hold `labels.csv`
with image_id, label, lesion_id: images of one lesion stay on one side of the
split. After ':' goes the system, as in ph2_unetpp.py.
"""

from jaxderm import recipe
from jaxderm.data import augment


def get_config(system: str = 'yang2021/EfficientUNetPlusPlus'):
  config = recipe.default()
  config.model.system = system
  config.data.name = 'folder'
  config.data.size = 256
  config.data.batch_size = 8
  config.data.augment = augment.RECIPES['yang2021']
  config.optim.learning_rate = 1e-3
  config.optim.schedule = dict(name='cosine', warmup=0.05)
  config.evaluate.views = ('identity', 'hflip', 'vflip', 'rot180')
  config.epochs = 60
  return config
