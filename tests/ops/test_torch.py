"""Ops against PyTorch in float64: results and gradients within a few float32 roundings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mpsim import kernels, ops
from mpsim.engine.tape import Tape
from mpsim.engine.tensor import Parameter
from mpsim.testing.gradients import LEAF

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install -e '.[peers]'")
F = torch.nn.functional
IMAGE, ROWS, POOLED = (2, 4, 5, 6), (2, 3, 8), (2, 3, 8, 6)

#: name -> (ours, PyTorch's, shapes of the tensors); "+": positive numbers
CASES: dict[str, tuple[Callable[..., Any], Callable[..., Any], tuple[Any, ...]]] = {
    "exp": (ops.exp, torch.exp, (ROWS,)),
    "log": (lambda x: ops.log(x), torch.log, ("+", ROWS)),
    "sqrt": (ops.sqrt, torch.sqrt, ("+", ROWS)),
    "erf": (ops.erf, torch.erf, (ROWS,)),
    "tanh": (ops.tanh, torch.tanh, (ROWS,)),
    "sigmoid": (ops.sigmoid, torch.sigmoid, (ROWS,)),
    "softplus": (ops.softplus, F.softplus, (ROWS,)),
    "silu": (ops.silu, F.silu, (ROWS,)),
    "gelu": (ops.gelu, F.gelu, (ROWS,)),
    "gelu_tanh": (lambda x: ops.gelu(x, "tanh"), lambda x: F.gelu(x, approximate="tanh"), (ROWS,)),
    "leaky_relu": (lambda x: ops.leaky_relu(x, 0.25), lambda x: F.leaky_relu(x, 0.25), (ROWS,)),
    "relu6": (lambda x: ops.relu6(ops.scale(x, 8)), lambda x: F.relu6(8 * x), (ROWS,)),
    "hard_sigmoid": (lambda x: ops.hard_sigmoid(ops.scale(x, 3)), lambda x: F.hardsigmoid(3 * x), (ROWS,)),
    "hard_swish": (lambda x: ops.hard_swish(ops.scale(x, 3)), lambda x: F.hardswish(3 * x), (ROWS,)),
    "add": (ops.add, torch.add, (ROWS, (3, 1))),
    "subtract": (ops.subtract, torch.sub, ((3, 1), ROWS)),
    "multiply": (ops.multiply, torch.mul, (IMAGE, (2, 4, 1, 1))),
    "divide": (ops.divide, torch.div, ("+", IMAGE, (6,))),
    "shift": (lambda x: ops.shift(x, 0.25), lambda x: x + 0.25, (ROWS,)),
    "sum": (lambda x: ops.sum(x, (0, -1)), lambda x: x.sum((0, -1)), (IMAGE,)),
    "mean": (lambda x: ops.mean(x, 1, keep=True), lambda x: x.mean(1, keepdim=True), (IMAGE,)),
    "softmax": (lambda x: ops.softmax(x, 1), lambda x: F.softmax(x, 1), (IMAGE,)),
    "matmul": (ops.matmul, torch.matmul, ((2, 3, 4, 5), (2, 3, 5, 6))),
    "attention": (
        lambda q, k, v: ops.attention(q, k, v, causal=True),
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True),
        ((2, 3, 5, 4), (2, 3, 5, 4), (2, 3, 5, 6)),
    ),
    "linear": (lambda x, w, b: ops.linear(x, *parameters(w, b)), F.linear, (ROWS, (5, 8), (5,))),
    "slice": (lambda x: ops.slice(x, 2, 1, None, 2), lambda x: x[:, :, 1::2], (IMAGE,)),
    "flip": (lambda x: ops.slice(x, -1, None, None, -1), lambda x: x.flip(-1), (IMAGE,)),
    "select": (lambda x: ops.select(x, 1, -1), lambda x: x[:, -1], (IMAGE,)),
    "take": (lambda x: ops.take(x, 1, [3, 0, 3]), lambda x: x[:, [3, 0, 3]], (IMAGE,)),
    "pad": (lambda x: ops.pad(x, [(1, 2), (0, 3)]), lambda x: F.pad(x, (0, 3, 1, 2)), (IMAGE,)),
    "crop": (lambda x: ops.pad(x, [(-1, 0), (0, -2)]), lambda x: F.pad(x, (0, -2, -1, 0)), (IMAGE,)),
    "upsample": (lambda x: ops.upsample_nearest(x, 2), lambda x: F.interpolate(x, scale_factor=2), (IMAGE,)),
    "layer_norm": (
        lambda x, w, b: ops.layer_norm(x, *parameters(w, b), axes=2),
        lambda x, w, b: F.layer_norm(x, (3, 8), w, b),
        (ROWS, (3, 8), (3, 8)),
    ),
    "group_norm": (
        lambda x, w, b: ops.group_norm(x, 2, *parameters(w, b)),
        lambda x, w, b: F.group_norm(x, 2, w, b),
        (IMAGE, (4,), (4,)),
    ),
    "rms_norm": (
        lambda x, w: ops.rms_norm(x, *parameters(w), epsilon=1e-5),
        lambda x, w: F.rms_norm(x, (8,), w, 1e-5),
        (ROWS, (8,)),
    ),
    "conv2d": (
        lambda x, w, b: ops.conv2d(x, *parameters(w, b), stride=(1, 2), padding=2, groups=2, dilation=(2, 1)),
        lambda x, w, b: F.conv2d(x, w, b, (1, 2), 2, (2, 1), 2),
        (IMAGE, (6, 2, 3, 2), (6,)),
    ),
    "conv1d": (
        lambda x, w, b: ops.conv1d(x, *parameters(w, b), stride=2, padding=1, dilation=3),
        lambda x, w, b: F.conv1d(x, w, b, 2, 1, 3),
        ((2, 3, 11), (4, 3, 3), (4,)),
    ),
    "conv_transpose2d": (
        lambda x, w, b: ops.conv_transpose2d(
            x, *parameters(w, b), stride=2, padding=1, output_padding=(1, 0), groups=2, dilation=(1, 2)
        ),
        lambda x, w, b: F.conv_transpose2d(x, w, b, 2, 1, (1, 0), 2, (1, 2)),
        (IMAGE, (4, 3, 3, 2), (6,)),
    ),
    "bilinear": (
        lambda x: ops.upsample_bilinear(x, (2, 3)),
        lambda x: F.interpolate(x, scale_factor=(2, 3), mode="bilinear"),
        (IMAGE,),
    ),
    "bilinear_corners": (
        lambda x: ops.upsample_bilinear(x, 3, align_corners=True),
        lambda x: F.interpolate(x, scale_factor=3, mode="bilinear", align_corners=True),
        (IMAGE,),
    ),
    "pixel_shuffle": (lambda x: ops.pixel_shuffle(x, 2), lambda x: F.pixel_shuffle(x, 2), ((2, 12, 3, 5),)),
    "max_pool_ceil": (
        lambda x: ops.max_pool2d(x, 3, stride=2, padding=1, ceil_mode=True),
        lambda x: F.max_pool2d(x, 3, 2, 1, ceil_mode=True),
        (POOLED,),
    ),
    "max_pool_gap": (  # a last window would begin beyond the image
        lambda x: ops.max_pool2d(x, 2, stride=3, padding=1, ceil_mode=True),
        lambda x: F.max_pool2d(x, 2, 3, 1, ceil_mode=True),
        ((2, 3, 4, 7),),
    ),
    "avg_pool_ceil": (
        lambda x: ops.avg_pool2d(x, (3, 2), stride=2, padding=1, ceil_mode=True),
        lambda x: F.avg_pool2d(x, (3, 2), 2, 1, ceil_mode=True),
        (POOLED,),
    ),
    "avg_pool_inside": (
        lambda x: ops.avg_pool2d(x, 3, stride=2, padding=1, ceil_mode=True, count_include_pad=False),
        lambda x: F.avg_pool2d(x, 3, 2, 1, ceil_mode=True, count_include_pad=False),
        (POOLED,),
    ),
    "adaptive_avg": (
        lambda x: ops.adaptive_avg_pool2d(x, (3, 5)),
        lambda x: F.adaptive_avg_pool2d(x, (3, 5)),
        (POOLED,),
    ),
    "adaptive_even": (lambda x: ops.adaptive_avg_pool2d(x, 2), lambda x: F.adaptive_avg_pool2d(x, 2), (POOLED,)),
    "adaptive_max": (
        lambda x: ops.adaptive_max_pool2d(x, (5, 3)),
        lambda x: F.adaptive_max_pool2d(x, (5, 3)),
        (POOLED,),
    ),
    "batch_norm": (
        lambda x, w, b: ops.batch_norm(x, *parameters(w, b)),
        lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True),
        ((6, 4), (4,), (4,)),
    ),
    "batch_norm_plain": (
        lambda x: ops.batch_norm(x),
        lambda x: F.batch_norm(x, None, None, training=True),
        ((3, 4, 5),),
    ),
    **{
        mode: (
            lambda x, mode=mode: ops.pad(x, [(3, 1), (2, 4)], mode),
            lambda x, mode=mode: F.pad(x, (2, 4, 3, 1), mode),
            (IMAGE,),
        )
        for mode in ("reflect", "replicate", "circular")
    },
}


def parameters(*tensors: Any) -> list[Parameter]:
    """The parameters that the tensors of ``ours`` were read from."""
    return [tensor.tape.ops[tensor.producer].parameters[0] for tensor in tensors]


@pytest.mark.parametrize("name", CASES)
def test_op_and_its_gradients(name: str) -> None:
    (ours, theirs, shapes), random = CASES[name], np.random.default_rng(0)
    positive, shapes = shapes[0] == "+", tuple(shape for shape in shapes if shape != "+")
    arrays = [random.standard_normal(shape).astype(np.float32) for shape in shapes]
    arrays = [np.abs(x) + np.float32(0.5) if positive else x for x in arrays]
    leaves = [Parameter(x.copy(), f"x{i}") for i, x in enumerate(arrays)]
    tape = Tape(kernels.bind("compiled"))
    y = ours(*(tape.bind(LEAF, (), (leaf,)) for leaf in leaves))
    wide = [torch.from_numpy(x).double().requires_grad_() for x in arrays]
    wanted = theirs(*wide)
    assert y.shape == tuple(wanted.shape)
    assert close(y.value, wanted.detach().numpy())
    gradient = random.standard_normal(y.shape).astype(np.float32)
    wanted.backward(torch.from_numpy(gradient))
    found = tape.pull_back(y, gradient.copy())
    for leaf, tensor in zip(leaves, wide, strict=True):
        assert close(found[leaf], tensor.grad.numpy()), leaf.name


def close(found: np.ndarray, wanted: np.ndarray) -> bool:
    """Within 32 roundings of the largest element, and equal in shape."""
    return found.shape == wanted.shape and bool(np.abs(found - wanted).max() <= 2.0**-19 * np.abs(wanted).max())


def test_embedding() -> None:
    random = np.random.default_rng(0)
    table, tokens = random.standard_normal((7, 3)).astype(np.float32), np.array([[2, 0, 2], [6, 2, 1]])
    weight, tape = Parameter(table.copy(), "weight"), Tape(kernels.bind("compiled"))
    y = ops.embedding(tape.input(tokens), weight)
    wide = torch.from_numpy(table).double().requires_grad_()
    wanted = F.embedding(torch.from_numpy(tokens), wide)
    assert np.array_equal(y.value, wanted.detach().numpy())
    gradient = random.standard_normal(y.shape).astype(np.float32)
    wanted.backward(torch.from_numpy(gradient))
    assert close(tape.pull_back(y, gradient.copy())[weight], wide.grad.numpy())
