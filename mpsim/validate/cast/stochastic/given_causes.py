"""Why trials with given random bits differ: another use of the words that gives every result, if one is known."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from mpsim.kernels.contract import Array
from mpsim.policies import Mode, Policy
from mpsim.validate.cast import nans
from mpsim.validate.cast.rules import Rule
from mpsim.validate.cast.stochastic.chances import LETTERS
from mpsim.validate.sources import Source

#: Trials of each kind, wrong and right, on which an alternative is tried first.
TRIED_FIRST = 2000


class Trial(NamedTuple):
    """A call: its numbers, its words, whether the answers are codes or values, their keys, and which are wrong."""

    numbers: Array
    words: Array
    space: str
    keys: Array
    values: Array
    wrong: Array


Words = Callable[[Array], Array]


def explanations(trials: Sequence[Trial], rule: Rule, source: Source, backend: str) -> tuple[str, ...]:
    """Every use of the words that gives every result, the simplest first."""
    return tuple(
        words
        for words, policy, used in alternatives(rule.policy)
        if all(_gives(trial, rule.with_(policy=policy), source, used, backend, first) for first in (True, False)
               for trial in trials)
    )  # fmt: skip


def _gives(trial: Trial, rule: Rule, source: Source, used: Words, backend: str, first: bool) -> bool:
    """Whether a rule gives the answers of a call, or of a few of its trials."""
    words = used(trial.words)
    chosen = np.arange(trial.keys.size)
    if first:
        right, wrong = (np.flatnonzero(trial.wrong == each)[:TRIED_FIRST] for each in (False, True))
        chosen = np.concatenate([right, wrong])
    bits = np.ascontiguousarray(words[chosen]) if rule.policy.mode.needs_random_bits else None
    expected = rule.outcome(np.ascontiguousarray(trial.numbers[chosen]), source, trial.space, bits, backend)
    same = expected.keys == trial.keys[chosen]
    if rule.nan_codes == nans.ANY:
        same |= np.isnan(expected.values) & np.isnan(trial.values[chosen])
    return bool(same.all())


def alternatives(policy: Policy) -> Iterator[tuple[str, Policy, Words]]:
    """Other ways to round: in words, the policy, and the words that it uses of those given."""
    count, overflow = policy.random_bit_count, policy.overflow
    assert count is not None

    def plain(mode: Mode) -> Policy:
        return Policy(mode, overflow)

    yield "never up: the words are ignored", plain(Mode.TOWARD_ZERO), _same
    for mode in (Mode.NEAREST_EVEN, Mode.NEAREST_AWAY, Mode.UP, Mode.DOWN):
        yield f"{mode.value}: the words are ignored", plain(mode), _same
    for mode, letter in LETTERS.items():
        if mode is not policy.mode:
            yield f"variant {letter} of stochastic rounding", Policy(mode, overflow, count), _same
    if count < 32:
        yield f"the high {count} bits of a word decide", policy, partial(_high, bits=32 - count)
    for other in range(1, 33):
        if other != count:
            yield f"{other} bits: the low {other} bits of a word decide", Policy(policy.mode, overflow, other), _same
    for place in (8, 16, 24):
        yield f"the bits of a word from bit {place} on decide", policy, partial(_high, bits=place)
    for other in range(1, count):
        yield (
            f"{other} bits: of the {count} low bits of a word only the high {other} decide",
            Policy(policy.mode, overflow, other),
            partial(_high, bits=count - other),
        )
    yield "the words are complemented", policy, lambda words: ~words
    yield "the words' bits are in reverse order", policy, lambda words: _reversed(words, count)
    for which, place in (("first", 0), ("last", -1)):
        words = f"one word for all: the {which} word of a call decides for every number"
        yield words, policy, partial(_alike, place=place)
    yield "each number takes the word before its own", policy, lambda words: np.roll(words, 1)
    yield "each number takes the word after its own", policy, lambda words: np.roll(words, -1)


def _alike(words: Array, place: int) -> Array:
    return np.full_like(words, words[place])


def _high(words: Array, bits: int) -> Array:
    """The words without their ``bits`` low bits."""
    return words >> np.uint32(bits)


def _same(words: Array) -> Array:
    return words


def _reversed(words: Array, count: int) -> Array:
    """The low bits of each word in reverse order."""
    found = np.zeros_like(words)
    for place in range(count):
        found |= (words >> np.uint32(place) & np.uint32(1)) << np.uint32(count - 1 - place)
    return found
