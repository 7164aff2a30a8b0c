"""Compares every ``next_master`` of a step file with the one that the file's own tensors give."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from mpsim.assignment import Plan
from mpsim.engine.tensor import TensorId
from mpsim.files.tensors import TensorFile
from mpsim.formats import FORMATS, Format
from mpsim.kernels import bind
from mpsim.kernels.contract import Array
from mpsim.recording.updates import Parts, UpdateRule, parts_of
from mpsim.trace import Trace
from mpsim.training.updating import clipped
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
    rules = {} if rule is None else _rules(file, traced, rule)
    missing = _missing(file, rule, {id: name for id, name in names.items() if id in rules or not rules})
    if missing:
        notes.append(f"the update was not looked at: {missing}")
        return ()
    assert rule is not None
    ids = [id for id, name in names.items() if name in file.tensors]
    if len(ids) < len(names):
        notes.append(f"of {len(names)} parameters the file has {len(ids)} next_master; the others were not looked at")
    parts = {id: parts_of(file.tensors, id, rule.states if id in rules else ()) for id in ids}
    notes += _untested([each for id, each in parts.items() if id in rules], rule)
    if rule.clip is not None:
        parts, loss_scale = _clipped(file, list(rules), parts, rule.clip, loss_scale), 1.0
    finite = all(np.isfinite(array).all() for name, array in file.tensors.items() if name.startswith("GP/"))
    theirs = {id: file.tensors[names[id]].reshape(parts[id].master.shape) for id in ids}
    plain = finite and not rule.groups and rule.clip is None
    fused = fused_in([(theirs[id], parts[id]) for id in ids], rule, loss_scale) if plain else ()
    if fused:
        notes.append(f"every update is the one with {' and '.join(map(FUSED.__getitem__, fused))} fused, in every bit")
    compared = []
    for id in ids:
        format = FLOAT32 if plan is None else plan.formats[id]
        op = f"update of {traced.ops[id.op].kind} {traced.ops[id.op].name}"
        if id in rules:
            found = compare_update(names[id], theirs[id], parts[id], rules[id], loss_scale, finite, format, op, fused)
        else:
            found = compare_arrays(names[id], parts[id].master, theirs[id], FLOAT32, f"frozen, {op}")
        compared.append(found)
    return tuple(compared)


def _rules(file: TensorFile, traced: Trace, rule: UpdateRule) -> dict[TensorId, UpdateRule]:
    """Returns the rule of every parameter that is trained, in the order of the network."""
    ids = traced.parameter_ids
    shapes = {name: file.tensors[f"P/{id.op}/{id.index}"].shape for name, id in ids.items()}
    return {ids[name]: found for name, found in rule.by_parameter(shapes).items()}


def _clipped(
    file: TensorFile, ids: Sequence[TensorId], parts: Mapping[TensorId, Parts], limit: float, loss_scale: float
) -> dict[TensorId, Parts]:
    """Returns the parts with gradients that are unscaled and clipped by the norm of all gradients of the file."""
    gradients = {f"{id.op}/{id.index}": file.tensors[f"GP/{id.op}/{id.index}"] for id in ids}
    found, _ = clipped(bind("reference"), gradients, 1 / loss_scale, limit)
    new = {id: found.get(f"{id.op}/{id.index}", each.gradient) for id, each in parts.items()}
    return {id: each._replace(gradient=new[id].reshape(each.master.shape), before=None) for id, each in parts.items()}


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
    if rule.stores_masters:
        return "masters are rounded when they are stored (storage of the recipe)"
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
