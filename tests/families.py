"""A member of each family of encoders: what it has, the others have too."""

import pytest

from jaxderm.models import encoders

FAMILIES = {}  # their names by the class that they share
for _name in encoders.__all__:
  FAMILIES.setdefault(type(getattr(encoders, _name)()), []).append(_name)
# NASNetLarge alone takes as long as ten others.
FIRST = tuple(
  next(name for name in members if name != 'NASNetLarge')
  for members in FAMILIES.values()
)


def member(name, *values):
  """A case of a test: slow, but for the first of each family."""
  marks = [] if name in FIRST else [pytest.mark.slow]
  return pytest.param(name, *values, marks=marks)


EVERY = [member(name) for name in encoders.__all__]
