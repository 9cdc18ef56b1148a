"""Noise on the images that are scored."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_runs

from jaxderm import ensemble, evaluate
from jaxderm.data import colour, noise, papers, pipeline
from jaxderm.rows import read_rows

IDS = np.array(['a', 'b', 'c'])
GREY = np.full((64, 64, 3), 127, np.uint8)


def drawn(sigma=0.1, seed=0, row=0, image=GREY, ids=IDS):
  return noise.make(ids, sigma, seed)(image, row).astype(int) - image


def test_it_has_the_deviation_asked_for():
  for sigma in (0.05, 0.1):
    added = drawn(sigma)
    assert added.std() == pytest.approx(255 * sigma, rel=0.02)
    assert abs(added.mean()) < 3 * 255 * sigma / np.sqrt(added.size)
  # A Gaussian has 68.27 % within one deviation, and each channel its own.
  assert np.mean(np.abs(added) < 25.5) == pytest.approx(0.6827, abs=0.01)
  channels = np.corrcoef(added.reshape(-1, 3).T)
  assert np.abs(channels[~np.eye(3, dtype=bool)]).max() < 0.05


def test_it_is_a_function_of_the_name_and_the_seed():
  added = drawn()
  np.testing.assert_array_equal(added, drawn())
  # Whatever stands beside the image in the data set.
  np.testing.assert_array_equal(added, drawn(row=1, ids=np.array(['z', 'a'])))
  for other in (drawn(row=1), drawn(seed=1)):
    assert abs(np.corrcoef(added.ravel(), other.ravel())[0, 1]) < 0.05


def test_sigma_scales_it():
  np.testing.assert_allclose(2 * drawn(0.05), drawn(0.1), atol=1.01)
  np.testing.assert_array_equal(drawn(0.0), 0)


def test_it_is_clipped_and_not_wrapped():
  white = np.full_like(GREY, 255)
  noisy = noise.make(IDS, 0.1, 0)(white, 0)
  assert noisy.dtype == np.uint8
  assert np.mean(noisy == 255) == pytest.approx(0.5, abs=0.02)
  assert noisy.min() > 100


@pytest.mark.parametrize('sigma', [-0.1, float('nan'), float('inf')])
def test_wrong_deviations_are_told(sigma):
  with pytest.raises(ValueError, match=r'evaluate\.noise.*\[0, 1\]'):
    noise.check(sigma)


def test_changed_examples_keep_their_change_and_the_rest_has_none():
  records = [
    {'image': GREY, 'mask': np.ones((64, 64, 1), np.uint8), 'label': k}
    for k in range(3)
  ]
  clean = pipeline.Examples(records, np.array([2, 0, 1]), 32)
  noisy = clean.with_change(noise.make(IDS, 0.1, 0))
  alone = noisy.subset([2])
  np.testing.assert_array_equal(noisy[2]['image'], alone[0]['image'])
  assert (noisy[2]['image'] != noisy[0]['image']).any()
  np.testing.assert_array_equal(clean[0]['image'], 127)
  for name in ('mask', 'label', 'valid'):
    np.testing.assert_array_equal(noisy[1][name], clean[1][name])
  np.testing.assert_array_equal(noisy.record(1)['image'], GREY)


# -------------------------------------------------------------------- a run


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  """A config and the folder of a run; its variables are random."""
  root = tmp_path_factory.mktemp('noise')
  config = small_runs.config(root)
  return config, small_runs.save_untrained(config, root / 'run')


def scored(run, out, **settings):
  config = run[0].copy_and_resolve_references()
  config.evaluate.update(settings)
  summary = evaluate.evaluate(config, run[1], out=str(out))
  return summary, read_rows(out / 'rows.csv')


def test_rows_do_not_depend_on_the_batch(run, tmp_path):
  _, clean = scored(run, tmp_path / 'clean')
  summary, rows = scored(run, tmp_path / 'a', noise=0.1)
  _, again = scored(run, tmp_path / 'b', noise=0.1, batch_size=3)
  _, other = scored(run, tmp_path / 'c', noise=0.1, noise_seed=1)
  assert rows == again
  assert rows not in (clean, other)
  assert summary['run']['noise'] == 0.1
  assert summary['run']['noise_seed'] == 0


def test_it_comes_before_colour_constancy_and_normalisation(run):
  config = run[0].copy_and_resolve_references()
  config.evaluate.noise = 0.1
  member = ensemble.load(config, run[1])
  name = member.image_ids('test')[0]
  row = member.data.index.rows([name])[0]
  (_, actual), *_ = member.mapper(member.examples([name]))
  image = member.data.parts['test'].record(0)['image']
  image = pipeline.resize(image, 16)
  rng = np.random.default_rng(papers.lots([name], '0 noise')[0])
  image = np.rint(image + 25.5 * rng.standard_normal(image.shape, np.float32))
  image = np.clip(image, 0, 255)
  seen = colour.grey_world(jnp.asarray(image)[None])
  seen = colour.normalise(seen, 'imagenet_mean')
  variables, _ = ensemble.load_member(member.made, run[1], 'best')
  logits = member.made.network.apply(variables, seen, False)
  expected = jax.nn.sigmoid(logits)[0]
  np.testing.assert_allclose(actual, expected, atol=1e-5)
  assert row == member.data.parts['test'].rows[0]
  clean = member.examples([name], noisy=False)[0]['image']
  assert np.abs(clean.astype(int) - image).mean() > 10


def test_training_and_validation_see_none(run):
  config = run[0].copy_and_resolve_references()
  config.evaluate.noise = 0.1
  member = ensemble.load(config, run[1])
  for part in ('train', 'validation'):
    (name, *_) = member.image_ids(part)
    clean = member.examples([name], noisy=False)[0]['image']
    given = member.data.parts[part][0]['image']
    np.testing.assert_array_equal(given, clean)
