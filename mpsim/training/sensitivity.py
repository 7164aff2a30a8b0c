"""Runs single steps under any plan, for ``mpsim.assignment.measure_sensitivity``."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from mpsim import checks, ops
from mpsim import kernels as backends
from mpsim.assignment import Plan
from mpsim.engine.tape import Tape
from mpsim.engine.tensor import ROLES, Array, TensorId
from mpsim.kernels import DEFAULT_BACKEND, Kernels
from mpsim.losses import CrossEntropy, Loss, loss_of
from mpsim.nn import Module
from mpsim.process import in_default_environment
from mpsim.products.accumulators import Accumulator
from mpsim.products.passes import Choice, as_accumulators
from mpsim.trace import trace
from mpsim.training import batches
from mpsim.training.passes import both_passes, stored_parameters
from mpsim.training.semantics import Semantics, as_semantics
from mpsim.training.store import Rounder


@in_default_environment
def steps(
    model: Module,
    data: Iterable[batches.Batch],
    *,
    semantics: str | Semantics = "standard",
    loss_scale: float = 1024.0,
    accumulator: Choice | str = Accumulator(),
    loss: Loss | str = CrossEntropy(),
    backend: str = DEFAULT_BACKEND,
    threads: int | None = None,
) -> Iterator[PlannedStep]:
    """Yields a step for each batch (images, labels) of ``data``, with nearest rounding. ``accumulator`` and
    ``loss`` are those of ``Recipe``.

    A step does not change ``model``'s weights and statistics. The model is moved to ``backend``. Raises ValueError for
    invalid data, and BackendUnavailable.

    >>> import reference_models
    >>> from mpsim import assignment
    >>> model = reference_models.build("small_cnn", width=0.1)
    >>> batch = (np.ones((2, 1, 8, 8), np.float32), np.array([3, 7]))
    >>> found = assignment.measure_sensitivity(steps(model, [batch], backend="reference"))
    >>> len(found.loss)  # groups
    5
    """
    rules = as_semantics(semantics)
    checks.real("loss_scale", loss_scale, above=0, most=checks.FLOAT32_LARGEST)
    kernels = backends.bind(backend, threads, as_accumulators(accumulator))
    model.move(kernels)
    criterion = loss_of(loss)
    for images, labels in data:
        batch = batches.checked(model, images, labels, criterion)
        yield PlannedStep(model, kernels, *batch, rules, loss_scale, criterion)


class PlannedStep:
    """A forward and backward pass on one batch, under any plan."""

    def __init__(
        self,
        model: Module,
        kernels: Kernels,
        images: np.ndarray,
        labels: np.ndarray,
        semantics: Semantics,
        loss_scale: float,
        loss: Loss = CrossEntropy(),
    ) -> None:
        self.kernels = kernels
        self.model, self.images, self.labels = model, images, labels
        self.semantics, self.loss_scale, self.loss = semantics, loss_scale, loss
        self.trace = trace(model, len(images), semantics.name, tuple(images.shape[1:]), loss)
        self.names = {id: name for name, id in self.trace.parameter_ids.items()}

    @in_default_environment
    def take(self, plan: Plan, keep: bool = False) -> Taken:
        """Runs the step under ``plan``. With ``keep`` the result has every stored tensor."""
        kernels = self.kernels
        rounder, kept = self.rounder(plan), dict[TensorId, np.ndarray]()

        def store(id: TensorId, value: Array) -> Array:
            stored = rounder(id, value)
            if keep:
                kept[id] = np.array(kernels.to_numpy(stored))
            return stored

        before = self.model.state()
        try:
            tape = Tape(kernels, store, store_each_contribution=self.semantics.store_each_contribution)
            with stored_parameters(self.model, self.trace.parameter_ids, store):
                _, loss, found = both_passes(self.model, self.images, self.labels, tape, self.loss, self.loss_scale)
        finally:
            self.model.load_state(before)
        gradients = {p.name: np.array(kernels.to_numpy(g), np.float64) / self.loss_scale for p, g in found.items()}
        return Taken(self, plan, kept, float(kernels.to_numpy(loss.value).reshape(())), gradients)

    def rounder(self, plan: Plan) -> Rounder:
        """Returns the store of a plan."""
        return Rounder(plan.formats, self.kernels, {role: self.semantics.policy(role) for role in ROLES})


@dataclass(frozen=True)
class Taken:
    """The results of a step under a plan: stored tensors if they were kept, loss, unscaled gradients by parameter."""

    step: PlannedStep
    plan: Plan
    stored: Mapping[TensorId, np.ndarray]
    loss: float
    gradients: Mapping[str, np.ndarray]

    def first_order(self, other: Plan) -> float:
        """Sums gradient * change over the activations and parameters that have a different format in ``other``."""
        kernels, rounder, terms = self.step.kernels, self.step.rounder(other), []
        for id, format in other.formats.items():
            if format == self.plan.formats[id] or id.role.endswith("gradient") or self._only_chooses(id, other):
                continue
            value = self.stored[id]
            stored = np.array(kernels.to_numpy(rounder(id, kernels.from_numpy(value.copy()))), np.float64)
            terms.append(float(np.sum(self._slope(id) * (stored - value))))
        return math.fsum(terms)

    def _slope(self, id: TensorId) -> np.ndarray:
        """Returns the loss's gradient by a stored tensor."""
        value = self.stored[id]
        if id.role == "parameter":
            return self.gradients.get(self.step.names[id], np.zeros_like(value))
        if id.op == self.step.trace.ops[-1].index:
            return np.ones_like(value)  # the loss
        scaled = self.stored.get(id._replace(role="activation_gradient"), np.zeros_like(value))  # the input has none
        return scaled.astype(np.float64) / self.step.loss_scale

    def _only_chooses(self, id: TensorId, plan: Plan) -> bool:
        """Returns whether the tensor's values are already numbers of its format, because its inputs' were."""
        op = self.step.trace.ops[id.op]
        inputs = [plan.formats[TensorId(producer, "activation")] for producer in op.producers if producer >= 0]
        chooses = ops.primitive_of(op.kind).chooses
        return id.role == "activation" and chooses and all(given == plan.formats[id] for given in inputs)
