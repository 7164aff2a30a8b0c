"""Vectors of casts from any source to any target, against NumPy, ml_dtypes and exact integers."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from mpsim.errors import UsageError
from mpsim.formats import FORMATS
from mpsim.kernels import spec
from mpsim.policies import Policy
from mpsim.validate import open_subject, validate_cast, validate_integer_cast
from mpsim.validate.cast import nans
from mpsim.validate.cast.rules import Rule
from mpsim.validate.cast.stochastic import validate_given_bits
from mpsim.validate.sources import SOURCES, as_source
from mpsim.vectors import casts, forms
from mpsim.vectors.forms import Table


def only(*arguments: object, **options: object) -> Table:
    (table,) = casts.cast_tables(*arguments, **options)  # type: ignore[arg-type]
    return table


def columns(table: Table) -> tuple[np.ndarray, np.ndarray]:
    return table.columns["input"][0], table.columns["expected"][0]


def test_a_decoder_has_every_code_once_and_no_mode() -> None:
    codes, expected = columns(table := only(["float16"], "float8_e4m3fn"))
    assert table.size == 256 and table.about["mode"] == "nearest_even"
    wide = codes.astype(np.uint8).view(ml_dtypes.float8_e4m3fn).astype(np.float16)
    assert np.array_equal(expected.astype(np.uint16).view(np.float16), wide, equal_nan=True)


def test_one_float8_to_another() -> None:
    codes, expected = columns(only(["float8_e5m2"], "float8_e4m3fn", ["nearest_even"], ["infinity"]))
    number = codes.astype(np.uint8).view(ml_dtypes.float8_e4m3fn).astype(ml_dtypes.float8_e5m2)
    assert codes.size == 256 and np.array_equal(expected, number.view(np.uint8))


@pytest.mark.parametrize("target", ["int8", "uint4", "uint8_z128"])
def test_floats_to_integers(target: str) -> None:
    least, most, zero = {"int8": (-128, 127, 0), "uint4": (0, 15, 0), "uint8_z128": (-128, 127, 128)}[target]
    patterns, expected = columns(only([target], "float32", ["nearest_even"], ["saturate"], size=600))
    with np.errstate(invalid="ignore"):  # signaling NaNs
        x = patterns.view(np.float32).astype(np.float64)
    whole = np.clip(np.rint(np.where(np.isnan(x), 0, x)), least, most).astype(np.int64) + zero
    assert patterns.size == 600 and np.array_equal(expected, whole & (15 if target == "uint4" else 255))
    finite = x[np.isfinite(x)]
    assert (finite - np.floor(finite) == 0.5).sum() > 20 and np.isnan(x).any() and np.isinf(x).any()


@pytest.mark.parametrize("overflow", ["saturate", "wrap", "indefinite"])
def test_integers_to_narrower_ones(overflow: str) -> None:
    patterns, expected = columns(only(["int8"], "int32", ["nearest_even"], [overflow], size=500))
    x = patterns.view(np.int32).astype(np.int64)
    inside = (x >= -128) & (x <= 127)
    other = {"saturate": np.clip(x, -128, 127), "wrap": x, "indefinite": np.full(x.shape, -128)}[overflow]
    assert np.array_equal(expected, np.where(inside, x, other) & 0xFF) and 10 < inside.sum() < 490


def test_wide_integers_are_rounded_once() -> None:
    patterns, expected = columns(only(["bfloat16"], "int64", ["nearest_even"], ["infinity"], size=400))
    for pattern, code in zip(patterns.view(np.int64).tolist(), expected.tolist(), strict=True):
        number = spec.round_fraction(Fraction(pattern), pattern < 0, FORMATS["bfloat16"], Policy())
        assert np.float32(number).view(np.uint32) >> 16 == code, pattern


def test_random_words_decide_between_two_integers() -> None:
    table = only(["int8"], "float16", ["stochastic"], ["saturate"], size=400, random_bit_count=8)
    patterns, expected = columns(table)
    words = table.columns["random_bits"][0] & 255
    with np.errstate(invalid="ignore"):
        x = patterns.view(np.float16).astype(np.float64)
    small = np.abs(x) < 120
    down = np.floor(np.abs(x[small]))
    up = np.floor((np.abs(x[small]) - down) * 256) + words[small] >= 256
    assert np.array_equal(expected[small].astype(np.int8), np.copysign(down + up, x[small]).astype(np.int8))
    assert 10 < up.sum() < small.sum() - 10


@pytest.mark.parametrize(
    ("source", "target"),
    [("float8_e5m2", "bfloat16"), ("int4", "float8_e4m3fn"), ("float32", "int16"), ("float8_e4m3fn", "uint8")],
)
def test_packs_are_read_back(tmp_path: Path, source: str, target: str) -> None:
    table = only([target], source, ["nearest_even"], ["saturate"], size=300)
    for name, content in forms.table_files(table, ["npz", "txt", "jsonl"]).items():
        (tmp_path / name).write_bytes(content)
        validate = validate_integer_cast if "int" in target else validate_cast
        policy = {"mode": "nearest_even", "overflow": "saturate", "nan": "zero" if "int" in target else None}
        report = validate(str(tmp_path / name), target, source, **policy)  # type: ignore[operator]
        assert report.equal and report.inputs == table.size, name


def test_random_words_are_read_back(tmp_path: Path) -> None:
    table = only(["float8_e5m2"], "float16", ["stochastic"], ["infinity"], size=500, random_bit_count=8)
    for name, content in forms.table_files(table, ["npz", "txt", "jsonl"]).items():
        (tmp_path / name).write_bytes(content)
        for count, equal in ((8, True), (7, False)):
            subject = open_subject(str(tmp_path / name), random_bits=True)
            rule = Rule(FORMATS["float8_e5m2"], Policy("stochastic", "infinity", count), nan_codes=nans.ANY)
            report = validate_given_bits(subject, rule, SOURCES["float16"])
            assert (report.equal, report.trials) == (equal, table.size), name
        assert report.causes[0].startswith("8 bits")


def test_what_is_left_to_choose() -> None:
    """Without modes and overflow policies, all of them; where nothing is rounded, one."""
    names = {table.name for table in casts.cast_tables(["int8"], "float16", size=4)}
    assert len(names) == 11 * 3 and "cast_float16_to_int8_stochastic_c_wrap" in names
    assert {t.name for t in casts.cast_tables(["int16"], "int8")} == {"cast_int8_to_int16_nearest_even_saturate"}
    assert {t.about["overflow"] for t in casts.cast_tables(["int4_sign_magnitude"], "int8", ["up"], size=4)} == {
        "saturate", "indefinite",
    }  # fmt: skip
    assert casts.inputs_of(FORMATS["float16"], as_source("int64"), 50).size == 50
    for arguments, words in (
        ((["int8"], "float32", None, ["infinity"]), "overflow policy"),
        ((["float32"], "float16"), "not narrower"),
        ((["int65"], "float32"), "64"),
    ):
        with pytest.raises(UsageError, match=words):
            list(casts.cast_tables(*arguments))


def test_all_patterns_are_those_of_at_most_16_bits() -> None:
    assert next(iter(casts.cast_tables(["int4"], "bfloat16", size=0))).size == 1 << 16
    for source in ("float32", "int32"):
        with pytest.raises(UsageError, match="size must be at least 1"):
            list(casts.cast_tables(["int4"], source, size=0))
