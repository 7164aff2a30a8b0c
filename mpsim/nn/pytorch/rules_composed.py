"""Rules of functions that several ops compute. Each op's result is stored, as anywhere else."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from types import SimpleNamespace
from typing import Any

import numpy as np

from mpsim import ops
from mpsim.engine.tensor import Parameter, Tensor
from mpsim.nn.pytorch.values import Call, axis_of, constant, need, parameter, tensor

ONE = np.ones(1, np.float32)
#: The constants of SELU (Klambauer et al. 2017).
SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805


def absolute(call: Call, x: Tensor) -> Tensor:
    """Returns relu(x) + relu(-x)."""
    negative = ops.relu(ops.scale(x, -1.0, name=f"{call.name}.negated"), name=f"{call.name}.negative")
    return ops.add(ops.relu(x, name=f"{call.name}.positive"), negative, name=call.name)


def _absolute(call: Call, a: SimpleNamespace) -> Tensor:
    return absolute(call, tensor(a.self))


def _exponential(call: Call, x: Tensor, alpha: float, factor: float, inside: float) -> Tensor:
    """Returns factor * (relu(x) + alpha * (exp(inside * min(x, 0)) - 1))."""
    y = ops.clamp(x, None, 0.0, name=f"{call.name}.clamp")
    y = y if inside == 1 else ops.scale(y, inside, name=f"{call.name}.inside")
    y = ops.shift(ops.exp(y, name=f"{call.name}.exp"), -1.0, name=f"{call.name}.shift")
    y = y if alpha == 1 else ops.scale(y, alpha, name=f"{call.name}.alpha")
    x = ops.relu(x, name=f"{call.name}.relu")
    y = ops.add(x, y, name=call.name if factor == 1 else f"{call.name}.sum")
    return y if factor == 1 else ops.scale(y, factor, name=call.name)


def _elu(call: Call, a: SimpleNamespace) -> Tensor:
    return _exponential(call, tensor(a.self), a.alpha * a.scale, 1.0, a.input_scale) if a.scale == 1 else _selu(call, a)


def _selu(call: Call, a: SimpleNamespace) -> Tensor:
    return _exponential(call, tensor(a.self), SELU_ALPHA, SELU_SCALE, 1.0)


def _celu(call: Call, a: SimpleNamespace) -> Tensor:
    return _exponential(call, tensor(a.self), a.alpha, 1.0, 1 / a.alpha)


def _prelu(call: Call, a: SimpleNamespace) -> Tensor:
    """relu(x) - weight * relu(-x)."""
    x, weight = tensor(a.self), parameter(a.weight, "the weight of PReLU")
    low = ops.relu(ops.scale(x, -1.0, name=f"{call.name}.negated"), name=f"{call.name}.negative")
    order = [0, *range(2, len(x.shape)), 1]
    last = low if weight.shape == (1,) else ops.permute(low, order)
    last = ops.multiply(last, weight, name=f"{call.name}.weighted")
    last = last if weight.shape == (1,) else ops.permute(last, [order.index(axis) for axis in range(len(order))])
    return ops.subtract(ops.relu(x, name=f"{call.name}.positive"), last, name=call.name)


def _log_sigmoid(call: Call, a: SimpleNamespace) -> Tensor:
    y = ops.softplus(ops.scale(tensor(a.self), -1.0, name=f"{call.name}.negated"), name=f"{call.name}.softplus")
    return ops.scale(y, -1.0, name=call.name)


def _glu(call: Call, a: SimpleNamespace) -> Tensor:
    x = tensor(a.self)
    axis = axis_of(a.dim, x)
    half = x.shape[axis] // 2
    value, gate = (
        ops.slice(x, axis, start, start + half, name=f"{call.name}.{part}")
        for start, part in ((0, "value"), (half, "gate"))
    )
    return ops.multiply(value, ops.sigmoid(gate, name=f"{call.name}.sigmoid"), name=call.name)


def _reciprocal(call: Call, a: SimpleNamespace) -> Tensor:
    return ops.divide(ONE, tensor(a.self), name=call.name)


def _inverse_root(call: Call, a: SimpleNamespace) -> Tensor:
    return ops.divide(ONE, ops.sqrt(tensor(a.self), name=f"{call.name}.sqrt"), name=call.name)


def _power(call: Call, a: SimpleNamespace) -> Tensor:
    """Whole powers by multiplications one after the other, and the halves by a square root."""
    x, exponent = tensor(a.self), abs(a.exponent)
    need(exponent in (0.5, 1, 1.5, 2, 3, 4, 5, 6, 7, 8) or not exponent, f"the power {a.exponent}")
    need(exponent != 0, "the power 0")
    root = exponent % 1 != 0
    name = call.name if a.exponent > 0 else f"{call.name}.power"
    times = int(exponent) - (0 if root else 1)
    y = ops.sqrt(x, name=f"{name}.sqrt" if times else name) if root else x
    for step in range(times):
        y = ops.multiply(y, x, name=name if step == times - 1 else f"{name}.{step + 1}")
    return y if a.exponent > 0 else ops.divide(ONE, y, name=call.name)


def _variance(root: bool) -> Callable[[Call, SimpleNamespace], Tensor]:
    def rule(call: Call, a: SimpleNamespace) -> Tensor:
        """The sum of squared differences from the mean, divided by the number of elements less the correction."""
        x = tensor(a.self)
        axes = [axis_of(dim, x) for dim in (getattr(a, "dim", None) or range(len(x.shape)))]
        less = a.correction if hasattr(a, "correction") else int(getattr(a, "unbiased", True))
        count = prod(x.shape[axis] for axis in axes) - (1 if less is None else less)
        need(count > 0, "a variance of too few elements")
        d = ops.subtract(x, ops.mean(x, axes, keep=True, name=f"{call.name}.mean"), name=f"{call.name}.difference")
        squares = ops.multiply(d, d, name=f"{call.name}.squares")
        total = ops.sum(squares, axes, keep=getattr(a, "keepdim", False), name=f"{call.name}.sum")
        y = ops.divide(total, ONE * count, name=f"{call.name}.variance" if root else call.name)
        return ops.sqrt(y, name=call.name) if root else y

    return rule


def _norm(call: Call, a: SimpleNamespace) -> Tensor:
    order = getattr(a, "ord", getattr(a, "p", 2))
    need(order in (1, 2), f"the norm of order {order}")
    x, axes = tensor(a.self), getattr(a, "dim", None) or None
    if order == 1:
        return ops.sum(absolute(Call(f"{call.name}.abs", call.tape), x), axes, keep=a.keepdim, name=call.name)
    squares = ops.multiply(x, x, name=f"{call.name}.squares")
    return ops.sqrt(ops.sum(squares, axes, keep=a.keepdim, name=f"{call.name}.sum"), name=call.name)


def _largest(call: Call, a: SimpleNamespace) -> Any:
    """The largest elements along an axis, by pooling. The gradient goes to the first of several."""
    x = tensor(a.self)
    axis = axis_of(a.dim, x)
    before, size, after = prod(x.shape[:axis]), x.shape[axis], prod(x.shape[axis + 1 :])
    y = ops.max_pool2d(ops.reshape(x, (before, 1, size, after)), (size, 1), name=call.name)
    kept = (1,) if a.keepdim else ()
    return [ops.reshape(y, (*x.shape[:axis], *kept, *x.shape[axis + 1 :])), None]


def _masked(call: Call, x: Tensor, mask: np.ndarray, value: float) -> Tensor:
    """x where the mask is 0, else the value: x + value for an infinity, and x * (1 - mask) + value * mask."""
    if np.isinf(value):
        return ops.add(x, np.where(mask, np.float32(value), np.float32(0)), name=call.name)
    y = ops.multiply(x, np.where(mask, 0, 1).astype(np.float32), name=f"{call.name}.kept" if value else call.name)
    return ops.add(y, np.where(mask, np.float32(value), np.float32(0)), name=call.name) if value else y


def _masked_fill(call: Call, a: SimpleNamespace) -> Tensor:
    need(isinstance(a.mask, np.ndarray), "masked_fill with a mask that is computed from the input")
    value = a.value if isinstance(a.value, int | float) else float(constant(a.value, call.tape).reshape(()))
    return _masked(call, tensor(a.self), a.mask, value)


def _where(call: Call, a: SimpleNamespace) -> Tensor:
    need(isinstance(a.condition, np.ndarray), "where with a condition that is computed from the input")
    mask, x, other = a.condition, a.self, a.other
    if not isinstance(x, Tensor):
        mask, x, other = ~mask, other, x
    need(isinstance(x, Tensor) and np.size(other) == 1, "where of other choices than a computed tensor and a number")
    return _masked(call, x, ~mask, float(np.asarray(other).reshape(())))


def matrix_product(call: Call, first: Any, second: Any) -> Tensor:
    """Returns the product of tensors. A second one of two axes multiplies every matrix of the first."""
    x, y = tensor(first, "a product"), tensor(second, "a product")
    if len(y.shape) == 2 and len(x.shape) > 2:
        rows = ops.matmul(ops.reshape(x, (-1, x.shape[-1])), y, name=call.name)
        return ops.reshape(rows, (*x.shape[:-1], y.shape[-1]))
    return ops.matmul(x, y, name=call.name)


def _product(call: Call, a: SimpleNamespace) -> Tensor:
    return matrix_product(call, a.self, a.other if hasattr(a, "other") else a.mat2)


def _sum_with_product(call: Call, a: SimpleNamespace) -> Tensor:
    need(a.beta == 1 and a.alpha == 1, "a product with alpha or beta")
    factors = (a.mat1, a.mat2) if hasattr(a, "mat1") else (a.batch1, a.batch2)
    y = matrix_product(Call(f"{call.name}.product", call.tape), *factors)
    added = a.self if isinstance(a.self, Tensor | Parameter) else constant(a.self, call.tape)
    return ops.add(y, added, name=call.name)


def _einsum(call: Call, a: SimpleNamespace) -> Tensor:
    """Products of two tensors: axes of both and the result, of both alone (summed), of one and the result."""
    words = a.equation.replace(" ", "").split("->")
    need(len(words) == 2 and len(a.tensors) == 2 and "." not in a.equation, f"einsum {a.equation!r}")
    (left, right), out = words[0].split(","), words[1]
    named = left + right + out
    need(all(named.count(axis) >= 2 for axis in named), f"einsum {a.equation!r}, with an axis that is summed alone,")
    need(all(len(set(each)) == len(each) for each in (left, right, out)), f"einsum {a.equation!r}, with a diagonal,")
    x, y = (tensor(each, "einsum") for each in a.tensors)
    sizes = dict(zip(left, x.shape, strict=True)) | dict(zip(right, y.shape, strict=True))
    both, summed = ([axis for axis in left if axis in right and (axis in out) is kept] for kept in (True, False))
    rows, columns = ([axis for axis in own if axis not in other] for own, other in ((left, right), (right, left)))
    parts = [prod(sizes[axis] for axis in axes) for axes in (both, rows, summed, columns)]
    x = ops.reshape(ops.permute(x, [left.index(axis) for axis in (*both, *rows, *summed)]), (parts[0], *parts[1:3]))
    y = ops.reshape(ops.permute(y, [right.index(axis) for axis in (*both, *summed, *columns)]), (parts[0], *parts[2:]))
    z = ops.matmul(x, y, name=call.name)
    made = [*both, *rows, *columns]
    return ops.permute(ops.reshape(z, [sizes[axis] for axis in made]), [made.index(axis) for axis in out])


COMPOSED: dict[str, Callable[[Call, SimpleNamespace], Any]] = {
    "aten.abs.default": _absolute, "aten.elu.default": _elu, "aten.selu.default": _selu, "aten.celu.default": _celu,
    "aten.prelu.default": _prelu, "aten.log_sigmoid.default": _log_sigmoid, "aten.glu.default": _glu,
    "aten.reciprocal.default": _reciprocal, "aten.rsqrt.default": _inverse_root,
    "aten.pow.Tensor_Scalar": _power, "aten.max.dim": _largest,
    **{
        f"aten.{name}.{kind}": _variance(name == "std")
        for name in ("var", "std")
        for kind in ("default", "dim", "correction")
    },
    "aten.linalg_vector_norm.default": _norm, "aten.norm.ScalarOpt_dim": _norm,
    "aten.masked_fill.Scalar": _masked_fill, "aten.masked_fill.Tensor": _masked_fill,
    "aten.where.self": _where, "aten.where.ScalarOther": _where,
    "aten.matmul.default": _product, "aten.bmm.default": _product, "aten.mm.default": _product,
    "aten.addmm.default": _sum_with_product, "aten.baddbmm.default": _sum_with_product,
    "aten.einsum.default": _einsum,
}  # fmt: skip
