"""The peer: what a careful PyTorch user would write for the same work.

Channels last, fused Adam, gradients set to None, autocast in bfloat16,
`inference_mode`, `torch.compile` where it pays, as many threads as there are
cores. Images lie on the device as bytes and are normalised in the step, as
ours are. Needs torch; only `measure` imports this, and only with a peer.
"""

import functools
import os
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.fx.experimental import optimization

from jaxderm.benchmark import torch_networks
from jaxderm.benchmark.ours import LEARNING_RATE, Batch

# What ImageNet's pixels have, of 255.
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def setup(tf32: bool) -> str:
  """Settings of the whole process; returns the device, 'cuda' or 'cpu'.

  Args:
    tf32: Whether float32 products may use TF32, as those of ours do.
  """
  torch.manual_seed(0)
  torch.set_num_threads(len(os.sched_getaffinity(0)))
  torch.backends.cudnn.benchmark = True
  torch.backends.cudnn.allow_tf32 = tf32
  torch.backends.cuda.matmul.allow_tf32 = tf32
  return 'cuda' if torch.cuda.is_available() else 'cpu'


def bce_dice(logits: Tensor, batch: dict[str, Tensor]) -> Tensor:
  """As our loss: means over each image, Dice with 1 added above and below."""
  logits, mask = logits.float(), batch['mask'].float()
  bce = F.binary_cross_entropy_with_logits(logits, mask)
  probability = logits.sigmoid()
  overlap = (probability * mask).sum((1, 2, 3))
  total = (probability + mask).sum((1, 2, 3))
  return bce + (1 - (2 * overlap + 1) / (total + 1)).mean()


def cross_entropy(logits: Tensor, batch: dict[str, Tensor]) -> Tensor:
  return F.cross_entropy(logits.float(), batch['label'])


LOSSES = {'segmentation': bce_dice, 'classification': cross_entropy}


class Peer:
  """A network of theirs with a batch on the device.

  Attributes:
    parameters: Trainable ones.
    compiled: The mode of `torch.compile`, or 'eager'.
  """

  def __init__(
    self,
    factory: str,
    task: str,
    classes: int,
    batch: Batch,
    *,
    precision: str,
    compile_mode: str,
    tf32: bool,
  ):
    """Builds the network; compiling waits for the first step.

    Args:
      factory: Name in `torch_networks.FACTORIES`.
      task: 'segmentation' or 'classification'.
      classes: Logits of each image or pixel.
      batch: As ours has it.
      precision: 'float32' or 'bfloat16'.
      compile_mode: 'auto', 'no', or a mode of `torch.compile`.
      tf32: See `setup`.

    Raises:
      ImportError: A library of the peer is not installed.
    """
    self._device = setup(tf32)
    self.compiled = _mode(compile_mode, self._device)
    self._task, self._half = task, precision == 'bfloat16'
    network = torch_networks.make(factory, classes).to(
      self._device, memory_format=torch.channels_last
    )
    self.parameters = torch_networks.parameters(network)
    self._network = network
    self._batch = self._place(batch)
    shape = (1, 3, 1, 1)
    self._mean = torch.tensor(_MEAN, device=self._device).view(shape)
    self._std = torch.tensor(_STD, device=self._device).view(shape)
    self._optimizer = torch.optim.Adam(
      network.parameters(), LEARNING_RATE, fused=True
    )
    self._loss_fn = self._maybe_compile(self._loss)
    self._predict_fn = None

  def _place(self, batch: Batch) -> dict[str, Tensor]:
    def tensor(name: str) -> Tensor:
      value = torch.from_numpy(np.array(batch[name])).to(self._device)
      if value.ndim == 4:  # [B, H, W, C] is channels last already
        value = value.permute(0, 3, 1, 2)
      return value.long() if name == 'label' else value

    return {name: tensor(name) for name in ('image', 'mask', 'label')}

  def _maybe_compile(self, function: Callable) -> Callable:
    if self.compiled == 'eager':
      return function
    return torch.compile(function, mode=self.compiled)

  def _logits(self, network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    image = (batch['image'].float() / 255 - self._mean) / self._std
    # Torch forgets the layout of a computed batch of one channel or pixel.
    image = image.contiguous(memory_format=torch.channels_last)
    with torch.autocast(self._device, torch.bfloat16, enabled=self._half):
      return network(image)

  def _loss(self, batch: dict[str, Tensor]) -> Tensor:
    return LOSSES[self._task](self._logits(self._network, batch), batch)

  def _make_predict(self) -> Callable[[dict[str, Tensor]], Tensor]:
    """Inference by what has been trained so far, BatchNorm fused as ours is."""
    network = _fused(self._network.eval())
    return self._maybe_compile(functools.partial(self._predict, network))

  def _predict(self, network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    logits = self._logits(network, batch).float()
    if self._task == 'segmentation':
      return logits.sigmoid()
    return logits.softmax(1)

  def _wait(self) -> None:
    if self._device == 'cuda':
      torch.cuda.synchronize()

  def train(self, steps: int) -> None:
    """Updates by Adam, on one batch."""
    self._network.train()
    self._predict_fn = None
    for _ in range(steps):
      self._last = self._loss_fn(self._batch)
      self._last.backward()
      self._optimizer.step()
      self._optimizer.zero_grad(set_to_none=True)
    self._wait()

  def predict(self, steps: int) -> None:
    """Probabilities of one batch."""
    if self._predict_fn is None:
      self._predict_fn = self._make_predict()
    with torch.inference_mode():
      for _ in range(steps):
        self._probability = self._predict_fn(self._batch)
    self._wait()

  def check(self) -> None:
    """Raises ValueError if the last loss is no number."""
    if not torch.isfinite(self._last):
      raise ValueError(f"the peer's loss is {self._last} after its steps")

  @property
  def probability(self) -> np.ndarray:
    """The last ones, in our layout."""
    value = self._probability.float().cpu().numpy()
    return value.transpose(0, 2, 3, 1) if value.ndim == 4 else value


def _fused(network: nn.Module) -> nn.Module:
  """A copy whose convolutions have taken in the BatchNorm behind them.

  torch.fx finds them; what it cannot trace stays as it is.
  """
  try:
    return optimization.fuse(network)
  except (fx.proxy.TraceError, TypeError, NotImplementedError):
    return network


def _mode(wanted: str, device: str) -> str:
  """What `auto` means here.

  On a GPU launches of small kernels are what a small batch pays for, and CUDA
  graphs ('reduce-overhead') save those; that has not been run yet. On two CPU
  cores that others shared, a compiled step of MobileNetV2 (8 images of 128
  pixels) took 9.7 s and an eager one 5.6 s, the first compiled one 202 s:
  eager, until a quiet machine says otherwise.
  """
  if wanted == 'no':
    return 'eager'
  if wanted != 'auto':
    return wanted
  return 'reduce-overhead' if device == 'cuda' else 'eager'
