"""The table of formats: against ml_dtypes' and NumPy's figures, the literature, and its own codes."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import fraction
from samples import TEST_FORMATS

from mpsim import decode, encode, round_to
from mpsim.errors import UsageError
from mpsim.formats import FORMATS, Format, as_format
from mpsim.kernels import spec_codes

NAMES = [name for name in FORMATS if hasattr(ml_dtypes, name) or hasattr(np, name)]


@pytest.mark.parametrize("name", NAMES)
def test_figures_of_ml_dtypes(name: str) -> None:
    format = FORMATS[name]
    info = ml_dtypes.finfo(getattr(ml_dtypes, name, None) or getattr(np, name))
    assert format.bits == info.bits
    assert format.mantissa_bits == info.nmant
    assert format.largest == float(info.max)
    assert format.smallest_normal == float(info.smallest_normal)
    if format.has_zero:
        assert format.smallest == float(info.smallest_subnormal)


@pytest.mark.parametrize(
    ("name", "largest", "smallest", "bits"),
    [
        ("fp_4_3_4", 30.0, 2.0**-13, 8),  # Lee, Sharma, Aiken 2023, §4.1
        ("fp_5_2_0", 1.75 * 2.0**16, 2.0**-16, 8),
        ("fp_6_9_0", (2 - 2.0**-9) * 2.0**32, 2.0**-39, 16),
        ("fp_4_3_n2", 15 * 2.0**7, 2.0**-7, 8),
        ("dlfloat16", (2 - 2.0**-8) * 2.0**32, 2.0**-30, 16),
        ("tf32", (2 - 2.0**-10) * 2.0**127, 2.0**-136, 19),
        ("p3109_k8p3", 49152.0, 2.0**-17, 8),  # IEEE P3109 working draft, binary8p3
        ("p3109_k8p4", 224.0, 2.0**-10, 8),
        ("float8_e4m3b11fnuz", 30.0, 2.0**-13, 8),
    ],
)
def test_published_figures(name: str, largest: float, smallest: float, bits: int) -> None:
    format = FORMATS[name]
    assert (format.largest, format.smallest, format.bits) == (largest, smallest, bits)


TABLES = Path(__file__).parents[2] / "shared" / "data" / "p3109_tables.npz"


def table_names(width: int) -> list[str]:
    """The keys of the group's tables of formats of that width."""
    most = {"s": width - 1, "u": width}
    return [f"k{width}p{p}{sign}{domain}" for sign in "su" for domain in "ef" for p in range(1, most[sign] + 1)]


def p3109(key: str) -> Format:
    """mpsim's format of a table."""
    return FORMATS[f"p3109_{key[:-2]}{'u' * ('u' in key)}{'_finite' * key.endswith('f')}"]


def test_there_are_504_tables() -> None:
    assert sum(len(table_names(width)) for width in range(3, 17)) == 504


@pytest.mark.parametrize("width", range(3, 17))
def test_tables_of_the_p3109_working_group(width: int) -> None:
    """IEEE P3109 working group, value tables of Interim Report v4.0: every code of every format."""
    if not TABLES.exists():
        pytest.skip(f"the value tables are not here: {TABLES}")
    with np.load(TABLES) as file:
        for key in table_names(width):
            kind, significand, exponent = (file[f"{key}/{part}"] for part in ("class", "significand", "exponent"))
            if p3109(key).fits_float64:
                check_table(p3109(key), kind, np.ldexp(significand.astype(np.float64), exponent))
            else:
                check_exact_table(p3109(key), kind, significand, exponent)


def check_table(format: Format, kind: np.ndarray, values: np.ndarray) -> None:
    """Decoded and encoded arrays against a table."""
    expected = np.choose(kind, [values, np.inf, -np.inf, np.nan])
    codes = np.arange(1 << format.bits, dtype=f"uint{format.code_bits}")
    for backend in ("reference", "compiled"):
        decoded = decode(codes, format, np.float64, backend=backend)
        assert np.array_equal(decoded, expected, equal_nan=True), format
        assert np.array_equal(encode(decoded, format, backend=backend), codes), format


def check_exact_table(format: Format, kind: np.ndarray, significand: np.ndarray, exponent: np.ndarray) -> None:
    """The definition against a table whose numbers float64 does not hold: classes, values, and codes of values."""
    for code, row in enumerate(zip(kind.tolist(), significand.tolist(), exponent.tolist(), strict=True)):
        found = spec_codes.magnitude_of(code, format)
        negative = bool(code & format.sign_mask)
        if row[0] == 3:
            assert found != found
        elif row[0]:
            assert (found, negative) == (np.inf, row[0] == 2)
        else:
            assert found == (abs(row[1]), row[2]) and negative == (row[1] < 0), (format, code)
        assert spec_codes.code_of(found, negative, format) == code


def test_nan_without_a_sign_bit() -> None:
    with pytest.raises(ValueError, match="need signed=True"):
        Format("u", 4, 3, 8, "fnuz", signed=False)


