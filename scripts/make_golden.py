"""Writes what torchvision and timm answer, for tests where torch is not.

  pip install torch torchvision timm
  python scripts/make_golden.py [NAME ...]

The weights and the images are drawn (tests/parity.py), so only some values of
each feature map are stored, in tests/golden/.
"""

import pathlib
import sys

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / 'tests'))

import torch_members  # noqa: E402  it is in the folder of the tests


def main(wanted: list[str]) -> None:
  for member in torch_members.MEMBERS:
    if wanted and member.name not in wanted:
      continue
    _, variables, image = torch_members.drawn(member)
    features = torch_members.reference(member, variables, image)
    values = {
      tap: torch_members.samples(feature)
      for tap, feature in zip(member.taps, features, strict=True)
    }
    path = ROOT / 'tests/golden' / member.golden
    np.savez_compressed(path, **values)
    print(f'{path}: {path.stat().st_size:,} bytes')


if __name__ == '__main__':
  main(sys.argv[1:])
