"""Public functions that quantise arrays in groups whose elements share a scale: block formats and descriptions.

mpsim/kernels/spec_blocks.py (MX, NVFP4), mpsim/blocks/definition/ (quantisers in stages) and docs/block_formats.md
define the results.
"""

from __future__ import annotations

from typing import Any, overload

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from mpsim import checks
from mpsim.blocks import fast
from mpsim.blocks.grids import Grid
from mpsim.blocks.quantized import Blocks, Quantized
from mpsim.blocks.quantizers.elements import Element
from mpsim.blocks.quantizers.groups import Block
from mpsim.blocks.quantizers.presets import as_quantizer
from mpsim.blocks.quantizers.stages import Quantizer, Scale, Second, Statistic
from mpsim.blocks.running import Given, quantize_array
from mpsim.errors import UsageError, UsageTypeError
from mpsim.interchange import as_array
from mpsim.kernels import DEFAULT_BACKEND
from mpsim.kernels.contract import Array
from mpsim.kernels.spec_blocks import BLOCK_FORMATS, SCALE_OVERFLOWS, SCALE_RULES, BlockFormat, as_block_format
from mpsim.policies import Mode, Overflow, Policy
from mpsim.process import in_default_environment
from mpsim.rounding import Counts, Stream, decode

__all__ = ["BLOCK_FORMATS", "SCALE_RULES", "BlockFormat", "Blocks", "dequantize", "quantize", "round_to_blocks"]


@in_default_environment
def round_to_blocks(
    x: ArrayLike,
    format: str | BlockFormat | Quantizer,
    axis: int = -1,
    *,
    scale_rule: str = "floor",
    scale_overflow: str = "saturate",
    mode: str | Mode = Mode.NEAREST_EVEN,
    overflow: str | Overflow = Overflow.SATURATE,
    tensor_scale: ArrayLike | None = None,
    statistic: ArrayLike | None = None,
    random_bits: Array | Stream | None = None,
    random_bit_count: int | None = None,
    backend: str = DEFAULT_BACKEND,
    threads: int | None = None,
    counts: bool = False,
) -> Any:
    """Rounds x to a block format and returns element times scale.

    A block that contains NaN or infinity gets the scale NaN, and all its elements become NaN.

    Args:
        x: As for ``round_to``, with at least one axis.
        format: The block format, or its name; or a description in stages (``Quantizer``), as text too, or the name of a
            preset. A description has its own rules: the arguments up to ``overflow``, and ``random_bit_count``, are
            for block formats.
        axis: The axis along which blocks lie. The last block may be shorter.
        scale_rule: How E8M0 scales are computed, a key of ``SCALE_RULES``. NVFP4 ignores it: its scale is
            amax / (6 * tensor scale), rounded to nearest even.
        scale_overflow: What a scale beyond the largest becomes: the largest ("saturate") or NaN ("nan").
        mode, random_bits, random_bit_count, backend, threads: As for ``round_to``, without the modes of QPyTorch.
        overflow: As for ``round_to``. By default elements saturate (OCP MX v1.0 §6.3).
        tensor_scale: For NVFP4, a positive float32. The default is float32(amax of x / (6 * 448)). For a description
            with a second scale, that scale, or the largest magnitude that a multiplier follows from.
        statistic: For a description whose statistic is given: the largest magnitude, or one for each group.
        counts: Also return ``Counts`` of the scaled elements. NaN and infinite elements count as overflowed.

    Returns:
        The result, in x's shape and (converted) type. With ``counts``, (result, Counts).

    Raises:
        ValueError, TypeError, BackendUnavailable: As for ``round_to``.

    >>> import numpy as np
    >>> print(round_to_blocks(np.float32([7, -0.3, 0.1]), "mxfp4", backend="reference"))
    [ 6.  -0.5  0. ]
    """
    options = {
        "scale_rule": scale_rule, "scale_overflow": scale_overflow, "mode": mode, "overflow": overflow,
        "random_bit_count": random_bit_count,
    }  # fmt: skip
    if isinstance(format, str) and format not in BLOCK_FORMATS:
        format = as_quantizer(format)
    given = Given(statistic, tensor_scale, random_bits)
    x = as_array(x)
    blocks, numbers = _quantize(x, format, axis, options, given, backend, threads)
    dtype = np.float64 if x.dtype == np.float64 else np.float32
    values = dequantize(blocks, dtype, backend=backend, threads=threads)
    return (values, numbers) if counts else values


