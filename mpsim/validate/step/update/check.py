"""Compares every ``next_sum`` and ``next_master`` of a step file with the one that the file's own tensors give."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from mpsim.assignment import Plan
from mpsim.engine.tensor import TensorId
from mpsim.files.tensors import TensorFile, TensorFileError
from mpsim.formats import FORMATS, Format
from mpsim.kernels import bind
from mpsim.kernels.contract import Array
from mpsim.recording.reading import KEPT, SUMS
from mpsim.recording.updates import Parts, UpdateRule, parts_of
from mpsim.trace import Trace
from mpsim.training.optimizer.names import STATES
from mpsim.training.optimizer.storage import MASTERS
from mpsim.training.updating import clipped
from mpsim.validate.step.tensor_compare import TensorComparison, compare_arrays, squeezed
from mpsim.validate.step.update.bounds import bound
from mpsim.validate.step.update.fused import FUSED, fused_in, next_with_fused
from mpsim.validate.step.update.others import others
from mpsim.validate.step.update.rules import StepRules
from mpsim.validate.step.update.storing import Storing
from mpsim.validate.step.update.sums import check_sums, has_sums

FLOAT32 = FORMATS["float32"]


def check_update(
    file: TensorFile, traced: Trace, plan: Plan | None, rules: StepRules, loss_scale: float, notes: list[str]
) -> tuple[TensorComparison, ...]:
    """Compares every ``next_sum`` and ``next_master`` with the one that the file's own tensors give. What could not be
    looked at goes to ``notes``."""
    _check_shapes(file, traced)
    sums = check_sums(file, traced, rules, notes)
    names = {id: _next(id) for id in traced.parameter_ids.values()}
    missing = _missing(file, rules.whole, {id: name for id, name in names.items() if id not in rules.frozen})
    if missing:
        notes.append(f"the update was not looked at: {missing}")
        return sums
    kept = [id for id, name in names.items() if name in file.tensors and f"master/{id.op}/{id.index}" in file.tensors]
    if len(kept) < len(names):
        notes.append(f"of {len(names)} parameters the file has {len(kept)} next_master; the others were not looked at")
    trained = _check_trained(file, traced, plan, rules, [id for id in kept if id in rules.trained], loss_scale, notes)
    frozen = [_compare_frozen(file, traced, id, rules.whole, loss_scale) for id in kept if id in rules.frozen]
    return (*sums, *trained, *frozen)


def _check_trained(
    file: TensorFile, traced: Trace, plan: Plan | None, rules: StepRules, ids: Sequence[TensorId], loss_scale: float,
    notes: list[str],
) -> Iterator[TensorComparison]:  # fmt: skip
    """Compares the masters of parameters that are trained."""
    rule = rules.whole
    assert rule is not None
    parts = {id: parts_of(file.tensors, id, rule.states) for id in ids}
    notes += _untested(parts.values(), rule)
    if rule.clip is not None:
        parts, loss_scale = _clipped(file, list(rules.trained), parts, rule.clip, loss_scale), 1.0
    finite = all(np.isfinite(_gradient(file, id)).all() for id in rules.trained)
    places = enumerate(traced.parameter_ids.values())
    storings = {id: Storing.of(MASTERS, rule, place, file.index) for place, id in places}
    if any(storing.has_unknown_bits for storing in storings.values()):
        notes.append("the random bits of stored masters are not known: each may be either neighbour of its update")
    theirs = {id: file.tensors[_next(id)].reshape(parts[id].master.shape) for id in ids}
    plain = finite and not rule.groups and rule.clip is None and not rule.stores_masters
    fused = fused_in([(theirs[id], parts[id]) for id in ids], rule, loss_scale) if plain else ()
    if fused:
        notes.append(f"every update is the one with {' and '.join(map(FUSED.__getitem__, fused))} fused, in every bit")
    for id in ids:
        format = FLOAT32 if plan is None else plan.formats[id]
        op = f"update of {traced.ops[id.op].kind} {traced.ops[id.op].name}"
        given = rules.trained[id], loss_scale, finite
        yield compare_update(_next(id), theirs[id], parts[id], *given, format, op, fused, storings[id])
        if storings[id].keeps_the_rest:
            yield _compare_rest(file, id, storings[id], theirs[id], parts[id], *given, op)


def _next(id: TensorId) -> str:
    return f"next_master/{id.op}/{id.index}"


def _compare_frozen(
    file: TensorFile, traced: Trace, id: TensorId, rule: UpdateRule | None, loss_scale: float
) -> TensorComparison:
    """Compares the master of a frozen parameter with that before the step. An update of it is named, if it is the one
    with states of 0 by a gradient that is not clipped."""
    place = f"{id.op}/{id.index}"
    master = file.tensors[f"master/{place}"]
    theirs = file.tensors[_next(id)].reshape(master.shape)
    op = f"frozen, update of {traced.ops[id.op].kind} {traced.ops[id.op].name}"
    found = compare_arrays(_next(id), master, theirs, FLOAT32, op)
    if found.equal or rule is None or rule.clip is not None:
        return found
    gradients = {"its gradient": _gradient(file, id)} if f"GP/{place}" in file.tensors else {}
    for words, gradient in {**gradients, "a gradient of 0": np.zeros_like(master)}.items():
        states = {state: np.zeros_like(master) for state in rule.states}
        parts = Parts(master, states, gradient.reshape(master.shape), master)
        exact, slack = rule.next(parts, loss_scale), bound(rule, parts, loss_scale)
        with np.errstate(invalid="ignore"):
            if ((theirs >= exact - slack) & (theirs <= exact + slack)).all():
                return replace(found, causes=(f"it is frozen, and was updated by {words}",))
    return found


def _compare_rest(
    file: TensorFile, id: TensorId, storing: Storing, stored: Array, parts: Parts, rule: UpdateRule, loss_scale: float,
    finite: bool, op: str,
) -> TensorComparison:  # fmt: skip
    """Compares what Kahan's rule keeps of a master after the step, beside the file's own master."""
    name = f"next_compensation/{id.op}/{id.index}"
    theirs = file.tensors[name].reshape(stored.shape)
    if not finite:
        assert parts.compensation is not None
        return compare_arrays(name, parts.compensation, theirs, storing.format, op)
    exact, slack = rule.next(parts, loss_scale), bound(rule, parts, loss_scale)
    return storing.compare_rest(name, theirs, exact, slack, stored, op)


def _clipped(
    file: TensorFile, ids: Sequence[TensorId], parts: Mapping[TensorId, Parts], limit: float, loss_scale: float
) -> dict[TensorId, Parts]:
    """Returns the parts with gradients that are unscaled and clipped by the norm of all gradients of the file."""
    gradients = {f"{id.op}/{id.index}": _gradient(file, id) for id in ids}
    found, _ = clipped(bind("reference"), gradients, 1 / loss_scale, limit)
    new = {id: found.get(f"{id.op}/{id.index}", each.gradient) for id, each in parts.items()}
    return {id: each._replace(gradient=new[id].reshape(each.master.shape), before=None) for id, each in parts.items()}


def _check_shapes(file: TensorFile, traced: Trace) -> None:
    """TensorFileError where a tensor of a parameter has another shape than the parameter."""
    for id in traced.parameter_ids.values():
        place = f"{id.op}/{id.index}"
        wanted = file.tensors[f"P/{place}"].shape
        for kind in ("master", "next_master", *STATES, *KEPT, *SUMS):
            found = file.tensors.get(f"{kind}/{place}")
            if found is not None and squeezed(found.shape) != squeezed(wanted):
                raise TensorFileError(f"{file.source}: {kind}/{place} has shape {found.shape}, P/{place} {wanted}")


def _gradient(file: TensorFile, id: TensorId) -> Array:
    """The gradient that an update reads: of several micro-batches, the sum."""
    place = f"{id.op}/{id.index}"
    return file.tensors[f"next_sum/{place}" if f"next_sum/{place}" in file.tensors else f"GP/{place}"]


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
    kept = KEPT if Storing.of(MASTERS, rule, 0, {}).keeps_the_rest else ()
    sums = ("next_sum",) if has_sums(file) else ()
    for kind in ("master", *rule.states, *kept, *sums):
        if not all(
            name.replace("next_master", kind) in file.tensors for name in names.values() if name in file.tensors
        ):
            return f"the file has no {kind} for some of the parameters"
    return ""


def compare_update(
    name: str, theirs: Array, parts: Parts, rule: UpdateRule, loss_scale: float, finite: bool, format: Format, op: str,
    fused: Sequence[str] = (), storing: Storing = Storing(),
) -> TensorComparison:  # fmt: skip
    """Compares one parameter's update. ``finite``: whether every gradient of the step is, without which it is skipped.
    ``fused``: the products that are not rounded before they are added."""
    way = storing if finite else Storing()
    wrong = ((each, way) for each in others(parts, rule, loss_scale, finite, format, theirs))
    if not finite:
        return way.compare(name, theirs, parts.master, np.zeros(parts.master.shape), op, wrong, storing.format)
    exact, slack = next_with_fused(parts, rule, loss_scale, fused), bound(rule, parts, loss_scale)
    return way.compare(name, theirs, exact, slack, op, wrong)
