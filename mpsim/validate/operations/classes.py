"""Mismatches of operations by class, each with its simplest example."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mpsim.files.records import Record
from mpsim.formats import Format
from mpsim.kernels import spec_codes
from mpsim.kernels.contract import Array
from mpsim.validate.answers import NO_CODE


class Example(NamedTuple):
    """Codes: of the operands, of the expected result, and of the answer."""

    operands: tuple[int, ...]
    expected: int
    got: int


@dataclass(frozen=True)
class Finding:
    """A class of mismatches: its name, how many results it has, and the example of the smallest operands."""

    name: str
    count: int
    example: Example

    def to_dict(self) -> Record:
        return {
            "class": self.name,
            "count": self.count,
            "operands": list(self.example.operands),
            "expected": self.example.expected,
            "got": None if self.example.got == NO_CODE else self.example.got,
        }


class Codes:
    """What codes of a format are, as arrays."""

    def __init__(self, codes: Array, format: Format) -> None:
        magnitude = codes & np.uint64(format.magnitude_mask)
        self.magnitude = magnitude.astype(np.int64)
        self.no_code = codes == np.uint64(NO_CODE)
        self.infinite = ~self.no_code & (format.infinity_code is not None) & (magnitude == (format.infinity_code or 0))
        beyond = magnitude > np.uint64(format.largest_code)
        is_nan = np.uint64(format.nan_code or 0) == codes if format.has_nan else np.zeros(codes.shape, bool)
        self.nan = ~self.no_code & ((beyond & ~self.infinite & format.has_nan) | is_nan)
        self.negative = (codes & np.uint64(format.sign_mask)) != 0
        self.finite = ~(self.no_code | self.infinite | self.nan)
        self.zero = self.finite & (magnitude == 0) & format.has_zero
        self.subnormal = self.finite & ~self.zero & (magnitude < np.uint64(1 << format.mantissa_bits)) & format.has_zero


def same_codes(expected: Array, got: Array, format: Format) -> Array:
    """Where codes are equal; any NaN of the format is as good as another."""
    return np.asarray((expected == got) | (Codes(expected, format).nan & Codes(got, format).nan))


def findings(
    codes: Sequence[Array], expected: Array, got: Array, formats: Sequence[Format], result: Format
) -> list[Finding]:
    """The mismatches by class, the most frequent first. A result is in the first class that it fits."""
    e, g = Codes(expected, result), Codes(got, result)
    left = ~same_codes(expected, got, result)
    steps = np.abs(np.where(e.negative, -e.magnitude, e.magnitude) - np.where(g.negative, -g.magnitude, g.magnitude))
    both = e.finite & g.finite
    classes = {
        "a number that the result's format does not have": g.no_code,
        "NaN expected": e.nan,
        "NaN answered": g.nan,
        "infinity expected": e.infinite,
        "infinity answered": g.infinite,
        "sign of zero": e.zero & g.zero,
        "subnormal expected, zero answered": e.subnormal & g.zero,
        "zero expected": e.zero,
        "sign": both & (e.negative != g.negative) & ~g.zero,
        "one code off": both & (steps == 1),
        "more than one code off": both,
    }
    found = []
    for name, mask in classes.items():
        for kind, part in _kinds_of_operand(codes, formats).items():
            here = left & mask & part
            if here.any():
                example = _example(here, codes, expected, got, formats)
                found.append(Finding(f"{name}{kind}", int(here.sum()), example))
        left = left & ~mask
    return sorted(found, key=lambda finding: -finding.count)


def _kinds_of_operand(codes: Sequence[Array], formats: Sequence[Format]) -> dict[str, Array]:
    """Of an operation with one operand, what the operand is."""
    if len(codes) > 1:
        return {"": np.ones(codes[0].shape, bool)}
    operand = Codes(codes[0].astype(np.uint64), formats[0])
    special = {
        " (operand subnormal)": operand.subnormal,
        " (operand NaN)": operand.nan,
        " (operand infinite)": operand.infinite,
    }
    ordinary = ~np.logical_or.reduce(list(special.values()))
    return {"": ordinary, **special}


def _example(where: Array, codes: Sequence[Array], expected: Array, got: Array, formats: Sequence[Format]) -> Example:
    """The one whose operands are nearest to one, positive before negative."""
    at = np.flatnonzero(where)
    cost = np.zeros(at.size)
    for array, format in zip(codes, formats, strict=True):
        assert format.bias is not None
        magnitude = (array[at] & np.uint64(format.magnitude_mask)).astype(np.int64)
        cost += np.abs(magnitude - (format.bias << format.mantissa_bits)) / (1 << format.mantissa_bits)
        cost += 0.25 * ((array[at] & np.uint64(format.sign_mask)) != 0)
    first = int(at[np.argmin(cost)])
    return Example(tuple(int(array[first]) for array in codes), int(expected[first]), int(got[first]))


def code_words(code: int, format: Format) -> str:
    """A code with the number that it stands for.

    >>> from mpsim.formats import FORMATS
    >>> code_words(0x42, FORMATS["p3109_k8p3"])
    '0x42 (1.5)'
    """
    if code == NO_CODE:
        return "a number without a code"
    digits = -(-format.bits // 4)
    value = spec_codes.magnitude_of(code, format)
    if isinstance(value, spec_codes.Exact) and not format.fits_float64:
        sign = "-" if code & format.sign_mask else ""
        return f"{code:#0{digits + 2}x} ({sign}{value.significand} * 2**{value.exponent})"
    return f"{code:#0{digits + 2}x} ({spec_codes.decode(code, format)!r})"
