"""What would explain a tensor of a step that differs: another rounding, none, a constant factor, or errors that point
one way.

A cause is named if it explains every element and changes some of those that differ, another mode or format of storage
at least LEAST_TURNED; one defect of a single element has none of these causes, and none is named.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from mpsim.formats import FORMATS, Format
from mpsim.kernels import reference, spec
from mpsim.kernels.contract import Array
from mpsim.policies import Mode, Overflow, Policy
from mpsim.validate.grid import off_grid
from mpsim.validate.step.noise import UNIT
from mpsim.validate.step.tensor_compare import TensorComparison

#: The chance, at most, that sums in another order move as many ties to one side as a wrong tie rule.
FALSE_ALARM_RATE = 1e-9
#: How many elements another mode has to change before it is named: each is one of two neighbours, so that fewer may
#: follow a mode by chance.
LEAST_TURNED = 8
#: Formats of storage whose rounding is named where a tensor of float32 has numbers of theirs only.
STORAGE = ("bfloat16", "float16", "float8_e4m3fn", "float8_e5m2")
#: What functions of other libraries (exp, erf) may be off in one direction: units of the result, and share of a bound.
ONE_WAY_UNITS, ONE_WAY = 4, 0.1


@dataclass(frozen=True)
class Rounding:
    """How a tensor of a step comes about: mpsim's float32 result, how far sums in another order may move it (None: they
    do not), and the format and policy that it is rounded by (``rounds``: whether it is one that rounds)."""

    unrounded: Array
    bound: Array | None
    format: Format
    policy: Policy
    rounds: bool = True

    def stored(self, x: Array) -> Array:
        """What is stored of a float32 result."""
        if not self.rounds or self.format.name == "float32":
            return x
        return np.asarray(reference.round_array(x, self.format, self.policy)[0])

    def ends(self, ours: Array) -> tuple[Array, Array]:
        """The least and the largest that may be stored; ``ours`` where the result or its bound is not finite."""
        if self.bound is None:
            return ours, ours
        low, high = (self._moved(sign * self.bound.astype(np.float64), ours) for sign in (-1, 1))
        return low, high

    def _moved(self, change: Array, ours: Array) -> Array:
        with np.errstate(over="ignore", invalid="ignore"):
            moved = self.stored((self.unrounded.astype(np.float64) + change).astype(np.float32))
        return np.where(np.isfinite(self.unrounded) & ~np.isnan(moved), moved, ours)

    def explains(self, theirs: Array) -> bool:
        """Whether every element of the other's tensor may be stored by this rounding."""
        low, high = self.ends(self.stored(self.unrounded))
        within = (theirs >= low) & (theirs <= high)
        return bool((within | (np.isnan(theirs) & np.isnan(low))).all())


def of_rounding(comparison: TensorComparison, ours: Array, theirs: Array, rounding: Rounding) -> list[str]:
    """Sentences on what explains every element; [] if nothing here does.

    ours: what ``rounding`` stores; theirs: the other's stored tensor.
    """
    if not comparison.unexplained:
        return _systematic(ours, theirs, rounding) or _one_sided(ours, theirs, rounding)
    differ = (ours != theirs) & ~(np.isnan(ours) & np.isnan(theirs))
    plain = replace(rounding, rounds=False)
    if off_grid(theirs, rounding.format)[differ].any() and plain.explains(theirs):
        return [f"not rounded: this is the float32 result, not a number of {rounding.format}"]
    if narrow := _stored_as(ours, theirs, rounding):
        return [f"explained by rounding to {narrow}"]
    for words, other in _others(rounding):
        turned = int((other.stored(rounding.unrounded) != ours)[differ].sum())
        least = 1 if other.policy.mode is rounding.policy.mode else LEAST_TURNED
        if turned >= least and other.explains(theirs):
            return [f"explained by {words}"]
    factor = _factor(rounding, ours, theirs)
    return [] if factor is None else [f"about {factor} times what it should be"]


def _others(rounding: Rounding) -> Iterator[tuple[str, Rounding]]:
    """The rounding with another mode, overflow policy, or both."""
    policy, format = rounding.policy, rounding.format
    if format.name == "float32":
        return
    modes = [
        mode for mode in Mode if not mode.needs_random_bits and (not mode.is_legacy or spec.legacy_applies(format))
    ]
    changes = [(mode, policy.overflow) for mode in modes if mode != policy.mode]
    changes += [(policy.mode, overflow) for overflow in Overflow if overflow != policy.overflow]
    changes += [(mode, overflow) for mode in modes for overflow in Overflow if policy.mode != mode]
    for mode, overflow in dict.fromkeys(changes):
        if mode.is_legacy and overflow not in (Overflow.SATURATE, Overflow.MARK):
            continue
        what = [f"mode {mode.value} instead of {policy.mode.value}"] if mode != policy.mode else []
        if overflow != policy.overflow:
            what.append(f"overflow {overflow.value} instead of {policy.overflow.value}")
        yield " and ".join(what), replace(rounding, policy=Policy(mode, overflow))


