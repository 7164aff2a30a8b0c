"""Block formats (MX, NVFP4): arrays whose elements share scales by blocks, rounded, as codes, and multiplied.

Definition: mpsim/kernels/spec_blocks.py, docs/block_formats.md. Every element is rounded once, by ``round_to``, from
the exact quotient of the number and its scale; exponents come from the bits, never from a logarithm.
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

TINY = 2.0**-1000  # stands for any smaller quotient: far below half of every element format's smallest number


@dataclass(frozen=True, eq=False)
class Blocks:
    """A quantised array. codes: uint8 of the array's shape; scales: uint8 codes, the block axis as long as there are
    blocks (the last may be short); tensor_scale: float32, 1 but for NVFP4; axis: the block axis, not negative."""

    format: BlockFormat
    codes: Array
    scales: Array
    tensor_scale: np.float32
    axis: int

    @property
    def bytes(self) -> int:
        """Of codes packed without gaps, scales, and the tensor scale if there is one."""
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
    """x as the block format holds it: element times scale, in x's shape and (widened) type.

    x, mode, overflow, random bits, backend, threads, errors: as for ``round_to``, but x has at least one axis, the
    modes of QPyTorch are refused, and elements saturate by default (OCP MX v1.0 §6.3). ``axis``: along it lie the
    blocks; the last may be shorter. ``scale_rule``: a row of SCALE_RULES (formats with E8M0 scales; NVFP4's scale is
    amax / (6 * tensor scale) to nearest even, whatever the rule). ``scale_overflow``: a scale beyond the largest
    becomes that ("saturate") or NaN ("nan"). ``tensor_scale``: for NVFP4, a positive float32; None takes
    float32(amax of x / (6 * 448)). A block with a NaN or an infinity has the scale NaN and all of it becomes NaN.
    With ``counts``: (result, Counts) of the elements as they were rounded after scaling; NaN and infinite ones count
    as overflowed.

    >>> import numpy as np
    >>> print(round_to_blocks(np.float32([7, -0.3, 0.1]), "mxfp4", backend="reference"))
    [ 6.  -0.5  0. ]
    """
    blocks, numbers = _quantize(
        x, format, axis, scale_rule, scale_overflow, mode, overflow, tensor_scale, random_bits, random_bit_count,
        backend, threads,
    )  # fmt: skip
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
    """The codes and scales of ``round_to_blocks``; same arguments and errors.

    >>> import numpy as np
    >>> blocks = quantize(np.float32([7, -0.3, 0.1]), "mxfp4", backend="reference")
    >>> print(blocks.codes, blocks.scales)
    [7 9 0] [127]
    """
    return _quantize(
        x, format, axis, scale_rule, scale_overflow, mode, overflow, tensor_scale, random_bits, random_bit_count,
        backend, threads,
    )[0]  # fmt: skip


def dequantize(
    blocks: Blocks, dtype: DTypeLike = np.float32, *, backend: str = "compiled", threads: int | None = None
) -> Array:
    """Element * scale * tensor scale: exact in float64, rounded once to nearest even in float32.

    NaN where the scale or the element is. Raises TypeError for another dtype.
    """
    dtype = np.dtype(dtype)
    if dtype not in (np.float32, np.float64):
        raise UsageTypeError(f"dequantize gives float32 or float64, not {dtype}")
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
    """E8M0 scales (spec_blocks.power_scale) of finite largest magnitudes; exponents by frexp, which reads the bits."""
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
            raise UsageError(f"tensor_scale must be a number of float32, got {given!r}; round it first", "tensor_scale")
        return scale
    finite = np.abs(x[np.isfinite(x)])
    amax = np.array([finite.max(initial=0.0)])
    if amax[0] == 0:
        return np.float32(1)
    exact = _quotient(amax, np.array([format.element.largest * format.scale.largest]))
    rounded = round_to(exact, "float32", overflow="saturate", backend="reference")[0]
    return np.float32(max(rounded, 2.0**-149))


def _quotient(x: Array, divisor: Array | float) -> Array:
    """x / divisor in float64, which rounds to a narrow format as the exact quotient does.

    Let m be a number or midpoint of the format. m * divisor is exact in float64: m has at most 25 bits and a divisor
    28. If x is not that product, it is at least one place of float64 away, relatively more than 2**-53; so x / divisor
    differs from m by more than 2**-53 of m, which is more than the division's rounding can close.
    """
    with np.errstate(over="ignore", under="ignore", divide="ignore", invalid="ignore"):
        return _not_lost(np.clip(x / divisor, -1 / TINY, 1 / TINY), x)


def _not_lost(scaled: Array, x: Array) -> Array:
    """Nonzero numbers whose scaled value float64 cannot hold exactly, being so small, become +-TINY."""
    return np.where((np.abs(scaled) < TINY) & (x != 0), np.copysign(TINY, x), scaled)


# -- the elements -------------------------------------------------------------------------------------------


def _quantize(
    x: ArrayLike, format: str | BlockFormat, axis: int, rule: str, scale_overflow: str, mode: str | Mode,
    overflow: str | Overflow, tensor_scale: float | None, random_bits: Array | Stream | None,
    random_bit_count: int | None, backend: str, threads: int | None,
) -> tuple[Blocks, Counts]:  # fmt: skip
    format = as_block_format(format)
    wide, axis = _checked(x, axis, rule, scale_overflow)
    policy = Policy(mode, overflow, random_bit_count)  # type: ignore[arg-type]
    if policy.mode.is_legacy:
        raise UsageError(f"mode {policy.mode.value!r} is QPyTorch's, which has no block formats")
    if isinstance(random_bits, Stream):
        random_bits = philox.random_bits(random_bits, wide.size).reshape(wide.shape)
    given = _tensor_scale(wide, format, tensor_scale)
    grid = _to_grid(wide, axis, format.size)
    sound = np.isfinite(grid).all(-1)
    amax = np.where(sound, np.abs(np.where(np.isfinite(grid), grid, 0)).max(-1, initial=0.0), 0.0)
    if format.tensor_scale:
        exact = _quotient(amax, np.float64(given) * format.element.largest)
        beyond = Overflow.SATURATE if scale_overflow == "saturate" else Overflow.INFINITY
        scales = round_to(exact, format.scale, Mode.NEAREST_EVEN, beyond, backend=backend, threads=threads)
    else:
        scales = _power_scales(amax, format, rule, scale_overflow)
    scales = np.where(sound, scales, np.nan)
    elements, numbers = round_to(
        _scaled(grid, scales, given, format), format.element, policy.mode, policy.overflow,
        random_bits=_bits_grid(random_bits, wide, axis, format.size), random_bit_count=random_bit_count,
        backend=backend, threads=threads, counts=True,
    )  # fmt: skip
    codes = _from_grid(encode(elements, format.element, backend=backend, threads=threads), wide, axis)
    found = np.moveaxis(encode(scales, format.scale, backend=backend, threads=threads), -1, axis)
    wrong = int(np.sum(~np.isfinite(wide)))
    numbers = numbers._replace(overflowed=numbers.overflowed + wrong, nan=int(np.isnan(wide).sum()))
    return Blocks(format, codes, np.ascontiguousarray(found), given, axis), numbers


def _scaled(grid: Array, scales: Array, tensor_scale: np.float32, format: BlockFormat) -> Array:
    """Numbers over their scales, as ``_quotient``; zeros of their sign where there is no scale to divide by."""
    usable = (np.isfinite(scales) & (scales > 0))[..., None]
    kept = np.where(usable, grid, np.copysign(0.0, np.where(np.isnan(grid), 0.0, grid)))
    safe = np.where(usable, scales[..., None], 1.0)
    if format.tensor_scale:
        return _quotient(kept, safe * np.float64(tensor_scale))
    with np.errstate(over="ignore", under="ignore"):
        return _not_lost(np.ldexp(kept, 1 - np.frexp(safe)[1]), kept)


def _checked(x: ArrayLike, axis: int, rule: str, scale_overflow: str) -> tuple[Array, int]:
    """x as float64 and its axis, not negative."""
    array = np.asarray(x)
    if array.dtype.name not in FORMATS:
        raise UsageTypeError(f"rounding takes float32, float64, float16 or an ml_dtypes float type, got {array.dtype}")
    if array.ndim == 0:
        raise UsageError(f"blocks lie along an axis of x, and x has shape {array.shape}; pass an array")
    axis = checks.whole("axis", axis, least=-array.ndim, most=array.ndim - 1, note=f" for x of shape {array.shape}")
    checks.named("scale rule", rule, SCALE_RULES)
    checks.named("scale_overflow", scale_overflow, SCALE_OVERFLOWS)
    with np.errstate(invalid="ignore"):  # a signaling NaN
        return array.astype(np.float64), axis % array.ndim


def _to_grid(array: Array, axis: int, size: int) -> Array:
    """(..., blocks, size): the axis moved last, filled with zeros to whole blocks."""
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
        raise UsageError(f"random_bits are uint32 of x's shape {wide.shape}, got {bits.dtype} of {bits.shape}")
    return _to_grid(bits, axis, size)
