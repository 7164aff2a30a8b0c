"""Orders found from answers: subjects that sum in a known order with a name, and ones that have none."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mpsim.kernels import load
from mpsim.products.stages import Product, Trees, UpTo, within
from mpsim.products.text import product_of, text_of
from mpsim.validate.dot.orders.recognition import recognised
from mpsim.validate.dot.orders.trees import nodes_of
from mpsim.validate.dot.report import text
from mpsim.validate.dot.validation import validate_dot

F = "float32"


def subject(product: Product) -> Callable[..., Any]:
    """mpsim's own product as a function of unknown order, which answers in the type of the product's output."""
    dtype = {"float16": np.float16}.get(product.output.format, np.float32)

    def multiply(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        left, right = (np.ascontiguousarray(x, np.float32) for x in (a, b))
        return load("compiled").matmul(left, right, threads=1, accumulator=product).astype(dtype)

    return multiply


@pytest.mark.parametrize(
    "order,inputs",
    [
        ("groups(lanes(4), rising(), folding())", F),
        ("product(products=float32, order=groups(lanes(8), rising(), rising(start=first)))", F),
        ("product(order=groups(lanes(2, 4), rising(), rising(start=first)))", F),
        (
            "product(products=float32, order=groups(blocks(16), groups(lanes(4), rising(), folding()), pairwise()))",
            "float32",
        ),
        ("product(order=groups(splits(2), rising(), rising(float16, first)), output=float16)", "float16"),
        (
            "product(order=groups(splits(3), groups(whole(), rising(), rising(float16, first)), "
            "rising(float16, first)), output=float16)",
            "float16",
        ),
        (
            "product(products=float32, order=tail(8, groups(lanes(8), rising(), pairwise()), rising(start=first)))",
            "float32",
        ),
    ],
)
def test_an_order_is_found_as_described(order: str, inputs: str) -> None:
    product = product_of(order)
    report = validate_dot(subject(product), length=72, inputs=inputs)
    assert report.equal, text(report)
    assert product in [each.accumulator for each in report.matches], text(report)


def test_an_order_without_a_name_is_given_as_trees() -> None:
    """Pairs that are three apart, from the last k to the first: nobody's kernel."""

    def odd(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        terms = [np.outer(a[:, k], b[k]).astype(np.float32) for k in range(a.shape[1])][::-1]
        while len(terms) > 1:
            terms = (
                [*terms[3:], terms[0] + terms[min(2, len(terms) - 1)], *terms[1:2]]
                if len(terms) > 3
                else [sum(terms[1:], terms[0])]
            )
        return terms[0]

    report = validate_dot(odd, length=24)
    assert report.equal, text(report)
    found = report.matches[0].accumulator
    assert isinstance(found, Product)
    trees = [order for order in within(found.order) if isinstance(order, Trees)]
    assert isinstance(found.order, UpTo) and found.order.most < 23  # 3 terms and 1 are in an order with a name
    assert [tree.length for tree in trees[0].trees] == [33, 24, 23]
    assert "other numbers of terms were not asked" in text(report)
    assert len(text(report).splitlines()[1]) < 300  # in words, not as nested brackets


def test_one_wrong_sum_is_not_called_equal() -> None:
    """The same lanes, except that one product is left out of 70 terms."""

    def short(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        a = a.copy()
        if a.shape[1] == 72:
            a[:, 41] = 0
        return subject(product_of("groups(lanes(4), rising(), folding())"))(a, b)

    assert not validate_dot(short, length=72).equal


@pytest.mark.parametrize(
    "tree,expected",
    [
        (((0, 2), (1, 3)), "groups(lanes(2), rising(), rising(start=first))"),
        ((((0, 1), 2), 3), "rising()"),
        ((((0, 1), (2, 3)), ((4, 5), (6, 7))), "pairwise()"),
        (((((0, 4), (2, 6)), ((1, 5), (3, 7))), 8), "tail(2, folding(), rising(start=first))"),
        (((((0, 1, 2, 3), 4, 5, 6, 7)), 8, 9), "aligned(4)"),
    ],
)
def test_the_simplest_order_of_a_tree(tree: Any, expected: str) -> None:
    length = max(nodes_of(tree)).bit_length()
    assert expected in [text_of(order) for order in recognised(tree, length)]


@pytest.mark.parametrize(
    "order", ["groups(lanes(8), rising(), folding())", "groups(blocks(64), rising(), rising(start=first))"]
)
def test_the_largest_product_counts_too(order: str) -> None:
    """96 terms in matrices of 40 x 40 are asked for the shapes; the answers must be those of the match."""

    def wrong_at_96(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        if a.shape[1] == 96:
            return np.full((len(a), b.shape[1]), 7, np.float32)
        return subject(product_of(order))(a, b)

    for declared in (None, order):
        report = validate_dot(wrong_at_96, declared, length=128)
        assert not report.equal
        assert "1,600 probes differ" in text(report) and "(40 x 40, K = 96)" in text(report)


def test_one_of_several_orders_is_printed_as_such() -> None:
    """Nothing asked has so many terms that a tail of 128 and one of 64 would differ."""
    product = product_of("tail(128, groups(lanes(8), rising(), folding()), rising(start=first))")
    report = validate_dot(subject(product), length=260)
    assert report.equal and product in [each.accumulator for each in report.matches] and len(report.matches) > 1
    assert re.search(r"order: one of [2-9] that no input tells apart, such as: ", text(report)), text(report)


@pytest.mark.parametrize("inside", [False, True])
def test_subnormal_sums_that_become_zeros_are_told_from_such_results(inside: bool) -> None:
    """2**-127 + 2**-127 is normal, and lost only if each sum is flushed."""
    flushed = product_of("rising(sums(float32, flush=true))")

    def product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        if inside:
            return subject(flushed)(a, b)
        found = subject(product_of("rising()"))(a, b)
        return np.where(np.abs(found) < 2.0**-126, np.copysign(np.float32(0), found), found)

    report = validate_dot(product, length=40)
    assert report.equal == inside and (not inside or report.matches[0].accumulator == flushed), text(report)


def test_bfloat16_pairs_as_avx512_adds_them() -> None:
    """vdpbf16ps: the second of a pair first, subnormal operands and sums as zeros (Intel's manual). Few terms have a
    loop of their own, with what is left after whole turns in the first of four sums."""
    described = product_of(
        "product(operand(bfloat16, none, true, above=20), operand(bfloat16, none, true, above=20), order=upto(20, "
        "groups(lanes(4, rest=first), rising(), rising(start=first)), reordered(descending(2), "
        "rising(sums(float32, flush=true)))))"
    )
    report = validate_dot(subject(described), inputs="bfloat16", length=36)
    assert report.equal, text(report)
    found = report.matches[0].accumulator
    assert isinstance(found, Product) and found.left == found.right == described.left
    assert isinstance(found.order, UpTo) and isinstance(described.order, UpTo)
    assert found.order.most == 20 and found.order.many == described.order.many
