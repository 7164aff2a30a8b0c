"""Other descriptions that may explain a quantiser's answers, with the words for what they change."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mpsim.blocks import PRESETS, SCALE_RULES, Quantizer
from mpsim.blocks.quantizers.elements import Element, Integer
from mpsim.blocks.quantizers.groups import Row
from mpsim.blocks.quantizers.stages import Scale
from mpsim.blocks.running import Given, quantize_array
from mpsim.errors import MpsimError
from mpsim.formats import as_format
from mpsim.kernels.contract import Array
from mpsim.policies import PLAIN_MODES
from mpsim.rounding import decode, encode
from mpsim.validate.blocks.answers import BlockAnswers
from mpsim.validate.blocks.expected import Expected, Trial, joined
from mpsim.validate.cast.stochastic.given_causes import alternatives

#: The numbers of blocks on which a cause is tried first.
SAMPLES = (4, 64)
QUOTIENTS = {
    "exact": "quotients are exact",
    "float32": "quotients by a float32 division",
    "float32_reciprocal": "quotients by a float32 reciprocal",
    "float32_reciprocals": "quotients by two float32 reciprocals",
}
ROUNDINGS = {"up": "up", "toward_zero": "toward zero", "nearest_away": "to nearest, ties away"}


@dataclass(frozen=True)
class Cause:
    """A changed description, and a changed outcome of it, with words. ``used``: what is used of given random words."""

    words: str
    quantizer: Quantizer
    change: Callable[[Expected], Expected] = lambda expected: expected
    used: Callable[[Array], Array] | None = None

    def of(self, trial: Trial) -> Trial:
        """Returns the trial with the words that are used."""
        if self.used is None or trial.words is None:
            return trial
        return replace(trial, words=self.used(trial.words.reshape(-1)).reshape(trial.words.shape))


def cause_of(
    quantizer: Quantizer, trial: Trial, answered: BlockAnswers, region: Array, known: Sequence[str | None]
) -> str | None:
    """Finds a description with one or two changes that gives every answer to the blocks of a region, in words.

    ``known`` are causes of other classes. They are tried first, because one defect is more likely than two.
    """
    rows = np.flatnonzero(region)
    samples = [rows[np.unique(np.linspace(0, len(rows) - 1, size).astype(int))] for size in SAMPLES if size < len(rows)]
    for cause in sorted(causes(quantizer, answered), key=lambda cause: cause.words not in known):
        asked = cause.of(trial)
        if trial.is_whole:
            if not answered.at(rows).differ(cause.change(asked.expected(cause.quantizer, answered).at(rows))).any():
                return cause.words
            continue
        if not any(  # a few blocks refute most descriptions
            answered.at(at).differ(cause.change(asked.some(at).expected(cause.quantizer, answered.at(at)))).any()
            for at in (*samples, rows)
        ):
            return cause.words
    return None


def causes(quantizer: Quantizer, answered: BlockAnswers) -> Iterator[Cause]:
    """Every cause that is tried: one change, a changed outcome, a preset, two changes."""
    single = [Cause(words, changed) for words, changed in _sound(_changes(quantizer))]
    yield from single
    yield from (Cause(words, quantizer, change) for words, change in outcomes(quantizer, answered))
    yield from _words(quantizer)
    yield from _presets(quantizer)
    for first in single:
        yield from _pairs(first)


def _words(quantizer: Quantizer) -> Iterator[Cause]:
    """Other uses of given random words."""
    element = quantizer.element
    if element.policy.mode.needs_random_bits:
        for words, policy, used in alternatives(element.policy):
            rounds = replace(element, mode=policy.mode.value, random_bit_count=policy.random_bit_count)
            yield Cause(words, replace(quantizer, element=rounds), used=used)


def _pairs(first: Cause) -> Iterator[Cause]:
    """A second change after a first one of another stage: the element's mode, or its zeros."""
    element = first.quantizer.element
    if first.words.startswith(("elements", "zeros", "exact zeros")):
        return
    for words, changed in _sound((words, replace(first.quantizer, element=other)) for words, other in _modes(element)):
        yield Cause(f"{first.words}, and {words}", changed)
    if isinstance(element, Element) and element.zeros == "signed":
        changed = replace(first.quantizer, element=replace(element, zeros="positive"))
        yield Cause(f"{first.words}, and zeros have no sign", changed)


