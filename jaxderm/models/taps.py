"""The feature maps that an encoder returns."""

from collections.abc import Sequence

import jax

Array = jax.Array
Pyramid = tuple[Array, ...]  # [B, H, W, C] each, finest first


class Taps:
  """Collects the feature maps that were asked for, in the order they are built.

  An encoder offers each map by name as it is built and returns `features` as
  soon as the offer is answered with True, so nothing after the last wanted map
  is built. An encoder that comes to its end raises `unknown()`.

  Args:
    names: The maps wanted, in any order.

  Raises:
    ValueError: if no name is given.
  """

  def __init__(self, names: Sequence[str]):
    if isinstance(names, str) or not names:
      raise ValueError(f'taps {names!r}: expected a sequence of names')
    self._wanted = set(names)
    self._offered: list[str] = []
    self._features: dict[str, Array] = {}

  def __call__(self, name: str, feature: Array) -> bool:
    """Takes `feature` if it is wanted; True once everything wanted is here."""
    self._offered.append(name)
    if name in self._wanted:
      self._features[name] = feature
    return len(self._features) == len(self._wanted)

  @property
  def features(self) -> Pyramid:
    return tuple(self._features.values())

  def unknown(self) -> ValueError:
    """The error for names that the encoder does not have."""
    missing = sorted(self._wanted - set(self._offered))
    return ValueError(
      f'no tap is called {", ".join(map(repr, missing))}; '
      f'there are: {", ".join(self._offered)}'
    )
