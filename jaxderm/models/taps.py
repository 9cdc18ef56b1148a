"""The feature maps that an encoder returns."""

from collections.abc import Iterator, Sequence

import flax.linen as nn
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


class Encoder(nn.Module):
  """What all encoders are: image to pyramid.

  A family has the fields `taps` (the names of the maps wanted), `origin` where
  two libraries differ, `classes` where its publisher has a classifier (the tap
  'predictions'), and `normalisation`, which is what its input must look like;
  and it writes `features`.
  """

  @nn.compact
  def __call__(
    self, image: Array, train: bool = False
  ) -> Pyramid | dict[str, Array]:
    """Computes the maps in `taps`, or all by name if `taps` is None.

    Args:
      image: [B, H, W, 3], normalised as `normalisation` says.
      train: Whether batches are normalised by themselves and dropout is on.

    Returns:
      [B, h, w, C] each, finest first; nothing is built after the last of them.

    Raises:
      ValueError: for a tap that does not exist; lists those that do.
    """
    if self.taps is None:
      return dict(self.features(image, train))
    wanted = Taps(self.taps)
    # A generator builds no layer before it is asked for what comes of it.
    for name, x in self.features(image, train):
      if wanted(name, x):
        return wanted.features
    raise wanted.unknown()

  @nn.nowrap
  def features(self, image: Array, train: bool) -> Iterator[tuple[str, Array]]:
    """Yields every map that has a name, in the order they are built."""
    raise NotImplementedError
