"""`python -m jaxderm.systems`: every system and encoder with its sizes."""

import argparse
import json
from collections.abc import Sequence

from jaxderm.models import encoders
from jaxderm.systems import SYSTEMS
from jaxderm.systems.printing import describe, describe_encoder, table


def main(argv: Sequence[str] | None = None) -> None:
  parser = argparse.ArgumentParser(
    prog='python -m jaxderm.systems',
    description='The systems of the papers: sizes, costs, printed sizes.',
  )
  parser.add_argument('--json', action='store_true', help='as JSON')
  parser.add_argument(
    '--encoders', action='store_true', help='the encoders, not the systems'
  )
  arguments = parser.parse_args(argv)
  if arguments.encoders:
    rows = [describe_encoder(name) for name in encoders.__all__]
  else:
    rows = [describe(system) for system in SYSTEMS.values()]
  if arguments.json:
    print(json.dumps(rows, indent=2))
    return
  for row in rows:  # a line has no room for every map
    row.pop('taps', None)
    row.pop('default_taps', None)
  print(table(rows))


if __name__ == '__main__':
  main()
