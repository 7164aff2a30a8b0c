"""Functions that stand in for a GPU's, in a table as bench/hardware/subjects.py has it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from bench.hardware.library import padded
from bench.hardware.subjects import WIDENED, Cast, Dot
from mpsim.products.accumulators import Accumulator
from mpsim.products.tensor_cores import TENSOR_CORES, accumulator_of
from mpsim.validate.dot.subjects import of_accumulator

Array = np.ndarray[Any, Any]


def _to_e4m3(library: Path | None) -> Callable[[Array], Array]:
    return lambda x: x.astype(ml_dtypes.float8_e4m3fn).view(np.uint8)


def _truncated(library: Path | None) -> Callable[[Array], Array]:
    """bfloat16 toward zero; NaN gives 0x7fff."""
    return lambda x: np.where(np.isnan(x), 0x7FFF, x.view(np.uint32) >> 16).astype(np.uint16)


def _half_to_e5m2(library: Path | None) -> Callable[[Array], Array]:
    return lambda x: x.astype(ml_dtypes.float8_e5m2).view(np.uint8)


def _summed_by(accumulator: Accumulator) -> Callable[[Path | None], Callable[[Array, Array], Array]]:
    product = of_accumulator(accumulator, "compiled")
    return lambda library: lambda a, b: product(a.astype(np.float32), b.astype(np.float32))


def _limited(library: Path | None) -> Callable[[Array, Array], Array]:
    """Sums that are right up to a largest number."""
    product = _summed_by(accumulator_of("hopper_float8_e4m3fn"))(library)
    return lambda a, b: np.clip(product(a, b), np.float32(-(2.0**23)), np.float32(2.0**23))


def _falling(library: Path | None) -> Callable[[Array, Array], Array]:
    """Falling k."""
    product = of_accumulator(accumulator_of("chunk=none"), "compiled")

    def falling(a: Array, b: Array) -> Array:
        left, right = a[:, ::-1].astype(np.float32), b[::-1].astype(np.float32)
        return np.asarray(product(np.ascontiguousarray(left), np.ascontiguousarray(right)))

    return falling


def _by_size(library: Path | None) -> Callable[[Array, Array], Array]:
    """The largest product first, which is another k in every element: no accumulator sums so."""

    def by_size(a: Array, b: Array) -> Array:
        with np.errstate(all="ignore"):
            products = a.astype(np.float32)[:, :, None] * b.astype(np.float32)[None]
            ordered = np.take_along_axis(products, np.argsort(-np.abs(products), axis=1, kind="stable"), axis=1)
            return np.add.accumulate(ordered, axis=1, dtype=np.float32)[:, -1]

    return by_size


def _widened_in_pairs(library: Path | None) -> Callable[[Array, Array], Array]:
    """float8 in two float16 instructions, as mma.sync of an H200: of 32 k first those whose second bit is 0."""
    product = of_accumulator(accumulator_of(WIDENED[0].accumulator), "compiled")

    def paired(a: Array, b: Array) -> Array:
        left, right = (padded(x, 1, 32).astype(np.float32) for x in (a, b.T))
        k = np.arange(left.shape[1])
        order = np.lexsort((k, k // 2 % 2, k // 32))
        return np.asarray(product(left[:, order], np.ascontiguousarray(right[:, order].T)))

    return paired


def _broken(library: Path | None) -> Callable[[Array], Array]:
    raise RuntimeError("no device")


SUBJECTS = (
    Dot("hopper", "float8_e4m3fn", "mpsim's own", _summed_by(accumulator_of("hopper_float8_e4m3fn")), 70, 16),
    Dot("pairs", "float8_e5m2", "mpsim's own, in pairs", _widened_in_pairs, 70, 16, WIDENED),
    Dot("limited", "float8_e4m3fn", "mpsim's own, to 2**23", _limited, 70, 16),
    Dot("falling", "float16", "mpsim's own, from the end", _falling, 40, 16),
    Dot("by_size", "float16", "the largest product first", _by_size, 40, 16),
    Cast("to_e4m3", "float8_e4m3fn", "ml_dtypes", _to_e4m3),
    Cast("truncated", "bfloat16", "the upper half", _truncated),
    Cast("half_to_e5m2", "float8_e5m2", "ml_dtypes", _half_to_e5m2, "float16"),
    Cast("broken", "bfloat16", "raises", _broken),
)

#: Hopper's models, at the lengths of bench/hardware/subjects.py.
HOPPER = tuple(
    Dot(name, row.inputs, "mpsim's own", _summed_by(row.accumulator), 300 if row.k == 32 else 130, 64)
    for name, row in TENSOR_CORES.items()
    if row.architecture == "hopper"
)
