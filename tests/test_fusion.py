"""Runs fused: weights, refusals, and rows against NumPy's."""

import dataclasses
import json
import shutil

import cv2
import numpy as np
import pytest
import small_runs
from programs import main

from jaxderm import evaluate, experiment, fusion, metrics, train
from jaxderm.ensemble import Ensemble, load
from jaxderm.rows import read_rows

HALVES = np.array([0.5, 0.5])

# ------------------------------------------------------------------ weights


def at(*best):
  """Worth that falls with the squared distance from some weights."""
  return lambda tried: -np.sum((tried - np.array(best)) ** 2, axis=1)


def test_a_line_has_every_step_and_begins_where_it_is():
  tried = fusion.line(HALVES, 0)
  assert tried.shape == (22, 2)
  np.testing.assert_array_equal(tried[0], HALVES)
  np.testing.assert_allclose(
    np.sort(tried[1:, 0]), np.arange(21) / 20, atol=1e-12
  )
  np.testing.assert_allclose(tried.sum(axis=1), 1)
  away = np.abs(tried[:, 0] - 0.5)
  assert (np.diff(away) >= -1e-12).all()


def test_the_others_keep_their_proportions():
  tried = fusion.line(np.array([0.2, 0.6, 0.2]), 2)
  np.testing.assert_allclose(tried.sum(axis=1), 1)
  others = tried[tried[:, 2] < 1]
  np.testing.assert_allclose(others[:, 1] / others[:, 0], 3)
  # From one alone the others share equally.
  tried = fusion.line(np.array([0.0, 1.0, 0.0]), 1)
  np.testing.assert_allclose(tried[:, 0], tried[:, 2])


@pytest.mark.parametrize('best', [(0, 1), (0.35, 0.65), (0.5, 0.5), (1, 0)])
def test_of_two_members_the_best_of_all_pairs(best):
  np.testing.assert_allclose(fusion.search(at(*best), 2), best, atol=1e-12)


def test_of_two_members_each_pair_is_tried_once():
  seen = []

  def worth(tried):
    seen.extend(map(tuple, tried))
    return np.zeros(len(tried))

  np.testing.assert_array_equal(fusion.search(worth, 2), HALVES)
  assert len(set(seen)) == 21 and len(seen) == 22


@pytest.mark.parametrize('best', [(0.1, 0.3, 0.6), (0, 0, 1), (0.7, 0.3, 0)])
def test_of_three_members_near_the_best(best):
  found = fusion.search(at(*best), 3)
  assert found.sum() == pytest.approx(1)
  np.testing.assert_allclose(found, best, atol=0.05)


@pytest.mark.parametrize('count', [2, 3, 4])
def test_where_nothing_is_better_weights_stay_equal(count):
  for value in (1.0, np.nan):
    found = fusion.search(lambda tried, v=value: np.full(len(tried), v), count)
    np.testing.assert_array_equal(found, np.full(count, 1 / count))


def test_of_equally_good_weights_the_nearest():
  def worth(tried):
    return (np.abs(tried[:, 0] - 0.5) > 0.12).astype(float)

  assert fusion.search(worth, 2)[0] in (0.35, 0.65)


# --------------------------------------------------------------------- runs


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
  return tmp_path_factory.mktemp('data')


@pytest.fixture(scope='module')
def runs(data_dir, tmp_path_factory):
  """Config and folder of two runs that have nothing but the data in common.

  The first is trained, the second's variables are random, and it sees lesion
  everywhere; its network, its size and what its input looks like are others.
  """
  root = tmp_path_factory.mktemp('runs')
  first = small_runs.config(data_dir)
  train.train(first, root / 'a')
  second = small_runs.config(data_dir, seed=1)
  second.data.size = 24
  second.data.normalisation = 'unit'
  second.data.colour = 'none'
  second.model.changes = dict(encoder='Plain8', taps=('stage1',), widths=())
  second.evaluate.resamples = 30  # that of the first is used for both
  small_runs.save_untrained(second, root / 'b', bias=2.0)
  return [(first, root / 'a'), (second, root / 'b')]


@pytest.fixture(scope='module')
def trained(runs):
  return [load(*run) for run in runs]


def maps_at_own_size(member, part):
  """float64 [N, 40, 40], by OpenCV alone."""
  found = dict(member.mapper(member.data.parts[part]))
  maps = [found[i][..., 0] for i in range(len(found))]
  return np.stack([cv2.resize(m, (40, 40)) for m in maps]).astype(np.float64)


