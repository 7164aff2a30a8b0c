"""The assertion for block quantisers passes mpsim's and finds what others do wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mpsim.blocks import BLOCK_FORMATS, quantize
from mpsim.testing import assert_quantizes_like
from mpsim.testing.block_assertions import block_rows


def subject(name: str, **options: Any) -> Any:
    def run(row: Any) -> tuple[Any, Any]:
        blocks = quantize(row, name, **options)
        return blocks.codes, blocks.scales[0]

    return run


@pytest.mark.parametrize("name", ["mxfp8_e5m2", "mxfp4", "nvfp4"])
def test_mpsim_passes(name: str) -> None:
    assert_quantizes_like(subject(name, scale_rule="even"), name, scale_rule="even")


def test_a_scale_by_logarithm_is_found_just_below_a_power_of_two() -> None:
    def by_logarithm(row: Any) -> tuple[Any, Any]:
        blocks = quantize(row, "mxfp4")
        amax = np.abs(row).max()
        if amax == 0:
            return blocks.codes, blocks.scales[0]
        exponent = int(np.clip(np.floor(np.log2(amax)) - 2, -127, 127))
        return blocks.codes, exponent + 127

    with pytest.raises(AssertionError, match=r"blocks differ; the first: .*0x1.fffffe.*: scale 0x"):
        assert_quantizes_like(by_logarithm, "mxfp4")


@pytest.mark.parametrize("rule", ["ceil", "even", "nearest", "cover"])
def test_another_scale_rule_is_found(rule: str) -> None:
    with pytest.raises(AssertionError, match="scale 0x"):
        assert_quantizes_like(subject("mxfp6_e2m3", scale_rule=rule), "mxfp6_e2m3")


def test_another_mode_is_found_in_an_element() -> None:
    with pytest.raises(AssertionError, match="element .*: code 0x"):
        assert_quantizes_like(subject("mxfp8_e4m3", mode="nearest_away"), "mxfp8_e4m3")


def test_rows_of_every_format_are_finite_and_have_their_largest_magnitude() -> None:
    for name in BLOCK_FORMATS:
        rows = block_rows(name, "float64")
        assert np.isfinite(rows).all() and rows.shape[1] == BLOCK_FORMATS[name].size and len(rows) > 300
