"""Runs of networks of no size on drawn lesions, trained or not."""

from jaxderm import control, experiment, recipe, workdirs
from jaxderm.checkpoint import Checkpoints


def config(data_dir, **values):
  """Of a segmentation: 40 lesions of 40 pixels, seen at 16."""
  made = recipe.default()
  made.model.system = 'unet'
  made.model.changes = dict(
    encoder='Plain8', taps=('stage1', 'stage2'), widths=(8,)
  )
  made.data.options = dict(n=40, size=40)
  made.data.data_dir = str(data_dir)
  made.data.size = 16
  made.data.validation = 0.2
  made.optim.learning_rate = 0.01
  made.evaluate.resamples = 20
  made.epochs = 3
  made.compilation_cache = f'{data_dir}/compiled'
  made.update(values)
  return made


def classes(data_dir, **values):
  """Of a classification of the same lesions."""
  made = config(data_dir, **values)
  made.task = 'classification'
  made.model.system = 'classifier'
  made.model.changes = dict(encoder='Plain8', classes=3)
  made.loss = dict(name='cross_entropy')
  return made


def save_untrained(config, workdir, bias=0.0):
  """Leaves a run of random variables, as if it had been trained.

  Args:
    config: Of the run.
    workdir: Its folder.
    bias: Of its logits: how sure it is of a lesion, wherever it looks.
  """
  made = experiment.make(config)
  data = experiment.open_data(config, workdir)
  workdirs.record(config, data.split, _there(workdir))
  checkpoints = Checkpoints(workdir / 'checkpoints')
  state = made.plan_state(made.make_optimizer(1)[0]).make()
  if bias:
    state.params['logits']['bias'] += bias
  checkpoints.save(state, control.Progress())
  checkpoints.close()
  return workdir


def _there(workdir):
  workdir.mkdir(parents=True, exist_ok=True)
  return workdir
