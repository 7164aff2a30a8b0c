"""Products as text, JSON and sentences."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from products import products

from mpsim.errors import UsageError
from mpsim.products.stages import (
    Aligned,
    Exact,
    Folding,
    Groups,
    Lanes,
    Node,
    Operand,
    Pairwise,
    Product,
    Reordered,
    Rising,
    Splits,
    Sums,
    Tree,
)
from mpsim.products.text import of_json, product_of, text_of, to_json
from mpsim.products.words import sentence_of


@settings(deadline=None)
@given(product=products(7))
def test_text_and_json_give_the_product_back(product: Product) -> None:
    assert product_of(text_of(product)) == product
    assert of_json(json.loads(json.dumps(to_json(product)))) == product
    assert sentence_of(product).endswith(".")


@pytest.mark.parametrize(
    "text,product",
    [
        ("exact()", Product(order=Exact())),
        ("product(operand(float16, none))", Product(Operand("float16", "none"))),
        ("rising(sums(float16, toward_zero))", Product(order=Rising(Sums("float16", "toward_zero")))),
        ("rising(sums(float16, via=float32))", Product(order=Rising(Sums("float16", via="float32")))),
        ("rising('float16', 'first')", Product(order=Rising(Sums("float16"), "first"))),
        (
            "product(operand(tf32, truncate), products=float32, "
            "order=groups(splits(4, multiple=8), rising(), pairwise()))",
            Product(Operand("tf32", "truncate"), products=Sums(), order=Groups(Splits(4, 8), Rising(), Pairwise())),
        ),
        ("aligned(8, 24, float16, none)", Product(order=Aligned(8, 24, Sums("float16"), None))),
        ("aligned(least_exponent=-21)", Product(order=Aligned(least_exponent=-21))),
        ("reordered(lanes(2, 2), folding())", Product(order=Reordered(Lanes(2, 2), Folding()))),
        ("tree(((0, 1), 2, 3))", Product(order=Tree(((0, 1), 2, 3)))),
        ("product(operand(tf32, nearest_away, flush=true))", Product(Operand("tf32", "nearest_away", True))),
        (" product() ", Product()),
    ],
)
def test_what_a_text_means(text: str, product: Product) -> None:
    assert product_of(text) == product


@pytest.mark.parametrize(
    "text,message",
    [
        ("rising(", "not written as calls"),
        ("rising() + exact()", "is not a stage, a number or a name"),
        ("lanes(8)", "is neither a product nor an order"),
        ("up()", "unknown stage 'up'; expected one of sums, operand"),
        ("rising(float32, zero, 1, 3)", "rising takes sums, start, together, not 4 values"),
        ("rising(begin=zero)", "rising takes sums, start, together, not 'begin'"),
        ("exact(1)", "exact takes nothing, not 1 values"),
        ("rising(float32, sums=float16)", "rising is given 'sums' twice"),
        ("rising(**{})", "rising is given None twice"),
        ("groups(lanes(8), rising())", "groups needs outer"),
        ("groups(8, rising(), rising())", "partition of groups cannot be 8"),
        ("groups(lanes(8), lanes(8), rising())", r"inner of groups cannot be lanes\(8\); expected one of rising, "),
        ("rising(3)", "sums of rising cannot be 3"),
        ("rising(float99)", "float99"),
        ("blocks(0)", "size of blocks"),
        ("product(rising())", r"left of product cannot be rising\(\); expected one of operand"),
        ("product(epilogue=(bias()))", r"cannot be bias\(\); a tuple of one has a comma: \(bias\(\),\)"),
        ("groups(whole()," * 300, r"\.\.\..{119}' is not written as calls"),
        ("rising(1.5)", "1.5"),
        ("rising(start=(1, 2))", r"start of rising cannot be \(1, 2\)"),
        ("tree((0, -1))", "a tree is a term's index or a tuple"),
        ("product(operand(flush=1))", "flush of operand cannot be 1"),
        ("blocks(true)", "size of blocks cannot be True"),
        ("lanes(-'a')", "is not a stage"),
        ("groups(blocks(size=-4), rising(), rising())", "size of blocks must be"),
        ("(" * 400 + ")" * 400, "not written as calls"),
    ],
)
def test_a_wrong_text_is_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        product_of(text)


def test_json_with_too_many_stages_is_refused() -> None:
    value: object = {"stage": "rising"}
    for _ in range(5000):
        value = {"stage": "reordered", "partition": {"stage": "whole"}, "order": value}
    with pytest.raises(UsageError, match="too many stages inside each other"):
        of_json(value)


def test_a_tree_as_deep_as_may_be_is_read_back() -> None:
    tree: Node = 0
    for k in range(1, 91):
        tree = (k, tree)
    product = Product(order=Tree(tree))
    assert product_of(text_of(product)) == product


@pytest.mark.parametrize(
    "value", [{"stage": "up"}, {}, {"stage": "sums", "bits": 3}, {"stage": ["sums"]}, {"stage": "blocks", "size": "8"}]
)
def test_wrong_json_is_refused(value: object) -> None:
    with pytest.raises(UsageError):
        of_json(value)


def test_a_sentence_says_every_stage() -> None:
    text = (
        "product(operand(tf32, truncate), products=sums(float16, toward_zero), order=groups(splits(4, 8), "
        "reordered(lanes(2, 2), rising(start=first)), pairwise(bfloat16)), output=float16)"
    )
    assert sentence_of(product_of(text)) == (
        "Products rounded to float16, toward zero are added in 4 splits of consecutive terms (multiples of 8), each "
        "in the order of 2 lanes that take 2 terms in turn, one after the other, in rising order from the first "
        "(float32), and the results in pairs of neighbours (bfloat16); the significand of the left operand is "
        "truncated to that of tf32; the result is rounded to float16."
    )


def test_a_sentence_says_how_operands_are_read() -> None:
    text = "product(operand(tf32, nearest_away, flush=true), operand(float16, nearest_even), order=exact())"
    assert sentence_of(product_of(text)) == (
        "Exact products are added exactly and rounded once to float32; the left operand is rounded to tf32, ties away "
        "from zero; subnormal tf32 numbers of the left operand are read as zeros; the right operand is rounded to "
        "float16, ties to even."
    )


def test_a_sentence_says_the_epilogue_and_how_blocks_are_scaled() -> None:
    text = (
        "product(order=groups(blocks(128), scaled(kahan(sums(float16, stochastic, true, 8)), scale(both, none), 128), "
        "rising()), epilogue=(scale(alpha), bias(bfloat16), addc(float32, float32, float16)), output=float16)"
    )
    assert sentence_of(product_of(text)) == (
        "Exact products are added in blocks of 128 consecutive terms, each in rising order from +0 by compensated "
        "(Kahan) summation (float16, stochastic with 8 bits, subnormal results become zeros), the sum multiplied by "
        "the product of both scales, rounded to float32, exactly of its block of 128 k, and the results in rising "
        "order from +0 (float32); the total is multiplied by alpha (float32); the bias is added (bfloat16); beta "
        "times C, rounded to float16, is multiplied rounded to float32 and added (float32); the result is rounded "
        "to float16."
    )
