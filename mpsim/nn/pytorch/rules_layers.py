"""Rules of convolutions, products, normalization, pooling, dropout, padding and interpolation."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from mpsim import ops
from mpsim.engine.tensor import Parameter, Tensor
from mpsim.nn.convolution import window_padding
from mpsim.nn.pytorch.rules_composed import matrix_product
from mpsim.nn.pytorch.values import Call, constant, need, optional_parameter, parameter, tensor


def _sizes(values: Any) -> Any:
    """Returns two sizes from a list of one or two."""
    return tuple(values) * (2 if len(values) == 1 else 1)


def _weights(a: SimpleNamespace) -> tuple[Any, Any]:
    return parameter(a.weight, "the weight"), optional_parameter(a.bias, "the bias")


def _conv2d(call: Call, a: SimpleNamespace) -> Tensor:
    x, padding = _padded(call, a, a.weight.shape[2:], _sizes(a.stride), _sizes(a.dilation))
    geometry = {"stride": _sizes(a.stride), "dilation": _sizes(a.dilation), "groups": a.groups}
    return ops.conv2d(x, *_weights(a), **geometry, padding=_sizes(padding), name=call.name)


def _conv1d(call: Call, a: SimpleNamespace) -> Tensor:
    x, padding = _padded(call, a, (1, a.weight.shape[2]), (1, *a.stride), (1, *a.dilation))
    geometry = {"stride": a.stride[0], "dilation": a.dilation[0], "groups": a.groups}
    return ops.conv1d(x, *_weights(a), **geometry, padding=padding[-1], name=call.name)


def _padded(
    call: Call, a: SimpleNamespace, kernel: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int]
) -> tuple[Tensor, Any]:
    """Returns the input of a convolution and its padding, for a name ("same") too."""
    x, padding = tensor(a.input, "a convolution"), a.padding
    if not isinstance(padding, str):
        return x, padding
    need(padding == "valid" or stride == (1, 1), 'padding="same" with a stride')
    widths = window_padding(padding, kernel, stride, dilation)
    if all(before == after for before, after in widths):
        return x, [before for before, _ in widths]
    return ops.pad(x, widths[4 - len(x.shape) :], name=f"{call.name}.pad"), [0, 0]


def _conv_transpose2d(call: Call, a: SimpleNamespace) -> Tensor:
    geometry = {name: _sizes(getattr(a, name)) for name in ("stride", "padding", "output_padding", "dilation")}
    x = tensor(a.input, "a convolution")
    return ops.conv_transpose2d(x, *_weights(a), **geometry, groups=a.groups, name=call.name)


def _linear(call: Call, a: SimpleNamespace) -> Tensor:
    x = tensor(a.input, "a linear layer")
    if not isinstance(a.weight, Tensor):
        return ops.linear(x, *_weights(a), name=call.name)
    weight = ops.permute(a.weight, (1, 0))
    if a.bias is None:
        return matrix_product(call, x, weight)
    y = matrix_product(Call(f"{call.name}.product", call.tape), x, weight)
    return ops.add(y, a.bias if isinstance(a.bias, Tensor | Parameter) else constant(a.bias, call.tape), name=call.name)


def _attention(call: Call, a: SimpleNamespace) -> Tensor:
    mask = a.attn_mask
    if mask is not None:
        allowed = isinstance(mask, np.ndarray) and mask.dtype == bool
        mask = np.where(mask, 0, -np.inf).astype(np.float32) if allowed else constant(mask, call.tape)
        need(not np.isneginf(mask).all(axis=-1).any(), "attention with a mask that leaves a query no key")
    q, k, v = (tensor(each, "attention") for each in (a.query, a.key, a.value))
    if a.enable_gqa and k.shape[-3] != q.shape[-3]:
        axis, heads = len(k.shape) - 3, np.repeat(np.arange(k.shape[-3]), q.shape[-3] // k.shape[-3])
        k, v = (ops.take(x, axis, heads, name=f"{call.name}.{name}") for x, name in ((k, "keys"), (v, "copies")))
    given = {"causal": a.is_causal, "factor": a.scale, "dropout": a.dropout_p}
    return ops.attention(q, k, v, mask, **given, name=call.name)


def _batch_norm(call: Call, a: SimpleNamespace) -> Tensor:
    names = ("weight", "bias")
    scale, shift = (optional_parameter(getattr(a, name), f"the {name} of batch norm") for name in names)
    given = {"epsilon": a.eps, "name": call.name}
    x = tensor(a.input, "batch norm")
    if a.running_mean is None:
        return ops.batch_norm(x, scale, shift, **given, of_batch=True)
    need(a.training, "batch norm that is not in training when the module is (frozen statistics)")
    return ops.batch_norm(x, scale, shift, a.running_mean, a.running_var, **given, momentum=a.momentum)


def _layer_norm(call: Call, a: SimpleNamespace) -> Tensor:
    weights = (optional_parameter(each, "an argument of layer norm") for each in (a.weight, a.bias))
    count = len(a.normalized_shape)
    return ops.layer_norm(tensor(a.input, "layer norm"), *weights, axes=count, epsilon=a.eps, name=call.name)


def _group_norm(call: Call, a: SimpleNamespace) -> Tensor:
    weights = (optional_parameter(each, "an argument of group norm") for each in (a.weight, a.bias))
    return ops.group_norm(tensor(a.input, "group norm"), a.num_groups, *weights, epsilon=a.eps, name=call.name)


def _instance_norm(call: Call, a: SimpleNamespace) -> Tensor:
    need(a.use_input_stats and a.running_mean is None, "instance norm with running statistics")
    channels = tensor(a.input, "instance norm").shape[1]
    return _group_norm(call, SimpleNamespace(**{**vars(a), "num_groups": channels}))


def _rms_norm(call: Call, a: SimpleNamespace) -> Tensor:
    need(len(a.normalized_shape) == 1, "RMS norm over several axes")
    epsilon = 2.0**-23 if a.eps is None else a.eps
    weight = optional_parameter(a.weight, "the weight of RMS norm")
    return ops.rms_norm(tensor(a.input, "RMS norm"), weight, epsilon=epsilon, name=call.name)


def _embedding(call: Call, a: SimpleNamespace) -> Tensor:
    need(not a.scale_grad_by_freq, "an embedding with scale_grad_by_freq")
    padding = None if a.padding_idx < 0 else a.padding_idx
    tokens = call.tape.input(a.indices) if isinstance(a.indices, np.ndarray) else tensor(a.indices, "an embedding")
    return ops.embedding(tokens, parameter(a.weight, "the weight"), padding=padding, name=call.name)


def _max_pool2d(call: Call, a: SimpleNamespace) -> Tensor:
    need(_sizes(a.dilation) == (1, 1), "max pooling with a dilation")
    stride = _sizes(a.stride) if a.stride else None
    window = {"stride": stride, "padding": _sizes(a.padding), "ceil_mode": a.ceil_mode}
    return ops.max_pool2d(tensor(a.self, "pooling"), _sizes(a.kernel_size), **window, name=call.name)


def _avg_pool2d(call: Call, a: SimpleNamespace) -> Tensor:
    need(a.divisor_override is None, "average pooling with divisor_override")
    window = {
        "stride": _sizes(a.stride) if a.stride else None, "padding": _sizes(a.padding), "ceil_mode": a.ceil_mode,
        "count_include_pad": a.count_include_pad,
    }  # fmt: skip
    return ops.avg_pool2d(tensor(a.self, "pooling"), _sizes(a.kernel_size), **window, name=call.name)


def _adaptive_avg(call: Call, a: SimpleNamespace) -> Tensor:
    return ops.adaptive_avg_pool2d(tensor(a.self, "pooling"), _sizes(a.output_size), name=call.name)


def _adaptive_max(call: Call, a: SimpleNamespace) -> list:
    return [ops.adaptive_max_pool2d(tensor(a.self, "pooling"), _sizes(a.output_size), name=call.name), None]


def _row(op: Callable[..., Any]) -> Callable[[Call, SimpleNamespace], Any]:
    """Returns the rule of pooling along one axis: that of images of one row."""

    def rule(call: Call, a: SimpleNamespace) -> Any:
        x = tensor(a.self, "pooling")
        given = dict(vars(a))
        for name, other in (("kernel_size", 1), ("stride", 1), ("padding", 0), ("dilation", 1), ("output_size", 1)):
            if given.get(name):
                given[name] = [other, *given[name]]
        given["self"] = ops.reshape(x, (*x.shape[:-1], 1, x.shape[-1]))
        y = op(call, SimpleNamespace(**{"divisor_override": None, **given}))
        results = y if isinstance(y, list) else [y]
        rows = [None if each is None else ops.reshape(each, (*each.shape[:-2], each.shape[-1])) for each in results]
        return rows if isinstance(y, list) else rows[0]

    return rule


def _dropout(leading: int | None) -> Callable[[Call, SimpleNamespace], Tensor]:
    def rule(call: Call, a: SimpleNamespace) -> Tensor:
        if not a.train:
            return tensor(a.input, "dropout")
        need(a.p < 1, "dropout of everything")
        return ops.dropout(tensor(a.input, "dropout"), a.p, leading=leading, name=call.name)

    return rule


#: torch's names of padding modes -> those of ops.pad
_MODES = {"constant": "zeros", "reflect": "reflect", "replicate": "replicate", "circular": "circular"}


def _pad(call: Call, a: SimpleNamespace) -> Tensor:
    sides = list(a.pad)
    widths = [(sides[i], sides[i + 1]) for i in range(len(sides) - 2, -1, -2)]
    x = tensor(a.self, "padding")
    if a.mode != "constant" or not a.value:
        return ops.pad(x, widths, _MODES[a.mode], name=call.name)
    inside = np.pad(np.ones(x.shape[len(x.shape) - len(widths) :], bool), [(max(0, b), max(0, c)) for b, c in widths])
    need(min(map(min, widths)) >= 0, f"padding with {a.value} by negative widths")
    padded = ops.pad(x, widths, name=f"{call.name}.zeros")
    return ops.add(padded, np.where(inside, 0, a.value).astype(np.float32), name=call.name)


def _upsample(op: Callable[..., Tensor]) -> Callable[[Call, SimpleNamespace], Tensor]:
    def rule(call: Call, a: SimpleNamespace) -> Tensor:
        x = tensor(a.input, "interpolation")
        corners = {"align_corners": a.align_corners} if hasattr(a, "align_corners") else {}
        if a.output_size:
            return op(x, size=tuple(int(size) for size in a.output_size), **corners, name=call.name)
        need(all(factor == int(factor) for factor in a.scale_factors), f"interpolation by factors {a.scale_factors}")
        return op(x, tuple(int(factor) for factor in a.scale_factors), **corners, name=call.name)

    return rule


LAYERS: dict[str, Callable[[Call, SimpleNamespace], Any]] = {
    "aten.conv2d.default": _conv2d, "aten.conv2d.padding": _conv2d, "aten.conv1d.default": _conv1d,
    "aten.conv1d.padding": _conv1d,
    "aten.conv_transpose2d.input": _conv_transpose2d, "aten.linear.default": _linear,
    "aten.scaled_dot_product_attention.default": _attention,
    "aten.batch_norm.default": _batch_norm, "aten.layer_norm.default": _layer_norm,
    "aten.group_norm.default": _group_norm, "aten.instance_norm.default": _instance_norm,
    "aten.rms_norm.default": _rms_norm, "aten.embedding.default": _embedding,
    "aten.max_pool2d.default": _max_pool2d, "aten.avg_pool2d.default": _avg_pool2d,
    "aten.max_pool1d.default": _row(_max_pool2d), "aten.avg_pool1d.default": _row(_avg_pool2d),
    "aten.adaptive_avg_pool1d.default": _row(_adaptive_avg), "aten.adaptive_max_pool1d.default": _row(_adaptive_max),
    "aten.adaptive_avg_pool2d.default": _adaptive_avg, "aten.adaptive_max_pool2d.default": _adaptive_max,
    "aten.dropout.default": _dropout(None), "aten.feature_dropout.default": _dropout(2),
    "aten.pad.default": _pad, "aten.upsample_nearest2d.vec": _upsample(ops.upsample_nearest),
    "aten.upsample_bilinear2d.vec": _upsample(ops.upsample_bilinear),
}  # fmt: skip
