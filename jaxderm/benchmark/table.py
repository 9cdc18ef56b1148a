"""The table: what was measured, beside the peer and beside the floor."""

import json
import math
import pathlib
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]

START = '<!-- benchmark: begin -->'
END = '<!-- benchmark: end -->'


def read_json(path: pathlib.Path) -> dict[str, Any]:
  return json.loads(path.read_text())


def key(row: Row) -> tuple:
  """What makes two measurements the same one."""
  same = ('name', 'size', 'batch', 'precision')
  return (row['device']['kind'], *(row[k] for k in same))


def ratio(row: Row, mode: str) -> float | None:
  """Ours over theirs in images per second; None without a peer."""
  rates = row.get(mode, {})
  if 'peer' not in rates:
    return None
  return rates['ours']['median'] / rates['peer']['median']


def geometric_mean(ratios: Sequence[float]) -> float | None:
  """The n-th root of the product; None of nothing."""
  return statistics.geometric_mean(ratios) if ratios else None


def input_wait(row: Row) -> float | None:
  """Share of the time that training waits for the host, 0 to 1.

  One less the rate with real input over the rate with one batch that stays.
  """
  rates = row.get('train', {})
  if 'real' not in rates:
    return None
  share = 1 - rates['real']['median'] / rates['ours']['median']
  return max(0.0, share)


def members_cost(row: Row) -> float | None:
  """Time of several members in one program, in times of one by itself."""
  rates = row.get('train', {})
  if 'members' not in rates:
    return None
  return row['members'] * rates['ours']['median'] / rates['members']['median']


def floor(row: Row) -> float | None:
  """Seconds that a training step takes at least on this device.

  The larger of operations over the measured peak and bytes over the measured
  bandwidth. XLA counts the bytes of its own program, so a better program may
  have a lower floor.
  """
  limits = row.get('device', {})
  if not row.get('flops') or not limits.get('peak_flops'):
    return None
  compute = row['flops'] / limits['peak_flops']
  memory = (row.get('bytes') or 0) / limits['bandwidth']
  return max(compute, memory)


def share_of_peak(row: Row) -> float | None:
  """Achieved FLOP/s of training over those of a matrix product."""
  limits, rates = row.get('device', {}), row.get('train', {})
  if 'ours' not in rates or not limits.get('peak_flops'):
    return None
  each = row['flops'] / row['batch']
  return each * rates['ours']['median'] / limits['peak_flops']


# --- Text --------------------------------------------------------------------


def _number(value: float | None, pattern: str = '{:.1f}') -> str:
  if value is None or not math.isfinite(value):
    return ''
  return pattern.format(value)


def _rate(rates: Mapping, who: str) -> str:
  """Median and quartiles; four digits at most tell something."""
  if who not in rates:
    return ''
  rate = rates[who]
  low, high = (f'{rate[k]:.3g}' for k in ('low', 'high'))
  return f'{rate["median"]:.4g} ({low}-{high}, n={rate["blocks"]})'


def _peer(row: Row, mode: str) -> str:
  """Their rate, or why there is none."""
  if row.get('peer_absent'):
    return row['peer_absent']
  return _rate(row.get(mode, {}), 'peer')


def _joules(row: Row) -> str:
  rates = row.get('train', {})
  values = [_number(rates.get(k, {}).get('joules')) for k in ('ours', 'peer')]
  return ' / '.join(v for v in values if v)


def _parameters(row: Row) -> str:
  mine, theirs = row.get('parameters'), row.get('peer_parameters')
  if mine is None:
    return ''
  if theirs is None or theirs == mine:
    return f'{mine:,}'
  return f'{mine:,} / {theirs:,}'


def _step(row: Row) -> str:
  """Milliseconds of a training step, and the least there could be."""
  rates = row.get('train', {})
  if 'ours' not in rates:
    return ''
  taken = 1e3 * row['batch'] / rates['ours']['median']
  least = floor(row)
  return f'{taken:.1f}' + (f' / {1e3 * least:.1f}' if least else '')


def _members(row: Row) -> str:
  """'5 as 2.4': five members take the time of 2.4."""
  cost = _number(members_cost(row), '{:.2f}')
  return f'{row["members"]} as {cost}' if cost else ''


