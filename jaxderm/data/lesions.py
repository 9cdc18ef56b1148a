"""Drawn skin lesions: pigment absorbs light, then hair, gel and lens get in.

Not a model of disease: it gives images on which a network must learn shape,
colour and texture (grey levels of lesion and skin overlap, and hair, vignette
and freckles are as dark), without anybody's data.
"""

import dataclasses
import math

import cv2
import numpy as np

LABELS = ('nevus', 'melanoma', 'seborrheic_keratosis')
SITES = (
  'abdomen',
  'back',
  'chest',
  'face',
  'lower extremity',
  'upper extremity',
)
_SHARES = (0.6, 0.2, 0.2)
_AGES = ((42, 15), (60, 15), (64, 12))  # mean and deviation, years, by label
# How strongly melanin and blood absorb red, green and blue.
_MELANIN = np.float32([0.55, 0.95, 1.25])
_BLOOD = np.float32([0.15, 0.8, 0.7])
_VEIL = np.float32([105, 120, 150])
_FACTS, _LESION, _VIEW = range(3)  # keys of independent random streams


@dataclasses.dataclass(frozen=True)
class Facts:
  """What is known of a picture before it is drawn.

  Attributes:
    lesion: Number of the lesion; of each five pictures, the last shows the
      lesion of the one before.
    label: Index into `LABELS`.
    age: Years; NaN for some.
    sex: 'female', 'male' or, for some, ''.
    site: One of `SITES`.
  """

  lesion: int
  label: int
  age: float
  sex: str
  site: str


def facts(seed: int, index: int) -> Facts:
  """Facts of a picture, a pure function of (seed, index)."""
  lesion = index - 1 if index % 5 == 4 else index
  rng = np.random.default_rng((seed, _FACTS, lesion))
  label = int(rng.choice(3, p=_SHARES))
  age = float(np.clip(5 * round(rng.normal(*_AGES[label]) / 5), 5, 90))
  sex = ('female', 'male')[rng.integers(2)]
  site = SITES[rng.integers(len(SITES))]
  known = rng.random(2) > (0.04, 0.02)
  return Facts(
    lesion, label, age if known[0] else math.nan, sex if known[1] else '', site
  )


def draw(seed: int, index: int, size: int) -> tuple[np.ndarray, np.ndarray]:
  """A picture and its mask, a pure function of the arguments.

  Args:
    seed: Of the data set.
    index: Which picture.
    size: Pixels of each side.

  Returns:
    uint8 `[size, size, 3]`, RGB; uint8 `[size, size]` of 0 and 255.
  """
  about = facts(seed, index)
  lesion = np.random.default_rng((seed, _LESION, about.lesion))
  view = np.random.default_rng((seed, _VIEW, index))
  inside, pigment, blood, veil = _lesion(lesion, about.label, size)
  inside, pigment, blood, veil = _photograph(
    view, size, inside, pigment, blood, veil
  )
  image = _skin(lesion, view, size)
  pigment = pigment + _freckles(lesion, size)
  image = image * np.exp(
    -pigment[..., None] * _MELANIN - blood[..., None] * _BLOOD
  )
  image += veil[..., None] * (_VEIL * image.mean() / 160 - image)
  image = _optics(view, image, size)
  mask = (inside > 0).astype(np.uint8) * np.uint8(255)
  return np.clip(image, 0, 255).astype(np.uint8), mask


def _noise(rng: np.random.Generator, size: int, cells: int) -> np.ndarray:
  """Smooth noise of about unit variance with `cells` bumps along a side."""
  grid = rng.standard_normal((cells + 3, cells + 3), dtype=np.float32)
  grown = cv2.resize(
    grid, None, fx=size / cells, fy=size / cells, interpolation=cv2.INTER_CUBIC
  )
  margin = (grown.shape[0] - size) // 2
  return grown[margin : margin + size, margin : margin + size]


def _plane(size: int) -> tuple[np.ndarray, np.ndarray]:
  """x and y of each pixel; the picture reaches from -1 to 1."""
  axis = (np.arange(size, dtype=np.float32) + 0.5) * (2 / size) - 1
  return np.meshgrid(axis, axis)


def _sigmoid(x: np.ndarray) -> np.ndarray:
  return 1 / (1 + np.exp(-np.clip(x, -30, 30)))


