"""Lists the named formats, and reads parametric names.

Source: ``SOURCES``; ml_dtypes (names); Lee, Sharma, Aiken 2023 (``fp_E_M_B``); IEEE P3109 Interim Report v4.0 §3
(``p3109_kKpP``); PTX ISA, alternate floating-point formats (``ue4m3``, ``ue8m0``).
"""

from __future__ import annotations

import re
from typing import Any

from mpsim import checks
from mpsim.errors import UsageError
from mpsim.formats.format import Format
from mpsim.interchange import name_of

_IEEE, _OFP8, _MX = "IEEE 754-2019 §3.6", "OCP OFP8 v1.0; Micikevicius et al. 2022, arXiv:2209.05433", "OCP MX v1.0 §5"
_FNUZ = "Noune et al. 2022, arXiv:2206.02915; ml_dtypes"
#: Each format, and where it is defined.
_ROWS = (
    (Format("float64", 11, 52), _IEEE),
    (Format("float32", 8, 23), _IEEE),
    (Format("tf32", 8, 10), "NVIDIA A100 Tensor Core GPU Architecture, 2020"),
    (Format("bfloat16", 8, 7), "Kalamkar et al. 2019, arXiv:1905.12322"),
    (Format("float16", 5, 10), _IEEE),
    (Format("dlfloat16", 6, 9, specials="fn", subnormals=False), "Agrawal et al. 2019, DLFloat"),
    (Format("float8_e5m2", 5, 2), _OFP8),
    (Format("float8_e4m3fn", 4, 3, specials="fn"), _OFP8),
    (Format("float8_e4m3", 4, 3), "ml_dtypes"),
    (Format("float8_e3m4", 3, 4), "ml_dtypes"),
    (Format("float8_e4m3fnuz", 4, 3, bias=8, specials="fnuz"), _FNUZ),
    (Format("float8_e5m2fnuz", 5, 2, bias=16, specials="fnuz"), _FNUZ),
    (Format("float8_e4m3b11fnuz", 4, 3, bias=11, specials="fnuz"), "ml_dtypes"),
    (Format("float8_e8m0fnu", 8, 0, specials="e8m0", signed=False), _MX),
    (Format("float8_e5m3fnu", 5, 3, specials="fn", signed=False), "ml_dtypes 0.7"),
    (Format("float6_e2m3fn", 2, 3, specials="none"), _MX),
    (Format("float6_e3m2fn", 3, 2, bias=3, specials="none"), _MX),
    (Format("float4_e2m1fn", 2, 1, specials="none"), _MX),
)
#: name -> where the format is defined.
SOURCES = {format.name: source for format, source in _ROWS}


_N = f"({checks.DIGITS})"


def _parse(name: str) -> Format | None:
    """Returns the format of a parametric name, or None.

    These are ``fp_E_M_B`` (paper §4.1), ``p3109_kKpP[u][_finite]``, and ``ueEmM``, formats of scales without a sign
    bit: ``ue4m3`` has the numbers of float8_e4m3fn from 0 on, and ``ue8m0`` is float8_e8m0fnu.
    """
    if found := re.fullmatch(rf"fp_{_N}_{_N}_(n?){_N}", name):
        exponent_bits, mantissa_bits = int(found[1]), int(found[2])
        shift = int(found[4]) * (-1 if found[3] else 1)
        if exponent_bits > 11 or exponent_bits < 1:
            raise UsageError(f"format {name!r}: the exponent must have 1 to 11 bits, got {exponent_bits}")
        specials = "ieee" if exponent_bits == 8 else "none"
        format = Format(name, exponent_bits, mantissa_bits, 2 ** (exponent_bits - 1) - 1 + shift, specials)
        format.require_float64()
        return format
    if found := re.fullmatch(rf"p3109_k{_N}p{_N}(u?)(_finite)?", name):
        width, precision, signed = int(found[1]), int(found[2]), not found[3]
        most = width - signed
        if not 3 <= width <= 16 or not 1 <= precision <= most:  # P3109 v4.0 §3.1
            raise UsageError(
                f"format {name!r}: P3109 formats need 3 to 16 bits (K) and 1 to K - 1 significant bits (P), "
                f"unsigned ones 1 to K"
            )
        bias, specials = 2 ** (most - precision), f"p3109{found[4] or ''}"
        return Format(name, most - precision + 1, precision - 1, bias, specials, signed=signed)
    if found := re.fullmatch(r"ue([1-7])m([1-7])", name):
        return Format(name, int(found[1]), int(found[2]), specials="fn", signed=False)
    return FORMATS["float8_e8m0fnu"] if name == "ue8m0" else None


class FormatTable(dict[str, Format]):
    """Maps names to formats. Indexing also parses parametric names; iteration lists only fixed names.

    >>> FORMATS["fp_4_3_4"].largest
    30.0
    """

    def __missing__(self, given: Any) -> Format:
        name = checks.instance("format", name_of(given) or given, str, "a name, a Format or a dtype")
        parsed = self[name] if name in self else _parse(name)
        if parsed is None:
            also = "fp_E_M_B (e.g. fp_4_3_4), p3109_kKpP[u][_finite], ueEmM (e.g. ue4m3)"
            raise checks.unknown("format", name, self, hint=_hint(name), also=also)
        return parsed


#: Common names of formats and their names here.
_COMMON = {"half": "float16", "single": "float32", "float": "float32", "double": "float64", "bf16": "bfloat16"}


def _hint(name: str) -> str | None:
    """Returns a hint for a common name: the format it means, or how the formats it may mean differ; otherwise None.

    >>> _hint("e5m2")
    '; it may mean float8_e5m2 (largest 57344, infinity) or float8_e5m2fnuz (largest 57344, no infinity).'
    """
    text = name.strip().lower().replace("-", "_") or "nothing"
    if re.match(r"(mx|nv)_?(fp|int)\d", text):
        return "; for block formats, whose elements share scales, use mpsim.blocks and 'mpsim validate blocks'."
    text = re.sub(r"^fp?(?=\d)", "float", _COMMON.get(text, text))
    text = re.sub(r"^(float\d+)(?=e\d)", r"\1_", text)
    if text in FORMATS and not re.search(r"e\dm\d$", text):
        return checks.did_you_mean([text])
    meant = [row for row, _ in _ROWS if f"_{row.name}".find(f"_{text}") >= 0]
    if len(meant) < 2:
        return checks.did_you_mean([row.name for row in meant]) or None
    ends = [f"{row.name} (largest {row.largest:g}, {'' if row.has_infinity else 'no '}infinity)" for row in meant]
    return f"; it may mean {', '.join(ends[:-1])} or {ends[-1]}."


#: The named formats by name. A parametric name, such as ``fp_4_3_4``, gives its format too.
FORMATS = FormatTable({row.name: row for row, _ in _ROWS})


def as_format(format: Any) -> Format:
    """Returns a ``Format`` unchanged, or the format of a name or of a dtype (NumPy, ml_dtypes, JAX, PyTorch).

    Raises UsageError, with similar names, for others.

    >>> import numpy as np
    >>> as_format(np.float16) is as_format("float16")
    True
    """
    return format if isinstance(format, Format) else FORMATS[format]
