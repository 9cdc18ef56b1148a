"""The arrows between the parts, read from the source: nothing is imported."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / 'jaxderm'
FILES = sorted(ROOT.rglob('*.py'))
SEE_CONFIGS = {
  'main',
  'train',
  'member',
  'workdirs',
  'experiment',
  'recipe',
  'ensemble',
  'evaluate',
  'explain',
  'fusion',
  'opening',
  'predict',
  'runs',  # of tables/: they make configs as a person does
}
DISK = {'checkpoint', 'data', 'pretrained', 'cv2', 'io', 'os', 'pathlib'}


def name(path):
  return str(path.relative_to(ROOT))


def imports(source):
  """Dotted names; `from a import b` counts as a.b, which may be a module."""
  found = set()
  for node in ast.walk(ast.parse(source)):
    if isinstance(node, ast.Import):
      found |= {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
      assert node.level == 0, 'imports are absolute here'
      found |= {f'{node.module}.{alias.name}' for alias in node.names}
  return found


def within(source, package):
  prefix = f'{package}.'
  return {
    module[len(prefix) :].split('.')[0]
    for module in imports(source)
    if module.startswith(prefix)
  }


def test_imports_are_read():
  source = 'import a.b\nfrom jaxderm.models import layers, segmenter\n'
  assert within(source, 'jaxderm.models') == {'layers', 'segmenter'}
  assert 'a.b' in imports(source)


@pytest.mark.parametrize('path', FILES, ids=name)
def test_package_never_imports_configs_or_tensorflow(path):
  roots = {module.split('.')[0] for module in imports(path.read_text())}
  assert not roots & {'configs', 'tests', 'tensorflow'}


@pytest.mark.parametrize('path', FILES, ids=name)
def test_only_the_programs_see_a_config(path):
  if path.stem not in SEE_CONFIGS:
    roots = {module.split('.')[0] for module in imports(path.read_text())}
    assert 'ml_collections' not in roots


NETWORKS = sorted(ROOT.glob('models/**/*.py'))
PARTS = [*ROOT.glob('models/encoders/*.py'), *ROOT.glob('models/decoders/*.py')]


@pytest.mark.parametrize('path', PARTS, ids=name)
def test_encoders_and_decoders_know_layers_and_attention(path):
  source = path.read_text()
  own = path.parent.name  # only __init__ may name its modules
  assert within(source, 'jaxderm.models') <= {'layers', 'attention', own}
  assert within(source, 'jaxderm') <= {'models'}
  if path.name != '__init__.py':
    assert own not in within(source, 'jaxderm.models')


@pytest.mark.parametrize('part', ['segmenter', 'classifier', 'discriminant'])
def test_joiners_receive_their_parts(part):
  path = ROOT / 'models' / f'{part}.py'
  if not path.exists():
    pytest.skip(f'{part} is not written yet')
  known = within(path.read_text(), 'jaxderm.models')
  assert not known & {'encoders', 'decoders', 'necks'}


@pytest.mark.parametrize('path', NETWORKS, ids=name)
def test_networks_never_touch_the_disk(path):
  source = path.read_text()
  roots = {module.split('.')[0] for module in imports(source)}
  assert not (roots | within(source, 'jaxderm')) & DISK
  calls = [n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Call)]
  assert not any(getattr(call.func, 'id', '') == 'open' for call in calls)


ORDER = [  # a module imports none of those before it
  'main',
  'fusion',
  'train',
  'member',
  'dispatch',
  'evaluate',
  'ensemble',
  'inference',
  'step',
  'task',
  'losses',
  'mask_losses',
  'class_losses',
]


@pytest.mark.parametrize('part', ORDER)
def test_arrows_point_down(part):
  path = ROOT / f'{part}.py'
  if not path.exists():
    pytest.skip(f'{part} is not written yet')
  above = set(ORDER[: ORDER.index(part)])
  assert not within(path.read_text(), 'jaxderm') & above
