"""Rounds arrays to block formats (MX, NVFP4), in which the elements of a block share a scale.

mpsim/kernels/spec_blocks.py and docs/block_formats.md define the results. ``round_to`` rounds every element once, from
the exact quotient of the number and its scale. Exponents are read from the bits and not computed by a logarithm.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from mpsim import checks
from mpsim.errors import UsageError, UsageTypeError
from mpsim.formats import FORMATS
from mpsim.kernels import philox
from mpsim.kernels.contract import Array
from mpsim.kernels.spec_blocks import BLOCK_FORMATS, SCALE_OVERFLOWS, SCALE_RULES, BlockFormat, as_block_format
from mpsim.policies import Mode, Overflow, Policy
from mpsim.rounding import Counts, Stream, decode, encode, round_to

__all__ = ["BLOCK_FORMATS", "SCALE_RULES", "BlockFormat", "Blocks", "dequantize", "quantize", "round_to_blocks"]

#: Replaces any smaller quotient. It is far below half of the smallest number of every element format.
TINY = 2.0**-1000


@dataclass(frozen=True, eq=False)
class Blocks:
    """A quantised array.

    Args:
        format: The block format.
        codes: The elements' codes, uint8 of the array's shape.
        scales: The scales' codes, uint8, with one entry for each block along the block axis. The last block may be
            shorter.
        tensor_scale: The scale of the whole tensor. It is 1 except for NVFP4.
        axis: The block axis, not negative.
    """

    format: BlockFormat
    codes: Array
    scales: Array
    tensor_scale: np.float32
    axis: int

    @property
    def bytes(self) -> int:
        """The size in bytes of codes packed without gaps, scales, and the tensor scale if there is one."""
        bits = self.codes.size * self.format.element.bits + self.scales.size * self.format.scale.bits
        return -(-bits // 8) + 4 * self.format.tensor_scale


def round_to_blocks(
    x: ArrayLike,
    format: str | BlockFormat,
    axis: int = -1,
    *,
    scale_rule: str = "floor",
    scale_overflow: str = "saturate",
    mode: str | Mode = Mode.NEAREST_EVEN,
    overflow: str | Overflow = Overflow.SATURATE,
    tensor_scale: float | None = None,
    random_bits: Array | Stream | None = None,
    random_bit_count: int | None = None,
    backend: str = "compiled",
    threads: int | None = None,
    counts: bool = False,
) -> Any:
    """Rounds x to a block format and returns element times scale.

    A block that contains NaN or infinity gets the scale NaN, and all its elements become NaN.

    Args:
        x: As for ``round_to``, with at least one axis.
        format: The block format, or its name.
        axis: The axis along which blocks lie. The last block may be shorter.
        scale_rule: How E8M0 scales are computed, a key of ``SCALE_RULES``. NVFP4 ignores it: its scale is
            amax / (6 * tensor scale), rounded to nearest even.
        scale_overflow: What a scale beyond the largest becomes: the largest ("saturate") or NaN ("nan").
        mode, random_bits, random_bit_count, backend, threads: As for ``round_to``, without the modes of QPyTorch.
        overflow: As for ``round_to``. By default elements saturate (OCP MX v1.0 §6.3).
        tensor_scale: For NVFP4, a positive float32. The default is float32(amax of x / (6 * 448)).
        counts: Also return ``Counts`` of the scaled elements. NaN and infinite elements count as overflowed.

    Returns:
        The result, in x's shape and (converted) type. With ``counts``, (result, Counts).

    Raises:
        ValueError, TypeError, BackendUnavailable: As for ``round_to``.

    >>> import numpy as np
    >>> print(round_to_blocks(np.float32([7, -0.3, 0.1]), "mxfp4", backend="reference"))
    [ 6.  -0.5  0. ]
    """
    policy = Policy(mode, overflow, random_bit_count)  # type: ignore[arg-type]
    quantiser = _Quantiser(as_block_format(format), axis, scale_rule, scale_overflow, policy, tensor_scale)
    blocks, numbers = _quantize(x, quantiser, random_bits, backend, threads)
    dtype = np.float64 if np.asarray(x).dtype == np.float64 else np.float32
    values = dequantize(blocks, dtype, backend=backend, threads=threads)
    return (values, numbers) if counts else values


def quantize(
    x: ArrayLike,
    format: str | BlockFormat,
    axis: int = -1,
    *,
    scale_rule: str = "floor",
    scale_overflow: str = "saturate",
    mode: str | Mode = Mode.NEAREST_EVEN,
    overflow: str | Overflow = Overflow.SATURATE,
    tensor_scale: float | None = None,
    random_bits: Array | Stream | None = None,
    random_bit_count: int | None = None,
    backend: str = "compiled",
    threads: int | None = None,
) -> Blocks:
    """Returns the codes and scales of ``round_to_blocks``, which has the same arguments and errors.

    >>> import numpy as np
    >>> blocks = quantize(np.float32([7, -0.3, 0.1]), "mxfp4", backend="reference")
    >>> print(blocks.codes, blocks.scales)
    [7 9 0] [127]
    """
    policy = Policy(mode, overflow, random_bit_count)  # type: ignore[arg-type]
    quantiser = _Quantiser(as_block_format(format), axis, scale_rule, scale_overflow, policy, tensor_scale)
    return _quantize(x, quantiser, random_bits, backend, threads)[0]


def dequantize(
    blocks: Blocks, dtype: DTypeLike = np.float32, *, backend: str = "compiled", threads: int | None = None
) -> Array:
    """Returns element * scale * tensor scale, exact in float64 or rounded once to nearest even in float32.

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
    elements = decode(blocks.codes, blocks.format.element, np.float64, backend=backend, threads=threads)
    scales = decode(blocks.scales, blocks.format.scale, np.float64, backend=backend, threads=threads)
    length = blocks.codes.shape[blocks.axis]
    spread = np.repeat(scales, blocks.format.size, axis=blocks.axis).take(range(length), axis=blocks.axis)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        values = (elements * spread * np.float64(blocks.tensor_scale)).astype(dtype)
    values[np.isnan(values)] = np.nan
    return np.asarray(values)


