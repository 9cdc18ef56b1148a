"""What happens to a batch on the device before the network sees it."""

from collections.abc import Mapping
from functools import partial

import jax.numpy as jnp

from jaxderm.data import augment, colour
from jaxderm.optim import choose
from jaxderm.step import Prepare

COLOURS = {
  'none': lambda image: image,
  'grey_world': partial(colour.grey_world, p=1),
  'shades_of_grey': partial(colour.grey_world, p=6),
}


def make_prepare(
  constancy: str, recipe: Mapping[str, Mapping], normalisation: str
) -> Prepare:
  """Colour constancy, augmentation where there is a key, normalisation.

  Args:
    constancy: A name in `COLOURS`.
    recipe: Augmentations by name with their arguments (data/augment.py).
    normalisation: What the network's weights expect (data/colour.py).

  Returns:
    (batch, key) to batch. uint8 images become float32; a key of None leaves
    out augmentation.

  Raises:
    ValueError: A name or an argument that does not exist.
  """
  balance = choose(COLOURS, constancy, 'data.colour')
  augment.check(recipe)

  def prepare(batch, key):
    image = balance(batch['image'].astype(jnp.float32))
    batch = {**batch, 'image': image}
    if key is not None and recipe:
      batch = augment.augment(key, batch, recipe)
    return {**batch, 'image': colour.normalise(batch['image'], normalisation)}

  return prepare
