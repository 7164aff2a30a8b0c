"""Inputs for quantisers in stages, and their comparison with the definition in every bit."""

from __future__ import annotations

from typing import Any

import numpy as np

from mpsim.blocks import PRESETS, Quantizer, dequantize, quantize, quantizer_of
from mpsim.blocks.definition import groups as definition
from mpsim.blocks.definition.values import SecondScale, group_values, rotate
from mpsim.blocks.grids import Grid
from mpsim.blocks.quantizers.elements import Integer
from mpsim.blocks.quantizers.text import text_of
from mpsim.kernels import spec_blocks, spec_codes


def matrix(shape: tuple[int, int], seed: int, spread: int = 12) -> np.ndarray:
    """Normal numbers of many magnitudes, with zeros, a row of zeros, subnormal numbers and numbers on ties."""
    random = np.random.default_rng(seed)
    x = random.standard_normal(shape) * np.exp2(random.integers(-spread, spread, (shape[0], 1)))
    x[random.random(shape) < 0.05] = 0
    x[1], x[2] = 0, x[2] * 2.0**-140
    x[3] = np.resize([6, -0.25, 0.75, 1.25, -2.5, 3.5, 5, -0.0, 448, 1.0625], shape[1])
    return x.astype(np.float32)


def second_of(found: Any, row: int, quantizer: Quantizer) -> SecondScale:
    """The second scale of a row, which the definition computes from the stored largest magnitude."""
    if quantizer.second is None:
        return SecondScale()
    divisor = float(np.ravel(found.second)[row if found.second.ndim else 0])
    if found.amax is None:
        return SecondScale(divisor)
    amax = float(np.ravel(found.amax)[row if found.amax.ndim else 0])
    whole = definition.second_scale([amax], quantizer)
    assert whole.divisor == divisor
    return whole


def compare(x: np.ndarray, quantizer: Quantizer, backend: str = "reference", **options: Any) -> None:
    """Codes, scales, zero points and numbers equal the definition in every bit."""
    found = quantize(x, quantizer, backend=backend, **options)
    values = dequantize(found, backend=backend)
    if quantizer.rotation is not None:
        parts = x.reshape(-1, quantizer.rotation.size)
        x = np.array([rotate(part.tolist(), quantizer.rotation) for part in parts], np.float32).reshape(x.shape)
    words = options.get("random_bits")
    grid = Grid(x.shape, 1, quantizer.group)
    parts, codes = grid.split(x.astype(np.float64)), grid.split(found.codes)
    numbers, scales = grid.split(values), grid.split_scales(found.scales)
    bits = None if words is None else grid.split(words)
    inside = grid.split(np.ones(x.shape, bool))
    points = None if found.zero_points is None else grid.split_scales(found.zero_points)
    element = quantizer.element
    for place in np.ndindex(*parts.shape[:-1]):
        second = second_of(found, place[1], quantizer)
        given = options.get("statistic")
        group = definition.quantize_group(
            parts[place].tolist(), quantizer, second, given, None if bits is None else bits[place].tolist()
        )
        here = inside[place]
        expected = (
            [int(each) for each in group.elements]
            if isinstance(element, Integer)
            else [spec_codes.encode(each, element.row) for each in group.elements]
        )
        what = (text_of(quantizer), place, parts[place].tolist())
        assert codes[place][here].tolist() == np.array(expected)[here].tolist(), what
        assert int(scales[place]) == spec_codes.encode(group.scale, spec_blocks.as_format(quantizer.scale.format)), what
        assert points is None or int(points[place]) == group.zero_point, what
        wanted = np.array(group_values(group, quantizer, second), np.float32)[here]
        wanted[np.isnan(wanted)] = np.nan
        assert wanted.tobytes() == numbers[place][here].astype(np.float32).tobytes(), what


def narrowed(name: str) -> Quantizer:
    """A preset, with blocks and tiles of 128 made small."""
    quantizer = PRESETS[name].quantizer
    text = text_of(quantizer).replace("block(128)", "block(8)").replace("tile(128, 128)", "tile(3, 8)")
    return quantizer_of(text)


#: The others differ from these in their groups, or are those of tests/test_blocks.py.
COMPARED = [
    name
    for name in PRESETS
    if not name.startswith(("torchao_mx", "mxfp")) and not (name.startswith(("int", "uint")) and "group" in name)
]
