"""Runs the forward and backward pass of a training step, for the trainer, sensitivities and replays."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from mpsim.engine.tape import Contribution, Tape
from mpsim.engine.tensor import Array, Parameter, Tensor, TensorId
from mpsim.kernels import Kernels
from mpsim.losses import CrossEntropy, Loss


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
    model: Any,
    ids: Mapping[str, TensorId],
    stored: Callable[[TensorId, Array], Array],
    others: Mapping[str, Array] = MappingProxyType({}),
) -> Iterator[None]:
    """Sets the parameters' values to ``stored`` masters, and back to the masters at the end. ``ids`` are by name. No op
    reads a parameter without an id. ``others`` has arrays in place of masters, by name."""
    parameters: dict[str, Parameter] = model.parameters()
    try:
        for name, parameter in parameters.items():
            value = others.get(name, parameter.master)
            parameter.value = stored(ids[name], value) if name in ids else value
        yield
    finally:
        for parameter in parameters.values():
            parameter.value = parameter.master


def accumulated_passes(
    model: Any,
    images: np.ndarray,
    labels: np.ndarray,
    store: Any,
    ids: Mapping[str, TensorId],
    kernels: Kernels,
    loss_scale: float,
    *,
    criterion: Loss,
    parts: int,
    add: Callable[[Parameter, Array | None, Array, int], Array],
    step: int,
    **options: Any,
) -> Step:
    """Runs ``both_passes`` on parts of a batch one after the other, with parameters that are stored once.

    The derivative of a part's loss is multiplied by the part's share of the weight of the batch's labels, so that the
    gradients add up to those of the mean. ``add(parameter, sum, gradient, part)`` returns the sum of the earlier
    gradients, None for the first, and the next one. Part i of step n draws as step n * parts + i.
    """
    count, total = min(parts, len(images)), criterion.weight(labels)
    cuts = zip(np.array_split(images, count), np.array_split(labels, count), strict=True)
    losses, logits, sums = [], [], dict[Parameter, Array]()
    with stored_parameters(model, ids, store):
        for part, (some, answers) in enumerate(cuts):
            weight = criterion.weight(answers)
            share = (weight or 1.0) / total if total else len(some) / len(images)
            loss = criterion if weight or not total else criterion.undivided()
            found = _passes(
                model, some, answers, store, kernels, loss_scale * share, loss, step=step * parts + part, **options
            )
            losses.append(share * float(kernels.to_numpy(found.loss.value).reshape(())))
            logits.append(np.array(kernels.to_numpy(found.logits.value)))
            for parameter, gradient in found.gradients.items():
                sums[parameter] = add(parameter, sums.get(parameter), gradient, part)
    return Step(sum(losses), np.concatenate(logits), sums)


def both_passes(
    model: Any,
    images: np.ndarray,
    labels: np.ndarray,
    store: Any,
    ids: Mapping[str, TensorId],
    kernels: Kernels,
    loss_scale: float,
    *,
    criterion: Loss = CrossEntropy(),
    store_each_contribution: bool = False,
    parameter: Callable[[TensorId, Array], Array] | None = None,
    on_contribution: Callable[[Contribution, Array], Array] | None = None,
    seed: int = 0,
    step: int = 0,
) -> Passes:
    """Stores the parameters (by ``parameter``, or else ``store``), then runs the network, the criterion and the
    derivatives, and stores every tensor by ``store``. ``seed`` and ``step`` determine the draws of dropout. Only
    the running statistics of the model change."""
    with stored_parameters(model, ids, parameter or store):
        return _passes(
            model, images, labels, store, kernels, loss_scale, criterion, on_contribution=on_contribution,
            store_each_contribution=store_each_contribution, seed=seed, step=step,
        )  # fmt: skip


def _passes(
    model: Any, images: np.ndarray, labels: np.ndarray, store: Any, kernels: Kernels, loss_scale: float,
    criterion: Loss, **options: Any,
) -> Passes:  # fmt: skip
    tape = Tape(kernels, store, **options)
    logits = model(tape.input(images))
    loss = criterion(logits, labels)
    return Passes(logits, loss, tape.backward(loss, loss_scale))
