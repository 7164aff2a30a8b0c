"""Casts of systems that round at random: a rule for a format and a source, with its number of random bits."""

from __future__ import annotations

from mpsim.errors import UsageError
from mpsim.formats import FORMATS, Format
from mpsim.policies import Mode, Overflow, Policy
from mpsim.validate.cast import nans
from mpsim.validate.cast.presets import Cast, Preset
from mpsim.validate.cast.rules import Rule
from mpsim.validate.sources import Source

#: Random bits of each number: float16 and bfloat16 share a word in pairs, the others in fours, a byte each.
_PTX_BITS = {
    "float16": 13, "bfloat16": 16, "float8_e4m3fn": 8, "float8_e5m2": 8, "float6_e2m3fn": 8, "float6_e3m2fn": 8,
    "float4_e2m1fn": 8,
}  # fmt: skip


def _ptx_rs(overflow: Overflow, narrow: bool) -> Cast:
    def rule(format: Format, source: Source) -> Rule | None:
        bits = _PTX_BITS.get(format.name)
        if source.name != "float32" or bits is None or FORMATS[format.name] != format or (bits == 8 and not narrow):
            return None
        return Rule(format, Policy(Mode.STOCHASTIC, overflow, bits), nan_codes=nans.ANY)

    return rule


_SOURCE = (
    "PTX ISA, cvt.rs with rbits; TransformerEngine, common/util/ptx_arch_spec.cuh (element i of four takes byte i); "
    "codes of NaN are not compared"
)
STOCHASTIC_PRESETS = {
    row.name: row
    for row in (
        Preset("ptx_rs", "PTX cvt.rs to pairs of float16 or bfloat16", _SOURCE, _ptx_rs(Overflow.INFINITY, False)),
        Preset("ptx_rs_satfinite", "PTX cvt.rs.satfinite", _SOURCE, _ptx_rs(Overflow.SATURATE, True)),
    )
}


def stochastic_rule(name: str, format: Format, source: Source) -> Rule:
    """Returns the rule of a preset. Raises UsageError if it has none for the format and source.

    >>> from mpsim.validate.sources import SOURCES
    >>> stochastic_rule("ptx_rs", FORMATS["float16"], SOURCES["float32"]).policy.random_bit_count
    13
    """
    found = STOCHASTIC_PRESETS[name].rule(format, source)
    if found is None:
        raise UsageError(f"preset {name!r} has no cast from {source.name} to {format}")
    return found
