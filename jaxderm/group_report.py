"""The part of a page that tells the scores of groups of patients."""

from collections.abc import Mapping, Sequence
from html import escape

from jaxderm import page

_TITLES = {
  'age': 'Age, years',
  'sex': 'Sex',
  'site': 'Place on the body',
  'diagnosis_method': 'How the diagnosis was made',
}


def section(groups: Mapping, told: Mapping[tuple[str, ...], str]) -> str:
  """A table for everything that groups are made by; '' if there is nothing.

  Args:
    groups: What `groups.summarise` returned.
    told: Where a score is in a group, and what it is called.
  """
  if not groups['by']:
    return ''
  head = ''.join(f'<th>{escape(k)}</th>' for k in ('Images', *told.values()))
  body = ''
  for fact, members in groups['by'].items():
    body += f'<h2>{_TITLES.get(fact, fact)}</h2><table><thead><tr><th></th>'
    body += f'{head}</tr></thead><tbody>'
    body += ''.join(_row(k, v, told) for k, v in members.items())
    body += '</tbody></table>'
  return (
    f'{body}<p>Groups of fewer than {groups["smallest"]} images are counted '
    'and not scored. Means are over the classes that a group has.</p>'
  )


def _row(name: str, group: Mapping, told: Mapping[Sequence[str], str]) -> str:
  row = f'<tr><th>{escape(name)}</th>'
  row += f'<td data-of="Images">{group["n_images"]:,}</td>'
  for path, title in told.items():
    scored = 'intervals' in group
    value = _at(group, path) if scored else None
    span = _at(group['intervals'], path) if scored else None
    row += page.cell(title, value, span)
  return row + '</tr>'


def _at(tree: Mapping, path: Sequence[str]):
  for key in path:
    tree = tree[key]
  return tree
