"""One schema for every data set: what a record is, and how a file becomes one."""

import collections
import dataclasses
import hashlib
import io
import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tensorflow_datasets as tfds
from PIL import Image, ImageOps

from jaxderm.data.leaks import perceptual_hash

PICTURES = ('image', 'mask')
# How the names of image files end, in small letters.
SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff')
_TEXTS = ('image_id', 'lesion_id', 'sex', 'site', 'diagnosis_method')
_ORIENTATION = 274  # EXIF tag; 1 is upright


@dataclasses.dataclass(frozen=True)
class Item:
  """One image before it is read.

  Attributes:
    image_id: Unique in the data set.
    image: The file; None where the builder draws it.
    mask: The file, or None if the image has no mask.
    label: Index into the data set's labels; -1 if there is none.
    lesion_id: Images of one lesion share it; '' where lesions are not told.
    age: Years; NaN where missing.
    sex: '' where unknown, as are `site` and `diagnosis_method`.
    site: Where on the body.
    diagnosis_method: How the publisher knows the label.
    number: Which picture, where the builder draws it.
  """

  image_id: str
  image: Path | None = None
  mask: Path | None = None
  label: int = -1
  lesion_id: str = ''
  age: float = math.nan
  sex: str = ''
  site: str = ''
  diagnosis_method: str = ''
  number: int = 0


@dataclasses.dataclass(frozen=True)
class Listing:
  """What lies in a folder.

  Attributes:
    root: Folder that names are relative to.
    splits: Official split to its items; a single 'train' where the publisher
      has no splits.
    labels: Class names.
    tables: Files read besides images and masks.
    notes: What a user should know, such as images that were left out.
  """

  root: Path | None
  splits: dict[str, list[Item]]
  labels: tuple[str, ...]
  tables: tuple[Path, ...] = ()
  notes: tuple[str, ...] = ()

  def __post_init__(self):
    ids = [item.image_id for some in self.splits.values() for item in some]
    twice = [i for i, n in collections.Counter(ids).items() if n > 1]
    if twice:
      raise ValueError(
        f'{self.root}: {len(twice)} images are in two splits: '
        f'{", ".join(sorted(twice)[:5])}. Remove them from one.'
      )

  def files(self) -> list[Path]:
    """Every file that the records are made from."""
    items = [item for items in self.splits.values() for item in items]
    files = [file for item in items for file in (item.image, item.mask)]
    return sorted({*filter(None, files), *self.tables})


def features() -> tfds.features.FeaturesDict:
  """What each record holds; see `encode`."""
  f = tfds.features
  return f.FeaturesDict(
    {
      'image': f.Image(shape=(None, None, 3)),
      'mask': f.Image(shape=(None, None, 1), encoding_format='png'),
      'has_mask': np.int32,
      'label': np.int64,
      'age': np.float32,
      **{name: f.Text() for name in (*_TEXTS, 'sha256', 'phash')},
    }
  )


def _open(path: Path, data: bytes) -> Image.Image:
  """Decodes to the last pixel; PIL, unlike OpenCV, refuses cut-off files."""
  try:
    picture = Image.open(io.BytesIO(data))
    picture.load()
  except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as e:
    raise ValueError(
      f'{path}: cannot be read as an image ({e}). It has {len(data)} bytes and '
      'is probably cut off or not an image; download or copy it again.'
    ) from e
  return picture


def _png(pixels: np.ndarray, *settings: int) -> bytes:
  if pixels.ndim == 3:
    pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
  return cv2.imencode('.png', pixels, settings)[1].tobytes()


def read_image(path: Path) -> tuple[np.ndarray, bytes, bytes]:
  """Reads and checks an image.

  Args:
    path: JPEG, PNG, BMP or whatever else PIL reads.

  Returns:
    Pixels, uint8 `[H, W, 3]`, RGB and upright; the bytes to store, which are
    the file's own where a plain decoder gives those pixels, else a PNG of
    them (BMP, grey, 16-bit, transparent or rotated by EXIF); the file's bytes.

  Raises:
    ValueError: It cannot be decoded completely.
  """
  data = path.read_bytes()
  picture = _open(path, data)
  if picture.mode.startswith(('I', 'F')):
    raise ValueError(
      f'{path}: has {picture.mode!r} pixels, expected 8 bits per channel. Save '
      'it as an 8-bit RGB image.'
    )
  deep = picture.format == 'PNG' and data[24] > 8  # bits per sample, in IHDR
  plain = (
    picture.format in ('JPEG', 'MPO', 'PNG')
    and picture.mode == 'RGB'
    and 'transparency' not in picture.info
    and picture.getexif().get(_ORIENTATION, 1) == 1
    and not deep
  )
  if not plain:
    picture = ImageOps.exif_transpose(picture).convert('RGB')
  pixels = np.asarray(picture)
  return pixels, data if plain else _png(pixels), data