COLUMNS = {
  'network': lambda r: r['name'],
  'px': lambda r: str(r['size']),
  'batch': lambda r: str(r['batch']),
  'precision': lambda r: r['precision'],
  'parameters (ours / theirs)': _parameters,
  'train img/s': lambda r: _rate(r.get('train', {}), 'ours'),
  'theirs': lambda r: _peer(r, 'train'),
  'ratio': lambda r: _number(ratio(r, 'train'), '{:.2f}'),
  'inference img/s': lambda r: _rate(r.get('inference', {}), 'ours'),
  'theirs ': lambda r: _peer(r, 'inference'),
  'ratio ': lambda r: _number(ratio(r, 'inference'), '{:.2f}'),
  'first step cold, s': lambda r: _number(r.get('first_step_cold')),
  'from cache, s': lambda r: _number(r.get('first_step_cached')),
  'memory, MiB': lambda r: _number((r.get('memory') or math.nan) / 2**20),
  'of peak FLOP/s': lambda r: _number(share_of_peak(r), '{:.0%}'),
  'step / floor, ms': _step,
  'waits for input': lambda r: _number(input_wait(r), '{:.0%}'),
  'members at once cost': _members,
  'J/image (ours / theirs)': _joules,
}


def line(row: Row) -> str:
  """One result in one line, for whoever waits."""
  if 'error' in row:
    return f'{row["name"]}: {row["error"]}'
  told = [f'{row["name"]}  {row["size"]} px, batch {row["batch"]}']
  for mode in ('train', 'inference'):
    if mode in row:
      told.append(f'{mode} {_rate(row[mode], "ours")}')
      told.append(f'theirs {_peer(row, mode)}' if row['peer'] != 'none' else '')
      told.append(_number(ratio(row, mode), 'ratio {:.2f}'))
  return '  '.join(t for t in told if t) + f'  [{row["took"]:.0f} s]'


def _about(limits: Mapping[str, Any]) -> str:
  versions = ', '.join(
    f'{name} {v}' for name, v in sorted(limits['versions'].items()) if v
  )
  driver = f', driver {limits["driver"]}' if limits.get('driver') else ''
  return (
    f'{limits["devices"]} x {limits["kind"]}, {limits["cores"]} CPU cores'
    f'{driver}; measured peak {limits["peak_flops"] / 1e9:.4g} GFLOP/s in '
    f'{limits["precision"]}, {limits["bandwidth"] / 1e9:.4g} GB/s; Python '
    f'{limits["python"]}, {versions}; {limits["date"]}.'
  )


def _means(rows: Sequence[Row]) -> list[str]:
  told = []
  for mode in ('train', 'inference'):
    ratios = [r for r in (ratio(row, mode) for row in rows) if r is not None]
    if ratios:
      told.append(
        f'{mode}: geometric mean of {len(ratios)} ratios '
        f'{geometric_mean(ratios):.2f}, lowest {min(ratios):.2f}.'
      )
  return told


def markdown(content: Mapping[str, Any]) -> str:
  """The table of a benchmark.json, with its device, means and gaps."""
  rows, parts = content['rows'], []
  good = [row for row in rows if 'error' not in row]
  for about in dict.fromkeys(_about(row['device']) for row in good):
    mine = [row for row in good if _about(row['device']) == about]
    cells = [[cell(row) for cell in COLUMNS.values()] for row in mine]
    # A column that says nothing in any row is left out.
    kept = [i for i in range(len(COLUMNS)) if any(c[i] for c in cells)]
    names = [list(COLUMNS)[i].strip() for i in kept]
    lines = [names, ['---'] * len(kept), *([c[i] for i in kept] for c in cells)]
    parts.append(about)
    parts.append('\n'.join(f'| {" | ".join(line)} |' for line in lines))
    parts += _means(mine)
    parts.append(_notes(mine))
  parts += [line(row) for row in rows if 'error' in row]
  if content.get('left_out'):
    parts.append(f'Left out for time: {", ".join(content["left_out"])}.')
  return '\n\n'.join(part for part in parts if part) + '\n'


def _notes(rows: Sequence[Row]) -> str:
  memory = sorted({row['memory_source'] for row in rows})
  compiled = sorted({r['peer_compiled'] for r in rows if 'peer_compiled' in r})
  told = f'Memory as told by the {", ".join(memory)}.'
  return told + (f' Theirs runs {", ".join(compiled)}.' if compiled else '')


def replace_between(text: str, inside: str) -> str:
  """A page with its table replaced.

  Raises:
    ValueError: The page has no markers.
  """
  before, begin, rest = text.partition(START)
  _, end, after = rest.partition(END)
  if not begin or not end:
    raise ValueError(f'expected the lines {START} and {END}; add them.')
  return f'{before}{START}\n\n{inside}\n{END}{after}'