def _outline(rng: np.random.Generator, label: int, size: int):
  """How far each pixel is inside the border, and its radius over the border's.

  An ellipse with waves along its border; a melanoma has more of them.
  """
  x, y = _plane(size)
  turn, stretch = rng.uniform(0, np.pi), rng.uniform(0.7, 1)
  along = x * np.cos(turn) + y * np.sin(turn)
  across = (y * np.cos(turn) - x * np.sin(turn)) / stretch
  radius = np.hypot(along, across)
  angle = np.arctan2(across, along)
  waves = (0.05, 0.12, 0.05)[label] * rng.uniform(0.4, 1.5)
  border = np.ones_like(radius)
  for k in range(2, 8):
    height = waves * rng.normal() * (2 / k) ** 0.7
    border += height * np.cos(k * angle + rng.uniform(0, 2 * np.pi))
  reach = np.exp(rng.uniform(np.log(0.22), np.log(0.8)))
  border = reach * np.maximum(border, 0.4)
  return border - radius, radius / border


def _lesion(rng: np.random.Generator, label: int, size: int):
  """Depth inside the border, pigment, blood and veil, before the camera."""
  inside, relative = _outline(rng, label, size)
  fray = (0.02, 0.04, 0.015)[label] * _noise(rng, size, 14)
  softness = rng.uniform(0.015, (0.09, 0.07, 0.04)[label])
  body = _sigmoid((inside + fray) / softness)
  # About one in four is hardly darker than skin.
  faint = rng.random() < 0.25
  dark = rng.uniform(0.18, 0.4) if faint else rng.uniform(0.45, 1.3)
  dark *= (1.0, 1.2, 0.8)[label]
  patches = (0.15, 0.5, 0.22)[label] * rng.uniform(0.5, 1.3)
  tone = 1 + patches * _noise(rng, size, int(rng.integers(2, 6)))
  tone += rng.uniform(-0.5, 0.4) * (relative - 0.5)
  tone += 0.12 * _noise(rng, size, 16) + _texture(rng, label, size)
  pigment = dark * body * np.clip(tone, 0.1, 2.2)
  blood = 0.15 * body * np.abs(rng.normal(0.5, 0.6))
  halo = np.exp(-((np.maximum(-inside, 0) / 0.12) ** 2))
  blood = blood + halo * max(rng.normal(0.02, 0.12), 0)
  veil = np.zeros_like(body)
  if label == 1 and rng.random() < 0.6:
    patch = _noise(rng, size, 3) - rng.uniform(0.2, 0.9)
    veil = 0.5 * body * _sigmoid(patch / 0.25) * (inside > 0.03)
  return inside, pigment, blood, veil


def _texture(rng: np.random.Generator, label: int, size: int) -> np.ndarray:
  """Pigment network, globules, or the pale cysts of a keratosis."""
  cells = int(rng.integers(18, 34))
  if label == 2:
    cysts = _noise(rng, size, cells) > 2
    soft = cv2.GaussianBlur(cysts.astype(np.float32), (0, 0), size / 150)
    return 0.25 * _noise(rng, size, 30) - 1.2 * soft
  bumps = _noise(rng, size, cells)
  strength = rng.uniform(0, 0.32)
  if rng.random() < 0.6:  # a net: dark where noise changes its sign
    return strength * (1.5 * np.exp(-((bumps / 0.35) ** 2)) - 0.5)
  return strength * (2.5 * _sigmoid((bumps - 1.1) / 0.15) - 0.3)


def _photograph(rng: np.random.Generator, size: int, *layers: np.ndarray):
  """Turns, shifts and scales the lesion before the camera."""
  scale = rng.uniform(0.9, 1.12)
  matrix = cv2.getRotationMatrix2D(
    ((size - 1) / 2, (size - 1) / 2), rng.uniform(-25, 25), scale
  )
  matrix[:, 2] += np.clip(rng.normal(0, 0.05, 2), -0.12, 0.12) * size
  outside = (-1.0, 0.0, 0.0, 0.0)
  return [
    cv2.warpAffine(
      layer.astype(np.float32), matrix, (size, size), borderValue=v
    )
    for layer, v in zip(layers, outside, strict=True)
  ]


def _skin(lesion, view, size: int) -> np.ndarray:
  """Skin in its own tone, unevenly lit, float32 `[S, S, 3]` in 0 to 255."""
  tone = 0.03 + 0.28 * lesion.beta(1.3, 3)
  flush = lesion.uniform(0.1, 0.4)
  light = np.float32([248, 226, 214]) * view.uniform(0.85, 1.02)
  light *= np.exp(view.normal(0, 0.05, 3)).astype(np.float32)
  melanin = tone * (1 + 0.12 * _noise(lesion, size, 5))
  melanin = melanin + 0.012 * _noise(lesion, size, 40)
  red = flush * (1 + 0.2 * _noise(lesion, size, 4))
  red = red + 0.03 * np.abs(_noise(lesion, size, 12))
  absorbed = melanin[..., None] * _MELANIN + red[..., None] * _BLOOD
  x, y = _plane(size)
  slope = view.normal(0, 0.06, 2)
  lit = 1 + slope[0] * x + slope[1] * y
  return (light * np.exp(-absorbed) * lit[..., None]).astype(np.float32)


