"""The kernels of layers, losses and updates, and functions of one argument, of every backend against definitions."""

from __future__ import annotations

import copy
import ctypes
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import kernel_cases
import layer_definitions
import numpy as np
from backends import that_run as backends
from hypothesis import assume
from hypothesis import strategies as st
from kernel_cases import TURNS, with_specials, with_ties

from mpsim.kernels import load
from mpsim.kernels.elementary.functions import FUNCTIONS, NUMBER, evaluate
from tests.fuzz.calls import SIZES, THREADS, Array, Draw, changed, same, states

ORACLE = Path(__file__).parents[1] / "elementary_oracle.c"
#: The functions that are within 0.51 units in the last place, the first ones of the list.
SMOOTH = 11


def small(seed: int, *shape: int) -> Array:
    """Numbers whose products and sums are subnormal."""
    return np.ldexp(kernel_cases.numbers(seed, *shape), np.int32(-126))


KINDS: list[Callable[..., Array]] = [kernel_cases.numbers, with_specials, with_ties, small]
SIDE, FEW = st.integers(1, 12), st.integers(1, 5)


def drawn(draw: Draw, *shape: int) -> Array:
    """float32 numbers of a kind."""
    return draw(st.sampled_from(KINDS))(draw(st.integers(0, 1 << 32)), *shape).astype(np.float32)


def image(draw: Draw) -> Array:
    return drawn(draw, draw(FEW), draw(FEW), draw(SIDE), draw(st.integers(1, 40)))


def flat(draw: Draw, count: int) -> tuple[Array, ...]:
    size = draw(SIZES.filter(lambda size: 0 < size < 5000))
    return tuple(drawn(draw, size) for _ in range(count))


def scalar(draw: Draw) -> float:
    return draw(st.sampled_from([0.1, 0.9, 1.0, 0.0, 5e-4, 1 / 3, 2.0**-20, 1e-8]))


def _batch_norm(draw: Draw) -> tuple[Any, ...]:
    x = image(draw)
    return x, drawn(draw, x.shape[1]), drawn(draw, x.shape[1]), 1e-5


def _batch_norm_inference(draw: Draw) -> tuple[Any, ...]:
    x = image(draw)
    mean, variance, scale, shift = (drawn(draw, x.shape[1]) for _ in range(4))
    return x, mean, np.abs(variance), scale, shift, 1e-5


def _batch_norm_gradient(draw: Draw) -> tuple[Any, ...]:
    gy = image(draw)
    return gy, drawn(draw, *gy.shape), *(drawn(draw, gy.shape[1]) for _ in range(3))


def _update_running(draw: Draw) -> tuple[Any, ...]:
    return *flat(draw, 2), 0.1, draw(st.sampled_from([1.0, 1.01, 2.0]))


def _sgd(draw: Draw) -> tuple[Any, ...]:
    return *flat(draw, 3), *(scalar(draw) for _ in range(5)), draw(st.booleans())


def _adam(draw: Draw) -> tuple[Any, ...]:
    *three, second = flat(draw, 4)
    return *three, np.abs(second), scalar(draw), 1.0, scalar(draw), 0.9, 0.999, 0.0316, 1e-8, scalar(draw)


def _lion(draw: Draw) -> tuple[Any, ...]:
    return *flat(draw, 3), 1e-3, 0.9999, 0.9, 0.99, scalar(draw)


