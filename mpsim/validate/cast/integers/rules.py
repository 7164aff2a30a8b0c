"""Describes casts to integers as data, and declares those of processors and languages.

mpsim.integers defines the policies, docs/semantics.md §2.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from mpsim.files.records import Fields, Record
from mpsim.formats import FORMATS
from mpsim.integers import Integer, IntegerOverflow, IntegerPolicy, as_integer, from_integer, to_integer
from mpsim.kernels.contract import Array
from mpsim.policies import Mode
from mpsim.rounding import round_to
from mpsim.validate.sources import Source

#: Ways to round by adding half in the source's arithmetic, which itself rounds: what follows, and its sentence.
HALVES = {
    "truncated": "half is added with the sign of x, in the arithmetic of the source, and the sum is truncated",
    "floored": "half is added, in the arithmetic of the source, and the floor of the sum is taken",
}


@dataclass(frozen=True)
class IntegerRule:
    """Describes how a cast to an integer type treats every input.

    Args:
        target: The integer type.
        policy: Mode, overflow, NaN and infinity. They apply to ``via`` if there is one.
        any_nan: Whether every result for NaN counts as right.
        via: A wider integer type to which x is converted first, or None.
        then: What the second conversion does beyond the range: "wrap" or "saturate".
        rounded_to: A format to which x is rounded first (to nearest even), or None.
        half: A key of ``HALVES``, in place of the mode, or None.
        zero_point_first: Whether the zero point is added in float32 before rounding.
    """

    target: Integer
    policy: IntegerPolicy = IntegerPolicy()
    any_nan: bool = False
    via: str | None = None
    then: str = "wrap"
    rounded_to: str | None = None
    half: str | None = None
    zero_point_first: bool = False

    def with_(self, **changes: Any) -> IntegerRule:
        """Returns this rule with some fields changed. Fields of the policy are given by their names."""
        own = {name: value for name, value in changes.items() if name in self.__dataclass_fields__}
        of_policy = {name: value for name, value in changes.items() if name not in own}
        return replace(self, policy=replace(self.policy, **of_policy), **own)

    @property
    def rounds_once(self) -> bool:
        """Whether the result is the exact value, rounded once."""
        return self.rounded_to is None and self.half is None and not self.zero_point_first

    def codes(self, x: Array, source: Source) -> Array:
        """Returns the uint64 codes of the results for x."""
        type, policy = self.target, self.policy
        if self.rounded_to is not None and source.may_pass(FORMATS[self.rounded_to]):
            x = np.asarray(round_to(x, self.rounded_to, "nearest_even", "infinity", threads=1))
        mode: Mode = policy.mode
        if x.dtype.kind == "f":
            with np.errstate(invalid="ignore", over="ignore"):
                if self.half is not None:
                    half = x.dtype.type(0.5)
                    x = x + (np.copysign(half, x) if self.half == "truncated" else half)
                    mode = Mode.TOWARD_ZERO if self.half == "truncated" else Mode.DOWN
                if self.zero_point_first:
                    x, type = x.astype(np.float32) + np.float32(type.zero_point), replace(type, zero_point=0)
        options: Fields = {"nan": policy.nan, "infinity": policy.infinity}
        if self.via is None:
            found = to_integer(x, type, mode, policy.overflow, **options)
        else:
            first = from_integer(to_integer(x, self.via, mode, policy.overflow, **options), self.via)
            found = to_integer(first, type, overflow=self.then)
        return unsigned_codes(found, type)

    def describe(self, source: Source | None = None) -> str:
        """Describes the rule in one phrase, without the mode for a source whose numbers are integers."""
        policy = self.policy
        parts = [HALVES[self.half] if self.half else policy.mode.value]
        if source is not None and source.integer is not None:
            parts = []
        if self.rounded_to:
            parts.insert(0, f"rounded to {self.rounded_to} first")
        if self.zero_point_first:
            parts.append("the zero point is added before rounding, in float32")
        if self.via:
            kept = "the low bits are kept" if self.then == "wrap" else "the range is cut"
            parts.append(f"to {self.via} first (overflow {policy.overflow.value}), of which {kept}")
        else:
            parts.append(f"overflow {policy.overflow.value}")
        if policy.infinity != "overflow":
            parts.append(f"infinity becomes {words_of(policy.infinity)}")
        if not self.any_nan:
            parts.append(f"NaN becomes {words_of(policy.nan)}" + f" of {self.via}" * bool(self.via))
        return ", ".join(parts)

    def to_dict(self) -> Record:
        """Returns the fields as JSON types."""
        policy = self.policy
        return {
            "target": self.target.name,
            "mode": policy.mode.value,
            "overflow": policy.overflow.value,
            "infinity": policy.infinity,
            "nan": "any" if self.any_nan else policy.nan,
            "via": self.via,
            "then": self.then,
            "rounded_to": self.rounded_to,
            "half": self.half,
            "zero_point_first": self.zero_point_first,
        }


def words_of(special: str | int) -> str:
    """Returns words for what NaN or infinity becomes."""
    words = {
        "zero": "0", "least": "the smallest number", "most": "the largest number",
        "indefinite": "the indefinite integer (only the sign bit; all bits if unsigned)",
    }  # fmt: skip
    return words.get(str(special), str(special))


def unsigned_codes(codes: Array, type: Integer) -> Array:
    """Returns what ``to_integer`` returned as uint64 codes."""
    return codes.view(f"uint{type.code_bits}").astype(np.uint64) & np.uint64((1 << type.bits) - 1)


# -- presets --------------------------------------------------------------------------------------------------


#: The rule of a system for a type and a source, or None.
Cast = Callable[[Integer, Source], IntegerRule | None]


class IntegerPreset(NamedTuple):
    """The cast to integers of a system. ``rule`` returns its rule for (type, source), or None."""

    name: str
    what: str
    source: str
    rule: Cast


_WORDS = ("int32", "int64", "uint32", "uint64")
_ALL = ("int8", "uint8", "int16", "uint16", *_WORDS)
_TIES_EVEN: Fields = {"mode": Mode.NEAREST_EVEN}


def _cast(names: tuple[str, ...], sources: tuple[str, ...] = ("float32", "float64"), **policy: Any) -> Cast:
    """A rule for these types and sources, by default toward zero."""

    def rule(type: Integer, source: Source) -> IntegerRule | None:
        if type.name not in names or type != as_integer(type.name) or source.name not in sources:
            return None
        return IntegerRule(type, IntegerPolicy(**({"mode": Mode.TOWARD_ZERO} | policy)))

    return rule


def _ptx(mode: Mode) -> Cast:
    def rule(type: Integer, source: Source) -> IntegerRule | None:
        if type.name not in _WORDS or source.name not in ("float16", "float32", "float64"):
            return None
        zero = source.name != "float64" and type.bits != 64
        nan = "zero" if zero else "least" if type.signed else 1 << type.bits - 1
        return IntegerRule(type, IntegerPolicy(mode, nan=nan))

    return rule


def _java(type: Integer, source: Source) -> IntegerRule | None:
    if type.name not in ("int8", "int16", "int32", "int64") or source.name not in ("float32", "float64"):
        return None
    via = "int32" if type.bits < 32 else None
    return IntegerRule(type, IntegerPolicy(Mode.TOWARD_ZERO), via=via)


def _onnx(type: Integer, source: Source) -> IntegerRule | None:
    known = type.bits in (4, 8, 16) and type.layout == "twos_complement"
    return IntegerRule(type, any_nan=True) if known and source.name in ("float16", "bfloat16", "float32") else None


_X86: Fields = {"overflow": IntegerOverflow.INDEFINITE, "nan": "indefinite"}
_SDM = "Intel SDM, CVTTSS2SI, CVTSS2SI (indefinite integer); VCVTTPS2UDQ (2**w - 1)"
_ARM = "Arm ARM DDI 0487, FPToFixed: saturation; NaN gives 0"
_RISC_V = "RISC-V unprivileged ISA, 'F' extension, table of invalid inputs of FCVT.int"
_PTX = "PTX ISA, cvt: integers are clamped; NaN gives 0, for .f64, .s64 and .u64 only the highest bit"
PRESETS = {
    row.name: row
    for row in (
        IntegerPreset("x86", "x86 cvtt, also C casts on x86 to these types", _SDM, _cast(_WORDS, **_X86)),
        IntegerPreset("x86_nearest", "x86 cvt with the default mode", _SDM, _cast(_WORDS, **_X86, **_TIES_EVEN)),
        IntegerPreset("arm", "Arm FCVTZS, FCVTZU", _ARM, _cast(_WORDS, ("float16", "float32", "float64"))),
        IntegerPreset(
            "arm_nearest", "Arm FCVTNS, FCVTNU", _ARM, _cast(_WORDS, ("float16", "float32", "float64"), **_TIES_EVEN)
        ),
        IntegerPreset("riscv", "RISC-V fcvt with rtz", _RISC_V, _cast(_WORDS, nan="most")),
        IntegerPreset("riscv_nearest", "RISC-V fcvt with rne", _RISC_V, _cast(_WORDS, nan="most", **_TIES_EVEN)),
        IntegerPreset("ptx", "PTX cvt.rzi", _PTX, _ptx(Mode.TOWARD_ZERO)),
        IntegerPreset("ptx_nearest", "PTX cvt.rni", _PTX, _ptx(Mode.NEAREST_EVEN)),
        IntegerPreset("rust", "Rust as, LLVM fptosi.sat", "Rust Reference, type cast expressions", _cast(_ALL)),
        IntegerPreset("java", "Java casts", "Java Language Specification §5.1.3", _java),
        IntegerPreset(
            "ecmascript", "ToInt32, ToUint32, ToInt8, ...", "ECMA-262 §7.1.6 to §7.1.11",
            _cast(("int8", "uint8", "int16", "uint16", "int32", "uint32"), ("float64",), overflow=IntegerOverflow.WRAP),
        ),
        IntegerPreset("onnx", "ONNX QuantizeLinear with scale 1; NaN is not specified", "ONNX operators", _onnx),
    )
}  # fmt: skip


def presets(type: Integer, source: Source) -> dict[str, IntegerRule]:
    """Returns the rules of the presets that support a type and source.

    >>> from mpsim.validate.sources import SOURCES
    >>> "x86" in presets(as_integer("int32"), SOURCES["float32"])
    True
    """
    found = {name: preset.rule(type, source) for name, preset in PRESETS.items()}
    return {name: rule for name, rule in found.items() if rule is not None}