def _freckles(rng: np.random.Generator, size: int) -> np.ndarray:
  """Small spots of pigment that belong to no lesion."""
  spots = np.zeros((size, size), np.float32)
  if rng.random() < 0.3:
    for _ in range(int(rng.integers(1, 7))):
      centre = rng.integers(0, size, 2).tolist()
      axes = np.maximum(1, size * rng.uniform(0.008, 0.035, 2)).astype(int)
      cv2.ellipse(
        spots, centre, axes.tolist(), rng.uniform(0, 180), 0, 360,
        rng.uniform(0.2, 0.7), -1, cv2.LINE_AA,
      )  # fmt: skip
    spots = cv2.GaussianBlur(spots, (0, 0), size / 100)
  return spots


def _optics(rng: np.random.Generator, image: np.ndarray, size: int):
  """What lies between skin and sensor: hair, ruler, gel, lens, noise."""
  if rng.random() < 0.45:
    image = _hair(rng, image, size)
  if rng.random() < 0.2:
    image = _ruler(rng, image, size)
  if rng.random() < 0.35:
    image = _bubbles(rng, image, size)
  x, y = _plane(size)
  radius = np.hypot(x - rng.normal(0, 0.04), y - rng.normal(0, 0.04))
  image *= (1 - rng.uniform(0, 0.3) * radius**2 / 2)[..., None]
  if rng.random() < 0.25:  # the black ring of the dermoscope
    edge = rng.uniform(0.98, 1.25)
    image *= _sigmoid((edge - radius) / rng.uniform(0.008, 0.03))[..., None]
  image = cv2.GaussianBlur(image, (0, 0), size / 256 * rng.uniform(0.5, 1.4))
  grain = rng.standard_normal(image.shape, dtype=np.float32)
  return image + rng.uniform(0.8, 3) * grain


def _hair(rng: np.random.Generator, image: np.ndarray, size: int):
  """Bent strands, mostly one way, dark or fair."""
  strands = np.zeros((size, size), np.float32)
  way = rng.uniform(0, np.pi)
  t = np.linspace(-1, 1, 14)[:, None]
  for _ in range(int(rng.integers(3, 26))):
    angle = way + rng.normal(0, 0.4)
    along = np.array([np.cos(angle), np.sin(angle)])
    across = along[::-1] * (-1, 1)
    path = rng.uniform(-1, 1, 2) + along * t * rng.uniform(0.3, 1.1)
    path = path + across * t**2 * rng.normal(0, 0.2)
    points = np.round((path + 1) / 2 * size * 16).astype(np.int32)
    width = max(1, round(size / 128 * rng.uniform(0.4, 1.6)))
    cv2.polylines(
      strands, [points], False, rng.uniform(0.5, 0.95), width, cv2.LINE_AA, 4
    )
  fair = rng.random() < 0.15
  colour = np.float32((225, 205, 175) if fair else (48, 34, 30))
  strands = cv2.GaussianBlur(strands, (0, 0), size / 400)[..., None]
  return image + strands * (colour - image)


def _ruler(rng: np.random.Generator, image: np.ndarray, size: int):
  """Marks of a scale along one side."""
  marks = np.zeros((size, size), np.float32)
  step = size * rng.uniform(0.03, 0.06)
  edge = size * rng.uniform(0.88, 0.97)
  width = max(1, round(size / 200))
  for i in range(int(size / step)):
    long = size * (0.06 if i % 5 == 0 else 0.03)
    a = np.array([edge - long, i * step])
    b = np.array([edge, i * step])
    a, b = (np.round(p * 16).astype(int).tolist() for p in (a, b))
    cv2.line(marks, a, b, 0.8, width, cv2.LINE_AA, 4)
  marks = np.rot90(marks, int(rng.integers(4)))[..., None]
  return image + marks * (30 - image)


def _bubbles(rng: np.random.Generator, image: np.ndarray, size: int):
  """Bubbles in the gel and reflections of the lamp."""
  shine = np.zeros((size, size), np.float32)
  for _ in range(int(rng.integers(1, 9))):
    centre = rng.integers(0, size, 2).tolist()
    radius = max(1, int(size * rng.uniform(0.006, 0.035)))
    filled = radius < 0.012 * size
    cv2.circle(
      shine, centre, radius, rng.uniform(0.2, 0.7), -1 if filled else 1,
      cv2.LINE_AA,
    )  # fmt: skip
  shine = cv2.GaussianBlur(shine, (0, 0), size / 256)[..., None]
  return image + shine * (250 - image)