def _sound(pairs: Iterator[tuple[str, Callable[[], Quantizer] | Quantizer]]) -> Iterator[tuple[str, Quantizer]]:
    """Leaves out changes that make no sense."""
    for words, changed in pairs:
        try:
            yield words, changed if isinstance(changed, Quantizer) else changed()
        except MpsimError:
            continue


def _changes(quantizer: Quantizer) -> Iterator[tuple[str, Callable[[], Quantizer] | Quantizer]]:
    element, scale = quantizer.element, quantizer.scale
    for words, other in _modes(element):
        yield words, replace(quantizer, element=other)
    if scale.formula in SCALE_RULES:
        for rule in SCALE_RULES:
            if rule != scale.formula:
                yield f"the scale follows rule {rule}", replace(quantizer, scale=replace(scale, formula=rule))
    if isinstance(element, Element):
        if element.overflow == "saturate":
            words = "elements beyond the largest do not saturate"
            yield words, replace(quantizer, element=replace(element, overflow="infinity"))
        for zeros, words in (("positive", "zeros have no sign"), ("positive_if_exact", "exact zeros have no sign")):
            if zeros != element.zeros:
                yield words, replace(quantizer, element=replace(element, zeros=zeros))
    yield from _arithmetics(quantizer)
    yield from _scales(quantizer, scale)
    for zero, words in (("divide", "a scale of 0 is divided by"), ("one", "a scale of 0 becomes 1")):
        if zero != quantizer.specials.zero:
            yield words, replace(quantizer, specials=replace(quantizer.specials, zero=zero))
    if quantizer.specials.not_finite != "saturate":
        saturating = replace(quantizer.specials, not_finite="saturate")
        yield "infinities saturate", lambda: replace(quantizer, specials=saturating)


def _modes(element: Element | Integer) -> Iterator[tuple[str, Element | Integer]]:
    if element.policy.mode.needs_random_bits:
        return
    for mode in PLAIN_MODES:
        if mode.value != element.mode:
            yield f"elements are rounded {mode.value}", replace(element, mode=mode.value)


def _arithmetics(quantizer: Quantizer) -> Iterator[tuple[str, Callable[[], Quantizer]]]:
    quotient, scale = quantizer.quotient, quantizer.scale

    def quotients(**changes: str) -> Callable[[], Quantizer]:
        return lambda: replace(quantizer, quotient=replace(quotient, **changes))  # type: ignore[arg-type]

    def scales(arithmetic: str) -> Callable[[], Quantizer]:
        return lambda: replace(quantizer, scale=replace(scale, arithmetic=arithmetic))

    for name, words in QUOTIENTS.items():
        if name != quotient.arithmetic:
            yield words, quotients(arithmetic=name)
    for through in ("bfloat16", "float16"):
        if through != quotient.through:
            yield f"quotients are rounded to {through} first", quotients(through=through)
    for name, words in (
        ("exact", "scales from exact quotients"),
        ("float32", "scales by float32 divisions"),
        ("float32_product", "scales by a float32 product of both divisors"),
        ("float32_reciprocal", "scales by float32 reciprocals"),
    ):
        if name != scale.arithmetic and scale.formula == "ratio":
            yield words, scales(name)


def _scales(quantizer: Quantizer, scale: Scale) -> Iterator[tuple[str, Callable[[], Quantizer]]]:
    def changed(**changes: str) -> Callable[[], Quantizer]:
        return lambda: replace(quantizer, scale=replace(scale, **changes))  # type: ignore[arg-type]

    if scale.formula == "ratio" and scale.form == "divisor":
        for rounding, words in ROUNDINGS.items():
            if rounding != scale.rounding:
                yield f"scales are rounded {words}", changed(rounding=rounding)
        if as_format(scale.format).name == "float32":
            yield "scales are rounded to bfloat16", changed(format="bfloat16")
    if scale.overflow == "saturate":
        yield "scales beyond the largest become NaN", changed(overflow="nan")
    if scale.least:
        yield "the least scale is forgotten", lambda: replace(quantizer, scale=replace(scale, least=0.0))


