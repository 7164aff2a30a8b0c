"""Declares the casts of real systems. For a format and a source, a preset gives the Rule that the system follows.

The facts come from running the system or from its specification, as ``source`` says. A preset returns None for formats
or sources that the system does not support.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from mpsim.errors import UsageError
from mpsim.formats import FORMATS, Format
from mpsim.kernels import spec
from mpsim.policies import Mode, Overflow, Policy
from mpsim.validate.cast import nans
from mpsim.validate.cast.rules import Rule
from mpsim.validate.sources import Source

NEAREST_SATURATE = Policy(Mode.NEAREST_EVEN, Overflow.SATURATE)
NEAREST_INFINITY = Policy(Mode.NEAREST_EVEN, Overflow.INFINITY)

#: The rule of a system for a format and a source, or None.
Cast = Callable[[Format, Source], Rule | None]


class Preset(NamedTuple):
    """The cast of a system.

    Args:
        name: The name of the preset.
        what: A description.
        source: Where the facts come from.
        rule: Returns the rule for (format, source), or None.
    """

    name: str
    what: str
    source: str
    rule: Cast


def _known(format: Format, names: tuple[str, ...]) -> bool:
    return format.name in names and FORMATS[format.name] == format


def _via_float32(source: Source) -> str | None:
    return "float32" if source.may_pass(FORMATS["float32"]) else None


_OCP = ("float8_e4m3fn", "float8_e5m2")
_FP6_FP4 = ("float6_e2m3fn", "float6_e3m2fn", "float4_e2m1fn")
_EIGHT_BIT = ("float8_e4m3", "float8_e3m4", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e4m3b11fnuz")
_ML_DTYPES = (*_OCP, *_EIGHT_BIT, *_FP6_FP4, "float8_e8m0fnu", "bfloat16")
_TORCH = (*_OCP, "float8_e4m3fnuz", "float8_e5m2fnuz")
_TORCH_E8M0 = ("sign_ignored", "small_powers_up")


def _ml_dtypes_old(format: Format, source: Source) -> Rule | None:
    if not _known(format, _ML_DTYPES):
        return None
    rule = Rule(format, NEAREST_INFINITY, via=_via_float32(source))
    if format.name in _FP6_FP4:
        return rule.with_(nan="opposite_zero")
    return rule.with_(quirks=("small_powers_up",)) if format.name == "float8_e8m0fnu" else rule


def _ml_dtypes_new(format: Format, source: Source) -> Rule | None:
    if _known(format, ("float8_e5m3fnu",)):
        return Rule(format, NEAREST_INFINITY, quirks=("negative_to_nan",))
    rule = _ml_dtypes_old(format, source)
    return rule and rule.with_(via=None, quirks=())


def _numpy(format: Format, source: Source) -> Rule | None:
    if not _known(format, ("float16", "float32")) or not (source.is_float or source.integer is not None):
        return None
    if source.is_float and format.bits >= source.bits:
        return None
    return Rule(format, NEAREST_INFINITY, nan_codes="any")


def _torch_old(format: Format, source: Source) -> Rule | None:
    if _known(format, ("float8_e8m0fnu",)):
        return Rule(format, NEAREST_INFINITY, _via_float32(source), zero="smallest", quirks=_TORCH_E8M0)
    if not _known(format, _TORCH):
        return None
    codes = (0x7F, 0xFF) if format.name == "float8_e5m2" else None
    return Rule(format, NEAREST_INFINITY, via=_via_float32(source), nan_codes=codes)


def _torch_new(format: Format, source: Source) -> Rule | None:
    if _known(format, ("bfloat16", "float16")) and format.name != source.name:
        return Rule(format, NEAREST_INFINITY, via=_via_float32(source), nan_codes="any")
    rule = _torch_old(format, source)
    if rule is not None and format.name == "float8_e4m3fn":
        return rule.with_(policy=NEAREST_SATURATE)
    return rule


def _ocp(policy: Policy) -> Cast:
    def rule(format: Format, source: Source) -> Rule | None:
        return Rule(format, policy, nan_codes="any") if _known(format, _OCP) else None

    return rule


#: The codes of NaN in conversions from float32 to formats with infinities.
_PTX_NAN = {"bfloat16": 0x7FFF, "float16": 0x7FFF, "tf32": 0x3FFFF}


def _ptx(format: Format, source: Source) -> Rule | None:
    if source.name != "float32" or not _known(format, tuple(_PTX_NAN)):
        return None
    return Rule(format, NEAREST_INFINITY, nan_codes=(_PTX_NAN[format.name],) * 2)


def _ptx_satfinite(format: Format, source: Source) -> Rule | None:
    if source.name not in ("float32", "float16"):
        return None
    wide = _ptx(format, source)
    if wide is not None and format.name != "tf32":
        return wide.with_(policy=NEAREST_SATURATE)
    if _known(format, _OCP):
        return Rule(format, NEAREST_SATURATE, nan_codes=(0x7F, 0x7F))
    if _known(format, _FP6_FP4):
        return Rule(format, NEAREST_SATURATE, nan="largest")
    return None


def _p3109(format: Format, source: Source) -> Rule | None:
    return Rule(format, NEAREST_INFINITY) if format.is_p3109 else None


def _tf32_operand(format: Format, source: Source) -> Rule | None:
    if source.name != "float32" or not _known(format, ("tf32",)):
        return None
    return Rule(format, Policy(Mode.TOWARD_ZERO, Overflow.INFINITY), nan="truncated")


def _cuda_fp8(policy: Policy) -> Cast:
    """The host code of cuda_fp8.hpp. NaN is 0x7f; that of float64 keeps its sign, and in e5m2 its payload."""

    def rule(format: Format, source: Source) -> Rule | None:
        if not source.is_float or not _known(format, _OCP):
            return None
        codes: nans.NanCodes = (0x7F, 0x7F)
        if source.name == "float64":
            codes = nans.PAYLOAD if format.name == "float8_e5m2" else (0x7F, 0xFF)
        elif policy.overflow is Overflow.INFINITY and format.name == "float8_e4m3fn":
            codes = nans.ANY  # an overflow gives NaN with a sign, NaN gives NaN without
        return Rule(format, policy, nan_codes=codes)

    return rule


#: Formats with payloads, and sources that are wider.
_WIDER = {"bfloat16": ("float32",), "float16": ("float32", "float64"), "float32": ("float64",)}


def _hardware(nan_codes: nans.NanCodes, formats: tuple[str, ...], **fields: str) -> Cast:
    """Conversions of a processor: nearest even with infinity; ``None`` for NaN means positive and canonical."""

    def rule(format: Format, source: Source) -> Rule | None:
        if not _known(format, formats) or source.name not in _WIDER[format.name]:
            return None
        codes = (format.nan_code or 0,) * 2 if nan_codes is None else nan_codes
        return Rule(format, NEAREST_INFINITY, nan_codes=codes, **fields)  # type: ignore[arg-type]

    return rule


def _arm_fz(format: Format, source: Source) -> Rule | None:
    """FPCR.FZ, with AH 0: inputs are flushed, and results before rounding, but those of float16 by FZ16 alone."""
    plain = _ARM(format, source)
    if plain is None:
        return None
    results = "keep" if format.name == "float16" else "flush_before"
    return plain.with_(subnormal_inputs="flush", subnormal_results=results)


def _processor_fp8(sources: tuple[str, ...], nan_code: int | None, policy: Policy) -> Cast:
    """Conversions of a processor to OCP's formats. NaN has this code, by default the canonical one. An overflow to NaN,
    in a format without infinity, may have any sign."""

    def rule(format: Format, source: Source) -> Rule | None:
        if not _known(format, _OCP) or source.name not in sources:
            return None
        overflows = policy.overflow is Overflow.INFINITY and not format.has_infinity
        return Rule(format, policy, nan_codes=nans.ANY if overflows else (nan_code or format.nan_code or 0,) * 2)

    return rule


#: FPMR.OSC 0 or 1, NSCALE 0. NaN is the default NaN; an overflow to NaN keeps its sign.
_arm_fp8 = partial(_processor_fp8, ("float32", "float16", "bfloat16"), None)
#: Zvfofp8min: NaN is 0x7f in both formats. The sign of an overflow to NaN is not looked at.
_riscv_fp8 = partial(_processor_fp8, ("float32", "bfloat16"), 0x7F)


def _arm_ahp(format: Format, source: Source) -> Rule | None:
    if format != FORMATS["fp_5_10_0"] or source.name not in ("float32", "float64"):
        return None
    return Rule(format, NEAREST_SATURATE, nan="signed_zero", nan_codes="any")


def _qpytorch(quirks: tuple[str, ...]) -> Cast:
    def rule(format: Format, source: Source) -> Rule | None:
        if format.name in FORMATS or not spec.legacy_applies(format) or source.name != "float32":
            return None
        return Rule(format, Policy(Mode.QPYTORCH_NEAREST, Overflow.SATURATE), quirks=quirks)

    return rule


def _pychop(format: Format, source: Source) -> Rule | None:
    if format.specials != "ieee" or not format.subnormals or not source.is_float or format.bits >= source.bits:
        return None
    policy = Policy(Mode.NEAREST_EVEN, Overflow.MARK)
    return Rule(format, policy, zero="positive_input", quirks=("top_binade_to_zero",))


_ARM_ARM = "Arm ARM DDI 0487,"
_ZVFOFP8 = "OCP OFP8 v1.0, and QEMU for Zvfofp8min (canonical NaN 0x7f)"
_CUDA_FP8 = "cuda_fp8.hpp, __nv_cvt_double_to_fp8 and __nv_cvt_float_to_fp8"
_GGML = _hardware(nans.PAYLOAD, ("bfloat16",))
_X86_BF16 = _hardware(nans.PAYLOAD, ("bfloat16",), subnormal_inputs="flush", subnormal_results="flush_before")
_ARM = _hardware(nans.PAYLOAD, tuple(_WIDER))
_ARM_DN = _hardware(None, tuple(_WIDER))

PRESETS = {
    row.name: row
    for row in (
        Preset("ml_dtypes<0.7", "ml_dtypes arrays", "ml_dtypes 0.6, run; its issue 401", _ml_dtypes_old),
        Preset("ml_dtypes>=0.7", "ml_dtypes arrays: rounded once from float64", "ml_dtypes 0.7, run", _ml_dtypes_new),
        Preset("numpy", "NumPy astype", "NumPy 2, run", _numpy),
        Preset("torch<2.12", "PyTorch before 2.12", "PyTorch 2.11 source and release notes", _torch_old),
        Preset("torch>=2.12", "PyTorch from 2.12 on: float8_e4m3fn saturates", "PyTorch 2.13, run", _torch_new),
        Preset("ocp_saturate", "OCP OFP8, saturating", "OCP OFP8 v1.0, conversion table", _ocp(NEAREST_SATURATE)),
        Preset("ocp_nonsaturate", "OCP OFP8, not saturating", "OCP OFP8 v1.0", _ocp(NEAREST_INFINITY)),
        Preset("ptx", "PTX cvt.rn", "an H200, all float32 inputs (docs/hardware.md)", _ptx),
        Preset("ptx_satfinite", "PTX cvt.rn.satfinite", "PTX ISA, cvt; an H200 (docs/hardware.md)", _ptx_satfinite),
        Preset(
            "tf32_operand",
            "float32 read as tf32: the low 13 bits are ignored",
            "PTX ISA, mma with .tf32",
            _tf32_operand,
        ),
        Preset("cuda_fp8", "cuda_fp8.h, __NV_SATFINITE, host code", _CUDA_FP8, _cuda_fp8(NEAREST_SATURATE)),
        Preset("cuda_fp8_nosat", "cuda_fp8.h, __NV_NOSAT", _CUDA_FP8, _cuda_fp8(NEAREST_INFINITY)),
        Preset("ggml", "ggml, float32 to bfloat16", "ggml-impl.h, ggml_compute_fp32_to_bf16", _GGML),
        Preset("x86_bf16", "x86 VCVTNEPS2BF16: subnormal numbers are zero", "Intel SDM, VCVTNEPS2BF16", _X86_BF16),
        Preset("arm", "Arm FCVT, BFCVT with FPCR 0", "Arm ARM DDI 0487, FPConvert, FPConvertNaN", _ARM),
        Preset("arm_default_nan", "the same with FPCR.DN", "Arm ARM DDI 0487, FPDefaultNaN", _ARM_DN),
        Preset("arm_fz", "the same with FPCR.FZ: subnormal numbers are flushed", f"{_ARM_ARM} A1.5.6", _arm_fz),
        Preset("arm_fp8", "Arm FCVTN to FP8, FPMR.OSC 0", f"{_ARM_ARM} A1.5.5, A1.5.7.1", _arm_fp8(NEAREST_INFINITY)),
        Preset("arm_fp8_sat", "Arm FCVTN to FP8, FPMR.OSC 1", f"{_ARM_ARM} A1.5.5", _arm_fp8(NEAREST_SATURATE)),
        Preset("riscv_fp8", "RISC-V Zvfofp8min, not saturating", _ZVFOFP8, _riscv_fp8(NEAREST_INFINITY)),
        Preset("riscv_fp8_sat", "RISC-V Zvfofp8min, saturating", _ZVFOFP8, _riscv_fp8(NEAREST_SATURATE)),
        Preset(
            "arm_ahp", "Arm FCVT to alternative half precision (fp_5_10_0)", "Arm ARM DDI 0487, FPConvert", _arm_ahp
        ),
        Preset("riscv", "RISC-V fcvt.h, fcvt.s.d, fcvt.bf16.s: canonical NaN", "RISC-V unprivileged ISA, NaN", _ARM_DN),
        Preset("p3109", "IEEE P3109, no saturation", "Interim Report v4.0, §4.5, §4.7", _p3109),
        Preset("qpytorch", "QPyTorch float_quantize, nearest, on a GPU", "docs/semantics.md §2", _qpytorch(())),
        Preset("qpytorch_cpu", "the same on a CPU", "QPyTorch 0.3, run", _qpytorch(("nan_as_number",))),
        Preset("pychop", "pychop Chop, rmode 1, NumPy", "pychop 0.6, run", _pychop),
    )
}


def as_preset(name: str | Preset) -> Preset:
    """Returns a Preset unchanged, or the preset of a name. Raises UsageError for others."""
    if isinstance(name, Preset):
        return name
    if name not in PRESETS:
        raise UsageError(f"unknown preset {name!r}. Known: {', '.join(PRESETS)}")
    return PRESETS[name]


def rules(format: Format, source: Source) -> dict[str, Rule]:
    """Returns the rules of the presets that support a format and source.

    >>> from mpsim.validate.sources import SOURCES
    >>> "ml_dtypes<0.7" in rules(FORMATS["float8_e5m2"], SOURCES["float64"])
    True
    """
    found = {name: preset.rule(format, source) for name, preset in PRESETS.items()}
    return {name: rule for name, rule in found.items() if rule is not None}
