"""Trees of sums found from answers alone: those of mpsim's own products, which are known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mpsim.kernels import load
from mpsim.products.accumulators import Accumulator
from mpsim.products.text import product_of
from mpsim.validate.dot.inputs.matrices import cancelling
from mpsim.validate.dot.inputs.packing import region_of
from mpsim.validate.dot.inputs.probes import Prober
from mpsim.validate.dot.orders.arithmetic import arithmetic_of
from mpsim.validate.dot.orders.trees import NoTree, Revealer, nodes_of, nodes_of_product
from mpsim.validate.dot.subjects import open_dot

PRODUCTS = [
    "rising()",
    "groups(lanes(8), rising(), folding())",
    "product(order=groups(lanes(16), rising(), pairwise()), output=bfloat16)",
    "groups(splits(4, 8), groups(lanes(4), rising(start=first), folding()), rising(bfloat16, first))",
    "product(products=float32, order=groups(blocks(8), pairwise(), groups(lanes(2), rising(), rising())))",
    "pairwise(bfloat16)",
    "folding(float16)",
    "aligned(8)",
    "groups(blocks(32), reordered(lanes(2, 2), aligned(16, 25, float16)), rising(float16, first))",
    "reordered(lanes(4), rising())",
]


def prober(function: Callable[..., Any], length: int, inputs: str = "float32") -> Prober:
    found = Prober(open_dot(function, inputs=inputs), length)
    found.find_range()
    return found


@pytest.mark.parametrize("length", [1, 2, 16, 33, 100])
@pytest.mark.parametrize("text", PRODUCTS)
def test_the_tree_of_a_known_product_is_found(text: str, length: int) -> None:
    product = product_of(text)

    def multiply(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return load("numba").matmul(a, np.ascontiguousarray(b), threads=1, accumulator=product)

    tree = Revealer(prober(multiply, length)).tree()
    assert nodes_of(tree) == nodes_of_product(product, length)


@pytest.mark.parametrize("output,length", [("bfloat16", 512), ("bfloat16", 300), ("float16", 512), ("float8_e5m2", 33)])
def test_a_tree_of_more_terms_than_the_result_can_count_is_found(output: str, length: int) -> None:
    """256 small numbers are left of 300 and of 301, where the result has 8 bits: they are asked in groups."""
    product = product_of(f"product(order=groups(lanes(16), rising(), folding()), output={output})")

    def multiply(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return load("compiled").matmul(a, np.ascontiguousarray(b), threads=1, accumulator=product)

    assert nodes_of(Revealer(prober(multiply, length)).tree()) == nodes_of_product(product, length)


def test_sums_that_lose_nothing_have_no_tree() -> None:
    def multiply(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return load("compiled").matmul(a, np.ascontiguousarray(b), threads=1, accumulator=Accumulator(kind="exact"))

    with pytest.raises(NoTree, match="11 terms meet 1 others in a node of 2"):
        Revealer(prober(multiply, 12)).tree()


def test_noise_has_no_tree() -> None:
    random = np.random.default_rng(0)
    with pytest.raises(NoTree):
        Revealer(prober(lambda a, b: a @ b + random.normal(size=(len(a), b.shape[1])) * 2.0**-40, 12)).tree()


@pytest.mark.parametrize(
    "text,fewer",
    [
        ("groups(lanes(16), rising(), folding())", 7),
        ("product(products=float32, order=groups(lanes(16), rising(), folding()))", 8),
        ("tree(((0, 1, 2, 3), (bfloat16, (4,), 5, 6, 7), (tf32, 8, (9,), 10, 11), (12, (13,), 14, 15)))", 1),
        ("product(products=bfloat16, order=pairwise(tf32), output=bfloat16)", 9),
    ],
)
def test_what_is_rounded_is_found_by_fewer_questions_where_subtrees_are_asked_together(text: str, fewer: int) -> None:
    product = product_of(text)
    length = 16 if "tree" in text else 64

    def multiply(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return load("compiled").matmul(a, np.ascontiguousarray(b), threads=1, accumulator=product)

    found = prober(multiply, length)
    revealer = Revealer(found)
    tree = revealer.tree()
    alone, together = (arithmetic_of(found, tree, most) for most in (1, revealer.units))
    assert alone[:4] == together[:4]
    assert fewer * len(together.asked[0]) <= len(alone.asked[0])


def test_the_nodes_of_a_tree_written_out() -> None:
    assert nodes_of((((0, 1), 2), (3, 4, 5))) == {0b11, 0b111, 0b111000, 0b111111}
    assert nodes_of_product(product_of("pairwise()"), 5) == {0b11, 0b1100, 0b1111, 0b11111}
    assert nodes_of_product(product_of("groups(lanes(2), rising(), folding())"), 4) == {0b101, 0b1010, 0b1111}
    assert nodes_of_product(product_of("aligned(3)"), 5) == {0b111, 0b11111}


@pytest.mark.parametrize("alike,calls", [("neither", 40), ("left", 1), ("right", 40)])
def test_one_product_holds_all_dot_products_of_one_factor_that_a_region_has_columns_for(alike: str, calls: int) -> None:
    numbers = np.random.default_rng(0).integers(-9, 10, (2, 40, 5)).astype(np.float32)
    if alike != "neither":
        numbers[("left", "right").index(alike)] = 1
    asked = []

    def product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        asked.append((a, b))
        return a @ b

    mask = np.zeros((3, 40), bool)
    mask[1] = True
    found = open_dot(product).at(region_of(mask)).dots(*numbers)
    assert len(asked) == calls and {(a.shape, b.shape) for a, b in asked} == {((3, 5), (5, 40))}
    assert found.tolist() == (numbers[0] * numbers[1]).sum(axis=1).tolist()


@pytest.mark.parametrize("inputs", ["float32", "bfloat16"])
def test_dot_products_of_any_factors_in_any_region_are_asked_once(inputs: str) -> None:
    """Rows in turn that share a left or a right factor, and rows that do not; more than a region has places for."""
    random = np.random.default_rng(1)
    for shape in ((1, 7), (7, 1), (3, 5), (4, 4)):
        for _ in range(8):
            mask = random.random(shape) < 0.5
            mask[random.integers(shape[0]), random.integers(shape[1])] = True
            a, b = random.integers(-3, 4, (2, 60, 3)).astype(np.float32)
            a[10:30], b[25:50] = a[10], b[25]
            found = open_dot(lambda a, b: a.astype(np.float32) @ b.astype(np.float32), inputs=inputs).at(
                region_of(mask)
            )
            assert found.dots(a, b).tolist() == (a * b).sum(axis=1).tolist()


def test_few_factors_keep_the_rows_cancelling_and_the_last_one() -> None:
    mask = np.ones((1, 20), bool)
    narrow = Prober(open_dot(lambda a, b: a @ b).at(region_of(mask)), 9)
    a, b = cancelling("float32", 9, 64)
    left, right = narrow.of_few_factors(a, b)
    assert len(np.unique(left, axis=0)) == 5 and np.array_equal(right, b)  # 20, 20, 20, 3 rows, and the last
    assert np.array_equal(left[-1], a[-1]) and np.array_equal(left[:20], np.repeat(a[:1], 20, 0))
    assert np.array_equal(left[:-1, :4] * right[:-1, :4], -left[:-1, 5:] * right[:-1, 5:])
    whole = Prober(open_dot(lambda a, b: a @ b), 9)
    assert whole.of_few_factors(a, b)[0] is a


def test_factors_are_numbers_of_the_inputs_and_give_the_products() -> None:
    """Also at both ends of float16's range, where no factor is common to all products."""
    found = prober(lambda a, b: a.astype(np.float32) @ b.astype(np.float32), 4, "float16")
    assert (found.small, found.big) == (-28, 30)
    products = np.array([[2.0**30, -(2.0**-28), 0, 1], [2.0**-27, 2.0**29, -(2.0**17), -(2.0**-1)]])
    one, other = found.factors(products)
    assert (one.astype(np.float64) * other == products).all()
    assert all((np.isin(np.abs(x), (0, *2.0 ** np.arange(-14, 16)))).all() for x in (one, other))
