"""The discriminant network and its loss on pairs."""

from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import draw, quick_jit

from jaxderm import cost, folding, step, systems, task
from jaxderm.benchmark import ours
from jaxderm.benchmark.workloads import Workload
from jaxderm.models import heads
from jaxderm.models.discriminant import Discriminant, Verdicts
from jaxderm.models.layers import Encoder

# Trainable and all (SPEC 2.1).
SIZES = {
  'wei2020/MobileNetV1': (3_206_976 + 2_050, 3_230_914),
  'wei2020/DenseNet121': (6_953_856 + 2_050, 7_039_554),
  'wei2020/SqueezeNet': (1_237_498, 1_237_498),
  'wei2020/ResNet18': (11_179_973, 11_187_915),
  'wei2020/ShuffleNet': (3_568_082, 3_616_946),
  'wei2020/DCMobileNetV1': (3_736_902, 3_758_790),
  'wei2020/DCDenseNet121': (7_483_782, 7_567_430),
}


class Image(Encoder):
  """The image for an encoder."""

  normalisation: ClassVar[str] = 'unit'

  taps: tuple | None = ('image',)

  @nn.nowrap
  def features(self, image, train):
    yield 'image', image


def tiny(chosen=None):
  return Discriminant(
    Image(), heads.Pooled(), classes=2, hidden=4, chosen=chosen
  )


def pictures(count=6, seed=0):
  rng = np.random.default_rng(seed)
  return rng.normal(size=(count, 5, 4, 3)).astype(np.float32)


# -------------------------------------------------------------- the network


def test_every_system_has_a_size():
  """Those that segment: in tests/test_systems.py."""
  assert set(SIZES) == {
    name
    for name, system in systems.SYSTEMS.items()
    if system.paper == 'wei2020' and system.task != 'segmentation'
  }


@pytest.mark.parametrize('name', SIZES)
def test_sizes_are_those_that_are_printed(name):
  row, network = systems.SYSTEMS[name], systems.build(name)
  trainable, everything = cost.parameters(network, 64)
  assert (trainable, everything) == SIZES[name]
  counted = {'trainable': trainable, 'all': everything}
  assert row.printed == counted[row.printed_kind]
  assert network.task == row.task
  assert (network.classes, row.size) == (2, 224)


def test_the_parts_of_mobilenet():
  network = systems.build('wei2020/DCMobileNetV1')
  assert network.task == 'pairwise'
  image = jax.ShapeDtypeStruct((2, 64, 64, 3), jnp.float32)
  shapes = jax.eval_shape(network.init, jax.random.key(0), image)
  alone = jax.eval_shape(network.encoder.init, jax.random.key(0), image)
  parts = shapes['params'] | {'encoder': None}
  kernels = {k: v['kernel'].shape for k, v in parts.items() if v}
  assert kernels == {
    'logits1': (1024, 2),
    'logits2': (1024, 2),
    'hidden': (1024, 512),
    'logits_same': (512, 2),
  }
  # A graft of ImageNet weights replaces one subtree.
  for collection in ('params', 'batch_stats'):
    ours_ = shapes[collection]['encoder']
    assert jax.tree.map(jnp.shape, ours_) == jax.tree.map(
      jnp.shape, alone[collection]
    )


def test_what_it_says_in_numpy():
  network, image = tiny(), pictures()
  variables = draw(network, image)
  params = variables['params']
  said = quick_jit(network.apply)(variables, image)
  f = image.mean((1, 2))

  def dense(x, name):
    return x @ params[name]['kernel'] + params[name]['bias']

  for k in (0, 1):
    expected = dense(f, f'logits{k + 1}')
    np.testing.assert_allclose(said.heads[:, k], expected, atol=1e-5)
  away = (f[:3] - f[3:]) ** 2
  expected = dense(np.maximum(dense(away, 'hidden'), 0), 'logits_same')
  np.testing.assert_allclose(said.same, np.tile(expected, (2, 1)), atol=1e-5)


