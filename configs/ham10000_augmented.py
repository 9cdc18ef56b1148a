r"""The runs of do2022 with augmentation, without metadata (paper 002, table 5).

Printed: accuracy 0.84 (DenseNet201), 0.79, 0.76 and 0.77 (InceptionResNetV2,
ResNet50, VGG16), on 1,494 images of a split that leaks lesions and is the
validation set, too: `--config.data.split=do2022_augmented`. Here no lesion is
on two sides.

  python -m jaxderm.main --config=configs/ham10000_augmented.py:ResNet50Augmented \
    --workdir=runs/do2022_augmented --config.data.manual_dir=HAM10000 \
    --config.model.encoder_weights=WEIGHTS

After ':' goes the system: DenseNet201, InceptionResNetV2, ResNet50Augmented,
ResNet152Augmented, VGG16. The last one is trained from random weights, and
without weights of classes: `--config.loss.weights="(1.,1.,1.,1.,1.,1.,1.)"`.
"""

from jaxderm import recipe, systems
from jaxderm.data import augment

# Melanoma weighs five times as much: akiec, bcc, bkl, df, mel, nv, vasc.
WEIGHTS = (1.0, 1.0, 1.0, 1.0, 5.0, 1.0, 1.0)


def get_config(system: str = 'ResNet50Augmented'):
  config = recipe.default()
  config.task = 'classification'
  config.model.system = f'do2022/{system}'
  config.model.changes = dict(metadata=0)
  config.loss = dict(name='cross_entropy', weights=WEIGHTS)
  config.data.name = 'ham10000'
  config.data.size = systems.find(config.model.system).size
  config.data.fit = 'crop'
  config.data.batch_size = 16
  config.data.validation = 0.1875  # 65, 15 and 20 % of the images
  config.data.missing_age = 'drop'
  config.data.colour = 'none'
  config.data.augment = augment.RECIPES['do2022']
  config.optim.name = 'adam'
  config.optim.learning_rate = 1e-2
  config.optim.settings = dict(eps=0.1)
  config.monitor.name = 'accuracy'
  config.monitor.mode = 'max'
  config.monitor.stop_patience = 30
  config.monitor.plateau_name = 'loss'
  config.monitor.plateau_mode = 'min'
  config.monitor.plateau_patience = 5
  config.monitor.plateau_factor = 0.2
  config.monitor.plateau_floor = 1e-7
  config.evaluate.batch_size = 16
  config.epochs = 150
  return config
