"""Quantisers by name, as data: formats, and systems as their published sources compute them.

>>> PRESETS["fp8_1x128"].quantizer.group
Block(size=128)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mpsim import checks
from mpsim.blocks.quantizers.stages import Quantizer
from mpsim.blocks.quantizers.text import read
from mpsim.kernels.spec_blocks import BLOCK_FORMATS, SCALE_RULES
from mpsim.process import in_default_environment

OCP = "OCP Microscaling Formats (MX) v1.0 §5, §6.3"
NVFP4 = "NVIDIA's description of NVFP4"
TE = "TransformerEngine d0067d0, pytorch/custom_recipes/reference_nvfp4.py; common/cast/nvfp4/core_nvfp4.cuh"
TE_FP8 = "TransformerEngine d0067d0, common/recipe/recipe_common.cuh, current_scaling.cu and delayed_scaling.cu"
TORCHAO = "torchao 36027d8, prototype/mx_formats/"
AFFINE = "torchao 36027d8, quantization/quant_primitives.py (choose_qparams_affine, quantize_affine)"
MODELOPT = "Model-Optimizer a2fbac7, modelopt/torch/quantization/qtensor/"
DEEPSEEK = "DeepSeek-V3 0623163, inference/kernel.py (act_quant, weight_quant)"
DEEPGEMM = "DeepGEMM 38939a4, deep_gemm/utils/math.py"
TENSTORRENT = "tt-metal 034fc8c, tt_metal/impl/data_format/blockfloat_common.cpp"


@dataclass(frozen=True)
class Preset:
    """A quantiser. ``text``: its description. ``source``: who published it. ``note``: what it leaves out."""

    text: str
    source: str
    note: str = ""

    @property
    def quantizer(self) -> Quantizer:
        """The description in stages."""
        return read(self.text)


def _mx(element: str, rule: str, more: str = "") -> str:
    return f"quantizer(scale=scale({rule}, format=float8_e8m0fnu), element=element({element}){more})"


_RCEIL = "ratio, float32_reciprocal, float8_e8m0fnu, up"
_LOW = ", layout=layout(low_first)"


def _of_mx() -> Iterator[tuple[str, Preset]]:
    """MX by each rule; torchao's four ways, of which only rceil differs from OCP's formulas."""
    for name, row in BLOCK_FORMATS.items():
        if row.tensor_scale:
            continue
        packed = _LOW if row.element.bits == 4 else ""
        yield name, Preset(_mx(row.element.name, "floor"), OCP)
        for rule in SCALE_RULES:
            yield f"{name}_{rule}", Preset(_mx(row.element.name, rule), f"{OCP}; docs/block_formats.md for the rule")
        for rule in ("floor", "even", "ceil"):
            yield f"torchao_{name}_{rule}", Preset(_mx(row.element.name, rule, packed), f"{TORCHAO}mx_tensor.py")
        text = f"quantizer(scale=scale({_RCEIL}), element=element({row.element.name}){packed})"
        yield f"torchao_{name}_rceil", Preset(text, f"{TORCHAO}mx_tensor.py")
    text = "quantizer(scale=scale(floor, format=float8_e8m0fnu), element=integer(8, symmetric=true, fraction_bits=6))"
    yield "mxint8", Preset(text, OCP, "-2 is not used, which OCP leaves open")


_E2M1, _E4M3 = "element(float4_e2m1fn)", "float8_e4m3fn"
_TE_SCALE = f"scale(ratio, float32_reciprocal, {_E4M3})"
_SIGNS = "(1, 1, 1, -1, 1, -1, -1, -1, -1, -1, -1, 1, -1, 1, -1, -1)"
_TE_NOTE = "infinities and NaNs are left out of the tensor's largest magnitude"


def _te(
    group: str = "block(16)", scale: str = _TE_SCALE, element: str = _E2M1, second: str = "form=multiplier",
    more: str = "",
) -> Preset:  # fmt: skip
    text = (
        f"quantizer(statistic({group}), {scale}, quotient(float32_reciprocal), {element}, second({second}), "
        f"specials(divide, saturate), layout=layout(low_first), values=float32_amax{more})"
    )
    return Preset(text, TE, _TE_NOTE)


def _of_nvfp4() -> Iterator[tuple[str, Preset]]:
    one = f"quantizer(statistic(block(16)), scale(format={_E4M3}), element={_E2M1}"
    yield "nvfp4", Preset(f"{one}, second=second())", NVFP4, "exact quotients")
    yield "nvfp4_one_level", Preset(f"{one})", NVFP4, "exact quotients, no tensor scale")
    yield "te_nvfp4", _te()
    yield "te_nvfp4_reference", _te(element="element(float4_e2m1fn, zeros=positive_if_exact)")
    yield "te_nvfp4_2d", _te("tile(16, 16)")
    yield "te_nvfp4_rows", _te(second="row(), multiplier")
    for error in ("mae", "mse"):
        scale = f"scale(ratio, float32, {_E4M3}, four_over_six={error})"
        yield f"te_nvfp4_4over6_{error}", _te(scale=scale)
        yield f"te_nvfp4_4over6_{error}_256", _te(scale=scale, second="form=multiplier, most=256.0")
        yield f"te_nvfp4_4over6_{error}_2d", _te("tile(16, 16)", scale)
        yield f"te_nvfp4_4over6_{error}_fast", _te(scale=scale.replace(f"={error}", f"={error}_scaled"))
    yield "te_nvfp4_rotated", _te(more=f", rotation=hadamard(16, {_SIGNS})")
    yield "te_nvfp4_stochastic", _te(element="element(float4_e2m1fn, stochastic, random_bit_count=8)")
    ao = (
        f"quantizer(statistic(block(16)), scale(ratio, float32, {_E4M3}, least=0.015625), {{}}, {_E2M1}{{}}, "
        f"specials=specials(not_finite=saturate), layout=layout(low_first), values=float32)"
    )
    source = f"{TORCHAO}nvfp4_tensor.py (nvfp4_quantize)"
    yield "torchao_nvfp4", Preset(ao.format("quotient(float32_reciprocals)", ", second()"), source, _TE_NOTE)
    yield "torchao_nvfp4_one_level", Preset(ao.format("quotient(float32_reciprocal)", ""), source)
    text = (
        f"quantizer(statistic(block(16)), scale(ratio, float32_product, {_E4M3}, least=0.001953125), "
        f"quotient(float32), element(float4_e2m1fn, zeros=positive_if_exact), second(), specials(one, saturate), "
        f"layout=layout(low_first), values=float32)"
    )
    yield "modelopt_nvfp4", Preset(text, f"{MODELOPT}nvfp4_tensor.py", _TE_NOTE)
    log2 = "the logarithm is taken as correctly rounded; blocks with NaN or infinity are not as published"
    yield "modelopt_mxfp8", Preset(_mx(_E4M3, "ceil_log2"), f"{MODELOPT}mxfp8_tensor.py", log2)
    element = "float4_e2m1fn, nearest_zero, zeros=negative_if_exact"
    yield "modelopt_mxfp4", Preset(_mx(element, "ceil_log2", _LOW), f"{MODELOPT}mxfp4_tensor.py", log2)


def _of_fp8() -> Iterator[tuple[str, Preset]]:
    """float8 with float32 scales, of blocks, tiles, rows, columns and tensors."""
    groups = {"1x128": "block(128)", "128x128": "tile(128, 128)", "row": "row()", "column": "column()"}
    report = "DeepSeek-V3 technical report, arXiv:2412.19437 §3.3"
    for name, group in groups.items():
        text = f"quantizer(statistic({group}), scale(arithmetic=float32), quotient(float32){{}})"
        yield f"fp8_{name}", Preset(text.format(""), report, "blocks of zeros give zeros")
    for name, group in (("act", "block(128)"), ("weight", "tile(128, 128)")):
        text = f"quantizer(statistic({group}), scale(arithmetic=float32), quotient(float32), specials=specials(divide))"
        yield f"deepseek_v3_{name}", Preset(text, DEEPSEEK, "blocks of zeros give NaN")
    for name in ("1x128", "128x128"):
        for ending, scale in (("", "float32"), ("_ue8m0", "float32, float8_e8m0fnu, up")):
            statistic = f"statistic({groups[name]}, least=0.0001)"
            text = f"quantizer({statistic}, scale(ratio, {scale}), quotient(float32_reciprocal))"
            yield f"deepgemm_fp8_{name}{ending}", Preset(text, DEEPGEMM)
    for element in (_E4M3, "float8_e5m2"):
        for kind, source in (("current", "input"), ("delayed", "given")):
            note = "the largest magnitude is that of earlier steps; 0 and infinity give 1" if kind == "delayed" else ""
            for ending, format in (("", ""), ("_pow2", "format=float8_e8m0fnu, rounding=toward_zero, ")):
                text = (
                    f"quantizer(statistic(tensor(), source={source}), scale(arithmetic=float32, {format}"
                    f"form=multiplier), quotient(float32_reciprocal), element({element}), specials=specials(one, one))"
                )
                yield f"te_{element.removesuffix('fn')}_{kind}{ending}", Preset(text, TE_FP8, note)


def _of_integers() -> Iterator[tuple[str, Preset]]:
    least = "least=1.1754943508222875e-38"
    groups = {"tensor": "tensor()", "row": "row()", "group32": "block(32)", "group128": "block(128)"}
    for name, group in groups.items():
        for short, integer in (("int8", "integer(8"), ("int4", "integer(4"), ("uint4", "integer(4, signed=false")):
            text = (
                f"quantizer(statistic({group}, of=range), scale(arithmetic=float32, {least}), "
                f"quotient(float32_reciprocal), {integer}, zero_point=true), values=float32)"
            )
            note = "a range beyond float32 has the largest scale, where torchao's is infinite"
            yield f"{short}_affine_{name}", Preset(text, AFFINE, note)
        for bits, target in ((8, "127.5"), (4, "7.5")):
            text = (
                f"quantizer(statistic({group}), scale(arithmetic=float32, {least}, target={target}), "
                f"quotient(float32_reciprocal), integer({bits}), values=float32)"
            )
            yield f"int{bits}_symmetric_{name}", Preset(text, AFFINE)
    for bits in (8, 4):
        text = (
            f"quantizer(statistic(block(16)), scale(floor, format=float8_e8m0fnu), quotient(fraction_bits=23), "
            f"element(fp_1_{bits - 2}_1, zeros=positive))"
        )
        note = "subnormal, infinite and NaN numbers are not as published"
        yield f"bfp{bits}", Preset(text, TENSTORRENT, note)


#: name -> what the system computes.
PRESETS: dict[str, Preset] = {**dict(_of_mx()), **dict(_of_nvfp4()), **dict(_of_fp8()), **dict(_of_integers())}


@in_default_environment
def as_quantizer(description: str | Quantizer) -> Quantizer:
    """Returns a description unchanged, or that of a preset's name or of a text.

    Raises:
        UsageError: The text is neither, or describes what makes no sense.

    >>> as_quantizer("te_nvfp4").second.form
    'multiplier'
    """
    if isinstance(description, Quantizer):
        return description
    if isinstance(description, str) and "(" in description:
        return read(description)
    return PRESETS[checks.named("quantiser", description, PRESETS)].quantizer
