"""Compares every ``next_sum`` of a step file, the sum of gradients over micro-batches, with the one that the file's own
tensors give."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mpsim.files.tensors import TensorFile
from mpsim.formats import FORMATS
from mpsim.kernels import bind
from mpsim.kernels.contract import Array
from mpsim.recording.reading import micro_batch_of
from mpsim.rounding import round_to
from mpsim.trace import Trace
from mpsim.training.optimizer.storage import GRADIENTS
from mpsim.validate.step.noise import UNIT
from mpsim.validate.step.tensor_compare import TensorComparison
from mpsim.validate.step.update.others import factor_of, simple_factors
from mpsim.validate.step.update.rules import StepRules
from mpsim.validate.step.update.storing import Candidate, Storing

GRADIENT_TIMES, SUM_TIMES = "the gradient is multiplied by {:.6g} before it is added", "the sum is multiplied by {:.6g}"


def check_sums(file: TensorFile, traced: Trace, rules: StepRules, notes: list[str]) -> tuple[TensorComparison, ...]:
    """Compares every ``next_sum`` with ``sum`` + ``GP``, stored as the rule says. What could not be looked at goes to
    ``notes``."""
    part, ids = micro_batch_of(file.index), list(traced.parameter_ids.values())
    names = [f"{id.op}/{id.index}" for id in ids]
    found = [name for name in names if f"next_sum/{name}" in file.tensors]
    started = [name for name in names if f"sum/{name}" in file.tensors]
    if part is None and not found and not started:
        return ()
    if part is None:
        notes.append("the file has sums of gradients, but its index no micro_batch: its loss is taken as the whole one")
    else:
        parts = min(part.of, part.examples)
        notes.append(f"micro-batch {part.number} (from 0) of {parts}: {traced.batch} of {part.examples} examples")
    number = int(bool(started)) if part is None else part.number
    known = [name for name in found if (number == 0 or name in started) and f"GP/{name}" in file.tensors]
    if len(known) < len(names):
        lacks = "next_sum" if len(found) < len(names) else "sum of earlier micro-batches, or no GP"
        notes.append(f"of {len(names)} sums of gradients {len(names) - len(known)} were not looked at: no {lacks}")
    if number and started and not any(file.tensors[f"sum/{name}"].any() for name in started):
        notes.append("every sum of the earlier micro-batches' gradients is 0, as if it were cleared between them")
    compared = []
    storings = [
        Storing()
        if rules.whole is None
        else Storing.of(GRADIENTS, rules.whole, place, file.index, rules.places, number)
        for place in range(len(names))
    ]
    if known and any(storing.has_unknown_bits for storing in storings):
        notes.append("the random bits of stored sums are not known: each may be either neighbour of its sum")
    for place, name in enumerate(names):
        if name not in known:
            continue
        storing, left = storings[place], None if number else file.tensors.get(f"sum/{name}")
        op = traced.ops[ids[place].op]
        gradient = file.tensors[f"GP/{name}"]
        total = file.tensors[f"sum/{name}"].reshape(gradient.shape) if number else None
        theirs = file.tensors[f"next_sum/{name}"].reshape(gradient.shape)
        exact = _added(total, gradient)
        wrong = _others(total, gradient, exact, theirs, left, storing)
        what = f"sum of {op.kind} {op.name}"
        compared.append(storing.compare(f"next_sum/{name}", theirs, exact, np.zeros(exact.shape), what, wrong))
    return tuple(compared)


def _others(
    total: Array | None, gradient: Array, exact: Array, theirs: Array, left: Array | None, storing: Storing
) -> Iterator[tuple[Candidate, Storing]]:
    """Yields sums with one thing wrong: words, the sum, how far the other's may be from it, and its storage. ``left``:
    a sum in the file of the first micro-batch."""
    nothing = np.zeros(exact.shape)
    if total is not None:
        words = "the gradient of this micro-batch alone, without the sum of the earlier ones"
        yield (words, gradient, nothing), storing
        yield ("the gradient of this micro-batch is not added", total, nothing), storing
    if left is not None:
        begun = _added(left.reshape(gradient.shape), gradient)
        yield ("the first micro-batch is added to the sum of an earlier step", begun, nothing), storing
    for format in map(FORMATS.__getitem__, ("bfloat16", "float16", "float8_e5m2", "float8_e4m3fn")):
        rounded = round_to(exact, format, overflow="mark" if format.has_infinity else "saturate", backend="reference")
        yield (f"the sum is rounded to {format}", rounded, nothing), Storing()
    start = np.zeros_like(gradient) if total is None else total
    for words, begin in ((GRADIENT_TIMES, start), (SUM_TIMES, np.zeros_like(gradient))):
        about = factor_of(begin, exact, theirs)
        for factor in (*simple_factors(about), *(() if about is None else (about,))):
            with np.errstate(over="ignore", invalid="ignore"):
                part = factor * (exact.astype(np.float64) - begin)
                slack = UNIT * (2 * np.abs(part) + np.abs(begin + part))
            yield (words.format(factor), begin + part, slack), storing


def has_sums(file: TensorFile) -> bool:
    """Returns whether a file is of a micro-batch: by its index, or because it has sums of gradients."""
    return file.index.get("micro_batch") is not None or any(name.startswith("next_sum/") for name in file.tensors)


def _added(total: Array | None, gradient: Array) -> Array:
    return gradient if total is None else np.array(bind("reference").add(total, gradient))
