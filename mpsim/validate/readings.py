"""Lists the formats for which the codes of a format may be mistaken."""

from __future__ import annotations

from mpsim.formats import FORMATS, Format


def alike(format: Format) -> list[Format]:
    """Returns the formats for which codes of this one may be mistaken.

    >>> [meaning(each) for each in alike(FORMATS["float8_e8m0fnu"])][:2]
    ['float8_e5m2', 'float8_e4m3fn']
    """
    plain = Format(
        "", format.exponent_bits, format.mantissa_bits, format.bias, "none", format.subnormals, format.signed
    )
    named = [each for each in FORMATS.values() if each.bits == format.bits and each != format]
    return [*named, plain] if format.specials not in ("none", "e8m0") else named


def meaning(format: Format) -> str:
    """Returns a format in words."""
    return format.name or "numbers without infinity and NaN"