def _systematic(ours: Array, theirs: Array, rounding: Rounding) -> list[str]:
    """Whether elements that sums could have moved follow another mode more often than such sums can make them.

    Sums in another order move a tie to either side; where a mode and the declared one differ, at most half go the
    other's way. The count is tested by the binomial distribution.
    """
    from scipy.stats import binom

    for words, other in _others(rounding):
        changed = other.stored(rounding.unrounded)
        turning = (changed != ours) & ~(np.isnan(changed) | np.isnan(ours))
        count = int(turning.sum())
        followed = int((theirs == changed)[turning].sum())
        if count and binom.sf(followed - 1, count, 0.5) < FALSE_ALARM_RATE:
            return [f"{followed:,} of the {count:,} elements on which they differ follow {words}"]
    return []


def _stored_as(ours: Array, theirs: Array, rounding: Rounding) -> str | None:
    """The format that a float32 tensor was rounded to, if that explains every element, and changes at least
    LEAST_TURNED of those that differ to numbers other than zero."""
    differ = (ours != theirs) & (theirs != 0)
    if rounding.format.name != "float32":
        return None
    for name in STORAGE:
        if not off_grid(theirs, FORMATS[name]).any():
            for overflow in (Overflow.INFINITY, Overflow.SATURATE):
                policy = Policy(Mode.NEAREST_EVEN, overflow)
                other = replace(rounding, format=FORMATS[name], policy=policy, rounds=True)
                turned = int((other.stored(ours) != ours)[differ].sum())
                if turned >= LEAST_TURNED and other.explains(theirs):
                    return name
    return None


def _one_sided(ours: Array, theirs: Array, rounding: Rounding) -> list[str]:
    """Whether differences within the bounds point one way, on average, more than sums in another order make them.

    Such errors have random signs. With z the difference over its bound, and R rows whose sums are independent, the mean
    of z exceeds t with a chance of at most exp(-R t**2 / 2) (Hoeffding 1963). An epsilon of another size makes each row
    a little larger, for example. Only float32 shows it.
    """
    if rounding.bound is None or rounding.format.name != "float32" or ours.ndim < 2:
        return []
    bound = rounding.bound.astype(np.float64)
    used = (bound > 0) & np.isfinite(ours) & np.isfinite(theirs)
    apart = np.where(used, theirs.astype(np.float64) - ours, 0.0)
    beyond = np.maximum(np.abs(apart) - ONE_WAY_UNITS * UNIT * np.abs(np.where(used, ours, 0.0)), 0.0)
    z = np.sign(apart) * beyond / np.where(used, bound, 1.0)
    count = used.sum(axis=-1)
    rows = int((count > 0).sum())
    if not rows:
        return []
    limit = ONE_WAY + float(np.sqrt(2 * np.log(4 / FALSE_ALARM_RATE) / rows))
    for words, signs in (("larger", np.sign(ours)), ("higher", 1.0)):
        mean = float((z * signs).sum(axis=-1)[count > 0].dot(1 / count[count > 0])) / rows
        if abs(mean) > limit:
            other = {"larger": "smaller", "higher": "lower"}[words]
            return [
                f"{words if mean > 0 else other} on average by {abs(mean):.2f} of what sums in another order may give, "
                f"which they do less than once in 10^9 tensors"
            ]
    return []


def _factor(rounding: Rounding, ours: Array, theirs: Array) -> str | None:
    """The factor between the two if one explains every element, in as many digits as are known."""
    used = np.isfinite(ours) & np.isfinite(theirs) & (ours != 0) & (theirs != 0)
    if used.sum() < 2:
        return None
    ratios = theirs[used].astype(np.float64) / rounding.unrounded[used]
    factor = float(np.median(ratios))
    if not np.isfinite(factor) or abs(factor - 1) < 2.0**-6:
        return None
    nice = round(factor) if abs(factor) >= 1 else 1 / round(1 / factor) if factor else 0.0
    for candidate in (nice, factor):
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            scaled = (rounding.unrounded.astype(np.float64) * candidate).astype(np.float32)
            moved = np.abs(scaled) * (0 if candidate == nice else 2.0**-6)
            bound = moved if rounding.bound is None else moved + abs(candidate) * rounding.bound
        if replace(rounding, unrounded=scaled, bound=bound.astype(np.float32)).explains(theirs):
            return f"{candidate:.6g}" if candidate == nice else f"{candidate:.2g}"
    return None
