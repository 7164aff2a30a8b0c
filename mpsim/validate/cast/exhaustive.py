"""Every float32 input, 2**32 of them, in order, resumable.

The inputs of a block are the pattern of its number over the low bits; the expected results come from runs. So mpsim
writes one array and reads one, and rounds nothing.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mpsim.files import write_whole
from mpsim.rounding import decode
from mpsim.validate.cast.compare import Answers, ask
from mpsim.validate.cast.rules import Rule
from mpsim.validate.cast.runs import Runs, runs_of
from mpsim.validate.sources import SOURCES
from mpsim.validate.subjects.adapters import Subject, SubjectError

Array = np.ndarray[Any, Any]
BLOCK_BITS = 18
BLOCKS = 1 << (32 - BLOCK_BITS)
KEPT_PER_BLOCK = 64


@dataclass
class Sweep:
    """How far an exhaustive comparison is. mismatches: exact; kept: patterns of some of them, for classing.

    seconds: in all, by the clock; own_seconds: of processor time, mpsim's, that is all but the subject's.
    """

    key: str
    done: int = 0
    mismatches: int = 0
    kept: list[int] = field(default_factory=list)
    seconds: float = 0.0
    own_seconds: float = 0.0

    @property
    def complete(self) -> bool:
        return self.done == BLOCKS

    @property
    def inputs(self) -> int:
        return self.done << BLOCK_BITS

    def as_json(self) -> dict[str, Any]:
        """What was done, without the state that resuming needs."""
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
        """Writes the state in one piece."""
        write_whole(path, json.dumps(vars(self)).encode())


def load_sweep(path: Path, key: str) -> Sweep:
    """The state in a file, or a new one where there is none. Raises ValueError for a state of something else."""
    if not path.exists():
        return Sweep(key)
    try:
        found = Sweep(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} holds no state of an exhaustive comparison: {error}") from error
    if found.key != key:
        raise ValueError(f"{path} belongs to another subject, format or policy; name another file, or remove it")
    return found


def sweep_key(subject: Subject, rule: Rule) -> str:
    """Identifies what is compared with what; a subject in a file by the file's bytes as well."""
    file = Path(subject.name.rpartition(":")[0])
    content = hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else None
    text = json.dumps([subject.name, content, rule.as_json()], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def sweep(
    subject: Subject,
    rule: Rule,
    *,
    resume: Path | None = None,
    blocks: int | None = None,
    on_progress: Callable[[Sweep], None] | None = None,
    backend: str = "compiled",
) -> Sweep:
    """Compares the subject with the rule on all float32 patterns from where ``resume`` stopped; ``blocks``: at most
    so many blocks of 2**18 in this call. The state is saved every 256 blocks, at the end, and when interrupted.

    Raises SubjectError where the subject fails, ValueError for a ``resume`` file of something else.
    """
    key = sweep_key(subject, rule)
    state = load_sweep(resume, key) if resume is not None else Sweep(key)
    end = BLOCKS if blocks is None else min(BLOCKS, state.done + blocks)
    tables: dict[str, Runs] = {}
    low, patterns = np.arange(1 << BLOCK_BITS, dtype=np.uint32), np.empty(1 << BLOCK_BITS, np.uint32)
    equal = np.empty(1 << BLOCK_BITS, bool)
    try:
        while state.done < end:
            began, busy = time.perf_counter(), time.thread_time()
            np.bitwise_or(low, np.uint32(state.done << BLOCK_BITS), out=patterns)
            asked = time.thread_time()
            answer = subject_answer(subject, patterns)
            answered = time.thread_time()
            check_block(state, answer, patterns, tables, rule, equal, backend)
            state.seconds += time.perf_counter() - began
            state.own_seconds += (asked - busy) + (time.thread_time() - answered)
            state.done += 1
            if resume is not None and state.done % 256 == 0:
                state.save(resume)
            if on_progress is not None and state.done % 64 == 0:
                on_progress(state)
    finally:
        if resume is not None:
            state.save(resume)
    return state


def subject_answer(subject: Subject, patterns: Array) -> Array:
    """The subject's raw array for a block: codes as unsigned integers, or numbers as floats."""
    source = SOURCES["float32"]
    try:
        with np.errstate(all="ignore"):
            return np.asarray(subject.call(source, patterns if subject.patterns_in else source.array(patterns), None))
    except SubjectError:
        raise
    except Exception as error:
        raise SubjectError(f"{subject.name} failed at {int(patterns[0]):#010x}: {error}") from error


def check_block(
    state: Sweep, answer: Array, patterns: Array, tables: dict[str, Runs], rule: Rule, equal: Array, backend: str
) -> None:
    """Counts the mismatches of a block whose patterns are consecutive, and keeps some."""
    got, space = _comparable(answer, patterns.size, rule)
    if space not in tables:
        tables[space] = runs_of(rule, SOURCES["float32"], space, backend)
    starts, keys = tables[space]
    first = int(patterns[0])
    at = int(np.searchsorted(starts, np.uint64(first), "right")) - 1
    stop = int(np.searchsorted(starts, np.uint64(first + patterns.size), "left"))
    bounds = np.clip(starts[at:stop].astype(np.int64) - first, 0, None).tolist() + [patterns.size]
    wanted = _in_type(keys[at:stop], got.dtype, space)
    for number, (begin, finish) in enumerate(zip(bounds, bounds[1:], strict=False)):
        np.equal(got[begin:finish], wanted[number], out=equal[begin:finish])
    wrong = patterns.size - int(np.count_nonzero(equal))
    if wrong:
        _keep(state, got, patterns, np.flatnonzero(~equal), space, rule)


def _comparable(answer: Array, size: int, rule: Rule) -> tuple[Array, str]:
    """(integers that are equal where results are, "codes" or "values")."""
    if answer.shape != (size,):
        raise SubjectError(f"the subject answered shape {answer.shape} to {size} inputs")
    if answer.dtype.name == rule.format.name or answer.dtype.kind in "iu":
        return answer.view(f"uint{8 * answer.dtype.itemsize}"), "codes"
    if answer.dtype not in (np.float32, np.float64):
        answer = answer.astype(np.float32)
    return answer.view(f"uint{8 * answer.dtype.itemsize}"), "values"


def _in_type(keys: Array, dtype: np.dtype[Any], space: str) -> Array:
    """Keys as patterns of the type that the subject answers in."""
    if space == "codes":
        return keys.astype(dtype)
    with np.errstate(over="ignore"):
        return keys.view(np.float64).astype(f"float{8 * dtype.itemsize}").view(dtype)


def _keep(state: Sweep, got: Array, patterns: Array, at: Array, space: str, rule: Rule) -> None:
    """Counts the mismatches at these places, but for NaNs that are as good as the expected one."""
    if space == "values" or rule.nan_codes == "any":
        source = SOURCES["float32"]
        wanted = np.isnan(rule.values(source.values(patterns[at]), source))
        if space == "values":
            nan = np.isnan(got[at].view(f"float{8 * got.dtype.itemsize}"))
        else:
            nan = np.isnan(decode(got[at], rule.format, np.float64))
        at = at[~(nan & wanted)]
    state.mismatches += int(at.size)
    state.kept += patterns[at[:: max(1, -(-at.size // KEPT_PER_BLOCK))]].tolist()


def kept_answers(state: Sweep, subject: Subject, rule: Rule, corpus: Array) -> Answers:
    """The subject asked again on the mismatches kept and on a corpus: what classing needs."""
    patterns = np.union1d(corpus, np.array(state.kept, np.uint32)).astype(np.uint32)
    return ask(subject, SOURCES["float32"], rule.format, patterns)
