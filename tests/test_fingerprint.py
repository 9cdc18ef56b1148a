"""A digest changes with whatever would change a program, and else does not."""

import collections
import contextvars
import enum
import functools
import importlib
import os
import subprocess
import sys
import textwrap

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from test_step import Net

from jaxderm import fingerprint, mask_losses, optim, step, systems, task
from jaxderm.fingerprint import digest
from jaxderm.models import conv3x3, forms, layers, norm, winograd

FACTOR = 2.0
MODE = contextvars.ContextVar('mode', default=1)
IMAGE = np.arange(4.0)


class Colour(enum.Enum):
  RED = 1
  BLUE = 2


class Scaled(nn.Module):
  by: float = 1.0

  @nn.compact
  def __call__(self, x):
    return helper(x) * self.by


def helper(x):
  return x + FACTOR


@functools.cache
def remembered():
  return FACTOR


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def square(x, n):
  return x**n


square.defvjp(lambda x, n: (x**n, x), lambda n, x, g: (n * x ** (n - 1) * g,))


def uses_all(x, scale=1.0, *, shift=0.0):
  def inner(x):
    return helper(x) * scale + shift

  return square(inner(x), 2) + remembered() + MODE.get()


def closure(value):
  return lambda x: x * value


def planted(name, value):
  """What to replace in this module, by name."""
  return pytest.param(sys.modules[__name__], name, value, id=name)


@pytest.mark.parametrize(
  'owner, name, value',
  [
    planted('FACTOR', 3.0),
    planted('helper', lambda x: x - FACTOR),
    planted('MODE', contextvars.ContextVar('mode', default=2)),
    planted('remembered', lambda: 2.5),
    pytest.param(square, 'bwd', lambda n, x, g: (g,), id='gradient'),
    pytest.param(square, 'nondiff_argnums', (0,), id='nondiff_argnums'),
    pytest.param(uses_all, '__defaults__', (2.0,), id='default'),
    pytest.param(uses_all, '__kwdefaults__', {'shift': 1.0}, id='keyword'),
  ],
)
def test_what_a_function_reaches_counts(monkeypatch, owner, name, value):
  before = digest(uses_all)
  assert digest(uses_all) == before
  monkeypatch.setattr(owner, name, value)
  assert digest(uses_all) != before
  monkeypatch.undo()
  assert digest(uses_all) == before


def test_an_attribute_counts(monkeypatch):
  before = digest(uses_all)
  monkeypatch.setattr(helper, 'factor', 2, raising=False)
  assert digest(uses_all) != before


def test_a_context_counts():
  before = digest(uses_all)
  token = MODE.set(5)
  try:
    assert digest(uses_all) != before
  finally:
    MODE.reset(token)


@pytest.mark.parametrize(
  'one, other',
  [
    (1, 1.0),
    (1, True),
    (0.0, -0.0),
    ('1', 1),
    ((1, 2), [1, 2]),
    (((1,), 2), (1, (2,))),
    ({'a': 1, 'b': 2}, {'a': 2, 'b': 1}),
    ({1, 2}, {1, 3}),
    (Colour.RED, Colour.BLUE),
    (collections.OrderedDict(a=1), {'a': 1}),
    (IMAGE, IMAGE.astype('f')),
    (IMAGE, IMAGE.reshape(2, 2)),
    (IMAGE, IMAGE + np.eye(4)[0]),
    (jnp.ones(2), jnp.zeros(2)),
    (jax.random.key(0), jax.random.key(1)),
    (jax.ShapeDtypeStruct((2,), 'f'), jax.ShapeDtypeStruct((3,), 'f')),
    (jax.ShapeDtypeStruct((2,), 'f'), jax.ShapeDtypeStruct((2,), 'i')),
    (closure(1.0), closure(2.0)),
    (closure(IMAGE), closure(IMAGE + 1)),
    (closure(helper), closure(uses_all)),
    (functools.partial(helper, 1), functools.partial(helper, 2)),
    (functools.partial(helper, x=1), functools.partial(helper, y=1)),
    (Scaled(), Scaled(by=2.0)),
    (Scaled().__call__, Scaled(by=2.0).__call__),
    (Scaled, Net),
    (nn.relu, nn.relu6),
    (jnp.sin, jnp.cos),
    (optax.adam(1e-3), optax.adam(1e-4)),
    (optax.adam(1e-3), optax.adam(1e-3, b1=0.8)),
    (jax.tree.structure({'a': 1}), jax.tree.structure({'b': 1})),
    (lambda x: x + 1, lambda x: x + 2),
    (lambda x: x + 1, lambda x: x - 1),
    (lambda x: x.sum(), lambda x: x.min()),
  ],
)
def test_values_are_told_apart(one, other):
  assert digest(one) == digest(one)
  assert digest(other) == digest(other)
  assert digest(one) != digest(other)
  assert digest(one, other) != digest(other, one)


