"""Runs the networks of reference_models in PyTorch, by a tape that computes each op with torch.nn.functional.

Both libraries therefore run the same graph from one definition. With ``levels`` QPyTorch rounds every op's output and
its gradient, and every parameter and its gradient, to the low formats: to nearest, without counts.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch  # type: ignore[import-not-found,unused-ignore]
import torch.nn.functional as functional  # type: ignore[import-not-found,unused-ignore]

from mpsim import ops
from mpsim.assignment.levels import Levels
from mpsim.engine.tensor import Tensor
from mpsim.kernels.spec import own_infinity

LOSS_SCALE = 65536.0


def _convolution(x: list, w: list, a: dict) -> Any:
    bias = w[1] if len(w) > 1 else None
    return functional.conv2d(x[0], w[0], bias, a["stride"], a["padding"], groups=a["groups"])


def _batch_norm(x: list, w: list, a: dict) -> Any:
    # On a GPU the running statistics are left out, because they are on the host.
    mean, variance = (None, None) if x[0].is_cuda else map(torch.from_numpy, a["running"])
    return functional.batch_norm(x[0], mean, variance, *w, training=True, momentum=a["momentum"], eps=a["epsilon"])


#: kind of op -> function of input tensors, parameters and attributes
FUNCTIONS = {
    "Input": lambda x, w, a: x[0],
    "Conv2d": _convolution,
    "Linear": lambda x, w, a: functional.linear(x[0], *w),
    "BatchNorm2d": _batch_norm,
    "ReLU": lambda x, w, a: functional.relu(x[0]),
    "MaxPool2d": lambda x, w, a: functional.max_pool2d(x[0], a["kernel"], a["stride"], a["padding"]),
    "AvgPool2d": lambda x, w, a: functional.avg_pool2d(x[0], a["kernel"], a["stride"], a["padding"]),
    "Add": lambda x, w, a: x[0] + [*x, *w][1],  # of two tensors, or of a tensor and a parameter
    "Cat": lambda x, w, a: torch.cat(x, 1),
    "SplitHalf": lambda x, w, a: x[0].chunk(2, 1)[a["half"]],
    "Embedding": lambda x, w, a: functional.embedding(x[0], w[0]),
    "GELU": lambda x, w, a: functional.gelu(x[0]),
    "LayerNorm": lambda x, w, a: functional.layer_norm(x[0], a["affine"], *w, eps=a["epsilon"]),
    "MatMul": lambda x, w, a: x[0] @ x[1],
    "Mean": lambda x, w, a: x[0].mean(a["axes"], keepdim=True),
    "Scale": lambda x, w, a: x[0] * a["factor"],
    "Softmax": lambda x, w, a: functional.softmax(x[0], -1),
    "LogSoftmax": lambda x, w, a: functional.log_softmax(x[0], 1),
    "NLLLoss": lambda x, w, a: functional.nll_loss(x[0], x[1]).reshape(1),
}


class TorchTape:
    """Replaces mpsim.engine.tape.Tape by PyTorch. Autograd computes the gradients."""

    training, shape_only = True, False
    kernels = SimpleNamespace(permute=lambda x, axes: x.permute(axes))

    def __init__(self, weights: dict[str, Any], rounding: Any, device: str = "cpu") -> None:
        self.weights, self.rounding, self.device = weights, rounding, device
        self.ops: list[Any] = []  # stays empty: every op has its module's name

    def bind(
        self, primitive: Any, inputs: Any, parameters: Any = (), name: str | None = None, **attributes: Any
    ) -> Any:
        values = [self._value(x) for x in inputs]
        weights = [self.weights[parameter.name] for parameter in parameters if parameter is not None]
        return Tensor(self.rounding(FUNCTIONS[primitive.kind](values, weights, attributes)), self, 0)

    def _value(self, x: Any) -> Any:
        """Returns the tensor of an input, which tokens and constants are as arrays."""
        value = x.value if isinstance(x, Tensor) else x
        return torch.from_numpy(value).to(self.device) if isinstance(value, np.ndarray) else value

    def input(self, array: np.ndarray) -> Any:
        """Returns images as an op of kind "Input", or tokens."""
        if array.dtype.kind == "i":
            return Tensor(array, self, -1)
        return self.bind(SimpleNamespace(kind="Input"), (array,))

    def view(self, x: Tensor, shape: tuple[int, ...], forward: Any, backward: Any) -> Tensor:
        return Tensor(forward(x.value), self, 0)


class TorchStep:
    """Runs training steps of ``model`` (a network of reference_models, whose arrays change) in PyTorch.

    It uses SGD with momentum 0.9 and weight decay 5e-4, mpsim's defaults. levels: None for float32. device: PyTorch's
    name. rounding: functions that round tensors and parameters; by default QPyTorch's quantizers for ``levels``.
    """

    def __init__(
        self, model: Any, levels: Levels | None = None, *, device: str = "cpu", rounding: tuple[Any, Any] | None = None
    ) -> None:
        self.model, self.device = model, device
        self.masters = {
            name: torch.from_numpy(np.array(parameter.master)).to(device).requires_grad_()
            for name, parameter in model.parameters().items()
        }
        self.optimizer = torch.optim.SGD(self.masters.values(), lr=0.1, momentum=0.9, weight_decay=5e-4)
        self.scale = 1.0 if levels is None else LOSS_SCALE
        both: tuple[Any, Any] = (_as_it_is, _as_it_is) if levels is None else rounding or rounders(levels)
        self.round_tensor, self.round_parameter = both

    def __call__(self, images: np.ndarray, labels: np.ndarray) -> float:
        self.optimizer.zero_grad(set_to_none=True)
        weights = {name: self.round_parameter(master) for name, master in self.masters.items()}
        tape = TorchTape(weights, self.round_tensor, self.device)
        loss = ops.cross_entropy(self.model(tape.input(images)), labels).value
        (loss * self.scale if self.scale != 1 else loss).backward()
        if self.scale != 1:
            torch._foreach_mul_([master.grad for master in self.masters.values()], 1 / self.scale)
        self.optimizer.step()
        return float(loss.detach())


def _as_it_is(x: Any) -> Any:
    return x


def rounders(levels: Levels) -> tuple[Any, Any]:
    """Returns QPyTorch's quantizers of tensors and of parameters, forward and backward, to the low formats."""
    # It builds its C++ code when it is first imported. ninja may be installed only beside this Python.
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    from qtorch import FloatingPoint  # type: ignore[import-not-found,unused-ignore]
    from qtorch.quant import quantizer  # type: ignore[import-not-found,unused-ignore]

    formats = {role: FloatingPoint(f.exponent_bits, f.mantissa_bits) for role, f in levels.low.items()}

    def both(role: str) -> Any:
        return quantizer(formats[role], formats[f"{role}_gradient"], "nearest", "nearest")

    return both("activation"), both("parameter")


def rounded_by_operations(x: Any, format: Any) -> Any:
    """Rounds x to nearest even to a format with subnormals. Larger numbers become the format's overflow result."""
    beyond = own_infinity(format)
    _, exponent = torch.frexp(x)
    quantum = torch.ldexp(torch.ones_like(x), exponent.clamp(min=format.min_exponent + 1) - 1 - format.mantissa_bits)
    rounded = torch.round(x / quantum) * quantum
    return torch.where(rounded.abs() > float(format.largest), torch.copysign(torch.full_like(x, beyond), x), rounded)


def rounders_by_operations(levels: Levels) -> tuple[Any, Any]:
    """Does the same as ``rounders`` without QPyTorch."""

    def both(role: str) -> Any:
        stored, returned = levels.low[role], levels.low[f"{role}_gradient"]

        class Rounded(torch.autograd.Function):
            @staticmethod
            def forward(context: Any, x: Any) -> Any:
                return rounded_by_operations(x, stored)

            @staticmethod
            def backward(context: Any, gradient: Any) -> Any:
                return rounded_by_operations(gradient, returned)

        return Rounded.apply

    return both("activation"), both("parameter")
