"""Asks a subject for integers: the inputs, the answers as codes, and whether they depend on the array."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mpsim.formats import FORMATS
from mpsim.integers import Integer, from_integer
from mpsim.kernels.contract import Array
from mpsim.validate.answers import NO_CODE, SubjectError
from mpsim.validate.cast.asking import FEW_LENGTHS, LENGTHS, chunks
from mpsim.validate.corpora import UNSIGNED, integer_patterns, powers_of_two, random_patterns, specials, subnormals
from mpsim.validate.sources import Source, widened
from mpsim.validate.subjects.casts import Subject, values_of
from mpsim.validate.subjects.programs import Program
from mpsim.validate.subjects.worker import Typed
from mpsim.validate.turning_points import beside, both_signs

#: The types of at most this width have all of their integers in a corpus.
WHOLE_TO_BITS = 10


def corpus(type: Integer, source: Source, seed: int = 0) -> Array:
    """Returns the bit patterns of the source on which a cast to an integer type is tested.

    Sources of at most 16 bits have all patterns. For float32 and float64 there are integers of the type, numbers
    halfway between and a quarter from them, both ends of the range of this type and of wider ones, each with its
    neighbours in the source, powers of two, specials, subnormal numbers and random numbers.
    """
    if source.bits <= 16:
        return np.arange(1 << source.bits, dtype=source.unsigned)
    generator = np.random.default_rng(seed)
    if source.integer is not None:
        ends = [type.least, type.most, 1 << type.bits]
        near = {end + step for end in ends for step in range(-3, 4)} | set(range(-300, 301))
        own = source.integer
        more = np.array([own.code(each) for each in near if own.least <= each <= own.most], np.uint64)
        wide = integer_patterns(own, FORMATS["bfloat16"], seed=seed)
        return np.union1d(wide, more.astype(wide.dtype))
    dtype = source.name
    some = [*range(-260, 261), *(sign * 2**k for k in range(65) for sign in (-1, 1)), type.least, type.most]
    some += generator.integers(max(type.least, -(1 << 62)), min(type.most, (1 << 62) - 1), 400, np.int64).tolist()
    if type.bits <= WHOLE_TO_BITS:
        some += range(type.least, type.most + 1)
    with np.errstate(over="ignore"):
        whole = np.array(some, np.float64)
        points = (whole[:, None] + np.array([-1.0, -0.5, -0.25, 0.0, 0.25, 0.5, 0.75, 1.0])).reshape(-1)
        scaled = generator.standard_normal(6_000) * 2.0 ** generator.integers(-4, type.bits + 3, 6_000)
        near_ties = (np.arange(64)[:, None] + 0.5) * (1 + np.array([-1, 1]) * 2.0 ** -np.arange(5, 24)[:, None, None])
        parts = [
            both_signs(beside(points.astype(dtype), dtype)), scaled.astype(dtype), powers_of_two(dtype),
            both_signs(near_ties.reshape(-1).astype(dtype)), specials(dtype), subnormals(dtype),
            random_patterns(dtype, 6_000, seed),
        ]  # fmt: skip
    return np.unique(np.concatenate([part.view(UNSIGNED[dtype]) for part in parts]))


@dataclass(frozen=True)
class IntegerAnswers:
    """The answers of a subject: uint64 codes, NO_CODE for an answer that is not an integer of the type."""

    subject: Subject
    source: Source
    target: Integer
    patterns: Array
    x: Array
    codes: Array

    @property
    def wide(self) -> Array:
        """The inputs as float64."""
        return widened(self.x)

    @property
    def holds_every_input(self) -> bool:
        every = 2**self.source.bits
        return self.patterns.size >= every and np.unique(self.patterns).size == every

    def numbers(self, codes: Array) -> Array:
        """Returns the numbers of codes as float64, NaN for NO_CODE."""
        none = codes == np.uint64(NO_CODE) if self.target.bits < 64 else np.zeros(codes.shape, bool)
        found = from_integer(np.where(none, np.uint64(0), codes), self.target).astype(np.float64)
        return np.where(none, np.nan, found)


def ask(subject: Subject, source: Source, target: Integer, patterns: Array) -> IntegerAnswers:
    """Runs the subject on patterns, or reads a file of vectors. Raises SubjectError if it fails."""
    if subject.vectors is not None:
        patterns, results = subject.vectors.inputs, subject.vectors.results
        if patterns.size and int(patterns.max()) >> source.bits:
            raise SubjectError(f"{subject.name} has inputs that are not patterns of {source.name}")
        patterns = patterns.astype(source.unsigned)
        words = results if results.dtype.kind == "u" else results.view(f"uint{8 * results.dtype.itemsize}")
        name = "uint64" if results.dtype.kind == "u" else results.dtype.name
        codes = to_codes(Typed(name, words), target, subject.name)
        return IntegerAnswers(subject, source, target, patterns, source.values(patterns), codes)
    parts = []
    for chunk in chunks(patterns):
        answer = subject.answer(chunk, source)
        if answer.words.shape != (chunk.size,):
            raise SubjectError(f"{subject.name} answered shape {answer.words.shape} to {chunk.size} inputs")
        parts.append(to_codes(answer, target, subject.name))
    return IntegerAnswers(subject, source, target, patterns, source.values(patterns), np.concatenate(parts))


def to_codes(answer: Typed, target: Integer, name: str) -> Array:
    """Returns the codes of an answer: integers of any width, codes, or floats that are integers.

    Signed answers are numbers plus the zero point, as ``to_integer`` returns them; unsigned ones are codes, or, if they
    are wider than the type, sign-extended.
    """
    type, words = answer
    lowest, highest = target.least + target.zero_point, target.most + target.zero_point
    if type.startswith(("int", "uint")) and words.dtype.kind in "iu":
        width = 8 * words.dtype.itemsize
        if words.dtype.kind == "u" and width <= target.code_bits and target.bits == width:
            return words.astype(np.uint64)
        signed = words.view(f"int{width}").astype(np.int64)
        codes = signed.view(np.uint64) & np.uint64((1 << target.bits) - 1)
        if target.layout == "sign_magnitude":
            known = (signed >= 0) & (signed < 1 << target.bits)
        elif target.bits == 64:
            known = np.ones(signed.shape, bool)
        else:
            known = (signed >= lowest) & (signed <= highest) | (signed >= 0) & (signed < 1 << target.bits)
            if words.dtype.kind == "i" and target.bits < width:
                known &= signed <= highest
        return np.where(known, codes, np.uint64(NO_CODE))
    numbers = values_of(answer, name)
    with np.errstate(invalid="ignore"):
        known = (np.floor(numbers) == numbers) & (numbers >= target.least) & (numbers <= target.most)
    found = [target.code(int(each)) if good else NO_CODE for each, good in zip(numbers, known, strict=True)]
    return np.array(found, np.uint64)


class UnsteadyInteger(NamedTuple):
    """An input whose answer is different in another array, of ``length``, at ``place``."""

    pattern: int
    length: int
    place: int
    usual: int
    other: int


def unsteady(answers: IntegerAnswers) -> UnsteadyInteger | None:
    """Returns the first input whose answer depends on the length of the array or the position in it, or None.

    Raises:
        SubjectError: Equal calls get different answers.
    """
    if answers.subject.vectors is not None:
        return None
    generator, size = np.random.default_rng(0), answers.patterns.size
    for length in FEW_LENGTHS if isinstance(answers.subject.callee, Program) else (*LENGTHS, *LENGTHS):
        chosen = generator.integers(0, size, length)
        patterns = np.ascontiguousarray(answers.patterns[chosen])
        found = ask(answers.subject, answers.source, answers.target, patterns).codes
        differ = np.flatnonzero(found != answers.codes[chosen])
        if differ.size:
            again = ask(answers.subject, answers.source, answers.target, patterns).codes
            whole = ask(answers.subject, answers.source, answers.target, answers.patterns).codes
            if not (np.array_equal(again, found) and np.array_equal(whole, answers.codes)):
                raise SubjectError(f"{answers.subject.name} answers equal calls differently: is it random?")
            place = int(differ[0])
            usual, other = int(answers.codes[chosen[place]]), int(found[place])
            return UnsteadyInteger(int(patterns[place]), length, place, usual, other)
    return None
