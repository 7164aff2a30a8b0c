"""Draws number lines and rounding functions as SVG that is part of a page, so that it follows the page's colours."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from math import log2

from mpsim.formats import Format

WIDTH = 720
MARGIN = 30


def figure(svg: str, height: float, label: str, caption: str, width: float = WIDTH) -> str:
    """A picture with its caption, as HTML without blank lines."""
    picture = f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{label}">{svg}</svg>'
    kind = "drawn wide" if width == WIDTH else "drawn"
    return f'<figure class="{kind}"><div>{picture}</div><figcaption>{caption}</figcaption></figure>\n'


def _line(x1: float, y1: float, x2: float, y2: float, kind: str = "") -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _ticks(places: Iterable[float], top: float = 22, bottom: float = 38) -> str:
    """One mark at each place; places that are drawn alike get one mark."""
    drawn = dict.fromkeys(f"{place:.1f}" for place in places)
    return f'<path class="tick" d="{"".join(f"M{place} {top:g}V{bottom:g}" for place in drawn)}"/>'


def _text(x: float, y: float, text: str, kind: str = "") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}">{text}</text>'


def _scale(low: float, high: float, width: float = WIDTH) -> Callable[[float], float]:
    """The horizontal place of a number."""
    return lambda value: MARGIN + (value - low) / (high - low) * (width - 2 * MARGIN)


def _labels(places: Iterable[tuple[float, str]], y: float) -> str:
    """Labels from left to right, without those that would touch the one before."""
    drawn, end = [], -1e9
    for x, text in sorted(places):
        half = 3.6 * len(text) + 4
        if x - half > end:
            drawn.append(_text(x, y, text, "middle"))
            end = x + half
    return "".join(drawn)


def linear_line(format: Format) -> str:
    """Every finite number of a narrow format, at its place."""
    positive = [float(format.value(code)) for code in format.finite_codes]
    values = sorted({*positive, *(-value for value in positive if format.signed)})
    place = _scale(values[0], values[-1])
    marks = _ticks(map(place, values))
    axis = _line(place(values[0]), 38, place(values[-1]), 38)
    shown = values if len(values) <= 32 else [values[0], values[0] / 2, 0.0, values[-1] / 2, values[-1]]
    labels = _labels(((place(value), f"{value:g}".replace("-", "−")) for value in shown), 54)
    svg = marks + axis + labels
    return figure(svg, 60, f"All finite numbers of {format.name}", f"All {len(values)} finite numbers, in proportion")


def logarithmic_line(format: Format) -> str:
    """The binades of the positive numbers; in each its numbers, where they are few."""
    low = format.quantum_exponent if format.has_zero and format.subnormals else format.min_exponent
    high = format.max_exponent + 1
    place = _scale(low, high)
    parts = []
    if low < format.min_exponent:
        width = place(format.min_exponent) - place(low)
        parts.append(f'<rect class="subnormal" x="{place(low):.1f}" y="14" width="{width:.1f}" height="24"/>')
    few = high - low <= 40
    if few and format.bits <= 8:
        parts.append(_ticks(place(x) for x in map(log2, _positive(format)) if x >= low))
    elif few:
        parts.append(_ticks(map(place, range(low, high + 1))))
    parts.append(_line(place(low), 38, place(high), 38))
    named = {low: _power(low), format.min_exponent: _power(format.min_exponent), format.max_exponent: "largest"}
    if low < 0 < format.max_exponent:
        named[0] = "1"
    parts.append(_labels(((place(x), text) for x, text in named.items()), 54))
    what = "Positive numbers, each binade as wide as the next" if few else "Range of the positive numbers, in binades"
    if low < format.min_exponent:
        what += "; shaded: subnormal numbers"
    return figure("".join(parts), 60, f"Binades of {format.name}", what)


def _positive(format: Format) -> list[float]:
    return [value for code in format.finite_codes if (value := float(format.value(code))) > 0]


def _power(exponent: int) -> str:
    return f'2<tspan dy="-5" font-size="9">{str(exponent).replace("-", "−")}</tspan>'


def staircase(points: list[tuple[float, float]], caption: str) -> str:
    """A function's graph: (x, y) in rising order of x, drawn as steps over the diagonal."""
    size, left = 220.0, 30.0
    low, high = points[0][0], points[-1][0]

    def at(x: float, y: float) -> tuple[float, float]:
        unit = size / (high - low)
        return left + (x - low) * unit, 12 + size - (y - low) * unit

    lines = [_line(*at(low, low), *at(high, high), "light"), _line(*at(low, 0), *at(high, 0), "light")]
    lines.append(_line(*at(0, low), *at(0, high), "light"))
    for (x, y), (following, _) in zip(points, points[1:], strict=False):
        lines.append(_line(*at(x, y), *at(following, y), "step"))
    for value in range(int(low), int(high) + 1):
        x, y = at(value, low)
        lines.append(_text(x, y + 16, f"{value}", "middle"))
        x, y = at(low, value)
        lines.append(_text(x - 12, y + 4, f"{value}", "middle"))
    return figure("".join(lines), size + 34, caption, caption, size + 60)


@cache
def rounded_once() -> str:
    """The landing page's picture: a number that two roundings send to the wrong neighbour. All places are computed."""
    import numpy as np

    from mpsim.rounding import round_to

    x = np.nextafter(np.float64(-432.0), np.float64(0))
    once = float(round_to(x, "float8_e4m3fn", backend="reference"))
    twice = float(round_to(np.float32(x), "float8_e4m3fn", backend="reference"))
    place = _scale(-452.0, -412.0, width := 380)
    parts = [_line(place(-452), 96, place(-412), 96)]
    for value in (-448.0, -416.0):
        parts += [_line(place(value), 82, place(value), 96, "tick"), _text(place(value), 114, f"{value:g}", "middle")]
    parts.append(_line(place(-432), 90, place(-432), 102, "light"))
    parts.append(_text(place(-432), 114, "−432 (tie)", "middle light"))
    middle = place(float(x))
    parts.append(f'<circle class="tick" cx="{middle:.1f}" cy="96" r="4"/>')
    parts.append(_text(middle, 18, f"x = {float(x)!r} in float64", "middle strong"))
    parts.append(_line(middle, 26, middle, 90, "light"))
    for target, words, kind in ((once, "rounded once", "right"), (twice, "via float32", "wrong")):
        end = place(target)
        parts.append(f'<path class="{kind}" d="M{middle:.1f} 92 Q{(middle + end) / 2:.1f} 30 {end:.1f} 80"/>')
        parts.append(_text((middle + end) / 2, 46, f"{words}: {target:g}", f"middle {kind}"))
    caption = "float32 holds x only as −432, halfway between two numbers of float8_e4m3fn. The tie then goes to −448."
    return figure("".join(parts), 122, "A number rounded once, and twice", caption, width)
