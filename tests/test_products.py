"""Products in stages: the definition by sums written out, and every backend's steps against the definition."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from contractions import KINDS, Convolution, all_of, assert_same, defined, draw, some_places
from hypothesis import given, settings
from products import Case, cases, compare, of_element, same

from mpsim.errors import UsageError
from mpsim.kernels import load
from mpsim.kernels.contractions.beside import Beside
from mpsim.kernels.contractions.operands import reading_of
from mpsim.kernels.spec_dot import dot
from mpsim.products.stages import (
    Aligned,
    AlignedLate,
    Blocks,
    ByColumn,
    Carried,
    Exact,
    Folding,
    Groups,
    Halving,
    Lanes,
    Operand,
    Order,
    Pairwise,
    Parts,
    Product,
    Reordered,
    Rising,
    Scale,
    Scaled,
    Splits,
    Sums,
    Tail,
    Tree,
    Trees,
    Unspecified,
    UpTo,
)
from mpsim.products.text import product_of
from mpsim.rounding import round_to

f = np.float32
#: Products of these numbers lose bits in each other's presence in many ways.
INTEGERS = [2.0**24, 1.0, -(2.0**24), 3.0, 2.0**25, -1.0, 5.0, 2.0**24 + 2]


def written(order: Order, a: list[float]) -> float:
    return dot(a, [1.0] * len(a), Product(order=order))


@pytest.mark.parametrize(
    "order,expected",
    [
        # ((((2^24+1)-2^24)+3)+2^25)-1+5+(2^24+2), each rounded to a float32
        (Rising(), f(f(f(f(f(f(f(f(2**24) + f(1)) - f(2**24)) + f(3)) + f(2**25)) - f(1)) + f(5)) + f(2**24 + 2))),
        # pairs: (2^24+1 -> 2^24), (-2^24+3), (2^25-1 -> 2^25), (5+2^24+2 -> 2^24+8)
        (Pairwise(), f(f(f(2**24) + f(-(2**24) + 3)) + f(f(2**25) + f(2**24 + 8)))),
        # folding 8 -> 4: 0+4, 1+5, 2+6, 3+7; 4 -> 2: (0)+(2), (1)+(3)
        (Folding(), f(f(f(2**24 + 2**25) + f(-(2**24) + 5)) + f(f(0) + f(2**24 + 5)))),
        # as 12 terms, 4 of which are missing: 0+6, 1+7; 0+3, 1+4, 2+5; then (0)+(2), and (1)
        (
            Folding(lanes=12),
            f(f(f(f(2**24 + 5) + f(3)) + f(-(2**24) - 1)) + f(f(1 + 2**24 + 2) + f(2**25))),
        ),
        # eight terms need no zeros
        (Folding(padded=True), f(f(f(2**24 + 2**25) + f(-(2**24) + 5)) + f(f(0) + f(2**24 + 5)))),
        # three terms, three with the total before, 2**25 + 4 -> 2**25, two with it, which are fewer than three
        (Carried(3, Rising(start="first"), Sums("bfloat16")), f(f(f(2**25) + f(5)) + f(2**24 + 2))),
        # lanes of two: even and odd terms in rising order, then one sum
        (
            Groups(Lanes(2), Rising(), Rising(start="first")),
            f(f(f(f(f(2**24) - f(2**24)) + f(2**25)) + f(5)) + f(f(f(f(1) + f(3)) - f(1)) + f(2**24 + 2))),
        ),
        # the two halves: {0,1} of every four first
        (
            Reordered(Lanes(2, 2), Rising()),
            f(f(f(f(f(f(f(2**24 + 1) + f(2**25)) - f(1)) - f(2**24)) + f(3)) + f(5)) + f(2**24 + 2)),
        ),
        (Tree(((0, 2), ((1, 3), (4, 5, 6), 7))), f(f(0) + f(f(f(4) + f(f(f(2**25) - f(1)) + f(5))) + f(2**24 + 2)))),
        # from +0, and a node of bfloat16: 2^24 + 5 -> 2^24
        (
            Tree((((), 1, ("bfloat16", 0, 6)), (2, 3, 4, 5, 7))),
            f(f(1 + 2**24) + f(f(f(f(-(2**24) + 3) + f(2**25)) - f(1)) + f(2**24 + 2))),
        ),
        (Exact(), f(sum(INTEGERS))),
        # 0 to 5 in pairs, and the result, 3 + 2**25 -> 2**25 + 4, is added to 6 and then 7
        (Tail(3, Pairwise(), Rising(start="first")), f(f(f(f(2**24 - 2**24 + 3) + f(2**25)) + f(5)) + f(2**24 + 2))),
        # 8 terms are more than 7, and not more than 8
        (UpTo(7, Rising(), Pairwise()), f(f(f(2**24) + f(-(2**24) + 3)) + f(f(2**25) + f(2**24 + 8)))),
        (UpTo(8, Pairwise(), Rising()), f(f(f(2**24) + f(-(2**24) + 3)) + f(f(2**25) + f(2**24 + 8)))),
        # 0 to 3 and 4 to 7, each in rising order
        (Halving(4, 2, Rising()), f(f(3) + f(f(f(f(2**25) - f(1)) + f(5)) + f(2**24 + 2)))),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_definition_is_the_sum_written_out(order: Order, expected: np.float32) -> None:
    assert written(order, INTEGERS) == expected


@pytest.mark.parametrize("backend", ("reference", "numba", "compiled"))
def test_terms_that_are_added_together_are_rounded_once(backend: str) -> None:
    """2**24 + 1 and 2**24 + 3 are ties, which go to 2**24 and to 2**24 + 4. One at a time, every one is lost."""
    a, ones = np.float32([[2.0**24, 1, 1, 1, 1, -(2.0**24)]]), np.ones((6, 1), np.float32)
    for together, expected in ((1, 0), (2, 3), (3, 4), (4, 5), (5, 4), (6, 4)):
        product = Product(order=Rising(together=together))
        assert dot(a[0].tolist(), [1.0] * 6, product) == expected, together
        assert load(backend).matmul(a, ones, accumulator=product).item() == expected, together
    negative = np.float32([[-0.0, -0.0]])
    for start, sign in (("zero", False), ("first", True)):
        product = Product(order=Rising(start=start, together=2))
        assert np.signbit(dot([-0.0] * 2, [1.0] * 2, product)) == sign
        assert np.signbit(load(backend).matmul(negative, ones[:2], accumulator=product)).item() == sign


@pytest.mark.parametrize("backend", ("reference", "numba", "compiled"))
def test_c_is_aligned_after_the_products(backend: str) -> None:
    """Products keep 2**-24 beside 1; what is negative and smaller rounds down to -2**-32 beside c. A c that is too
    small is left out where there is a reach."""
    ones = np.ones((4, 1), np.float32)
    for terms, reach, values, expected in (
        (4, None, [1, -1, 2.0**-25, 0], 0.0),  # cut off beside 1
        (4, None, [1, -1, 2.0**-24, 0], 2.0**-24),
        (2, None, [2, 0, -(2.0**-40), 0], 2.0),  # 2 - 2**-31, which rounds to 2
        (2, None, [-(2.0**-60), 0, 1, -1], -(2.0**-24)),  # c is rounded down beside 1
        (2, 25, [-(2.0**-60), 0, 1, -1], 0.0),
        (2, 61, [-(2.0**-60), 0, 1, -1], -(2.0**-24)),
    ):
        product = Product(order=AlignedLate(terms, reach=reach))
        a = np.float32([values])
        assert dot(a[0].tolist(), [1.0] * 4, product) == expected, values
        assert load(backend).matmul(a, ones, accumulator=product).item() == expected, values
    down = Product(order=AlignedLate(1, sum_bits=23, sums=Sums(rounding="toward_zero")))  # then "down" shows
    a = np.float32([[2, -(2.0**-40)]])
    assert load(backend).matmul(a, ones[:2], accumulator=down).item() == 2 - 2.0**-23


@pytest.mark.parametrize("backend", ("reference", "numba", "compiled"))
def test_an_instruction_ends_with_its_group(backend: str) -> None:
    """k mod 4 in {0, 1} first, also of 4 terms: 448 * 448 cancels before 2**-12 is added."""
    a, b = np.float32([[448, -448, 2.0**-6, 0]]), np.float32([[448], [448], [2.0**-6], [0]])
    order = Groups(Blocks(32), Reordered(Lanes(2, 2), Aligned(16, 25, Sums(rounding="toward_zero"))), Rising())
    for width in (4, 32):
        padding = width - 4
        x, y = np.pad(a, [(0, 0), (0, padding)]), np.pad(b, [(0, padding), (0, 0)])
        assert dot(x[0].tolist(), y[:, 0].tolist(), Product(order=order)) == 2.0**-12
        assert load(backend).matmul(x, y, accumulator=Product(order=order)).item() == 2.0**-12


BACKENDS = ("reference", "numba", "compiled")


@pytest.mark.parametrize("backend", ("reference", "numba", "compiled"))
def test_some_columns_may_take_scales(backend: str) -> None:
    """Column 0 is summed in rising order, the others in blocks of two, with scales of the left operand."""
    scaled = Groups(Blocks(2), Scaled(Rising(), Scale("left"), 2), Rising())
    product = Product(order=ByColumn(1, Rising(), scaled))
    a, b = np.float32([[1, 2, 3, 4]]), np.ones((4, 2), np.float32)
    beside = Beside(left_scale=np.float32([[10, 0.5]]))
    assert load(backend).matmul(a, b, beside=beside, accumulator=product).tolist() == [[10, 33.5]]
    for column, expected in ((0, 10), (1, 33.5)):
        assert dot(a[0].tolist(), [1.0] * 4, product, Beside(left_scale=[10.0, 0.5]), column=column) == expected
    with pytest.raises(UsageError, match="takes no scales of the right operand"):
        load(backend).matmul(a, b, beside=beside._replace(right_scale=np.ones((2, 1), np.float32)), accumulator=product)


@settings(deadline=None, max_examples=100)
@given(case=cases())
def test_every_backend_gives_the_definition(case: Case) -> None:
    compare(case, BACKENDS)


LANES = Product(order=Groups(Lanes(8), Rising(), Folding()), output=Sums("bfloat16"))
HALVES = Product(
    Operand("float8_e4m3fn", "truncate"),
    Operand("float8_e5m2", "truncate"),
    None,
    Groups(Blocks(32), Reordered(Lanes(2, 2), Aligned(16, 25, Sums("float16"))), Rising(Sums("float16"), "first")),
    Sums("float16"),
)
PARTS = product_of(
    "product(operand(bfloat16, nearest_even, parts=3), operand(bfloat16, nearest_even, parts=2), "
    "order=groups(blocks(5), rising(), pairwise()), parts=parts(((2, 0), (1, 1), (1, 0), (0, 1), (0, 0)), blocks(4)))"
)
SPLIT = Product(
    products=Sums(), order=Groups(Splits(4, 8), Groups(Lanes(4), Rising(start="first"), Folding()), Pairwise())
)


@pytest.mark.parametrize("product", [LANES, HALVES, SPLIT, PARTS], ids=["lanes", "halves", "split", "parts"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_convolutions_sum_in_the_order_too(backend: str, product: Product) -> None:
    """The product's left factor is the first argument of the kernel; in the tables it is the second."""
    case = Convolution(2, 3, 7, 5, 4, (3, 3), padding=(1, 1))
    arrays = [round_to(each, "float8_e5m2", backend="reference") for each in case.draw("normal")]
    swapped = replace(product, left=product.right, right=product.left) if product.parts is None else product.swapped
    if product.parts is not None:
        arrays = list(case.draw("normal"))  # numbers that have parts
    results = all_of(load(backend), case, arrays, threads=2, accumulator=product)
    for which, result in enumerate(results):
        for at in some_places(result.shape, 12):
            assert same(float(result[at]), float(defined(case, arrays, which, at, swapped))), (which, at)


