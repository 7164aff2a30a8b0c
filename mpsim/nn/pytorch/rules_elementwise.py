"""Rules of arithmetic, functions of each element, and reductions."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from mpsim import ops
from mpsim.engine.tensor import Parameter, Tensor
from mpsim.nn.pytorch.masks import Draws, multiplied, of_mask
from mpsim.nn.pytorch.values import Call, axis_of, constant, need, tensor


def _unary(op: Callable[..., Tensor]) -> Callable[[Call, SimpleNamespace], Tensor]:
    return lambda call, a: op(tensor(a.self), name=call.name)


def _number(value: Any) -> bool:
    return isinstance(value, int | float)


def _operands(call: Call, a: SimpleNamespace) -> tuple[Any, Any]:
    """Returns both operands as a tensor, parameter or constant, the second one multiplied by alpha."""
    first, second = (
        each if isinstance(each, Tensor | Parameter) or _number(each) else constant(each, call.tape)
        for each in (a.self, a.other)
    )
    alpha = getattr(a, "alpha", 1)
    if alpha == 1:
        return first, second
    if _number(second):
        return first, second * alpha
    return first, ops.scale(tensor(second), alpha, name=f"{call.name}.alpha")


def _add(call: Call, a: SimpleNamespace) -> Any:
    if (random := of_mask("add", a.self, a.other)) is not None:
        return random
    first, second = _operands(call, a)
    if _number(first) and _number(second):
        return first + second
    first, second = (first, second) if isinstance(first, Tensor) else (second, first)
    if _number(second):
        return ops.shift(tensor(first, "a sum"), second, name=call.name)
    return ops.add(tensor(first, "a sum"), second, name=call.name)


def _subtract(call: Call, a: SimpleNamespace) -> Any:
    first, second = _operands(call, a)
    if _number(second):
        return ops.shift(tensor(first, "a difference"), -second, name=call.name)
    if isinstance(first, Tensor):
        return ops.subtract(first, second, name=call.name)
    if isinstance(first, np.ndarray):
        return ops.subtract(first, tensor(second, "a difference"), name=call.name)
    negative = ops.scale(tensor(second, "a difference"), -1.0, name=f"{call.name}.negative")
    return ops.shift(negative, first, name=call.name) if _number(first) else ops.add(negative, first, name=call.name)


def _reverse_subtract(call: Call, a: SimpleNamespace) -> Any:
    return _subtract(call, SimpleNamespace(**{**vars(a), "self": a.other, "other": a.self}))


def _multiply(call: Call, a: SimpleNamespace) -> Any:
    for x, mask in ((a.self, a.other), (a.other, a.self)):
        if isinstance(mask, Draws):
            return multiplied(call, x, mask)
    first, second = _operands(call, a)
    first, second = (first, second) if isinstance(first, Tensor) else (second, first)
    if _number(second):
        return ops.scale(tensor(first, "a product"), second, name=call.name)
    return ops.multiply(tensor(first, "a product"), second, name=call.name)


def _divide(call: Call, a: SimpleNamespace) -> Any:
    if (random := of_mask("divide", a.self, a.other)) is not None:
        return random
    need(not getattr(a, "rounding_mode", None), "a quotient that is rounded to an integer")
    first, second = (constant(each, call.tape) if _number(each) else each for each in _operands(call, a))
    return ops.divide(first, second, name=call.name)


def _clamp(call: Call, a: SimpleNamespace) -> Any:
    low, high = (getattr(a, name, getattr(a, f"{name}_val", None)) for name in ("min", "max"))
    return ops.clamp(tensor(a.self), low, high, name=call.name)


def _softplus(call: Call, a: SimpleNamespace) -> Any:
    need(a.threshold >= 20, f"softplus with threshold={a.threshold} (20 and above are)")
    if a.beta == 1:
        return ops.softplus(tensor(a.self), name=call.name)
    inside = ops.scale(tensor(a.self), a.beta, name=f"{call.name}.beta")
    return ops.scale(ops.softplus(inside, name=f"{call.name}.softplus"), 1 / a.beta, name=call.name)


def _mish(call: Call, a: SimpleNamespace) -> Any:
    x = tensor(a.self)
    y = ops.tanh(ops.softplus(x, name=f"{call.name}.softplus"), name=f"{call.name}.tanh")
    return ops.multiply(x, y, name=call.name)


def _reduction(op: Callable[..., Tensor]) -> Callable[[Call, SimpleNamespace], Tensor]:
    def rule(call: Call, a: SimpleNamespace) -> Tensor:
        axes = getattr(a, "dim", None) or None
        return op(tensor(a.self), axes, keep=getattr(a, "keepdim", False), name=call.name)

    return rule


def _softmax(call: Call, a: SimpleNamespace) -> Any:
    return ops.softmax(tensor(a.self), a.dim, name=call.name)


def _log_softmax(call: Call, a: SimpleNamespace) -> Any:
    x = tensor(a.self)
    axis = axis_of(a.dim, x)
    order = [*(each for each in range(len(x.shape)) if each != axis), axis]
    last = ops.permute(x, order) if axis != len(order) - 1 else x
    y = ops.reshape(ops.log_softmax(ops.reshape(last, (-1, last.shape[-1])), name=call.name), last.shape)
    return ops.permute(y, [order.index(each) for each in range(len(order))]) if axis != len(order) - 1 else y


ELEMENTWISE: dict[str, Callable[[Call, SimpleNamespace], Any]] = {
    **{
        f"aten.{name}.default": _unary(op)
        for name, op in {
            "relu": ops.relu, "relu6": ops.relu6, "sigmoid": ops.sigmoid, "tanh": ops.tanh, "exp": ops.exp,
            "log": ops.log, "sqrt": ops.sqrt, "erf": ops.erf, "silu": ops.silu, "hardswish": ops.hard_swish,
            "hardsigmoid": ops.hard_sigmoid,
        }.items()
    },
    "aten.gelu.default": lambda call, a: ops.gelu(tensor(a.self), a.approximate, name=call.name),
    "aten.leaky_relu.default": lambda call, a: ops.leaky_relu(tensor(a.self), a.negative_slope, name=call.name),
    "aten.neg.default": lambda call, a: ops.scale(tensor(a.self), -1.0, name=call.name),
    "aten.square.default": lambda call, a: ops.multiply(tensor(a.self), a.self, name=call.name),
    "aten.hardtanh.default": _clamp, "aten.clamp.default": _clamp, "aten.softplus.default": _softplus,
    "aten.clamp_min.default": _clamp, "aten.clamp_max.default": _clamp, "aten.mish.default": _mish,
    "aten.add.Tensor": _add, "aten.add.Scalar": _add, "aten.sub.Tensor": _subtract, "aten.sub.Scalar": _subtract,
    "aten.rsub.Scalar": _reverse_subtract, "aten.rsub.Tensor": _reverse_subtract,
    "aten.mul.Tensor": _multiply, "aten.mul.Scalar": _multiply,
    "aten.div.Tensor": _divide, "aten.div.Scalar": _divide,
    "aten.mean.dim": _reduction(ops.mean), "aten.mean.default": _reduction(ops.mean),
    "aten.sum.dim_IntList": _reduction(ops.sum), "aten.sum.default": _reduction(ops.sum),
    "aten.softmax.int": _softmax, "aten.log_softmax.int": _log_softmax,
}  # fmt: skip
