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
