"""Probes of how many bits a sum keeps, of its rounding, and of its least alignment, in an order that is known."""

from __future__ import annotations

import numpy as np

from mpsim.kernels.contract import Array
from mpsim.validate.dot.inputs.probes import Measurement, Order, Prober


def find_widths(prober: Prober, order: Order) -> list[Measurement]:
    """How many bits below a large number are kept: within one addition or alignment, and in the sum carried on.

    The order is known. What is left at the end is a power of two, which no output format hides.
    """
    terms = order.terms
    step = terms if 2 * terms < prober.length else 1
    distances = np.arange(1, prober.big - prober.small + 1)
    carried = _kept(prober, distances, (0, 2 * step, step))
    found = [Measurement("sum_bits", carried, f"a sum keeps {_bits(carried, distances)} below its leading one")]
    if terms > 1:
        places = (0, 1, 2) if terms > 2 else (0, 3, 2)
        aligned = _kept(prober, distances, places)
        words = f"terms added at once keep {_bits(aligned, distances)} below the largest exponent"
        found.append(Measurement("alignment_bits", aligned, words))
    return found


def _kept(prober: Prober, distances: Array, places: tuple[int, int, int]) -> int:
    """The largest distance d such that 2**(small + d), its negative and 2**small, at the places, leave 2**small."""
    first, second, witness = places
    s = prober.small
    probes = [[(first, s + int(d), 1), (witness, s, 1), (second, s + int(d), -1)] for d in distances]
    kept = prober.ask(probes) == 2.0**s
    return int(distances.size if kept.all() else np.argmin(kept))


def _bits(count: int, distances: Array) -> str:
    if count == distances.size:
        return f"at least {count} bits"
    return f"{count} bits" + {23: " (float32)", 52: " (float64)"}.get(count, "")


#: mode -> whether 1/4, 1/2, 3/4 of a unit above an even and above an odd positive number, then negative ones, go up
#: in magnitude
ROUNDINGS = {
    "nearest_even": (0, 0, 1, 0, 1, 1) * 2,
    "nearest_away": (0, 1, 1, 0, 1, 1) * 2,
    "nearest_zero": (0, 0, 1, 0, 0, 1) * 2,
    "toward_zero": (0, 0, 0, 0, 0, 0) * 2,
    "up": (1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0),
    "down": (0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1),
    "to_odd": (1, 1, 1, 0, 0, 0) * 2,
}


def find_rounding(prober: Prober, order: Order, bits: int) -> Measurement:
    """The sum of 2**bits or 2**bits + 1 when fractions of a unit are added: one rounding of a sum to ``bits``.

    2**bits is taken off again, so that a narrow output shows what is left.
    """
    terms = order.terms
    unit = max(prober.small + 2, min(0, prober.big - bits - 1))
    if bits == prober.big - prober.small:
        return Measurement("rounding", None, "not asked: no sum was seen that had to be rounded")
    if unit + bits >= prober.big or 3 * terms >= min(prober.length, order.first_chunk(prober.length)):
        return Measurement("rounding", None, "not asked: the probes or the chunks are too short")
    probes, expected = [], []
    for sign in (1, -1):
        for odd in (False, True):
            for quarters in (1, 2, 3):
                base = [(0, unit + bits, sign)] + ([(terms, unit, sign)] if odd else [])
                rest = [(2 * terms, unit - 1, sign * quarters / 2), (3 * terms, unit + bits, -sign)]
                probes.append([*base, *rest])
                expected.append(2.0**unit * odd)
    left = np.abs(prober.ask(probes))
    if not np.isin(left, [0.0, 2.0**unit, 2.0 ** (unit + 1)]).all():
        return Measurement("rounding", None, "a sum is rounded in a way that these probes do not explain")
    up = tuple(int(x) for x in (left > np.array(expected)))
    modes = [mode for mode, pattern in ROUNDINGS.items() if pattern == up]
    if modes:
        return Measurement("rounding", modes[0], f"a sum is rounded {modes[0].replace('_', ' ')}")
    return Measurement("rounding", None, f"a sum is rounded in no mode of these: {', '.join(ROUNDINGS)} ({up})")


def find_least_alignment(prober: Prober, fraction_bits: int, toward_zero: bool) -> Measurement:
    """The exponent of a sum of zero, to which terms are aligned at least.

    A small term beside one at the end of the range decides what their sum is rounded to, if it is seen at all.
    """
    quantum = prober.least  # the smallest sum
    low = quantum if toward_zero else quantum - 1
    if quantum <= prober.range[0] or low < 2 * prober.inputs.min_exponent:
        return Measurement("least_alignment", None, "not asked: no two of these inputs have so small a product")
    smallest = max(2 * prober.inputs.quantum_exponent, low - fraction_bits - 2)
    exponents = np.arange(low - 1, smallest - 1, -1)
    probes = [[(0, low, 1.0), (1, int(e), -1.0 if toward_zero else 1.0)] for e in exponents]
    seen = prober.ask(probes) == (0.0 if toward_zero else 2.0**quantum)
    if seen.all() or not seen[0]:
        return Measurement("least_alignment", None, "not seen: every term that these inputs have was kept, or none")
    least = int(exponents[int(np.argmin(seen)) - 1]) + fraction_bits
    if least <= low:
        return Measurement("least_alignment", None, f"none: terms are aligned to the largest, down to 2**{low}")
    return Measurement("least_alignment", least, f"terms are aligned to 2**{least} at least, as if c were that large")
