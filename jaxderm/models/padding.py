"""Padding of a convolution or a pool, by name or by its sides, as its sides."""

from collections.abc import Sequence

from jax import lax

Padding = str | Sequence[tuple[int, int]]
Pads = tuple[tuple[int, int], tuple[int, int]]


def explicit(
  padding: Padding, size: Sequence[int], window: Sequence[int], stride: int
) -> Pads:
  """((top, bottom), (left, right)).

  Args:
    padding: the same, 'SAME' or 'VALID'.
    size: height and width of the map.
    window: height and width of the kernel.
    stride: along both.
  """
  if isinstance(padding, str):
    padding = lax.padtype_to_pads(size, window, (stride, stride), padding)
  (top, bottom), (left, right) = padding
  return (int(top), int(bottom)), (int(left), int(right))
