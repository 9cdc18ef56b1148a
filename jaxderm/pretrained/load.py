"""A file of weights into an encoder."""

import dataclasses
import os
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxderm.models.forms import use_form
from jaxderm.pretrained import files, names
from jaxderm.pretrained.files import File, WeightsError
from jaxderm.pretrained.fit import Fit, fit
from jaxderm.pretrained.table import Table


@dataclasses.dataclass(frozen=True)
class Weights:
  """Weights for one encoder.

  Attributes:
    variables: {'params', 'batch_stats'} of the encoder, NumPy arrays.
    normalisation: What the input must look like (data/colour.py).
    folded: Whether normalisation was folded into the convolutions: see
      `statistics.unfold` before training.
    dropped: Tensors of the file for layers that the encoder does not build,
      such as the classifier.
    adapted: Tensors of the file that were given another shape, such as learnt
      positions of another size of image.
    library: Whose names the file has.
    origin: What the encoder is built with, where it has the choice.
    source: The file's name.
    sha256: Of the file; of the publisher's file, if ours was made from it.
    also: Libraries whose files have the same names and other arithmetic; the
      encoder's origin decided.
  """

  variables: dict[str, Any]
  normalisation: str
  folded: bool
  dropped: tuple[str, ...]
  adapted: tuple[str, ...]
  library: str
  origin: str | None
  source: str
  sha256: str
  also: tuple[str, ...] = ()

  def describe(self) -> dict[str, Any]:
    """All of it but the arrays, for a record of the run."""
    fields = (f.name for f in dataclasses.fields(self))
    return {k: getattr(self, k) for k in fields if k != 'variables'}

  def __str__(self) -> str:
    told = f'{self.source} ({self.library}, sha256 {self.sha256[:12]})'
    if self.also:
      told += (
        f'; its names do not tell it from {", ".join(self.also)}, so it is '
        f'what origin={self.origin!r} makes it'
      )
    if self.adapted:
      told += f'; resized {", ".join(self.adapted)}'
    if self.dropped:
      told += (
        f'; left out {len(self.dropped)} tensors after the last map: '
        f'{", ".join(self.dropped[:4])}'
      )
      told += ', ...' if len(self.dropped) > 4 else ''
    return told


def load(path: str | os.PathLike, encoder: nn.Module) -> Weights:
  """Reads the weights of an encoder.

  Args:
    path: `.h5`, `.weights.h5` or `.keras` of Keras; `.safetensors` or `.pth` of
      torchvision or timm (`.pth` needs torch); `.npz`; or what `convert` wrote.
    encoder: From `jaxderm.models.encoders`, built as its weights need it
      (`origin`), up to whatever taps.

  Raises:
    FileNotFoundError: There is no such file.
    WeightsError: It is no such file, is damaged or unsafe, or not this
      encoder's: then every tensor that is missing, left over or misshapen is
      named.
  """
  file = files.read(path)
  if file.kind == 'jaxderm':
    return _own(file, encoder)
  tables = names.of(encoder)
  if not tables:
    raise WeightsError(
      f'{file.path}: nobody publishes weights for {type(encoder).__name__}; only '
      'what jaxderm itself converted can be loaded into it.'
    )
  fits = [(table, fit_encoder(file, encoder, table)) for table in tables]
  own = getattr(encoder, 'origin', None)
  # Files of two libraries may have the same names; then the encoder decides.
  table, fitted = max(
    fits, key=lambda f: (not f[1].problems, f[0].origin == own, f[1].found)
  )
  if fitted.problems:
    table, fitted = max(fits, key=lambda f: f[1].found)
    raise _misfit(file, table.library, encoder, fitted)
  also = [t.library for t, f in fits if not f.problems and t is not table]
  weights = _checked(file, encoder, table, fitted)
  return dataclasses.replace(weights, also=tuple(also))


def _own(file: File, encoder: nn.Module) -> Weights:
  """Weights that `convert` wrote."""
  about = file.metadata
  origin = about.get('origin') or None
  table = Table(
    'jaxderm', {}, about.get('normalisation', ''), origin, style='jaxderm'
  )
  fitted = fit_encoder(file, encoder, table)
  if fitted.problems:
    raise _misfit(file, about.get('encoder', '?'), encoder, fitted)
  weights = _checked(file, encoder, table, fitted)
  return dataclasses.replace(
    weights,
    folded=about.get('folded') == 'True',
    library=about.get('library', ''),
    sha256=about.get('source_sha256', file.sha256),
  )


def _checked(
  file: File, encoder: nn.Module, table: Table, fitted: Fit
) -> Weights:
  """Raises WeightsError if the encoder does not compute as the weights need."""
  origin = getattr(encoder, 'origin', None)
  if table.origin not in (None, origin) and origin is not None:
    raise WeightsError(
      f'{file.path}: weights of {table.library}, made for origin='
      f"'{table.origin}', but the encoder has origin='{origin}' and would "
      f"compute otherwise. Build it with origin='{table.origin}' "
      '(config.model.changes.origin).'
    )
  return Weights(
    variables=fitted.variables,
    normalisation=table.normalisation,
    folded=table.folded is not None,
    dropped=fitted.dropped,
    adapted=fitted.adapted,
    library=table.library,
    origin=table.origin,
    source=file.path.name,
    sha256=file.sha256,
  )


def fit_encoder(file: File, encoder: nn.Module, table: Table) -> Fit:
  """Fits a file's tensors into an encoder, built as the table needs it."""
  if table.origin is not None and hasattr(encoder, 'origin'):
    encoder = encoder.clone(origin=table.origin)
  image = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)

  def shapes(module):
    with use_form('lax'):  # it is traced in half the time
      return jax.eval_shape(module.init, jax.random.key(0), image)

  whole = shapes(encoder.clone(taps=None))
  return fit(shapes(encoder), whole, file.tensors, table)


def _misfit(
  file: File, library: str, encoder: nn.Module, fitted: Fit
) -> WeightsError:
  lines = '\n'.join(fitted.problems)
  return WeightsError(
    f'{file.path}: not the weights of this {type(encoder).__name__}; read as '
    f'those of {library}, {len(fitted.problems)} tensors do not fit:\n{lines}'
  )
