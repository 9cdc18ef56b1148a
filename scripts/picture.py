r"""The picture of the README: image, truth and prediction of one test image.

  python scripts/picture.py --workdir=runs/demo --out=docs/picture.png

Takes the image whose Dice is the median of `rows.csv`. Only for data that may
be shown: the README's is of generated lesions.
"""

import argparse
import pathlib

import numpy as np
from ml_collections import ConfigDict

from jaxderm import ensemble, experiment, figures, metrics
from jaxderm.checkpoint import load_json
from jaxderm.rows import columns, read_rows
from jaxderm.scoring import at_own_size


def median_image(workdir: pathlib.Path) -> str:
  """The id of the image in the middle by Dice."""
  table = columns(read_rows(workdir / 'rows.csv'))
  counts = metrics.Counts(*(table[k] for k in ('tp', 'fp', 'fn', 'tn')))
  order = np.argsort(metrics.dice(counts), kind='stable')
  return table['image_id'][order[len(order) // 2]]


def main():
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--workdir', type=pathlib.Path, required=True)
  parser.add_argument('--out', type=pathlib.Path, required=True)
  arguments = parser.parse_args()
  workdir = arguments.workdir.absolute()
  config = ConfigDict(load_json(workdir / 'config.json'))
  made = experiment.make(config)
  data = experiment.open_data(config, workdir)
  variables, _ = ensemble.load_member(made, workdir, 'best')
  examples = data.parts['test']
  wanted = data.index.rows([median_image(workdir)])[0]
  chosen = examples.subset([list(examples.rows).index(wanted)])
  mapper = ensemble.Mapper(made, variables, config.evaluate.batch_size)
  (_, probability), *_ = mapper(chosen)
  record = chosen.record(0)
  image, truth = record['image'], record['mask'][..., 0] > 0
  predicted = at_own_size(probability, *truth.shape)
  predicted = predicted > config.evaluate.threshold
  # Enlarged before the outlines are drawn, so that they stay thin.
  big = [np.kron(m, np.ones((2, 2), bool)) for m in (truth, predicted)]
  image = image.repeat(2, axis=0).repeat(2, axis=1)
  gap = np.full((image.shape[0], 12, 3), 255, np.uint8)
  panels = [
    image,
    gap,
    figures.outline(image, big[0], figures.TRUTH),
    gap,
    figures.outline(image, big[1], figures.PREDICTION),
  ]
  arguments.out.parent.mkdir(parents=True, exist_ok=True)
  arguments.out.write_bytes(figures.png(np.concatenate(panels, axis=1)))
  print(f'{arguments.out}: {median_image(workdir)}')


if __name__ == '__main__':
  main()
