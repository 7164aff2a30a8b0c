"""Quantising by the compiled kernels of groups: the bits of the reference, for every preset that takes them."""

from __future__ import annotations

import numpy as np
import pytest

from mpsim.blocks import BLOCK_FORMATS, PRESETS, SCALE_RULES, dequantize, quantize, round_to_blocks
from mpsim.blocks.engine import Engine
from mpsim.blocks.fast import is_fast
from mpsim.blocks.running import Given, quantize_array
from mpsim.formats import Format
from mpsim.rounding import decode, encode

pytest.importorskip("mpsim._kernels", reason="the extension is not built")
SHAPES = (((5, 64), -1), ((33, 128), -1), ((48, 20), 0), ((3, 5, 16), 1), ((257,), -1), ((2, 5000), -1))
FAST = {"mxfp4", "mxfp8_e4m3_even", "torchao_mxfp8_e5m2_rceil", "nvfp4", "nvfp4_one_level", "fp8_1x128", "fp8_row"}


def arrays(shape: tuple[int, ...]) -> list[np.ndarray]:
    """Numbers of many magnitudes, also with specials, of all magnitudes, with groups of zeros, and zeros."""
    random = np.random.default_rng(4)
    near = (random.standard_normal(shape) * np.exp2(random.integers(-30, 30, shape))).astype(np.float32)
    special = np.where(random.random(shape) < 0.99, near, random.choice([np.inf, -np.inf, np.nan, -0.0, 0.0], shape))
    far = random.standard_normal(shape) * np.exp2(random.integers(-149, 127, shape).astype(float))
    zeros = np.where(np.arange(shape[-1]) < 40, near, -0.0)
    return [array.astype(np.float32) for array in (near, special, far, zeros, np.zeros(shape))]


def test_the_kernels_are_used() -> None:
    x = np.ones((2, 256), np.float32)
    used = {name for name, preset in PRESETS.items() if is_fast(Engine(preset.quantizer, "compiled"), x)}
    assert used >= FAST and not any(name.startswith("te_") for name in used)
    assert not is_fast(Engine(PRESETS["mxfp4"].quantizer, "compiled"), x.astype(np.float64))
    assert not is_fast(Engine(PRESETS["mxfp4"].quantizer, "reference"), x)


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_every_preset_has_the_bits_of_the_reference(name: str) -> None:
    quantizer, engine = PRESETS[name].quantizer, Engine(PRESETS[name].quantizer, "compiled")
    shapes = SHAPES if name in FAST else SHAPES[:1]
    for (shape, axis), threads in zip(shapes, (1, 2, 1, 2, 1, 2), strict=False):
        for x in arrays(shape):
            if not is_fast(engine, x):
                continue
            ours, counts = quantize_array(x, quantizer, axis, Given(), "compiled", threads)
            theirs, expected = quantize_array(x, quantizer, axis, Given(), "reference", 1)
            assert counts == expected
            assert ours.codes.tobytes() == theirs.codes.tobytes() and ours.scales.tobytes() == theirs.scales.tobytes()
            assert (ours.second is None) == (theirs.second is None)
            assert ours.second is None or ours.second.tobytes() == theirs.second.tobytes()
            for dtype in (np.float32, np.float64):
                values = (dequantize(ours, dtype, backend=backend) for backend in ("compiled", "reference"))
                assert len({array.tobytes() for array in values}) == 1


@pytest.mark.parametrize("rule", SCALE_RULES)
@pytest.mark.parametrize("name", BLOCK_FORMATS)
def test_block_formats_have_the_bits_of_the_reference(name: str, rule: str) -> None:
    for shape, axis in SHAPES[2:5]:
        for x in arrays(shape):
            results = [
                round_to_blocks(x, name, axis, scale_rule=rule, counts=True, backend=backend)
                for backend in ("compiled", "reference")
            ]
            assert results[0][0].tobytes() == results[1][0].tobytes() and results[0][1] == results[1][1]


def test_a_given_tensor_scale_and_modes() -> None:
    for x in arrays((8, 64)):
        for options in ({"tensor_scale": 0.25}, {"mode": "toward_zero"}, {"mode": "up"}, {"overflow": "infinity"}):
            found = [quantize(x, "nvfp4", backend=backend, **options) for backend in ("compiled", "reference")]  # type: ignore[arg-type]
            assert found[0].codes.tobytes() == found[1].codes.tobytes()
            assert found[0].scales.tobytes() == found[1].scales.tobytes()


WIDE = [Format("far", 8, 3, 2, "ieee"), Format("near", 8, 3, 200, "ieee"), Format("wide", 9, 6, 255, "none")]


@pytest.mark.parametrize("format", WIDE, ids=str)
def test_codes_of_formats_beyond_float32(format: Format) -> None:
    """Numbers that float32 cannot hold are not converted to it on the way."""
    codes = np.arange(1 << format.bits).astype(f"uint{format.code_bits}")
    values = [decode(codes, format, np.float64, backend=backend) for backend in ("compiled", "reference")]
    assert values[0].tobytes() == values[1].tobytes()
    numbers, expected = values[0][np.isfinite(values[0])], codes[np.isfinite(values[0])]
    for backend in ("compiled", "reference"):
        assert encode(numbers, format, "toward_zero", "saturate", backend=backend).tobytes() == expected.tobytes()
