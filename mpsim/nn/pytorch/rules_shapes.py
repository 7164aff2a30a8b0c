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
    axes = (a.dim0, a.dim1) if hasattr(a, "dim0") else (a.axis0, a.axis1) if hasattr(a, "axis0") else (0, 1)
    first, second = (axis_of(dim, x) for dim in axes)
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
    if len(order) == 1:
        rows = [ops.reshape(each, (1, each.shape[0])) for each in tensors]
        return ops.reshape(ops.cat(rows, name=call.name), (-1,))
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
    x, sizes = tensor(a.self, "an expansion"), list(a.size if hasattr(a, "size") else a.other.shape)
    x = ops.reshape(x, (*[1] * (len(sizes) - len(x.shape)), *x.shape))
    for axis, size in enumerate(sizes):
        if size not in (-1, x.shape[axis]):
            x = ops.take(x, axis, np.zeros(size, np.int64), name=f"{call.name}.{axis}")
    return x


def _detach(call: Call, a: SimpleNamespace) -> Any:
    need(not isinstance(a.self, Tensor), "detach, which keeps a gradient from a computed tensor,")
    return a.self


def _flip(call: Call, a: SimpleNamespace) -> Tensor:
    x = tensor(a.self)
    for place, dim in enumerate(a.dims):
        x = ops.slice(x, axis_of(dim, x), None, None, -1, name=f"{call.name}.{place + 1}" if place else call.name)
    return x


def _roll(call: Call, a: SimpleNamespace) -> Tensor:
    x = tensor(a.self)
    need(bool(a.dims), "roll without an axis")
    for place, (dim, shift) in enumerate(zip(a.dims, a.shifts, strict=True)):
        axis = axis_of(dim, x)
        index = np.roll(np.arange(x.shape[axis]), shift)
        x = ops.take(x, axis, index, name=f"{call.name}.{place + 1}" if place else call.name)
    return x


def _repeat(call: Call, a: SimpleNamespace) -> Tensor:
    x, repeats = tensor(a.self), list(a.dims if hasattr(a, "dims") else a.repeats)
    repeats = [*[1] * (len(x.shape) - len(repeats)), *repeats]  # tile may leave out the first axes
    x = ops.reshape(x, (*[1] * (len(repeats) - len(x.shape)), *x.shape))
    for axis, times in enumerate(repeats):
        if times != 1:
            x = ops.take(x, axis, np.tile(np.arange(x.shape[axis]), times), name=f"{call.name}.{axis}")
    return x


def _repeat_interleave(call: Call, a: SimpleNamespace) -> Tensor:
    need(a.dim is not None, "repeat_interleave without an axis")
    x = tensor(a.self)
    axis = axis_of(a.dim, x)
    return ops.take(x, axis, np.repeat(np.arange(x.shape[axis]), a.repeats), name=call.name)


def _index(call: Call, a: SimpleNamespace) -> Tensor:
    """Elements at constant positions along one axis."""
    x = tensor(a.self, "indexing")
    indices = a.indices if hasattr(a, "indices") else [*[None] * axis_of(a.dim, x), a.index]
    (axis, index), *others = [(axis, each) for axis, each in enumerate(indices) if each is not None]
    need(not others and isinstance(index, np.ndarray) and index.ndim == 1, "indexing by other than one constant list")
    positions = np.flatnonzero(index) if index.dtype == bool else index
    return ops.take(x, axis, positions, name=call.name)


def _narrow(call: Call, a: SimpleNamespace) -> Tensor:
    x = tensor(a.self, "a slice")
    return ops.slice(x, axis_of(a.dim, x), a.start, a.start + a.length, name=call.name)


def _move(call: Call, a: SimpleNamespace) -> Tensor:
    x = tensor(a.self, "a view")
    pairs = ((a.source, a.destination),) if isinstance(a.source, int) else zip(a.source, a.destination, strict=True)
    target = {axis_of(to, x): axis_of(source, x) for source, to in pairs}
    left = iter([axis for axis in range(len(x.shape)) if axis not in target.values()])
    return ops.permute(x, [target[place] if place in target else next(left) for place in range(len(x.shape))])


def _as_other(call: Call, a: SimpleNamespace) -> Tensor:
    return ops.reshape(tensor(a.self, "a view"), a.other.shape)


def _to(call: Call, a: SimpleNamespace) -> Any:
    dtype = str(getattr(a, "dtype", None))
    need(dtype in ("None", "torch.float32"), f"a conversion to {dtype}")
    return a.self


def _channel_shuffle(call: Call, a: SimpleNamespace) -> Tensor:
    return ops.channel_shuffle(tensor(a.self), a.groups)


def _pixel_shuffle(call: Call, a: SimpleNamespace) -> Tensor:
    return ops.pixel_shuffle(tensor(a.self), a.upscale_factor)


def _pixel_unshuffle(call: Call, a: SimpleNamespace) -> Tensor:
    x, factor = tensor(a.self, "a view"), a.downscale_factor
    samples, channels, height, width = x.shape
    x = ops.reshape(x, (samples * channels, height // factor, factor, width // factor, factor))
    return ops.reshape(ops.permute(x, (0, 2, 4, 1, 3)), (samples, -1, height // factor, width // factor))


SHAPES: dict[str, Callable[[Call, SimpleNamespace], Any]] = {
    **dict.fromkeys([f"aten.{name}.default" for name in ("contiguous", "clone", "alias", "lift_fresh_copy")], _same),
    "aten.to.dtype": _to, "aten.to.dtype_layout": _to, "aten.detach.default": _detach,
    "aten.flip.default": _flip, "aten.roll.default": _roll, "aten.repeat.default": _repeat,
    "aten.tile.default": _repeat, "aten.repeat_interleave.self_int": _repeat_interleave,
    "aten.index.Tensor": _index, "aten.index_select.default": _index, "aten.narrow.default": _narrow,
    "aten.movedim.int": _move, "aten.movedim.intlist": _move, "aten.swapaxes.default": _transpose,
    "aten.view_as.default": _as_other, "aten.reshape_as.default": _as_other, "aten.expand_as.default": _expand,
 "aten.view.default": _reshape, "aten.reshape.default": _reshape,
    "aten.flatten.using_ints": _flatten, "aten.unflatten.int": _unflatten, "aten.unsqueeze.default": _unsqueeze,
    "aten.squeeze.dim": _squeeze, "aten.squeeze.dims": _squeeze, "aten.squeeze.default": _squeeze,
    "aten.permute.default": _permute, "aten.transpose.int": _transpose, "aten.t.default": _transpose,
    "aten.cat.default": _cat, "aten.stack.default": _stack, "aten.chunk.default": _split, "aten.split.Tensor": _split,
    "aten.split_with_sizes.default": _split, "aten.unbind.int": _unbind, "aten.slice.Tensor": _slice,
    "aten.select.int": _select, "aten.expand.default": _expand, "aten.broadcast_to.default": _expand,
    "aten.channel_shuffle.default": _channel_shuffle,
    "aten.pixel_shuffle.default": _pixel_shuffle, "aten.pixel_unshuffle.default": _pixel_unshuffle,
    "aten.sym_size.int": lambda call, a: a.self.shape[a.dim],
}  # fmt: skip
