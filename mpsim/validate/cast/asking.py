"""Asks a subject for the results of a corpus, and again in other arrays: a cast must depend only on its input."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle
from typing import NamedTuple

import numpy as np

from mpsim.files.records import Record
from mpsim.formats import Format
from mpsim.kernels.contract import Array
from mpsim.validate.answers import Outcome, SubjectError
from mpsim.validate.grid import places
from mpsim.validate.sources import Source, widened
from mpsim.validate.subjects.casts import Results, Subject, read_answer
from mpsim.validate.subjects.programs import Program
from mpsim.validate.subjects.worker import Typed

CHUNK = 1 << 20
#: The lengths of further arrays, around the sizes of vectors and blocks and their tails.
LENGTHS = (*range(1, 34), 47, 63, 64, 65, 100, 127, 128, 129, 255, 257, 1000)
#: The lengths for a program that is started for every request.
FEW_LENGTHS = (1, 3, 8, 33)
#: How many inputs of every kind and sign are asked alone and at both ends of an array.
EACH = 12


@dataclass(frozen=True)
class Answers:
    """The answers of a subject to a corpus of patterns."""

    subject: Subject
    source: Source
    format: Format
    patterns: Array
    x: Array
    results: Results

    @property
    def holds_every_input(self) -> bool:
        """Whether every pattern of the source is present. A file may contain a pattern several times."""
        every = 2**self.source.bits
        return self.patterns.size >= every and np.unique(self.patterns).size == every

    def at(self, where: Array) -> Answers:
        """Returns the answers selected by a mask or by indices."""
        results = Results(self.results.space, self.results.outcome.at(where))
        return Answers(self.subject, self.source, self.format, self.patterns[where], self.x[where], results)


def ask(subject: Subject, source: Source, format: Format, patterns: Array) -> Answers:
    """Runs the subject on patterns. Raises SubjectError if it fails."""
    parts = [subject.run(chunk, source, format) for chunk in chunks(patterns)]
    joined = Outcome(
        np.concatenate([part.outcome.values for part in parts]), np.concatenate([part.outcome.keys for part in parts])
    )
    return Answers(subject, source, format, patterns, source.values(patterns), Results(parts[0].space, joined))


def of_vectors(subject: Subject, source: Source, format: Format) -> Answers:
    """Returns the pairs of a file as answers. Every pair counts, even if several have the same input.

    Raises:
        SubjectError: The inputs have a different width.
    """
    vectors = subject.vectors
    assert vectors is not None
    inputs = vectors.inputs
    if inputs.dtype.itemsize > source.unsigned.itemsize or (inputs.size and int(inputs.max()) >> source.bits):
        raise SubjectError(
            f"{subject.name} has inputs of {8 * inputs.dtype.itemsize} bits; the source is {source.name}"
        )
    inputs = inputs.astype(source.unsigned)
    results = vectors.results
    named = Typed("uint64", results) if results.dtype.kind == "u" else Typed(results.dtype.name, _words(results))
    answered = read_answer(named, results.size, format, subject.name)
    _note_conflicts(subject, inputs, answered.outcome.keys)
    return Answers(subject, source, format, inputs, source.values(inputs), answered)


def _note_conflicts(subject: Subject, inputs: Array, keys: Array) -> None:
    """Adds a note on the (rising) inputs of a file that have several answers, because only one can be right."""
    conflicts = np.unique(inputs[1:][(inputs[1:] == inputs[:-1]) & (keys[1:] != keys[:-1])])
    if conflicts.size:
        digits = 2 * inputs.dtype.itemsize
        shown = ", ".join(f"0x{int(pattern):0{digits}x}" for pattern in conflicts[:4]) + ", ..." * (conflicts.size > 4)
        subject.notes.append(f"{conflicts.size:,} of the file's inputs have more than one answer: {shown}")


def _words(results: Array) -> Array:
    return results.view(f"uint{8 * results.dtype.itemsize}")


def chunks(patterns: Array) -> Iterator[Array]:
    """Yields contiguous pieces of at most CHUNK patterns."""
    for start in range(0, max(patterns.size, 1), CHUNK):
        yield np.ascontiguousarray(patterns[start : start + CHUNK])


class Unsteady(NamedTuple):
    """An input whose answer is reproducibly different in another array.

    ``length`` and ``place`` are the length of that array and the index of the input in it. ``usual`` is the answer in
    the corpus, ``other`` the answer in that array.
    """

    pattern: int
    length: int
    place: int
    input: float
    usual: Outcome
    other: Outcome

    def to_dict(self) -> Record:
        """Returns the fields as JSON types."""
        return {
            "input": {"value": self.input, "bits": f"{self.pattern:#x}"},
            "length": self.length,
            "place": self.place,
            "usual": float(self.usual.values[0]),
            "other": float(self.other.values[0]),
        }


def _samples(answers: Answers) -> Iterator[Array]:
    """Yields the indices of further arrays: a part of the corpus, arrays of all lengths, and critical inputs alone and
    at both ends of an array."""
    size = answers.patterns.size
    yield np.arange(0, size, max(1, size // 4096))
    generator = np.random.default_rng(0)
    critical = _critical(answers, generator)
    few = isinstance(answers.subject.callee, Program)
    for length in FEW_LENGTHS if few else LENGTHS:
        yield generator.choice(critical, length)
    if few:
        return
    for index, length in zip(critical, cycle(range(2, 34)), strict=False):
        ends = generator.choice(critical, length)
        ends[0] = ends[-1] = index
        yield ends
        yield np.array([index])


def _critical(answers: Answers, generator: np.random.Generator) -> Array:
    """Returns the indices of at most EACH inputs of every sign and kind for which code often has a separate path."""
    x, format = widened(answers.x), answers.format
    infinite, nan = np.isinf(x), np.isnan(x)
    place = places(np.where(infinite | nan, 0, x), format, answers.source)
    beyond = (place.magnitude > format.largest) & ~infinite
    least = np.abs(x) < answers.source.smallest_normal
    kinds = (
        x == 0, infinite, nan, beyond, least & (x != 0), place.tie & ~beyond, place.near & ~beyond,
        place.below_normal & (x != 0), ~place.below_normal & ~beyond & ~infinite & ~nan,
    )  # fmt: skip
    chosen = [
        generator.permutation(np.flatnonzero(kind & (np.signbit(x) == negative)))[:EACH]
        for kind in kinds
        for negative in (False, True)
    ]
    return np.unique(np.concatenate(chosen))


def unsteady(answers: Answers) -> Unsteady | None:
    """Returns the first input whose answer depends on the length of the array or the position in it, or None.

    Raises:
        SubjectError: The same array gets different answers in two calls, i.e. the subject is random.
    """
    if answers.subject.vectors is not None:
        return None
    for chosen in _samples(answers):
        patterns = np.ascontiguousarray(answers.patterns[chosen])
        found = ask(answers.subject, answers.source, answers.format, patterns).results.outcome
        usual = answers.results.outcome.at(chosen)
        differ = np.flatnonzero(found.keys != usual.keys)
        if not differ.size:
            continue
        again = ask(answers.subject, answers.source, answers.format, patterns).results.outcome
        whole = ask(answers.subject, answers.source, answers.format, answers.patterns).results.outcome
        first = int(differ[0])
        if not (np.array_equal(again.keys, found.keys) and np.array_equal(whole.keys, answers.results.outcome.keys)):
            raise SubjectError(
                f"{answers.subject.name} answers {float(answers.x[chosen[first]])!r} differently in equal calls: it "
                f"is random (then declare --mode stochastic), or keeps something from call to call"
            )
        one = np.array([first])
        x = float(answers.x[chosen[first]])
        return Unsteady(int(patterns[first]), patterns.size, first, x, usual.at(one), found.at(one))
    return None
