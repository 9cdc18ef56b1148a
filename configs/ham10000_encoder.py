r"""The seven diagnoses of HAM10000 with any encoder, by the recipe of le2020.

The systems of that paper itself: ham10000.py. Ours: docs/results.md.

  python -m jaxderm.main --config=configs/ham10000_encoder.py:MobileNetV2x035 \
    --workdir=runs/ham10000 --config.data.manual_dir=HAM10000

After ':' goes the encoder; all of `jaxderm.models.encoders` will do.
`--config.model.changes.classes=2` and another data.name make it a config for
that data.
"""

from jaxderm import recipe
from jaxderm.data import augment


def get_config(encoder: str = 'MobileNetV1'):
  config = recipe.default()
  config.task = 'classification'
  config.model.system = 'classifier'
  config.model.changes = dict(
    encoder=encoder, classes=7, hidden=512, dropout=0.5
  )
  # Weighted by N / (7 N_c) of the training images.
  config.loss = dict(name='focal_cross_entropy', alpha='balanced', gamma=2.0)
  config.data.name = 'ham10000'
  config.data.size = 224
  config.data.batch_size = 64
  config.data.colour = 'none'
  config.data.augment = augment.RECIPES['le2020']
  config.optim.name = 'adam'
  config.optim.learning_rate = 1e-4
  config.monitor.plateau_patience = 3
  config.monitor.plateau_factor = 0.5
  config.monitor.plateau_floor = 1e-7
  config.monitor.stop_patience = 10
  config.evaluate.batch_size = 64
  config.epochs = 50
  return config