# -- the scales ---------------------------------------------------------------------------------------------


def _power_scales(amax: Array, format: BlockFormat, rule: str, overflow: str) -> Array:
    """Computes E8M0 scales (spec_blocks.power_scale) of finite amax. frexp reads the exponents from the bits."""
    element = format.element
    fraction, exponent = np.frexp(amax)  # fraction in [1/2, 1)
    if rule == "even":
        digits = 2.0 ** (element.mantissa_bits + 1)
        fraction, carry = np.frexp(np.rint(fraction * digits) / digits)
        exponent = exponent + carry
    steps = {
        "floor": np.zeros(amax.shape, bool),
        "ceil": fraction > 0.5,
        "even": np.zeros(amax.shape, bool),
        "nearest": fraction >= 0.75,
        "cover": fraction > element.largest / 2.0 ** (element.max_exponent + 1),
    }
    wanted = exponent - 1 - element.max_exponent + steps[rule]
    scales = np.ldexp(1.0, np.where(amax == 0, -127, np.clip(wanted, -127, 127)))
    return np.where((wanted > 127) & (amax != 0), np.nan, scales) if overflow == "nan" else scales


def _tensor_scale(x: Array, format: BlockFormat, given: float | None) -> np.float32:
    if not format.tensor_scale:
        if given is not None:
            raise UsageError(f"{format.name} has no tensor_scale; got {given}")
        return np.float32(1)
    if given is not None:
        scale = np.float32(checks.real("tensor_scale", given, above=0, most=checks.FLOAT32_LARGEST))
        if float(scale) != float(given):
            raise UsageError(f"tensor_scale must be exact in float32, got {given!r}; round it first", "tensor_scale")
        return scale
    finite = np.abs(x[np.isfinite(x)])
    amax = np.array([finite.max(initial=0.0)])
    if amax[0] == 0:
        return np.float32(1)
    exact = _quotient(amax, np.array([format.element.largest * format.scale.largest]))
    rounded = round_to(exact, "float32", overflow="saturate", backend="reference")[0]
    return np.float32(max(rounded, 2.0**-149))


def _quotient(x: Array, divisor: Array | float) -> Array:
    """Returns x / divisor in float64, which rounds to a narrow format as the exact quotient does.

    Let m be a number or midpoint of the format. m * divisor is exact in float64, because m has at most 25 bits and a
    divisor 28. If x is not that product, it differs from it by at least one float64 step, i.e. relatively by more than
    2**-53. Then x / divisor differs from m by more than 2**-53 of m, which the rounding of the division cannot bridge.
    """
    with np.errstate(over="ignore", under="ignore", divide="ignore", invalid="ignore"):
        return _not_lost(np.clip(x / divisor, -1 / TINY, 1 / TINY), x)


def _not_lost(scaled: Array, x: Array) -> Array:
    """Replaces scaled values of nonzero numbers by +-TINY where they are too small to be exact in float64."""
    return np.where((np.abs(scaled) < TINY) & (x != 0), np.copysign(TINY, x), scaled)


# -- the elements -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Quantiser:
    """The arguments of ``quantize`` that define the scales and the rounding."""

    format: BlockFormat
    axis: int
    scale_rule: str
    scale_overflow: str
    policy: Policy
    tensor_scale: float | None

    def __post_init__(self) -> None:
        checks.named("scale rule", self.scale_rule, SCALE_RULES)
        checks.named("scale_overflow", self.scale_overflow, SCALE_OVERFLOWS)
        if self.policy.mode.is_legacy:
            raise UsageError(f"mode {self.policy.mode.value!r} is QPyTorch's, which has no block formats")


