"""The optimizer's update as a part of a step: ``next_master`` recomputed from what it is made of, and what would
explain another: rounded masters, another rate, momentum or decay, a scale that was not taken off, a step left out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

from mpsim.assignment import Plan
from mpsim.engine.tensor import TensorId
from mpsim.files.tensors import TensorFile
from mpsim.formats import FORMATS, Format
from mpsim.kernels import reference
from mpsim.kernels.contract import Array
from mpsim.kernels.reference.fma import fma
from mpsim.rounding import round_to
from mpsim.trace import Trace
from mpsim.validate.step.noise import UNIT
from mpsim.validate.step.tensor_compare import TensorComparison, compare_arrays, explain

FLOAT32 = FORMATS["float32"]
#: Products of an update that other programs fuse with the sum they are part of.
_FUSED = {"decay": "weight decay", "momentum": "momentum", "step": "the step"}


@dataclass(frozen=True)
class UpdateRule:
    """Stochastic gradient descent (``kernels.sgd_update``): the learning rate of this step, momentum, weight decay."""

    rate: float
    momentum: float
    weight_decay: float

    @classmethod
    def of_index(cls, index: Mapping[str, Any]) -> UpdateRule | None:
        """The rule that a step file's index holds; None where it has none, or one of another optimizer."""
        found = index.get("optimizer")
        if not isinstance(found, Mapping) or found.get("kind") != "SGD":
            return None
        return cls(float(found["rate"]), float(found["momentum"]), float(found["weight_decay"]))


class Parts(NamedTuple):
    """What the update of one parameter is made of. gradient: as stored, still multiplied by the loss scale; before: the
    same before rounding, None where it is not known; used: the parameter as the step used it."""

    master: Array
    velocity: Array
    gradient: Array
    used: Array
    before: Array | None = None


def check_update(
    file: TensorFile, traced: Trace, plan: Plan | None, rule: UpdateRule | None, loss_scale: float, notes: list[str]
) -> tuple[TensorComparison, ...]:
    """Every ``next_master`` against the one that the file's own tensors give; what could not be looked at goes to
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
    parts = {id: parts_of(file.tensors, id) for id in ids}
    if rule.momentum and not any(each.velocity.any() for each in parts.values()):
        notes.append("every velocity is 0, so that the momentum has no effect in this step: it was not tested")
    finite = all(np.isfinite(array).all() for name, array in file.tensors.items() if name.startswith("GP/"))
    theirs = {id: file.tensors[names[id]].reshape(parts[id].master.shape) for id in ids}
    fused = _fused(theirs, parts, rule, loss_scale) if finite else ()
    if fused:
        notes.append(f"every update is the one with {' and '.join(map(_FUSED.__getitem__, fused))} fused, in every bit")
    compared = []
    for id in ids:
        format = FLOAT32 if plan is None else plan.formats[id]
        op = f"update of {traced.ops[id.op].kind} {traced.ops[id.op].name}"
        compared.append(compare_update(names[id], theirs[id], parts[id], rule, loss_scale, finite, format, op, fused))
    return tuple(compared)


def _fused(
    theirs: Mapping[TensorId, Array], parts: Mapping[TensorId, Parts], rule: UpdateRule, loss_scale: float
) -> tuple[str, ...]:
    """The fewest products that are fused with a sum in every one of the updates; none if no choice gives them all."""
    for count in range(len(_FUSED) + 1):
        for fused in combinations(_FUSED, count):
            made = ((_next(each, rule, loss_scale, fused), theirs[id]) for id, each in parts.items())
            if all(compare_arrays("", expected, found, FLOAT32).equal for expected, found in made):
                return fused
    return ()


def _missing(file: TensorFile, rule: UpdateRule | None, names: Mapping[TensorId, str]) -> str:
    """What the update cannot be recomputed without, in words; "" if nothing is missing."""
    if not any(name in file.tensors for name in names.values()):
        return "the file has no next_master"
    if rule is None:
        return "no rate, momentum and weight decay are known (index, or update=)"
    for kind in ("master", "velocity"):
        if not all(
            name.replace("next_master", kind) in file.tensors for name in names.values() if name in file.tensors
        ):
            return f"the file has no {kind} for some of the parameters"
    return ""


def parts_of(tensors: Mapping[str, Array], id: TensorId) -> Parts:
    """The parts of one parameter's update."""
    place = f"{id.op}/{id.index}"
    master = tensors[f"master/{place}"]
    velocity, gradient, used = (tensors[f"{kind}/{place}"].reshape(master.shape) for kind in ("velocity", "GP", "P"))
    before = tensors.get(f"unrounded/GP/{place}")
    return Parts(master, velocity, gradient, used, None if before is None else before.reshape(master.shape))


def compare_update(
    name: str, theirs: Array, parts: Parts, rule: UpdateRule, loss_scale: float, finite: bool, format: Format, op: str,
    fused: Sequence[str] = (),
) -> TensorComparison:  # fmt: skip
    """One parameter's update; ``finite``: whether every gradient of the step is, without which it is left out.
    ``fused``: the products that are not rounded before they are added."""
    expected = _next(parts, rule, loss_scale, fused) if finite else parts.master
    found = compare_arrays(name, expected, theirs, FLOAT32, op)
    if found.equal:
        return found
    bound = _bound(parts, rule, loss_scale) if finite else np.zeros_like(parts.master)
    found = explain(found, expected, theirs, expected - bound, expected + bound)
    if not found.unexplained:
        return found
    for words, other, slack in _others(parts, rule, loss_scale, finite, format, theirs):
        with np.errstate(invalid="ignore"):
            if (np.abs(theirs.astype(np.float64) - other) <= slack).all():
                return replace(found, causes=(words,))
    return found


