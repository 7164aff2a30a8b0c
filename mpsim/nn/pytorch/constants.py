"""Functions of constants alone, such as masks and positions, which NumPy computes when the network is called.

Each is exact or correctly rounded, so that its result is the same everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from mpsim.nn.pytorch.values import need

Constant = np.ndarray
_TYPES = {"torch.float32": np.float32, "torch.int64": np.int64, "torch.bool": np.bool_, "torch.int32": np.int32}


def _typed(a: SimpleNamespace, default: Any) -> Any:
    """Returns the type that the call names, or the default."""
    need(a.dtype is None or str(a.dtype) in _TYPES, f"a constant of {a.dtype}")
    return default if a.dtype is None else _TYPES[str(a.dtype)]


def _range(a: SimpleNamespace) -> Constant:
    values = (getattr(a, "start", 0), a.end, getattr(a, "step", 1))
    whole = all(isinstance(value, int) for value in values)
    need(whole, "arange of fractions")
    return np.arange(*values, dtype=_typed(a, np.int64))


def _filled(value: Any) -> Callable[[SimpleNamespace], Constant]:
    def rule(a: SimpleNamespace) -> Constant:
        given = a.fill_value if value is None else value
        like = getattr(a, "self", None)
        default = np.float32 if value is not None or isinstance(given, float) else np.asarray(given).dtype
        return np.full(
            a.size if like is None else like.shape, given, _typed(a, default if like is None else like.dtype)
        )

    return rule


def _pair(function: Callable[..., Any]) -> Callable[[SimpleNamespace], Constant]:
    def rule(a: SimpleNamespace) -> Constant:
        need(getattr(a, "alpha", 1) == 1, "a sum of constants with alpha")
        operands = [a.self, a.other]
        kinds = {np.asarray(each).dtype.kind for each in operands}
        if "f" in kinds or function is np.divide:
            operands = [np.asarray(each, np.float32) for each in operands]
        return function(*operands)

    return rule


def _slice(a: SimpleNamespace) -> Constant:
    place = [slice(None)] * a.self.ndim
    place[a.dim] = slice(a.start, a.end, a.step)
    return a.self[tuple(place)]


def _expand(a: SimpleNamespace) -> Constant:
    more = len(a.size) - a.self.ndim
    old = (1,) * more + a.self.shape
    return np.broadcast_to(a.self, [o if size == -1 else size for size, o in zip(a.size, old, strict=True)])


def _to(a: SimpleNamespace) -> Constant:
    return a.self.astype(_typed(a, a.self.dtype))


def _squeeze(a: SimpleNamespace) -> Constant:
    dims = a.dim if isinstance(a.dim, list) else [a.dim]
    return np.squeeze(a.self, tuple(dim for dim in dims if a.self.shape[dim] == 1))


def _same(a: SimpleNamespace) -> Constant:
    return a.self


_COMPARISONS = {
    "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal,
}  # fmt: skip
_ARITHMETIC = {"add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide}

#: "aten.<function>.<overload>" -> a function of the arguments by ATen's names.
CONSTANTS: dict[str, Callable[[SimpleNamespace], Constant]] = {
    "aten.arange.default": _range, "aten.arange.start": _range, "aten.arange.start_step": _range,
    "aten.ones.default": _filled(1), "aten.zeros.default": _filled(0), "aten.full.default": _filled(None),
    "aten.ones_like.default": _filled(1), "aten.zeros_like.default": _filled(0),
    "aten.full_like.default": _filled(None),
    **{
        f"aten.{name}.{kind}": _pair(function)
        for name, function in {**_COMPARISONS, **_ARITHMETIC}.items()
        for kind in ("Tensor", "Scalar")
    },
    "aten.logical_not.default": lambda a: np.logical_not(a.self),
    "aten.bitwise_not.default": lambda a: ~a.self,
    "aten.logical_and.default": lambda a: np.logical_and(a.self, a.other),
    "aten.logical_or.default": lambda a: np.logical_or(a.self, a.other),
    "aten.neg.default": lambda a: -a.self, "aten.tril.default": lambda a: np.tril(a.self, a.diagonal),
    "aten.triu.default": lambda a: np.triu(a.self, a.diagonal),
    "aten.masked_fill.Scalar": lambda a: np.where(a.mask, np.asarray(a.value, a.self.dtype), a.self),
    "aten.slice.Tensor": _slice, "aten.select.int": lambda a: np.take(a.self, a.index, a.dim),
    "aten.expand.default": _expand, "aten.to.dtype": _to, "aten.to.dtype_layout": _to,
    "aten.view.default": lambda a: a.self.reshape(a.size), "aten.reshape.default": lambda a: a.self.reshape(a.shape),
    "aten.unsqueeze.default": lambda a: np.expand_dims(a.self, a.dim), "aten.squeeze.dim": _squeeze,
    "aten.permute.default": lambda a: a.self.transpose(a.dims), "aten.t.default": lambda a: a.self.T,
    "aten.transpose.int": lambda a: np.swapaxes(a.self, a.dim0, a.dim1),
    **dict.fromkeys([f"aten.{name}.default" for name in ("contiguous", "clone", "alias", "lift_fresh_copy")], _same),
    "aten.detach.default": _same,
}  # fmt: skip
