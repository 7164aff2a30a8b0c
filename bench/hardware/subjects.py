"""Lists the subjects: Hopper's instructions, and PyTorch's operations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.hardware.library import cast_of, dot_of
from bench.hardware.torch_subjects import torch_cast, torch_dot
from mpsim.formats import FORMATS

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Cast:
    """A cast from ``source`` to ``format``. open: path of the library -> function (array) -> codes."""

    name: str
    format: str
    how: str
    open: Callable[[Path | None], Callable[[Array], Array]]
    source: str = "float32"


@dataclass(frozen=True)
class Alternative:
    """An alternative if no known accumulator is equal. places: the k of one instruction in the model's order."""

    accumulator: str
    places: tuple[int, ...] = ()
    order: str = "rising k"


@dataclass(frozen=True)
class Dot:
    """Dot products of ``inputs``. length: of probes, long enough for two promotions of 128 if they are likely.

    side: rows and columns. open: path of the library -> function (M, K), (K, N) -> (M, N).
    """

    name: str
    inputs: str
    how: str
    open: Callable[[Path | None], Callable[[Array, Array], Array]]
    length: int = 130
    side: int = 64
    alternatives: tuple[Alternative, ...] = ()


def _instruction(format: str, name: str, source: str = "float32") -> Cast:
    words = f"PTX {name.replace('_', '.')}, both halves where it converts two"
    return Cast(name, format, words, cast_of(name, FORMATS[format].code_bits), source)


def _torch_cast(format: str) -> Cast:
    return Cast(f"torch_to_{format}", format, f"PyTorch, tensor.to(torch.{format}) on the GPU", torch_cast(format))


#: float8 is widened to float16 and added by two instructions that start at +0: first each register's lower pairs, then
#: its upper ones. Their result is added to the sum in float32 (fitted to results of an H200).
_PAIRS = tuple(k for half in (0, 1) for k in range(32) if k // 2 % 2 == half)
WIDENED = (
    Alternative(
        "aligned,format=float32,chunk=32,terms=16,fraction_bits=25,rounding=toward_zero,inputs=float16",
        _PAIRS,
        "of 32 k, first 0, 1, 4, 5, 8, 9, ..., then 2, 3, 6, 7, ...",
    ),
)


def _mma(inputs: str, name: str, k: int) -> Dot:
    how = f"PTX mma.sync m16n8k{k}, chained over k from +0, k padded with zeros ({name} of instructions.cu)"
    if k == 32:
        return Dot(name, inputs, how, dot_of(name, inputs), 300, alternatives=WIDENED)
    return Dot(name, inputs, how, dot_of(name, inputs))


def _wgmma(inputs: str, name: str, k: int) -> Dot:
    how = f"PTX wgmma.mma_async m64n8k{k}, operands in shared memory, chained over k, the first with scale-d 0, "
    return Dot(
        name, inputs, f"{how}k padded with zeros ({name} of instructions.cu)", dot_of(name, inputs),
        300 if k == 32 else 130,
    )  # fmt: skip


def _scaled(name: str, kind: str) -> Dot:
    how = f"torch._scaled_mm, use_fast_accum={kind == 'scaled_fast'}, scales 1, float32 results, sides of 128"
    return Dot(name, "float8_e4m3fn", how, torch_dot(kind), 300, 128)


_MM = "torch.mm, out_dtype=float32, reduced-precision reductions off, sides of 128"
SUBJECTS: tuple[Cast | Dot, ...] = (
    _wgmma("float16", "wgmma_f16", 16),
    _wgmma("bfloat16", "wgmma_bf16", 16),
    _wgmma("tf32", "wgmma_tf32", 8),
    _wgmma("float8_e4m3fn", "wgmma_e4m3", 32),
    _wgmma("float8_e5m2", "wgmma_e5m2", 32),
    _wgmma("float16", "wgmma_f16_to_f16", 16),
    _wgmma("float8_e4m3fn", "wgmma_e4m3_to_f16", 32),
    _wgmma("float8_e5m2", "wgmma_e5m2_to_f16", 32),
    _mma("float16", "mma_f16", 16),
    _mma("bfloat16", "mma_bf16", 16),
    _mma("tf32", "mma_tf32", 8),
    _mma("float8_e4m3fn", "mma_e4m3", 32),
    _mma("float8_e5m2", "mma_e5m2", 32),
    _mma("float16", "mma_f16_to_f16", 16),
    Dot("torch_mm_float16", "float16", _MM, torch_dot("mm"), 130, 128),
    Dot("torch_mm_bfloat16", "bfloat16", _MM, torch_dot("mm"), 130, 128),
    Dot("torch_mm_tf32", "tf32", "torch.mm of float32, allow_tf32, sides of 128", torch_dot("tf32"), 130, 128),
    _scaled("torch_scaled_mm_fast", "scaled_fast"),
    _scaled("torch_scaled_mm", "scaled"),
    _instruction("float8_e4m3fn", "cvt_rn_satfinite_e4m3x2_f32"),
    _instruction("float8_e5m2", "cvt_rn_satfinite_e5m2x2_f32"),
    _instruction("float8_e4m3fn", "cvt_rn_satfinite_e4m3x2_f16x2", "float16"),
    _instruction("float8_e5m2", "cvt_rn_satfinite_e5m2x2_f16x2", "float16"),
    _instruction("bfloat16", "cvt_rn_bf16_f32"),
    _instruction("bfloat16", "cvt_rz_bf16_f32"),
    _instruction("bfloat16", "cvt_rn_satfinite_bf16_f32"),
    _instruction("float16", "cvt_rn_f16_f32"),
    _instruction("float16", "cvt_rz_f16_f32"),
    _instruction("float16", "cvt_rn_satfinite_f16_f32"),
    _instruction("tf32", "cvt_rn_tf32_f32"),
    _instruction("tf32", "cvt_rna_tf32_f32"),
    *(_torch_cast(format) for format in ("float8_e4m3fn", "float8_e5m2", "bfloat16", "float16")),
)
