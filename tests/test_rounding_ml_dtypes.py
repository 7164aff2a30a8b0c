"""Nearest even against ml_dtypes, for its formats narrower than 32 bits, float16 and their codes.

Known disagreements, each with its cause and its own test below; everything else is equal in every code.
"""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from samples import TEST_FORMATS, all_16_bit_sources, assert_same_bits, corpus, random_patterns
from their_version import ROUNDS_ONCE

from mpsim import encode
from mpsim.formats import FORMATS
from mpsim.kernels import load
from mpsim.policies import Mode, Overflow, Policy

REFERENCE = load("reference")
NAMES = [name for name in FORMATS if hasattr(ml_dtypes, name)]
NEAREST = Policy(Mode.NEAREST_EVEN, Overflow.INFINITY)


def their_codes(x: np.ndarray, name: str) -> np.ndarray:
    with np.errstate(all="ignore"):
        return x.astype(getattr(ml_dtypes, name)).view(f"uint{FORMATS[name].code_bits}")


def our_codes(x: np.ndarray, name: str, overflow: Overflow = Overflow.INFINITY) -> np.ndarray:
    rounded, _ = REFERENCE.round_array(x, FORMATS[name], Policy(Mode.NEAREST_EVEN, overflow))
    return REFERENCE.encode_array(rounded, FORMATS[name])


def agreed(x: np.ndarray, name: str) -> np.ndarray:
    """x without the elements of the known disagreements."""
    kept = np.ones(x.shape, bool)
    if not FORMATS[name].has_nan:
        kept &= ~np.isnan(x)  # test_nan_without_code
    if name == "float8_e8m0fnu" and not ROUNDS_ONCE:
        kept &= ~((x > 2.0**-127) & (x < 2.0**-126))  # test_e8m0_of_subnormals
    if name == "float8_e5m3fnu":
        kept &= ~((x < 0) & (x >= -(2.0**-18)))  # test_e5m3_of_small_negative_numbers
    return x[kept]


def test_their_formats_are_ours() -> None:
    ours = {name for name in vars(ml_dtypes) if name.startswith(("float", "bfloat"))}
    assert ours == set(NAMES)
    assert len(NAMES) == 12 + ROUNDS_ONCE  # eleven floats and e8m0, and in 0.7 float8_e5m3fnu


@pytest.mark.parametrize("name", NAMES)
def test_float32_sources(name: str) -> None:
    for x in (all_16_bit_sources(), corpus(name, "float32"), random_patterns("float32", 200_000, seed=6)):
        x = agreed(x, name)
        assert_same_bits(our_codes(x, name), their_codes(x, name), x, name)


@pytest.mark.parametrize("name", NAMES)
def test_values_of_codes(name: str) -> None:
    format = FORMATS[name]
    codes = np.arange(1 << format.bits).astype(f"uint{format.code_bits}")
    theirs = codes.view(getattr(ml_dtypes, name)).astype(np.float32)
    ours = REFERENCE.decode_array(codes, format)
    number = ~np.isnan(ours)
    assert_same_bits(ours[number], theirs[number], codes[number])
    assert np.isnan(theirs[~number]).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_float16(dtype: str) -> None:
    """NumPy's own float16, which rounds once from float64 too. NaN payloads: it keeps them, we do not."""
    x = np.concatenate([corpus("float16", dtype), random_patterns(dtype, 100_000)])
    with np.errstate(all="ignore"):
        theirs = x.astype(np.float16)
    codes = our_codes(x, "float16")
    number = ~np.isnan(x)
    assert_same_bits(codes[number], theirs.view(np.uint16)[number], x[number])
    assert (codes[~number] == np.where(np.signbit(x[~number]), 0xFE00, 0x7E00)).all()


@pytest.mark.parametrize("name", NAMES)
def test_float64_arrays(name: str) -> None:
    """Before 0.7 ml_dtypes casts float64 arrays by way of float32 (its issue 401); we round once."""
    if ROUNDS_ONCE:
        x = agreed(np.concatenate([corpus(name, "float64"), random_patterns("float64", 100_000)]), name)
        assert_same_bits(our_codes(x, name), their_codes(x, name), x, name)
        return
    if name == "float8_e8m0fnu":
        pytest.skip("its float32 casts differ too: test_e8m0_of_subnormals")
    x = agreed(corpus(name, "float64"), name)
    with np.errstate(all="ignore"):
        assert_same_bits(their_codes(x, name), our_codes(x.astype(np.float32), name), x, name)
    different = our_codes(x, name) != their_codes(x, name)
    assert different.any()
    if name == "bfloat16":
        return  # its scalars are rounded twice too; those of the others once
    scalars = [getattr(ml_dtypes, name)(value) for value in x[different].tolist()[:200]]
    assert_same_bits(our_codes(x[different][:200], name), np.array(scalars).view(f"uint{FORMATS[name].code_bits}"))


