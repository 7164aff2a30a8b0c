"""The accumulators that a subject's measurements allow."""

from __future__ import annotations

from mpsim.accumulators import Accumulator
from mpsim.formats import FORMATS, as_format
from mpsim.tensor_cores import TENSOR_CORES
from mpsim.validate.dot.probes import Measurement, Order

#: Alignments wider than the probes could see, up to so many bits more.
BEYOND = 12
#: Tried in any case.
KNOWN = (Accumulator(), Accumulator(chunk=None), Accumulator(kind="exact"))


def candidates(measurements: list[Measurement], order: Order, inputs: str) -> list[Accumulator]:
    """Accumulators that the measurements allow, the simplest first, then every tensor core of these inputs."""
    value = {m.name: m.value for m in measurements}
    found = [Accumulator(kind="exact")] if order.exact else []
    bits = value.get("sum_bits", 23)
    for terms, chunk in order.chains:
        if terms == 1:
            found += [Accumulator(chunk=chunk, fma=fma) for fma in (True, False)] if bits == 23 else []
            found += [Accumulator(format=name, chunk=chunk) for name in _narrow_formats(bits)]
            if value.get("rounding") != "nearest_even":
                found += [each for n in range(bits, bits + 3) for each in _aligned(1, chunk, n, bits, inputs)]
        else:
            aligned = value["alignment_bits"]
            more = BEYOND if aligned == order.span else 0  # then the probes saw no end of the bits
            found += [each for n in range(more + 1) for each in _aligned(terms, chunk, aligned + n, bits, inputs)]
    found += [Accumulator(kind="pairwise", chunk=block, fma=fma) for block in order.pairs for fma in (True, False)]
    found += [row.accumulator for row in TENSOR_CORES.values() if row.inputs == inputs]
    found += KNOWN
    return list(dict.fromkeys(found))


def _narrow_formats(bits: int) -> list[str]:
    """Formats of sums with so many fraction bits."""
    named = [name for name, f in FORMATS.items() if f.mantissa_bits == bits and f.fits_float32 and name != "float32"]
    usable = [name for name in named if as_format(name).signed and as_format(name).has_zero]
    return list(dict.fromkeys([*usable, *(f"fp_{e}_{bits}_0" for e in range(8, 2, -1) if bits < 23)]))


def _aligned(terms: int, chunk: int | None, aligned: int, bits: int, inputs: str) -> list[Accumulator]:
    """Sums of ``terms`` products at once: those whose outputs keep at least the measured bits."""
    formats = (
        ["float32"] if bits in (23, aligned) or bits > 23 else []
    )  # no more bits than an alignment keeps can be measured
    formats += [f"fp_8_{bits}_0"] if bits < 23 else []
    formats += [name for name in _narrow_formats(bits) if bits < 23 and name in FORMATS]
    operands = [inputs, "tf32"] if inputs == "float32" else [inputs]
    return [
        Accumulator(format, chunk, True, "aligned", terms, aligned, rounding, operand)
        for operand in operands
        for rounding in ("toward_zero", "nearest_even")
        for format in formats
        if aligned >= 1 and aligned + 2 + (terms + 1).bit_length() <= 53
    ]
