"""The reference's layer kernels equal their definitions in every bit; zeros, infinities and NaN in every backend."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import layer_definitions
import numpy as np
import pytest
from kernel_cases import CASES, numbers, with_specials

from mpsim.kernels import bind, load

Array = np.ndarray[Any, Any]
INF, NAN = np.inf, np.nan
DEFINED = [name for name in CASES if hasattr(layer_definitions, name)]
#: Cases larger than this are left to the comparison across backends: the definitions take microseconds a number.
LARGEST = 13000


def assert_same_bits(actual: Any, wanted: Any) -> None:
    """Equal dtype, shape and bits; any NaN equals any other, as payload and sign are free."""
    if isinstance(wanted, tuple):
        assert len(actual) == len(wanted)
        for one, other in zip(actual, wanted, strict=True):
            assert_same_bits(one, other)
        return
    actual, wanted = np.asarray(actual), np.asarray(wanted)
    assert actual.dtype == wanted.dtype and actual.shape == wanted.shape
    same = (actual == wanted) & (np.signbit(actual) == np.signbit(wanted))
    if wanted.dtype.kind == "f":
        same |= np.isnan(actual) & np.isnan(wanted)
    assert same.all(), f"first at {np.argwhere(~same)[0]}"


def is_small(case: tuple[Any, ...]) -> bool:
    return sum(argument.size for argument in case if isinstance(argument, np.ndarray)) <= LARGEST


def test_every_layer_kernel_has_a_definition() -> None:
    ours = set(load("reference").__dict__) & set(CASES)
    moves_only = {"permute", "concatenate", "slice_channels", "place_channels"}
    files = {"layers", "reductions", "pooling", "loss", "functions", "updates"}
    modules = {name: getattr(load("reference"), name).__module__.split(".") for name in ours}
    layers = {name for name, module in modules.items() if module[-2] == "reference" and module[-1] in files}
    one_operation = {"add", "subtract", "multiply", "divide", "scale"}  # of NumPy
    elsewhere = {"total_sum", "unary"}  # unary: test_elementary.py
    assert layers - moves_only - one_operation - elsewhere == set(DEFINED)


@pytest.mark.parametrize("name", DEFINED)
def test_reference_equals_the_definition(name: str) -> None:
    small = [case for case in CASES[name] if is_small(case)]
    assert len(small) >= 2
    for case in small:
        ours, theirs = copy.deepcopy(case), copy.deepcopy(case)
        result = getattr(load("reference"), name)(*ours)
        with np.errstate(all="ignore"):
            wanted = getattr(layer_definitions, name)(*theirs)
        changed = [tuple(each for each in made if isinstance(each, np.ndarray)) for made in (ours, theirs)]
        assert_same_bits(*changed if result is None else (result, wanted))


@pytest.mark.parametrize("n", [0, 1, 31, 32, 33, 4095, 4096, 4097, 12345])
def test_total_sum(backend: str, n: int) -> None:
    v = numbers(1, n)
    total = bind(backend).total_sum(v)
    assert isinstance(total, float)
    assert np.float32(total) == layer_definitions.reduction(v) and np.float32(total) == total


@pytest.mark.parametrize("values", [[-0.0], [-0.0, -0.0], [0.0, -0.0], []])
def test_a_sum_of_zeros_is_positive(backend: str, values: list[float]) -> None:
    assert not np.signbit(bind(backend).total_sum(np.float32(values)))


def test_other_orders_give_other_sums() -> None:
    """Else the comparisons would compare nothing: of 40 vectors, most differ in each other order."""
    vectors = [numbers(seed, 6000) for seed in range(40)]
    ours = [np.float32(bind("reference").total_sum(v)) for v in vectors]
    one_by_one = [np.add.accumulate(v)[-1] for v in vectors]
    pairwise = [v.sum() for v in vectors]
    lanes_first = [np.add.accumulate(np.pad(v, (0, 16)).reshape(-1, 32), axis=0)[-1] for v in vectors]
    neighbours = [lane.reshape(16, 2).sum(1).reshape(8, 2).sum(1).reshape(4, 2).sum(1).sum() for lane in lanes_first]
    for theirs in (one_by_one, pairwise, neighbours):
        assert sum(a == b for a, b in zip(ours, theirs, strict=True)) < 20


def test_moving_kernels(backend: str) -> None:
    kernels, x = bind(backend), with_specials(3, 2, 6, 3, 5)
    assert_same_bits(kernels.permute(x, (0, 2, 3, 1)), np.ascontiguousarray(x.transpose(0, 2, 3, 1)))
    assert kernels.permute(x, (3, 1, 0, 2)).flags.c_contiguous
    assert_same_bits(kernels.slice_channels(x, 2, 5), np.ascontiguousarray(x[:, 2:5]))
    assert kernels.slice_channels(x, 2, 5).flags.c_contiguous
    assert not np.shares_memory(kernels.slice_channels(x, 0, 6), x)
    assert_same_bits(kernels.concatenate([x[:, :2].copy(), x[:, 2:3].copy(), x[:, 3:].copy()]), x)
    placed = kernels.place_channels(x[:, 1:3].copy(), 1, 6)
    wanted = np.zeros_like(x)
    wanted[:, 1:3] = x[:, 1:3]
    assert_same_bits(placed, wanted)


SPECIAL: dict[str, tuple[Callable[[Any], Any], Any]] = {
    "relu": (lambda k: k.relu(np.float32([-0.0, 0, -1, NAN, -INF, INF, 1e-45])), [0, 0, 0, NAN, 0, INF, 1e-45]),
    "relu_gradient": (
        lambda k: k.relu_gradient(np.float32([-1, NAN, -0.0, 2, 3, INF]), np.float32([1e-45, 1, 1, NAN, -0.0, 0])),
        [-1, NAN, -0.0, 0, 0, 0],
    ),
    "positive": (
        lambda k: k.positive(np.float32([1e-45, -1e-45, 0, -0.0, NAN, -INF, INF])),
        np.array([True, False, False, False, False, False, True]),
    ),
    "add": (
        lambda k: k.add(np.float32([-0.0, 0, INF, 3e38, 1e-45]), np.float32([-0.0, -0.0, -INF, 3e38, 1e-45])),
        [-0.0, 0, NAN, INF, 3e-45],
    ),
    "scale to subnormal": (lambda k: k.scale(np.float32([-1, 1e-45, INF, -0.0]), 2.0**-149), [-1e-45, 0, INF, -0.0]),
    "max_pool2d": (
        lambda k: k.max_pool2d(np.float32([[[[-0.0, 0, 1, NAN, 5, NAN, -INF, -INF]]]]), (1, 2), (1, 2), (0, 0))[0],
        [[[[-0.0, NAN, NAN, -INF]]]],
    ),
    "max_pool2d index": (
        lambda k: k.max_pool2d(np.float32([[[[7, 7, NAN, NAN, -INF, -INF]]]]), (1, 2), (1, 2), (0, 0))[1],
        np.int32([[[[0, 2, 4]]]]),
    ),
    "avg_pool2d of negative zeros": (
        lambda k: k.avg_pool2d(-np.zeros((1, 1, 2, 2), np.float32), (2, 2), (2, 2), (0, 0)),
        [[[[0]]]],
    ),
    "log_softmax": (
        lambda k: k.log_softmax(np.float32([[0, -INF], [INF, 0], [NAN, 0], [-INF, -INF], [0, -200]])),
        [[0, -INF], [NAN, NAN], [NAN, NAN], [NAN, NAN], [0, -200]],
    ),
    "log_softmax of one class": (lambda k: k.log_softmax(np.float32([[-5]])), [[0]]),
    "nll_loss_gradient": (
        lambda k: k.nll_loss_gradient(np.float32([0]), np.array([1]), (1, 2)),
        [[0, -0.0]],
    ),
    "batch_norm of equal elements": (
        lambda k: k.batch_norm(np.full((4, 1, 2, 2), 3, np.float32), *np.float32([[2], [5]]), 0.0)[0][0, 0, 0],
        [NAN, NAN],
    ),
}


@pytest.mark.parametrize("what", SPECIAL)
def test_zeros_infinities_and_nan(backend: str, what: str) -> None:
    compute, wanted = SPECIAL[what]
    wanted = wanted if isinstance(wanted, np.ndarray) else np.array(wanted, np.float32)
    assert_same_bits(compute(bind(backend)), wanted)


def test_results_into_given_arrays(backend: str) -> None:
    """``out`` may be an input of the elementwise kernels and of batch norm."""
    kernels, x, gy = bind(backend), numbers(1, 3, 2, 5, 5), numbers(2, 3, 2, 5, 5)
    mean, inverse, scale, shift = (numbers(seed, 2) for seed in range(4))
    calls: list[tuple[str, tuple[Any, ...], tuple[Any, ...]]] = [
        ("add", (x, gy), ()),
        ("scale", (x,), (0.3,)),
        ("relu", (x,), ()),
        ("relu_gradient", (gy, x), ()),
        ("batch_norm", (x,), (scale, shift, 1e-5)),
        ("batch_norm_inference", (x,), (mean, inverse**2, scale, shift, 1e-5)),
        ("batch_norm_gradient", (gy, x), (mean, inverse, scale)),
    ]
    for name, images, rest in calls:
        kernel = getattr(kernels, name)
        first = kernel(*images, *rest)
        for position in range(len(images)):
            given = [image.copy() for image in images]
            second = kernel(*given, *rest, out=given[position])
            assert (second[0] if isinstance(second, tuple) else second) is given[position]
            assert_same_bits(second, first)


def test_the_reference_computes_in_float64_too() -> None:
    """For gradient checks: the same formulas, every result float64 and near the float32 one."""
    for name in [name for name in DEFINED if not name.endswith("_update") and name != "update_running"]:
        case = CASES[name][0]
        wide = [x.astype(np.float64) if isinstance(x, np.ndarray) and x.dtype.kind == "f" else x for x in case]
        kernel = getattr(load("reference"), name)
        narrow_result, result = kernel(*case), kernel(*wide)
        for one, other in zip(*(r if isinstance(r, tuple) else (r,) for r in (narrow_result, result)), strict=True):
            assert other.dtype == (np.float64 if one.dtype == np.float32 else one.dtype)
            np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5)


def test_an_order_of_other_axes_is_refused(backend: str) -> None:
    """The compiled backend read and wrote outside its arrays."""
    kernels = bind(backend)
    x = np.zeros((4, 64, 16), np.float32)
    for axes in ((0, 1), (0, 2, 1, 3), (0, 2, 3), (0, 0, 1)):
        with pytest.raises(ValueError, match="axes|axis"):
            kernels.permute(x, axes)
