"""A module of PyTorch as a whole while a step is recorded: its modes, its batch, and what it computes by itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

import numpy as np

from mpsim.errors import UsageError, UsageTypeError
from mpsim.interchange import as_array
from mpsim.interchange.pytorch import TorchModule, TorchTensor
from mpsim.kernels.contract import Array


@contextmanager
def in_training(module: TorchModule) -> Iterator[None]:
    """Sets the module and its parts to training, and back to their modes. Frozen parameters get gradients inside."""
    modes = [(part, part.training) for part in module.modules()]
    frozen = [parameter for _, parameter in module.named_parameters() if not parameter.requires_grad]
    try:
        module.train()
        for parameter in frozen:
            parameter.requires_grad = True
        yield
    finally:
        for parameter in frozen:
            parameter.requires_grad = False
            parameter.grad = None
        for part, mode in modes:
            part.training = mode


def batch_of(torch: ModuleType, batch: object) -> tuple[TorchTensor, TorchTensor]:
    """Images or tokens, and labels, as tensors of PyTorch."""
    if not isinstance(batch, tuple | list) or len(batch) != 2:
        raise UsageTypeError(f"record: batch must be a pair (images, labels), got {type(batch).__name__}")
    images, labels = (as_array(each) for each in batch)
    if labels.dtype.kind not in "iu" or not labels.size or images.shape[:1] != labels.shape[:1]:
        raise UsageError(
            f"record: labels must be integers, as many as there are images, got {labels.dtype} {labels.shape} for "
            f"images {images.shape}"
        )
    kind = np.float32 if images.dtype.kind == "f" else np.int64
    return torch.from_numpy(np.array(images, kind)), torch.from_numpy(np.array(labels, np.int64))


def gradients_of(
    torch: ModuleType, module: TorchModule, images: TorchTensor, labels: TorchTensor, loss_scale: float
) -> dict[str, Array]:
    """Logits and gradients of the module called as a whole. Its buffers and gradients are as before afterwards."""
    buffers = {name: buffer.clone() for name, buffer in module.named_buffers()}
    module.zero_grad(set_to_none=True)
    logits = module(images)
    rows = logits.reshape(-1, logits.shape[-1])
    (loss_scale * torch.nn.functional.cross_entropy(rows, labels.reshape(-1))).backward()
    found = {"logits": host(logits)}
    for name, parameter in module.named_parameters():
        if parameter.grad is not None:
            found[f"gradient of {name}"] = host(parameter.grad)
    module.zero_grad(set_to_none=True)
    for name, buffer in module.named_buffers():
        buffer.copy_(buffers[name])
    return found


def host(tensor: TorchTensor) -> Array:
    """A copy as an array."""
    return np.array(as_array(tensor))


def same_bits(a: Array, b: Array) -> bool:
    return a.shape == b.shape and a.tobytes() == b.tobytes()
