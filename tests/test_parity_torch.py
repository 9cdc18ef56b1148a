"""Our encoders against torchvision and timm, on weights that both take.

Where torch is installed, against itself; everywhere, against the values that
it gave when `scripts/make_golden.py` was run.
"""

import pathlib

import numpy as np
import parity
import pytest
import torch_members

GOLDEN = pathlib.Path(__file__).parent / 'golden'
by_row = pytest.mark.parametrize(
  'member', torch_members.MEMBERS, ids=lambda m: f'{m.library}-{m.name}'
)


@by_row
def test_features_equal_the_golden_ones(member):
  encoder, variables, image = torch_members.drawn(member)
  found = torch_members.apply(encoder, variables, image)
  with np.load(GOLDEN / member.golden) as golden:
    assert set(golden) == set(member.taps)
    for tap, feature in zip(member.taps, found, strict=True):
      assert np.std(golden[tap]) > 0.05
      np.testing.assert_allclose(
        torch_members.samples(feature),
        golden[tap],
        rtol=0,
        atol=1e-4 * max(1.0, float(np.std(golden[tap]))),
        err_msg=f'{tap} of {member.name}',
      )


@by_row
def test_features_equal_those_of_torch(member):
  pytest.importorskip('torch')
  encoder, variables, image = torch_members.drawn(member)
  expected = torch_members.reference(member, variables, image)
  found = torch_members.apply(encoder, variables, image)
  parity.assert_features(found, expected, member.taps, member.name)


def test_every_golden_file_has_a_member():
  names = {member.golden for member in torch_members.MEMBERS}
  assert {path.name for path in GOLDEN.glob('*_*.npz')} == names
