"""Quantised arrays: codes, scales, and what they stand for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mpsim.blocks import fast
from mpsim.blocks.grids import Grid
from mpsim.blocks.layout import packed_codes, swizzled
from mpsim.blocks.quantizers.elements import Element, Integer
from mpsim.blocks.quantizers.stages import Quantizer
from mpsim.blocks.quotients import exact_product
from mpsim.errors import UsageError
from mpsim.formats import as_format
from mpsim.kernels import DEFAULT_BACKEND
from mpsim.kernels.contract import Array
from mpsim.kernels.spec_blocks import BlockFormat
from mpsim.process import in_default_environment
from mpsim.rounding import decode, round_to

F = np.float32


@dataclass(frozen=True, eq=False)
class Blocks:
    """A quantised array.

    Args:
        format: The block format.
        codes: The elements' codes, uint8 of the array's shape.
        scales: The scales' codes, uint8, with one entry for each block along the block axis. The last block may be
            shorter.
        tensor_scale: The scale of the whole tensor. It is 1 except for NVFP4.
        axis: The block axis, not negative.

    >>> from mpsim.blocks import quantize
    >>> found = quantize(np.ones(64, np.float32), "mxfp4")
    >>> found.codes.shape, found.scales.shape, found.bytes
    ((64,), (2,), 34)
    """

    format: BlockFormat
    codes: Array
    scales: Array
    tensor_scale: np.float32
    axis: int

    @property
    def bytes(self) -> int:
        """The size in bytes of codes packed without gaps, scales, and the tensor scale if there is one."""
        bits = self.codes.size * self.format.element.bits + self.scales.size * self.format.scale.bits
        return -(-bits // 8) + 4 * self.format.tensor_scale


@dataclass(frozen=True, eq=False)
class Quantized:
    """An array quantised as a description says.

    Args:
        quantizer: The description.
        codes: The elements' codes, of the array's shape; of integers, the integers (int8 or uint8).
        scales: The codes of the scales, one a group: the array's shape with fewer rows and columns.
        zero_points: The integers that stand for 0, one a group, or None.
        second: The second scale t in float32, one for the tensor or one a row, or None.
        amax: The largest magnitude that a multiplier follows from, as ``second``, or None.
        axis: The quantised axis, not negative.

    >>> from mpsim.blocks import quantize, quantizer_of
    >>> found = quantize(np.float32([[448, 1, 0.3]]), quantizer_of("fp8_row"))
    >>> print(found.codes, found.scale_numbers)
    [[126  56  42]] [[1.]]
    """

    quantizer: Quantizer
    codes: Array
    scales: Array
    zero_points: Array | None
    second: Array | None
    amax: Array | None
    axis: int

    @property
    @in_default_environment
    def scale_numbers(self) -> Array:
        """The scales as float64 numbers."""
        return np.asarray(decode(self.scales, self.quantizer.scale.format, np.float64, backend="reference"))

    @property
    def packed(self) -> tuple[Array, Array]:
        """The codes and the scales as bytes, as the description's layout has them."""
        layout, scale = self.quantizer.layout, as_format(self.quantizer.scale.format)
        codes = packed_codes(self.codes, layout.packing)
        if layout.scales == "plain":
            return codes, self.scales
        if self.scales.ndim != 2:
            raise UsageError(f"scales of a matrix are swizzled, not of shape {self.scales.shape}", "layout")
        assert scale.bits == 8
        return codes, swizzled(self.scales)

    @in_default_environment
    def values(self, dtype: Any, backend: str = DEFAULT_BACKEND, threads: int | None = None) -> Array:
        """Returns the numbers that the codes stand for, in the array's shape (definition: ``group_values``)."""
        grid = Grid(self.codes.shape, self.axis, self.quantizer.group)
        if dtype == np.float32 and (found := self._fast(grid, backend, threads)) is not None:
            return found
        numbers, scales = grid.split(self._numbers(backend, threads)), grid.split_scales(self.scale_numbers)[..., None]
        ones = np.ones((1, 1, 1, 1), F)
        second = ones if self.second is None else self._rows(self.second, grid)
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            found = self._values(numbers, scales, second, grid, dtype == np.float32)
        if self.quantizer.values != "exact" or dtype != np.float32:
            found = found.astype(dtype)
        else:
            found = np.asarray(round_to(found, "float32", backend="reference")).astype(dtype)
        found[np.isnan(found)] = np.nan
        return grid.join(found)

    def _fast(self, grid: Grid, backend: str, threads: int | None) -> Array | None:
        """The float32 numbers by the compiled kernels, or None where these do not give them."""
        element, second = self.quantizer.element, self.second
        one = second is None or second.ndim == 0
        if self.quantizer.values != "exact" or not isinstance(element, Element) or not one:
            return None
        scale = as_format(self.quantizer.scale.format)
        return fast.values(self.codes, element.row, self.scales, scale, second, grid, backend, threads)

    def _values(self, numbers: Array, scales: Array, second: Array, grid: Grid, odd: bool) -> Array:
        if self.quantizer.values == "exact":
            exact = np.broadcast_to(scales * second.astype(np.float64), numbers.shape)
            return exact_product(numbers, exact) if odd else np.asarray(numbers * exact)
        if self.quantizer.values == "float32":
            return np.asarray(numbers.astype(F) * (scales.astype(F) * second))
        stage = self.quantizer.second
        assert stage is not None and self.amax is not None
        factor = F(1) / F(self.quantizer.target * stage.most)
        return np.asarray(numbers.astype(F) * (scales.astype(F) * self._rows(self.amax, grid) * factor))

    def _rows(self, second: Array, grid: Grid) -> Array:
        """Returns the second scale so that it broadcasts against groups."""
        return (
            second.reshape(1, 1, 1, 1)
            if second.ndim == 0
            else np.moveaxis(second, self.axis, -1).reshape(grid.matrices, grid.matrix[0], 1, 1)
        )

    def _numbers(self, backend: str, threads: int | None) -> Array:
        element = self.quantizer.element
        if not isinstance(element, Integer):
            return np.asarray(decode(self.codes, element.row, np.float64, backend=backend, threads=threads))
        whole = self.codes.astype(np.float64)
        if self.zero_points is not None:
            grid = Grid(self.codes.shape, self.axis, self.quantizer.group)
            points = grid.split_scales(self.zero_points.astype(np.float64))[..., None]
            whole = grid.join(grid.split(whole) - points)
        return np.ldexp(whole, -element.fraction_bits)
