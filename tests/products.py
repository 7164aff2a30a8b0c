"""Strategies for products in stages, and how a test names one."""

from __future__ import annotations

from hypothesis import strategies as st

from mpsim.products.stages import (
    CONVERSIONS,
    Aligned,
    Blocks,
    Exact,
    Folding,
    Groups,
    Halving,
    Lanes,
    Node,
    Operand,
    Order,
    Pairwise,
    Partition,
    Product,
    Reordered,
    Rising,
    Splits,
    Sums,
    Tail,
    Tree,
    Trees,
    Whole,
)

FORMATS = (
    "float32", "bfloat16", "float16", "tf32", "fp_6_9_0", "float8_e5m2", "float8_e4m3fn", "float8_e4m3fnuz",
    "float4_e2m1fn", "fp_4_0_0",
)  # fmt: skip


def sums() -> st.SearchStrategy[Sums]:
    """Formats that have infinities, NaN, or neither, both roundings; float32 more often."""
    names = st.one_of(st.just("float32"), st.sampled_from(FORMATS))
    return st.builds(Sums, names, st.sampled_from(["nearest_even", "nearest_even", "toward_zero"]))


def partitions() -> st.SearchStrategy[Partition]:
    few = st.integers(1, 9)
    return st.one_of(
        st.builds(Blocks, few), st.just(Whole()), st.builds(Splits, few, st.integers(1, 4)), st.builds(Lanes, few, few)
    )


@st.composite
def trees(draw: st.DrawFn, length: int) -> Node:
    """Any tree over so many terms."""
    nodes: list[Node] = list(draw(st.permutations(range(length))))
    while len(nodes) > 1:
        arity = draw(st.integers(2, min(4, len(nodes))))
        start = draw(st.integers(0, len(nodes) - arity))
        nodes[start : start + arity] = [tuple(nodes[start : start + arity])]
        if draw(st.booleans()):
            nodes[start] = (nodes[start],)
    return nodes[0]


def orders(length: int, results: bool = False, depth: int = 2) -> st.SearchStrategy[Order]:
    """Orders of so many terms, nested; of results where no product can be added."""
    leaves: list[st.SearchStrategy[Order]] = [
        st.builds(Rising, sums(), st.sampled_from(["zero", "first"])),
        st.builds(Pairwise, sums()),
        st.builds(Folding, sums()),
        st.just(Exact()),
    ]
    starts = st.sampled_from(["zero", "first"])
    if not results:
        leaves.append(
            st.builds(
                Aligned, st.integers(1, 9), st.integers(1, 30), sums(), st.sampled_from([None, -133, -21, 0]), starts
            )
        )
    found = st.one_of(*leaves)
    if depth and length:
        inner, outer = orders(length, results, depth - 1), orders(length, True, depth - 1)
        nested = [
            st.builds(Groups, partitions(), inner, outer),
            st.builds(Reordered, partitions(), inner),
            st.builds(Tail, st.integers(1, 9), inner, outer),
            st.builds(Halving, st.integers(9, 20), st.integers(1, 5), inner, sums()),
        ]
        found = st.one_of(found, *nested)
    if depth == 2 and length > 1:
        tree = st.builds(Tree, trees(length), sums())
        found = st.one_of(found, tree, st.builds(lambda tree: Trees((Tree(0), tree)), tree))
    return found


@st.composite
def products(draw: st.DrawFn, length: int) -> Product:
    """A product of dot products of so many terms."""
    operand = st.builds(Operand, st.sampled_from(FORMATS[:8]), st.sampled_from(CONVERSIONS), st.booleans())
    order = draw(orders(length))
    rounded = draw(st.one_of(st.none(), st.builds(Sums, st.sampled_from(FORMATS))))
    left, right, output = draw(operand), draw(operand), draw(st.builds(Sums, st.sampled_from(FORMATS)))
    try:
        return Product(left, right, rounded, order, output)
    except ValueError:  # an aligned order takes exact products
        return Product(left, right, None, order, output)
