"""A subject asked a corpus of inputs, and asked again in other company: a cast depends on its input alone."""

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
from mpsim.validate.sources import Source
from mpsim.validate.subjects.casts import Results, Subject, read_answer
from mpsim.validate.subjects.programs import Program
from mpsim.validate.subjects.worker import Typed

CHUNK = 1 << 20
#: Lengths of arrays that a subject is asked again: around the sizes of vectors and blocks, and their tails.
LENGTHS = (*range(1, 34), 47, 63, 64, 65, 100, 127, 128, 129, 255, 257, 1000)
#: The same for a program that is started for every question.
FEW_LENGTHS = (1, 3, 8, 33)
#: Of every kind of input, how many of each sign are asked alone, and at both ends of an array.
EACH = 12


@dataclass(frozen=True)
class Answers:
    """What a subject answered to a corpus of patterns."""

    subject: Subject
    source: Source
    format: Format
    patterns: Array
    x: Array
    results: Results

    @property
    def holds_every_input(self) -> bool:
        """Whether every pattern of the source is there; a file may have one of them several times."""
        every = 2**self.source.format.bits
        return self.patterns.size >= every and np.unique(self.patterns).size == every

    def at(self, where: Array) -> Answers:
        """The answers at some places, by a mask or by indices."""
        results = Results(self.results.space, self.results.outcome.at(where))
        return Answers(self.subject, self.source, self.format, self.patterns[where], self.x[where], results)


def ask(subject: Subject, source: Source, format: Format, patterns: Array) -> Answers:
    """Runs the subject on patterns. Raises SubjectError where it fails."""
    parts = [subject.run(chunk, source, format) for chunk in chunks(patterns)]
    joined = Outcome(
        np.concatenate([part.outcome.values for part in parts]), np.concatenate([part.outcome.keys for part in parts])
    )
    return Answers(subject, source, format, patterns, source.values(patterns), Results(parts[0].space, joined))


def of_vectors(subject: Subject, source: Source, format: Format) -> Answers:
    """The pairs of a file as answers: every row counts, also where two have one input.

    Raises SubjectError for inputs of another width.
    """
    vectors = subject.vectors
    assert vectors is not None
    if vectors.inputs.dtype != source.unsigned:
        raise SubjectError(
            f"{subject.name} has inputs of {8 * vectors.inputs.dtype.itemsize} bits; the source is {source.name}"
        )
    results = vectors.results
    named = Typed("uint64", results) if results.dtype.kind == "u" else Typed(results.dtype.name, _words(results))
    answered = read_answer(named, results.size, format, subject.name)
    _note_conflicts(subject, vectors.inputs, answered.outcome.keys)
    return Answers(subject, source, format, vectors.inputs, source.values(vectors.inputs), answered)


def _note_conflicts(subject: Subject, inputs: Array, keys: Array) -> None:
    """Says of a file which of its (rising) inputs have several answers: one of them is wrong."""
    conflicts = np.unique(inputs[1:][(inputs[1:] == inputs[:-1]) & (keys[1:] != keys[:-1])])
    if conflicts.size:
        digits = 2 * inputs.dtype.itemsize
        shown = ", ".join(f"0x{int(pattern):0{digits}x}" for pattern in conflicts[:4]) + ", ..." * (conflicts.size > 4)
        subject.notes.append(f"{conflicts.size:,} of the file's inputs have more than one answer: {shown}")


def _words(results: Array) -> Array:
    return results.view(f"uint{8 * results.dtype.itemsize}")


def chunks(patterns: Array) -> Iterator[Array]:
    """Contiguous pieces of at most CHUNK patterns."""
    for start in range(0, max(patterns.size, 1), CHUNK):
        yield np.ascontiguousarray(patterns[start : start + CHUNK])


class Unsteady(NamedTuple):
    """An input that is answered otherwise in another array, again and again.

    length, place: of that array, and the input's index in it. usual, other: the answer in the whole corpus and there.
    """

    pattern: int
    length: int
    place: int
    input: float
    usual: Outcome
    other: Outcome

    def to_dict(self) -> Record:
        """The fields as JSON values."""
        return {
            "input": {"value": self.input, "bits": f"{self.pattern:#x}"},
            "length": self.length,
            "place": self.place,
            "usual": float(self.usual.values[0]),
            "other": float(self.other.values[0]),
        }


def _samples(answers: Answers) -> Iterator[Array]:
    """Indices of the inputs of arrays to ask again: a part of the corpus, arrays of all lengths, and each of some
    telling inputs alone, as the first and as the last of an array."""
    size = answers.patterns.size
    yield np.arange(0, size, max(1, size // 4096))
    generator = np.random.default_rng(0)
    telling = _telling(answers, generator)
    few = isinstance(answers.subject.callee, Program)
    for length in FEW_LENGTHS if few else LENGTHS:
        yield generator.choice(telling, length)
    if few:
        return
    for index, length in zip(telling, cycle(range(2, 34)), strict=False):
        ends = generator.choice(telling, length)
        ends[0] = ends[-1] = index
        yield ends
        yield np.array([index])


def _telling(answers: Answers, generator: np.random.Generator) -> Array:
    """Indices of inputs of every kind that a path of its own may answer otherwise, of each sign EACH or fewer."""
    x, format = answers.x, answers.format
    infinite, nan = np.isinf(x), np.isnan(x)
    place = places(np.where(infinite | nan, 0, x), format, answers.source)
    beyond = (place.magnitude > format.largest) & ~infinite
    least = np.abs(x) < answers.source.format.smallest_normal
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
    """The first input whose answer depends on the length of the array or its place there; None where none does.

    Raises SubjectError if the same array is answered differently in two calls: such a subject is random.
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
