"""Starting from ImageNet: whose weights, and what they expect of the input."""

import pathlib
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from jaxderm import pretrained
from jaxderm.checkpoint import load_json
from jaxderm.data import pipeline
from jaxderm.writer import say, write_json

RECORD = 'encoder_weights.json'
# Images that the statistics of BatchNorm are found from, where the weights
# come without.
_SEEN = 128


def load(
  path: str | None, encoder: nn.Module, workdir: pathlib.Path | None
) -> pretrained.Weights | None:
  """Weights to start from; None for a run that has started, or from scratch.

  Args:
    path: Of the file; None for random weights.
    encoder: Of the network.
    workdir: Of a run that has started, else None.

  Raises:
    FileNotFoundError, WeightsError: as `pretrained.load`.
  """
  if path is None or workdir is not None:
    return None
  weights = pretrained.load(path, encoder)
  say(f'encoder weights: {weights}')
  return weights


def normalisation(
  asked: str | None,
  encoder: nn.Module,
  weights: pretrained.Weights | None,
  workdir: pathlib.Path | None,
) -> str:
  """What the input must look like.

  Args:
    asked: By the config, which may only agree with the weights.
    encoder: Says what it needs, where there are no weights.
    weights: To start from.
    workdir: Of a run that has started; its record says what its weights need.

  Raises:
    ValueError: The config contradicts the weights.
  """
  needed, source = None, ''
  if weights is not None:
    needed, source = weights.normalisation, weights.source
  elif workdir is not None and (workdir / RECORD).exists():
    record = load_json(workdir / RECORD)
    needed, source = record['normalisation'], record['source']
  if needed is None:
    return asked or encoder.normalisation
  if asked not in (None, needed):
    raise ValueError(
      f'data.normalisation is {asked!r}, but the weights of {source} expect '
      f'{needed!r}. Leave data.normalisation out.'
    )
  return needed


def variables(
  weights: pretrained.Weights | None,
  encoder: nn.Module,
  examples: pipeline.Examples,
  prepare: Callable,
) -> dict[str, Any] | None:
  """What the encoder starts from; None for random variables.

  Weights with folded normalisation get their statistics from training images.

  Args:
    weights: To start from, or None.
    encoder: Of the network.
    examples: To train on.
    prepare: (batch, None) to what the network expects.
  """
  if weights is None or not weights.folded:
    return weights and weights.variables
  rows = np.linspace(0, len(examples) - 1, min(_SEEN, len(examples)))
  seen = examples.subset(np.unique(rows.astype(int)))
  # Each process looks at all of them: their statistics may not differ.
  images = np.stack([seen[i]['image'] for i in range(len(seen))])
  say(f'statistics of BatchNorm: from {len(seen)} training images')
  images = prepare({'image': images}, None)['image']
  return jax.device_get(pretrained.unfold(encoder, weights.variables, images))


def record(weights: pretrained.Weights | None, workdir: pathlib.Path) -> None:
  """Writes what a run started from into its folder."""
  if weights is not None and jax.process_index() == 0:
    write_json(workdir / RECORD, weights.describe())
