"""Describes casts as data: mode, overflow, an intermediate type, and what infinity, NaN, zeros and subnormals become.

A Rule computes the expected result of every input. docs/semantics.md §2 defines the policies.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mpsim import checks
from mpsim.files.records import Record
from mpsim.formats import FORMATS, Format
from mpsim.kernels import DEFAULT_BACKEND, hosted
from mpsim.kernels.contract import Array
from mpsim.policies import Policy
from mpsim.process import in_default_environment
from mpsim.rounding import round_to
from mpsim.validate.answers import NO_CODE, Outcome, value_keys
from mpsim.validate.cast import nans
from mpsim.validate.cast.nans import NanCodes
from mpsim.validate.cast.policy.treatments import FIELDS, QUIRKS, default, flush_inputs
from mpsim.validate.sources import Source, widened


@dataclass(frozen=True)
class Rule:
    """Describes how a cast to ``format`` treats every input.

    Args:
        format: The target format.
        policy: The rounding mode and overflow policy.
        via: A format to which x is rounded first, or None.
        via_truncates: Whether that rounding is toward zero. Otherwise it is to nearest even.
        nan_codes: The rule for the codes of NaN (``mpsim.validate.cast.nans``).
        subnormal_inputs, subnormal_results, underflow, zero, infinity, nan: Values of ``FIELDS``, which describes them.
        quirks: Names of ``QUIRKS``, applied in this order.

    Raises:
        UsageError: A value or a name is unknown.

    >>> from mpsim import FORMATS
    >>> rule = Rule(FORMATS["float8_e4m3fn"], Policy(overflow="saturate"), subnormal_results="flush")
    >>> rule.policy.overflow
    <Overflow.SATURATE: 'saturate'>
    """

    format: Format
    policy: Policy = Policy()
    via: str | None = None
    via_truncates: bool = False
    nan_codes: NanCodes = None
    subnormal_inputs: str = default("subnormal_inputs")
    subnormal_results: str = default("subnormal_results")
    underflow: str = default("underflow")
    zero: str = default("zero")
    infinity: str = default("infinity")
    nan: str = default("nan")
    quirks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for field, values in FIELDS.items():
            checks.named(field, getattr(self, field), values)
        for name in self.quirks:
            checks.named("quirk", name, QUIRKS)

    def with_(self, **changes: Any) -> Rule:
        """Returns this rule with some fields changed."""
        return replace(self, **changes)

    @in_default_environment
    def values(
        self, x: Array, source: Source, random_bits: Array | None = None, backend: str = DEFAULT_BACKEND
    ) -> Array:
        """Returns the results for x (of the source's wide type) as float64, including infinity and NaN."""
        with np.errstate(invalid="ignore", over="ignore"):
            for name in self.quirks:
                if QUIRKS[name].before:
                    x = QUIRKS[name].change(x, x, self.format, source, self.policy)
            if self.subnormal_inputs == "flush":
                x = flush_inputs(x, source)
            staged = x
            if self.via is not None and source.may_pass(FORMATS[self.via]):
                staged = self._staged(x, backend)
            if self.policy.mode.is_legacy:
                staged = staged.astype(np.float32)
            elif not self.format.fits_float32 and staged.dtype == np.float32:
                staged = staged.astype(np.float64)
            count = self.policy.random_bit_count
            y = round_to(
                staged, self.format, self.policy.mode, self.policy.overflow, random_bits=random_bits,
                random_bit_count=count, backend=backend, threads=1,
            ).astype(np.float64)  # fmt: skip
            wide = widened(staged)
            for name in self.quirks:
                quirk = QUIRKS[name]
                if not quirk.before:
                    y = quirk.change(x if quirk.reads_payloads else wide, y, self.format, source, self.policy)
            for field, values in FIELDS.items():
                treatment = values[getattr(self, field)]
                if treatment.change is not None:
                    given = x if treatment.reads_payloads else wide
                    y = treatment.change(given, y, self.format, source, self.policy)
        return np.asarray(y)

    def _staged(self, x: Array, backend: str) -> Array:
        assert self.via is not None
        mode = "toward_zero" if self.via_truncates else "nearest_even"
        return np.asarray(round_to(x, self.via, mode, "infinity", backend=backend, threads=1))

    @in_default_environment
    def codes(self, values: Array, x: Array, backend: str = DEFAULT_BACKEND) -> Array:
        """Returns the uint64 codes of results, NO_CODE if there is none. x provides the signs of NaNs."""
        nan_codes = nans.TRUNCATED if self.nan == nans.TRUNCATED and self.nan_codes is None else self.nan_codes
        return codes_of(values, x, self.format, nan_codes, backend)

    @in_default_environment
    def outcome(
        self, x: Array, source: Source, space: str, random_bits: Array | None = None, backend: str = DEFAULT_BACKEND
    ) -> Outcome:
        """Returns the expected results for x in the ``space`` of the subject's answers, "codes" or "values"."""
        values = self.values(x, source, random_bits, backend)
        return Outcome(values, self.codes(values, x, backend) if space == "codes" else value_keys(values))

    def describe(self) -> str:
        """Describes the rule in one phrase."""
        parts = [f"{self.policy.mode.value}, overflow {self.policy.overflow.value}"]
        if self.via:
            parts.append(f"{'truncated' if self.via_truncates else 'rounded'} to {self.via} first")
        parts += self.treatments()
        parts += [QUIRKS[name].sentence for name in self.quirks]
        if isinstance(self.nan_codes, tuple):
            parts.append(f"NaN codes {self.nan_codes[0]:#x} and {self.nan_codes[1]:#x}")
        if self.nan_codes == nans.PAYLOAD:
            parts.append("NaN keeps its payload")
        return "; ".join(parts)

    def treatments(self) -> list[str]:
        """Returns a sentence for each field that differs from its default."""
        chosen = [(values, getattr(self, field)) for field, values in FIELDS.items()]
        return [values[value].sentence for values, value in chosen if value != next(iter(values))]

    def to_dict(self) -> Record:
        """Returns the fields as JSON types."""
        codes = [f"{code:#x}" for code in self.nan_codes] if isinstance(self.nan_codes, tuple) else self.nan_codes
        return {
            "format": self.format.name,
            "mode": self.policy.mode.value,
            "overflow": self.policy.overflow.value,
            "random_bit_count": self.policy.random_bit_count,
            "via": self.via,
            "via_truncates": self.via_truncates,
            "nan_codes": codes,
            **{field: getattr(self, field) for field in FIELDS},
            "quirks": list(self.quirks),
        }


def codes_of(values: Array, x: Array, format: Format, nan_codes: NanCodes, backend: str = DEFAULT_BACKEND) -> Array:
    """Returns uint64 codes of values of the format, NO_CODE if there is none, and the rule's codes of NaN."""
    nan = np.isnan(values)
    with np.errstate(invalid="ignore"):
        unsigned_negative = (not format.signed) & np.signbit(values)
        beyond = np.abs(values) > format.largest
    without = (beyond & ~(np.isinf(values) & format.has_infinity)) | nan | unsigned_negative
    without |= (values == 0) & (not format.has_zero)
    safe = np.where(without, format.smallest_normal, values)
    codes: Array = hosted(backend).encode_array(np.ascontiguousarray(safe), format).astype(np.uint64)
    codes[without] = NO_CODE
    if format.has_nan:
        codes[nan] = nans.codes(x[nan], format, nan_codes)
    return codes


def is_value(values: Array, format: Format) -> Array:
    """Returns which of the finite numbers are numbers of the format."""
    with np.errstate(invalid="ignore"):
        kept = round_to(np.asarray(values, np.float64), format, "toward_zero", "mark", backend="reference")
    return np.asarray(kept == values)
