"""Drawn lesions as a data set: the same arguments give the same pixels."""

import dataclasses
from pathlib import Path

import cv2

from jaxderm.data import builder, lesions, record


@dataclasses.dataclass(frozen=True)
class Options:
  """What to draw.

  Attributes:
    n: Number of images.
    size: Pixels of each side.
    seed: Another seed gives other lesions.
  """

  n: int = 256
  size: int = 128
  seed: int = 0

  def __post_init__(self):
    for name, least in (('n', 1), ('size', 16), ('seed', 0)):
      value = getattr(self, name)
      if not isinstance(value, int) or value < least:
        raise ValueError(
          f'synthetic: {name} is {value!r}, expected a whole number of at '
          f'least {least}.'
        )


class Synthetic(builder.LesionBuilder):
  """Drawn lesions with masks, labels, ages, sexes, sites and lesion ids."""

  name = 'synthetic'
  LABELS = lesions.LABELS
  LICENCE = 'Drawn by jaxderm; do with them what you like (CC0).'
  HOW_TO_GET = 'Nothing to download: the images are drawn.'
  OPTIONS = Options
  NEEDS_FILES = False

  @classmethod
  def listing(
    cls, root: Path | None = None, options: Options | None = None
  ) -> record.Listing:
    options = options or Options()
    items = [_item(options.seed, i) for i in range(options.n)]
    return record.Listing(None, {'train': items}, cls.LABELS)

  def encode(self, item: record.Item) -> dict:
    image, mask = lesions.draw(
      self.options.seed, item.number, self.options.size
    )
    data = cv2.imencode('.png', cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1]
    return record.make(item, image, mask, data.tobytes(), data.tobytes())


def _item(seed: int, index: int) -> record.Item:
  about = lesions.facts(seed, index)
  # Ids hold the seed, so that two sets of lesions do not look like one.
  return record.Item(
    image_id=f'SYN{seed}_{index:06d}',
    lesion_id=f'SYN{seed}_L{about.lesion:06d}',
    label=about.label,
    age=about.age,
    sex=about.sex,
    site=about.site,
    diagnosis_method='drawn',
    number=index,
  )
