"""Strategies for products in stages; those without a draw are built once, which takes longer than to draw from them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from mpsim.errors import UsageError
from mpsim.kernels import load
from mpsim.kernels.contractions.beside import Beside
from mpsim.kernels.philox import Stream
from mpsim.kernels.spec_dot import dot
from mpsim.products.stages import (
    CONVERSIONS,
    AddC,
    Aligned,
    AlignedLate,
    Bias,
    Blocks,
    ByColumn,
    Carried,
    Descending,
    Exact,
    Folding,
    Groups,
    Halving,
    Kahan,
    Lanes,
    Node,
    Operand,
    Order,
    Pairwise,
    Partition,
    Parts,
    Product,
    Reordered,
    Rising,
    Scale,
    Scaled,
    Splits,
    Stage,
    Sums,
    Tail,
    Tree,
    Trees,
    UpTo,
    Whole,
    within,
)
from mpsim.products.sums import FACTORS

FORMATS = (
    "float32", "bfloat16", "float16", "tf32", "fp_6_9_0", "float8_e5m2", "float8_e4m3fn", "float8_e4m3fnuz",
    "float4_e2m1fn", "fp_4_0_0",
)  # fmt: skip


#: Wider formats that sums of fewer than 11 significant bits are first rounded to.
VIA = ("float32", "float64", "fp_8_12_0")
DIRECTIONS = st.sampled_from(["nearest_even", "nearest_even", "toward_zero"])
#: Of sums that are neither aligned nor float64.
ANY_DIRECTION = st.sampled_from(["nearest_even", "toward_zero", "nearest_away"])


@cache
def plain_sums() -> st.SearchStrategy[Sums]:
    """Formats that have infinities, NaN, or neither, both directions; float32 more often."""
    names = st.one_of(st.just("float32"), st.sampled_from(FORMATS))
    saturated = st.builds(lambda name, way: Sums(name, way, saturate=True), names, DIRECTIONS)
    return st.one_of(st.builds(Sums, names, DIRECTIONS), st.builds(Sums, names, DIRECTIONS), saturated)


@cache
def single_sums() -> st.SearchStrategy[Sums]:
    """Sums of 24 bits at most, flushed and stochastic ones among them."""
    names = st.sampled_from(FORMATS)
    bits = st.integers(1, 24)
    both = st.booleans()
    by_bits = st.builds(
        lambda name, flush, bits, at: Sums(name, "stochastic", flush, bits, at), names, both, bits, both
    )
    flushed = st.builds(Sums, names, ANY_DIRECTION, both, saturate=both)
    twice = st.builds(
        lambda name, way, via: Sums(name, way, via=via),
        st.sampled_from(FORMATS[1:]),
        ANY_DIRECTION,
        st.sampled_from(VIA),
    )
    return st.one_of(plain_sums(), plain_sums(), flushed, by_bits, twice)


@cache
def sums() -> st.SearchStrategy[Sums]:
    """The same and float64."""
    return st.one_of(single_sums(), single_sums(), st.builds(Sums, st.just("float64"), DIRECTIONS))


@cache
def partitions() -> st.SearchStrategy[Partition]:
    few = st.integers(1, 9)
    return st.one_of(
        st.builds(Blocks, few),
        st.just(Whole()),
        st.builds(Splits, few, st.integers(1, 4)),
        st.builds(Lanes, few, few, st.sampled_from(["turn", "first"])),
        st.builds(Descending, few),
    )


@st.composite
def trees(draw: st.DrawFn, length: int) -> Node:
    """Any tree over ``length`` terms."""
    nodes: list[Node] = list(draw(st.permutations(range(length))))
    while len(nodes) > 1:
        arity = draw(st.integers(2, min(4, len(nodes))))
        start = draw(st.integers(0, len(nodes) - arity))
        zero = draw(st.sampled_from([(), ((),)]))
        format = draw(st.sampled_from([(), (), ("bfloat16",), ("float32",)]))
        nodes[start : start + arity] = [(*format, *zero, *nodes[start : start + arity])]
        if draw(st.booleans()):
            nodes[start] = (nodes[start],)
    return nodes[0]


@cache
def orders(length: int, results: bool = False, depth: int = 2) -> st.SearchStrategy[Order]:
    """Orders of ``length`` terms, nested; of results where no product can be added."""
    leaves: list[st.SearchStrategy[Order]] = [
        st.builds(Rising, sums(), st.sampled_from(["zero", "first"])),
        st.builds(Rising, single_sums(), st.sampled_from(["zero", "first"]), st.integers(1, 5)),
        st.builds(Kahan, sums().map(lambda each: replace(each, via=None))),
        st.builds(Pairwise, sums()),
        st.builds(Folding, sums(), st.integers(1, 20)),
        st.builds(Folding, sums(), padded=st.just(True)),
        st.just(Exact()),
    ]
    starts = st.sampled_from(["zero", "first"])
    if not results:
        leaves.append(
            st.builds(
                Aligned,
                st.integers(1, 9),
                st.integers(1, 30),
                plain_sums(),
                st.sampled_from([None, -133, -21, 0]),
                starts,
            )
        )
        bits, reach = st.integers(1, 34), st.one_of(st.none(), st.integers(1, 40))
        leaves.append(st.builds(AlignedLate, st.integers(1, 9), bits, bits, partitions(), reach, plain_sums(), starts))
    found = st.one_of(*leaves)
    if depth and length:
        inner, outer = orders(length, results, depth - 1), orders(length, True, depth - 1)
        nested = [
            where_allowed(inner, Groups, partitions(), inner, outer),
            st.builds(Reordered, partitions(), inner),
            where_allowed(inner, Tail, st.integers(1, 9), inner, outer),
            where_allowed(inner, Carried, st.integers(1, 9), outer, sums(), starts),
            st.builds(Halving, st.integers(9, 20), st.integers(1, 5), inner, sums()),
            st.builds(UpTo, st.integers(1, 20), inner, inner),
        ]
        found = st.one_of(found, *nested)
    if depth == 2 and length > 1:
        tree = st.builds(Tree, trees(length), sums())
        found = st.one_of(found, tree, st.builds(lambda tree: Trees((Tree(0), tree)), tree))
        found = st.one_of(found, found, scaled(length)) if not results else found
    return found


@st.composite
def where_allowed(draw: st.DrawFn, instead: st.SearchStrategy[Any], make: Callable[..., Any], *parts: Any) -> Any:
    """What is made of the parts; something else where that is refused."""
    try:
        return make(*map(draw, parts))
    except UsageError:
        return draw(instead)


@cache
def scales() -> st.SearchStrategy[Scale]:
    """Every factor; rounded and exact products."""
    return st.builds(Scale, st.sampled_from(FACTORS), st.one_of(st.none(), single_sums()))


@st.composite
def scaled(draw: st.DrawFn, length: int) -> Order:
    """Blocks of k, each times its scales."""
    size, inner, outer = draw(st.integers(1, 9)), draw(orders(length, depth=0)), draw(orders(length, True, 1))
    try:
        return Groups(Blocks(size), Scaled(inner, draw(scales()), size), outer)
    except UsageError:
        return Groups(Blocks(size), Scaled(Rising(), Scale(), size), Pairwise())


@cache
def epilogues() -> st.SearchStrategy[tuple[Stage, ...]]:
    """Up to four stages in any order; no addition twice."""
    products = st.one_of(st.none(), single_sums())
    stages = st.one_of(
        st.builds(Bias, sums()), st.builds(AddC, sums(), products, st.sampled_from(FORMATS[:8])), scales()
    )
    return st.lists(stages, max_size=4).map(tuple)


@cache
def parts() -> st.SearchStrategy[Parts]:
    """Some pairs of three parts, in any order."""
    pair = st.tuples(st.integers(0, 2), st.integers(0, 2))
    return st.builds(Parts, st.lists(pair, min_size=1, max_size=6, unique=True).map(tuple), partitions())


@cache
def roundings() -> st.SearchStrategy[Sums | None]:
    """How products are rounded, if they are."""
    return st.one_of(st.none(), sums())


@cache
def operands() -> st.SearchStrategy[Operand]:
    """Every conversion to most formats."""
    above = st.sampled_from([0, 0, 3, 8])
    return st.builds(
        Operand, st.sampled_from(FORMATS[:8]), st.sampled_from(CONVERSIONS), st.booleans(), st.just(1), above
    )


@st.composite
def products(draw: st.DrawFn, length: int) -> Product:
    """A product of dot products of ``length`` terms."""
    operand = operands()
    order = draw(orders(length))
    rounded = draw(roundings())
    found = Product(draw(operand), draw(operand), order=order, output=draw(single_sums()))
    for field, value in (
        ("products", rounded),  # which an aligned order refuses
        ("order", ByColumn(1, order, draw(orders(length))) if draw(st.sampled_from([0, 0, 0, 1])) else order),
        ("epilogue", draw(epilogues())),  # of which many are refused
        ("start", draw(st.sampled_from(["zero", "c"]))),
        ("parts", draw(st.one_of(st.none(), st.none(), parts()))),
    ):
        with suppress(UsageError):
            if isinstance(value, Parts):
                if any(isinstance(each, Tree | Trees) for each in within(found.order)):
                    continue  # a tree has one number of terms
                left, right = (replace(each, parts=3, above=0) for each in (found.left, found.right))
                found = replace(found, left=left, right=right, parts=value)
            else:
                found = replace(found, **{field: value})
    return found


@st.composite
def besides(draw: st.DrawFn, product: Product, shape: tuple[int, int], length: int, numbers: Any) -> Beside:
    """What the product takes beside its operands; C or not; scales of all shapes."""

    def array(rows: int, columns: int) -> np.ndarray:
        values = draw(st.lists(numbers, min_size=rows * columns, max_size=rows * columns))
        return np.array(values, np.float64).astype(np.float32).reshape(rows, columns)

    found: dict[str, Any] = {"stream": Stream(draw(st.integers(0, 1 << 64 - 1)), "sums", step=draw(st.integers(0, 9)))}
    if product.takes_c and draw(st.booleans()):
        found["c"] = array(*shape)
        if product.start == "zero":
            found["beta"] = draw(st.sampled_from([1.0, 0.0, -1.5, float(np.float32(0.1))]))
    if any(isinstance(stage, Scale) and stage.of == "alpha" for stage in product.epilogue):
        found["alpha"] = draw(st.sampled_from([1.0, -0.75, float(np.float32(1e-20)), float(np.float32(0.1))]))
    blocks = product.scales_of_blocks
    for side in {*blocks, *product.scales_of_totals}:
        count = -(-length // blocks[side]) if side in blocks and length and draw(st.booleans()) else 1
        outer = draw(st.sampled_from([1, shape[side == "right"]]))
        found[f"{side}_scale"] = array(outer, count) if side == "left" else array(count, outer)
    return Beside(**found)


def of_element(beside: Beside, i: int, j: int) -> Beside:
    """What one element of the product reads."""
    left, right, c = beside.left_scale, beside.right_scale, beside.c
    return beside._replace(
        c=None if c is None else float(c[i, j]),
        left_scale=None if left is None else left[min(i, len(left) - 1)].tolist(),
        right_scale=None if right is None else right[:, min(j, right.shape[1] - 1)].tolist(),
    )


#: Ends of ranges, ties of several formats, subnormal numbers, zeros of both signs, infinities and NaN.
NUMBERS = st.one_of(
    st.floats(-4, 4, width=32),
    st.sampled_from([0.0, -0.0, 1.0, -1.0, 1.5, 2.0**-126, 2.0**-149, -(2.0**-140), 2.0**127, -(2.0**127), 3.0e38]),
    st.sampled_from([math.inf, -math.inf, math.nan]),
    st.floats(width=32, allow_nan=False, allow_infinity=False),
)
LENGTHS = st.one_of(st.integers(0, 6), st.integers(7, 40))


class Case(NamedTuple):
    """A product, matrices (3, K) and (K, 2) for it, and what it reads beside them."""

    product: Product
    a: np.ndarray
    b: np.ndarray
    bias: np.ndarray | None
    beside: Beside


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Every stage, on every kind of numbers."""
    length = draw(LENGTHS)
    numbers = draw(st.sampled_from([NUMBERS, st.floats(-2, 2, width=16), st.floats(width=32, allow_nan=False)]))
    values = draw(st.lists(numbers, min_size=5 * length, max_size=5 * length))
    array = np.array(values, np.float64).astype(np.float32).reshape(5, length)
    product = draw(products(length))
    bias = draw(st.one_of(st.none(), st.lists(numbers, min_size=2, max_size=2)))
    beside = draw(besides(product, (3, 2), length, numbers))
    bias = None if bias is None else np.array(bias, np.float64).astype(np.float32)
    return Case(product, array[:3].copy(), np.ascontiguousarray(array[3:].T), bias, beside)