def _presets(quantizer: Quantizer) -> Iterator[Cause]:
    """Presets of the same groups, elements and scales, named by what their quotients are."""
    for name, preset in PRESETS.items():
        other = preset.quantizer
        same = (other.group, other.statistic.source, other.rotation) == (
            quantizer.group, quantizer.statistic.source, quantizer.rotation,
        )  # fmt: skip
        if not same or type(other.element) is not type(quantizer.element) or other == quantizer:
            continue
        if isinstance(other.element, Element) and isinstance(quantizer.element, Element):
            same = other.element.row == quantizer.element.row
        if not same or as_format(other.scale.format) != as_format(quantizer.scale.format):
            continue
        if (other.second is None) != (quantizer.second is None) or other.element.policy.mode.needs_random_bits:
            continue
        changed = other.quotient.arithmetic != quantizer.quotient.arithmetic
        words = f"{QUOTIENTS[other.quotient.arithmetic]}, " if changed else "computed "
        yield Cause(f"{words}as in preset {name}", other)


# -- changed outcomes ---------------------------------------------------------------------------------------


def outcomes(quantizer: Quantizer, answered: BlockAnswers) -> Iterator[tuple[str, Callable[[Expected], Expected]]]:
    """Changes of right elements and scales."""
    if quantizer.second is not None and isinstance(quantizer.element, Element):
        yield "the tensor scale is forgotten", _without_second
    for steps, word in ((1, "more"), (-1, "less")):
        yield f"the scale is one power of two {word} than that of the elements", _shifted(steps)
    if quantizer.scale.formula in SCALE_RULES:
        words = "NaN and infinity count as 2^128 for the scale, and elements are rounded as in other blocks"
        yield words, _top_exponent
    yield "signs are lost", _absolute
    yield "neighbouring elements are swapped", _swapped
    if answered.values is not None:
        yield "blocks of zeros become NaN", _zeros_are_nan
    yield "blocks that become zeros lose their signs", _zeros_are_positive


def _shifted(steps: int) -> Callable[[Expected], Expected]:
    def change(expected: Expected) -> Expected:
        format = as_format(expected.quantizer.scale.format)
        numbers = np.ldexp(expected.scale_numbers, steps)
        scales = encode(numbers, format, overflow="saturate", backend="reference")
        exact = np.ldexp(expected.exact, steps)
        with np.errstate(over="ignore"):
            return replace(expected, scales=scales, exact=exact, single=exact.astype(np.float32))

    return change


def _top_exponent(expected: Expected) -> Expected:
    """The exponent field of a NaN or an infinity is read as that of a number."""
    if expected.inputs is None:
        return expected
    wrong = np.asarray(~np.isfinite(expected.inputs).all(-1))
    statistic = replace(expected.quantizer.statistic, group=Row(), source="given")
    quantizer = replace(expected.quantizer, statistic=statistic)
    found, _ = quantize_array(expected.inputs, quantizer, -1, Given(2.0**128), "reference", 1)
    other = joined([found], Row(), [len(wrong)])
    scales = np.where(wrong[:, None], other.scales, expected.scales)
    return replace(other.where(wrong[:, None], expected), quantizer=expected.quantizer, scales=scales, points=None)


def _absolute(expected: Expected) -> Expected:
    element = expected.quantizer.element
    codes = np.abs(expected.codes) if isinstance(element, Integer) else expected.codes & element.row.magnitude_mask
    return replace(expected, codes=codes, exact=np.abs(expected.exact), single=np.abs(expected.single))


def _swapped(expected: Expected) -> Expected:
    if expected.codes.shape[1] % 2:
        return expected
    codes, exact, single = (
        part.reshape(len(part), -1, 2)[:, :, ::-1].reshape(part.shape)
        for part in (expected.codes, expected.exact, expected.single)
    )
    return replace(expected, codes=codes, exact=exact, single=single)


def _zeros_are_nan(expected: Expected) -> Expected:
    inputs = expected.exact if expected.inputs is None else expected.inputs
    zero = (inputs == 0).all(-1, keepdims=True)
    return replace(
        expected, exact=np.where(zero, np.nan, expected.exact), single=np.where(zero, np.nan, expected.single)
    )


def _zeros_are_positive(expected: Expected) -> Expected:
    """As where quotients are taken only if the scale is not 0, and +0 otherwise."""
    positive = _absolute(expected)
    return positive.where((positive.codes == 0).all(-1, keepdims=True), expected)


def _without_second(expected: Expected) -> Expected:
    """The numbers are elements times block scales."""
    element = expected.quantizer.element
    assert isinstance(element, Element)
    with np.errstate(invalid="ignore", over="ignore"):
        exact = decode(expected.codes, element.row, np.float64, backend="reference") * expected.scale_numbers
        return replace(expected, exact=exact, single=exact.astype(np.float32))