@pytest.mark.parametrize("name", TEST_FORMATS)
def test_derived_numbers(name: str) -> None:
    """Every property that is a number, from the table of codes in rational arithmetic."""
    format = TEST_FORMATS[name]
    assert format.largest == fraction.largest(format)
    assert format.smallest == fraction.smallest(format)
    assert format.smallest_normal == fraction.smallest_normal(format)
    assert 2.0**format.max_exponent <= format.largest < 2 * 2.0**format.max_exponent or name == "float64"
    if format.bits > 16:
        return
    codes = {code: fraction.code_value(format, code) for code in range(1 << format.bits)}
    assert format.has_infinity == ("+inf" in codes.values())
    assert format.has_nan == ("nan" in codes.values())
    assert format.has_negative_zero == (codes.get(format.sign_mask) == "-0")
    assert format.nan_code is None or codes[format.nan_code] == "nan"
    assert format.infinity_code is None or codes[format.infinity_code] == "+inf"
    numbers = [codes[code] for code in format.finite_codes]
    assert not any(isinstance(value, str) for value in numbers)
    assert numbers == sorted(numbers)  # type: ignore[type-var]
    midpoint, _ = format.overflow_threshold
    _, beyond = fraction.neighbours(fraction.largest(format), format)
    assert midpoint == (beyond + fraction.largest(format)) / 2
    assert format.code_bits >= format.bits


@pytest.mark.parametrize("name", TEST_FORMATS)
def test_fits_float32(name: str) -> None:
    """Whether float32 holds both ends of the range and the significand."""
    format = TEST_FORMATS[name]
    with np.errstate(over="ignore", under="ignore"):
        ends = [float(np.float32(value)) == value for value in (format.largest, format.smallest)]
        finer = float(np.float32(1 + 2.0**-format.mantissa_bits)) == 1 + 2.0**-format.mantissa_bits
    assert format.fits_float32 == (all(ends) and finer)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("float8_e4m4fn", "did you mean float8_e4m3fn"),
        ("fp_12_1_0", "1 to 11 bits"),
        ("fp_0_1_0", "1 to 11 bits"),
        ("p3109_k8p8", "1 to K - 1 significant bits"),
        ("p3109_k8p9u", "unsigned ones 1 to K"),
        ("p3109_k17p3", "3 to 16 bits"),
        ("p3109_k2p1", "3 to 16 bits"),
        ("fp_4_3_2000", "float64 cannot hold"),
        ("xyzzy", "unknown format"),
    ],
)
def test_unknown_names(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        as_format(name)


def test_a_format_beyond_float64_has_exact_values_only() -> None:
    format = FORMATS["p3109_k16p1u"]  # powers of two from 2**-32767 to 2**(2**16 - 3 - 2**15)
    assert (format.value(1), format.value(format.largest_code)) == (Fraction(2) ** -32767, Fraction(2) ** 32765)
    for use in (lambda: format.largest, lambda: round_to(1.0, format), lambda: decode(3, format, np.float64)):
        with pytest.raises(UsageError, match="float64 cannot hold"):
            use()


def test_a_format_is_a_name_or_a_format() -> None:
    assert as_format(FORMATS["float16"]) is as_format("float16")
    with pytest.raises(TypeError, match="a name, a Format or a dtype"):
        as_format(8)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"exponent_bits": 0, "mantissa_bits": 3},
            "exponent_bits of format 'bad' must be a whole number from 1 to 16, got 0",
        ),
        ({"exponent_bits": 4, "mantissa_bits": -1}, "mantissa_bits of format 'bad' must be .*got -1"),
        ({"exponent_bits": 4, "mantissa_bits": 3, "specials": "non"}, "did you mean none"),
        ({"exponent_bits": 1, "mantissa_bits": 0}, "no finite number"),
        ({"exponent_bits": 12, "mantissa_bits": 52}, "has 65 bits; a code has at most 64"),
    ],
)
def test_no_format(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Format("bad", **arguments)


@given(exponent=st.integers(1, 9), mantissa=st.integers(0, 20), shift=st.integers(-40, 40))
def test_parsed_names(exponent: int, mantissa: int, shift: int) -> None:
    """fp_E_M_B: no specials but for E = 8, bias 2**(E - 1) - 1 + B."""
    name = f"fp_{exponent}_{mantissa}_{'n' if shift < 0 else ''}{abs(shift)}"
    try:
        format = as_format(name)
    except ValueError:
        return
    top = 2 ** (exponent - 1) - (exponent == 8)
    assert format.largest == (2 - 2.0**-mantissa) * math.ldexp(1.0, top - shift)
    assert format.smallest_normal == math.ldexp(1.0, 2 - 2 ** (exponent - 1) - shift)
    assert (format.bits, str(format), format.has_nan) == (1 + exponent + mantissa, name, exponent == 8 and mantissa > 0)
