"""Casts to integers that round at random: by given words, or by neighbours and frequencies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mpsim import checks
from mpsim.errors import UsageError
from mpsim.integers import Integer, IntegerPolicy, to_integer
from mpsim.kernels.contract import Array
from mpsim.policies import Policy
from mpsim.process import default_float_environment
from mpsim.validate.answers import NO_CODE
from mpsim.validate.cast.compare import Counterexample, Number
from mpsim.validate.cast.integers.asking import ask, corpus, to_codes
from mpsim.validate.cast.integers.rules import unsigned_codes
from mpsim.validate.cast.stochastic.causes import Seen, explanations
from mpsim.validate.cast.stochastic.chances import chance
from mpsim.validate.cast.stochastic.frequencies import groups_of, wrong_binades, wrong_points
from mpsim.validate.cast.stochastic.given_bits import deciding_words, words_of
from mpsim.validate.cast.stochastic.given_causes import alternatives
from mpsim.validate.cast.stochastic.own_bits import DRAWS, FALSE_ALARM_RATE
from mpsim.validate.cast.stochastic.result import ALL_BITS, StochasticReport
from mpsim.validate.sources import Source, widened
from mpsim.validate.subjects.casts import Subject

#: Numbers that are rounded many times.
POINTS = 60


@dataclass(frozen=True)
class _Cast:
    """The definition, and the subject's answers. any_nan: whether every result for NaN counts as right."""

    subject: Subject
    source: Source
    target: Integer
    policy: IntegerPolicy
    any_nan: bool

    def asked(self, patterns: Array, words: Array | None = None) -> Array:
        """Returns the codes that the subject answers."""
        patterns = np.ascontiguousarray(patterns)
        return to_codes(self.subject.answer(patterns, self.source, words), self.target, self.subject.name)

    def expected(self, x: Array, words: Array | None, policy: Policy | None = None) -> Array:
        """Returns the codes of the definition, or of another mode and number of random bits."""
        ours = self.policy
        mode, count = (ours.mode, ours.random_bit_count) if policy is None else (policy.mode, policy.random_bit_count)
        found = to_integer(
            x, self.target, mode, ours.overflow, nan=ours.nan, infinity=ours.infinity,
            random_bits=words if mode.needs_random_bits else None, random_bit_count=count,
        )  # fmt: skip
        return unsigned_codes(found, self.target)

    def wrong(self, x: Array, expected: Array, got: Array) -> Array:
        """Returns which answers differ."""
        return (expected != got) & ~(np.isnan(widened(x)) & self.any_nan)

    def example(self, pattern: np.unsignedinteger, x: Array, expected: int, got: int) -> Counterexample:
        digits = -(-self.target.bits // 4)
        shown = Number(np.nan, None, digits) if got == NO_CODE else Number(self.target.number(got), got, digits)
        wanted = Number(self.target.number(expected), expected, digits)
        return Counterexample(Number(x.item(), int(pattern), self.source.digits), wanted, shown, None)


def validate_stochastic_integers(
    subject: Subject, target: Integer, source: Source, policy: IntegerPolicy, *, given_bits: bool, any_nan: bool = True,
    count: int | None = None, seed: int = 0,
) -> StochasticReport:  # fmt: skip
    """Tests a cast to integers that rounds at random.

    Args:
        subject: A function of numbers, and of uint32 words if they are given.
        target: The integer type; source: a float or a format of at most 16 bits.
        policy: What is declared. Its random bits are all 32 if none are declared.
        given_bits: Whether the subject is given its random words.
        any_nan: Whether every result for NaN counts as right.
        count: The declared number of random bits, or None.
        seed: Of random numbers and words.

    Raises:
        SubjectError: The subject fails.
        UsageError: The source has integers, which are not rounded.
    """
    checks.seed("seed", seed)
    if source.integer is not None:
        raise UsageError(f"integers of {source.name} are not rounded to {target}; take a source with fractions")
    cast = _Cast(subject, source, target, policy, any_nan)
    with default_float_environment():
        return _given(cast, seed) if given_bits else _own(cast, count, seed)


def _report(cast: _Cast, given: bool, count: int | None, trials: int, **fields: object) -> StochasticReport:
    common: dict[str, object] = {
        "subject": cast.subject.name, "source": cast.source.name, "format": cast.target.name, "policy": cast.policy,
        "bits_given": given, "random_bit_count": count, "trials": trials, "word": None, "frequencies": (),
        "false_alarm_rate": None, "state": tuple(cast.subject.state),
    }  # fmt: skip
    return StochasticReport(**(common | fields))  # type: ignore[arg-type]


def _given(cast: _Cast, seed: int) -> StochasticReport:
    count = cast.policy.random_bit_count
    assert count is not None
    patterns, asked = _asked(cast, count, seed)
    x = cast.source.values(patterns)
    trials = [(words, got, cast.wrong(x, cast.expected(x, words), got)) for words, got in asked]
    bad = next(((words, got, wrong) for words, got, wrong in trials if wrong.any()), None)
    if bad is None:
        return _report(cast, True, count, len(trials) * x.size, mismatches=0, smallest=None, points=x.size)
    words, got, wrong = bad
    at = np.flatnonzero(wrong)
    first = int(at[np.argmin(np.abs(np.nan_to_num(widened(x[at]), nan=np.inf)))])
    expected = cast.expected(x, words)
    causes = []
    for sentence, other, used in alternatives(Policy(cast.policy.mode, "saturate", count)):  # type: ignore[arg-type]
        if not any(cast.wrong(x, cast.expected(x, used(bits), other), codes).any() for bits, codes, _ in trials):
            causes.append(sentence)
    return _report(
        cast, True, count, len(trials) * x.size, points=x.size,
        mismatches=sum(int(each.sum()) for _, _, each in trials),
        smallest=cast.example(patterns[first], x[first], int(expected[first]), int(got[first])),
        word=int(words[first]), causes=tuple(causes),
    )  # fmt: skip


def _asked(cast: _Cast, count: int, seed: int) -> tuple[Array, list[tuple[Array, Array]]]:
    """Returns patterns, and pairs of words and answers: those of the file, or of the corpus with four words."""
    if cast.subject.vectors is not None:
        found = ask(cast.subject, cast.source, cast.target, cast.subject.vectors.inputs)
        return found.patterns, [(words_of(cast.subject), found.codes)]
    patterns = corpus(cast.target, cast.source, seed)
    x = widened(cast.source.values(patterns))
    magnitude = np.abs(np.where(np.isfinite(x), x, 0))
    up = chance(magnitude - np.floor(magnitude), cast.policy.mode, count)
    return patterns, [(words, cast.asked(patterns, words)) for words in deciding_words(up, count, seed)]


def _own(cast: _Cast, count: int | None, seed: int) -> StochasticReport:
    patterns = corpus(cast.target, cast.source, seed)
    wide = widened(cast.source.values(patterns))
    inside = np.flatnonzero(np.isfinite(wide) & (np.abs(wide) < cast.target.most) & (np.abs(wide) > 2.0**-12))
    broken = inside[np.floor(wide[inside]) != wide[inside]]
    few = patterns[broken[np.unique(np.linspace(0, broken.size - 1, POINTS).astype(int))]]
    points, strange, example = _seen(cast, few, DRAWS)
    spread, others, other = _seen(cast, patterns, 1)
    chances = [chance(seen.place, cast.policy.mode, count) for seen, _ in (points, spread)]
    numbers = widened(cast.source.values(few))
    wrong = wrong_points(numbers, chances[0], points[0].ups, points[1], DRAWS, FALSE_ALARM_RATE / 2)
    once, kept = spread[0].at(spread[1]), wide[spread[1]]
    groups, parts = groups_of([np.zeros(0)], kept, once.place)
    binades = wrong_binades(
        kept, groups, parts, chances[1][spread[1]], once.ups, np.ones(kept.size, bool), FALSE_ALARM_RATE / 2
    )
    causes: tuple[str, ...] = ()
    if (wrong or binades) and not (strange or others):
        whole = once._replace(groups=tuple(group for group in groups if group.size))
        causes = explanations(points[0].at(points[1]), whole, FALSE_ALARM_RATE)
    return _report(
        cast, False, count, few.size * DRAWS, mismatches=strange + others, smallest=example or other, points=few.size,
        frequencies=wrong, false_alarm_rate=FALSE_ALARM_RATE, spread=patterns.size, binades=binades, causes=causes,
    )  # fmt: skip


def _seen(cast: _Cast, patterns: Array, draws: int) -> tuple[tuple[Seen, Array], int, Counterexample | None]:
    """Returns how often each number went up and whether it has a choice; the number of results that are neither end;
    and an example of these."""
    x = cast.source.values(patterns)
    bits = Policy(cast.policy.mode, "saturate", ALL_BITS)  # type: ignore[arg-type]
    down, up = (cast.expected(x, np.full(x.size, word, np.uint32), bits) for word in (0, 0xFFFFFFFF))
    got = cast.asked(np.repeat(patterns, draws)).reshape(x.size, draws)
    at_up, at_down = got == up[:, None], got == down[:, None]
    wide = widened(x)
    strange = ~(at_up | at_down) & ~(np.isnan(wide) & cast.any_nan)[:, None]
    example = None
    if strange.any():
        row = int(np.flatnonzero(strange.any(1))[np.argmin(np.abs(np.nan_to_num(wide[strange.any(1)], nan=np.inf)))])
        place = int(np.argmax(strange[row]))
        example = cast.example(patterns[row], x[row], int(down[row]), int(got[row, place]))
    whole = np.floor(np.abs(np.where(np.isfinite(wide), wide, 0)))
    part = np.abs(np.where(np.isfinite(wide), wide, 0)) - whole
    seen = Seen(part, np.signbit(wide), whole % 2 == 1, (at_up & ~at_down).sum(1), draws)
    return (seen, (up != down) & (part > 0)), int(strange.sum()), example
