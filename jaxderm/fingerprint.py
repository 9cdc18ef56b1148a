"""What a function would do, as a digest: its code, and all that it names.

Two functions of one digest are traced to the same program: what counts is the
code that is loaded, with everything that it reaches. A constant, a helper or a
method that was replaced, in a file or in a notebook, makes another digest, and
so does another value in a closure or in a field of a network. Libraries count
by name and version. What cannot be told apart for sure has no digest.
"""

import builtins
import collections
import contextvars
import dataclasses
import enum
import functools
import hashlib
import importlib
import inspect
import platform
import sys
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding

from jaxderm.provenance import NoVersionError, file_of, is_own, source, version

# Of a class: what its other entries say as well, or what differs by chance.
_NOT_BEHAVIOUR = {
  '__annotations__',
  '__dataclass_fields__',
  '__dataclass_params__',
  '__dict__',
  '__doc__',
  '__firstlineno__',
  '__module__',
  '__orig_bases__',
  '__parameters__',
  '__static_attributes__',
  '__weakref__',
  '_abc_impl',
}
_PLAIN = (type(None), bool, int, float, complex, str, bytes, type(...))
# What tells things of a kind apart.
_PARTS: dict[type, Callable[[Any], list]] = {
  partial: lambda x: [x.func, x.args, x.keywords],
  functools.cached_property: lambda x: [x.func],
  types.MethodType: lambda x: [x.__self__, x.__func__],
  types.BuiltinFunctionType: lambda x: [x.__qualname__, x.__self__],
  staticmethod: lambda x: [x.__func__],
  classmethod: lambda x: [x.__func__],
  property: lambda x: [x.fget, x.fset],
  contextvars.ContextVar: lambda x: [_content(x.get)],
  np.dtype: lambda x: [str(x)],
  jax.ShapeDtypeStruct: lambda x: [
    x.shape,
    str(x.dtype),
    x.weak_type,
    x.sharding,
  ],
  jax.tree_util.PyTreeDef: lambda x: [x.node_data(), x.children()],
  NamedSharding: lambda x: [x.mesh, str(x.spec)],
  Mesh: lambda x: [
    dict(x.shape),
    str(x.axis_types),
    [(device.platform, device.device_kind) for device in x.devices.flat],
  ],
}
# What JAX makes of a function; all that it was given is in its attributes.
_WRAPPED = (jax.custom_vjp, jax.custom_jvp)


class NoDigestError(ValueError):
  """Something that cannot be told apart for sure."""


def digest(*things: Any) -> str:
  """SHA-256 of functions, networks, arrays, numbers, shapes and trees of them.

  Args:
    *things: What is to be told apart.

  Returns:
    64 hexadecimal digits, the same in every process of one Python.

  Raises:
    NoDigestError: It holds something whose behaviour is not known.
  """
  walk = _Walk()
  try:
    for thing in things:
      walk.tell(thing)
    walk.finish()
  except NoVersionError as error:
    raise NoDigestError(str(error)) from error
  return walk.sha.hexdigest()


