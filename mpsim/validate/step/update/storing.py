"""How masters and sums of gradients are stored in another format, as a part of the check of the update."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np

from mpsim.formats import FORMATS, Format
from mpsim.kernels import bind
from mpsim.kernels.contract import Array
from mpsim.kernels.philox import Stream
from mpsim.policies import Mode, Policy
from mpsim.recording.updates import UpdateRule
from mpsim.training.optimizer.storage import MASTERS, Storage, overflow_of, storage_of, stream_of
from mpsim.validate.step.tensor_compare import TensorComparison, compare_arrays, explain

#: Words, the result, and how far the other's may be from it.
Candidate = tuple[str, Array, Array]
#: Low, expected and high results. A result between low and high is explained by the roundings of the update.
Interval = tuple[Array, Array, Array]


@dataclass(frozen=True)
class Storing:
    """The storage of one array of a ``kind``, None for float32. ``random``: the random bits of a stochastic one, None
    if they are not known: then both neighbours of a number are possible."""

    storage: Storage | None = None
    random: Stream | None = None
    kind: str = MASTERS

    @classmethod
    def of(
        cls, kind: str, rule: UpdateRule, place: int, index: Mapping[str, Any], places: int = 0, part: int = 0
    ) -> Storing:
        """Returns the storage of the parameter that a step reads as number ``place`` of ``places``. The index of a step
        that mpsim took has the seed and the number of the step, which determine the random bits."""
        storage = storage_of(rule.storage).get(kind)
        if storage is None or storage.rounding != "stochastic" or not {"seed", "step"} <= set(index):
            return cls(storage, kind=kind)
        stream = stream_of(kind, rule.states, place, places, part)
        return cls(storage, Stream(index["seed"], "storage", stream, index["step"]), kind)

    @property
    def format(self) -> Format:
        """The format of stored masters."""
        return FORMATS["float32"] if self.storage is None else self.storage.format

    @property
    def keeps_the_rest(self) -> bool:
        """Whether a second array keeps what rounding discards."""
        return self.storage is not None and self.storage.rounding == "kahan"

    @property
    def has_unknown_bits(self) -> bool:
        """Whether random bits decide that are not known."""
        return self.storage is not None and self.storage.rounding == "stochastic" and self.random is None

    def around(self, exact: Array, slack: Array) -> Interval:
        """Returns the stored forms of exact - slack, exact and exact + slack."""
        wide = exact.astype(np.float64)
        with np.errstate(invalid="ignore"):
            low, high = wide - slack, wide + slack
        if self.storage is None:
            return low, exact, high
        if self.has_unknown_bits:
            nearest = self._with("nearest")
            return self._rounded(low, Mode.DOWN), nearest._rounded(exact), self._rounded(high, Mode.UP)
        return self._rounded(low), self._rounded(exact), self._rounded(high)

    def _rounded(self, x: Array, mode: Mode | None = None) -> Array:
        assert self.storage is not None
        overflow = overflow_of(self.kind)
        policy = self.storage.policy(overflow) if mode is None else Policy(mode, overflow)
        random = self.random if policy.mode.needs_random_bits else None
        stored = bind("reference").round_array(np.ascontiguousarray(x), self.storage.format, policy, random)[0]
        return stored.astype(np.float32)

    def others(self) -> Iterator[tuple[str, Storing]]:
        """Yields other ways to store an array, as causes of a difference; at last one that a few numbers often fit."""
        if self.storage is None:
            return
        what = "the master" if self.kind == MASTERS else "the sum of gradients"
        yield f"{what} is not rounded when it is stored", Storing()
        if self.storage.rounding == "stochastic":
            yield f"{what} is rounded to nearest, not stochastically", self._with("nearest")
        drawn = "by other random bits" if self.storage.rounding == "stochastic" else "to the other neighbour"
        yield f"{what} is rounded {drawn}", self._with("stochastic")

    def _with(self, rounding: str) -> Storing:
        """The same storage with another rounding, the random bits of which are not known."""
        assert self.storage is not None
        return Storing(replace(self.storage, rounding=rounding), kind=self.kind)

    def compare(
        self, name: str, theirs: Array, exact: Array, slack: Array, op: str, wrong: Iterable[tuple[Candidate, Storing]],
        format: Format | None = None,
    ) -> TensorComparison:  # fmt: skip
        """Compares a stored array with ``exact``, which may be off by ``slack``. ``wrong``: others that would explain
        it, and how each is stored; ``format``: in whose codes it is compared, by default this one."""
        low, expected, high = self.around(exact, slack)
        found = compare_arrays(name, expected, theirs, format or self.format, op)
        if found.equal:
            return found
        found = explain(found, expected, theirs, low, high)
        if not found.unexplained:
            return found
        stored = [((words, exact, slack), other) for words, other in self.others()]
        for (words, other, margin), storing in chain(stored[:-1], wrong, stored[-1:]):
            low, _, high = storing.around(other, margin)
            with np.errstate(invalid="ignore"):
                if ((theirs >= low) & (theirs <= high)).all():
                    return replace(found, causes=(words,))
        return found

    def compare_rest(
        self, name: str, theirs: Array, exact: Array, slack: Array, stored: Array, op: str
    ) -> TensorComparison:
        """Compares what Kahan's rule keeps with what ``exact`` leaves beside the other's ``stored`` master."""
        with np.errstate(invalid="ignore"):
            rest = exact - stored
        low, expected, high = self.around(rest, slack)
        found = compare_arrays(name, expected, theirs, self.format, op)
        return found if found.equal else explain(found, expected, theirs, low, high)
