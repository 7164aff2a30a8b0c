"""Orders found from answers: subjects that sum in a known order with a name, and ones that have none."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Sequence
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from mpsim.kernels import load
from mpsim.products.stages import Blocks, Groups, Product, Trees, UpTo, within
from mpsim.products.tensor_cores import accumulator_of
from mpsim.products.text import product_of, text_of
from mpsim.rounding import round_to
from mpsim.validate.answers import SubjectError
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
        ("product(products=float32, order=rising(bfloat16))", F),
        ("product(products=float32, order=halving(16, 8, rising(float16)))", F),
        ("product(products=float32, order=groups(lanes(4), rising(sums(float16, via=float32)), folding(float16)))", F),
        ("product(products=float32, order=groups(splits(4, 8), rising(), rising(start=first)))", F),
    ],
)
def test_an_order_is_found_as_described(order: str, inputs: str) -> None:
    product = product_of(order)
    report = validate_dot(subject(product), length=72, inputs=inputs)
    assert report.equal, text(report)
    assert product in [each.accumulator for each in report.matches], text(report)


@pytest.mark.parametrize(
    "described",
    [
        "product(products=float32, order=rising(), output=sums(bfloat16, nearest_away))",
        "product(products=float32, order=groups(lanes(4), rising(), folding()), output=sums(float16, nearest_away))",
        "product(products=float32, order=groups(blocks(8), rising(sums(bfloat16, nearest_away)), rising(start=first)))",
        "product(products=sums(bfloat16, nearest_away), order=rising())",
        "product(products=float32, order=rising(sums(float32, nearest_away)))",
    ],
)
def test_ties_away_from_zero_are_found(described: str) -> None:
    """As adding half a unit to the bits rounds. They were different from everything."""
    product = product_of(described)
    report = validate_dot(subject(product), length=24)
    assert report.equal and product in [each.accumulator for each in report.matches], text(report)
    declared = product_of(described.replace("sums(", "").replace(", nearest_away)", ""))
    assert not validate_dot(subject(product), declared, length=24).equal


@pytest.mark.parametrize("number", [8, 6])
def test_lanes_that_have_no_terms_are_zeros_where_lanes_are_folded(number: int) -> None:
    """Four and five terms in more lanes: the halves of the lanes are other terms than the halves of the terms."""

    def padded(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        lanes = np.zeros((number, len(a), b.shape[1]), np.float32)
        for k in range(a.shape[1]):
            lanes[k % number] += np.outer(a[:, k], b[k])
        while len(lanes) > 1:
            half = (len(lanes) + 1) // 2
            lanes = lanes[:half] + np.concatenate([lanes[half:], np.zeros_like(lanes[: 2 * half - len(lanes)])])
        return lanes[0]

    described = product_of(
        f"product(products=float32, order=groups(lanes({number}), rising(), folding(lanes={number})))"
    )
    report = validate_dot(padded, length=40)
    assert report.equal and report.matches[0].accumulator == described, text(report)


@pytest.mark.parametrize("output", ["bfloat16", "sums(bfloat16, via=float32)"])
def test_float64_sums_that_are_rounded_twice(output: str) -> None:
    """In float32 first, they were taken for float64 sums rounded once to bfloat16."""
    described = product_of(f"product(order=rising(float64, first), output={output})")

    def multiply(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        total = np.add.accumulate(a.astype(np.float64)[:, :, None] * b[None], 1)[:, -1]
        once = round_to(total, "bfloat16", backend="reference")
        return (total.astype(np.float32) if "via" in output else once).astype(ml_dtypes.bfloat16)

    report = validate_dot(multiply, length=40)
    assert report.equal and report.matches[0].accumulator == described, text(report)


def test_an_empty_split_is_zero() -> None:
    """With one term the second split adds +0 to the first, which may have become -0 in bfloat16."""

    def multiply(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        total = np.zeros((2, len(a), b.shape[1]), np.float32)
        half = (a.shape[1] + 1) // 2
        for k in range(a.shape[1]):
            total[k // half] += np.outer(a[:, k], b[k])
        return total[0].astype(ml_dtypes.bfloat16) + total[1].astype(ml_dtypes.bfloat16)

    report = validate_dot(multiply, length=40)
    assert report.equal, text(report)


def test_terms_that_are_padded_to_a_power_of_two() -> None:
    """As in blocks that are loaded with a mask. The zeros show where their number is not 0: -0 and +0 are +0."""

    def padded(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        terms = (a[:, :, None] * b[None]).transpose(1, 0, 2)
        terms = np.concatenate(
            [terms, np.zeros(((1 << (len(terms) - 1).bit_length()) - len(terms), *terms.shape[1:]), F)]
        )
        while len(terms) > 1:
            terms = terms[: len(terms) // 2] + terms[len(terms) // 2 :]
        return terms[0]

    for length in (32, 40):
        report = validate_dot(padded, length=length)
        assert report.equal and product_of("product(products=float32, order=folding(padded=true))") in [
            each.accumulator for each in report.matches
        ], text(report)


@pytest.mark.parametrize("lanes", [1, 4])
@pytest.mark.parametrize("format,size", [("float16", 4), ("bfloat16", 8)])
def test_totals_that_are_stored_in_a_narrow_format_on_the_way(lanes: int, format: str, size: int) -> None:
    """They were "unexplained", and with several lanes the operands were taken to be rounded."""
    carried = f"carried({size}, rising(start=first), {format})"
    order = carried if lanes == 1 else f"groups(lanes({lanes}), {carried}, folding())"
    described = product_of(f"product(products=float32, order={order})")
    report = validate_dot(subject(described), length=72)
    assert report.equal and report.matches[0].accumulator == described, text(report)


@pytest.mark.parametrize(
    "order",
    [
        "groups(blocks(8), rising(), kahan())",
        "groups(whole(), tail(8, groups(lanes(8), tail(2, groups(lanes(2), rising(), rising(start=first)), "
        "rising(start=first)), folding()), rising(start=first)), rising())",
    ],
)
def test_kahan_over_blocks_and_two_loops_of_lanes(order: str) -> None:
    described = product_of(f"product(products=float32, order={order})")
    report = validate_dot(subject(described), length=72)
    assert report.equal and report.matches[0].accumulator == described, text(report)


def _cut(x: np.ndarray) -> np.ndarray:
    return (x.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)


@pytest.mark.parametrize(
    "last,inputs,output",
    [
        (lambda x: _cut(x).astype(ml_dtypes.bfloat16), "bfloat16", "sums(bfloat16, toward_zero)"),
        (_cut, "float32", "sums(bfloat16, toward_zero)"),  # answered in float32
        (lambda x: x.astype(np.float16).astype(np.float32), "float32", "float16"),
        (lambda x: x.astype(ml_dtypes.bfloat16).astype(np.float16), "bfloat16", "bfloat16"),
        (lambda x: np.clip(x, -65504, 65504).astype(np.float16), "float16", "sums(float16, saturate=true)"),
    ],
    ids=["cut", "cut in float32", "narrow in float32", "narrow in float16", "saturating"],
)
def test_results_that_are_not_rounded_to_the_type_of_the_answers(last: Any, inputs: str, output: str) -> None:
    product = subject(product_of("groups(lanes(4), rising(), folding())"))
    report = validate_dot(lambda a, b: last(product(a, b)), length=40, inputs=inputs)
    assert report.equal and f"output={output})" in report.matches[0].text, text(report)


def test_an_order_without_a_name_that_stores_every_sum() -> None:
    """Three apart as above; each sum is rounded to float32 and then to bfloat16."""

    def stored(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        left = [np.outer(a[:, k], b[k]).astype(np.float32) for k in range(a.shape[1])][::-1]
        while len(left) > 3:
            total = (left[0] + left[2]).astype(ml_dtypes.bfloat16).astype(np.float32)
            left = [*left[3:], total, left[1]]
        return sum(left[1:], left[0])

    report = validate_dot(stored, length=24)
    assert report.equal and report.matches[0].drawn, text(report)


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
    changed = [order for each in report.apart for order in within(each.order) if isinstance(order, Trees)]
    assert any(order.trees[1:] == trees[0].trees[1:] and order != trees[0] for order in changed)


@pytest.mark.parametrize("few", [2, 7, 31])
def test_another_order_for_one_number_of_terms_alone_is_named(few: int) -> None:
    orders = {few: product_of("groups(splits(2), rising(), rising(start=first))")}

    def product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return subject(orders.get(a.shape[1], product_of("rising()")))(a, b)

    report = validate_dot(product, length=40)
    expected = f"different: the sums depend on the number of terms: other ones for K = {few}"
    assert not report.equal and report.terms == (few,) and expected in text(report), text(report)


@pytest.mark.parametrize(
    "rows,words", [((6,), "6 rows"), (range(48, 65), "48 to 64 rows"), (range(1, 12), "fewer than 12 rows")]
)
def test_another_order_for_any_number_of_rows_is_seen(rows: Sequence[int], words: str) -> None:
    """It was asked for 14 numbers of rows alone."""
    orders = {m: product_of("groups(splits(2), rising(), rising(start=first))") for m in rows}

    def product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return subject(orders.get(len(a), product_of("rising()")))(a, b)

    report = validate_dot(product, length=40)
    assert f"another order for {words} (not batch-invariant): groups(splits(2)" in text(report), text(report)
    assert not report.equal and not report.to_dict()["batch_invariant"]


@pytest.mark.parametrize("seed", range(3))
def test_columns_that_are_summed_otherwise_are_seen_in_few_narrow_terms(seed: int) -> None:
    """Sums of a dozen normal bfloat16 products are mostly exact in float32, in any order."""
    orders = [product_of(each) for each in ("rising()", "groups(lanes(2), rising(), rising(start=first))")]

    def product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        first, rest = (subject(order)(a, b) for order in orders)
        return np.concatenate([first[:, :8], rest[:, 8:]], 1)

    report = validate_dot(product, inputs="bfloat16", length=16, seed=seed)
    assert report.places is not None and report.places.side == 16, text(report)
    assert {order for _, order in report.places.parts} <= {accumulator_of(text_of(each)) for each in orders}


def test_another_order_in_large_matrices_is_seen() -> None:
    def product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return subject(product_of("rising()" if b.shape[1] <= 64 else "pairwise()"))(a, b)

    report = validate_dot(product, length=40)
    assert not report.equal and report.large and report.matches, text(report)
    assert "other ones in a product of 132 rows and columns, of 33 k" in text(report), text(report)


def test_vectors_that_are_summed_otherwise_at_other_addresses_are_noted() -> None:
    """Three elements are summed last where a vector begins 4 bytes beyond a multiple of 16."""

    def dot(x: np.ndarray, y: np.ndarray) -> np.float32:
        total, ahead = np.float32(0), 3 if x.ctypes.data % 16 == 4 else 0
        for k in (*range(ahead, len(x)), *range(ahead)):
            total = total + x[k] * y[k]
        return total

    report = validate_dot(dot, length=24, form="dot")
    assert report.equal
    assert "vectors that begin 1 elements beyond a multiple of 64 bytes are summed otherwise" in report.notes


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
    """Lanes that take two terms in turn, each in two lanes, add the same pairs."""
    product = product_of("groups(lanes(8), rising(), pairwise())")
    report = validate_dot(subject(product), length=72)
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
    expected = flushed if inside else product_of("product(order=rising(), output=sums(float32, flush=true))")
    assert report.equal and report.matches[0].accumulator == expected, text(report)


def test_sums_that_are_rounded_to_float32_on_the_way() -> None:
    """numpy.einsum of float16: each sum is formed in float32, then rounded to float16. One rounding gives another
    result where the float32 number is halfway between two of float16 and the exact one is not."""

    def einsum(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        total = np.zeros((len(a), b.shape[1]), np.float16)
        for k in range(a.shape[1]):
            product = np.outer(a[:, k].astype(np.float32), b[k].astype(np.float32))
            total = (total.astype(np.float32) + product).astype(np.float16)
        return total

    odd, unit = 1 + 2.0**-10, 2.0**-11  # of float16; odd + unit * (1 - 2**-20) is just below a midpoint
    near_a_tie = np.float16([[odd, 2.0**-5 * odd]]), np.float16([[1], [2.0**-6 * (1 - 2.0**-10)]])
    assert float(einsum(*near_a_tie)[0, 0]) == odd + 2 * unit, "one rounding would give odd"
    described = product_of("product(order=rising(sums(float16, via=float32)), output=float16)")
    report = validate_dot(einsum, length=40, inputs="float16")
    assert report.equal and described in [each.accumulator for each in report.matches], text(report)
    once = validate_dot(einsum, "product(order=rising(float16), output=float16)", length=40, inputs="float16")
    assert not once.equal, text(once)


def test_products_that_are_rounded_only_where_there_are_few_terms() -> None:
    """bfloat16 products are exact in float32, except subnormal and infinite ones."""
    few = "groups(blocks(1), rising(start=first), rising())"
    described = product_of(f"upto(20, {few}, groups(lanes(4), rising(), folding()))")
    report = validate_dot(subject(described), inputs="bfloat16", length=40)
    assert report.equal, text(report)
    for each in report.matches:
        assert isinstance(each.accumulator, Product) and isinstance(each.accumulator.order, UpTo)
        found = each.accumulator.order
        assert found.most == 20 and isinstance(found.few, Groups) and found.few.partition == Blocks(1), text(report)


@pytest.mark.parametrize("few", ["groups(blocks(1), rising(start=first), rising())", "rising()"])
def test_trees_round_their_products_each_in_its_own_way(few: str) -> None:
    """33 terms and more have no order with a name; operands are read as zeros there alone."""
    text_of_threes = "groups(blocks(3), rising(start=first), reordered(descending(5), pairwise()))"
    flushed = "operand(bfloat16, flush=true, above=20)"
    described = product_of(f"product({flushed}, {flushed}, order=upto(20, {few}, {text_of_threes}))")
    report = validate_dot(subject(described), inputs="bfloat16", length=40)
    assert report.equal and report.matches[0].drawn, text(report)
    found = report.matches[0].accumulator
    assert isinstance(found, Product) and found.left.flush and 3 <= found.left.above < 33


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


def _nested(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Three splits of k, each in four lanes that are folded; their sums are stored in bfloat16, added in float32."""
    size, total = -(-a.shape[1] // 3), None
    for start in range(0, a.shape[1], size):
        lanes = np.zeros((4, len(a), b.shape[1]), np.float32)
        for i, k in enumerate(range(start, min(start + size, a.shape[1]))):
            lanes[i % 4] = lanes[i % 4] + np.outer(a[:, k], b[k])
        part = ((lanes[0] + lanes[2]) + (lanes[1] + lanes[3])).astype(ml_dtypes.bfloat16).astype(np.float32)
        total = part if total is None else total + part
    return total


def test_partial_sums_are_stored_in_a_format_of_their_own() -> None:
    report = validate_dot(_nested, length=24)
    text = "groups(splits(3), groups(whole(), groups(lanes(4), rising(), folding()), rising(bfloat16, first)), "
    assert report.equal and any(text in each.text for each in report.matches), [each.text for each in report.matches]


def _flushed(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """A float32 sum in rising order; subnormal results alone become zeros of their sign."""
    total = np.zeros((len(a), b.shape[1]), np.float32)
    for k in range(a.shape[1]):
        total = total + np.outer(a[:, k], b[k])
    return np.where(np.abs(total) < 2.0**-126, np.copysign(np.float32(0), total), total)


def test_results_that_are_flushed_are_told_from_sums_that_are() -> None:
    report = validate_dot(_flushed, length=24)
    assert report.equal and "output=sums(flush=true)" in report.matches[0].text


@pytest.mark.parametrize("period", [11, 37, 53, 97])
def test_a_rare_other_answer_is_not_a_dependence_on_shapes(period: int) -> None:
    """Whatever call it is that has another last bit: no shape and no number of terms is named for it."""
    calls = itertools.count(1)

    def rare(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        total = np.zeros((len(a), b.shape[1]), np.float32)
        for k in range(a.shape[1]):
            total = total + np.outer(a[:, k], b[k])
        return np.nextafter(total, np.float32(np.inf)) if next(calls) % period == 0 else total

    try:
        report = validate_dot(rare, length=64)
    except SubjectError as error:
        assert "differently in equal calls" in str(error)
    else:
        named = report.shapes, report.places, report.terms, report.large
        assert not report.equal and not report.matches and named == (None, None, (), False)
