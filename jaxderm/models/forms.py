"""Which form of a convolution is traced: ours for the CPU, or that of lax.

XLA on the CPU is slow at depthwise and grouped convolutions, so they are
written there in forms of our own. Accelerators have libraries for them.
"""

import contextlib
import contextvars
from collections.abc import Iterator

import jax

FORMS = ('cpu', 'lax')
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
  """What XLA is told about a program of gradients.

  XLA for the CPU takes barriers out before it fuses. Without them it computes
  the gradient that enters a pool anew for each pixel of a window (a fifth of a
  step of DenseNet121), and what is rematerialised is not.
  """
  if jax.default_backend() != 'cpu':
    return None
  return {'xla_disable_hlo_passes': 'cse_barrier_expander'}
