"""Floating-point formats: each is one declaration."""

from mpsim.formats.format import MOST_BIAS, MOST_EXPONENT_BITS, SPECIALS, Format
from mpsim.formats.table import FORMATS, SOURCES, FormatTable, as_format

__all__ = [
    "FORMATS", "MOST_BIAS", "MOST_EXPONENT_BITS", "SOURCES", "SPECIALS", "Format", "FormatTable", "as_format",
]  # fmt: skip
