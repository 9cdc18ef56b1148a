"""What several test files share."""

import gc
import os
from pathlib import Path

import pytest

os.environ['KERAS_BACKEND'] = 'jax'  # before anything imports keras
# Most of the time goes into tracing; see `host.prepare`.
gc.set_threshold(50_000, 20, 20)


def real_data(name: str) -> Path:
  """Folder of a real data set, or skips the test that asks for it.

  Args:
    name: Folder below $JAXDERM_DATA, or below ../shared/data.
  """
  beside = Path(__file__).resolve().parents[2] / 'shared/data'
  path = Path(os.environ.get('JAXDERM_DATA') or beside) / name
  if not path.exists():
    pytest.skip(f'needs the real data in {path} (or in $JAXDERM_DATA/{name})')
  return path


@pytest.fixture(scope='module', autouse=True)
def traced_here():
  """No file's tests find what another's have traced (`jaxderm.traces`)."""
  import jax

  jax.config.update('jax_compilation_cache_dir', None)


@pytest.fixture(scope='session')
def synthetic_dir(tmp_path_factory) -> Path:
  """A data_dir in which 24 drawn lesions of 64 pixels (seed 0) are built."""
  from jaxderm.data import build

  path = tmp_path_factory.mktemp('synthetic')
  build.open_or_build('synthetic', data_dir=path, n=24, size=64)
  return path


@pytest.fixture(scope='session')
def mesh():
  """All devices along one axis."""
  from jaxderm import sharding

  return sharding.make_mesh()


@pytest.fixture
def place(tmp_path):
  """A folder of files and a folder to build in."""
  return tmp_path / 'files', tmp_path / 'built'