def _next(parts: Parts, rule: UpdateRule, loss_scale: float, fused: Sequence[str] = ()) -> Array:
    master, velocity = np.array(parts.master), np.array(parts.velocity)
    if fused:
        return _with_fused(master, velocity, parts.gradient, rule, loss_scale, fused)
    with np.errstate(over="ignore", invalid="ignore"):
        reference.sgd_update(
            master, parts.gradient, velocity, rule.rate, rule.momentum, rule.weight_decay, 1 / loss_scale
        )
    return master


def _with_fused(
    master: Array, velocity: Array, gradient: Array, rule: UpdateRule, loss_scale: float, fused: Sequence[str]
) -> Array:
    """``kernels.sgd_update`` where the products of the names are not rounded before they are added."""

    def total(name: str, factor: float, x: Array, y: Array) -> Array:
        number = np.float32(factor)
        return fma(np.full(x.shape, number), x, y) if name in fused else number * x + y

    with np.errstate(over="ignore", invalid="ignore"):
        whole = total("decay", rule.weight_decay, master, gradient * np.float32(1 / loss_scale))
        return total("step", -rule.rate, total("momentum", rule.momentum, velocity, whole), master)


def _bound(parts: Parts, rule: UpdateRule, loss_scale: float) -> Array:
    """How far products and sums fused or formed in another order may move the result: four roundings of its terms."""
    m, v, g = (np.abs(part.astype(np.float64)) for part in parts[:3])
    with np.errstate(over="ignore", invalid="ignore"):
        step = rule.rate * (g / loss_scale + rule.weight_decay * m + rule.momentum * v)
        return np.asarray(4 * UNIT * (m + step), np.float64)


def _others(
    parts: Parts, rule: UpdateRule, loss_scale: float, finite: bool, format: Format, theirs: Array
) -> Iterator[tuple[str, Array, Array]]:
    """(words, the result, how far the other's may be from it) of updates with one thing wrong."""
    right, slack = _next(parts, rule, loss_scale), _bound(parts, rule, loss_scale)
    none = np.zeros_like(slack)
    if not finite:
        yield "updated although a gradient of the step is not finite, so that it is left out", right, slack
        return
    yield "not updated: the master is as it was before the step", parts.master, none
    for narrow in dict.fromkeys((format, *map(FORMATS.__getitem__, ("bfloat16", "float16")))):
        if narrow.name != "float32":
            low, rounded, high = (
                round_to((right + side * slack).astype(np.float32), narrow, overflow="saturate", backend="reference")
                for side in (-1, 0, 1)
            )
            with np.errstate(invalid="ignore"):
                apart = np.maximum(rounded - low.astype(np.float64), high.astype(np.float64) - rounded)
            yield f"the master is rounded to {narrow}", rounded, apart
    for words, changed in _other_settings(parts, rule):
        yield words, _next(changed[0], changed[1], loss_scale), _bound(changed[0], changed[1], loss_scale)
    for words, scale in (("not divided", 1.0), ("divided twice", loss_scale * loss_scale)):
        if scale != loss_scale:
            yield f"the gradient is {words} by the loss scale", _next(parts, rule, scale), _bound(parts, rule, scale)
    yield from _other_formulas(parts, rule, loss_scale, slack)
    rate = _rate(parts.master, right, theirs)
    if rate is not None:
        changed_rule = replace(rule, rate=rule.rate * rate)
        words = f"the learning rate is {changed_rule.rate:.6g} instead of {rule.rate:.6g}"
        yield words, _next(parts, changed_rule, loss_scale), _bound(parts, changed_rule, loss_scale)


def _other_settings(parts: Parts, rule: UpdateRule) -> Iterator[tuple[str, tuple[Parts, UpdateRule]]]:
    if rule.momentum:
        yield "without momentum", (parts, replace(rule, momentum=0.0))
    if rule.weight_decay:
        yield "without weight decay", (parts, replace(rule, weight_decay=0.0))
    yield "the sign of the update is wrong", (parts, replace(rule, rate=-rule.rate))
    yield "it starts from the rounded parameter, not from the master", (parts._replace(master=parts.used), rule)
    if parts.before is not None:
        yield "it takes the gradient before rounding", (parts._replace(gradient=parts.before), rule)


def _other_formulas(
    parts: Parts, rule: UpdateRule, loss_scale: float, slack: Array
) -> Iterator[tuple[str, Array, Array]]:
    m, v, g = (part.astype(np.float64) for part in parts[:3])
    rate, momentum, decay = rule.rate, rule.momentum, rule.weight_decay
    with np.errstate(over="ignore", invalid="ignore"):
        whole = g / loss_scale + decay * m
        yield "Nesterov's momentum", m - rate * (whole + momentum * (momentum * v + whole)), 2 * slack
        yield "the gradient is damped by 1 - momentum", m - rate * (momentum * v + (1 - momentum) * whole), slack


def _rate(master: Array, right: Array, theirs: Array) -> float | None:
    """The factor between the other's change and ours, to the precision that the largest changes show."""
    ours, other = (each.astype(np.float64) - master for each in (right, theirs))
    if not np.isfinite(other).all() or not np.any(ours):
        return None
    largest = np.argsort(np.abs(ours).ravel())[-32:]
    factor = float(np.median(other.ravel()[largest] / ours.ravel()[largest]))
    return factor if factor > 0 and abs(factor - 1) > 1e-6 else None
