"""Compares a cast on all 2**32 float32 inputs, in order. The comparison can be resumed.

A block has the inputs with the same high bits. Expected results are not computed per input: mpsim precomputes the
intervals of inputs that round to the same value. It therefore writes one array and reads one for each block.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.machinery import PathFinder
from pathlib import Path

import numpy as np

from mpsim import checks
from mpsim.errors import UsageError
from mpsim.files import json_text
from mpsim.files.records import Record
from mpsim.files.whole import write_whole
from mpsim.kernels import DEFAULT_BACKEND
from mpsim.kernels.contract import Array
from mpsim.validate.answers import NO_CODE, SubjectError
from mpsim.validate.cast import nans
from mpsim.validate.cast.asking import Answers, ask
from mpsim.validate.cast.rules import Rule
from mpsim.validate.cast.runs import Runs, runs_of
from mpsim.validate.sources import SOURCES
from mpsim.validate.subjects.casts import Subject, read_answer, values_of
from mpsim.validate.subjects.worker import Typed

BLOCK_BITS = 20
BLOCKS = 1 << (32 - BLOCK_BITS)
KEPT_PER_BLOCK = 64


@dataclass
class Sweep:
    """The state of an exhaustive comparison.

    ``mismatches`` is exact. ``kept`` has the patterns of some mismatches, for classification. ``seconds`` is the
    elapsed time, ``own_seconds`` mpsim's processor time, without the subject's.
    """

    key: str
    done: int = 0
    mismatches: int = 0
    kept: list[int] = field(default_factory=list)
    seconds: float = 0.0
    own_seconds: float = 0.0

    def check(self) -> None:
        """Raises UsageError unless the fields have values that a comparison reaches."""
        if not isinstance(self.key, str) or not isinstance(self.kept, list):
            raise UsageError("expected a key and a list of patterns")
        checks.whole("done", self.done, least=0, most=BLOCKS)
        checks.whole("mismatches", self.mismatches, least=len(self.kept), most=self.inputs)
        for pattern in self.kept:
            checks.whole("kept", pattern, least=0, most=2**32 - 1)
        for name in ("seconds", "own_seconds"):
            checks.real(name, getattr(self, name), least=0)

    @property
    def complete(self) -> bool:
        return self.done == BLOCKS

    @property
    def inputs(self) -> int:
        return self.done << BLOCK_BITS

    def to_dict(self) -> Record:
        """Returns the results as JSON types, without the state for resuming."""
        rate = self.inputs / self.own_seconds if self.own_seconds else None
        return {
            "inputs": self.inputs,
            "complete": self.complete,
            "mismatches": self.mismatches,
            "seconds": self.seconds,
            "own_seconds": self.own_seconds,
            "own_inputs_per_second": rate,
        }

    def save(self, path: Path) -> None:
        """Writes the state atomically."""
        write_whole(path, json.dumps(vars(self)).encode())


def load_sweep(path: Path, key: str) -> Sweep:
    """Reads the state from a file, or returns a new one if there is no file.

    Raises:
        ValueError: The state belongs to a different comparison.
    """
    if not path.exists():
        return Sweep(key)
    try:
        found = Sweep(**json_text.decoded(path.read_bytes()))
        found.check()
    except (ValueError, TypeError) as error:
        raise UsageError(f"{path} holds no state of an exhaustive comparison: {error}") from error
    if found.key != key:
        raise UsageError(f"{path} belongs to another subject, format or policy; name another file, or remove it")
    return found


def sweep_key(subject: Subject, rule: Rule) -> str:
    """Returns the key of a comparison. It covers the bytes of a subject's file or module, and how it is called."""
    file = _file_of(subject.name.rpartition(":")[0])
    content = hashlib.sha256(file.read_bytes()).hexdigest() if file else None
    text = json.dumps([subject.name, content, subject.called, rule.to_dict(), BLOCK_BITS], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _file_of(place: str) -> Path | None:
    """Returns the file with this path, or the file of the module with this name, without importing it."""
    if Path(place).is_file():
        return Path(place)
    path: list[str] | None = [*sys.path, str(Path.cwd())]
    name, origin = "", None
    for part in place.split("."):
        spec = PathFinder.find_spec(f"{name}.{part}".lstrip("."), path) if path and part else None
        if spec is None:
            return None
        name, origin, path = spec.name, spec.origin, list(spec.submodule_search_locations or ())
    return Path(origin) if origin and Path(origin).is_file() else None


def sweep(
    subject: Subject,
    rule: Rule,
    *,
    resume: Path | None = None,
    blocks: int | None = None,
    on_progress: Callable[[Sweep], None] | None = None,
    backend: str = DEFAULT_BACKEND,
) -> Sweep:
    """Compares the subject with the rule on all float32 patterns from where ``resume`` stopped; ``blocks``: the most
    blocks of 2**20 of this call. The state is saved every 64 blocks, at the end, and when interrupted.

    Raises SubjectError where the subject fails, ValueError for a ``resume`` file of something else.
    """
    key = sweep_key(subject, rule)
    state = load_sweep(resume, key) if resume is not None else Sweep(key)
    end = BLOCKS if blocks is None else min(BLOCKS, state.done + blocks)
    checker, questions = Checker(rule, backend), _Questions(subject, end)
    try:
        while state.done < end:
            began, busy = time.perf_counter(), time.thread_time()
            patterns = questions.patterns(state.done)
            asked = time.thread_time()
            answer = questions.answer(state.done)
            answered = time.thread_time()
            checker.check(state, answer, patterns)
            state.seconds += time.perf_counter() - began
            state.own_seconds += (asked - busy) + (time.thread_time() - answered)
            state.done += 1
            if resume is not None and state.done % 64 == 0:
                state.save(resume)
            if on_progress is not None and state.done % 16 == 0:
                on_progress(state)
    finally:
        subject.forget()
        if resume is not None:
            state.save(resume)
    return state


class _Questions:
    """Blocks, asked one ahead where the subject has a separate process: it answers while mpsim compares."""

    def __init__(self, subject: Subject, end: int) -> None:
        self._subject, self._end, self._ahead = subject, end, 1 + subject.is_concurrent
        self._low = np.arange(1 << BLOCK_BITS, dtype=np.uint32)
        self._room = np.empty((2, 1 << BLOCK_BITS), np.uint32)
        self._ready = self._asked = 0  # blocks below these are

    def patterns(self, block: int) -> Array:
        """The patterns of a block, which comes after the last; the next one's are prepared as well."""
        for number in range(max(block, self._ready), min(block + self._ahead, self._end)):
            np.bitwise_or(self._low, np.uint32(number << BLOCK_BITS), out=self._room[number % 2])
            self._ready = number + 1
        return np.asarray(self._room[block % 2])

    def answer(self, block: int) -> Typed:
        """The subject's answer to a block. Raises SubjectError with the block's first input where it fails."""
        try:
            for number in range(max(block, self._asked), self._ready):
                self._subject.submit(self._room[number % 2], SOURCES["float32"])
                self._asked = number + 1
            return self._subject.result()
        except SubjectError as error:
            raise SubjectError(f"{error} (in the block that begins at {block << BLOCK_BITS:#010x})") from error


class Checker:
    """Compares blocks of consecutive patterns with the runs of a rule."""

    def __init__(self, rule: Rule, backend: str = DEFAULT_BACKEND) -> None:
        self._rule, self._backend = rule, backend
        self._runs: dict[str, Runs] = {}
        self._values: dict[str, Array] = {}
        self._equal = np.empty(1 << BLOCK_BITS, bool)

    def check(self, state: Sweep, answer: Typed, patterns: Array) -> None:
        """Counts the mismatches of a block whose patterns are consecutive, and keeps some."""
        got, space = self._comparable(answer, patterns.size)
        if space not in self._runs:
            self._runs[space] = runs_of(self._rule, SOURCES["float32"], space, self._backend)
        starts, keys = self._runs[space]
        first, equal = int(patterns[0]), self._equal
        at = int(np.searchsorted(starts, np.uint64(first), "right")) - 1
        stop = int(np.searchsorted(starts, np.uint64(first + patterns.size), "left"))
        bounds = np.clip(starts[at:stop].astype(np.int64) - first, 0, None).tolist() + [patterns.size]
        wanted, none = _in_type(keys[at:stop], got.dtype, space), keys[at:stop] == np.uint64(NO_CODE)
        for number, (begin, finish) in enumerate(zip(bounds, bounds[1:], strict=False)):
            if space == "codes" and none[number]:
                equal[begin:finish] = False
            else:
                np.equal(got[begin:finish], wanted[number], out=equal[begin:finish])
        wrong = np.flatnonzero(~equal[: patterns.size])
        if wrong.size:
            self._keep(state, Typed(answer.type, answer.words[wrong]), patterns[wrong], space)

    def _comparable(self, answer: Typed, size: int) -> tuple[Array, str]:
        """(integers that are equal where results are, "codes" or "values")."""
        if answer.words.shape != (size,):
            raise SubjectError(f"the subject answered shape {answer.words.shape} to {size} inputs")
        if answer.type == self._rule.format.name or answer.words.dtype.kind == "i" or answer.type.startswith("uint"):
            return answer.words.view(f"uint{8 * answer.words.dtype.itemsize}"), "codes"
        if answer.type in ("float32", "float64"):
            return answer.words, "values"
        if answer.type not in self._values:  # every number of a narrow type, as float32 patterns
            every = np.arange(1 << 8 * answer.words.dtype.itemsize).astype(answer.words.dtype)
            with np.errstate(all="ignore"):
                values = values_of(Typed(answer.type, every), "the subject").astype(np.float32)
            self._values[answer.type] = values.view(np.uint32)
        return self._values[answer.type][answer.words], "values"

    def _keep(self, state: Sweep, answer: Typed, patterns: Array, space: str) -> None:
        """Counts mismatches, except NaNs that count as equal to the expected one."""
        if space == "values" or self._rule.nan_codes == nans.ANY:
            source = SOURCES["float32"]
            expected = self._rule.outcome(source.values(patterns), source, space, backend=self._backend)
            got = read_answer(answer, patterns.size, self._rule.format, "the subject").outcome
            fine = (expected.keys == got.keys) | (
                nans.as_good(expected, got, self._rule.format) & (self._rule.nan_codes == nans.ANY)
            )
            patterns = patterns[~fine]
        state.mismatches += int(patterns.size)
        state.kept += patterns[:: max(1, -(-patterns.size // KEPT_PER_BLOCK))].tolist()


def _in_type(keys: Array, dtype: np.dtype, space: str) -> Array:
    """Converts keys to patterns of the type of the subject's answers."""
    if space == "codes":
        return keys.astype(dtype)
    with np.errstate(over="ignore"):
        return keys.view(np.float64).astype(f"float{8 * dtype.itemsize}").view(dtype)


def kept_answers(state: Sweep, subject: Subject, rule: Rule, corpus: Array) -> Answers:
    """Asks the subject again for the stored mismatches and a corpus, for classification."""
    patterns = np.union1d(corpus, np.array(state.kept, np.uint32)).astype(np.uint32)
    return ask(subject, SOURCES["float32"], rule.format, patterns)