def _window(draw: Draw) -> tuple[Array, tuple[int, int], tuple[int, int], tuple[int, int]]:
    x = image(draw)
    kernel = draw(st.integers(1, min(6, x.shape[2]))), draw(st.integers(1, min(6, x.shape[3])))
    padding = draw(st.integers(0, kernel[0] // 2)), draw(st.integers(0, kernel[1] // 2))
    return x, kernel, (draw(st.integers(1, 4)), draw(st.integers(1, 4))), padding


def _max_pool_gradient(draw: Draw) -> tuple[Any, ...]:
    x, *window = _window(draw)
    shape = kernel_cases.pooled((x.shape, *window))
    index = np.random.default_rng(draw(st.integers(0, 99))).integers(0, x.shape[2] * x.shape[3], shape, dtype=np.int32)
    return drawn(draw, *shape), index, x.shape


def _avg_pool_gradient(draw: Draw) -> tuple[Any, ...]:
    x, *window = _window(draw)
    return drawn(draw, *kernel_cases.pooled((x.shape, *window))), x.shape, *window


def _rows(draw: Draw, count: int) -> tuple[Array, ...]:
    shape = draw(st.integers(1, 9)), draw(st.one_of(st.integers(1, 40), st.sampled_from([1000, 4097])))
    return tuple(drawn(draw, *shape) for _ in range(count))


def _losses(draw: Draw) -> tuple[Array, Array]:
    x = drawn(draw, draw(st.integers(1, 400)), 10)
    return x, np.random.default_rng(draw(st.integers(0, 99))).integers(0, 10, len(x))


def _nll_gradient(draw: Draw) -> tuple[Any, ...]:
    x, labels = _losses(draw)
    return drawn(draw, 1), labels, x.shape


def _taken(draw: Draw) -> tuple[Array, Array, int]:
    places = draw(SIDE)
    index = np.array(draw(st.lists(st.integers(-1, places - 1), max_size=20)), np.int64)
    outer, inner = draw(FEW), draw(st.integers(1, 40))
    return drawn(draw, outer, places, inner), index, places


def _take_gradient(draw: Draw) -> tuple[Any, ...]:
    x, index, places = _taken(draw)
    return drawn(draw, x.shape[0], len(index), x.shape[2]), index, places


def _half(operation: str) -> Callable[[Array, Array], Array]:
    """One operation in float64, rounded to float32: the bits of float32's own, as 53 >= 2 * 24 + 2."""

    def defined(a: Array, b: Array) -> Array:
        return getattr(np, operation)(a.astype(np.float64), np.asarray(b, np.float64)).astype(np.float32)

    return defined


def _total_sum(x: Array) -> Any:
    return np.float32(layer_definitions.reduction(x.ravel()))


#: kernel -> what draws its arguments.
ARGUMENTS: dict[str, Callable[[Draw], tuple[Any, ...]]] = {
    "add": lambda draw: flat(draw, 2),
    "subtract": lambda draw: flat(draw, 2),
    "multiply": lambda draw: flat(draw, 2),
    "divide": lambda draw: flat(draw, 2),
    "scale": lambda draw: (*flat(draw, 1), float(np.float32(scalar(draw)))),
    "relu": lambda draw: flat(draw, 1),
    "positive": lambda draw: flat(draw, 1),
    "relu_gradient": lambda draw: flat(draw, 2),
    "sgd_update": _sgd,
    "adam_update": _adam,
    "lion_update": _lion,
    "channel_sum": lambda draw: (image(draw),),
    "total_sum": lambda draw: flat(draw, 1),
    "batch_norm": _batch_norm,
    "batch_norm_inference": _batch_norm_inference,
    "batch_norm_gradient": _batch_norm_gradient,
    "update_running": _update_running,
    "max_pool2d": _window,
    "max_pool2d_gradient": _max_pool_gradient,
    "avg_pool2d": _window,
    "avg_pool2d_gradient": _avg_pool_gradient,
    "log_softmax": lambda draw: _rows(draw, 1),
    "log_softmax_gradient": lambda draw: _rows(draw, 2),
    "softmax": lambda draw: _rows(draw, 1),
    "softmax_gradient": lambda draw: _rows(draw, 2),
    "nll_loss": _losses,
    "nll_loss_gradient": _nll_gradient,
    "take": lambda draw: _taken(draw)[:2],
    "take_gradient": _take_gradient,
}
#: The definitions that layer_definitions.py lacks.
DEFINED = {name: _half(name) for name in ("add", "subtract", "multiply", "divide")} | {
    "scale": _half("multiply"), "total_sum": _total_sum,
}  # fmt: skip


def layers(data: st.DataObject) -> None:
    """A kernel on drawn arguments: results, and arguments that it changes."""
    name = data.draw(st.sampled_from(list(ARGUMENTS)), label="kernel")
    with np.errstate(all="ignore"):
        arguments = ARGUMENTS[name](data.draw)
        assume(all(x.size for x in arguments if isinstance(x, np.ndarray)) or name.startswith("take"))
        threads, state = data.draw(THREADS, label="threads"), data.draw(states(), label="state")
        definition = DEFINED.get(name) or getattr(layer_definitions, name)
        changed_arguments = copy.deepcopy(arguments)
        wanted = definition(*changed_arguments)
        for backend in backends():
            ours = copy.deepcopy(arguments)
            kernel = getattr(load(backend), name)
            with changed(state):
                found = kernel(*ours, threads=threads)
            if name == "total_sum":
                found = np.float32(found)  # a Python number
            what = (backend, name, [getattr(x, "shape", x) for x in arguments], threads, state)
            same(found, wanted, what)
            for one, other in zip(ours, changed_arguments, strict=True):
                if isinstance(one, np.ndarray):
                    same(one, other, (what, "an argument"))


@cache
def long_double() -> Any:
    """The functions of the C library in long double, or None where there is no compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        return None
    library = Path(tempfile.mkdtemp(), "oracle.so")
    command = [compiler, "-O2", "-shared", "-fPIC", str(ORACLE), "-o", str(library), "-lm"]
    subprocess.run(command, check=True, capture_output=True)
    function = ctypes.CDLL(str(library)).largest_error
    function.restype = ctypes.c_double
    return function


def functions(data: st.DataObject) -> None:
    """Functions of one argument: equal bits in every backend; the smooth ones within 0.51 units in the last place."""
    name = data.draw(st.sampled_from(list(FUNCTIONS)), label="function")
    a, b = (data.draw(st.sampled_from([-0.5, 0.0, 0.25, 1.5, -1.0])) for _ in range(2))
    near = data.draw(st.lists(st.tuples(st.sampled_from(TURNS.tolist()), st.integers(-3, 3)), max_size=8), label="near")
    x = np.concatenate([drawn(data.draw, data.draw(SIZES.filter(lambda size: size < 5000))), np.float32([0.0])])
    turns = np.float32([turn for turn, _ in near]).view(np.int32) + np.int32([step for _, step in near])
    x = np.concatenate([x, turns.astype(np.int32).view(np.float32), -turns.astype(np.int32).view(np.float32)])
    threads, state = data.draw(THREADS, label="threads"), data.draw(states(), label="state")
    with np.errstate(all="ignore"):
        wanted = evaluate(x, name, a, b)
        for backend in backends():
            with changed(state):
                found = load(backend).unary(x, name, a, b, threads=threads)
            same(found, wanted, (backend, name, a, b, threads, state))
    oracle = long_double()
    if oracle is not None and NUMBER[name] < SMOOTH:
        pointers = (array.ctypes.data_as(ctypes.c_void_p) for array in (x, wanted))
        error = oracle(NUMBER[name], *pointers, ctypes.c_int64(x.size))
        assert error < 0.51, (name, error)
