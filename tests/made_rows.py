"""Rows of made-up images."""

import numpy as np


def row(name, lesion=None, tp=0, fp=0, fn=0, tn=0, **more):
  ids = {'image_id': name, 'lesion_id': lesion or name}
  return ids | {'tp': tp, 'fp': fp, 'fn': fn, 'tn': tn} | more


def some_rows(images=40, lesions=15, seed=0):
  rng = np.random.default_rng(seed)
  return [
    row(
      f'i{i:03d}',
      f'l{rng.integers(lesions):02d}',
      *rng.integers(0, 500, 4).tolist(),
      hausdorff=float(rng.random() * 100),
      hd95=float(rng.random() * 50),
    )
    for i in range(images)
  ]
