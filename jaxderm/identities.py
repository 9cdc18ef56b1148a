"""What the scores of one set of masks owe each other."""

from collections.abc import Mapping


def jaccard_of(dice):
  """Jaccard (IoU) of one mask, or of pooled counts, from their Dice.

  Args:
    dice: In [0, 1]; a float, a Fraction or an array.
  """
  return dice / (2 - dice)


def check_consistency(
  scores: Mapping[str, Mapping[str, float]], tolerance: float = 1e-12
) -> None:
  """Refuses Dice and Jaccard that no masks could have given.

  On an image, pooled, and in the mean of images or classes, Jaccard is at most
  Dice; pooled it is D / (2 - D); in a mean over images or classes it is at
  least that (Jensen). Papers print figures that break these.

  Args:
    scores: {convention: {'dice': D, 'jaccard': J}}, as shares of 1; what has
      not both is passed over.
    tolerance: What rounding may do: 1e-12 for computed values, 0.01 for
      values printed with two digits.

  Raises:
    ValueError: If a pair is impossible or not finite.
  """
  for convention, pair in scores.items():
    if not isinstance(pair, Mapping):
      continue
    if 'dice' not in pair or 'jaccard' not in pair:
      continue
    d, j = pair['dice'], pair['jaccard']
    told = f'{convention}: Jaccard (IoU) {j!r} with Dice {d!r} is impossible: '
    if not (-tolerance <= d <= 1 + tolerance and j >= -tolerance):
      raise ValueError(told + 'both must be within 0 and 1.')
    if not j <= d + tolerance:
      raise ValueError(told + 'Jaccard cannot exceed Dice.')
    least = jaccard_of(d)
    if not j >= least - tolerance:
      raise ValueError(told + f'it is at least D / (2 - D) = {least:.12g}.')
    if convention == 'pooled' and not j <= least + tolerance:
      raise ValueError(told + f'pooled it is D / (2 - D) = {least:.12g}.')
