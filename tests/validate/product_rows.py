"""Operands of dot products with two formats: rows where sums turn, any codes, and sums that cancel."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from mpsim.formats import as_format
from mpsim.rounding import decode, round_to
from mpsim.validate.dot.inputs.edges import edge_rows
from mpsim.validate.dot.orders.separation import adversarial_rows

Array = np.ndarray[Any, Any]


def rows_of(left: str, right: str, length: int, quantum: int, seed: int = 0) -> Iterator[tuple[Array, Array]]:
    """Operands of dot products: rows that are made for either format, rounded to each; any codes, few of them not 0;
    and codes that nearly cancel."""
    random = np.random.default_rng(seed)
    for format in dict.fromkeys([left, right]):
        for a, b in (
            edge_rows(as_format(format), length),
            adversarial_rows(as_format(format), length, 1024, seed, quantum),
        ):
            yield in_format(a, left), in_format(b, right)
    x, y = (any_codes(random, format, (1024, length)) for format in (left, right))
    few = random.random(x.shape) < random.choice([0.1, 0.3, 1.0], (len(x), 1))
    yield np.where(few, x, 0), y
    half = length // 2
    places = random.permuted(np.tile(np.arange(half), (len(x), 1)), axis=1)
    a = np.hstack([x[:, :half], -np.take_along_axis(x[:, :half], places, 1), x[:, 2 * half :]])
    b = np.hstack([y[:, :half], np.take_along_axis(y[:, :half], places, 1), y[:, 2 * half :]])
    changed = random.random(b.shape) < 0.05
    yield a, np.where(changed, y, b)


def in_format(x: Array, format: str) -> Array:
    kept = as_format(format)
    x = round_to(x, kept, overflow="saturate_propagate", threads=1)
    return x if kept.has_nan else np.nan_to_num(x, nan=0.0, posinf=kept.largest, neginf=-kept.largest)


def any_codes(random: np.random.Generator, name: str, shape: tuple[int, int]) -> Array:
    """Any numbers of a format: rarely infinities and NaN."""
    format = as_format(name)
    codes = random.integers(0, 1 << format.bits, shape, np.uint64).astype(
        f"uint{max(8, 1 << (format.bits - 1).bit_length())}"
    )
    x = np.asarray(decode(codes, format)).astype(np.float32)
    return np.where(np.isfinite(x) | (random.random(shape) < 0.003), x, np.float32(0))