def truths(member, part):
  examples = member.data.parts[part]
  masks = [examples.record(i)['mask'][..., 0] > 0 for i in range(len(examples))]
  return np.stack(masks)


def counts_of(rows):
  return [[row[k] for k in ('tp', 'fp', 'fn', 'tn')] for row in rows]


def test_the_fused_rows_are_those_of_the_weighted_mean(runs, trained, tmp_path):
  summary = fusion.fuse(runs, tmp_path, weights=['3', '1'])
  mean = (3 * maps_at_own_size(trained[0], 'test')) / 4
  mean += maps_at_own_size(trained[1], 'test') / 4
  expected = metrics.count(mean > 0.5, truths(trained[0], 'test'))
  rows = read_rows(tmp_path / 'rows.csv')
  assert [r['image_id'] for r in rows] == trained[0].image_ids('test')
  expected = np.stack([expected.tp, expected.fp, expected.fn, expected.tn], 1)
  np.testing.assert_array_equal(counts_of(rows), expected)
  # It is neither of them.
  for k, run in enumerate(runs):
    evaluate.evaluate(*run, out=str(tmp_path / str(k)))
    alone = read_rows(tmp_path / str(k) / 'rows.csv')
    assert counts_of(alone) != counts_of(rows)
  assert summary['per_image']['dice'] == pytest.approx(
    np.mean([2 * a / (2 * a + b + c) for a, b, c, _ in expected])
  )


def test_what_was_fused_is_told(runs, tmp_path):
  fusion.fuse(runs, tmp_path, weights=[0.2, 0.8])
  saved = json.loads((tmp_path / 'summary.json').read_text())
  told = saved['run']
  members = [told['members'][str(folder)] for _, folder in runs]
  assert [m['weight'] for m in members] == [0.2, 0.8]
  assert [m['size'] for m in members] == [16, 24]
  assert [m['seed'] for m in members] == [0, 1]
  assert [m['step'] > 0 for m in members] == [True, False]
  assert told['weights'] == {'from': 'given'}
  assert told['part'] == 'test' and len(told['data_hash']) == 64
  assert told['scored_at'] == "each image's own size"
  assert saved['bootstrap']['resamples'] == 20
  text = (tmp_path / 'report.html').read_text()
  assert 'fusion of unet (Plain8) + unet (Plain8)' in text
  assert f'members.{runs[1][1]}.weight' in text
  assert text.count('data:image/png;base64') == 6  # two of each group of 8


def test_a_run_fused_with_a_copy_is_the_run(runs, tmp_path):
  config, folder = runs[0]
  shutil.copytree(folder, tmp_path / 'copy')
  evaluate.evaluate(config, folder, out=str(tmp_path / 'alone'))
  pair = [(config, folder), (config, tmp_path / 'copy')]
  fusion.fuse(pair, tmp_path / 'both')
  alone, both = (
    read_rows(tmp_path / name / 'rows.csv') for name in ('alone', 'both')
  )
  assert alone == both


def test_a_member_of_all_the_weight_is_alone(runs, tmp_path):
  for k, weights in enumerate(([1, 0], [0, 1])):
    evaluate.evaluate(*runs[k], out=str(tmp_path / 'alone'))
    fusion.fuse(runs, tmp_path / 'both', weights=weights)
    alone, both = (
      read_rows(tmp_path / name / 'rows.csv') for name in ('alone', 'both')
    )
    assert alone == both


def test_weights_of_validation_are_the_best_by_brute_force(
  runs, trained, tmp_path
):
  summary = fusion.fuse(runs, tmp_path, weights='validation')
  maps = [maps_at_own_size(m, 'validation') for m in trained]
  true = truths(trained[0], 'validation')
  jaccards = {}
  for w in np.arange(21) / 20:
    counts = metrics.count(w * maps[0] + (1 - w) * maps[1] > 0.5, true)
    jaccards[round(float(w), 2)] = float(metrics.jaccard(counts).mean())
  told = summary['run']
  weight = told['members'][str(runs[0][1])]['weight']
  best = max(jaccards.values())
  assert jaccards[weight] == pytest.approx(best)
  assert best > jaccards[0.5] + 0.01  # else equal weights would do
  about = told['weights']
  assert about['from'] == 'validation'
  assert about['score_of_picked'] == pytest.approx(best)
  assert about['score_of_equal'] == pytest.approx(jaccards[0.5])
  assert about['picked_of'] == len(true)
  assert about['picked_of_scored'] == 0
  # The test images were scored, not those the weights are from.
  assert summary['n_images'] == len(trained[0].image_ids('test'))


