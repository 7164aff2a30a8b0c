"""Public functions that round, encode and decode. Each validates its arguments once and then calls one kernel.

docs/semantics.md and kernels/spec.py define the results.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from mpsim import checks
from mpsim.checks import available_threads
from mpsim.errors import UsageError, UsageTypeError
from mpsim.formats import FORMATS, Format, as_format
from mpsim.interchange import as_array
from mpsim.kernels import DEFAULT_BACKEND, hosted, is_in_c, spec
from mpsim.kernels.contract import Array
from mpsim.kernels.philox import Stream
from mpsim.policies import Mode, Overflow, Policy
from mpsim.process import in_default_environment

__all__ = ["Counts", "Mode", "Overflow", "Policy", "Stream", "available_threads", "decode", "encode", "round_to"]


#: Elements from which arrays of 8 and 16 bits are converted to float32 by their codes.
MANY = 4096


class Counts(NamedTuple):
    """Counts the elements of a rounded array by what happened to them.

    Args:
        overflowed: x is NaN, or |x| is at least the smallest magnitude that nearest_even rounds beyond the largest
            number. This is the numerator of the paper's overflow ratio, and it does not depend on the mode.
        underflowed: 0 < |x| <= half the smallest positive number.
        nan: x is NaN.
        inexact: x is a number and the result differs from it.
        subnormal: The result is subnormal.
    """

    overflowed: int
    underflowed: int
    nan: int
    inexact: int
    subnormal: int


@in_default_environment
def round_to(
    x: ArrayLike,
    fmt: str | Format,
    mode: str | Mode = Mode.NEAREST_EVEN,
    overflow: str | Overflow = Overflow.INFINITY,
    *,
    random_bits: Array | Stream | None = None,
    random_bit_count: int | None = None,
    backend: str = DEFAULT_BACKEND,
    threads: int | None = None,
    out: Array | None = None,
    counts: bool = False,
) -> Any:
    """Rounds each element of x to a format, once, from its exact value.

    Args:
        x: float32 or float64 of any shape, or a Python float (float64). float16, bfloat16 and ml_dtypes arrays are
            converted to float32, which is exact. Integers are rounded from their exact value, also those of 64 bits.
            Tensors of PyTorch and arrays of JAX are read by their bits; the result is NumPy's.
        fmt: The format, its name, or a dtype (of NumPy, ml_dtypes, JAX or PyTorch).
        mode, overflow: The rounding mode and the overflow policy.
        random_bits: For stochastic modes, uint32 of x's shape or a Stream.
        random_bit_count: For mode "stochastic", how many low bits of each random word are used (1 to 32).
        backend, threads: Which backend runs, on how many threads (None: one per core). Bits do not depend on them.
        out: An array for the result. It may be x.
        counts: Also return ``Counts``.

    Returns:
        The result, with x's shape and (converted) type, float64 for integers, a NumPy scalar for a scalar. With
        ``counts``, (result, Counts).

    Raises:
        ValueError, TypeError: An argument, or a combination of arguments, is not supported.
        BackendUnavailable: The backend cannot run here.

    Source: IEEE 754-2019 §4.3, §7.4; Lee, Sharma, Aiken 2023 §4.1 (fp_E_M_B); QPyTorch (legacy modes).

    >>> import numpy as np
    >>> print(round_to(np.float64(-431.99999999999994), "float8_e4m3fn", backend="reference"))
    -416.0
    >>> round_to(np.float32([0.3, 1e9]), "float8_e5m2", overflow="saturate", backend="reference", counts=True)
    (array([3.1250e-01, 5.7344e+04], dtype=float32), Counts(overflowed=1, underflowed=0, nan=0, inexact=2, subnormal=0))
    """
    array, is_scalar, format, policy, bits = _checked(x, fmt, mode, overflow, random_bits, random_bit_count, backend)
    kernels, threads = hosted(backend), checks.threads(threads)
    target = _check_out(array, out, is_scalar)
    if target is not None and np.may_share_memory(array, target) and array.ctypes.data != target.ctypes.data:
        array = array.copy()
    if target is not None and isinstance(bits, np.ndarray) and np.may_share_memory(bits, target):
        bits = bits.copy()
    result, numbers = kernels.round_array(array, format, policy, random_bits=bits, out=target, threads=threads)
    if out is not None and target is None:
        out[...] = result
    answer = out if out is not None else result[()] if is_scalar else result
    return (answer, Counts(*(int(number) for number in numbers))) if counts else answer


@in_default_environment
def encode(
    x: ArrayLike,
    fmt: str | Format,
    mode: str | Mode = Mode.NEAREST_EVEN,
    overflow: str | Overflow = Overflow.INFINITY,
    *,
    random_bits: Array | Stream | None = None,
    random_bit_count: int | None = None,
    backend: str = DEFAULT_BACKEND,
    threads: int | None = None,
) -> Any:
    """Rounds x as ``round_to`` does and returns the codes.

    Args:
        x, fmt, mode, overflow, random_bits, random_bit_count, backend, threads: As for ``round_to``.

    Returns:
        Codes of x's shape, as the narrowest of uint8, uint16, uint32 and uint64 that holds them.

    Raises:
        ValueError, TypeError: As for ``round_to``, and if a result is NaN or (with overflow "mark") infinity and the
            format has no code for it.
        BackendUnavailable: The backend cannot run here.

    >>> hex(encode(-416.0, "float8_e4m3fn", backend="reference"))
    '0xfd'
    """
    array, is_scalar, format, policy, bits = _checked(x, fmt, mode, overflow, random_bits, random_bit_count, backend)
    kernels, threads = hosted(backend), checks.threads(threads)
    codes, strays = kernels.encode_rounded(array, format, policy, random_bits=bits, threads=threads)
    if (strays[0] and not format.has_nan) or (strays[1] and not format.has_infinity):
        rounded, _ = kernels.round_array(array, format, policy, random_bits=bits, threads=threads)
        if not format.has_nan:
            _refuse(rounded, np.isnan(rounded), f"{format} has no code for NaN")
        _refuse(rounded, np.isinf(rounded), f"{format} has no code for infinity (overflow 'mark' is for numbers only)")
    return codes[()] if is_scalar else codes


@in_default_environment
def decode(
    codes: ArrayLike,
    fmt: str | Format,
    dtype: DTypeLike = np.float32,
    *,
    backend: str = DEFAULT_BACKEND,
    threads: int | None = None,
) -> Any:
    """Converts codes to the numbers they represent. The conversion is exact, and NaNs are canonical.

    Args:
        codes: Integers of any type and shape, each from 0 to 2**format.bits - 1. In a format without subnormals every
            code with exponent 0 is a zero.
        fmt: The format, or its name.
        dtype: float32 or float64.
        backend, threads: As for ``round_to``.

    Returns:
        Numbers of the codes' shape and of type ``dtype``.

    Raises:
        ValueError: A code is out of range, or ``dtype`` cannot hold all values of the format.
        TypeError: The codes are not integers, or ``dtype`` is neither float32 nor float64.
        BackendUnavailable: The backend cannot run here.

    >>> print(decode(0xFD, "float8_e4m3fn", backend="reference"))
    -416.0
    """
    format, dtype = as_format(fmt), np.dtype(dtype)
    format.require_float64()
    if dtype not in (np.float32, np.float64):
        raise UsageTypeError(f"decode returns float32 or float64, not {dtype}")
    if dtype == np.float32 and not format.fits_float32:
        raise UsageError(f"{format} has values that float32 cannot hold; pass dtype=np.float64")
    is_scalar = isinstance(codes, (int, np.generic))
    array = as_array(codes)
    if array.dtype.kind not in "iu":
        raise UsageTypeError(f"codes must be integers, got {array.dtype}; for numbers use encode or round_to")
    top = 2**format.bits - 1
    if array.dtype.kind == "i" or (8 * array.itemsize > format.bits and array.max(initial=0) > top):
        wrong = (array < 0) | (array > top) if array.size else np.zeros(array.shape, bool)
        _refuse(array, wrong, f"codes of {format} must be from 0 to {top}")
    unsigned = np.require(array, f"uint{format.code_bits}", ["C", "A"])
    values = hosted(backend).decode_array(unsigned, format, dtype, threads=checks.threads(threads))
    return values[()] if is_scalar else values


# -- validation ---------------------------------------------------------------------------------------------


class _Checked(NamedTuple):
    """What is rounded, whether it was a scalar, and how."""

    array: Array
    is_scalar: bool
    format: Format
    policy: Policy
    bits: Array | Stream | None


def _checked(
    x: ArrayLike, fmt: str | Format, mode: str | Mode, overflow: str | Overflow, random_bits: Array | Stream | None,
    random_bit_count: int | None, backend: str,
) -> _Checked:  # fmt: skip
    """Returns the arguments of ``round_to`` as kernels take them."""
    format = as_format(fmt)
    policy = Policy(mode, overflow, random_bit_count)  # type: ignore[arg-type]
    array, is_scalar = _widen(x, format, policy, backend)
    _check_combination(array, format, policy)
    return _Checked(array, is_scalar, format, policy, _check_random_bits(array, policy, random_bits))


def _widen(x: ArrayLike, format: Format, policy: Policy, backend: str) -> tuple[Array, bool]:
    """Returns x as a contiguous float32 or float64 array, and whether it was a scalar."""
    array = as_array(x)
    dtype = array.dtype
    if dtype.kind in "iu":
        return of_integers(array, format, policy), isinstance(x, (int, np.generic))
    if dtype.name not in FORMATS:
        raise UsageTypeError(f"x must be float32, float64, float16, an ml_dtypes float type or integers, got {dtype}")
    # NumPy's conversion is slower. It gives the one NaN of fnuz formats a sign.
    if dtype.itemsize <= 2 and array.size >= MANY and is_in_c(backend) and FORMATS[dtype.name].specials != "fnuz":
        codes = np.require(array, None, ["C", "A"]).view(f"uint{8 * dtype.itemsize}")
        return hosted(backend).decode_array(codes, FORMATS[dtype.name], np.dtype(np.float32)), False
    wide = np.float64 if dtype.name == "float64" else np.float32
    with np.errstate(invalid="ignore"):  # a signaling NaN
        contiguous = np.require(array, wide, ["C", "A"])
    return contiguous, isinstance(x, (float, np.generic))


def of_integers(x: Array, format: Format, policy: Policy) -> Array:
    """Returns float64 numbers that are rounded to the format as the integers x are.

    They are the integers where float64 holds them. Elsewhere they are the integers rounded to odd at 53 bits, which no
    rounding to at most 51 bits can distinguish from them (Boldo and Melquiond 2008), or, for a wider format, the
    results.

    Raises:
        UsageError: The format is too wide for that: a stochastic mode, or a large smallest normal number.
    """
    wide = np.atleast_1d(x).astype(np.int64 if x.dtype.kind == "i" else np.uint64)
    magnitude = np.where(wide < 0, np.uint64(0) - wide.view(np.uint64), wide.view(np.uint64))
    held = magnitude <= np.uint64(1 << 53)
    if held.all():
        return np.ascontiguousarray(wide.astype(np.float64)).reshape(x.shape)
    precision, mode = 53, Mode.TO_ODD
    if format.precision + (policy.random_bit_count or 0) > 51:
        if policy.mode.needs_random_bits or policy.mode.is_legacy or format.min_exponent > 0:
            raise UsageError(
                f"integers beyond 2**53 cannot be rounded to {format} with mode {policy.mode.value!r}"
                + f" and random_bit_count {policy.random_bit_count}" * (policy.random_bit_count is not None)
            )
        precision, mode = format.precision, policy.mode
    rounded = _to_precision(magnitude, wide < 0, precision, mode)
    return np.where(wide < 0, -rounded, rounded).reshape(x.shape)


def _to_precision(magnitude: Array, negative: Array, precision: int, mode: Mode) -> Array:
    """Returns uint64 magnitudes rounded to a number of significant bits, as float64."""
    _, length = np.frexp((magnitude >> np.uint64(11)).astype(np.float64))  # exact: at most 53 bits
    shift = np.maximum(np.where(length > 0, length + 11, 53) - precision, 0).astype(np.uint64)
    keep = magnitude >> shift
    rest = magnitude - (keep << shift)
    half = np.uint64(1) << np.maximum(shift, 1) - np.uint64(1)
    odd, some = keep % np.uint64(2) == 1, rest > 0
    up = {
        Mode.NEAREST_EVEN: (rest > half) | ((rest == half) & odd),
        Mode.NEAREST_AWAY: rest >= half,
        Mode.NEAREST_ZERO: rest > half,
        Mode.TOWARD_ZERO: np.zeros(rest.shape, bool),
        Mode.UP: ~negative,
        Mode.DOWN: negative,
        Mode.TO_ODD: ~odd,
    }[mode]
    return np.ldexp((keep + (up & some)).astype(np.float64), shift.astype(np.int64))


def _check_combination(array: Array, format: Format, policy: Policy) -> None:
    format.require_float64()
    if array.dtype == np.float32 and not format.fits_float32:
        raise UsageError(f"{format} has values that float32 cannot hold; pass float64: x.astype(np.float64)")
    if policy.mode.is_legacy and array.dtype != np.float32:
        raise UsageTypeError(
            f"mode {policy.mode.value!r} is defined only for float32, got {array.dtype}; pass x.astype(np.float32)"
        )
    if policy.mode.is_legacy and not spec.legacy_applies(format):
        raise UsageError(
            f"mode {policy.mode.value!r} supports fp_E_M_B (E <= 8, M <= 22, |B| <= 126) and equivalent formats, "
            f"not {format}; pass the fp_E_M_B that QPyTorch would use"
        )


def _check_random_bits(array: Array, policy: Policy, random_bits: Array | Stream | None) -> Array | Stream | None:
    if not policy.mode.needs_random_bits:
        if random_bits is not None:
            raise UsageError(f"mode {policy.mode.value!r} does not use random bits; pass random_bits=None")
        return None
    if random_bits is None:
        raise UsageError(
            f"mode {policy.mode.value!r} needs random_bits: uint32 of shape {array.shape} or a Stream, such as "
            f'Stream(seed=0, purpose="rounding")'
        )
    if isinstance(random_bits, Stream):
        return random_bits
    bits = as_array(random_bits)
    if bits.dtype != np.uint32:
        raise UsageTypeError(f"random_bits must be uint32, got {bits.dtype}")
    if bits.shape != array.shape:
        raise UsageError(f"random_bits must have x's shape {array.shape}, got {bits.shape}")
    return np.require(bits, np.uint32, ["C", "A"])


def _check_out(array: Array, out: Array | None, is_scalar: bool) -> Array | None:
    """Returns the array that the kernel writes to: ``out`` if it is contiguous, otherwise None."""
    if out is None:
        return None
    if not isinstance(out, np.ndarray) or isinstance(out, np.ma.MaskedArray) or is_scalar:
        raise UsageTypeError(
            f"out must be a NumPy array without a mask, and x an array too; got out={type(out).__name__}"
        )
    if out.shape != array.shape or out.dtype != array.dtype or not out.flags.writeable:
        raise UsageError(
            f"out must be a writable {array.dtype} array of shape {array.shape}, got {out.dtype} of shape {out.shape}"
            + ("" if out.flags.writeable else ", read-only")
        )
    return np.asarray(out) if out.flags.carray else None  # kernels take no subclasses, such as matrices


def _refuse(array: Array, wrong: Array, reason: str) -> None:
    """Raises UsageError with the first wrong element of ``array`` if there is one."""
    if wrong.any():
        first = tuple(int(i) for i in np.argwhere(wrong)[0]) if array.ndim else ()
        where = f" at index {first if len(first) > 1 else first[0]}" if first else ""
        raise UsageError(f"{reason}, got {array[first]}{where}")