#: Every stage in at least one of them, among others as systems run them.
WRITTEN = [
    "groups(lanes(8), rising(), folding())",
    "product(order=groups(lanes(16), rising(), folding()), output=bfloat16)",
    "product(products=float32, order=groups(splits(4, 8), "
    "groups(lanes(4), rising(start=first), folding()), pairwise()))",
    "product(operand(float8_e4m3fn, truncate), operand(float8_e5m2, truncate), order=groups(blocks(32), "
    "reordered(lanes(2, 2), aligned(16, 25, float16)), rising(float16, first)), output=float16)",
    "product(operand(float8_e5m2), operand(float16), order=aligned(8, 13, fp_8_13_0, none))",
    "product(operand(float16), operand(float8_e5m2), order=aligned(4, 30, sums(float32, toward_zero), none))",
    "groups(blocks(3), exact(), exact())",
    "groups(blocks(5), exact(), pairwise(float16))",
    "groups(lanes(3), aligned(2, 20), folding(sums(bfloat16, toward_zero)))",
    "product(products=sums(bfloat16, toward_zero), order=pairwise(float8_e4m3fnuz))",
    "groups(blocks(4), rising(fp_4_0_0), rising(float4_e2m1fn, first))",
    "pairwise(sums(float8_e4m3fn, toward_zero))",
    "groups(splits(3), reordered(lanes(2), exact()), rising(tf32))",
    "product(operand(tf32, truncate), order=folding(), output=float8_e5m2)",
    "halving(16, 8, tail(8, groups(lanes(8), rising(start=first), pairwise()), rising(start=first)))",
    "product(products=float32, order=tail(4, groups(lanes(4), rising(), folding()), rising(bfloat16, first)))",
    "groups(lanes(8), rising(), folding(lanes=8))",
    "groups(lanes(2), carried(3, rising(), float16), folding(bfloat16, 16))",
    "product(order=groups(whole(), carried(8, pairwise(), sums(bfloat16, stochastic, random_bits=8), first), "
    "rising()), start=c)",
    "tail(7, aligned(3), folding(float16))",
    "product(operand(float16), operand(float8_e5m2), order=aligned(4, 24, sums(float32, toward_zero), start=first))",
    "product(products=float32, order=groups(whole(), pairwise(), rising()))",
    "groups(blocks(2), pairwise(), groups(blocks(4), pairwise(float16), rising(start=first)))",
    "kahan()",
    "product(products=float32, order=groups(lanes(2), kahan(bfloat16), kahan()))",
    "groups(lanes(8), rising(float64), rising(float64, first))",
    "groups(lanes(2), rising(sums(float64, toward_zero)), pairwise(sums(float16, flush=true)))",
    "rising(sums(bfloat16, stochastic, random_bits=8))",
    "product(products=sums(float8_e5m2, stochastic, true, 3), "
    "order=pairwise(sums(float32, stochastic, random_bits=24)))",
    "groups(lanes(4, 2, rest=first), rising(), rising(start=first))",
    "upto(2, groups(whole(), rising(), rising()), groups(lanes(2), upto(20, kahan(), pairwise()), rising()))",
    "groups(blocks(4), folding(sums(float32, flush=true)), kahan(sums(fp_4_0_0, toward_zero, true)))",
    "product(order=rising(sums(float16, via=float32)), output=sums(bfloat16, via=float32))",
    "product(products=sums(float16, via=float32), order=pairwise(sums(bfloat16, toward_zero, true, via=fp_8_12_0)))",
    "product(products=sums(float16, nearest_away), order=groups(lanes(2), rising(sums(float8_e5m2, nearest_away)), "
    "kahan(sums(float32, nearest_away, true))), output=sums(bfloat16, nearest_away))",
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", WRITTEN)
def test_every_backend_on_hard_numbers(text: str, kind: str) -> None:
    """The reference against the definition on some elements, and the others against the reference on all."""
    product = product_of(text)
    for length in (1, 2, 41):
        a, b = draw(kind, (70, length)), np.ascontiguousarray(draw(kind, (130, length), 1).T)
        results = {backend: load(backend).matmul(a, b, threads=2, accumulator=product) for backend in BACKENDS}
        for i, j in some_places((70, 130), 10):
            expected = dot(a[i].tolist(), b[:, j].tolist(), product, element=130 * i + j)
            assert same(float(results["reference"][i, j]), expected), (i, j)
        for backend, found in results.items():
            assert_same(found, results["reference"], backend)


@pytest.mark.parametrize("text", [WRITTEN[i] for i in (0, 4, 5, 8, 12, 16, 23)] + ["alignedlate()"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_groups_of_one_dot_product_each(backend: str, text: str) -> None:
    """Each has factors of its own, wherever it is computed beside others."""
    groups, length, product = 131, 9, product_of(text)
    x, w = draw("wide", (groups, length)), draw("wide", (groups, length), 1)
    bias, shape = draw("normal", (1, groups), 2)[0], (groups, length, 1, 1)
    given = x.reshape(1, groups * length, 1, 1), w.reshape(shape), bias, (1, 1), (0, 0), groups
    found = load(backend).conv2d(*given, threads=2, accumulator=product).ravel()
    for i in (0, 1, 63, 64, 100, 130):
        expected = dot(x[i].tolist(), w[i].tolist(), product.swapped, bias=float(bias[i]), element=i)
        assert same(float(found[i]), expected), i


def test_a_bias_is_added_before_the_output_is_rounded() -> None:
    a, b = np.float32([[1, 2**-8]]), np.ones((2, 1), np.float32)
    narrow = replace(LANES, output=Sums("bfloat16"))
    bias = np.float32([2**-8])
    found = load("reference").matmul(a, b, bias=bias, threads=1, accumulator=narrow)
    assert found.item() == 1 + 2**-7  # and not 1, which 1 + 2**-8, a tie, is rounded to; then 2**-8 would be lost


def test_the_short_form_with_an_output_runs_its_own_kernel() -> None:
    random = np.random.default_rng(0)
    a, b = random.standard_normal((2, 40, 40), dtype=np.float32)
    product = Product(output=Sums("bfloat16"))
    total = load("reference").matmul(a, b, threads=1)
    found = load("reference").matmul(a, b, threads=1, accumulator=product)
    assert found.tobytes() == round_to(total, "bfloat16", overflow="infinity", backend="reference").tobytes()


TIE, ABOVE = 1 + 2.0**-11, 1 + 2.0**-11 + 2.0**-23  # between 1 and its neighbour in tf32


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "operand,expected",
    [
        (Operand("tf32", "truncate"), [1, 1, -(2.0**-128), math.inf, 69952]),
        (Operand("tf32", "nearest_even"), [1, 1 + 2.0**-10, -(2.0**-128), math.inf, 70016]),
        (Operand("tf32", "nearest_away"), [1 + 2.0**-10, 1 + 2.0**-10, -(2.0**-128), math.inf, 70016]),
        (Operand("tf32", "nearest_even", True), [1, 1 + 2.0**-10, -0.0, math.inf, 70016]),
        (Operand("float32", flush=True), [TIE, ABOVE, -0.0, math.inf, 70001]),
        (Operand("float16", flush=True), [TIE, ABOVE, -0.0, math.inf, 70001]),
        (Operand("float16", "nearest_even"), [1, 1 + 2.0**-10, -0.0, math.inf, math.inf]),
        (Operand("float8_e4m3fn", "nearest_even"), [1, 1, -0.0, math.nan, math.nan]),
        (Operand("float4_e2m1fn", "nearest_away"), [1, 1, -0.0, 6, 6]),
    ],
    ids=str,
)
def test_an_operand_is_converted(backend: str, operand: Operand, expected: list[float]) -> None:
    """70,001 is between 69,952 and 70,016, and is not a tie; float8_e4m3fn has NaN alone, float4_e2m1fn neither."""
    a = np.float32([[TIE], [ABOVE], [-(2.0**-128)], [math.inf], [70001]])
    for order in (Rising(start="first"), Pairwise()):  # in steps
        for product in (Product(operand, order=order), Product(right=operand, order=order)):
            x, y = (a, np.ones((1, 1), np.float32)) if product.left == operand else (np.ones((1, 1), np.float32), a.T)
            found = load(backend).matmul(x, np.ascontiguousarray(y), threads=1, accumulator=product)
            assert all(map(same, found.ravel().tolist(), expected)), found


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("transposed", [False, True])
def test_each_column_in_its_order(backend: str, transposed: bool) -> None:
    """Columns 0 and 1, 2 to 4, and 5 and 6, each by its own definition, with its own C, bias and scale."""
    product = product_of(
        "product(order=bycolumn(2, pairwise(), bycolumn(5, rising(), rising(bfloat16))), "
        "epilogue=(scale(right), bias(), addc()), output=bfloat16)"
    )
    a, b, c = (draw("cancellation", shape, seed) for seed, shape in enumerate(((3, 9), (9, 7), (3, 7))))
    bias, scale = c[0], np.abs(c[1:2])
    operands = a, np.ascontiguousarray(b.T) if transposed else b, False, transposed, bias
    beside = Beside(c=c, right_scale=scale)
    found = load(backend).matmul(*operands, beside, threads=1, accumulator=product)
    for i, j in np.ndindex(found.shape):
        given = of_element(beside, i, j)
        expected = dot(a[i].tolist(), b[:, j].tolist(), product, given, float(bias[j]), column=j)
        assert same(float(found[i, j]), expected), (i, j)
    assert dot(a[0].tolist(), b[:, 2].tolist(), product, given, 0.0, column=2) == dot(
        a[0].tolist(), b[:, 2].tolist(), replace(product, order=Rising()), given, 0.0
    )


@pytest.mark.parametrize(
    "text,message",
    [
        ("groups(blocks(2), bycolumn(2, rising(), pairwise()), rising())", "not part of another order"),
        ("bycolumn(2, bycolumn(1, rising(), exact()), pairwise())", "not part of another order"),
        ("bycolumn(2, rising(sums(bfloat16, stochastic, random_bits=8)), pairwise())", "not stochastic"),
        (
            "product(order=bycolumn(2, rising(), pairwise()), output=sums(bfloat16, stochastic, random_bits=8))",
            "not stochastic",
        ),
    ],
)
def test_orders_by_column_that_are_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        product_of(text)


def test_an_order_by_column_is_refused_where_there_are_no_columns() -> None:
    product = product_of("bycolumn(2, rising(), pairwise())")
    with pytest.raises(UsageError, match="columns of a matrix product"):
        load("reference").conv2d(
            np.ones((1, 1, 3, 3), np.float32), np.ones((1, 1, 3, 3), np.float32), None, (1, 1), (0, 0), 1, threads=1,
            accumulator=product,
        )  # fmt: skip


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_operand_is_converted_in_products_of_more_terms(backend: str) -> None:
    """2**-127 is subnormal, and so is 2**-128; 2**-126 is not."""
    product = product_of("product(operand(bfloat16, none, true, above=2), order=groups(lanes(2), rising(), folding()))")
    for length, expected in ((2, 2.0**-126), (3, 0.0)):
        a = np.zeros((1, length), np.float32)
        a[0, :2] = 2.0**-127
        found = load(backend).matmul(a, np.ones((length, 1), np.float32), threads=1, accumulator=product)
        assert found.tolist() == [[expected]] == [[dot(a[0].tolist(), [1.0] * length, product)]]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("order", ["aligned(terms=8)", "groups(blocks(256), rising(), rising(start=first))"])
def test_converted_operands_go_to_the_kernel_of_the_short_form(backend: str, order: str) -> None:
    product = product_of(f"product(operand(tf32, nearest_away), operand(tf32, nearest_away), order={order})")
    random = np.random.default_rng(5)
    a, b = random.standard_normal((2, 40, 40), dtype=np.float32)
    read = [round_to(x, "tf32", "nearest_away", backend="reference") for x in (a, b)]
    short = reading_of(product).short
    assert short is not None and short.kind == ("aligned" if "aligned" in order else "sequential")
    found = load(backend).matmul(a, b, threads=1, accumulator=product)
    assert found.tobytes() == load("reference").matmul(*read, threads=1, accumulator=short).tobytes()


@pytest.mark.parametrize(
    "message,make",
    [
        ("an aligned order adds products", lambda: Groups(Blocks(4), Rising(), Aligned())),
        ("an aligned order adds exact products", lambda: Product(products=Sums(), order=Aligned())),
        ("an unspecified order cannot be part", lambda: Product(order=Groups(Blocks(4), Unspecified(), Rising()))),
        ("a tree has each of its terms", lambda: Tree(((0, 1), 1))),
        ("a tree has each of its terms", lambda: Tree(((0, 1), 3))),
        ("a tree is a term's index or a tuple", lambda: Tree(((0, "1"), 2))),
        ("a tree has each of its terms", lambda: Tree(((), 1))),
        ("a node of a tree adds trees", lambda: Tree((("float32",), 0))),
        ("unknown format 'single'", lambda: Tree(("single", 0, 1))),
        ("one tree for each number of terms", lambda: Trees((Tree(0), Tree(0)))),
        ("trees are a tuple of trees", lambda: Trees((0, 1))),
        ("a tree is at most 90 deep; write a chain", lambda: Tree(nested(2000))),
        ("at most 64 orders inside each other", lambda: Product(order=wrapped(100))),
        ("the trees add 1, 2 terms, and", lambda: dot([1] * 3, [1] * 3, Product(order=Trees((Tree(0), Tree((0, 1))))))),
        ("most must be", lambda: Halving(2, 8, Rising())),
        ("the order of carried runs adds the total", lambda: Carried(2, Aligned(), Sums())),
        ("lanes must be", lambda: Folding(lanes=0)),
        ("padded terms are folded by their number", lambda: Folding(lanes=8, padded=True)),
        ("the rest of a tail adds the result", lambda: Tail(2, Rising(), Aligned())),
        ("sums format 'float8_e8m0fnu' has no sign", lambda: Sums("float8_e8m0fnu")),
        ("operand format 'float64' has values", lambda: Operand("float64")),
        ("operand format 'float8_e8m0fnu' has no sign", lambda: Operand("float8_e8m0fnu", "nearest_even")),
        ("an operand in parts is converted", lambda: Operand("bfloat16", parts=2)),
        ("leave out above", lambda: Operand("bfloat16", "truncate", parts=2, above=1)),
        ("operands have parts; say which", lambda: Product(left=Operand("bfloat16", "nearest_even", parts=2))),
        (r"pairs name \(2, 1\) parts of the operands, which have \(1, 1\)", lambda: Product(parts=Parts(((1, 0),)))),
        ("each pair of parts is multiplied once", lambda: Parts(((0, 0), (0, 0)))),
        ("parts have a tuple of pairs", lambda: Parts(())),
        ("a pair is one part of the left", lambda: Parts(((0, 0, 0),))),
        ("unknown rounding of sums 'up'", lambda: Sums("float32", "up")),
        ("float64 sums are rounded to nearest even or toward zero", lambda: Sums("float64", "nearest_away")),
        (
            "aligned sums are rounded to nearest even or toward zero",
            lambda: Aligned(sums=Sums(rounding="nearest_away")),
        ),
        ("unknown start 'one'", lambda: Rising(start="one")),
        ("unknown conversion 'round'", lambda: Operand(conversion="round")),
        ("size of blocks must be", lambda: Blocks(0)),
        ("number of splits must be", lambda: Splits(0)),
        ("take must be", lambda: Lanes(2, 0)),
        ("the tree adds 2 terms, and the dot product has 3", lambda: dot([1, 2, 3], [1, 1, 1], PAIR)),
        ("the tree adds 2 terms, and the dot product has 3", lambda: matmul(np.ones((1, 3)), np.ones((3, 1)))),
    ],
)
def test_what_cannot_be_is_refused(message: str, make: Callable[[], object]) -> None:
    with pytest.raises(UsageError, match=message):
        make()


def nested(depth: int) -> object:
    tree: object = 0
    for k in range(1, depth):
        tree = (tree, k)
    return tree


def wrapped(count: int) -> Order:
    order: Order = Rising()
    for _ in range(count):
        order = Groups(Blocks(8), order, Rising())
    return order


PAIR = Product(order=Tree((0, 1)))


def matmul(a: np.ndarray, b: np.ndarray) -> object:
    return load("reference").matmul(a.astype(np.float32), b.astype(np.float32), threads=1, accumulator=PAIR)


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_aligned_product_of_few_terms_reads_numbers_as_they_are(backend: str) -> None:
    """Found by the fuzz session: their kernel truncated 1 + 2**-4 to the mantissa bits of float8_e4m3fn."""
    text = "product(operand(), operand(float8_e4m3fn, nearest_even, above=2), order=aligned(4, 23, float32, none))"
    product = product_of(text)
    for length, expected in ((2, 1 + 2.0**-4), (3, 1.0)):
        b = np.zeros((length, 1), np.float32)
        b[0] = 1 + 2.0**-4  # a tie, which goes to 1
        found = load(backend).matmul(np.ones((1, length), np.float32), b, threads=1, accumulator=product)
        assert found.item() == dot([1.0] * length, b[:, 0].tolist(), product) == expected