def test_a_pair_goes_through_the_encoder_together():
  """One call of all images, and one statistic of BatchNorm over both."""
  network = systems.build('discriminant', encoder='Plain8', taps=('stage1',))
  image = pictures(4)
  image[2:] += 5
  variables = draw(network, image)

  @quick_jit
  def run(variables, image):
    calls = []

    def count(following, args, kwargs, context):
      if isinstance(context.module, nn.BatchNorm):
        calls.append((args[0].mean((0, 1, 2)), context.module.momentum))
      return following(*args, **kwargs)

    with nn.intercept_methods(count):
      _, updated = network.apply(
        variables, image, True, mutable=['batch_stats']
      )
    return calls, updated['batch_stats']

  calls, stats = run(variables, image)
  stats = jax.tree.leaves_with_path(stats)
  assert len(calls) == 2 == len(stats) / 2
  (path, first), *_ = stats
  old = variables['batch_stats']
  for entry in path:
    old = old[entry.key]
  mean, momentum = calls[0]
  assert path[-1].key == 'mean'
  expected = momentum * old + (1 - momentum) * mean
  np.testing.assert_allclose(first, expected, atol=1e-5)


@pytest.mark.parametrize('chosen', [1, 2])
def test_a_chosen_head_answers_as_a_classifier(chosen):
  network = systems.build(
    'discriminant', encoder='Plain8', taps=('stage1',), classes=3
  )
  image = pictures(3)
  variables = draw(network, image)
  both = quick_jit(network.apply)(variables, image).heads
  one = network.clone(chosen=chosen)
  alone = quick_jit(one.apply)(variables, image)
  assert alone.shape == (3, 3)
  np.testing.assert_allclose(alone, both[:, chosen - 1], atol=1e-6)
  assert np.abs(both[:, 0] - both[:, 1]).max() > 0.01
  folded = folding.fold(one, variables, image)
  assert len(folded.norms) == 2
  actual = quick_jit(lambda m, x: folding.apply(one, m, x))(folded, image)
  np.testing.assert_allclose(actual, alone, atol=1e-5)


def test_the_difference_of_features_is_of_single_precision():
  """The features are bfloat16 numbers; the square of 92 is none."""
  network = tiny()
  image = np.full((2, 1, 1, 3), 900, np.float32)
  image[1] += 92
  narrow = step.cast(draw(network, image)['params'], 'bfloat16')
  assert narrow['hidden']['kernel'].dtype == jnp.bfloat16
  assert narrow['logits_same']['kernel'].dtype == jnp.float32
  said = network.apply({'params': narrow}, step.cast(image, 'bfloat16'))
  assert said.heads.dtype == said.same.dtype == jnp.float32
  wide = jax.tree.map(lambda x: x.astype(jnp.float32), narrow)
  expected = network.apply({'params': wide}, image).same
  np.testing.assert_allclose(said.same, expected, rtol=1e-5)


# ------------------------------------------------------------------ the loss

LABEL = np.array([0, 1, 1, 1, 0, 1], np.int32)  # pairs 0-3, 1-4 and 2-5
SAME = np.array([0, 0, 1] * 2, np.int32)


def of_pairs(**loss):
  return task.pairwise({'name': 'cross_entropy', **loss})


def batch_of(image):
  valid = np.ones(len(image), np.float32)
  return {'image': image, 'label': LABEL, 'same': SAME, 'valid': valid}


def test_the_loss_by_hand():
  """One pair: probabilities 3/4 and 1/5 of the truth, and 1/2 of 'same'."""
  one, other = np.log([1, 3]), np.log([4, 1])
  said = Verdicts(
    jnp.array([[one, [9, 0]], [[0, 9], other]]), jnp.zeros((2, 2))
  )
  batch = {'label': jnp.array([1, 1]), 'same': jnp.array([1, 1])}
  expected = np.log(4 / 3) + np.log(5) + 0.5 * np.log(2)
  np.testing.assert_allclose(of_pairs().loss(said, batch), expected, rtol=1e-6)
  weighed = of_pairs(first=2.0, second=3.0, discriminator=4.0)
  expected = 2 * np.log(4 / 3) + 3 * np.log(5) + 4 * np.log(2)
  np.testing.assert_allclose(weighed.loss(said, batch), expected, rtol=1e-6)
  # Without pairs both heads bear the loss of each image.
  alone = of_pairs().loss(said, {'label': jnp.array([1, 1])})
  expected = [
    np.log(4 / 3) + 9 + np.log1p(np.exp(-9)),
    np.log1p(np.exp(-9)) + np.log(5),
  ]
  np.testing.assert_allclose(alone, expected, rtol=1e-5)


