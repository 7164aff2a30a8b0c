"""The public doors to rounding: everything is validated here once, then one kernel runs.

Definition: docs/semantics.md, kernels/spec.py.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from mpsim import checks
from mpsim.checks import available_threads
from mpsim.errors import UsageError, UsageTypeError
from mpsim.formats import FORMATS, Format, as_format
from mpsim.kernels import hosted, spec
from mpsim.kernels.contract import Array
from mpsim.kernels.philox import Stream
from mpsim.policies import Mode, Overflow, Policy

__all__ = ["Counts", "Mode", "Overflow", "Policy", "Stream", "available_threads", "decode", "encode", "round_to"]


class Counts(NamedTuple):
    """How many elements of a rounded array had what.

    overflowed: |x| is at least the smallest magnitude that nearest_even sends beyond the largest number, or x
    is NaN (the paper's overflow ratio, whatever the mode); underflowed: 0 < |x| <= half the smallest positive
    number; nan: x is NaN; inexact: x is a number and the result differs from it; subnormal: the result is.
    """

    overflowed: int
    underflowed: int
    nan: int
    inexact: int
    subnormal: int


def round_to(
    x: ArrayLike,
    fmt: str | Format,
    mode: str | Mode = Mode.NEAREST_EVEN,
    overflow: str | Overflow = Overflow.INFINITY,
    *,
    random_bits: Array | Stream | None = None,
    random_bit_count: int | None = None,
    backend: str = "compiled",
    threads: int | None = None,
    out: Array | None = None,
    counts: bool = False,
) -> Any:
    """x rounded to a format, once, from its exact value.

    x: float32 or float64 of any shape, or a Python float (float64); float16, bfloat16 and ml_dtypes arrays
    widen exactly to float32. The result has x's shape and (widened) type; a scalar gives a NumPy scalar.
    ``random_bits``: for the stochastic modes, uint32 of x's shape or a Stream; mode "stochastic" uses the low
    ``random_bit_count`` (1 to 32) of each. ``out``: an array for the result, which may be x. ``threads``: None
    for as many as there are cores; any number gives the same bits. With ``counts``: (result, Counts).

    Raises ValueError or TypeError for anything else, BackendUnavailable if the backend cannot run here.
    Source: IEEE 754-2019 §4.3, §7.4; Lee, Sharma, Aiken 2023 §4.1 (fp_E_M_B); QPyTorch (legacy modes).

    >>> import numpy as np
    >>> print(round_to(np.float64(-431.99999999999994), "float8_e4m3fn", backend="reference"))
    -416.0
    >>> round_to(np.float32([0.3, 1e9]), "float8_e5m2", overflow="saturate", backend="reference", counts=True)
    (array([3.1250e-01, 5.7344e+04], dtype=float32), Counts(overflowed=1, underflowed=0, nan=0, inexact=2, subnormal=0))
    """
    array, is_scalar = _widen(x)
    format = as_format(fmt)
    policy = Policy(mode, overflow, random_bit_count)  # type: ignore[arg-type]
    _check_combination(array, format, policy)
    bits = _check_random_bits(array, policy, random_bits)
    kernels, threads = hosted(backend), checks.threads(threads)
    target = _check_out(array, out, is_scalar)
    if target is not None and np.may_share_memory(array, target) and array.ctypes.data != target.ctypes.data:
        array = array.copy()
    result, numbers = kernels.round_array(array, format, policy, random_bits=bits, out=target, threads=threads)
    if out is not None and result is not out:
        out[...] = result
        result = out
    answer = result[()] if is_scalar else result
    return (answer, Counts(*(int(number) for number in numbers))) if counts else answer


def encode(
    x: ArrayLike,
    fmt: str | Format,
    mode: str | Mode = Mode.NEAREST_EVEN,
    overflow: str | Overflow = Overflow.INFINITY,
    *,
    random_bits: Array | Stream | None = None,
    random_bit_count: int | None = None,
    backend: str = "compiled",
    threads: int | None = None,
) -> Any:
    """The codes of x rounded as by ``round_to``: uint8, uint16, uint32 or uint64, the narrowest that holds them.

    Same arguments and errors as ``round_to``; also ValueError where the result is NaN and the format has none,
    or infinity (overflow "mark") and the format has none.

    >>> hex(encode(-416.0, "float8_e4m3fn", backend="reference"))
    '0xfd'
    """
    format = as_format(fmt)
    rounded = round_to(
        x,
        format,
        mode,
        overflow,
        random_bits=random_bits,
        random_bit_count=random_bit_count,
        backend=backend,
        threads=threads,
    )
    array = np.asarray(rounded)
    if not format.has_nan:
        _refuse(array, np.isnan(array), f"{format} has no code for NaN")
    if not format.has_infinity:
        _refuse(array, np.isinf(array), f"{format} has no code for infinity (overflow 'mark' is for numbers only)")
    codes = hosted(backend).encode_array(array, format, threads=checks.threads(threads))
    return codes[()] if isinstance(rounded, np.generic) else codes


def decode(
    codes: ArrayLike,
    fmt: str | Format,
    dtype: DTypeLike = np.float32,
    *,
    backend: str = "compiled",
    threads: int | None = None,
) -> Any:
    """The numbers that codes stand for, float32 or float64, exactly; NaNs are canonical.

    codes: integers of any type and shape, each in 0 .. 2**format.bits - 1. In a format without subnormals every
    code of exponent 0 is a zero. Raises ValueError for other codes, or if dtype cannot hold the format.

    >>> print(decode(0xFD, "float8_e4m3fn", backend="reference"))
    -416.0
    """
    format, dtype = as_format(fmt), np.dtype(dtype)
    format.require_float64()
    if dtype not in (np.float32, np.float64):
        raise UsageTypeError(f"decode gives float32 or float64, not {dtype}")
    if dtype == np.float32 and not format.fits_float32:
        raise UsageError(f"{format} has values that float32 cannot hold; pass dtype=np.float64")
    is_scalar = isinstance(codes, (int, np.generic))
    array = np.asarray(codes)
    if array.dtype.kind not in "iu":
        raise UsageTypeError(f"codes are integers, got {array.dtype}; for numbers use encode or round_to")
    wrong = (array < 0) | (array > 2**format.bits - 1) if array.size else np.zeros(array.shape, bool)
    _refuse(array, wrong, f"codes of {format} are 0 to {2**format.bits - 1}")
    unsigned = np.require(array, f"uint{format.code_bits}", ["C", "A"])
    values = hosted(backend).decode_array(unsigned, format, dtype, threads=checks.threads(threads))
    return values[()] if is_scalar else values


# -- validation ---------------------------------------------------------------------------------------------


def _widen(x: ArrayLike) -> tuple[Array, bool]:
    """x as a contiguous float32 or float64 array, and whether it was a scalar."""
    array = np.asarray(x)
    dtype = array.dtype
    if dtype.name not in FORMATS:
        hint = "; convert it with np.float64(...) if that is what you mean" if dtype.kind in "iub" else ""
        raise UsageTypeError(f"rounding takes float32, float64, float16 or an ml_dtypes float type, got {dtype}{hint}")
    wide = np.float64 if dtype.name == "float64" else np.float32
    with np.errstate(invalid="ignore"):  # a signaling NaN
        contiguous = np.require(array, wide, ["C", "A"])
    return contiguous, isinstance(x, (float, np.generic))


def _check_combination(array: Array, format: Format, policy: Policy) -> None:
    format.require_float64()
    if array.dtype == np.float32 and not format.fits_float32:
        raise UsageError(f"{format} has values that float32 cannot hold; pass float64: x.astype(np.float64)")
    if policy.mode.is_legacy and array.dtype != np.float32:
        raise UsageTypeError(
            f"mode {policy.mode.value!r} is defined on float32 only, got {array.dtype}; pass x.astype(np.float32)"
        )
    if policy.mode.is_legacy and not spec.legacy_applies(format):
        raise UsageError(
            f"mode {policy.mode.value!r} knows fp_E_M_B (E <= 8, M <= 22, |B| <= 126) and formats like it, "
            f"not {format}: name the fp_E_M_B that QPyTorch would use"
        )


def _check_random_bits(array: Array, policy: Policy, random_bits: Array | Stream | None) -> Array | Stream | None:
    if not policy.mode.needs_random_bits:
        if random_bits is not None:
            raise UsageError(f"mode {policy.mode.value!r} uses no random bits; got some")
        return None
    if random_bits is None:
        raise UsageError(
            f"mode {policy.mode.value!r} needs random_bits: uint32 of shape {array.shape} or a Stream, such as "
            f'Stream(seed=0, purpose="rounding")'
        )
    if isinstance(random_bits, Stream):
        return random_bits
    bits = np.asarray(random_bits)
    if bits.dtype != np.uint32:
        raise UsageTypeError(f"random_bits are uint32, got {bits.dtype}")
    if bits.shape != array.shape:
        raise UsageError(f"random_bits have x's shape {array.shape}, got {bits.shape}")
    return np.require(bits, np.uint32, ["C", "A"])


def _check_out(array: Array, out: Array | None, is_scalar: bool) -> Array | None:
    """The array for the kernel to write to: ``out`` if it is contiguous, else None."""
    if out is None:
        return None
    if not isinstance(out, np.ndarray) or is_scalar:
        raise UsageTypeError(f"out is a NumPy array for an array x, got {type(out).__name__}")
    if out.shape != array.shape or out.dtype != array.dtype or not out.flags.writeable:
        raise UsageError(
            f"out is a writable {array.dtype} array of shape {array.shape}, got {out.dtype} of shape {out.shape}"
            + ("" if out.flags.writeable else ", read-only")
        )
    return out if out.flags.carray else None


def _refuse(array: Array, wrong: Array, reason: str) -> None:
    """ValueError with the first element of ``array`` that is wrong, if there is one."""
    if wrong.any():
        first = tuple(int(i) for i in np.argwhere(wrong)[0]) if array.ndim else ()
        where = f" at index {first if len(first) > 1 else first[0]}" if first else ""
        raise UsageError(f"{reason}, got {array[first]}{where}")
