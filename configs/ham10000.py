r"""The systems of le2020 on HAM10000 (paper 004, tables 2 to 8).

Printed: accuracy 0.90 (ResNet50), 0.88 (MobileNet), 0.93 (five ResNet50), on a
split that leaks lesions. Here no lesion is on two sides; ours: docs/results.md.

  python -m jaxderm.main --config=configs/ham10000.py --workdir=runs/ham10000 \
    --config.data.manual_dir=HAM10000 --config.model.encoder_weights=WEIGHTS

After ':' goes the system: MobileNet, ResNet50, VGG16, EfficientNetB1; for other
encoders there is ham10000_encoder.py. The paper's experiments leave something
out each:

- dropout: `--config.model.changes.dropout=0.0`
- augmentation: `--config.data.augment.rotate.p=0`, and p of hflip, vflip, crop
  and cutout likewise
- weights of classes: `--config.loss.alpha=equal`; other weights: balanced,
  inverse_sqrt
- the focal term: `--config.loss.gamma=0.0`
- the global mean: `--config.model.changes.end=flattened` (from 128 pixels on:
  the last map of 64 is 2x2, of which the 2x2 means are the global one)

`--config.data.split=le2020` is the paper's split, `--folds=0,1,2,3,4` its cross
validation; `le2020_grouped` is the same without the leaks, for an ensemble of
folds (`--mode=fuse`).

`--config.data.dilation=20` blackens what is further than 20 pixels from the
lesion (the paper tries growing radii, and prints none). Masks are those of
HAM10000_segmentations_lesion_tschandl, or the paper's own: train its U-Net by
configs/folder.py:le2020/UResNet34 with `--config.data.name=ham10000`, and let
`--mode=predict` write OTHER/HAM10000_segmentations_lesion_tschandl, once for
the images of each part; the other files of HAM10000 go into OTHER as they are.
"""

from jaxderm import recipe
from jaxderm.data import augment


def get_config(system: str = 'MobileNet'):
  config = recipe.default()
  config.task = 'classification'
  config.model.system = f'le2020/{system}'
  config.model.changes = dict(classes=7, dropout=0.5, end='pooled')
  # Weighted by 1 / N_c of the training images, 1 in the mean of the classes.
  config.loss = dict(
    name='focal_cross_entropy', alpha='balanced_mean', gamma=2.0
  )
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