@overload
def quantize(
    x: ArrayLike, format: Quantizer, axis: int = -1, *, tensor_scale: ArrayLike | None = None,
    statistic: ArrayLike | None = None, random_bits: Array | Stream | None = None, backend: str = DEFAULT_BACKEND,
    threads: int | None = None,
) -> Quantized: ...  # fmt: skip
@overload
def quantize(
    x: ArrayLike, format: str | BlockFormat, axis: int = -1, *, scale_rule: str = "floor",
    scale_overflow: str = "saturate", mode: str | Mode = Mode.NEAREST_EVEN,
    overflow: str | Overflow = Overflow.SATURATE, tensor_scale: float | None = None,
    random_bits: Array | Stream | None = None, random_bit_count: int | None = None, backend: str = DEFAULT_BACKEND,
    threads: int | None = None,
) -> Blocks: ...  # fmt: skip
@in_default_environment
def quantize(x: ArrayLike, format: str | BlockFormat | Quantizer, axis: int = -1, **options: Any) -> Blocks | Quantized:
    """Returns the codes and scales of ``round_to_blocks``, which has the same arguments and errors.

    A block format gives ``Blocks``, a description in stages ``Quantized``. ``mpsim.blocks.quantizer_of`` gives the
    description of a text or of a preset's name.

    >>> import numpy as np
    >>> blocks = quantize(np.float32([7, -0.3, 0.1]), "mxfp4", backend="reference")
    >>> print(blocks.codes, blocks.scales)
    [7 9 0] [127]
    """
    known = {*_RULES, "tensor_scale", "statistic", "random_bits", "backend", "threads"}
    if unknown := set(options) - known:
        raise TypeError(f"quantize() got an unexpected keyword argument {sorted(unknown)[0]!r}")
    given = Given(options.pop("statistic", None), options.pop("tensor_scale", None), options.pop("random_bits", None))
    backend, threads = options.pop("backend", DEFAULT_BACKEND), options.pop("threads", None)
    return _quantize(x, format, axis, options, given, backend, threads)[0]


@in_default_environment
def dequantize(
    blocks: Blocks | Quantized,
    dtype: DTypeLike = np.float32,
    *,
    backend: str = DEFAULT_BACKEND,
    threads: int | None = None,
) -> Array:
    """Returns element * scale * tensor scale, exact in float64 or rounded once to nearest even in float32.

    Of a description in stages, the numbers are computed as its ``values`` say.

    Args:
        blocks: The quantised array.
        dtype: float32 or float64.
        backend, threads: As for ``round_to``.

    Returns:
        An array of the original shape. It has NaN where the scale or the element is NaN.

    Raises:
        TypeError: ``dtype`` is neither float32 nor float64.

    >>> dequantize(quantize(np.float32([7, -0.3]), "mxfp4"))
    array([ 6. , -0.5], dtype=float32)
    """
    dtype = np.dtype(dtype)
    if dtype not in (np.float32, np.float64):
        raise UsageTypeError(f"dequantize returns float32 or float64, not {dtype}")
    if isinstance(blocks, Quantized):
        return blocks.values(dtype, backend, threads)
    element, scale = blocks.format.element, blocks.format.scale
    if dtype == np.float32:
        grid, second = Grid(blocks.codes.shape, blocks.axis, Block(blocks.format.size)), np.asarray(blocks.tensor_scale)
        found = fast.values(blocks.codes, element, blocks.scales, scale, second, grid, backend, threads)
        if found is not None:
            return found
    elements = decode(blocks.codes, element, np.float64, backend=backend, threads=threads)
    scales = decode(blocks.scales, scale, np.float64, backend=backend, threads=threads)
    length = blocks.codes.shape[blocks.axis]
    spread = np.repeat(scales, blocks.format.size, axis=blocks.axis).take(range(length), axis=blocks.axis)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        values = (elements * spread * np.float64(blocks.tensor_scale)).astype(dtype)
    values[np.isnan(values)] = np.nan
    return np.asarray(values)


#: The arguments that complete a block format, and their defaults.
_RULES: dict[str, Any] = {
    "scale_rule": "floor", "scale_overflow": "saturate", "mode": Mode.NEAREST_EVEN, "overflow": Overflow.SATURATE,
    "random_bit_count": None,
}  # fmt: skip


def described(format: BlockFormat, scale_rule: str, scale_overflow: str, policy: Policy) -> Quantizer:
    """Returns the description of a block format with its rules.

    >>> from mpsim.blocks.quantizers.text import text_of
    >>> text_of(described(BLOCK_FORMATS["mxfp4"], "even", "saturate", Policy("nearest_even", "saturate")))
    'quantizer(scale=scale(even, format=float8_e8m0fnu), element=element(float4_e2m1fn))'
    """
    checks.named("scale rule", scale_rule, SCALE_RULES)
    checks.named("scale_overflow", scale_overflow, SCALE_OVERFLOWS)
    return Quantizer(
        statistic=Statistic(Block(format.size)),
        scale=Scale(
            formula="ratio" if format.tensor_scale else scale_rule, format=format.scale, overflow=scale_overflow
        ),
        element=Element(format.element, policy.mode.value, policy.overflow.value, policy.random_bit_count),
        second=Second(most=format.scale.largest) if format.tensor_scale else None,
    )


def _quantize(
    x: ArrayLike, format: str | BlockFormat | Quantizer, axis: int, options: dict[str, Any], given: Given,
    backend: str, threads: int | None,
) -> tuple[Blocks | Quantized, Counts]:  # fmt: skip
    if isinstance(format, Quantizer):
        for name, value in options.items():
            if value != _RULES[name]:
                raise UsageError(f"a description in stages says its own {name}; leave it out, got {value!r}", name)
        return quantize_array(x, format, axis, given, backend, threads)
    row, rules = as_block_format(format), {**_RULES, **options}
    policy = Policy(rules["mode"], rules["overflow"], rules["random_bit_count"])
    quantizer = described(row, rules["scale_rule"], rules["scale_overflow"], policy)
    if given.tensor_scale is not None and not row.tensor_scale:
        raise UsageError(f"{row.name} has no tensor_scale; got {given.tensor_scale}")
    found, counts = quantize_array(x, quantizer, axis, given, backend, threads)
    second = np.float32(1) if found.second is None else np.float32(found.second)
    return Blocks(row, found.codes, found.scales, second, found.axis), counts
