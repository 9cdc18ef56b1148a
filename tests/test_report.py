import base64
import json
import re

import cv2
import numpy as np
import pytest

from jaxderm import figures, metrics, report

GREY = np.full((100, 120, 3), 128, np.uint8)
BOX = np.zeros((100, 120), np.uint8)
BOX[30:70, 40:90] = 1


def table(dices):
  """One image of 100 lesion pixels for each Dice; fp = fn gives it exactly."""
  return [
    {
      'image_id': name,
      'lesion_id': name,
      'tp': round(100 * dice),
      'fp': 100 - round(100 * dice),
      'fn': 100 - round(100 * dice),
      'tn': 900,
      'hausdorff': 4.0,
      'hd95': 2.0,
    }
    for name, dice in dices.items()
  ]


def decode(png):
  return cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)


def example(title='IMD1'):
  return {
    'title': title,
    'caption': 'Dice 0.9',
    'image': GREY,
    'truth': BOX,
    'prediction': BOX[..., None],
  }


def changed(drawn, image):
  return (drawn != image).any(axis=-1)


def test_outline_follows_the_boundary_and_nothing_else():
  drawn = figures.outline(GREY, BOX, (255, 0, 0))
  assert (GREY == 128).all()
  assert tuple(drawn[30, 60]) == (255, 0, 0)
  assert tuple(drawn[50, 40]) == (255, 0, 0)
  touched = changed(drawn, GREY)
  assert not touched[36:64, 46:84].any()
  assert not touched[:24].any() and not touched[:, :34].any()


def test_outline_of_nothing_and_of_a_hole():
  empty = np.zeros_like(BOX)
  np.testing.assert_array_equal(figures.outline(GREY, empty, (1, 2, 3)), GREY)
  ring = BOX.copy()
  ring[45:55, 60:70] = 0
  assert changed(figures.outline(GREY, ring, (255, 0, 0)), GREY)[50, 60]


def test_outline_gets_thicker_with_the_image():
  widths = []
  for scale in (2, 10):
    image = np.repeat(np.repeat(GREY, scale, 0), scale, 1)
    mask = np.repeat(np.repeat(BOX, scale, 0), scale, 1)
    drawn = figures.outline(image, mask, (255, 0, 0))
    widths.append(changed(drawn, image)[50 * scale, : 60 * scale].sum())
  assert widths[1] > 2 * widths[0]


def test_outline_refuses_another_size():
  with pytest.raises(ValueError, match='resize one'):
    figures.outline(GREY, BOX[:50], (255, 0, 0))
  with pytest.raises(ValueError, match='RGB'):
    figures.outline(GREY / 255, BOX, (255, 0, 0))


def test_overlay_shows_both_where_they_agree():
  image = np.full((400, 500, 3), 128, np.uint8)
  mask = cv2.resize(BOX, (500, 400), interpolation=cv2.INTER_NEAREST)
  colours = {tuple(c) for c in figures.overlay(image, mask, mask)[200]}
  assert {figures.TRUTH, figures.PREDICTION} <= colours


def test_shrink_keeps_the_share_of_the_lesion():
  image, (mask,) = figures.shrink(GREY, [BOX[..., None]], 60)
  assert image.shape == (50, 60, 3) and mask.shape == (50, 60)
  assert set(np.unique(mask)) == {0, 1}
  assert mask.mean() == pytest.approx(BOX.mean(), abs=0.02)
  assert figures.shrink(GREY, [], 500)[0].shape == GREY.shape


def test_png_is_rgb():
  image = np.zeros((4, 4, 3), np.uint8)
  image[..., 0] = 200
  assert decode(figures.png(image))[0, 0].tolist() == [0, 0, 200]


def write_lines(path, lines):
  path.write_text('\n'.join(json.dumps(x) for x in lines) + '\n{"step": 9, "k')
  return path


def test_curves_of_a_run(tmp_path):
  lines = []
  for step in range(1, 9):
    lines.append({'step': step, 'kind': 'train', 'loss': 1 / step})
    lines.append(
      {
        'step': step,
        'kind': 'validation',
        'loss': None if step == 3 else 1.0,
        'dice': None if step == 4 else 0.9,
      }
    )
  picture = decode(figures.curves(write_lines(tmp_path / 'm.jsonl', lines)))
  assert picture.shape[0] > 300 and picture.std() > 5
  assert report.curves is figures.curves


def test_curves_read_nulls_gaps_and_repeated_steps(tmp_path):
  path = write_lines(
    tmp_path / 'm.jsonl',
    [
      {'step': 20, 'kind': 'train', 'loss': 3.0},
      {'step': 10, 'kind': 'train', 'loss': None},
      {'step': 20, 'kind': 'train', 'loss': 2.0},
      {'step': 20, 'kind': 'other', 'loss': 7.0},
      {'kind': 'train', 'loss': 7.0},
    ],
  )
  lines = figures._read_metrics(path)
  assert [r['step'] for r in lines['train']] == [10, 20]
  got = figures._series(lines['train'], 'loss')
  np.testing.assert_array_equal(got, [np.nan, 2.0])
  assert lines['validation'] == []


