"""Compares every ``next_sum`` of a step file, the sum of gradients over micro-batches, with the one that the file's own
tensors give."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mpsim.files.tensors import TensorFile
from mpsim.kernels import bind
from mpsim.kernels.contract import Array
from mpsim.recording.reading import micro_batch_of
from mpsim.trace import Trace
from mpsim.training.optimizer.storage import GRADIENTS
from mpsim.validate.step.noise import UNIT
from mpsim.validate.step.tensor_compare import TensorComparison
from mpsim.validate.step.update.others import factor_of
from mpsim.validate.step.update.rules import StepRules
from mpsim.validate.step.update.storing import Candidate, Storing


def check_sums(file: TensorFile, traced: Trace, rules: StepRules, notes: list[str]) -> tuple[TensorComparison, ...]:
    """Compares every ``next_sum`` with ``sum`` + ``GP``, stored as the rule says. What could not be looked at goes to
    ``notes``."""
    part, ids = micro_batch_of(file.index), list(traced.parameter_ids.values())
    names = [f"{id.op}/{id.index}" for id in ids]
    found = [name for name in names if f"next_sum/{name}" in file.tensors]
    started = [name for name in names if f"sum/{name}" in file.tensors]
    if part is None and not found and not started:
        return ()
    if part is not None:
        notes.append(f"micro-batch {part.number} (from 0) of {part.of}: {traced.batch} of {part.examples} examples")
    number = int(bool(started)) if part is None else part.number
    known = [name for name in found if (number == 0 or name in started) and f"GP/{name}" in file.tensors]
    if len(known) < len(names):
        lacks = "next_sum" if len(found) < len(names) else "sum of earlier micro-batches, or no GP"
        notes.append(f"of {len(names)} sums of gradients {len(names) - len(known)} were not looked at: no {lacks}")
    if number and started and not any(file.tensors[f"sum/{name}"].any() for name in started):
        notes.append("every sum of the earlier micro-batches' gradients is 0, as if it were cleared between them")
    compared = []
    for place, name in enumerate(names):
        if name not in known:
            continue
        storing, rule = Storing(), rules.whole
        if rule is not None:
            storing = Storing.of(GRADIENTS, rule, place, file.index, rules.places, number)
        op = traced.ops[ids[place].op]
        gradient = file.tensors[f"GP/{name}"]
        total = file.tensors[f"sum/{name}"].reshape(gradient.shape) if number else None
        theirs = file.tensors[f"next_sum/{name}"].reshape(gradient.shape)
        exact = _added(total, gradient)
        wrong = _others(total, gradient, exact, theirs)
        what = f"sum of {op.kind} {op.name}"
        compared.append(storing.compare(f"next_sum/{name}", theirs, exact, np.zeros(exact.shape), what, wrong))
    return tuple(compared)


def _others(total: Array | None, gradient: Array, exact: Array, theirs: Array) -> Iterator[Candidate]:
    """Yields sums with one thing wrong: words, the sum, and how far the other's may be from it."""
    nothing = np.zeros(exact.shape)
    if total is not None:
        yield "the gradient of this micro-batch alone, without the sum of the earlier ones", gradient, nothing
        yield "the gradient of this micro-batch is not added", total, nothing
    start = np.zeros_like(gradient) if total is None else total
    about = factor_of(start, exact, theirs)
    for factor in () if about is None else dict.fromkeys((float(round(about)), 1 / max(1, round(1 / about)), about)):
        with np.errstate(over="ignore", invalid="ignore"):
            part = factor * gradient.astype(np.float64)
            slack = UNIT * (np.abs(part) + np.abs(start + part))
        yield f"the gradient is multiplied by {factor:.6g} before it is added", start + part, slack


def _added(total: Array | None, gradient: Array) -> Array:
    return gradient if total is None else np.array(bind("reference").add(total, gradient))
