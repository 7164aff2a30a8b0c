"""Arithmetic with one rounding per operation for kernels, and conversions between numbers and bit patterns.

A plain ``x * y + z`` in a kernel becomes one fma. On a device these are therefore NVIDIA's functions of the same
rounding: they become PTX instructions with ``.rn``, which no compiler contracts. The CUDA simulator runs kernels as
plain Python and uses the NumPy functions of simulated.py. Kernels are written once for both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from numba import cuda
from numba.cuda import config, libdevice, types
from numba.cuda.extending import intrinsic

#: Whether kernels run in the CUDA simulator (NUMBA_ENABLE_CUDASIM=1 before the first import of numba).
SIMULATED = bool(config.ENABLE_CUDASIM)

if SIMULATED:
    from mpsim.kernels.cuda.device import simulated

    add_rn, sub_rn, mul_rn, div_rn = simulated.add32, simulated.sub32, simulated.mul32, simulated.div32
    sqrt_rn, fma_rn, to_float32 = simulated.sqrt32, simulated.fma32, simulated.to_float32
    add_toward_zero, add_up, add_down = simulated.add32_toward_zero, simulated.add32_up, simulated.add32_down
    add64_rn, sub64_rn, mul64_rn, div64_rn = simulated.add64, simulated.sub64, simulated.mul64, simulated.div64
    float_as_int, int_as_float = simulated.float_as_int, simulated.int_as_float
    sqrt64_rn = simulated.sqrt64
    double_as_long, long_as_double = simulated.double_as_long, simulated.long_as_double
    shift_right, shift_left, lane_down = simulated.shift_right, simulated.shift_left, simulated.lane_down
else:
    add_rn, sub_rn, mul_rn, div_rn = libdevice.fadd_rn, libdevice.fsub_rn, libdevice.fmul_rn, libdevice.fdiv_rn
    sqrt_rn, fma_rn, to_float32 = libdevice.fsqrt_rn, libdevice.fmaf_rn, libdevice.double2float_rn
    add_toward_zero, add_up, add_down = libdevice.fadd_rz, libdevice.fadd_ru, libdevice.fadd_rd
    add64_rn, mul64_rn, div64_rn = libdevice.dadd_rn, libdevice.dmul_rn, libdevice.ddiv_rn
    sqrt64_rn = libdevice.dsqrt_rn
    float_as_int, int_as_float = libdevice.float_as_int, libdevice.int_as_float
    double_as_long, long_as_double = libdevice.double_as_longlong, libdevice.longlong_as_double

    def _shift(instruction: str) -> Any:
        """Returns a shift of 32-bit integers. Numba would turn a plain one into a 64-bit shift."""

        def emit(context: object, builder: object, signature: object, arguments: Sequence[object]) -> object:
            return getattr(builder, instruction)(*arguments)

        def shift(typing: object, x: object, count: object) -> tuple[object, Callable[..., object]]:
            return types.uint32(types.uint32, types.uint32), emit

        return intrinsic(shift)

    shift_right, shift_left = _shift("lshr"), _shift("shl")

    @cuda.jit(device=True, inline="always")
    def sub64_rn(x, y):
        """Subtracts float64 numbers."""
        return libdevice.dadd_rn(x, -y)

    @cuda.jit(device=True, inline="always")
    def lane_down(value, offset):
        """Returns the float32 value of the lane ``offset`` further in the warp. Every thread of the block calls it."""
        return cuda.shfl_down_sync(0xFFFFFFFF, value, offset)
