"""`python -m jaxderm.benchmark`."""

from absl import app

from jaxderm.benchmark import main

if __name__ == '__main__':
  app.run(main.main, flags_parser=main.parse)