@pytest.mark.parametrize("name", ["float6_e2m3fn", "float6_e3m2fn", "float4_e2m1fn"])
def test_nan_without_code(name: str) -> None:
    """ml_dtypes turns NaN into -0 where the format has none; we keep it, and encode refuses it."""
    assert their_codes(np.float32([np.nan]), name)[0] == FORMATS[name].sign_mask
    rounded, _ = REFERENCE.round_array(np.float32([np.nan]), FORMATS[name], NEAREST)
    assert np.isnan(rounded).all()


def test_e8m0_of_subnormals() -> None:
    """Between 2**-127 and 2**-126, subnormal in float32, ml_dtypes goes up always before 0.7; nearest is 2**-127 to 1.5
    of it."""
    x = np.float32([1.25 * 2.0**-127, 1.5 * 2.0**-127, 1.75 * 2.0**-127])
    assert their_codes(x, "float8_e8m0fnu").tolist() == [1 - ROUNDS_ONCE, 1, 1]
    assert our_codes(x, "float8_e8m0fnu").tolist() == [0, 1, 1]


@pytest.mark.skipif(not hasattr(ml_dtypes, "float8_e5m3fnu"), reason="ml_dtypes has it from 0.7 on")
def test_e5m3_of_small_negative_numbers() -> None:
    """ml_dtypes makes every negative number NaN; we round first, and -0 is zero."""
    x = np.float32([-0.0, -1e-45, -(2.0**-18), -(2.0**-18) * 1.5])
    assert their_codes(x, "float8_e5m3fnu").tolist() == [0, 255, 255, 255]
    assert our_codes(x, "float8_e5m3fnu").tolist() == [0, 0, 0, 255]


@pytest.mark.parametrize("name", ["float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2"])
def test_overflow_is_a_choice(name: str) -> None:
    """ml_dtypes overflows to NaN or infinity, which is our "infinity"; "saturate" is one it does not have."""
    x = np.float32([1e9, -1e9, np.inf])
    assert_same_bits(our_codes(x, name), their_codes(x, name))
    largest: Any = TEST_FORMATS[name].largest
    assert_same_bits(our_codes(x, name, Overflow.SATURATE), their_codes(np.float32([largest, -largest, largest]), name))


@pytest.mark.parametrize("source", NAMES)
def test_conversions_between_all_of_their_formats(source: str) -> None:
    """Every code of every format of at most 8 bits to every other; ml_dtypes has none to and from e8m0. The only NaN of
    an fnuz format, 0x80, has no sign here; ml_dtypes makes it a negative NaN elsewhere."""
    format = FORMATS[source]
    if format.bits > 8 or source == "float8_e8m0fnu":
        pytest.skip("float32 sources cover it" if format.bits > 8 else "no such casts")
    codes = np.arange(1 << format.bits, dtype=np.uint8)
    values = REFERENCE.decode_array(codes, format)
    if format.specials == "fnuz":
        values[0x80] = -np.nan
    for name in NAMES:
        if name in (source, "float8_e8m0fnu"):
            continue
        with np.errstate(all="ignore"):
            theirs = codes.view(getattr(ml_dtypes, source)).astype(getattr(ml_dtypes, name))
        kept = ~np.isnan(values) | FORMATS[name].has_nan  # test_nan_without_code
        assert_same_bits(
            our_codes(values[kept], name), theirs.view(f"uint{FORMATS[name].code_bits}")[kept], codes[kept]
        )


@pytest.mark.parametrize("name", ["bfloat16", "float8_e4m3fn", "float8_e5m2", "float4_e2m1fn"])
def test_integers(name: str) -> None:
    """Before 0.7 ml_dtypes casts integers by way of float32; we round once."""
    x = np.concatenate([np.arange(-(1 << 17), 1 << 17, 7), (np.int64(0x8080) << np.arange(0, 46)) + 1])
    theirs = x.astype(getattr(ml_dtypes, name)).view(f"uint{FORMATS[name].code_bits}")
    once = np.asarray(encode(x, name, backend="reference"))
    if ROUNDS_ONCE:
        assert_same_bits(once, theirs, x)
        return
    assert_same_bits(our_codes(x.astype(np.float32), name), theirs, x)
    assert (once != theirs).any() == (name == "bfloat16")  # the others overflow where float32 rounds
