"""The tables of all papers, and how their results are found."""

from collections.abc import Mapping

from jaxderm.data.papers import PAPERS
from jaxderm.tables import do2022, le2020, wei2020, yang2021, zarrin2025
from jaxderm.tables.plan import Plan

PLANS: Mapping[str, Mapping[str, Plan]] = {
  'yang2021': yang2021.PLANS,
  'wei2020': wei2020.PLANS,
  'do2022': do2022.PLANS,
  'zarrin2025': zarrin2025.PLANS,
  'le2020': le2020.PLANS,
}
# The split of the honest protocol.
HONEST = {
  'ph2': 'grouped',
  'ham10000': 'grouped',
  'isic2016_part1': 'official',
  'isic2016_part3': 'official',
  'isic2017_part1': 'official',
  'isic2018_task1': 'grouped',
}


def protocol(name: str, paper: str, data: str) -> dict[str, object]:
  """What a protocol changes in a config.

  'paper': the paper's split and the network's size, as the papers score.
  'honest': the publisher's test images where there are some, else groups of
  which no lesion is on two sides; scored at each image's own size.

  Raises:
    ValueError: No such protocol.
  """
  if name == 'paper':
    split = paper if data in PAPERS[paper] else 'grouped'
    return {'data.split': split, 'evaluate.scored_at': 'network'}
  if name == 'honest':
    return {'data.split': HONEST[data], 'evaluate.scored_at': 'own'}
  raise ValueError(f'--protocols has {name!r}; it takes paper and honest.')


def find(paper: str, table: str, data: str | None) -> tuple[Plan, str]:
  """The plan of a table and the data set it is wanted on.

  Raises:
    ValueError: No such paper, table or data; lists those there are.
  """
  for name, given, known in (
    ('paper', paper, PLANS),
    ('--table', table, PLANS.get(paper, {})),
  ):
    if given not in known:
      raise ValueError(f'{name} {given!r}: expected one of {", ".join(known)}.')
  plan = PLANS[paper][table]
  if data is None and len(plan.configs) == 1:
    data = next(iter(plan.configs))
  if data not in plan.configs:
    raise ValueError(
      f'--data={data}: table {table} of {paper} is of '
      f'{", ".join(plan.configs)}; choose one.'
    )
  return plan, data
