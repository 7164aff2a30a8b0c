"""What products are given beside their operands when they are validated: random numbers and those where sums turn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from mpsim.contraction import matmul
from mpsim.formats import as_format
from mpsim.kernels.contract import Array
from mpsim.products.accumulators import Accumulator, in_stages
from mpsim.products.stages import Product
from mpsim.rounding import decode, round_to
from mpsim.validate.dot.inputs.matrices import random_matrices
from mpsim.validate.dot.shapes import LARGEST, SIZES
from mpsim.validate.dot.subjects import as_inputs
from mpsim.validate.subjects.worker import Typed

#: Shapes beside the square ones: few rows, few columns, neither a multiple of a vector.
SHAPES = ((1, 16), (16, 1), (3, 5), (33, 19))
#: Shapes in which one product is asked: other sums for some numbers of rows or columns show there.
ONCE = (*((size, 9) for size in SIZES), *((9, size) for size in SIZES if size != 9), (LARGEST, LARGEST))
OTHER_SHAPES = len({*SHAPES, *ONCE})
#: The longest dot products of those.
MOST_LENGTH = 96
FACTORS = (1.0, 0.0, -1.0, 0.5, float(np.float32(0.1)), float(np.float32(-1.7)), 3.0, 2.0**-40, 2.0**-149, 2.0**127)
#: Scales that kernels may read otherwise: zeros, negative, subnormal and the largest numbers, infinity and NaN.
SPECIAL_SCALES: Array = np.array(
    [0, -0.0, -1.5, 2.0**-149, 2.0**-126, -(2.0**-130), 3.0e38, 1e-15, np.inf, np.nan], np.float32
)


class Request(NamedTuple):
    """One product: a name, operands, and the arguments beside them, as ``mpsim.matmul`` takes them."""

    name: str
    a: Array
    b: Array
    given: Mapping[str, object]


def requests(
    names: tuple[str, ...], product: Product, inputs: str, length: int, side: int, seed: int, backend: str
) -> Iterator[Request]:
    """Products of all kinds of matrices in several shapes, with random and edge values of the named arguments.
    product: says whose blocks scales are of."""
    random = np.random.default_rng([seed, 2])
    for shape in ((side, side), *SHAPES):
        few = min(length, MOST_LENGTH) if shape != (side, side) else length
        for place, (name, a, b) in enumerate(random_matrices(inputs, few, shape, seed)):
            given = {each: _value(random, each, product, a, b, place, backend) for each in names}
            yield Request(f"{name}, {shape[0]} x {shape[1]}", a, b, given)
    for place, shape in enumerate(ONCE):
        _, (name, a, b), *_ = islice(random_matrices(inputs, min(length, MOST_LENGTH), shape, seed), 2)
        given = {each: _value(random, each, product, a, b, place, backend) for each in names}
        yield Request(f"{name}, {shape[0]} x {shape[1]}", a, b, given)


def _value(
    random: np.random.Generator, name: str, product: Product, a: Array, b: Array, place: int, backend: str
) -> object:
    rows, columns = len(a), b.shape[1]
    if name in ("alpha", "beta"):
        return FACTORS[int(random.integers(len(FACTORS)))] if place % 3 else float(np.float32(random.standard_normal()))
    if name in ("c", "bias"):
        return _addend(random, a, b, (rows, columns) if name == "c" else (columns,), backend)
    shape = _shape_of_scales(name, product, a, b)
    scales = (random.uniform(0.5, 2, shape) * 2.0 ** random.choice([0, 0, 3, -6, 20], shape)).astype(np.float32)
    special = SPECIAL_SCALES
    if product.format_of_scales is not None:
        scales = round_to(scales, product.format_of_scales, overflow="saturate_propagate", backend="reference")
        special = _ends_of(product.format_of_scales)
    return np.where(random.random(shape) < 1 / 16, random.choice(special, shape), scales).astype(np.float32)


def _ends_of(format: str) -> Array:
    """The smallest numbers of a format that are not negative, the largest, and NaN where it has one."""
    kept = as_format(format)
    numbers = np.asarray(decode(np.arange(1 << kept.bits, dtype=np.uint8), kept)).astype(np.float32)
    usual = np.unique(np.abs(numbers[np.isfinite(numbers)]))
    return np.concatenate([usual[:3], usual[-2:], [np.nan] * kept.has_nan]).astype(np.float32)


def _shape_of_scales(name: str, product: Product, a: Array, b: Array) -> tuple[int, int]:
    size = product.scales_of_blocks.get(name.removesuffix("_scale"))
    blocks = 1 if size is None else -(-len(b) // size)
    return (len(a), blocks) if name == "left_scale" else (blocks, b.shape[1])


def without_effect(names: tuple[str, ...], product: Product, a: Array, b: Array) -> dict[str, object]:
    """Values of the arguments that change no sum but the sign of one that is -0."""
    shapes = {"c": (len(a), b.shape[1]), "bias": b.shape[1:]}
    shapes |= {name: _shape_of_scales(name, product, a, b) for name in names if name.endswith("_scale")}
    numbers = {"c": 0.0, "bias": 0.0}
    return {name: np.full(shapes.get(name, ()), numbers.get(name, 1.0), np.float32) for name in names}


def _addend(random: np.random.Generator, a: Array, b: Array, shape: tuple[int, ...], backend: str) -> Array:
    """Numbers of the sums' size, ones that nearly cancel them, far larger and smaller ones, and special ones."""
    exact = matmul(a, b, Accumulator(kind="exact"), backend=backend, threads=1)
    total = exact if len(shape) == 2 else exact[0]
    with np.errstate(over="ignore", invalid="ignore"):
        like = total * random.standard_normal(shape).astype(np.float32)
        near = -total * (1 + random.integers(-3, 4, shape) * np.float32(2.0**-22)).astype(np.float32)
        far = random.standard_normal(shape) * 2.0 ** random.integers(-60, 60, shape)
    special = random.choice(np.array([0, -0.0, 1, np.inf, -np.inf, np.nan, 2.0**-149, 3.0e38], np.float32), shape)
    chosen = random.choice(4, shape, p=[0.4, 0.35, 0.2, 0.05])
    return np.ascontiguousarray(
        np.select([chosen == i for i in range(3)], [like, near, far], special).astype(np.float32)
    )


def as_typed(given: Mapping[str, object], accumulator: Any) -> dict[str, Typed]:
    """The arguments as they are passed: float32, but scales of a format of their own as its codes."""
    format = in_stages(accumulator).format_of_scales
    found = {}
    for name, value in given.items():
        array = np.asarray(value, np.float32)
        if name.endswith("_scale") and format not in (None, "float32"):
            assert format is not None
            found[name] = as_inputs(array, format)
        else:
            found[name] = Typed("float32", array.view(np.uint32))
    return found