def test_noise_is_no_part_of_picking(runs, tmp_path):
  picked = []
  for sigma in (0.0, 0.5):
    settings = runs[0][0].evaluate.copy_and_resolve_references()
    settings.noise = sigma
    summary = fusion.fuse(
      runs, tmp_path, weights='validation', settings=settings
    )
    picked.append(summary['run']['weights'])
    assert summary['run']['noise'] == sigma
  assert picked[0] == picked[1]


def test_weights_picked_on_what_is_scored_are_told(runs, tmp_path, capsys):
  summary = fusion.fuse(
    runs, tmp_path, weights='validation', split='validation'
  )
  count = summary['n_images']
  assert summary['run']['weights']['picked_of_scored'] == count
  told = capsys.readouterr().out
  assert f'picked on {count} of the images that are scored' in told


def test_the_same_on_every_process(trained):
  """What one process holds of each image is in the order of the names."""
  ensemble = Ensemble(trained, [0.5, 0.5])
  names = trained[0].image_ids('test')[::-1]
  found = dict(ensemble(names))
  everywhere = ensemble.everywhere(names)
  assert len(everywhere) == len(names)
  for i, of_members in enumerate(everywhere):
    for a, b in zip(of_members, found[i], strict=True):
      np.testing.assert_array_equal(a, b)


# ----------------------------------------------------------------- refusals


def with_data(member, **changes):
  return dataclasses.replace(
    member, data=dataclasses.replace(member.data, **changes)
  )


def with_part(member, part, names):
  parts = dict(member.data.parts)
  parts[part] = parts[part].with_rows(member.data.index.rows(names))
  return with_data(member, parts=parts)


def test_folds_that_learnt_the_test_images_are_refused(
  runs, trained, data_dir, tmp_path
):
  other = small_runs.config(data_dir, fold=1)
  data = experiment.open_data(other, tmp_path)
  fold = with_data(trained[1], split=data.split, parts=data.parts)
  tested = set(trained[0].image_ids('test'))
  learnt = sorted(set(fold.image_ids('train')) & tested)
  assert 0 < len(learnt) < len(tested)
  told = f'{runs[1][1]} was trained on {len(learnt)} of the {len(tested)} test'
  with pytest.raises(ValueError, match=f'{told}.*first {learnt[0]}'):
    fusion.check([trained[0], fold], 'test')


def test_every_member_is_checked(trained):
  _, second = trained
  names = second.image_ids('train')
  leaky = with_part(second, 'train', [*names, second.image_ids('test')[3]])
  with pytest.raises(ValueError, match=second.image_ids('test')[3]):
    fusion.check([*trained, leaky], 'test')
  fusion.check(trained, 'test')


def test_parts_that_differ_are_refused(trained):
  names = trained[1].image_ids('test')
  fewer = with_part(trained[1], 'test', names[1:])
  with pytest.raises(ValueError, match=f'differ in 1, first {names[0]}'):
    fusion.check([trained[0], fewer], 'test')


def test_training_images_are_refused(trained):
  with pytest.raises(ValueError, match='was trained on (..) of the .. train'):
    fusion.check(trained, 'train')


@pytest.mark.parametrize(
  'changes, told',
  [
    ({'sha256': np.array(['0' * 64] * 40)}, 'other data: synthetic of hash'),
    ({'labels': ('a', 'b', 'c')}, 'other labels: nevus, .*, and a, b, c'),
  ],
)
def test_other_data_is_refused(trained, changes, told):
  index = dataclasses.replace(trained[1].data.index, **changes)
  other = with_data(trained[1], index=index)
  with pytest.raises(ValueError, match=told):
    fusion.check([trained[0], other], 'test')


def with_task(member, name):
  task = dataclasses.replace(member.made.task, name=name)
  made = dataclasses.replace(member.made, task=task)
  return dataclasses.replace(member, made=made)


def test_masks_and_classes_are_not_one_answer(trained):
  other = with_task(trained[1], 'classification')
  with pytest.raises(ValueError, match='other answers: masks, and classes'):
    fusion.check([trained[0], other], 'test')
  # Of a network for pairs one head answers, for one image.
  fusion.check([with_task(trained[0], 'pairwise'), other], 'test')


