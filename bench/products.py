"""Measures products described in stages: a bfloat16 result, explicit trees, and aligned sums of few and many exponents.

A bfloat16 result is a ratio to the same product without it, both interleaved. The others are rates, in millions of
multiply-adds per second. Times are processor times.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from bench import harness
from mpsim.contraction import matmul
from mpsim.products.accumulators import Summation
from mpsim.products.stages import Product, Sums
from mpsim.products.tensor_cores import accumulator_of
from mpsim.products.text import product_of

#: M, N, K of the products with a bfloat16 result. The goal is a ratio, the least rate of a tree another.
SHAPES = ((64, 8192, 576), (128, 8192, 1152), (512, 2048, 4608))
GOAL_RATIO, GOAL_RATE = 1.1, 50.0
#: M, N, K of products by explicit trees.
TREE = (256, 512, 200)
ALIGNED = (256, 1024, 512)
Call = Callable[[], Any]


def pairs(first: int, count: int) -> Any:
    """The tree of pairs of neighbours over ``count`` terms from ``first`` on."""
    if count == 1:
        return first
    half = 1 << (count - 1).bit_length() - 1
    return pairs(first, half), pairs(first + half, count - half)


def trees(length: int) -> dict[str, Product]:
    """Explicit trees of ``length`` terms: pairs, a chain, and the order of numpy.einsum's lanes."""
    lanes = tuple(tuple(range(lane, length, 16)) for lane in range(16))
    roots = {"pairs": pairs(0, length), "one chain": tuple(range(length)), "16 lanes": lanes}
    return {name: product_of(f"tree({root})") for name, root in roots.items()}


def operands(shape: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    rows, columns, depth = shape
    random = np.random.default_rng(0)
    found = (random.standard_normal(each, dtype=np.float32) for each in ((rows, depth), (depth, columns)))
    return next(found), next(found)


def call_of(a: np.ndarray, b: np.ndarray, summation: Summation, threads: int) -> Call:
    return lambda: matmul(a, b, summation, backend="compiled", threads=threads)


def narrow_results(threads: int, repetitions: int) -> list[dict[str, Any]]:
    """A product in mpsim's order, and the same with a bfloat16 result."""
    rows = []
    for shape in SHAPES:
        cases = {"float32": Product(), "bfloat16": Product(output=Sums("bfloat16"))}
        a, b = operands(shape)
        calls = {name: call_of(a, b, product, threads) for name, product in cases.items()}
        times = harness.interleaved(calls, repetitions, time.process_time)
        seconds = {name: timing.minimum for name, timing in times.items()}
        rows.append({"shape": shape, "seconds": seconds, "ratio": seconds["bfloat16"] / seconds["float32"]})
    return rows


def rates(cases: dict[str, Call], shape: tuple[int, int, int], repetitions: int) -> list[dict[str, Any]]:
    """Millions of multiply-adds per second of processor time."""
    times = harness.interleaved(cases, repetitions, time.process_time)
    operations = float(np.prod(shape))
    return [
        {"name": name, "shape": shape, "seconds": timing.minimum, "rate": operations / timing.minimum / 1e6}
        for name, timing in times.items()
    ]


def tree_rates(threads: int, repetitions: int) -> list[dict[str, Any]]:
    a, b = operands(TREE)
    cases = {name: call_of(a, b, product, threads) for name, product in trees(TREE[2]).items()}
    return rates(cases, TREE, repetitions)


def aligned_rates(threads: int, repetitions: int) -> list[dict[str, Any]]:
    """The sums of a tensor core, of usual numbers and with one number whose product is outside the fast kernel's."""
    a, b = operands(ALIGNED)
    far = a.copy()
    far[0, 0] = 2.0**62
    core = accumulator_of("hopper_bfloat16")
    cases = {"usual numbers": call_of(a, b, core, threads), "one number of 2^62": call_of(far, b, core, threads)}
    return rates(cases, ALIGNED, repetitions)


def run(threads: int, repetitions: int) -> None:
    """Prints the table and writes bench/results/products.json."""
    narrow = narrow_results(threads, repetitions)
    tree, aligned = tree_rates(threads, repetitions), aligned_rates(threads, repetitions)
    table = Table("what", "M x N x K", "value", "goal", title="products in stages, compiled")
    for row in narrow:
        table.add_row("bfloat16 result / float32", str(row["shape"]), f"{row['ratio']:.3f}", f"<= {GOAL_RATIO}")
    for row in tree:
        table.add_row(f"tree, {row['name']}", str(row["shape"]), f"{row['rate']:.0f} M/s", f">= {GOAL_RATE:.0f}")
    for row in aligned:
        table.add_row(f"aligned, {row['name']}", str(row["shape"]), f"{row['rate']:.0f} M/s", "")
    Console().print(table)
    found = {"narrow": narrow, "trees": tree, "aligned": aligned, "goals": [GOAL_RATIO, GOAL_RATE]}
    print(harness.save("products", {**harness.surroundings(threads, repetitions), **found}))
