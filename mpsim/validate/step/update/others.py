"""Updates with one thing wrong, as causes of a difference."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from mpsim.formats import FORMATS, Format
from mpsim.kernels.contract import Array
from mpsim.recording.updates import Parts, UpdateRule
from mpsim.rounding import round_to
from mpsim.training.optimizer import SGD, Adam, AdamW, Lion
from mpsim.training.optimizer.base import power
from mpsim.validate.step.update.bounds import bound
from mpsim.validate.step.update.storing import Candidate


def others(
    parts: Parts, rule: UpdateRule, loss_scale: float, finite: bool, format: Format, theirs: Array
) -> Iterator[Candidate]:
    """Yields updates with one thing wrong."""
    right, slack = rule.next(parts, loss_scale), bound(rule, parts, loss_scale)
    if not finite:
        yield "updated although a gradient of the step is not finite, so that it is left out", right, slack
        return
    yield "not updated: the master is as it was before the step", parts.master, np.zeros_like(slack)
    if not rule.stores_masters:
        yield from _rounded(right, slack, format)
    for words, changed in _other_settings(parts, rule):
        yield words, changed[1].next(changed[0], loss_scale), bound(changed[1], changed[0], loss_scale)
    for words, scale in (("not divided", 1.0), ("divided twice", loss_scale * loss_scale)):
        if scale != loss_scale:
            yield f"the gradient is {words} by the loss scale", rule.next(parts, scale), bound(rule, parts, scale)
    yield from _other_formulas(parts, rule, loss_scale, slack)
    still = rule.next(parts._replace(gradient=np.zeros_like(parts.gradient)), loss_scale)
    for factor in simple_factors(factor_of(still, right, theirs)):
        times = parts._replace(gradient=(parts.gradient.astype(np.float64) * factor).astype(np.float32))
        words = f"the gradient is multiplied by {factor:.6g} before the update"
        yield words, rule.next(times, loss_scale), bound(rule, times, loss_scale)
    rate = factor_of(parts.master, right, theirs)
    if rate is not None:
        changed_rule = replace(rule, rate=rule.rate * rate)
        words = f"the learning rate is {changed_rule.rate:.6g} instead of {rule.rate:.6g}"
        yield words, changed_rule.next(parts, loss_scale), bound(changed_rule, parts, loss_scale)


def _rounded(right: Array, slack: Array, format: Format) -> Iterator[Candidate]:
    for narrow in dict.fromkeys((format, *map(FORMATS.__getitem__, ("bfloat16", "float16")))):
        if narrow.name != "float32":
            low, rounded, high = (
                round_to((right + side * slack).astype(np.float32), narrow, overflow="saturate", backend="reference")
                for side in (-1, 0, 1)
            )
            with np.errstate(invalid="ignore"):
                apart = np.maximum(rounded - low.astype(np.float64), high.astype(np.float64) - rounded)
            yield f"the master is rounded to {narrow}", rounded, apart


def _other_settings(parts: Parts, rule: UpdateRule) -> Iterator[tuple[str, tuple[Parts, UpdateRule]]]:
    if rule.has_momentum:
        yield "without momentum", (parts, rule.with_(momentum=0.0, nesterov=False))
    if rule.optimizer.weight_decay:
        yield "without weight decay", (parts, rule.with_(weight_decay=0.0))
    yield "the sign of the update is wrong", (parts, replace(rule, rate=-rule.rate))
    yield "it starts from the rounded parameter, not from the master", (parts._replace(master=parts.used), rule)
    if parts.compensation is not None:
        yield "it starts from the master without what Kahan's rule kept", (parts._replace(compensation=None), rule)
    if parts.before is not None:
        yield "it takes the gradient before rounding", (parts._replace(gradient=parts.before), rule)
    if parts.parts is not None:
        last, earlier = parts.parts
        yield "it takes the gradient of the last micro-batch alone", (parts._replace(gradient=last), rule)
        if earlier is not None:
            yield "it takes the sum of the earlier micro-batches alone", (parts._replace(gradient=earlier), rule)
    optimizer = rule.optimizer
    if isinstance(optimizer, Adam):
        if optimizer.weight_decay:
            other, words = (Adam, "is a part of") if optimizer.decoupled else (AdamW, "is decoupled from")
            settings = {name: getattr(optimizer, name) for name in ("weight_decay", "beta1", "beta2", "epsilon")}
            yield f"weight decay {words} the gradient", (parts, replace(rule, optimizer=other(**settings)))
        yield "the number of updates is one more", (parts, replace(rule, count=rule.count + 1))
        if rule.count > 1:
            yield "the number of updates is one less", (parts, replace(rule, count=rule.count - 1))
        narrow = {name: float(np.float32(getattr(optimizer, name))) for name in ("beta1", "beta2")}
        yield "beta1 and beta2 are rounded to float32 before 1 - beta", (parts, rule.with_(**narrow))
    if isinstance(optimizer, Lion):
        swapped = rule.with_(beta1=optimizer.beta2, beta2=optimizer.beta1)
        yield "beta1 and beta2 are exchanged", (parts, swapped)


def _other_formulas(parts: Parts, rule: UpdateRule, loss_scale: float, slack: Array) -> Iterator[Candidate]:
    m, g = (part.astype(np.float64) for part in (parts.master, parts.gradient))
    states = {name: array.astype(np.float64) for name, array in parts.states.items()}
    optimizer, rate = rule.optimizer, rule.rate
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        if isinstance(optimizer, SGD):
            momentum, v = optimizer.momentum, states["velocity"]
            whole = g / loss_scale + optimizer.weight_decay * m
            nesterov, plain = m - rate * (whole + momentum * (momentum * v + whole)), m - rate * (momentum * v + whole)
            if optimizer.nesterov or optimizer.dampening:
                yield "momentum without Nesterov's rule and dampening", plain, 2 * slack
            if not optimizer.nesterov:
                yield "Nesterov's momentum", nesterov, 2 * slack
            yield "the gradient is damped by 1 - momentum", m - rate * (momentum * v + (1 - momentum) * whole), slack
        if isinstance(optimizer, Adam):
            whole = g / loss_scale + (0 if optimizer.decoupled else optimizer.weight_decay) * m
            first = optimizer.beta1 * states["first_moment"] + (1 - optimizer.beta1) * whole
            second = optimizer.beta2 * states["second_moment"] + (1 - optimizer.beta2) * whole * whole
            kept = 1 - rate * optimizer.weight_decay * optimizer.decoupled
            plain = kept * m - rate * first / (np.sqrt(second) + optimizer.epsilon)
            yield "without the corrections of the moments' bias", plain, 2 * slack
            corrections = [1 - power(beta, rule.count) for beta in (optimizer.beta1, optimizer.beta2)]
            inside = np.sqrt(second / corrections[1] + optimizer.epsilon)
            yield "epsilon is added inside the root", kept * m - rate / corrections[0] * first / inside, 2 * slack


def factor_of(master: Array, right: Array, theirs: Array) -> float | None:
    """Returns the factor between the other's change of ``master`` and ours, to the precision that the largest changes
    show. It is None where it would explain nothing."""
    ours, other = ((each.astype(np.float64) - master).ravel() for each in (right, theirs))
    if not np.isfinite(other).all() or not np.any(ours):
        return None
    largest = np.argsort(np.abs(ours))[-32:]
    largest = largest[ours[largest] != 0]
    factor = float(np.median(other[largest] / ours[largest]))
    return factor if factor > 0 and abs(factor - 1) > 1e-6 else None


def simple_factors(about: float | None) -> Iterator[float]:
    """Yields the whole number, or its reciprocal, that is near a factor within a hundredth.

    >>> list(simple_factors(0.2501)), list(simple_factors(0.7))
    ([0.25], [])
    """
    for factor in () if about is None else (float(round(about)), 1 / max(1, round(1 / about))):
        if factor > 0 and factor != 1 and about is not None and abs(factor / about - 1) < 0.01:
            yield factor
