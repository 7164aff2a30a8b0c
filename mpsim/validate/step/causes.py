"""What would explain a tensor of a step that differs: another rounding, none, or a constant factor."""

from __future__ import annotations

from typing import Any

import numpy as np

from mpsim.kernels import reference, spec
from mpsim.policies import Mode, Overflow, Policy
from mpsim.validate.step.tensor_compare import TensorComparison, compare_arrays

Array = np.ndarray[Any, Any]


def of_rounding(comparison: TensorComparison, unrounded: Array, theirs: Array, policy: Policy) -> list[str]:
    """Sentences, the most likely first; [] if nothing here explains it.

    unrounded: mpsim's float32 result, which ``policy`` rounds; theirs: the other's stored tensor.
    """
    format = comparison.format
    if _nearly(unrounded, theirs):
        return [f"not rounded: this is the float32 result, not a number of {format}"]
    if format.name == "float32":
        return []
    for mode in Mode:
        if mode.needs_random_bits or (mode.is_legacy and not spec.legacy_applies(format)):
            continue
        for overflow in sorted(Overflow, key=lambda choice: choice != policy.overflow):
            if mode.is_legacy and overflow not in (Overflow.SATURATE, Overflow.MARK):
                continue
            other = Policy(mode, overflow)
            if other == policy:
                continue
            rounded, _ = reference.round_array(unrounded, format, other)
            if compare_arrays(comparison.name, rounded, theirs, format).within(1, 0.001):
                what = [f"mode {mode.value} instead of {policy.mode.value}"] if mode != policy.mode else []
                if overflow != policy.overflow:
                    what.append(f"overflow {overflow.value} instead of {policy.overflow.value}")
                return [f"explained by {' and '.join(what)}"]
    factor = _factor(unrounded, theirs)
    return [] if factor is None else [f"about {factor:.4g} times what it should be"]


def _nearly(unrounded: Array, theirs: Array) -> bool:
    """Whether two float32 arrays are one but for the last places of sums in another order."""
    finite = np.isfinite(unrounded)
    size = float(np.abs(unrounded[finite]).max(initial=0))
    return bool(np.allclose(theirs[finite], unrounded[finite], rtol=1e-5, atol=1e-6 * size))


def _factor(unrounded: Array, theirs: Array) -> float | None:
    """The factor between the two if it is about the same everywhere."""
    used = np.isfinite(unrounded) & np.isfinite(theirs) & (unrounded != 0) & (theirs != 0)
    if used.sum() < 2:
        return None
    ratios = theirs[used].astype(np.float64) / unrounded[used]
    middle = float(np.median(ratios))
    close = np.mean(np.abs(ratios / middle - 1) < 0.15) if middle else 0.0
    return middle if close > 0.95 and abs(middle - 1) > 0.2 else None
