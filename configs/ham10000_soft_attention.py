r"""The systems of do2022 on HAM10000 (paper 002, tables 5 to 7, A3 to A5).

Printed: accuracy 0.90 (InceptionResNetV2), 0.86 (MobileNetV3Large), on 996
images of a split that leaks lesions and is the validation set, too. Here no
lesion is on two sides, and 80, 10 and 10 % train, validate and test; ours:
docs/results.md. With ImageNet weights, as in the paper:

  python -m jaxderm.main --config=configs/ham10000_soft_attention.py \
    --workdir=runs/do2022 --config.data.manual_dir=HAM10000 \
    --config.model.encoder_weights=WEIGHTS

After ':' goes the system: InceptionResNetV2, DenseNet201, ResNet50, ResNet152,
MobileNetV2, MobileNetV3Large, MobileNetV3LargeDepthwise (of table 6),
MobileNetV3Small, NASNetMobile, NASNetLarge. What else may be asked for:

- `--config.data.split=do2022`: the paper's split, 90 % and 10 %.
- `--config.model.changes.metadata=0`: no metadata, of the same images.
- `--config.data.missing_age=median --config.model.changes.metadata=22`: no
  image is left out.
- `--config.loss.weights="(1.,1.,1.,1.,1.,1.,1.)"`: classes weigh alike.
- `--config.model.changes.gamma=True`, `.literal=True`: of the attention.

The paper's runs with augmentation: ham10000_augmented.py.
"""

from jaxderm import recipe, systems

# N / (7 N_c) of all 10,015 images: akiec, bcc, bkl, df, mel, nv, vasc.
WEIGHTS = (4.3753, 2.7835, 1.3018, 12.4410, 1.2855, 0.2134, 10.0755)


def get_config(system: str = 'MobileNetV2'):
  config = recipe.default()
  config.task = 'classification'
  config.model.system = f'do2022/{system}'
  config.model.changes = dict(metadata=21, gamma=False, literal=False)
  config.loss = dict(name='cross_entropy', weights=WEIGHTS)
  config.data.name = 'ham10000'
  config.data.size = systems.find(config.model.system).size
  config.data.fit = 'crop'
  config.data.batch_size = 32
  config.data.folds = 10
  config.data.validation = 1 / 9  # of what is not test
  config.data.missing_age = 'drop'
  config.data.colour = 'none'
  config.optim.name = 'adam'
  config.optim.learning_rate = 1e-3
  config.optim.settings = dict(eps=0.1)
  config.monitor.name = 'accuracy'
  config.monitor.mode = 'max'
  config.monitor.stop_patience = 25
  config.monitor.plateau_name = 'loss'
  config.monitor.plateau_mode = 'min'
  config.monitor.plateau_patience = 5
  config.monitor.plateau_factor = 0.2
  config.monitor.plateau_floor = 1e-7
  config.evaluate.batch_size = 32
  config.epochs = 250
  return config
