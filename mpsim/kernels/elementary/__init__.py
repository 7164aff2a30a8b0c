"""Computes elementary functions in specified orders of operations, so that every backend gives the same bits.

Each is computed in float64 with + - * / and sqrt (each rounded once to nearest even, without contraction) and exact
scaling by powers of two, and rounded once to float32. ``exp_log`` has exp and log, ``functions`` everything else. A
backend repeats them in its own language, constant by constant and operation by operation.
"""

from mpsim.kernels.elementary.exp_log import (
    EXP_LARGEST,
    EXP_SMALLEST,
    EXP_TERMS,
    LN2_HIGH,
    LN2_LOW,
    LOG2_E,
    LOG_TERMS,
    ROOT_HALF,
    SHIFTER,
    exp32,
    exp64,
    log32,
    log64,
)

__all__ = [
    "EXP_LARGEST", "EXP_SMALLEST", "EXP_TERMS", "LN2_HIGH", "LN2_LOW", "LOG2_E", "LOG_TERMS", "ROOT_HALF", "SHIFTER",
    "exp32", "exp64", "log32", "log64",
]  # fmt: skip
