"""A subject asked a corpus of inputs, and asked again in other company: a cast depends on its input alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from mpsim.formats import Format
from mpsim.validate.answers import Outcome, SubjectError
from mpsim.validate.sources import Source
from mpsim.validate.subjects.casts import Results, Subject, read_answer
from mpsim.validate.subjects.programs import Program
from mpsim.validate.subjects.worker import Typed

Array = np.ndarray[Any, Any]
CHUNK = 1 << 20
#: Lengths of arrays that a subject is asked again: around the sizes of vectors and blocks, and their tails.
LENGTHS = (*range(1, 34), 47, 63, 64, 65, 100, 127, 128, 129, 255, 257, 1000)
#: The same for a program that is started for every question.
FEW_LENGTHS = (1, 3, 8, 33)


@dataclass(frozen=True)
class Answers:
    """What a subject answered to a corpus of patterns."""

    subject: Subject
    source: Source
    format: Format
    patterns: Array
    x: Array
    results: Results

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

    def as_json(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return {
            "input": {"value": self.input, "bits": f"{self.pattern:#x}"},
            "length": self.length,
            "place": self.place,
            "usual": float(self.usual.values[0]),
            "other": float(self.other.values[0]),
        }


def unsteady(answers: Answers) -> Unsteady | None:
    """The first input whose answer depends on the length of the array or its place there; None where none does.

    Raises SubjectError if the same array is answered differently in two calls: such a subject is random.
    """
    if answers.subject.vectors is not None:
        return None
    few = isinstance(answers.subject.callee, Program)
    generator = np.random.default_rng(0)
    stride = max(1, answers.patterns.size // 4096)
    samples = [np.arange(0, answers.patterns.size, stride)]
    samples += [generator.integers(0, answers.patterns.size, n) for n in (FEW_LENGTHS if few else LENGTHS)]
    for chosen in samples:
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
