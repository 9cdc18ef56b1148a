"""Tables of the papers: what they compare, what is printed, what is ours."""

import csv
import dataclasses
import json
import sys

import numpy as np
import pytest
from conftest import real_data
from made_rows import row as image
from programs import ROOT

from jaxderm import class_metrics, evaluate, metrics, rows, systems
from jaxderm.tables import plans, printed, render, results, runs
from jaxderm.tables.__main__ import main
from jaxderm.tables.plan import Plan, Row

EVERY = [
  pytest.param(paper, table, plan, data, id=f'{paper}-{table}-{data}')
  for paper, tables in plans.PLANS.items()
  for table, plan in tables.items()
  for data in plan.configs
]
SHARED = {
  'yang2021': '000',
  'wei2020': '001',
  'do2022': '002',
  'zarrin2025': '003',
  'le2020': '004',
}
# Transcribed with a system in each column; ours has a line for each.
TURNED = ('do2022-5', 'do2022-6', 'do2022-7', 'do2022-A5')


def setting(tmp_path, **values):
  return runs.Setting(configs=ROOT / 'configs', out=tmp_path, **values)


# -------------------------------------------------------------- what is printed


@pytest.mark.parametrize('paper, table, plan, data', EVERY)
def test_every_row_is_printed(paper, table, plan, data):
  lines = printed.lines(paper, table, plan, data)
  for row in plan.rows:
    for heading in plan.scores:
      assert 0 < float(lines[row.printed].score(row, heading)) <= plan.scale


@pytest.mark.parametrize('paper', SHARED)
def test_what_is_printed_is_what_was_transcribed(paper):
  folder = real_data('.').resolve().parent / 'papers' / 'tables'
  if not folder.exists():
    pytest.skip(f'needs the transcribed tables in {folder}')
  for table in plans.PLANS[paper]:
    (path,) = folder.glob(f'{SHARED[paper]}_table{table}_*.csv')
    with path.open() as file:
      heading, *lines = csv.reader(file)
    if f'{paper}-{table}' in TURNED:
      named = [] if heading[0] == 'Model' else [['Model', 'Accuracy']]
      turned = map(list, zip(heading, *lines, strict=True))
      heading, *lines = [*named, *turned]
    columns = printed.read(paper, table)
    assert list(columns) == heading
    assert [list(x) for x in zip(*columns.values(), strict=True)] == lines


def test_impossible_lines_are_marked():
  plan = plans.PLANS['yang2021']['4']
  lines = printed.lines('yang2021', '4', plan, 'ph2')
  marked = {r.printed for r in plan.rows if lines[r.printed].reasons}
  assert marked == {'HRNeT', 'UNet++', 'XceptionUNet++', 'EfficientUNet++'}
  table = render.records(plan, lines, [(row, {}) for row in plan.rows])
  notes = {record['system']: record['note'] for record in table}
  assert 'IoU' in notes['HRNeT']
  assert notes['U-Net'] == ''


def test_a_line_of_several_results_is_marked_where_it_breaks():
  reasons = [(('BCE_mIoU', 'BCE_mDice'), 'because')]
  line = printed.Line({'BCE_mIoU': '80', 'AdaEXP_mIoU': '81'}, reasons)
  bce, _, _, adapt = plans.PLANS['zarrin2025']['7'].rows[:4]
  assert line.doubts(bce, ['mIoU', 'mDice']) == 'because'
  assert line.doubts(adapt, ['mIoU', 'mDice']) == ''
  assert line.score(adapt, 'mIoU') == '81'


# ------------------------------------------------------------- what is compared


@pytest.mark.parametrize('paper, table, plan, data', EVERY)
def test_every_row_has_a_config_and_a_system(
  paper, table, plan, data, tmp_path
):
  recipes = set()
  both = setting(tmp_path, seeds=(0, 1), folds=(0, 1))
  for row in plan.rows:
    for name in ('paper', 'honest'):
      configs, members = runs._members(plan, row, paper, data, name, both)
      for config in configs:
        assert config.model.system in systems.SYSTEMS
        assert config.data.name == data
      assert len({len(m) for m in members}) == 1
      folders = tuple(folder for m in members for _, folder in m)
      recipes.add((folders, str(configs[0].evaluate)))
  assert len(recipes) == 2 * len(plan.rows)


