"""PH2: 200 dermoscopic images with masks (doi:10.1109/EMBC.2013.6610779)."""

import re
from pathlib import Path
from typing import ClassVar

from jaxderm.data import builder, layout, record

_LABELS = ('common_nevus', 'atypical_nevus', 'melanoma')


class Ph2(builder.LesionBuilder):
  """PH2: melanocytic lesions at 20x, masks and diagnoses by a dermatologist."""

  name = 'ph2'
  LABELS = _LABELS
  PUBLISHED: ClassVar[dict[str, int]] = {'train': 200}
  LICENCE = (
    'PH2 is for research and education only and must not be redistributed '
    '(ADDI project, Universidade do Porto; Hospital Pedro Hispano).'
  )
  HOMEPAGE = 'https://www.fc.up.pt/addi/ph2%20database.html'
  CITATION = (
    'Mendonca, Ferreira, Marques, Marcal, Rozeira: PH2 - a dermoscopic image '
    'database for research and benchmarking. EMBC 2013.'
  )
  HOW_TO_GET = (
    'Fill in the form at https://www.fc.up.pt/addi/ph2%20database.html, unpack '
    'PH2Dataset.rar and give the folder that contains PH2Dataset.'
  )
  MANUAL_DOWNLOAD_INSTRUCTIONS = HOW_TO_GET

  @classmethod
  def listing(cls, root: Path, options: None = None) -> record.Listing:
    if root.name != 'PH2Dataset' or not (root / 'PH2_dataset.txt').exists():
      root = layout.need(root, 'PH2Dataset', get=cls.HOW_TO_GET)
    table = layout.need(root, 'PH2_dataset.txt', get=cls.HOW_TO_GET)
    folder = layout.need(root, 'PH2 Dataset images', get=cls.HOW_TO_GET)
    names = [p.name for p in sorted(folder.glob('IMD*')) if p.is_dir()]
    if not names:
      raise ValueError(
        f'{folder}: no image inside, expected folders named IMD003 and so on. '
        f'{cls.HOW_TO_GET}'
      )
    images = {n: folder / n / f'{n}_Dermoscopic_Image/{n}.bmp' for n in names}
    masks = {n: folder / n / f'{n}_lesion/{n}_lesion.bmp' for n in names}
    images = {n: p for n, p in images.items() if p.exists()}
    masks = {n: p for n, p in masks.items() if p.exists()}
    items, notes = layout.pair(images, masks, _rows(table), _describe)
    return record.Listing(
      root, {'train': items}, _LABELS, (table,), tuple(notes)
    )


def _rows(path: Path) -> dict[str, layout.Row]:
  """Rows of the published table: cells between bars, a legend at the end."""
  found: dict[str, layout.Row] = {}
  text = path.read_text(encoding='utf-8', errors='replace')
  for number, line in enumerate(text.splitlines(), 1):
    cells = [cell.strip() for cell in re.split(r'\|+', line)]
    if len(cells) < 2 or not cells[1].startswith('IMD'):
      continue
    if len(cells) < 4 or cells[1] in found:
      wrong = 'is there twice' if cells[1] in found else 'has too few columns'
      raise ValueError(
        f'{path}:{number}: {cells[1]} {wrong}; expected one line for each '
        'image with its name, histology, clinical diagnosis and more between '
        '|| bars. Use the file as it was published.'
      )
    values = dict(
      zip(
        ('name', 'Histological', 'Clinical Diagnosis'), cells[1:], strict=False
      )
    )
    found[cells[1]] = layout.Row(values, path, number)
  if not found:
    raise ValueError(
      f'{path}: no line with an image, expected lines such as '
      '"|| IMD003 || || 0 || ...". Use the file as it was published.'
    )
  return found


def _describe(row: layout.Row) -> dict:
  label = row.choice('Clinical Diagnosis', {'0': 0, '1': 1, '2': 2})
  method = 'histopathology' if row['Histological'] else 'clinical'
  return {'label': label, 'diagnosis_method': method}