class _Walk:
  """Tells everything once; functions, classes and modules by their number."""

  def __init__(self):
    self.sha = hashlib.sha256(platform.python_version().encode())
    self.numbers: dict[int, int] = {}
    self.reached: set[tuple] = set()  # modules, each by the names it was asked
    self.kept = []  # no other object may get the number of one that was told
    self.queue = collections.deque()

  def say(self, *words: Any) -> None:
    for word in words:
      data = word if isinstance(word, bytes) else str(word).encode()
      self.sha.update(b'%d:' % len(data) + data)

  def finish(self) -> None:
    while self.queue:
      thing = self.queue.popleft()
      if isinstance(thing, types.FunctionType):
        self._function(thing)
      else:
        self._class(thing)

  def tell(self, thing: Any) -> None:
    """Tells a value; what it calls comes later, in turn."""
    self.say(type(thing).__name__)
    if isinstance(thing, enum.Enum):
      self.say(type(thing).__qualname__, thing.name)
      self.tell(thing.value)
    elif isinstance(thing, _PLAIN):
      self.say(repr(thing) if not isinstance(thing, bytes) else thing)
    elif isinstance(thing, (types.FunctionType, type)):
      self._later(thing)
    elif not self._container(thing) and not self._object(thing):
      raise NoDigestError(f'{type(thing)} has no digest: {thing!r:.200}')

  def _later(self, thing: Any) -> None:
    known = id(thing) in self.numbers
    self.say(self.numbers.setdefault(id(thing), len(self.numbers)))
    if not known:
      self.kept.append(thing)
      self.queue.append(thing)

  def _all(self, things: Any) -> None:
    things = list(things)
    self.say(len(things))
    for thing in things:
      self.tell(thing)

  def _container(self, thing: Any) -> bool:
    """Whether it was one of things, or of numbers."""
    if isinstance(thing, (tuple, list, collections.deque)):
      things = [type(thing), *thing]
    elif isinstance(thing, Mapping):
      things = [type(thing), *thing, *thing.values()]
    elif isinstance(thing, (set, frozenset)):
      things = [type(thing), *sorted(thing, key=repr)]
    elif isinstance(thing, (np.ndarray, np.generic, jax.Array)):
      self._array(thing)
      return True
    else:
      return False
    self._all(things)
    return True

  def _array(self, array: Any) -> None:
    if isinstance(array, jax.core.Tracer):
      raise NoDigestError(f'{array} is not known before it is computed')
    self.say(array.dtype, array.shape)
    if jax.dtypes.issubdtype(array.dtype, jax.dtypes.prng_key):
      array = jax.random.key_data(array)
    self.say(np.asarray(array).tobytes())

  def _object(self, thing: Any) -> bool:
    """Whether it was one whose parts are known."""
    for kind, parts in _PARTS.items():
      if isinstance(thing, kind):
        self._all(parts(thing))
        return True
    if dataclasses.is_dataclass(thing):
      self._dataclass(thing)
    elif _is_global(thing) and not is_own(thing.__module__):
      self._library(thing.__module__, thing.__qualname__)
    elif isinstance(thing, types.ModuleType):
      self._library(thing.__name__)
    elif isinstance(thing, _WRAPPED):
      given = vars(thing).items()
      self.tell({k: v for k, v in given if not k.startswith('_')})
    elif hasattr(thing, '__wrapped__') and not is_own(type(thing).__module__):
      # Of functools.cache, of jax.jit.
      self.tell(thing.__wrapped__)
    else:
      return _is_typing(thing)  # is for people and type checkers alone
    return True

  def _dataclass(self, thing: Any) -> None:
    if getattr(thing, 'scope', None) is not None:
      raise NoDigestError(f'{type(thing)} has no digest: it has variables')
    self._later(type(thing))
    for field in dataclasses.fields(thing):
      # A network that nobody has bound yet has no parent.
      if field.name != 'parent':
        self.say(field.name)
        self.tell(getattr(thing, field.name, None))

  def _library(self, module: str, *names: str) -> None:
    self.say(module, version(module.partition('.')[0]), *names)

  def _function(self, function: types.FunctionType) -> None:
    module = function.__globals__.get('__name__', '')
    code = function.__code__
    closure = function.__closure__ or ()
    cells = [
      _content(partial(getattr, cell, 'cell_contents')) for cell in closure
    ]
    self._all([cells, function.__defaults__, function.__kwdefaults__])
    if not is_own(module):
      self._library(module, code.co_qualname, code.co_firstlineno)
      return
    self.say(source(function.__globals__.get('__file__')))
    self._all(vars(function).items())
    self._code(code)
    names = sorted(_names(code))
    for name in names:
      if name in function.__globals__:
        self.say(name)
        self._named(function.__globals__[name], names)
      elif name not in builtins.__dict__ and is_own(name):
        self._named(importlib.import_module(name), names)  # imported inside

  def _named(self, value: Any, names: list[str]) -> None:
    """What code that has these names may reach of a global."""
    if not isinstance(value, types.ModuleType) or not is_own(value.__name__):
      self.tell(value)
      return
    reached = (value.__name__, *names)
    if reached in self.reached:
      return
    self.reached.add(reached)
    self.say(value.__name__, source(getattr(value, '__file__', None)))
    for name in names:
      if name in vars(value):
        self.say(name)
        self._named(vars(value)[name], names)

  def _code(self, code: types.CodeType) -> None:
    self.say(code.co_code, code.co_exceptiontable, code.co_flags)
    self._all([code.co_names, code.co_varnames, code.co_freevars])
    for constant in code.co_consts:
      if isinstance(constant, types.CodeType):
        self._code(constant)
      else:
        self.tell(constant)

  def _class(self, kind: type) -> None:
    if not is_own(kind.__module__):
      self._library(kind.__module__, kind.__qualname__)
      return
    self.say(source(file_of(kind.__module__)))
    self._all(kind.__bases__)
    for name in sorted(vars(kind)):
      value = vars(kind)[name]
      if name in _NOT_BEHAVIOUR or _is_made_of_fields(value):
        continue
      self.say(name)
      if not inspect.isdatadescriptor(value) or isinstance(value, property):
        self.tell(value)


def _is_made_of_fields(value: Any) -> bool:
  """Whether it is a method that `dataclasses` or `namedtuple` wrote."""
  function = inspect.unwrap(value) if callable(value) else value
  code = getattr(function, '__code__', None)
  return code is not None and code.co_filename == '<string>'


def _names(code: types.CodeType) -> Iterator[str]:
  """What code reads by name, of globals and of other things."""
  yield from code.co_names
  for constant in code.co_consts:
    if isinstance(constant, types.CodeType):
      yield from _names(constant)


def _content(get: Callable[[], Any]) -> Any:
  """What a cell or a variable holds, None if it is still empty."""
  try:
    return get()
  except (ValueError, LookupError):
    return None


def _is_global(thing: Any) -> bool:
  """Whether its module has it by its name."""
  module = sys.modules.get(getattr(thing, '__module__', None) or '')
  return vars(module or types).get(getattr(thing, '__qualname__', '')) is thing


def _is_typing(thing: Any) -> bool:
  return isinstance(
    thing, (types.GenericAlias, types.UnionType, typing.TypeVar)
  ) or type(thing).__module__ in ('typing', 'collections.abc')