def test_tables_share_runs(tmp_path):
  """The last line of table 9 is the last of table 8; noise changes no run."""
  folders = {}
  for table, i in (('8', 4), ('9', 3), ('10', 2), ('8', 0)):
    plan = plans.PLANS['zarrin2025'][table]
    ((folder, done),) = runs.needed(
      plan, plan.rows[i], 'zarrin2025', 'ph2', 'paper', setting(tmp_path)
    )
    assert not done
    folders[table, i] = folder
  assert len(set(folders.values())) == 2
  assert folders['8', 4] == folders['9', 3] == folders['10', 2]


def test_folds_where_there_are_no_official_test_images(tmp_path):
  made = setting(tmp_path, seeds=(3, 4), folds=(0, 1, 2))
  names = {}
  for paper, table, data in (
    ('yang2021', '4', 'ph2'),
    ('wei2020', '8', 'isic2016_part1'),
  ):
    plan = plans.PLANS[paper][table]
    for name in ('paper', 'honest'):
      needed = runs.needed(plan, plan.rows[0], paper, data, name, made)
      names[data, name] = [folder.name for folder, _ in needed]
  assert names['ph2', 'paper'] == ['seed3', 'seed4']
  assert names['ph2', 'honest'] == ['fold0', 'fold1', 'fold2']
  assert names['isic2016_part1', 'honest'] == ['seed3', 'seed4']


@pytest.mark.parametrize(
  'program, expected',
  [
    ('/x/jaxderm/tables/__main__.py', 'python -m jaxderm.tables'),
    ('/x/jaxderm/main.py', 'python -m jaxderm.main'),
    ('/x/jaxderm/scripts/other.py', '/x/jaxderm/scripts/other.py'),
  ],
)
def test_a_summary_says_how_it_was_made(program, expected, monkeypatch):
  monkeypatch.setattr(sys, 'argv', [program, '--table=4'])
  assert evaluate._command() == f'{expected} --table=4'


@pytest.mark.parametrize(
  'arguments, message',
  [
    (('yang2022', '4', None), "paper 'yang2022': expected one of yang2021"),
    (('yang2021', '9', None), "--table '9': expected one of 2, 3, 4, 5"),
    (('zarrin2025', '7', None), 'isic2018_task1, isic2017_part1, ph2; choose'),
    (('yang2021', '4', 'ham10000'), 'table 4 of yang2021 is of ph2'),
  ],
)
def test_a_table_that_does_not_exist(arguments, message):
  with pytest.raises(ValueError, match=message):
    plans.find(*arguments)


# ---------------------------------------------------------- what is made of runs


def test_mean_deviation_and_interval_over_members():
  """Dice 1 and 1/2 in one fold, 0 in the other: means 3/4 and 0."""
  plan = Plan('', {}, (), {'Dice': 'per_image.dice'}, scale=100)
  tables = [
    [image('a', tp=4, tn=4), image('b', tp=1, fp=2, tn=4)],
    [image('c', fp=4, fn=4)],
  ]
  summaries = [
    {'per_image': {'dice': 0.75}, 'bootstrap': {'resamples': 200}},
    {'per_image': {'dice': 0.0}, 'bootstrap': {'resamples': 200}},
  ]
  found = results.combine(plan, tables, summaries, metrics.summarise)[
    'per_image.dice'
  ]
  mean, deviation, low, high = found
  assert mean == pytest.approx(0.375)
  assert deviation == pytest.approx(np.std([0.75, 0], ddof=1))
  assert 0 <= low < 0.5 < high <= 1  # around 1/2, the mean of three images
  row = Row('it')
  result = results.Result({'per_image.dice': found}, members=2, parameters=1234)
  lines = {'it': printed.Line({'Dice': '93.1'})}
  table = render.records(plan, lines, [(row, {'paper': result})])
  assert [record['Dice'] for record in table] == ['93.1', '37.5']
  page = render.to_markdown(plan, table).splitlines()
  assert page[2].startswith('| it | printed | 93.1 |')
  assert page[3].startswith('| it | paper | 37.5 ± 53.03 [')
  assert '| 1,234 |' in page[3]
  alone = results.combine(plan, tables[:1], summaries[:1], metrics.summarise)[
    'per_image.dice'
  ]
  assert alone[1] is None