def test_focal_is_for_the_heads_alone():
  """SPEC 2.4: alpha 0.25 for melanoma, gamma 0.75; and as it is printed."""
  heads_ = np.log([[[3.0, 1], [1, 1]], [[1, 1], [1, 4]]])
  said = Verdicts(jnp.asarray(heads_), jnp.log(jnp.array([[1.0, 2]] * 2)))
  batch = {'label': jnp.array([0, 1]), 'same': jnp.array([0, 0])}
  focal = {
    'name': 'focal_cross_entropy',
    'alpha': (0.75, 0.25),
    'gamma': 0.75,
  }
  benign = -0.75 * 0.25**0.75 * np.log(0.75)
  melanoma = -0.25 * 0.2**0.75 * np.log(0.8)
  different = 0.5 * np.log(3)
  for literal, factor in ((False, 1), (True, 0.75)):
    made = task.pairwise({**focal, 'literal': literal})
    expected = factor * benign + melanoma + different
    np.testing.assert_allclose(made.loss(said, batch), expected, rtol=1e-5)


def test_loss_and_gradient_are_torchs():
  """Of the paper's formula, written there as it is printed."""
  torch = pytest.importorskip('torch')
  image, network = pictures(), tiny()
  params = draw(network, image)['params']
  gradient = quick_jit(step.make_gradient(network, of_pairs(), 'float32'))
  (loss, _), found = gradient(params, {}, batch_of(image), jax.random.key(0))
  theirs = {
    f'{part}/{name}': torch.tensor(np.asarray(x), requires_grad=True)
    for part, layer in params.items()
    for name, x in layer.items()
  }

  def dense(x, name):
    return x @ theirs[f'{name}/kernel'] + theirs[f'{name}/bias']

  f1, f2 = torch.tensor(image).mean((1, 2)).split(3)
  y1, y2 = torch.tensor(LABEL).long().split(3)
  entropy = torch.nn.functional.cross_entropy
  same = dense(torch.relu(dense((f1 - f2) ** 2, 'hidden')), 'logits_same')
  expected = entropy(dense(f1, 'logits1'), y1)
  expected = expected + entropy(dense(f2, 'logits2'), y2)
  expected = expected + 0.5 * entropy(same, (y1 == y2).long())
  expected.backward()
  np.testing.assert_allclose(loss, expected.item(), rtol=1e-5)
  for name, x in theirs.items():
    part, leaf = name.split('/')
    np.testing.assert_allclose(found[part][leaf], x.grad.numpy(), atol=1e-5)


def test_padding_bears_no_loss():
  image, network = pictures(), tiny()
  params = draw(network, image)['params']
  gradient = quick_jit(step.make_gradient(network, of_pairs(), 'float32'))
  batch = batch_of(image)
  batch['valid'][[1, 4]] = 0
  other = image.copy()
  other[[1, 4]] = 7
  losses = [
    gradient(params, {}, {**batch, 'image': x}, jax.random.key(0))[0][0]
    for x in (image, other)
  ]
  assert losses[0] == losses[1]


def test_less_memory_learns_the_same():
  image, network = pictures(), tiny()
  params = draw(network, image)['params']
  (a, grads), (b, again) = (
    quick_jit(step.make_gradient(network, of_pairs(), 'float32', remat))(
      params, {}, batch_of(image), jax.random.key(0)
    )
    for remat in (False, True)
  )
  np.testing.assert_allclose(a[0], b[0], rtol=1e-5)
  for x, y in zip(jax.tree.leaves(grads), jax.tree.leaves(again), strict=True):
    np.testing.assert_allclose(x, y, atol=1e-6)


def test_a_loss_of_another_task_is_refused():
  with pytest.raises(ValueError, match='bce_dice.*cross_entropy'):
    task.pairwise({'name': 'bce_dice'})
  with pytest.raises(ValueError, match="no constant 'third'"):
    task.pairwise({'name': 'cross_entropy', 'third': 1.0})


def test_the_benchmark_covers_it():
  work = Workload('A', 'discriminant', {'encoder': Image()}, size=16, batch=4)
  made = ours.make(work, 'float32')
  batch = ours.random_batch(16, 4, made.network.classes)
  training = ours.Training(made, batch)
  training(2)
  training.check()
  answers = ours.Inference(made, training.state, batch)
  answers(1)
  ours.check_probability(answers.probability, batch, 'pairwise', 2, 'our')
