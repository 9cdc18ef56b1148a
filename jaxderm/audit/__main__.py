"""`python -m jaxderm.audit FILE.csv`: which rows cannot be true."""

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence

from jaxderm import audit


def main(argv: Sequence[str] | None = None) -> int:
  """0 if all may be true, 1 if something cannot, 2 if a file is broken."""
  arguments = _parser().parse_args(argv)
  averaging = 'pooled' if arguments.pooled else None
  hints = audit.Hints(
    named=arguments.columns,
    averaging='per_image' if arguments.per_image else averaging,
    one_class=arguments.one_class,
  )
  told, broken = [], False
  for path in arguments.files:
    faults = []
    try:
      table, faults = audit.read_csv(path)
      reading = audit.read(table, hints)
    except OSError as error:
      faults.append(f'cannot be read: {error.strerror}')
    except ValueError as error:
      faults.append(str(error))
    else:
      faults += reading.faults
      found = audit.check(reading)
      told += [_record(path, reading.table, finding) for finding in found]
      if not arguments.json:
        print(_report(path, reading, found))
    for fault in faults:
      print(f'{path}, {fault}', file=sys.stderr)
    broken |= bool(faults)
  if arguments.json:
    print(json.dumps(told, indent=2))
  return 2 if broken else int(bool(told))


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    prog='python -m jaxderm.audit',
    description='Which rows of a printed table cannot be true.',
    epilog='Exit status: 0 if all may be true, 1 if something cannot, 2 if a '
    'file is broken; what can be read of it is audited all the same.',
  )
  parser.add_argument('files', nargs='+', metavar='FILE.csv')
  parser.add_argument(
    '--columns',
    type=_named,
    default={},
    metavar='ROLE=HEADING,...',
    help='headings that are not recognised, as Dice=overlap,IoU=Jac',
  )
  averaging = parser.add_mutually_exclusive_group()
  averaging.add_argument(
    '--pooled',
    action='store_true',
    help='Dice and IoU are of pooled counts (else those with a star are)',
  )
  averaging.add_argument(
    '--per_image', action='store_true', help='none is pooled, star or not'
  )
  parser.add_argument(
    '--one_class',
    action='store_true',
    help='precision, recall and F1 of a row are of one class on one set',
  )
  parser.add_argument('--json', action='store_true', help='as JSON')
  return parser


def _named(text: str) -> dict[str, str]:
  pairs = [pair.partition('=') for pair in text.split(',')]
  if not all(role and heading for role, _, heading in pairs):
    raise argparse.ArgumentTypeError(f'{text!r} is not ROLE=HEADING,...')
  return {role.strip(): heading.strip() for role, _, heading in pairs}


def _record(path: str, table: audit.Table, finding: audit.Finding) -> dict:
  return {
    'file': path,
    'line': _line(table, finding),
    **dataclasses.asdict(finding),
  }


def _line(table: audit.Table, finding: audit.Finding) -> int | None:
  """The line of the file; a column has none."""
  return None if table.turned else table.lines[finding.row]


def _report(
  path: str, reading: audit.Reading, found: Sequence[audit.Finding]
) -> str:
  """What is said of a file."""
  if not reading.entries and not reading.means:
    return f'{path}: no column that the audit knows; name them with --columns'
  wrong = len({finding.row for finding in found})
  told = f'{path}: {wrong} of {len(reading.table.rows)} rows cannot be true'
  if reading.compared:
    told += f'\n  compared: {", ".join(reading.compared)}'
  head = ('line', 'row', 'printed', 'off by', 'beyond rounding', 'because')
  lines = [head, *(_cells(reading.table, finding) for finding in found)]
  widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
  for line in lines if found else ():
    cells = map(str.ljust, line, widths)
    told += '\n  ' + '  '.join(cells).rstrip()
  return told


def _cells(table: audit.Table, finding: audit.Finding) -> tuple[str, ...]:
  pairs = zip(finding.columns, finding.printed, strict=True)
  return (
    str(_line(table, finding) or '-'),
    finding.name if len(finding.name) <= 40 else finding.name[:37] + '...',
    ', '.join(f'{column} {text}' for column, text in pairs),
    f'{finding.difference:+.4g}',
    f'{finding.beyond:.4g}',
    finding.reason,
  )


if __name__ == '__main__':
  sys.exit(main())
