"""The lesion and a margin around it; what lies outside is black (le2020).

The paper segments lesions, grows their masks step by step, and trains on what
is inside. It prints neither radii nor scores: only that scores fall, the less
so the larger the margin.
"""

import cv2
import numpy as np

OFF = -1  # the whole image is shown


def check(radius: int, task: str) -> None:
  """Raises ValueError unless images may be shown so.

  Args:
    radius: Of a config, in pixels at the network's size; -1 is off.
    task: What the network is for.
  """
  # True is a whole number to Python, and no radius.
  if type(radius) is not int or radius < OFF:
    raise ValueError(
      f'data.dilation is {radius!r}; it must be a whole number of pixels at '
      "the network's size, from 0, or -1 for the whole image."
    )
  if radius != OFF and task == 'segmentation':
    raise ValueError(
      f'data.dilation is {radius}, but a network that segments is to find the '
      'lesion in the whole image. Set data.dilation=-1.'
    )


def dilate(mask: np.ndarray, radius: int) -> np.ndarray:
  """Grows a mask by a disc.

  Args:
    mask: uint8 [H, W] of 0 and 1.
    radius: Of the disc, pixels; 0 grows nothing.

  Returns:
    uint8 [H, W]: 1 where the centre of a lesion's pixel is at most that far
    away. An empty mask stays empty.
  """
  if not mask.any():
    return mask  # OpenCV has no distance to nothing
  # Of each pixel to the nearest 0. The ellipses of OpenCV are no exact discs:
  # the one of radius 2 has 17 pixels in place of 13.
  distance = cv2.distanceTransform(1 - mask, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
  return (distance <= radius).astype(np.uint8)


def region(mask: np.ndarray, radius: int, name: str) -> np.ndarray:
  """What is shown of an image.

  Args:
    mask: Of its lesion at the network's size, uint8 [S, S, 1] of 0 and 1.
    radius: Of the disc that it grows by, pixels.
    name: Of the image, for the message.

  Returns:
    uint8 [S, S, 1] of 0 and 1; an image times this is black outside.

  Raises:
    ValueError: There is no lesion: all of the image would be black.
  """
  if not mask.any():
    raise ValueError(
      f'{name}: its mask shows no lesion at {len(mask)} pixels, so that '
      f'data.dilation={radius} would leave a black image. Correct the mask, or '
      'leave the image out (of training: by data.split_file).'
    )
  return dilate(mask[..., 0], radius)[..., None]
