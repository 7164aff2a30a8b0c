"""An assertion for block quantisers, on rows where their scales and elements turn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from mpsim.blocks import BlockFormat, quantize
from mpsim.kernels.contract import Array
from mpsim.kernels.philox import Stream, random_bits
from mpsim.kernels.spec_blocks import as_block_format
from mpsim.validate.subjects.environment import default_float_environment
from mpsim.validate.turning_points import beside, numbers, with_midpoints


def block_rows(format: str | BlockFormat, source: str = "float32") -> Array:
    """Rows of one block each, (rows, block size), of finite float32 or float64 numbers.

    The largest magnitude of a row lies at, just below and just above powers of two, 1.5 times those, the element's
    largest number and the point where it rounds to the next power of two, times every power of two within 2**-130 to
    2**120 (by steps); the other elements are at numbers and midpoints of the element's format after scaling, of both
    signs, or drawn. Then a row of zeros and one of subnormal numbers of the source.
    """
    row = as_block_format(format)
    element = row.element
    half = 2.0 ** -(element.mantissa_bits + 1)
    tops = [1.0, 1.5, 2 - half, 2.0, element.largest / 2.0**element.max_exponent]
    grid = with_midpoints(numbers(element))
    rows: list[Array] = []
    for number, exponent in enumerate([*range(-130, 120, 10), -2, -1, 0, 1, 2]):
        for top in tops:
            for amax in beside(np.array([top * 2.0**exponent]), source):
                words = random_bits(Stream(number, "data_order", tensor=len(rows)), row.size)
                signs = np.where(words >> 31 == 1, -1.0, 1.0)
                x = signs * grid[words % grid.size] / 2.0**element.max_exponent * 2.0**exponent
                x = np.clip(x.astype(source), -amax, amax)
                x[number % row.size] = amax
                rows.append(x)
    rows.append(np.zeros(row.size, source))
    rows.append((np.arange(row.size) * np.finfo(source).smallest_subnormal).astype(source))
    return np.array(rows)


def assert_quantizes_like(
    subject: Callable[[Array], tuple[Any, Any]],
    format: str | BlockFormat,
    x: Array | None = None,
    *,
    source: str = "float32",
    scale_rule: str = "floor",
    **policy: Any,
) -> None:
    """Asserts that a block quantiser gives mpsim's scales and elements for every row.

    subject: called with one row (block size,), answers (element codes, scale code) as unsigned integers. ``x``: rows
    (n, block size); None: ``block_rows``. ``policy``: as for ``mpsim.blocks.quantize`` (NVFP4: give ``tensor_scale``,
    or each row's own is taken). Raises AssertionError with the first row that differs, its largest magnitude, and
    what differs: the scale, else the first element.

    >>> from mpsim.blocks import quantize
    >>> def subject(row):
    ...     blocks = quantize(row, "mxfp4", backend="reference")
    ...     return blocks.codes, blocks.scales[0]
    >>> assert_quantizes_like(subject, "mxfp4")
    """
    row = as_block_format(format)
    rows = block_rows(row, source) if x is None else np.atleast_2d(np.asarray(x))
    wrong, first = 0, ""
    for values in rows:
        with default_float_environment():  # whatever the subject left
            expected = quantize(values, row, scale_rule=scale_rule, backend="reference", **policy)
        codes, scale = subject(values.copy())
        told = _difference(values, np.asarray(codes).reshape(-1), int(np.asarray(scale).reshape(-1)[0]), expected)
        wrong += bool(told)
        first = first or told
    if wrong:
        raise AssertionError(f"{row.name}: {wrong} of {len(rows)} blocks differ; the first: {first}")


def _difference(values: Array, codes: Array, scale: int, expected: Any) -> str:
    amax = np.abs(values).max()
    head = f"largest magnitude {amax!s} ({float(amax).hex()}): "
    if scale != int(expected.scales[0]):
        return f"{head}scale {scale:#04x}, expected {int(expected.scales[0]):#04x}"
    at = np.flatnonzero(codes != expected.codes)
    if at.size == 0:
        return ""
    i = int(at[0])
    return f"{head}element {i} of {values[i]!s}: code {int(codes[i]):#04x}, expected {int(expected.codes[i]):#04x}"
