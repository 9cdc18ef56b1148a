"""`python -m jaxderm.tables PAPER --table=N`: a printed table, and ours."""

import argparse
import datetime
import pathlib
import platform
import shlex
import sys
from collections.abc import Sequence
from importlib import metadata

import jax

from jaxderm import host, recipe
from jaxderm.tables import plan as plan_lib
from jaxderm.tables import plans, printed, render, results, runs
from jaxderm.writer import exit_status, replace_text, say


def main(argv: Sequence[str] | None = None) -> int:
  """0 if every row was made, 1 if one was not, 2 if something is wrong."""
  arguments = _parser().parse_args(argv)
  return exit_status(lambda: make(arguments))


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    prog='python -m jaxderm.tables',
    description='Trains and evaluates what a table of a paper compares, and '
    'puts it beside what is printed. Stopped, it goes on where it was.',
  )
  parser.add_argument('paper', help=', '.join(plans.PLANS))
  parser.add_argument('--table', required=True, help='its number')
  parser.add_argument('--data', help='where a table is of several data sets')
  parser.add_argument('--manual_dir', help="the publisher's files of the data")
  parser.add_argument(
    '--protocols',
    type=_names,
    default=['paper', 'honest'],
    metavar='A,B',
    help="'paper', 'honest' or both",
  )
  parser.add_argument(
    '--seeds',
    type=_numbers,
    default=[0, 1, 2],
    metavar='0,1,2',
    help='members of a row whose test images do not change',
  )
  parser.add_argument(
    '--folds',
    type=_numbers,
    default=[0, 1, 2, 3, 4],
    metavar='0,1',
    help='members of a row whose test images are those of a fold',
  )
  parser.add_argument(
    '--rows',
    type=_names,
    default=[],
    metavar='A,B',
    help='systems to make, of those of the table; all if not given',
  )
  parser.add_argument(
    '--set',
    action='append',
    default=[],
    metavar='KEY=VALUE',
    dest='changes',
    help='a key of every config, such as data.size=128; told in the table',
  )
  parser.add_argument('--out', default='runs/tables', help='folder for all')
  parser.add_argument('--configs', default='configs', help='folder of configs')
  parser.add_argument(
    '--list', action='store_true', help='only say what would be trained'
  )
  return parser


def _names(text: str) -> list[str]:
  return [name.strip() for name in text.split(',')]


def _numbers(text: str) -> list[int]:
  try:
    return [int(name) for name in text.split(',')]
  except ValueError:
    raise argparse.ArgumentTypeError(f'{text!r} is not like 0,1,2') from None


def _rows(plan: plan_lib.Plan, wanted: Sequence[str]) -> list[plan_lib.Row]:
  """The rows of those systems or printed names; all if none is wanted.

  Raises:
    ValueError: One of them is in no row.
  """
  known = {name for row in plan.rows for name in (row.printed, row.system)}
  for name in wanted:
    if name not in known:
      told = ', '.join(sorted(known - {''}))
      raise ValueError(f'--rows has {name!r}; the table has {told}.')
  if not wanted:
    return list(plan.rows)
  return [r for r in plan.rows if {r.printed, r.system} & set(wanted)]


def make(arguments: argparse.Namespace) -> int:
  """Makes the table that the arguments name; returns the exit status."""
  paper, number = arguments.paper, arguments.table
  plan, data = plans.find(paper, number, arguments.data)
  rows = _rows(plan, arguments.rows)
  for name in arguments.protocols:
    plans.protocol(name, paper, data)
  setting = runs.Setting(
    configs=pathlib.Path(arguments.configs),
    out=pathlib.Path(arguments.out).absolute(),
    manual_dir=arguments.manual_dir,
    seeds=arguments.seeds,
    folds=arguments.folds,
    changes=recipe.read_changes(arguments.changes),
  )
  protocols = arguments.protocols if plan.scores else ['ours']
  if arguments.list:
    return _list(plan, rows, paper, data, protocols, setting)
  host.prepare()
  lines = printed.lines(paper, number, plan, data)
  made = []
  stem = setting.out / f'{paper}_table{number}_{data}'
  stem.parent.mkdir(parents=True, exist_ok=True)
  for row in rows:
    make_row = runs.make if plan.scores else _measure
    found = {
      name: make_row(plan, row, paper, data, name, setting)
      for name in protocols
    }
    made.append((row, found))
    # After each row: a table that is stopped shows what there is.
    table = render.records(plan, lines, made)
    replace_text(stem.with_suffix('.csv'), render.to_csv(table))
    page = _page(plan, paper, number, data, setting, table)
    replace_text(stem.with_suffix('.md'), page)
  say(f'\n{page}\n{stem}.csv')
  return int(any(r.error for _, found in made for r in found.values()))


def _measure(plan, row, paper, data, name, setting) -> results.Result:
  """A row of a table of sizes, of which nothing is trained."""
  del name
  config = runs.load_config(setting, plan.configs[data], row.system)
  return results.measure(row, paper, config.data.size)


def _list(plan, rows, paper, data, protocols, setting) -> int:
  if not plan.scores:
    say(f'nothing is trained for {plan.title}')
    return 0
  for row in rows:
    for name in protocols:
      for folder, done in runs.needed(plan, row, paper, data, name, setting):
        say(f'{"there" if done else "to do"}  {row.printed}  {name}  {folder}')
  return 0


def _page(plan, paper, number, data, setting, table) -> str:
  device = jax.devices()[0]
  kind = host.processor() if device.platform == 'cpu' else device.device_kind
  libraries = ', '.join(f'{n} {metadata.version(n)}' for n in ('jax', 'flax'))
  changed = ', '.join(f'{k}={v}' for k, v in setting.changes.items())
  return (
    f'## {paper}, table {number}: {plan.title} ({data})\n\n'
    f'{render.to_markdown(plan, table)}\n\n'
    f'{_about(plan, setting)}'
    f'{"**Not as in the paper**: " + changed + ". " if changed else ""}'
    f'{jax.device_count()} x {kind}; Python {platform.python_version()}, '
    f'{libraries}; {datetime.date.today().isoformat()}.\n\n'
    f'    python -m jaxderm.tables {shlex.join(sys.argv[1:])}\n'
  )


def _about(plan, setting) -> str:
  if not plan.scores:
    return 'Counted by tracing, for an image as large as in the paper. '
  return (
    'Ours: mean ± deviation over members [95 % interval over lesions]. '
    f'Seeds {_told(setting.seeds)}, folds {_told(setting.folds)}. '
  )


def _told(numbers: Sequence[int]) -> str:
  return ', '.join(map(str, numbers))


if __name__ == '__main__':
  sys.exit(main())
