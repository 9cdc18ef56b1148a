"""Files of torch, read by torch where it is installed, and never unpickled."""

import re
import zipfile
from collections.abc import Mapping
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np

from jaxderm.pretrained.limits import (
  WeightsError,
  check_dtype,
  check_number,
  check_size,
  members,
)

# How torch before 1.6 begins a file: a number of its own, pickled.
LEGACY = b'\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.'
# Where trainers keep the weights, by preference: what is evaluated is the
# running mean, where there is one.
_ENTRIES = ('state_dict_ema', 'model_ema', 'state_dict', 'model')
_WRAPPERS = ('module.', '_orig_mod.')  # of DataParallel and torch.compile


def check_archive(archive: zipfile.ZipFile, stored: int) -> None:
  """Refuses a zip that torch did not write, before torch sees it.

  Args:
    archive: The zip.
    stored: Bytes of the file.
  """
  for name, entry in members(archive, stored).items():
    if entry.compress_type != zipfile.ZIP_STORED:
      raise WeightsError(f'{name} is compressed, and torch compresses nothing')


def read_torch(file: BinaryIO, stored: int) -> dict[str, np.ndarray]:
  """Tensors of a state dict, without the wrappers that trainers put around it.

  Args:
    file: At its beginning.
    stored: Its bytes.

  Raises:
    WeightsError: also where torch is not installed.
  """
  try:
    import torch
  except ImportError:
    raise WeightsError(
      'it is a file of torch, which is not installed (pip install torch); '
      'the same weights as .safetensors need no torch'
    ) from None
  try:
    content = torch.load(file, map_location='cpu', weights_only=True)
  except Exception as error:  # of any type; its advice is to run the code
    raise WeightsError(
      'torch does not read it as weights: it is damaged, or holds objects '
      'whose code would have to run. Save `model.state_dict()` only'
      + _culprit(error)
    ) from None
  state = _state_dict(content)
  check_number(len(state))
  for name, value in state.items():
    if not isinstance(name, str) or not isinstance(value, torch.Tensor):
      raise WeightsError(
        f'{name!r} of its state dict is a {type(value).__name__}, not a tensor'
      )
    if value.layout != torch.strided or value.device.type != 'cpu':
      raise WeightsError(f'{name} is {value.layout} on {value.device.type}')
  # One number may stand for many: a tensor can repeat what is stored.
  check_size(sum(value.nbytes for value in state.values()), stored)
  tensors = {name: _array(name, value) for name, value in state.items()}
  for wrapper in _WRAPPERS:
    if all(name.startswith(wrapper) for name in tensors):
      tensors = {n.removeprefix(wrapper): x for n, x in tensors.items()}
  return tensors


def _state_dict(content: Any) -> Mapping[str, Any]:
  if isinstance(content, Mapping):
    for key in _ENTRIES:
      if isinstance(content.get(key), Mapping):
        return content[key]
    return content
  raise WeightsError(
    f'it holds a {type(content).__name__}; expected a state dict, or one '
    f'below {", ".join(_ENTRIES)}'
  )


def _array(name: str, value: Any) -> np.ndarray:
  import torch

  value = value.detach()
  if value.dtype == torch.bfloat16:  # which NumPy has not
    return value.view(torch.int16).numpy().copy().view(ml_dtypes.bfloat16)
  array = value.numpy()
  check_dtype(array.dtype, name)
  return array.copy()


def _culprit(error: Exception) -> str:
  """What torch refused to call, of a message of many lines."""
  found = re.search(r'GLOBAL ([\w.]+)', str(error))
  return f' (refused: {found[1]})' if found else ''