def test_scores_of_classes_over_members():
  """Right once of two and twice of two; nobody has the class 'c'."""
  plan = Plan('', {}, (), {'Acc': 'scores.accuracy', 'c': 'per_class.c.recall'})
  tables = [
    [guess('x', 'a', 0.9), guess('y', 'b', 0.9)],
    [guess('x', 'a', 0.9), guess('y', 'b', 0.2)],
  ]
  summaries = [class_metrics.summarise(t, resamples=50) for t in tables]
  found = results.combine(plan, tables, summaries, class_metrics.summarise)
  mean, deviation, low, high = found['scores.accuracy']
  assert mean == 0.75
  assert deviation == pytest.approx(np.sqrt(1 / 8))
  assert (low, high) == (0.5, 1)  # x is right twice, y once
  assert found['per_class.c.recall'] == (None, None, None, None)
  made = results.Result(found)
  lines = {'it': printed.Line({'Acc': '0.9', 'c': '0.8'})}
  table = render.records(plan, lines, [(Row('it'), {'honest': made})])
  assert [record['c'] for record in table] == ['0.8', '']


def write_classes(folder, share):
  """A folder of a scored run: two images, of which y may be right."""
  table = [guess('x', 'a', 0.9), guess('y', 'b', share)]
  summary = class_metrics.summarise(table, resamples=50)
  folder.mkdir()
  rows.write_rows(folder / 'rows.csv', table, ('label',))
  (folder / 'summary.json').write_text(json.dumps(summary))
  told = [{'kind': 'train', 'images_per_second': v} for v in (1, 8)]
  lines = '\n'.join(json.dumps(line) for line in told)
  (folder / 'metrics.jsonl').write_text(lines)
  return folder


def test_a_row_of_classes_is_read_from_its_folders(tmp_path):
  plan = Plan('', {}, (), {'Acc': 'scores.accuracy'})
  folders = [write_classes(tmp_path / 'a', 0.9)]
  folders.append(write_classes(tmp_path / 'b', 0.2))
  network = systems.build('wei2020/SqueezeNet')
  made = results.together(plan, [network], 32, folders, folders)
  assert made.scores['scores.accuracy'][0] == 0.75  # y is right in the second
  assert (made.members, made.images, made.speed) == (2, 2, 8)
  assert made.parameters == 1_237_498


def test_an_ensemble_of_folds_takes_all_their_networks(tmp_path, monkeypatch):
  plan = plans.PLANS['le2020']['7']
  row = next(row for row in plan.rows if row.printed == 'Ensemble')
  plan = dataclasses.replace(plan, scores={'Acc': 'scores.accuracy'})
  changes = {'model.system': 'le2020/MobileNet', 'data.size': 32}
  wanted = setting(tmp_path, seeds=[0], folds=[0, 1], changes=changes)
  fused = write_classes(tmp_path / 'fused', 0.2)
  monkeypatch.setattr(runs, '_train', lambda members: None)
  monkeypatch.setattr(runs, '_evaluate', lambda members, row: [fused])
  made = runs.make(plan, row, 'le2020', 'ham10000', 'honest', wanted)
  assert made.members == 1
  assert made.parameters == 2 * 3_735_367


def guess(name, label, a):
  """An image of a lesion of its own, which is 'a' with that probability."""
  shares = {'p_a': a, 'p_b': 1 - a, 'p_c': 0.0}
  return {'image_id': name, 'lesion_id': name, 'label': label, **shares}


def test_a_run_that_diverged_is_told():
  plan = Plan('', {}, (), {'Dice': 'per_image.dice'})
  result = results.Result({}, error='The loss is not finite at step 3.')
  lines = {'it': printed.Line({'Dice': '0.9'})}
  made = [(Row('it'), {'paper': result})]
  table = render.records(plan, lines, made)
  assert table[1]['note'] == 'The loss is not finite at step 3.'
  assert table[1]['Dice'] == ''
  assert list(csv.DictReader(render.to_csv(table).splitlines()))[1] == table[1]


def test_a_table_of_sizes_trains_nothing(tmp_path, capsys):
  arguments = ['yang2021', '--table=6', f'--out={tmp_path}']
  arguments += ['--rows=U-Net,SegNet', f'--configs={ROOT / "configs"}']
  assert main(arguments) == 0
  table = list(csv.DictReader((tmp_path / 'yang2021_table6_ph2.csv').open()))
  sizes = [(x['system'], x['protocol'], x['parameters']) for x in table]
  assert sizes == [
    ('SegNet', 'printed', '33393157'),
    ('SegNet', 'ours', '33393157'),
    ('U-Net', 'printed', '487289'),
    ('U-Net', 'ours', '487289'),
  ]
  assert '33,377,283 are trained' in table[1]['note']
  assert not (tmp_path / 'runs').exists()
  assert main([*arguments, '--list']) == 0
  assert 'nothing is trained' in capsys.readouterr().out
