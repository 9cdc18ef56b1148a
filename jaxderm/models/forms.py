"""Which form of a convolution is traced: ours for the CPU, or that of lax.

XLA on the CPU is slow at depthwise and grouped convolutions, so they are
written there in forms of our own. Accelerators have libraries for them.
"""

import contextlib
import contextvars
import functools
from collections.abc import Iterator

import jax

FORMS = ('cpu', 'lax')
# What of a program YNNPACK gets, if this jaxlib has it: sums.
_YNNPACK = {
  'xla_cpu_experimental_ynn_fusion_type': 'LIBRARY_FUSION_TYPE_REDUCE'
}
_form: contextvars.ContextVar[str | None] = contextvars.ContextVar(
  'form', default=None
)


@contextlib.contextmanager
def use_form(form: str) -> Iterator[None]:
  """Fixes the form of what is traced inside, whatever the platform.

  Args:
    form: 'cpu' or 'lax'.

  Raises:
    ValueError: for another name.
  """
  if form not in FORMS:
    raise ValueError(f'form {form!r}: expected one of {", ".join(FORMS)}')
  token = _form.set(form)
  try:
    yield
  finally:
    _form.reset(token)


def form() -> str:
  """The form to trace: that of the platform unless `use_form` fixes it."""
  fixed = _form.get()
  if fixed is not None:
    return fixed
  return 'cpu' if jax.default_backend() == 'cpu' else 'lax'


def compiler_options() -> dict[str, str] | None:
  """What XLA is told about a program of a network on this platform.

  XLA for the CPU takes barriers out before it fuses. Without them it computes
  the gradient that enters a pool anew for each pixel of a window (a fifth of a
  step of DenseNet121), and what is rematerialised is not.

  It also hands convolutions to YNNPACK, which uses one core of many where a row
  has few columns or few channels, and is slow at gradients of kernels. They go
  to Eigen here, and products of matrices too, which are as fast there: a program
  is read from the cache the sooner, the less of it is YNNPACK's. Sums stay.
  """
  if jax.default_backend() != 'cpu':
    return None
  options = {'xla_disable_hlo_passes': 'cse_barrier_expander'}
  return options | (_YNNPACK if _knows_ynnpack() else {})


@functools.cache
def _knows_ynnpack() -> bool:
  """Whether this jaxlib has that option: an unknown one would be an error."""
  try:
    lowered = jax.jit(lambda: 0).lower()
    lowered.compile(compiler_options=_YNNPACK)
  except jax.errors.JaxRuntimeError:
    return False
  return True