def make_update(**changes):
  """A training step, as a run has it, of things that `changes` replace."""
  made = {
    'network': systems.build('yang2021/UNet', encoder='MobileNetV2'),
    'loss': {'name': 'bce_dice'},
    'rate': 0.01,
    'steps': 10,
    'precision': 'float32',
  } | changes
  schedule = optim.make_schedule('cosine', made['rate'], made['steps'])
  return step.make_update(
    made['network'],
    task.segmentation(made['loss']),
    optim.make_optimizer('adam', schedule=schedule),
    lambda batch, key: batch,
    precision=made['precision'],
  )


@pytest.mark.parametrize(
  'changes',
  [
    {'network': systems.build('yang2021/UNet')},
    {'network': systems.build('yang2021/UNet', encoder='ResNet18')},
    {'loss': {'name': 'bce_dice', 'alpha': 2.0}},
    {'loss': {'name': 'bce'}},
    {'rate': 0.02},
    {'steps': 11},
    {'precision': 'bfloat16'},
  ],
  ids='-'.join,
)
def test_what_a_config_says_counts(changes):
  assert digest(make_update()) == digest(make_update())
  assert digest(make_update(**changes)) != digest(make_update())


def patched_norm(self, x, train=False):
  return x


@pytest.mark.parametrize(
  'owner, name, value',
  [
    (winograd, '_PRODUCTS', 1),
    (conv3x3, '_lax', lambda *args: None),
    (norm, '_sums', lambda *args: None),
    (layers.BatchNorm, '__call__', patched_norm),
    (forms, '_form', contextvars.ContextVar('form', default='lax')),
    (mask_losses, '_PIXELS', (1, 2)),
  ],
  ids=lambda v: v if isinstance(v, str) else getattr(v, '__name__', ''),
)
def test_what_a_step_reaches_counts(monkeypatch, owner, name, value):
  if not hasattr(owner, name):
    pytest.fail(f'{owner.__name__} has no {name} any more')
  update = make_update()
  before = digest(update)
  monkeypatch.setattr(owner, name, value)
  assert digest(update) != before


SCRIPT = """
import sys
from test_fingerprint import make_update, uses_all
from jaxderm.fingerprint import digest
print(digest(make_update()), digest(uses_all))
"""


def test_every_process_has_the_same():
  def said(seed):
    environment = os.environ | {'PYTHONHASHSEED': seed}
    return subprocess.run(
      [sys.executable, '-c', SCRIPT],
      env=environment | {'PYTHONPATH': os.path.dirname(__file__)},
      capture_output=True,
      check=True,
      text=True,
    ).stdout.split()

  assert said('1') == said('2') == [digest(make_update()), digest(uses_all)]


def test_a_file_that_changed_counts(tmp_path, monkeypatch):
  """Also where no code object has it: what a decorator was told."""
  source = """
    import functools, jax
    @functools.partial(jax.jit, static_argnums={n})
    def function(x, y):
      return x
    """
  path = tmp_path / 'of_a_user.py'
  monkeypatch.syspath_prepend(tmp_path)
  digests = []
  for n in (0, 1, 0):
    path.write_text(textwrap.dedent(source.format(n=n)))
    sys.modules.pop('of_a_user', None)
    importlib.invalidate_caches()
    digests.append(digest(importlib.import_module('of_a_user').function))
  assert digests[0] == digests[2] != digests[1]
  monkeypatch.delitem(sys.modules, 'of_a_user')


class Stranger:
  """No dataclass: what is in it may be anything."""

  __name__ = __qualname__ = 'Stranger'


@pytest.mark.parametrize(
  'thing', [Stranger(), iter([1]), closure(Stranger()), {'a': [object()]}]
)
def test_what_is_not_known_has_none(thing):
  with pytest.raises(fingerprint.NoDigestError, match='has no digest'):
    digest(thing)


def test_a_traced_value_has_none():
  def traced(x):
    with pytest.raises(fingerprint.NoDigestError, match='before it is'):
      digest(lambda y: x + y)
    return x

  jax.jit(traced)(1.0)


def test_a_network_with_variables_has_none():
  bound = Scaled().bind({'params': {'kernel': 1.0}})
  with pytest.raises(fingerprint.NoDigestError, match='it has variables'):
    digest(bound)


def test_every_system_has_one_of_its_own():
  """Else its programs would be traced by each process, and nobody would know."""
  known = {}
  for name in systems.SYSTEMS:
    network = systems.build(name)
    known.setdefault(digest(network, network.apply), []).append(name)
  # Those of two papers may be the same network.
  alike = [set(names) for names in known.values() if len(names) > 1]
  print(alike)
  for names in alike:
    first, *others = (systems.build(name) for name in names)
    assert all(first == other for other in others), names
