"""Writes a page for each rounding mode and overflow policy. The definitions are those of docs/semantics.md."""

from __future__ import annotations

import re

import numpy as np

from mpsim.formats import FORMATS, Format
from mpsim.policies import Mode, Overflow
from mpsim.rounding import round_to
from website import pictures
from website.documents import DOCS
from website.output import session
from website.tables import code, table

#: Whole numbers: 0, 1, ..., 8, 10, ...
GRID = Format("grid", exponent_bits=3, mantissa_bits=2, bias=-1, specials="none")
INPUTS = (0.25, 0.5, 0.75, 1.5, 2.5, 3.5, -0.25, -0.5, -0.75, -1.5, -2.5)
#: What overflow policies differ on: formats with infinity, with NaN alone, with neither, and P3109's.
TARGETS = ("float8_e5m2", "float8_e4m3fn", "float4_e2m1fn", "p3109_k8p3", "p3109_k8p3_finite")


def pages() -> dict[str, str]:
    """The Markdown of every page by its path, in the order of the navigation."""
    rows = _definitions()
    found = {"modes/index.md": _modes_overview(rows)}
    for mode in Mode:
        found[f"modes/{mode}.md"] = _mode(mode, rows.get(mode.value))
    found["overflow/index.md"] = _overflow_overview(rows)
    for overflow in Overflow:
        found[f"overflow/{overflow}.md"] = _overflow(overflow, rows[overflow.value])
    return found


def _definitions() -> dict[str, list[str]]:
    """The rows of the tables in section 2 of the definition, by the name in their first cell."""
    text = (DOCS / "semantics.md").read_text(encoding="utf-8")
    section = text[text.index("## 2. Rounding") : text.index("**Legacy modes**")]
    rows = re.findall(r"^ *\| `(\w+)` \| (.*) \|$", section, re.MULTILINE)
    found = {name: [each.strip() for each in rest.split(" | ")] for name, rest in rows}
    missing = {mode.value for mode in Mode if not mode.is_legacy} | set(Overflow)
    if lacking := missing - set(found):
        raise RuntimeError(f"docs/semantics.md, section 2, has no row for {sorted(lacking)}")
    return found


def _legacy() -> str:
    """What the definition says of the legacy modes."""
    text = (DOCS / "semantics.md").read_text(encoding="utf-8")
    (found,) = re.findall(r"^\*\*Legacy modes\*\* .*?(?=^\*\*Counts\*\*)", text, re.MULTILINE | re.DOTALL)
    return found


def _mode(mode: Mode, row: list[str] | None) -> str:
    parts = [f"# {mode}\n\n"]
    if row is None:
        parts.append(_legacy())
    else:
        parts.append(
            f"The magnitude is rounded to the larger neighbour if: {row[0]}.\n\n`discarded` is what lies beyond the "
            "smaller neighbour *keep*, in units of the distance between the two. "
            "[The definition](../semantics.md#2-rounding) has the complete rule.\n\n"
        )
    if mode.needs_random_bits:
        parts.append(_chances(mode))
    elif not mode.is_legacy:
        parts.append("## Picture\n\n" + _picture(mode) + "\n## Values\n\n" + _examples(mode))
    return "".join(parts) + "## Example\n\n" + _session(mode)


def _picture(mode: Mode) -> str:
    x = np.arange(-4, 4 + 2**-8, 2**-7)
    y = round_to(x, GRID, mode, backend="reference")
    points = list(zip(map(float, x), map(float, y), strict=True))
    return pictures.staircase(points, f"{mode}, where the numbers of the format are whole")


def _examples(mode: Mode) -> str:
    results = round_to(np.array(INPUTS), GRID, mode, backend="reference")
    rows = [("x", *(f"{x:g}" for x in INPUTS)), ("result", *(f"{y:g}" for y in results))]
    return "For a format whose numbers near zero are whole:\n\n" + table(rows[0], rows[1:])


def _chances(mode: Mode) -> str:
    """How many of the random words give the larger neighbour, counted over all words of three bits."""
    words, target = np.arange(8, dtype=np.uint32), GRID
    more = {"random_bit_count": 3, "overflow": Overflow.INFINITY}
    what = "with 3 random bits"
    if mode.is_legacy:  # it reads as many bits as are discarded
        target = FORMATS["fp_4_1_0"]  # which has the whole numbers 2 and 3
        lowest = 23 - target.mantissa_bits - 3
        words, more = words << np.uint32(lowest), {"overflow": Overflow.SATURATE}
        what = f"of which only the three highest of the {lowest + 3} bits that are read differ from 0"
    rows = []
    for x in np.float32([2, 2.0625, 2.125, 2.25, 2.5, 2.75, 2.9375]):
        y = round_to(np.full(8, x), target, mode, random_bits=words, backend="reference", **more)
        rows.append((f"{x:g}", f"{np.sum(y == 2)} of 8", f"{np.sum(y == 3)} of 8"))
    return (
        f"## Frequencies\n\nCounted over all random words {what}, where the numbers of the format are whole:\n\n"
        + table(("x", "result 2", "result 3"), rows)
    )


def _session(mode: Mode) -> str:
    words = ["round", "0.3", "--format", "fp_4_3_4", "--mode", mode.value]
    if mode.needs_random_bits:
        words += ["--random-bits", "7"]
    if mode.takes_bit_count:
        words += ["--random-bit-count", "3"]
    if mode.is_legacy:
        words += ["--overflow", "saturate", "--source", "float32"]
    return code(session(*words))


def _overflow(policy: Overflow, row: list[str]) -> str:
    parts = [
        f"# {policy}\n\nA finite number beyond the largest becomes: {row[0]}.\n\nInfinity becomes: {row[1]}.\n\n"
        "[The definition](../semantics.md#2-rounding) has the complete rule.\n\n## Results\n\n"
        "Twice the largest number, and infinity, rounded in four modes:\n\n"
    ]
    modes = (Mode.NEAREST_EVEN, Mode.TOWARD_ZERO, Mode.UP, Mode.DOWN)
    rows = []
    for name in TARGETS:
        format = FORMATS[name]
        for words, x in (("2 · largest", 2 * format.largest), ("−2 · largest", -2 * format.largest), ("inf", np.inf)):
            given = np.array([x])
            results = [float(round_to(given, format, mode, policy, backend="reference")[0]) for mode in modes]
            rows.append((f"`{name}`", words, *(f"{y:g}" for y in results)))
    parts.append(table(("format", "x", *(f"`{mode}`" for mode in modes)), rows))
    words = ("round", "500", "inf", "--format", "float8_e4m3fn", "--overflow", policy.value)
    return "".join(parts) + "## Example\n\n" + code(session(*words))


def _modes_overview(rows: dict[str, list[str]]) -> str:
    lines = [
        (f"[`{mode}`]({mode}.md)", rows[mode.value][0] if mode.value in rows else "as QPyTorch computes it")
        for mode in Mode
    ]
    return (
        "# Rounding modes\n\nA mode decides which of the two neighbours of a number is the result. *keep* is the "
        "magnitude of the smaller one, in units of the distance between them, and *discarded* is the rest.\n\n"
        + table(("mode", "the larger magnitude if"), lines)
    )


def _overflow_overview(rows: dict[str, list[str]]) -> str:
    lines = [(f"[`{policy}`]({policy}.md)", *rows[policy.value]) for policy in Overflow]
    return (
        "# Overflow policies\n\nA policy decides what a result beyond the largest finite number becomes.\n\n"
        + table(("policy", "a finite number becomes", "infinity becomes"), lines)
    )
