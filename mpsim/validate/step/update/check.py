"""Compares every ``next_master`` of a step file with the one that the file's own tensors give."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from mpsim.assignment import Plan
from mpsim.engine.tensor import TensorId
from mpsim.files.tensors import TensorFile
from mpsim.formats import FORMATS, Format
from mpsim.kernels.contract import Array
from mpsim.recording.updates import Parts, UpdateRule, parts_of
from mpsim.trace import Trace
from mpsim.validate.step.tensor_compare import TensorComparison, compare_arrays, explain
from mpsim.validate.step.update.bounds import bound
from mpsim.validate.step.update.fused import FUSED, fused_in, next_with_fused
from mpsim.validate.step.update.others import others

FLOAT32 = FORMATS["float32"]


def check_update(
    file: TensorFile, traced: Trace, plan: Plan | None, rule: UpdateRule | None, loss_scale: float, notes: list[str]
) -> tuple[TensorComparison, ...]:
    """Compares every ``next_master`` with the one that the file's own tensors give. What could not be looked at goes to
    ``notes``."""
    rule = UpdateRule.of_index(file.index) if rule is None else rule
    names = {id: f"next_master/{id.op}/{id.index}" for id in traced.parameter_ids.values()}
    missing = _missing(file, rule, names)
    if missing:
        notes.append(f"the update was not looked at: {missing}")
        return ()
    assert rule is not None
    ids = [id for id, name in names.items() if name in file.tensors]
    if len(ids) < len(names):
        notes.append(f"of {len(names)} parameters the file has {len(ids)} next_master; the others were not looked at")
    parts = {id: parts_of(file.tensors, id, rule.states) for id in ids}
    notes += _untested(parts.values(), rule)
    finite = all(np.isfinite(array).all() for name, array in file.tensors.items() if name.startswith("GP/"))
    theirs = {id: file.tensors[names[id]].reshape(parts[id].master.shape) for id in ids}
    fused = fused_in([(theirs[id], parts[id]) for id in ids], rule, loss_scale) if finite else ()
    if fused:
        notes.append(f"every update is the one with {' and '.join(map(FUSED.__getitem__, fused))} fused, in every bit")
    compared = []
    for id in ids:
        format = FLOAT32 if plan is None else plan.formats[id]
        op = f"update of {traced.ops[id.op].kind} {traced.ops[id.op].name}"
        compared.append(compare_update(names[id], theirs[id], parts[id], rule, loss_scale, finite, format, op, fused))
    return tuple(compared)


def _untested(parts: Iterable[Parts], rule: UpdateRule) -> Iterator[str]:
    """Yields a note for every state that has no effect, because it is 0 everywhere."""
    parts = list(parts)
    for state in rule.states:
        if any(each.states[state].any() for each in parts):
            continue
        if state != "velocity":
            yield f"every {state} is 0, so that its share has no effect in this step: it was not tested"
        elif rule.has_momentum:
            yield "every velocity is 0, so that the momentum has no effect in this step: it was not tested"


def _missing(file: TensorFile, rule: UpdateRule | None, names: Mapping[TensorId, str]) -> str:
    """Returns what the update cannot be recomputed without, or "" if nothing is missing."""
    if not any(name in file.tensors for name in names.values()):
        return "the file has no next_master"
    if rule is None:
        return "no rate, momentum and weight decay are known (index, or update=)"
    for kind in ("master", *rule.states):
        if not all(
            name.replace("next_master", kind) in file.tensors for name in names.values() if name in file.tensors
        ):
            return f"the file has no {kind} for some of the parameters"
    return ""


def compare_update(
    name: str, theirs: Array, parts: Parts, rule: UpdateRule, loss_scale: float, finite: bool, format: Format, op: str,
    fused: Sequence[str] = (),
) -> TensorComparison:  # fmt: skip
    """Compares one parameter's update. ``finite``: whether every gradient of the step is, without which it is skipped.
    ``fused``: the products that are not rounded before they are added."""
    expected = next_with_fused(parts, rule, loss_scale, fused) if finite else parts.master
    found = compare_arrays(name, expected, theirs, FLOAT32, op)
    if found.equal:
        return found
    slack = bound(rule, parts, loss_scale) if finite else np.zeros_like(parts.master)
    found = explain(found, expected, theirs, expected - slack, expected + slack)
    if not found.unexplained:
        return found
    for words, other, slack in others(parts, rule, loss_scale, finite, format, theirs):
        with np.errstate(invalid="ignore"):
            if (np.abs(theirs.astype(np.float64) - other) <= slack).all():
                return replace(found, causes=(words,))
    return found
