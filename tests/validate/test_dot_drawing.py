"""Trees of additions as text and as pictures, and descriptions as the trainer accepts them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from matplotlib.figure import Figure

from mpsim import matmul
from mpsim.products.accumulators import from_dict, in_stages
from mpsim.products.presets import PRESETS
from mpsim.products.tensor_cores import accumulator_of
from mpsim.products.text import product_of
from mpsim.validate.dot import report as presentation
from mpsim.validate.dot.orders.drawing import draw_tree, outline
from mpsim.validate.dot.orders.trees import nodes_of, nodes_of_product, tree_of_product
from mpsim.validate.dot.validation import validate_dot
from tests.validate.stand_ins import eight_lanes

ORDERS = ["rising()", "groups(lanes(8), rising(), folding())", "aligned(8)", "reordered(descending(), rising())"]


@pytest.mark.parametrize("length", [1, 2, 33])
@pytest.mark.parametrize("text", ORDERS)
def test_the_tree_of_a_product_has_its_nodes(text: str, length: int) -> None:
    product = product_of(text)
    assert nodes_of(tree_of_product(product, length)) - {1} == nodes_of_product(product, length) - {1}


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_has_a_tree(name: str) -> None:
    """Of all terms, instructions that add several at once included."""
    tree = tree_of_product(in_stages(PRESETS[name].summation), 40)
    assert max(nodes_of(tree)) == (1 << 40) - 1


def test_an_outline_names_every_part_once() -> None:
    lines = outline(tree_of_product(product_of("groups(lanes(4), rising(), folding())"), 12))
    assert lines == [
        "12 terms, added from the top:",
        "  0, 4, 8 one after the other",
        "  2, 6, 10 one after the other",
        "  6 terms, added from the top:",
        "    1, 5, 9 one after the other",
        "    3, 7, 11 one after the other",
    ]


@pytest.mark.parametrize("text", ["pairwise()", "rising()", "groups(lanes(32), rising(), rising(start=first))"])
def test_large_trees_are_summarised(text: str) -> None:
    tree = tree_of_product(product_of(text), 512)
    axes = Figure().subplots()
    draw_tree(tree, axes)
    assert 1 <= len(axes.get_yticklabels()) <= 64 and len(outline(tree)) <= 128


def test_what_is_found_is_drawn_and_read_again() -> None:
    report = validate_dot(eight_lanes, length=40)
    axes = Figure().subplots()
    presentation.draw(report, axes)
    assert [label.get_text() for label in axes.get_yticklabels()][:2] == ["0, 8, 16, …, 32", "4, 12, 20, …, 36"]
    assert "lanes(8)" in axes.get_title()
    row = json.loads(json.dumps(report.to_dict()))["matches"][0]
    found = accumulator_of(row["accumulator"])
    assert found == from_dict(row["stages"]) == report.matches[0].accumulator
    a, b = np.random.default_rng(1).standard_normal((2, 9, 40)).astype(np.float32)
    b = np.ascontiguousarray(b.T)
    assert np.array_equal(matmul(a, b, found), eight_lanes(a, b))