def read_mask(path: Path) -> np.ndarray:
  """Reads and checks a mask.

  Args:
    path: Values 0 and 1 or 0 and 255, 1-bit, or RGB with equal channels.

  Returns:
    uint8 `[H, W]` of 0 and 255.

  Raises:
    ValueError: It cannot be decoded, has colours or more than two values.
  """
  picture = ImageOps.exif_transpose(_open(path, path.read_bytes()))
  if picture.mode == 'P':
    picture = picture.convert('RGB')
  pixels = np.asarray(picture)
  if pixels.dtype == bool:
    pixels = pixels * np.uint8(255)
  if pixels.ndim == 3:
    alpha = picture.mode.endswith('A')
    channels = pixels[..., :-1] if alpha else pixels
    pixels = channels[..., 0]
    if (channels != pixels[..., None]).any():
      raise ValueError(
        f'{path}: is a colour image (its channels differ), expected a mask of '
        'two values, 0 off and 255 on the lesion.'
      )
  values = np.unique(pixels)
  if not ({*values.tolist()} <= {0, 1} or {*values.tolist()} <= {0, 255}):
    shown = ', '.join(map(str, values[:6].tolist()))
    more = f', ... ({len(values)} values)' if len(values) > 6 else ''
    raise ValueError(
      f'{path}: a mask has the values 0 and 1 or 0 and 255, this one has '
      f'{shown}{more}. The usual reason is that it was saved as JPEG, which '
      'blurs borders: use the original PNG, or threshold it at 128 yourself.'
    )
  return (pixels > 0) * np.uint8(255)


def read_mask_of(path: Path, image: Path, size: tuple[int, int]) -> np.ndarray:
  """Reads and checks the mask of an image.

  Args:
    path: Of the mask; see `read_mask`.
    image: Of the image, for messages.
    size: Height and width of the image.

  Returns:
    uint8 `[H, W]` of 0 and 255.

  Raises:
    ValueError: `read_mask` refuses it, or it is not of the image's size.
  """
  mask = read_mask(path)
  if mask.shape != size:
    sizes = [f'{w} x {h}' for h, w in (size, mask.shape)]
    raise ValueError(
      f'{path}: the mask is {sizes[1]} pixels and its image {image} is '
      f'{sizes[0]}; they must be of one size. Resize neither by hand: take '
      'both from the same download.'
    )
  return mask


def make(
  item: Item,
  pixels: np.ndarray,
  mask: np.ndarray | None,
  stored: bytes,
  source: bytes,
) -> dict[str, Any]:
  """A record, as tfds stores it.

  Args:
    item: Where it comes from.
    pixels: uint8 `[H, W, 3]`, RGB.
    mask: uint8 `[H, W]` of 0 and 255, or None: one black pixel is stored.
    stored: Encoded image to store.
    source: Bytes of the publisher's file.

  Returns:
    Values of `features`.
  """
  empty = np.zeros((1, 1), np.uint8)
  return {
    **{name: getattr(item, name) for name in (*_TEXTS, 'label', 'age')},
    'lesion_id': item.lesion_id or item.image_id,
    'image': stored,
    'mask': _png(empty if mask is None else mask, cv2.IMWRITE_PNG_BILEVEL, 1),
    'has_mask': int(mask is not None),
    'sha256': hashlib.sha256(source).hexdigest(),
    'phash': np.packbits(perceptual_hash(pixels)).tobytes().hex(),
  }


def encode(item: Item) -> dict[str, Any]:
  """Reads, checks and hashes one item's files; the record, as tfds stores it.

  Raises:
    ValueError: A file is damaged, a mask has more than two values, or the
      sizes of image and mask differ.
  """
  pixels, stored, source = read_image(item.image)
  mask = None
  if item.mask is not None:
    mask = read_mask_of(item.mask, item.image, pixels.shape[:2])
  return make(item, pixels, mask, stored, source)
