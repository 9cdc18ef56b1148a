"""python -m jaxderm.pretrained convert IN OUT.safetensors"""

import argparse
import sys
from collections.abc import Sequence

from jaxderm.pretrained.convert import convert


def main(argv: Sequence[str] | None = None) -> int:
  parser = argparse.ArgumentParser(prog='python -m jaxderm.pretrained')
  commands = parser.add_subparsers(dest='command', required=True)
  command = commands.add_parser(
    'convert',
    help="a publisher's weights into a file that needs no other library",
  )
  command.add_argument('path', metavar='IN', help='.h5, .keras, .pth, .npz ...')
  command.add_argument('out', metavar='OUT.safetensors')
  command.add_argument('--encoder', help='if it is not to be found out')
  command.add_argument('--origin', help="'keras' or 'torch', the same")
  arguments = parser.parse_args(argv)
  try:
    told = convert(
      arguments.path, arguments.out, arguments.encoder, arguments.origin
    )
  except (OSError, ValueError) as error:
    print(f'error: {error}', file=sys.stderr)
    return 1
  print(told)
  return 0


if __name__ == '__main__':
  sys.exit(main())
