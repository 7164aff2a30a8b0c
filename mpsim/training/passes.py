"""Runs the forward and backward pass of a training step, for the trainer, sensitivities and replays."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from mpsim.engine.tape import Tape
from mpsim.engine.tensor import Array, Parameter, Tensor, TensorId
from mpsim.losses import Loss
from mpsim.nn import Module
from mpsim.training.batches import MicroBatch
from mpsim.training.store import Observer


class Step(NamedTuple):
    """The results of all micro-batches: the mean loss, logits, and the sums of their gradients."""

    loss: float
    logits: np.ndarray
    gradients: dict[Parameter, Array]


class Passes(NamedTuple):
    """The results of both passes. Gradients are still multiplied by the loss scale."""

    logits: Tensor
    loss: Tensor
    gradients: dict[Parameter, Array]


@contextmanager
def stored_parameters(
    model: Module,
    ids: Mapping[str, TensorId],
    stored: Callable[[TensorId, Array], Array],
    others: Mapping[str, Array] = MappingProxyType({}),
) -> Iterator[None]:
    """Sets the parameters' values to ``stored`` masters, and back to the masters at the end. ``ids`` are by name. No op
    reads a parameter without an id. ``others`` has arrays in place of masters, by name."""
    parameters = model.parameters()
    try:
        for name, parameter in parameters.items():
            value = others.get(name, parameter.master)
            parameter.value = stored(ids[name], value) if name in ids else value
        yield
    finally:
        for parameter in parameters.values():
            parameter.value = parameter.master


def accumulated_passes(
    model: Module,
    images: np.ndarray,
    labels: np.ndarray,
    tape: Callable[..., Tape],
    criterion: Loss,
    loss_scale: float,
    *,
    parts: int,
    add: Callable[[Parameter, Array | None, Array, int], Array],
    step: int,
    observer: Observer | None = None,
) -> Step:
    """Runs ``both_passes`` on parts of a batch one after the other.

    The derivative of a part's loss is multiplied by the part's share of the weight of the batch's labels, so that the
    gradients add up to those of the mean. ``add(parameter, sum, gradient, part)`` returns the sum of the earlier
    gradients, None for the first, and the next one. Part i of step n draws as step n * parts + i: ``tape(step=...)``
    returns the tape of a part. ``observer`` is told where a part begins, and the sums after it.
    """
    count, whole = min(parts, len(images)), MicroBatch.whole(criterion, labels)._replace(of=parts)
    cuts = zip(np.array_split(images, count), np.array_split(labels, count), strict=True)
    losses, logits, sums = [], [], dict[Parameter, Array]()
    for number, (some, answers) in enumerate(cuts):
        part = whole._replace(number=number)
        loss, share = part.loss_of(criterion, answers)
        if observer is not None:
            observer.begin(part, some, answers)
        found = both_passes(model, some, answers, tape(step=part.draws_as(step)), loss, loss_scale * share)
        to_numpy = found.loss.tape.kernels.to_numpy
        losses.append(share * float(to_numpy(found.loss.value).reshape(())))
        logits.append(np.array(to_numpy(found.logits.value)))
        for parameter, gradient in found.gradients.items():
            sums[parameter] = add(parameter, sums.get(parameter), gradient, number)
            if observer is not None:
                observer.added(parameter, sums[parameter])
    return Step(sum(losses), np.concatenate(logits), sums)


def both_passes(
    model: Module, images: np.ndarray, labels: np.ndarray, tape: Tape, criterion: Loss, loss_scale: float
) -> Passes:
    """Runs the network, the criterion and the derivatives on a tape, which stores every tensor. Parameters have the
    values of ``stored_parameters``. Only the running statistics of the model change."""
    logits = model(tape.input(images))
    loss = criterion(logits, labels)
    return Passes(logits, loss, tape.backward(loss, loss_scale))