def test_only_what_lies_within_0_and_1_is_a_score():
  assert figures._is_score(np.array([np.nan, 0.0, 1.0]))
  assert not figures._is_score(np.array([np.nan]))
  assert not figures._is_score(np.array([0.5, 40.0]))


@pytest.mark.parametrize('text', [None, '', '{"step": 1, "kind": "train"}\n'])
def test_no_curves_without_numbers(tmp_path, text):
  path = tmp_path / 'metrics.jsonl'
  if text is not None:
    path.write_text(text)
  assert figures.curves(path) is None


def test_picks_by_dice_with_ties_by_name():
  rows = table(
    {
      'a': 0.5,
      'b': 0.9,
      'c': 0.9,
      'd': 0.1,
      'e': 0.6,
      'f': 0.2,
      'g': 0.7,
    }
  )
  for order in (rows, rows[::-1]):
    picks = report.pick_examples(order, k=2)
    assert [(p.group, p.image_id) for p in picks] == [
      ('best', 'b'),
      ('best', 'c'),
      ('median', 'g'),
      ('median', 'e'),
      ('worst', 'f'),
      ('worst', 'd'),
    ]
  assert picks[0].title == 'Best: b'
  assert picks[0].caption == 'Dice 0.900, Jaccard 0.818, HD95 2.0 px'


@pytest.mark.parametrize('images, groups', [(1, 'b'), (2, 'bw'), (4, 'bmw')])
def test_few_images_are_picked_once(images, groups):
  names = 'pqrs'[:images]
  picks = report.pick_examples(table(dict.fromkeys(names, 0.5)))
  assert ''.join(p.group[0] for p in picks) == groups
  assert len({p.image_id for p in picks}) == len(picks)


def make_page(tmp_path, curves=None, examples=(), **run):
  rows = table({'a': 0.95, 'b': 0.5, 'c': 0.8})
  summary = metrics.summarise(rows, resamples=50) | {'run': run}
  path = tmp_path / 'report.html'
  report.write_report(path, summary, curves, list(examples))
  return path.read_text(encoding='ascii'), summary


def test_page_tells_scores_with_intervals_and_counts(tmp_path):
  text, summary = make_page(
    tmp_path,
    system='yang2021/UNet',
    dataset='ph2',
    part='test',
    images={'train': 160},
    versions={'jax': '0.9'},
    command='main.py --x=1',
  )
  for convention in metrics.CONVENTIONS:
    for name, value in summary[convention].items():
      low, high = summary['intervals'][convention][name]
      digits = 1 if name in ('hausdorff', 'hd95') else 3
      cell = f'>{value:.{digits}f}<small>{low:.{digits}f} to {high:.{digits}f}<'
      assert cell in text, (convention, name)
  assert '<h1>yang2021/UNet on ph2, test images</h1>' in text
  assert '160 train' in text and 'main.py --x=1' in text
  assert '<dt>jax</dt><dd>0.9</dd>' in text
  assert text.index('<dt>jax</dt>') > text.index('What was run')
  assert '<b>3</b><span>images scored' in text
  # Jaccard 0.905, 0.333 and 0.667: one of three is below 0.65.
  assert '<b>33.3 %</b>' in text
  # Dice 0.95, 0.5 and 0.8 stand in three bars of one image each.
  assert len(re.findall(r'<title>[^<]*: 1</title>', text)) == 3


def test_page_stands_alone(tmp_path):
  curves = figures.png(GREY)
  text, _ = make_page(tmp_path, curves, [example(), example('IMD2')])
  sources = re.findall(r'src="([^"]*)"', text)
  assert len(sources) == 3
  for source in sources:
    assert source.startswith('data:image/png;base64,')
    assert decode(base64.b64decode(source.split(',')[1])) is not None
  assert 'http://' not in text and 'https://' not in text
  assert '<script' not in text and '@import' not in text
  assert 'prefers-color-scheme: dark' in text
  assert 'width=device-width' in text


def test_page_escapes_what_it_is_given(tmp_path):
  evil = '<script>"x"&\u00fc'
  text, _ = make_page(
    tmp_path,
    examples=[example(evil) | {'caption': evil}],
    system=evil,
    dataset=evil,
    part=evil,
    images={evil: evil},
    command=evil,
    versions={evil: [evil]},
    **{'note "<script>': {'deep': evil}},
  )
  assert '<script' not in text
  assert text.count('&lt;script&gt;') >= 9
  assert 'alt="&lt;script&gt;&quot;x&quot;&amp;&#252;"' in text


def test_page_without_run_or_pictures(tmp_path):
  text, _ = make_page(tmp_path)
  assert '<img' not in text and 'Segmentation on data' in text
  assert [p.name for p in tmp_path.iterdir()] == ['report.html']
