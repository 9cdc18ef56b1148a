r"""A small U-Net on generated lesions: nothing to download.

The run behind `make demo`. Dice and time: see docs/results.md.

  python -m jaxderm.main --config=configs/synthetic.py --workdir=runs/demo
"""

from jaxderm import recipe


def get_config(system: str = 'UNet'):
  config = recipe.default()
  config.model.system = f'yang2021/{system}'
  config.data.name = 'synthetic'
  config.data.options = dict(n=512, size=128, seed=0)
  config.data.size = 64
  config.data.batch_size = 16
  config.data.augment = dict(hflip=dict(p=0.5), vflip=dict(p=0.5))
  config.optim.learning_rate = 3e-3
  config.optim.schedule = dict(name='cosine', warmup=0.1)
  config.evaluate.batch_size = 16
  config.epochs = 25
  return config
