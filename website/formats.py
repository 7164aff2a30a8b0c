"""Writes a page for each format of ``mpsim.FORMATS``, and one for each family of formats with parameters."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import numpy as np

from mpsim.assignment import LEVELS
from mpsim.blocks import BLOCK_FORMATS
from mpsim.formats import FORMATS, SOURCES, SPECIALS, Format
from mpsim.kernels import spec_codes
from mpsim.rounding import decode
from mpsim.validate.cast.presets import rules
from mpsim.validate.sources import SOURCES as NUMBER_SOURCES
from website import pictures
from website.output import session
from website.tables import code, plain, slug, table


def pages() -> dict[str, str]:
    """The Markdown of every page by its path, in the order of the navigation."""
    found = {"formats/index.md": _overview()}
    for format in FORMATS.values():
        found[f"formats/{format.name}.md"] = page(format, SOURCES[format.name])
    found["formats/fp_E_M_B.md"] = _paper_family()
    found["formats/p3109.md"] = _p3109_family()
    found["formats/ueEmM.md"] = _scales()
    return found


def page(format: Format, source: str) -> str:
    """The page of one format."""
    parts = [
        f"# {format.name}\n\n{_sentence(format)}\n\n",
        f"Source: {plain(source)}. Special codes: {SPECIALS[format.specials]} (`{format.specials}`).\n\n",
        "## Numbers\n\n",
        pictures.linear_line(format) if format.bits <= 8 and format.max_exponent < 20 else "",
        "\n",
        pictures.logarithmic_line(format),
        "\n",
        "## Properties\n\n" + _properties(format),
        "## Codes\n\n" + _landmarks(format),
        _values(format) if format.bits <= 8 else _binades(format),
        "## Example\n\n" + code(session("round", "0.3", "--format", format.name)),
        _uses(format),
    ]
    return "".join(parts)


def _sentence(format: Format) -> str:
    sign = "a sign bit, " if format.signed else "no sign bit, "
    return (
        f"A format of {format.bits} bits: {sign}{format.exponent_bits} exponent bits with bias {format.bias}, and "
        f"{format.mantissa_bits} mantissa bits, i.e. {_count(format.precision, 'significant bit')}."
    )


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _properties(format: Format) -> str:
    threshold, tie = format.overflow_threshold
    rows = [
        ("largest finite number", number(format.largest)),
        ("smallest normal number", number(format.smallest_normal)),
        ("smallest positive number", number(format.smallest)),
        ("distance from 1 to the next number", number(2.0**-format.mantissa_bits)),
        ("`nearest_even` overflows from", f"{number(threshold)}{'' if tie else ' (exclusive)'}"),
        ("subnormal numbers", _yes(format.subnormals and format.has_zero and format.mantissa_bits > 0)),
        ("infinity", _yes(format.has_infinity)),
        ("NaN", _yes(format.has_nan)),
        ("negative zero", _yes(format.has_negative_zero)),
    ]
    return table(["property", "value"], rows)


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def number(value: float) -> str:
    """A number in decimal digits, and as significand and power of two where this is not the same at a glance."""
    if value != value or value in (float("inf"), float("-inf")):
        return str(value)
    fraction = Fraction(value)
    if fraction.denominator == 1 and abs(value) < 1e6:
        return f"{value:.0f}".replace("-", "−")
    significand, exponent = fraction.numerator, -fraction.denominator.bit_length() + 1
    while significand and significand % 2 == 0:
        significand, exponent = significand // 2, exponent + 1
    power = f"2<sup>{exponent}</sup>".replace("-", "−")
    exact = power if significand == 1 else f"{significand:,} · {power}"
    return f"{value!r} = {exact}" if len(repr(value)) < 12 else exact


def _code(value: int, format: Format) -> str:
    """A code in hexadecimal digits and, its fields apart, in binary ones."""
    digits = f"{value:0{format.bits}b}"
    sign = int(format.signed)
    fields = (digits[:sign], digits[sign : sign + format.exponent_bits], digits[sign + format.exponent_bits :])
    return f"`0x{value:0{-(-format.bits // 4)}x}` | `{' '.join(field for field in fields if field)}`"


def _landmarks(format: Format) -> str:
    """The codes that matter: both ends, the change to subnormal numbers, 1, infinity and NaN."""
    step = 1 << format.mantissa_bits
    found: list[tuple[str, int]] = []
    if format.has_zero:
        found.append(("zero", 0))
        if format.subnormals and format.mantissa_bits:
            found += [("smallest subnormal number", 1), ("largest subnormal number", step - 1)]
        found.append(("smallest normal number", step))
    else:
        found.append(("smallest number", 0))
    one = next((c for c in (spec_codes.encode(1.0, format),) if 0 < c <= format.largest_code), None)
    found += [("one", one)] if one is not None else []
    found.append(("largest number", format.largest_code))
    if format.infinity_code is not None:
        found.append(("infinity", format.infinity_code))
    if format.nan_code is not None:
        found.append(("NaN (canonical)", format.nan_code))
    if format.has_negative_zero:
        found.append(("negative zero", format.sign_mask))
    lines = ["| meaning | code | sign, exponent, mantissa | value |\n|---|---|---|---|\n"]
    lines += [f"| {what} | {_code(each, format)} | {number(_value(each, format))} |\n" for what, each in found]
    return "".join(lines) + "\n"


def _value(each: int, format: Format) -> float:
    dtype = {8: np.uint8, 16: np.uint16, 32: np.uint32, 64: np.uint64}[format.code_bits]
    return float(decode(np.array([each], dtype), format, dtype=np.float64, backend="reference")[0])


def _values(format: Format) -> str:
    """Every code of a narrow format; of a signed one those with a positive sign."""
    count = 1 << (format.bits - format.signed)
    width = min(8, count)
    rows = []
    for start in range(0, count, width):
        row = [f"**0x{start:02x}**"]
        row += [_short(_value(each, format)) for each in range(start, start + width)]
        rows.append(row)
    words = "The value of every code." if not format.signed else (
        f"The value of every code with sign bit 0. With sign bit 1, i.e. 0x{count:x} more, the value has the other sign"
        f"{', except for NaN' if format.has_nan else ''}."
    )  # fmt: skip
    return f"## Values\n\n{words}\n\n" + table(["code", *(f"+{i}" for i in range(width))], rows)


def _short(value: float) -> str:
    """A number in few letters: decimal digits if few hold it, else as a multiple of a power of two."""
    text = f"{value:g}"
    return text if value != value or float(text) == value else number(value).rpartition(" = ")[2].replace(" ", "")


def _binades(format: Format) -> str:
    """The range and the spacing of the numbers, for exponents at the ends and around 1."""
    first, last = format.min_exponent, format.max_exponent
    chosen = sorted({first, first + 1, -1, 0, 1, last - 1, last} & set(range(first, last + 1)))
    rows: list[list[object]] = []
    if format.subnormals and format.mantissa_bits:
        rows.append(["0 (subnormal)", "0", number(2.0**first), number(2.0**format.quantum_exponent)])
    for exponent in chosen:
        high = "largest" if exponent == last else number(2.0 ** (exponent + 1))
        spacing = number(2.0 ** (exponent - format.mantissa_bits))
        rows.append([exponent + (format.bias or 0), number(2.0**exponent), high, spacing])
    words = f"Between two powers of two there are {2**format.mantissa_bits:,} numbers with equal distances."
    return f"## Binades\n\n{words}\n\n" + table(["exponent field", "from", "below", "distance"], rows)


def _uses(format: Format) -> str:
    """Where the format occurs among the presets of casts and the block formats."""
    names = sorted({name for source in NUMBER_SOURCES.values() for name in rules(format, source)})
    casts = ", ".join(f"[{plain(name)}](../presets/casts/{slug(name)}.md)" for name in names)
    blocks = [row.name for row in BLOCK_FORMATS.values() if format in (row.element, row.scale)]
    parts = ["## Uses\n\n"]
    parts.append(f"Presets of casts to this format: {casts}.\n\n" if casts else "No preset casts to this format.\n\n")
    if blocks:
        links = ", ".join(f"[{name}](../presets/quantisers/{name}.md)" for name in blocks)
        parts.append(f"Block formats with it, as element or scale: {links}.\n")
    return "".join(parts)


def _overview() -> str:
    rows = [
        [f"[{row.name}]({row.name}.md)", row.bits, row.exponent_bits, row.mantissa_bits, row.bias, f"{row.largest:g}",
         f"{row.smallest:g}", _yes(row.has_infinity), _yes(row.has_nan)]
        for row in FORMATS.values()
    ]  # fmt: skip
    headings = ["name", "bits", "exponent", "mantissa", "bias", "largest", "smallest", "infinity", "NaN"]
    return (
        "# Formats\n\nA format has one declaration in `mpsim/formats/table.py`. These pages are derived from it. "
        "[The definition](../semantics.md#1-formats) says how a code is read.\n\n"
        + table(headings, rows)
        + "Three families have parameters in their names: [`fp_E_M_B`](fp_E_M_B.md), [IEEE P3109](p3109.md) and "
        "[`ueEmM`](ueEmM.md). "
        "Any other format is a [`Format`](../api/mpsim.Format.md) of your own.\n"
    )


def of_levels() -> dict[str, Format]:
    """The formats of the named levels of plans, by their names."""
    return {row.name: row for levels in LEVELS.values() for level in levels.steps for row in level.values()}


def _paper_family() -> str:
    rows = [
        [f"`{row.name}`", row.bits, row.bias, f"{row.largest:g}", f"{row.smallest:g}"]
        for row in of_levels().values() if row.name.startswith("fp_")
    ]  # fmt: skip
    return (
        "# fp_E_M_B\n\nThe family of the paper (Lee, Sharma and Aiken 2023, §4.1): E exponent bits, M mantissa bits, "
        "and a bias of 2<sup>E−1</sup> − 1 + B. A larger B moves the range down. An `n` before B is a minus sign. With "
        "E = 8 the top exponent encodes infinity and NaN. Every other format of the family has finite numbers only.\n\n"
        "These formats of the family occur in the named levels of plans:\n\n"
        + table(["name", "bits", "bias", "largest", "smallest"], rows)
        + "## Example\n\n"
        + code(session("formats", "fp_4_3_4", "fp_8_7_0", "fp_4_3_n2"))
        + "## An example in full\n\n"
        + page(FORMATS["fp_4_3_4"], "Lee, Sharma and Aiken 2023, §4.1").split("\n\n", 1)[1].replace("\n## ", "\n### ")
    )


def _p3109_family() -> str:
    def rows(signed: bool, width: int) -> Iterator[list[object]]:
        for precision in range(1, width + (not signed)):
            for finite in ("", "_finite"):
                row = FORMATS[f"p3109_k{width}p{precision}{'' if signed else 'u'}{finite}"]
                reach = [f"{row.largest:g}", f"{row.smallest:g}"] if row.fits_float64 else ["beyond float64"] * 2
                yield [f"`{row.name}`", row.exponent_bits, row.bias, *reach]

    parts = [
        "# IEEE P3109\n\nThe formats of the Interim Report v4.0 (§3) of the IEEE working group P3109. "
        "`p3109_kKpP` has K bits, of which P are significant. `u` marks unsigned formats, `_finite` those without "
        "infinity. mpsim has all 504: K from 3 to 16, P from 1 to K − 1 (unsigned: K).\n\n"
        "## Example\n\n" + code(session("round", "0.3", "--format", "p3109_k8p3")),
        "## All formats\n\n",
    ]
    for width in range(3, 17):
        for signed in (True, False):
            parts.append(f"### {width} bits, {'signed' if signed else 'unsigned'}\n\n")
            parts.append(table(["name", "exponent bits", "bias", "largest", "smallest"], rows(signed, width)))
    example = page(FORMATS["p3109_k8p3"], "IEEE P3109 Interim Report v4.0, §3").split("\n\n", 1)[1]
    return "".join(parts) + "## One of them in full: p3109_k8p3\n\n" + example.replace("\n## ", "\n### ")


def _scales() -> str:
    found = [FORMATS[f"ue{exponent}m{mantissa}"] for exponent in range(1, 8) for mantissa in range(1, 8)]
    rows = [[f"`{row.name}`", row.bits, row.bias, f"{row.largest:g}", f"{row.smallest:g}"] for row in found]
    example = page(FORMATS["ue4m3"], "PTX ISA, alternate floating-point formats").split("\n\n", 1)[1]
    return (
        "# ueEmM\n\nFormats of scales without a sign bit, in PTX's names: E exponent bits, M mantissa bits, and NaN is "
        "the code of all ones. `ue8m0` is [float8_e8m0fnu](float8_e8m0fnu.md).\n\n"
        + table(["name", "bits", "bias", "largest", "smallest"], rows)
        + "## One of them in full: ue4m3\n\n" + example.replace("\n## ", "\n### ")
    )  # fmt: skip
