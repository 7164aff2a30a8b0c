"""Rules of views, slices, joins and sizes."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from types import SimpleNamespace
from typing import Any

import numpy as np

from mpsim import ops
from mpsim.engine.tensor import Tensor
from mpsim.nn.pytorch.values import Call, axis_of, need, tensor


def _same(call: Call, a: SimpleNamespace) -> Any:
    return a.self


def _reshape(call: Call, a: SimpleNamespace) -> Tensor:
    return ops.reshape(tensor(a.self, "a view"), a.size if hasattr(a, "size") else a.shape)


def _flatten(call: Call, a: SimpleNamespace) -> Tensor:
    x = tensor(a.self, "a view")
    first, last = axis_of(a.start_dim, x), axis_of(a.end_dim, x)
    return ops.reshape(x, (*x.shape[:first], prod(x.shape[first : last + 1]), *x.shape[last + 1 :]))


def _unflatten(call: Call, a: SimpleNamespace) -> Tensor:
    x = tensor(a.self, "a view")
    axis, sizes = axis_of(a.dim, x), list(a.sizes)
    if -1 in sizes:
        sizes[sizes.index(-1)] = x.shape[axis] // -prod(sizes)
    return ops.reshape(x, (*x.shape[:axis], *sizes, *x.shape[axis + 1 :]))


def _unsqueeze(call: Call, a: SimpleNamespace) -> Tensor:
    x = tensor(a.self, "a view")
    axis = axis_of(a.dim, x, 1)
    return ops.reshape(x, (*x.shape[:axis], 1, *x.shape[axis:]))


def _squeeze(call: Call, a: SimpleNamespace) -> Tensor:
    x = tensor(a.self, "a view")
    dims: Any = getattr(a, "dim", None)
    need(dims is not None, "squeeze without an axis, whose result depends on the batch size,")
    axes = {axis_of(dim, x) for dim in (dims if isinstance(dims, list) else [dims])}
    return ops.reshape(x, [size for axis, size in enumerate(x.shape) if axis not in axes or size != 1])


def _permute(call: Call, a: SimpleNamespace) -> Tensor:
    x = tensor(a.self, "a view")
    return ops.permute(x, [axis_of(dim, x) for dim in a.dims])


def _transpose(call: Call, a: SimpleNamespace) -> Tensor:
    x = tensor(a.self, "a view")
    order = list(range(len(x.shape)))
    first, second = (axis_of(dim, x) for dim in ((a.dim0, a.dim1) if hasattr(a, "dim0") else (0, 1)))
    order[first], order[second] = second, first
    return ops.permute(x, order)


def _cat(call: Call, a: SimpleNamespace) -> Tensor:
    tensors = [tensor(each, "a join") for each in a.tensors]
    axis = axis_of(a.dim, tensors[0])
    return _joined(call, tensors, axis)


def _joined(call: Call, tensors: list[Tensor], axis: int) -> Tensor:
    """Joins along any axis by exchanging it with axis 1."""
    if axis == 1:
        return ops.cat(tensors, name=call.name)
    order = list(range(len(tensors[0].shape)))
    need(len(order) > 1, "a join of tensors with one axis")
    order[1], order[axis] = order[axis], order[1]
    return ops.permute(ops.cat([ops.permute(each, order) for each in tensors], name=call.name), order)


def _stack(call: Call, a: SimpleNamespace) -> Tensor:
    tensors = [_unsqueeze(call, SimpleNamespace(self=each, dim=a.dim)) for each in a.tensors]
    return _joined(call, tensors, axis_of(a.dim, tensors[0]))


def _pieces(call: Call, x: Tensor, axis: int, sizes: list[int]) -> list[Tensor]:
    if len(sizes) == 2 and sizes[0] == sizes[1] and axis == 1:
        return list(ops.split_half(x, name=call.name))
    ends = np.cumsum(sizes).tolist()
    return [
        ops.slice(x, axis, end - size, end, name=f"{call.name}.{i}")
        for i, (size, end) in enumerate(zip(sizes, ends, strict=True))
    ]


def _split(call: Call, a: SimpleNamespace) -> list[Tensor]:
    """By a number of pieces, the size of a piece, or all sizes."""
    x = tensor(a.self, "a split")
    axis = axis_of(a.dim, x)
    if hasattr(a, "split_sizes"):
        return _pieces(call, x, axis, list(a.split_sizes))
    size = -(-x.shape[axis] // a.chunks) if hasattr(a, "chunks") else a.split_size
    starts = range(0, x.shape[axis], size)
    return _pieces(call, x, axis, [min(size, x.shape[axis] - start) for start in starts])


def _unbind(call: Call, a: SimpleNamespace) -> list[Tensor]:
    x = tensor(a.self, "a split")
    return [ops.select(x, axis_of(a.dim, x), i, name=f"{call.name}.{i}") for i in range(x.shape[axis_of(a.dim, x)])]


def _slice(call: Call, a: SimpleNamespace) -> Tensor:
    x = tensor(a.self, "a slice")
    axis = axis_of(a.dim, x)
    if (a.start or 0) == 0 and a.step == 1 and (a.end is None or a.end >= x.shape[axis]):
        return x
    return ops.slice(x, axis, a.start, a.end, a.step, name=call.name)


def _select(call: Call, a: SimpleNamespace) -> Tensor:
    x = tensor(a.self, "a slice")
    return ops.select(x, axis_of(a.dim, x), a.index, name=call.name)


def _expand(call: Call, a: SimpleNamespace) -> Tensor:
    x = tensor(a.self, "an expansion")
    need(len(a.size) == len(x.shape), "an expansion to more axes")
    for axis, size in enumerate(a.size):
        if size not in (-1, x.shape[axis]):
            x = ops.take(x, axis, np.zeros(size, np.int64), name=f"{call.name}.{axis}")
    return x


def _to(call: Call, a: SimpleNamespace) -> Any:
    need(a.dtype is None or str(a.dtype) == "torch.float32", f"a conversion to {a.dtype}")
    return a.self


def _channel_shuffle(call: Call, a: SimpleNamespace) -> Tensor:
    return ops.channel_shuffle(tensor(a.self), a.groups)


def _pixel_shuffle(call: Call, a: SimpleNamespace) -> Tensor:
    return ops.pixel_shuffle(tensor(a.self), a.upscale_factor)


SHAPES: dict[str, Callable[[Call, SimpleNamespace], Any]] = {
    **dict.fromkeys([f"aten.{name}.default" for name in ("contiguous", "clone", "alias", "lift_fresh_copy")], _same),
    "aten.to.dtype": _to, "aten.view.default": _reshape, "aten.reshape.default": _reshape,
    "aten.flatten.using_ints": _flatten, "aten.unflatten.int": _unflatten, "aten.unsqueeze.default": _unsqueeze,
    "aten.squeeze.dim": _squeeze, "aten.squeeze.dims": _squeeze, "aten.squeeze.default": _squeeze,
    "aten.permute.default": _permute, "aten.transpose.int": _transpose, "aten.t.default": _transpose,
    "aten.cat.default": _cat, "aten.stack.default": _stack, "aten.chunk.default": _split, "aten.split.Tensor": _split,
    "aten.split_with_sizes.default": _split, "aten.unbind.int": _unbind, "aten.slice.Tensor": _slice,
    "aten.select.int": _select, "aten.expand.default": _expand, "aten.channel_shuffle.default": _channel_shuffle,
    "aten.pixel_shuffle.default": _pixel_shuffle,
    "aten.sym_size.int": lambda call, a: a.self.shape[a.dim],
}  # fmt: skip
