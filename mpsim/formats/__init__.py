"""Floating-point formats: each is one declaration."""

from mpsim.formats.format import MOST_BIAS, MOST_EXPONENT_BITS, SPECIALS, Format
from mpsim.formats.table import FORMATS, FormatTable, as_format

__all__ = ["FORMATS", "MOST_BIAS", "MOST_EXPONENT_BITS", "SPECIALS", "Format", "FormatTable", "as_format"]