def same(found: float, expected: float) -> bool:
    if math.isnan(expected):
        return math.isnan(found)
    return found == expected and math.copysign(1, found) == math.copysign(1, expected)


def compare(
    case: Case,
    backends: Sequence[str],
    threads: int = 1,
    around: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> None:
    """Every backend, called inside ``around``, gives the definition's bits of a case, or refuses it as that does."""
    product, a, b, bias, beside = case
    added = bias if any(isinstance(stage, Bias) for stage in product.epilogue) else None
    found = {}
    for backend in backends:
        try:
            with around():
                result = load(backend).matmul(a, b, bias=added, beside=beside, threads=threads, accumulator=product)
            found[backend] = result
        except UsageError as error:  # a tail without its main part may have no sum that begins with +0
            assert beside.c is not None and "begins with +0" in str(error)
    if not found:
        assert any(_refused(case, j) for j in range(b.shape[1])), f"every backend refuses {product}"
        return
    for i, j in np.ndindex(len(a), b.shape[1]):
        one = None if added is None else float(added[j])
        element = of_element(beside, i, j)
        expected = dot(a[i].tolist(), b[:, j].tolist(), product, element, one, b.shape[1] * i + j, j)
        for backend in backends:
            got = found[backend][i, j]
            assert same(float(got), expected), (backend, product, a[i], b[:, j], element, one, got, expected)


def _refused(case: Case, column: int) -> bool:
    """Whether the definition refuses a column because no sum begins with +0."""
    try:
        element = of_element(case.beside, 0, column)
        dot(case.a[0].tolist(), case.b[:, column].tolist(), case.product, element, column=column)
    except UsageError as error:
        return "begins with" in str(error)
    return False
