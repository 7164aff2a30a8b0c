"""exp and log for kernels: the same operations as in mpsim/kernels/elementary/, and exact powers of two."""

from __future__ import annotations

import numpy as np

from mpsim.kernels.cuda.device.intrinsics import (
    add64_rn,
    div64_rn,
    double_as_long,
    long_as_double,
    mul64_rn,
    sub64_rn,
    to_float32,
)
from mpsim.kernels.cuda.device.launch import device_function
from mpsim.kernels.elementary import (
    EXP_LARGEST,
    EXP_SMALLEST,
    EXP_TERMS,
    LN2_HIGH,
    LN2_LOW,
    LOG2_E,
    LOG_TERMS,
    ROOT_HALF,
    SHIFTER,
)

INFINITY, NAN = np.float64(np.inf), np.float64(np.nan)
FRACTION = (1 << 52) - 1


@device_function
def power_of_two(exponent):
    """Returns 2**exponent as float64, for an exponent in -1022 .. 1023."""
    return long_as_double(np.int64(exponent + 1023) << 52)


@device_function
def exp64(x):
    """Computes e**x of a float64 number."""
    inside = x >= EXP_SMALLEST and x <= EXP_LARGEST
    t = x if inside else 0.0
    n = sub64_rn(add64_rn(mul64_rn(t, LOG2_E), SHIFTER), SHIFTER)
    r = sub64_rn(sub64_rn(t, mul64_rn(n, LN2_HIGH)), mul64_rn(n, LN2_LOW))
    p = EXP_TERMS[0]
    for k in range(1, len(EXP_TERMS)):
        p = add64_rn(mul64_rn(p, r), EXP_TERMS[k])
    whole = np.int64(n)
    half = whole >> 1
    result = mul64_rn(mul64_rn(p, power_of_two(half)), power_of_two(whole - half))
    if not inside:
        result = INFINITY if x > 0.0 else 0.0 if x < 0.0 else x
    return result


@device_function
def exp32(x):
    """Computes e**x, float32 -> float32."""
    return to_float32(exp64(np.float64(x)))


@device_function
def log64(x):
    """Computes the natural logarithm of a float64 number that is not subnormal."""
    inside = x > 0.0 and x < INFINITY
    pattern = np.int64(double_as_long(x if inside else 1.0))
    exponent = (pattern >> 52) - 1022
    f = long_as_double((pattern & FRACTION) | (1022 << 52))
    if f < ROOT_HALF:
        f = mul64_rn(2.0, f)
        exponent -= 1
    k = np.float64(exponent)
    s = div64_rn(sub64_rn(f, 1.0), add64_rn(f, 1.0))
    z = mul64_rn(s, s)
    p = LOG_TERMS[0]
    for j in range(1, len(LOG_TERMS)):
        p = add64_rn(mul64_rn(p, z), LOG_TERMS[j])
    small = add64_rn(add64_rn(mul64_rn(2.0, s), mul64_rn(mul64_rn(s, z), p)), mul64_rn(k, LN2_LOW))
    result = add64_rn(mul64_rn(k, LN2_HIGH), small)
    if not inside:
        result = -INFINITY if x == 0.0 else NAN if x < 0.0 else x
    return result


@device_function
def log32(x):
    """Computes the natural logarithm, float32 -> float32. No float32 number is subnormal in float64."""
    return to_float32(log64(np.float64(x)))
