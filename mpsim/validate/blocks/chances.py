"""Quantisers that round elements at random: which word sends an element up, and how often it goes up.

Elements of a quantiser with random bits of its own have to be one of two neighbours. The share of the upper one is
tested as that of a cast is (mpsim.validate.cast.stochastic): every element of a few blocks by the exact binomial test,
and all elements of the corpus together by Hoeffding's inequality.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from mpsim.blocks import Quantizer
from mpsim.blocks.quantizers.elements import Element
from mpsim.files.records import Record
from mpsim.kernels.contract import Array
from mpsim.kernels.philox import Stream, random_bits
from mpsim.validate.blocks.answers import BlockAnswers
from mpsim.validate.blocks.expected import Expected, Trial
from mpsim.validate.cast.stochastic.causes import Seen, explanations
from mpsim.validate.cast.stochastic.frequencies import groups_of, wrong_binades, wrong_points
from mpsim.validate.cast.stochastic.own_bits import FALSE_ALARM_RATE
from mpsim.validate.cast.stochastic.result import ALL_BITS, Binade, Frequency

#: Blocks that are rounded many times, how often, and how often where each is a call.
BLOCKS, DRAWS, CALLS = 16, 2000, 2000


@dataclass(frozen=True)
class Chances:
    """What came out of the test of frequencies.

    Attributes:
        points: How many elements with a choice were rounded ``draws`` times; spread: how many were rounded once.
        wrong: The elements, and the groups of elements, whose frequency is too unlikely.
        causes: Ways to round that give every frequency, the simplest first.
    """

    points: int
    draws: int
    spread: int
    wrong: tuple[Frequency, ...]
    groups: tuple[Binade, ...]
    causes: tuple[str, ...]

    @property
    def equal(self) -> bool:
        """Whether no frequency is too unlikely."""
        return not self.wrong and not self.groups

    def to_dict(self) -> Record:
        """Returns the fields as JSON types."""
        return {
            "elements": self.points, "draws": self.draws, "spread": self.spread,
            "false_alarm_rate": FALSE_ALARM_RATE, "frequencies": [each.to_dict() for each in self.wrong],
            "groups": [each.to_dict() for each in self.groups], "causes": list(self.causes),
        }  # fmt: skip


def first_words(trial: Trial, quantizer: Quantizer, count: int | None = None) -> Array:
    """Returns the smallest word, uint64, of the element's random bits that sends each element to its upper neighbour.

    It is 2**bits for elements that no word sends up. The result of an element never falls as its word rises.

    Args:
        trial: The blocks; quantizer: the description.
        count: Another number of random bits of variant A.
    """
    if count is not None:
        quantizer = replace(quantizer, element=replace(quantizer.element, mode="stochastic", random_bit_count=count))
    bits = quantizer.element.random_bit_count
    assert bits is not None
    low = np.zeros(trial.blocks.shape, np.uint64)  # does not go up
    high = np.full(trial.blocks.shape, 1 << bits, np.uint64)
    down = trial.with_words(quantizer, low.astype(np.uint32)).codes
    for _ in range(bits):
        middle = (low + high) >> np.uint64(1)
        goes_up = trial.with_words(quantizer, middle.astype(np.uint32)).codes != down
        low, high = np.where(goes_up, low, middle), np.where(goes_up, middle, high)
    return high


def deciding_words(trial: Trial, quantizer: Quantizer, seed: int) -> Array:
    """Returns a random word for each element; for two of three elements the one where it goes up, or the one before."""
    bits = quantizer.element.random_bit_count
    assert bits is not None
    random = random_bits(Stream(seed, "rounding"), trial.blocks.size).reshape(trial.blocks.shape)
    mask = np.uint64((1 << bits) - 1)
    first = first_words(trial, quantizer)
    which = (random >> np.uint32(9)) % np.uint32(3)
    low = np.where(which == 1, first, first - np.uint64(1)) & mask
    above = random.astype(np.uint64) & ~mask & np.uint64(0xFFFFFFFF)
    return np.where(which == 0, random, (above | low).astype(np.uint32))


def frequencies(
    trial: Trial, quantizer: Quantizer, answered: BlockAnswers, ask: Callable[[Trial], BlockAnswers]
) -> Chances:
    """Tests how often elements go up.

    Args:
        trial: The corpus, without words; quantizer: the description; answered: the answers to the corpus.
        ask: Asks the subject.
    """
    few = _few(trial)
    draws = DRAWS if not few.calls else max(CALLS // len(few.blocks), 1)
    many = few.of(np.tile(few.blocks, (draws, 1)))
    points = _seen(few, quantizer, ask(many), draws)
    spread = _seen(trial, quantizer, answered, 1)
    x, share = few.blocks[points.decided], points.share[points.decided]
    wrong = wrong_points(x, share, points.ups[points.decided], np.ones(x.size, bool), draws, FALSE_ALARM_RATE / 2)
    once, place = trial.blocks[spread.decided], spread.share[spread.decided]
    groups, parts = groups_of([np.zeros(0)], once, place)
    wide = wrong_binades(once, groups, parts, place, spread.ups[spread.decided], np.ones(once.size, bool),
                         FALSE_ALARM_RATE / 2)  # fmt: skip
    causes: tuple[str, ...] = ()
    if wrong or wide:
        each = spread.with_places(trial, quantizer)
        kept = tuple(group for group in groups if group.size)
        causes = explanations(
            points.with_places(few, quantizer), each._replace(groups=kept), FALSE_ALARM_RATE
        )  # fmt: skip
    return Chances(x.size, draws, once.size, wrong, wide, causes)


@dataclass(frozen=True)
class _Counted:
    """For each element: whether random bits decide, the probability of going up, and how often it did."""

    down: Expected
    decided: Array
    share: Array
    ups: Array
    draws: int

    def with_places(self, trial: Trial, quantizer: Quantizer) -> Seen:
        """Returns what was seen, with the places of quotients between their neighbours to 32 bits."""
        whole = 1.0 - np.ldexp(first_words(trial, quantizer, ALL_BITS).astype(np.float64), -ALL_BITS)
        codes = self.down.codes[self.decided]
        odd = (codes & 1).astype(bool)
        return Seen(whole[self.decided], trial.blocks[self.decided] < 0, odd, self.ups[self.decided], self.draws)


def _few(trial: Trial) -> Trial:
    """Returns a few blocks whose elements have choices: those of a tensor, or ordinary ones."""
    if trial.is_whole:
        part = trial.blocks[trial.calls[len(trial.calls) // 2]]
        return replace(trial, blocks=part, calls=())
    finite: Array = np.asarray(np.isfinite(trial.blocks).all(-1))
    size: Array = np.abs(np.where(finite[:, None], trial.blocks, 0)).max(-1)
    rows = np.flatnonzero((size > 2.0**-20) & (size < 2.0**20))
    shapes = [rows[i] for i in np.unique(np.linspace(0, rows.size - 1, BLOCKS if not trial.calls else 4).astype(int))]
    return trial.some(np.array(shapes))


def _seen(trial: Trial, quantizer: Quantizer, answered: BlockAnswers, draws: int) -> _Counted:
    """Counts how often each element was its upper neighbour. The answers repeat the trial's blocks ``draws`` times."""
    values, bits = answered.values is not None, quantizer.element.random_bit_count
    assert bits is not None
    down, up = (
        trial.with_words(quantizer, np.full(trial.blocks.shape, word, np.uint32), values) for word in (0, 0xFFFFFFFF)
    )
    rows = np.tile(np.arange(len(trial.blocks)), draws)
    went_up = ~answered.differ(up.at(rows)) & answered.differ(down.at(rows))
    first = first_words(trial, quantizer)
    share = 1.0 - np.ldexp(first.astype(np.float64), -bits)
    decided = np.asarray((down.codes != up.codes) & np.isfinite(down.scale_numbers))
    if isinstance(quantizer.element, Element):  # the sign of a zero is not a choice
        decided = decided & ((down.codes ^ up.codes) != quantizer.element.row.sign_mask)
    ups = went_up.reshape(draws, *trial.blocks.shape).sum(0)
    return _Counted(down, decided, share, ups, draws)