def test_other_sizes_have_no_common_network(runs, tmp_path):
  settings = runs[0][0].evaluate.copy_and_resolve_references()
  settings.scored_at = 'network'
  with pytest.raises(ValueError, match="are 16, 24. Use 'own'"):
    fusion.fuse(runs, tmp_path, settings=settings)
  alike = [(runs[0][0], runs[0][1]), (runs[0][0], tmp_path / 'copy')]
  shutil.copytree(runs[0][1], tmp_path / 'copy')
  summary = fusion.fuse(alike, tmp_path / 'out', settings=settings)
  assert '16 x 16' in summary['run']['scored_at']
  for counts in counts_of(read_rows(tmp_path / 'out' / 'rows.csv')):
    assert sum(counts) == 16 * 16


@pytest.mark.parametrize(
  'weights',
  [[1], [1, 2, 3], [0, 0], [-1, 2], ['a', 'b'], [float('nan'), 1], 'best', []],
)
def test_wrong_weights_are_told(runs, weights, tmp_path):
  with pytest.raises(ValueError, match="must be 2 numbers.*'validation'"):
    fusion.fuse(runs, tmp_path, weights=weights)


def test_members_are_two_runs_or_more_each_once(runs, tmp_path):
  for members in ([], runs[:1], [runs[0], runs[0]]):
    with pytest.raises(ValueError, match='two or more runs, each once'):
      fusion.fuse(members, tmp_path)


def test_a_run_is_not_written_over(runs):
  before = (runs[0][1] / 'config.json').read_bytes()
  with pytest.raises(ValueError, match='holds a run of its own'):
    fusion.fuse(runs, runs[0][1])
  assert (runs[0][1] / 'config.json').read_bytes() == before


# ------------------------------------------------------------------ classes


def test_probabilities_of_classes_are_fused(data_dir, tmp_path):
  members = []
  for seed in (0, 1):
    config = small_runs.classes(data_dir, seed=seed)
    folder = small_runs.save_untrained(config, tmp_path / f'seed{seed}')
    members.append((config, folder))
  fusion.fuse(members, tmp_path / 'out', weights=[0.3, 0.7])
  tables = []
  for k, member in enumerate(members):
    evaluate.evaluate(*member, out=str(tmp_path / str(k)))
  for name in ('0', '1', 'out'):
    rows = read_rows(tmp_path / name / 'rows.csv', ('label',))
    names = [k for k in rows[0] if k.startswith('p_')]
    assert len(names) == 3
    tables.append(np.array([[row[k] for k in names] for row in rows]))
  first, second, fused = tables
  assert np.abs(first - second).max() > 0.01
  np.testing.assert_allclose(fused, 0.3 * first + 0.7 * second, atol=1e-6)
  summary = fusion.fuse(members, tmp_path / 'out', weights='validation')
  about = summary['run']['weights']
  assert about['picked_by'] == 'average precision, mean of the classes'
  assert about['score_of_picked'] >= about['score_of_equal']


# ------------------------------------------------------- the command line


def test_from_the_command_line(runs, tmp_path):
  """Configs are the members' own; what is wrong is told in one message."""
  folders = ','.join(str(folder) for _, folder in runs)
  how = {'config': None, 'small': False}
  out = tmp_path / 'fused'
  told = main(
    out, '--mode=fuse', f'--members={folders}', '--weights=validation', **how
  )
  assert f'of {runs[1][1]}' in told and 'report: ' in told
  assert {p.name for p in out.iterdir()} == {
    'rows.csv',
    'summary.json',
    'report.html',
  }
  again = fusion.fuse(runs, tmp_path / 'again', weights='validation')
  summary = json.loads((out / 'summary.json').read_text())
  assert summary['per_image'] == again['per_image']
  assert summary['run']['weights'] == again['run']['weights']
  assert '--mode=fuse' in summary['run']['command']


@pytest.mark.parametrize(
  'flags, told',
  [
    (['--mode=fuse'], '--members=FOLDER,FOLDER'),
    (['--mode=evaluate', '--members=a,b'], '--mode=fuse'),
    (['--mode=evaluate', '--weights=mean'], '--weights is for --mode=fuse'),
    (['--mode=fuse', '--members=/no/where,b'], '/no/where/config.json'),
  ],
)
def test_flags_that_do_not_say_enough(flags, told, tmp_path):
  how = {'config': None, 'small': False, 'expect': 2}
  said = main(tmp_path / 'out', *flags, **how)
  assert told in said and 'Traceback' not in said
