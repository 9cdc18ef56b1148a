"""Traced once: what a function is traced to is kept beside compiled programs.

JAX's compilation cache is asked with the program itself, so each process traces
its networks anew, which takes longer than reading what was compiled. Here the
traced program (StableHLO, by `jax.export`) is found by a digest of the code and
of all that it depends on (`fingerprint`), and by the shapes it is called with.
"""

import functools
import hashlib
import os
import pathlib
from collections.abc import Callable
from typing import Any

import jax
from jax import export

from jaxderm import fingerprint
from jaxderm.models import forms

FOLDER = 'traced'  # in that of compiled programs
# Settings of JAX that say where, how often and how loudly, not what.
_NOT_TRACED = ('cache', 'log', 'dump', 'traceback', 'visible_devices')
_CHECKSUM = hashlib.sha256().digest_size


def recalled(function: Callable) -> Callable:
  """The same function, which `jit` traces only if no process has before.

  It is traced as ever where no folder is set for compiled programs
  (`jax_compilation_cache_dir`), on several devices, and if it depends on
  something that has no digest. It has no gradient and cannot be batched.

  Args:
    function: Of trees of arrays, to dicts, lists and tuples of arrays.
  """

  @functools.wraps(function)
  def run(*args: Any) -> Any:
    leaves, tree = jax.tree.flatten(args)
    shapes = [_shape(x) for x in leaves]
    path = _path(function, shapes, tree)
    if path is None:
      return function(*args)
    program = _read(path) or _trace(function, shapes, tree, path)
    return function(*args) if program is None else program.call(*leaves)

  return run


def recalled_step(step: Callable) -> Callable:
  """`recalled` of (state, ...) to (state, scalars); states are any trees."""

  @functools.wraps(step)
  def run(state: Any, *args: Any) -> Any:
    leaves, tree = jax.tree.flatten(state)

    def flat(leaves, *args):
      state, scalars = step(jax.tree.unflatten(tree, leaves), *args)
      return jax.tree.leaves(state), scalars

    leaves, scalars = recalled(flat)(leaves, *args)
    return jax.tree.unflatten(tree, leaves), scalars

  return run


def _shape(x: Any) -> jax.ShapeDtypeStruct:
  kind = jax.typeof(x)
  return jax.ShapeDtypeStruct(kind.shape, kind.dtype, weak_type=kind.weak_type)


def _path(function: Callable, shapes: list, tree: Any) -> pathlib.Path | None:
  """Where its program is, or would be."""
  folder = jax.config.jax_compilation_cache_dir
  if not folder or jax.device_count() > 1:
    return None
  settings = {
    name: getattr(jax.config, name, value)
    for name, value in sorted(jax.config.values.items())
    if not any(word in name for word in _NOT_TRACED)
  }
  platform = jax.__version__, jax.default_backend(), forms.form()
  try:
    name = fingerprint.digest(platform, settings, tree, shapes, function)
  except fingerprint.NoDigestError:
    return None
  return pathlib.Path(folder, FOLDER, name)


def _read(path: pathlib.Path) -> export.Exported | None:
  """The program, or None if it is not there as it was written."""
  try:
    content = path.read_bytes()
  except OSError:
    return None
  checksum, data = content[:_CHECKSUM], content[_CHECKSUM:]
  if hashlib.sha256(data).digest() != checksum:
    return None
  return export.deserialize(bytearray(data))


def _trace(
  function: Callable, shapes: list, tree: Any, path: pathlib.Path
) -> export.Exported | None:
  """Traces and keeps a program; None if it cannot be kept.

  It is read again, so that who traced it compiles the same as all others.
  """
  flat = jax.jit(lambda *leaves: function(*jax.tree.unflatten(tree, leaves)))
  try:
    data = export.export(flat)(*shapes).serialize()
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f'{path.name}.{os.getpid()}')
    draft.write_bytes(hashlib.sha256(data).digest() + data)
    draft.replace(path)
  except (NotImplementedError, ValueError, OSError):
    return None  # a custom call that promises nothing, or a full disk
  return _read(path)
