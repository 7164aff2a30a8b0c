"""Compiles functions of the CPU's Numba backend as device functions, so that they are written once."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any, Protocol

from mpsim.kernels.cuda.device.launch import device_function
from mpsim.kernels.numba_cpu import codes, pattern_rounding


class Dispatcher(Protocol):
    """A function that Numba compiles."""

    py_func: FunctionType


def ported(function: Dispatcher, **helpers: object) -> Callable[..., Any]:
    """Returns a function of the CPU's Numba backend as a device function, with the functions it calls replaced."""
    plain = function.py_func
    return device_function(FunctionType(plain.__code__, {**plain.__globals__, **helpers}, plain.__name__))


increment, top_bit = ported(pattern_rounding.increment), ported(codes.top_bit)
_split, _sign_bit = ported(codes.split), ported(codes.sign_bit)
_join = ported(codes.join, top_bit=top_bit)
encode_pattern = ported(codes.encode_pattern, split=_split, top_bit=top_bit, sign_bit=_sign_bit)
decode_pattern = ported(codes.decode_pattern, join=_join, sign_bit=_sign_bit)
WIDEST_SHIFT = pattern_rounding.WIDEST_SHIFT
#: Float64's bit patterns, as int64.
MAGNITUDE64, INFINITE64, QUIET_NAN64, SIGN64 = codes.MAGNITUDE, codes.INFINITE, codes.QUIET_NAN, codes.SIGN
