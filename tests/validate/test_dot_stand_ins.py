"""Products as people run them are found as described: the descriptions were written before the search ran."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from mpsim.products.accumulators import Summation
from mpsim.products.stages import Product, Sums
from mpsim.products.text import product_of
from mpsim.validate.dot.report import text
from mpsim.validate.dot.results import DotReport
from mpsim.validate.dot.validation import validate_dot
from tests.validate import stand_ins
from tests.validate.stand_ins import STAND_INS

pytest.importorskip("mpsim._kernels", reason="mpsim._kernels is not built: run 'pip install -e .'")


def is_found(report: DotReport, product: Product) -> bool:
    """Whether the product is among the matches, in stages or in short with the result rounded once."""
    return any(in_stages(each.accumulator, each.output) == product for each in report.matches)


def in_stages(summation: Summation, output: str) -> Product:
    if isinstance(summation, Product):
        return summation
    return replace(summation.product, output=Sums(output))


@pytest.mark.parametrize("function", STAND_INS, ids=lambda each: each.__name__)
def test_a_stand_in_is_found_as_described(function: Callable[..., Any]) -> None:
    inputs, described = STAND_INS[function]
    report = validate_dot(function, inputs=inputs, length=72)
    assert report.equal and is_found(report, product_of(described)), text(report)


def test_another_order_for_few_rows() -> None:
    report = validate_dot(stand_ins.another_order_for_few_rows, length=72)
    assert not report.equal and report.matches[0].text == "sequential,format=float32,chunk=none,fma=false"
    expected = "product(products=float32, order=groups(splits(4), rising(), rising(start=first)))"
    assert f"another order for fewer than 8 rows (not batch-invariant): {expected}" in text(report)
