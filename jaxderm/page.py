"""HTML of a page that stands alone, reads on a phone, and in the dark."""

import base64
from collections.abc import Mapping, Sequence
from html import escape

_STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #57606a;
  --page: #ffffff; --card: #f4f6f8; --line: #d5dae0; --bar: #1f6feb; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3;
  --soft: #9aa5b1; --page: #0f1318; --card: #1a2028; --line: #313a45;
  --bar: #58a6ff; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 64rem; padding: 1rem; color: var(--ink);
  background: var(--page); font: 1rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: .5rem 0;
  overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
p, figcaption, dt { color: var(--soft); }
p { margin: .4rem 0; }
.tiles, .gallery { display: grid; gap: .75rem;
  grid-template-columns: repeat(auto-fill, minmax(9.5rem, 1fr)); }
.tiles div, figure { background: var(--card); border-radius: .5rem;
  padding: .75rem; margin: 0; }
.tiles b { display: block; font-size: 1.4rem; }
.tiles span, small { color: var(--soft); font-size: .85rem; }
.gallery { grid-template-columns: repeat(auto-fill, minmax(17rem, 1fr)); }
img { display: block; width: 100%; height: auto; border-radius: .25rem; }
figcaption { font-size: .85rem; margin-top: .4rem; overflow-wrap: anywhere; }
figcaption b { color: var(--ink); display: block; }
.paper { background: #fff; padding: .25rem; border-radius: .5rem; }
.key { display: inline-block; width: 1.6rem; height: .35rem;
  vertical-align: middle; border-radius: .2rem; margin-right: .3rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .4rem .5rem; vertical-align: top;
  border-bottom: 1px solid var(--line); font-variant-numeric: tabular-nums; }
td small { display: block; white-space: nowrap; }
svg { width: 100%; height: auto; max-width: 40rem; }
svg rect { fill: var(--bar); } svg text { fill: var(--soft); font-size: 11px; }
svg line { stroke: var(--line); }
dl { display: grid; grid-template-columns: minmax(6rem, 12rem) 1fr; margin: 0;
  gap: .25rem 1rem; } dd { margin: 0; overflow-wrap: anywhere; }
code { display: block; white-space: pre-wrap; overflow-wrap: anywhere;
  background: var(--card); padding: .75rem; border-radius: .5rem; }
@media (max-width: 40rem) {
  thead { display: none; } tr { display: block; padding: .5rem 0;
    border-bottom: 1px solid var(--line); }
  th, td { border: 0; padding: .15rem 0; } th { display: block; }
  td { display: grid; grid-template-columns: 11.5rem 1fr; }
  td::before { content: attr(data-of); color: var(--soft); }
  td small { grid-column: 2; } td:empty { display: none; } }
"""


def document(title: str, body: str) -> str:
  """A whole page.

  Args:
    title: Plain text.
    body: HTML.

  Returns:
    HTML in ASCII: it reads the same in whatever encoding a file is written.
  """
  head = (
    '<!doctype html><html lang="en"><head><meta charset="utf-8">'
    '<meta name="viewport" content="width=device-width, initial-scale=1">'
    # A browser then refuses to load anything that slipped in.
    '<meta http-equiv="Content-Security-Policy" content="default-src '
    "'none'; img-src data:; style-src 'unsafe-inline'\">"
    f'<title>{escape(title)}</title><style>{_STYLE}</style></head>'
  )
  text = f'{head}<body>{body}</body></html>\n'
  return text.encode('ascii', 'xmlcharrefreplace').decode()


def picture(png: bytes, text: str) -> str:
  """A PNG inside the page, with what it shows for those who do not see it."""
  data = base64.b64encode(png).decode()
  return f'<img alt="{escape(text)}" src="data:image/png;base64,{data}">'


def tiles(values: Sequence[tuple[str, str]]) -> str:
  """The numbers to see first, each with what it is."""
  cells = ''.join(f'<div><b>{a}</b><span>{b}</span></div>' for a, b in values)
  return f'<div class="tiles">{cells}</div>'


def figure(png: bytes, title: str, caption: str) -> str:
  """A picture of a gallery, with its title and caption in plain text."""
  return (
    f'<figure>{picture(png, f"{title}")}<figcaption><b>{escape(str(title))}</b>'
    f'{escape(str(caption))}</figcaption></figure>'
  )


def cell(
  name: str, value: float | None, interval: Sequence[float] | None
) -> str:
  """A score and its interval as a cell of a table; a dash for no score.

  Args:
    name: Of the column, for narrow screens.
    value: From 0 to 1.
    interval: [low, high].
  """
  told = '&#8211;' if value is None else f'{value:.3f}'
  if value is not None and interval is not None:
    told += f'<small>{interval[0]:.3f} to {interval[1]:.3f}</small>'
  return f'<td data-of="{escape(name)}">{told}</td>'


def facts(values: Mapping) -> str:
  """Names and values; a mapping within is named by a dot, 'data.size'."""
  return '<dl>' + ''.join(_fact(k, v) for k, v in values.items()) + '</dl>'


def _fact(name: str, value) -> str:
  if isinstance(value, Mapping):
    return ''.join(_fact(f'{name}.{k}', v) for k, v in value.items())
  if isinstance(value, list | tuple):
    value = ', '.join(map(str, value))
  told = 'none' if value is None or value == '' else str(value)
  name = str(name).replace('_', ' ')
  return f'<dt>{escape(name)}</dt><dd>{escape(told)}</dd>'


def bars(edges: Sequence[float], counts: Sequence[int], label: str) -> str:
  """A histogram as SVG, in the colours of the page.

  Args:
    edges: Of the bars, ascending, [K + 1].
    counts: [K].
    label: Of the horizontal axis.
  """
  left, bottom, width, height = 28, 100, 360, 90
  most, low, span = max(1, *counts), edges[0], edges[-1] - edges[0]
  shapes = ''
  for count, start, end in zip(counts, edges, edges[1:], strict=False):
    x, tall = left + width * (start - low) / span, height * count / most
    shapes += (
      f'<rect x="{x + 0.5:.2f}" y="{bottom - tall:.2f}" height="{tall:.2f}" '
      f'width="{width * (end - start) / span - 1:.2f}">'
      f'<title>{start:.2f} to {end:.2f}: {count}</title></rect>'
    )
  for i in range(6):
    x = left + width * i / 5
    shapes += (
      f'<text x="{x:.1f}" y="{bottom + 12}" text-anchor="middle">'
      f'{low + span * i / 5:.1f}</text>'
    )
  return (
    f'<svg viewBox="0 0 400 130" role="img" aria-label="Histogram of '
    f'{escape(label)}"><line x1="{left}" y1="{bottom}" x2="{left + width}" '
    f'y2="{bottom}"/>{shapes}<text x="{left - 4}" y="{bottom - height + 6}" '
    f'text-anchor="end">{most}</text><text x="{left - 4}" y="{bottom}" '
    f'text-anchor="end">0</text><text x="{left + width / 2}" y="126" '
    f'text-anchor="middle">{escape(label)}; bars count images</text></svg>'
  )
