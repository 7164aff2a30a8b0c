"""Finds the rule of an unknown cast by elimination, each property from the inputs that distinguish its values.

The result is a Rule that is checked on the entire corpus. It either gives every answer or is the nearest one found.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from mpsim.files.records import Record
from mpsim.formats import FORMATS
from mpsim.kernels import DEFAULT_BACKEND, spec
from mpsim.kernels.contract import Array
from mpsim.policies import PLAIN_MODES, Mode, Overflow, Policy
from mpsim.validate.answers import NO_CODE
from mpsim.validate.cast import nans
from mpsim.validate.cast.asking import Answers
from mpsim.validate.cast.compare import count_differences, expected_of
from mpsim.validate.cast.nans import NanCodes
from mpsim.validate.cast.policy.treatments import FIELDS, QUIRKS
from mpsim.validate.cast.presets import rules as preset_rules
from mpsim.validate.cast.rules import Rule
from mpsim.validate.sources import widened

#: The quirks that no other phrase of the paragraph describes.
_ALONE = ("sign_ignored", "negative_to_nan", "negative_to_zero", "small_powers_up", "carry_lost", "top_binade_to_zero")


class Fingerprint(NamedTuple):
    """The description of a cast.

    Args:
        rule: The rule of the subject.
        unexplained: How many of ``inputs`` have other results than the rule.
        inputs: The number of inputs.
        nan, infinity, overflow, zeros, subnormals: A phrase for each.
        presets: The number of differing inputs of each preset, fewest first.
    """

    rule: Rule
    unexplained: int
    inputs: int
    nan: str
    infinity: str
    overflow: str
    zeros: str
    subnormals: str
    presets: dict[str, int]

    @property
    def equal_presets(self) -> list[str]:
        return [name for name, count in self.presets.items() if count == 0]

    @property
    def nearest_preset(self) -> str | None:
        return next(iter(self.presets), None)

    def paragraph(self, name: str, source: str) -> str:
        """Returns a readable paragraph."""
        rule = self.rule
        once = f"double rounding, via {rule.via}" if rule.via else "rounds once"
        if rule.policy.mode.is_legacy:
            once = "rounds as QPyTorch does, twice below the smallest normal number"
        mode = rule.policy.mode.value.replace("_", " ")
        sure = (
            f"This explains all {self.inputs:,} inputs tried."
            if not self.unexplained
            else f"This is the nearest description found: {self.unexplained:,} of {self.inputs:,} inputs tried differ."
        )
        others = [QUIRKS[quirk].sentence for quirk in rule.quirks if quirk in _ALONE]
        for field in ("subnormal_inputs", "underflow"):
            value = getattr(rule, field)
            others += [FIELDS[field][value].sentence] if value != next(iter(FIELDS[field])) else []
        sure = " ".join([*(f"{sentence[0].upper()}{sentence[1:]}." for sentence in others), sure])
        equal = ", ".join(self.equal_presets)
        if equal:
            which = f"It equals preset {equal}."
        elif self.nearest_preset:
            which = (
                f"It equals no preset; nearest is {self.nearest_preset} ({self.presets[self.nearest_preset]:,} differ)."
            )
        else:
            which = f"There is no preset for {rule.format} from {source}."
        return (
            f"{name} takes {source} to {rule.format}: mode {mode}; {once}. Beyond the largest number: {self.overflow}. "
            f"Infinity: {self.infinity}. NaN: {self.nan}. Zeros: {self.zeros}. Subnormal results: {self.subnormals}. "
            f"{sure} {which}"
        )

    def to_dict(self) -> Record:
        return {
            "rule": self.rule.to_dict(),
            "inputs": self.inputs,
            "unexplained": self.unexplained,
            "overflow": self.overflow,
            "infinity": self.infinity,
            "nan": self.nan,
            "zeros": self.zeros,
            "subnormals": self.subnormals,
            "equal_presets": self.equal_presets,
            "nearest_preset": self.nearest_preset,
            "preset_differences": self.presets,
        }


def fingerprint(answers: Answers, backend: str = DEFAULT_BACKEND) -> Fingerprint:
    """Finds the rule that the answers follow, or the nearest one, and compares the presets."""
    presets = {
        name: count_differences(rule, answers, backend)
        for name, rule in preset_rules(answers.format, answers.source).items()
    }
    presets = dict(sorted(presets.items(), key=lambda item: item[1]))
    rule = _find_rule(answers, backend)
    unexplained = count_differences(rule, answers, backend)
    for name, count in presets.items():
        if count < unexplained:
            known = preset_rules(answers.format, answers.source)[name]
            rule, unexplained = known, count
    return Fingerprint(
        rule, unexplained, answers.patterns.size, _nan_words(rule, answers), _infinity_words(answers),
        _overflow_words(answers), _zero_words(answers), _subnormal_words(rule, unexplained), presets,
    )  # fmt: skip


def _find_rule(answers: Answers, backend: str) -> Rule:
    """Finds mode and intermediate type from the middle of the range, then the rules for everything else."""
    magnitude, values = np.abs(widened(answers.x)), answers.results.outcome.values
    with np.errstate(invalid="ignore"):
        nonzero = values != 0
        normal = (magnitude >= answers.format.smallest_normal) & (magnitude <= answers.format.largest)
        small = (magnitude < answers.format.smallest_normal) & (nonzero | (magnitude > 0))
        beyond = np.isfinite(magnitude) & (magnitude > answers.format.largest)
        negative = np.signbit(answers.x) & (magnitude > 0)
    below = negative & (not answers.format.signed)  # as the overflow policy says
    of_negative = values[negative & normal]
    normal, small = normal & ~below, small & ~below
    whole = normal | small
    nan_codes = _nan_codes(answers)
    rule = Rule(answers.format, nan_codes=nan_codes)
    if (of_negative > 0).any() and not (of_negative < 0).any():
        rule = rule.with_(quirks=("sign_ignored",))
    # In a format without a sign the overflow policy explains NaN, but for numbers that round to zero.
    unlike = negative if answers.format.signed else negative & (magnitude < answers.format.smallest / 2)
    if unlike.any() and np.isnan(values[negative]).all():
        rule = rule.with_(quirks=("negative_to_nan",))
    elif unlike.any() and answers.format.signed and (values[negative] == 0).all():
        rule = rule.with_(quirks=("negative_to_zero",))
    middle = list(_middle_rules(rule, answers))
    rule = _best(middle, answers, whole, backend, ignore_zero_sign=True)
    if _differences(rule, answers, whole, backend, True):
        rule = _best(middle, answers, normal, backend, ignore_zero_sign=True)
        flushed = [*_with_field(rule, "subnormal_results"), *_with_field(rule, "underflow")]
        rule = _best([*flushed, *_with_quirks(rule, ("carry_lost",))], answers, whole, backend, True)
        rule = _best(_with_field(rule, "subnormal_inputs"), answers, whole, backend, True)
    if not rule.policy.mode.is_legacy:
        modes = [rule.policy.mode]
        if rule.policy.mode is Mode.TOWARD_ZERO and not answers.format.signed:
            modes.append(Mode.DOWN)  # the same above zero
        overflows = [rule.with_(policy=Policy(mode, overflow)) for mode in modes for overflow in Overflow]
        if not answers.format.signed:
            overflows += [_with_quirks(each, ("negative_to_zero",))[1] for each in overflows]
        rule = _best(overflows, answers, beyond | below | np.isinf(magnitude), backend)
        if _differences(rule, answers, beyond, backend, False):
            rule = _best(overflows, answers, beyond, backend)
            rule = _best(_with_quirks(rule, ("top_binade_to_zero",)), answers, beyond, backend)
    rule = _best(_with_field(rule, "infinity"), answers, np.isinf(magnitude), backend)
    as_numbers = _with_quirks(rule, ("nan_as_number",) if answers.source.name == "float32" else ())
    rule = _best([*_with_field(rule, "nan"), *as_numbers], answers, np.isnan(magnitude), backend)
    rule = _best(_with_quirks(rule, ("small_powers_up",)), answers, whole & nonzero, backend)
    zeros = [*_with_field(rule, "zero"), *_with_field(rule, "subnormal_inputs")]
    return _best(zeros, answers, whole | (magnitude == 0), backend)


def _middle_rules(rule: Rule, answers: Answers) -> Iterable[Rule]:
    source, format = answers.source, answers.format
    between = [
        name
        for name in ("float64", "float32", "float16", "tf32", "bfloat16")
        if format.mantissa_bits < FORMATS[name].mantissa_bits < source.mantissa_bits
    ]
    for via in (None, *between):
        for truncates in (False, True) if via else (False,):
            for mode in PLAIN_MODES:
                yield rule.with_(policy=Policy(mode, Overflow.INFINITY), via=via, via_truncates=truncates)
    if source.name == "float32" and spec.legacy_applies(format):
        yield rule.with_(policy=Policy(Mode.QPYTORCH_NEAREST, Overflow.SATURATE))
        yield rule.with_(policy=Policy(Mode.QPYTORCH_NEAREST, Overflow.MARK))
    if format.subnormals and format.mantissa_bits and format.largest >= format.smallest_normal:
        flushing = type(format)(
            format.name, format.exponent_bits, format.mantissa_bits, format.bias, format.specials, False, format.signed
        )
        for mode in PLAIN_MODES:
            yield rule.with_(format=flushing, policy=Policy(mode, Overflow.INFINITY))


def _with_field(rule: Rule, field: str) -> list[Rule]:
    """Returns the rule, and the rule with each other value of a field."""
    return [rule, *(rule.with_(**{field: value}) for value in FIELDS[field] if value != getattr(rule, field))]


def _with_quirks(rule: Rule, names: Iterable[str]) -> list[Rule]:
    return [rule, *(rule.with_(quirks=(*rule.quirks, name)) for name in names)]


def _best(
    candidates: Iterable[Rule], answers: Answers, where: Array, backend: str, ignore_zero_sign: bool = False
) -> Rule:
    """Returns the first candidate with the fewest differences there."""
    found, fewest = None, -1
    for rule in candidates:
        count = _differences(rule, answers, where, backend, ignore_zero_sign)
        if found is None or count < fewest:
            found, fewest = rule, count
        if fewest == 0:
            break
    assert found is not None
    return found


def _differences(rule: Rule, answers: Answers, where: Array, backend: str, ignore_zero_sign: bool) -> int:
    part = answers.at(where)
    expected, got = expected_of(rule, part, backend)
    wrong = expected.keys != got.keys
    if ignore_zero_sign:
        wrong &= ~((expected.values == 0) & (got.values == 0))
    return int(wrong.sum())


# -- words --------------------------------------------------------------------------------------------------


def _nan_codes(answers: Answers) -> NanCodes:
    """Returns the rule for the codes of NaN. It is None if they are canonical, or if there are none."""
    found = nans.found(answers)
    return None if found is None or not answers.format.has_nan else found.rule


def _nan_words(rule: Rule, answers: Answers) -> str:
    nan = np.isnan(answers.x)
    if not nan.any():
        return "not tried"
    if rule.nan == nans.TRUNCATED:
        return "keeps the upper bits of its payload, and becomes infinity where these are 0"
    values, keys = answers.results.outcome.values[nan], answers.results.outcome.keys[nan]
    if not np.isnan(values).all():
        return "becomes " + _number_words(values)
    if answers.results.space == "values":
        return "stays NaN"
    codes = np.unique(keys[keys != NO_CODE])
    shown = ", ".join(f"0x{int(code):0{-(-answers.format.bits // 4)}x}" for code in codes[:4])
    kept = ", the upper bits of its payload kept" if _nan_codes(answers) == nans.PAYLOAD else ""
    return f"stays NaN{kept}, code {shown}" + (" and others" if codes.size > 4 else "")


def _infinity_words(answers: Answers) -> str:
    values = answers.results.outcome.values[np.isinf(answers.x)]
    if not values.size:
        return "not tried"
    if np.isnan(values).all():
        return "becomes NaN"
    if np.isinf(values).all():
        return "stays infinity"
    if (np.abs(values) == answers.format.largest).all():
        return "becomes the largest number"
    return "becomes " + _number_words(values)


def _overflow_words(answers: Answers) -> str:
    magnitude = np.abs(widened(answers.x))
    threshold = answers.format.overflow_threshold[0]
    with np.errstate(invalid="ignore", over="ignore"):
        far = np.isfinite(magnitude) & (magnitude > max(threshold, 4 * answers.format.largest))
        ulp = 2.0 ** (answers.format.max_exponent - 20)
        near = np.isfinite(magnitude) & (magnitude > threshold + ulp) & ~far
    parts = []
    for where in (near, far):
        values = answers.results.outcome.values[where]
        if values.size:
            parts.append(_end_words(values, answers.format.largest))
    distinct = list(dict.fromkeys(parts))
    return ", farther on ".join(distinct) if distinct else "not tried"


def _end_words(values: Array, largest: float) -> str:
    if np.isnan(values).all():
        return "NaN"
    if np.isinf(values).all():
        return "infinity"
    if (np.abs(values) == largest).all():
        return "the largest number"
    if (values == 0).all():
        return "zero"
    return "the largest number or beyond it, by mode" if not (values == 0).any() else "zero for some"


def _zero_words(answers: Answers) -> str:
    values, x = answers.results.outcome.values, answers.x
    zero = values[x == 0]
    if zero.size and not (zero == 0).any():
        return "become " + ("NaN" if np.isnan(zero).all() else _number_words(zero))
    negative = np.signbit(x) & (values == 0)
    kept = np.signbit(values[negative & (x == 0)])
    lost = np.signbit(values[negative & (x < 0)])
    if not kept.size:
        return "not tried"
    own = "-0 stays -0" if kept.all() else "-0 becomes +0"
    if not lost.size:
        return own
    return own + ", a negative underflow gives " + ("-0" if lost.all() else "+0" if not lost.any() else "both zeros")


def _subnormal_words(rule: Rule, unexplained: int) -> str:
    how = {
        "flush": "flushed to zero",
        "flush_before": "flushed to zero, by the size of the input",
        "flush_tiny": "flushed to zero, by the size of the result with an unlimited exponent",
    }
    if rule.subnormal_results in how:
        return how[rule.subnormal_results]
    if not rule.format.subnormals:
        return "none: zero or the smallest normal number"
    return "kept" if not unexplained else "kept, as far as the description goes"


def _number_words(values: Array) -> str:
    found = [repr(float(value)) for value in np.unique(values)[:3]]
    return " or ".join(found)
