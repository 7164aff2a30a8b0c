"""Steps of training of an imported network and of the module of PyTorch that it was made from, and their comparison."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from mpsim import kernels, nn, ops
from mpsim.engine.tape import Tape
from mpsim.kernels.philox import Stream
from mpsim.trace import trace
from tests.torch_blocks import DropPath

SHAPE, RATE, STEPS = (3, 8, 8), 0.1, 3


def batches() -> list[tuple[np.ndarray, np.ndarray]]:
    random = np.random.default_rng(5)
    return [(random.standard_normal((4, *SHAPE)).astype(np.float32), random.integers(0, 5, 4)) for _ in range(STEPS)]


def built(model: Any) -> Any:
    torch.manual_seed(3)
    return model()


@cache
def imported(model: Any) -> nn.ImportedNetwork:
    """The network of ``built(model)``. Tests restore its state."""
    return nn.from_torch(built(model), torch.zeros(1, *SHAPE))


def ours(network: nn.Module, backend: str) -> list[dict[str, np.ndarray]]:
    """The logits and gradients of each step of plain gradient descent from the network's state, which is kept."""
    before, found = network.state(), []
    for step, (images, labels) in enumerate(batches()):
        tape = Tape(kernels.bind(backend), seed=7, step=step)
        logits = network(tape.input(images))
        gradients = tape.backward(ops.cross_entropy(logits, labels))
        found.append({"logits": np.array(logits.value), **{p.name: np.array(g) for p, g in gradients.items()}})
        for parameter, gradient in gradients.items():
            parameter.replace(parameter.master - np.float32(RATE) * gradient)
    found.append(network.statistics())
    network.load_state(before)
    return found


class Dropped:
    """Drops what op ``index`` of the tape drops, by the definition in docs/semantics.md, in place of F.dropout.

    ``leading``: the axes with their own draws, or 0 for one draw.
    """

    def __init__(self, index: int, share: float, leading: int | None) -> None:
        self.index, self.share, self.leading, self.step = index, share, leading, 0

    def __call__(self, x: Any) -> Any:
        shape = x.shape if self.leading is None else (*x.shape[: self.leading], *[1] * (x.ndim - self.leading))
        words = kernels.bind("reference").random_bits(Stream(7, "dropout", self.index, self.step), int(np.prod(shape)))
        kept = torch.from_numpy((words >= np.uint64(round(self.share * 2**32))).reshape(shape))
        self.step += 1
        return x * kept / (1 - self.share)


def theirs(module: Any, network: nn.Module, dtype: Any) -> list[dict[str, np.ndarray]]:
    """The same of PyTorch."""
    module = copy.deepcopy(module).to(dtype).train()
    ops_of_name = {op.name: op for op in trace(network, batch=4).ops}
    for name, layer in module.named_modules():
        if isinstance(layer, torch.nn.Dropout | torch.nn.Dropout2d):
            leading = 2 if isinstance(layer, torch.nn.Dropout2d) else None
            layer.forward = Dropped(ops_of_name[name].index, layer.p, leading)
        elif isinstance(layer, DropPath):  # a quotient, then the product with the mask
            layer.forward = Dropped(ops_of_name[f"{name}.2"].index, layer.share, 0 if layer.batch else 1)
    found = []
    for images, labels in batches():
        module.zero_grad()
        logits = module(torch.from_numpy(images).to(dtype))
        F.cross_entropy(logits, torch.from_numpy(labels)).backward()
        named = {name: p for name, p in module.named_parameters() if p.grad is not None}  # None: not used
        found.append({"logits": logits.detach().numpy(), **{n: p.grad.numpy().copy() for n, p in named.items()}})
        with torch.no_grad():
            for parameter in named.values():
                parameter -= RATE * parameter.grad
    kept = module.state_dict().keys()
    found.append({name: buffer.numpy().copy() for name, buffer in module.named_buffers() if name in kept})
    return found


def distance(a: dict[str, np.ndarray], b: dict[str, np.ndarray], names: list[str]) -> float:
    return float(np.sqrt(sum(((a[name].astype(np.float64) - b[name]) ** 2).sum() for name in names)))


def check_near(module: Any, network: nn.Module) -> None:
    """Asserts that logits, gradients and statistics are within 8 times PyTorch's own distance to float64."""
    found = ours(network, "compiled")
    single, double = (theirs(module, network, dtype) for dtype in (torch.float32, torch.float64))
    for mine, float32, float64 in zip(found, single, double, strict=True):
        assert mine.keys() == float64.keys()
        gradients = [name for name in mine if name != "logits"]
        for names in ([name for name in mine if name == "logits"], gradients):
            norm = float(np.sqrt(sum((float64[name].astype(np.float64) ** 2).sum() for name in names)))
            assert distance(mine, float64, names) <= 8 * max(distance(float32, float64, names), 2.0**-26 * norm)
        for name in gradients:  # one of them may be exact in PyTorch by luck: then to a rounding of the largest
            norm = max(np.abs(float64[each]).max() for each in gradients)
            own = max(distance(float32, float64, [name]), 2.0**-24 * norm)
            assert distance(mine, float64, [name]) <= 8 * own, name


def check_backends(network: nn.Module) -> None:
    """Asserts that three backends give the same bits."""
    found = [ours(network, backend) for backend in ("compiled", "numba", "reference")]
    for other in found[1:]:
        for mine, step in zip(found[0], other, strict=True):
            assert {n: a.tobytes() for n, a in mine.items()} == {n: a.tobytes() for n, a in step.items()}