def _quantize(
    x: ArrayLike, quantiser: _Quantiser, random_bits: Array | Stream | None, backend: str, threads: int | None
) -> tuple[Blocks, Counts]:
    format, policy, scale_overflow = quantiser.format, quantiser.policy, quantiser.scale_overflow
    wide, axis = _checked(x, quantiser.axis)
    if isinstance(random_bits, Stream):
        random_bits = philox.random_bits(random_bits, wide.size).reshape(wide.shape)
    given = _tensor_scale(wide, format, quantiser.tensor_scale)
    grid = _to_grid(wide, axis, format.size)
    sound = np.isfinite(grid).all(-1)
    amax = np.where(sound, np.abs(np.where(np.isfinite(grid), grid, 0)).max(-1, initial=0.0), 0.0)
    if format.tensor_scale:
        exact = _quotient(amax, np.float64(given) * format.element.largest)
        beyond = Overflow.SATURATE if scale_overflow == "saturate" else Overflow.INFINITY
        scales = round_to(exact, format.scale, Mode.NEAREST_EVEN, beyond, backend=backend, threads=threads)
    else:
        scales = _power_scales(amax, format, quantiser.scale_rule, scale_overflow)
    scales = np.where(sound, scales, np.nan)
    elements, numbers = round_to(
        _scaled(grid, scales, given, format), format.element, policy.mode, policy.overflow,
        random_bits=_bits_grid(random_bits, wide, axis, format.size), random_bit_count=policy.random_bit_count,
        backend=backend, threads=threads, counts=True,
    )  # fmt: skip
    codes = _from_grid(encode(elements, format.element, backend=backend, threads=threads), wide, axis)
    found = np.moveaxis(encode(scales, format.scale, backend=backend, threads=threads), -1, axis)
    wrong = int(np.sum(~np.isfinite(wide)))
    numbers = numbers._replace(overflowed=numbers.overflowed + wrong, nan=int(np.isnan(wide).sum()))
    return Blocks(format, codes, np.ascontiguousarray(found), given, axis), numbers


def _scaled(grid: Array, scales: Array, tensor_scale: np.float32, format: BlockFormat) -> Array:
    """Divides numbers by their scales, like ``_quotient``. Without a usable scale the result is a signed zero."""
    usable = (np.isfinite(scales) & (scales > 0))[..., None]
    kept = np.where(usable, grid, np.copysign(0.0, np.where(np.isnan(grid), 0.0, grid)))
    safe = np.where(usable, scales[..., None], 1.0)
    if format.tensor_scale:
        return _quotient(kept, safe * np.float64(tensor_scale))
    with np.errstate(over="ignore", under="ignore"):
        return _not_lost(np.ldexp(kept, 1 - np.frexp(safe)[1]), kept)


def _checked(x: ArrayLike, axis: int) -> tuple[Array, int]:
    """Returns x as float64 and the non-negative axis."""
    array = np.asarray(x)
    if array.dtype.name not in FORMATS:
        raise UsageTypeError(f"x must be float32, float64, float16 or an ml_dtypes float type, got {array.dtype}")
    if array.ndim == 0:
        raise UsageError(f"x needs an axis for the blocks, got shape {array.shape}; pass an array")
    axis = checks.whole("axis", axis, least=-array.ndim, most=array.ndim - 1, note=f" for x of shape {array.shape}")
    with np.errstate(invalid="ignore"):  # a signaling NaN
        return array.astype(np.float64), axis % array.ndim


def _to_grid(array: Array, axis: int, size: int) -> Array:
    """Returns the array as (..., blocks, size), with the axis moved last and zeros appended to complete a block."""
    moved = np.moveaxis(array, axis, -1)
    missing = -moved.shape[-1] % size
    padded = np.concatenate([moved, np.zeros((*moved.shape[:-1], missing), array.dtype)], axis=-1)
    return padded.reshape(*moved.shape[:-1], padded.shape[-1] // size, size)


def _from_grid(grid: Array, like: Array, axis: int) -> Array:
    length = like.shape[axis]
    flat = grid.reshape(*grid.shape[:-2], grid.shape[-2] * grid.shape[-1])[..., :length]
    return np.ascontiguousarray(np.moveaxis(flat, -1, axis))


def _bits_grid(random_bits: Array | None, wide: Array, axis: int, size: int) -> Array | None:
    if random_bits is None:
        return None
    bits = np.asarray(random_bits)
    if bits.dtype != np.uint32 or bits.shape != wide.shape:
        raise UsageError(f"random_bits must be uint32 of x's shape {wide.shape}, got {bits.dtype} of {bits.shape}")
    return _to_grid(bits, axis, size)
