"""Defines an assertion for block quantisers, on blocks at the turning points of scales and elements."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from mpsim.blocks import BlockFormat, Blocks, quantize
from mpsim.interchange import as_array
from mpsim.kernels.contract import Array
from mpsim.kernels.philox import Stream, random_bits
from mpsim.kernels.spec_blocks import as_block_format
from mpsim.process import default_float_environment
from mpsim.testing.mismatch import Mismatch
from mpsim.validate.turning_points import beside, numbers, with_midpoints


def block_rows(format: str | BlockFormat, source: str = "float32") -> Array:
    """Returns blocks of finite float32 or float64 numbers, (number of blocks, block size).

    The largest magnitude of a block is at, just below or just above a power of two, 1.5 times it, the element's largest
    number, or the point where that rounds to the next power of two. The exponents range from -130 to 120 in steps. The
    other elements are numbers and midpoints of the element's format after scaling, with random signs. The last two
    blocks consist of zeros and of the source's subnormal numbers.
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
    subject: Callable[[Array], tuple[ArrayLike, ArrayLike]],
    format: str | BlockFormat,
    x: Array | None = None,
    *,
    source: str = "float32",
    scale_rule: str = "floor",
    **policy: Any,
) -> None:
    """Asserts that a block quantiser returns mpsim's scale and elements for every block.

    Args:
        subject: The quantiser. It is called with one block (block size,) and returns (element codes, scale code) as
            unsigned integers.
        format: The block format.
        x: Blocks (n, block size). The default is ``block_rows``.
        source: The type of the default blocks.
        scale_rule: As for ``mpsim.blocks.quantize``.
        policy: Further arguments of ``mpsim.blocks.quantize``. For NVFP4, without ``tensor_scale`` each block has its
            own.

    Raises:
        AssertionError: Blocks differ. The message has the largest magnitude of the first one and whether its scale or
            an element differs.

    >>> from mpsim.blocks import quantize
    >>> def subject(row):
    ...     blocks = quantize(row, "mxfp4", backend="reference")
    ...     return blocks.codes, blocks.scales[0]
    >>> assert_quantizes_like(subject, "mxfp4")
    """
    __tracebackhide__ = True
    row = as_block_format(format)
    rows = block_rows(row, source) if x is None else np.atleast_2d(as_array(x))
    wrong, first = 0, ""
    for values in rows:
        with default_float_environment():  # the subject may have changed it
            expected = quantize(values, row, scale_rule=scale_rule, backend="reference", **policy)
        codes, scale = subject(values.copy())
        difference = _difference(values, as_array(codes).reshape(-1), int(as_array(scale).reshape(-1)[0]), expected)
        wrong += bool(difference)
        first = first or difference
    if wrong:
        raise Mismatch(f"{row.name}: {wrong} of {len(rows)} blocks differ; the first: {first}")


def _difference(values: Array, codes: Array, scale: int, expected: Blocks) -> str:
    amax = np.abs(values).max()
    head = f"largest magnitude {amax!s} ({float(amax).hex()}): "
    if scale != int(expected.scales[0]):
        return f"{head}scale {scale:#04x}, expected {int(expected.scales[0]):#04x}"
    at = np.flatnonzero(codes != expected.codes)
    if at.size == 0:
        return ""
    i = int(at[0])
    return f"{head}element {i} of {values[i]!s}: code {int(codes[i]):#04x}, expected {int(expected.codes[i]):#04x}"
