"""An observer of a training step, which keeps what each of its micro-batches stores, by name."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from mpsim.engine.tape import Contribution
from mpsim.engine.tensor import Parameter, TensorId
from mpsim.kernels import Kernels
from mpsim.kernels.contract import Array
from mpsim.rounding import Counts
from mpsim.training.batches import MicroBatch
from mpsim.training.store import Store

#: What stands before the name of the same tensor as it was before rounding.
UNROUNDED = "unrounded/"

_PREFIX_OF_ROLE = {"activation": "Y", "parameter": "P", "activation_gradient": "G", "parameter_gradient": "GP"}


def tensor_name(id: TensorId) -> str:
    """The name of a stored tensor in a step file.

    >>> tensor_name(TensorId(3, "parameter_gradient", 1))
    'GP/3/1'
    """
    return f"{_PREFIX_OF_ROLE[id.role]}/{id.op}/{id.index}"


@dataclass
class RecordedPart:
    """What a micro-batch read and stored. ``tensors``, ``counts``: by name; ``sums``: of gradients, by parameter."""

    place: MicroBatch
    images: Array
    labels: Array
    tensors: dict[str, Array] = field(default_factory=dict)
    counts: dict[str, Counts] = field(default_factory=dict)
    sums: dict[str, Array] = field(default_factory=dict)


class Recorder:
    """An observer of ``Trainer.step`` that keeps a copy of everything stored. It changes no number.

    ``parts``: the micro-batches; ``parameters``, ``parameter_counts``: what the step stored before them, by name;
    ``ids``: those of all stored tensors by name.
    """

    def __init__(self, kernels: Kernels, stores_contributions: bool) -> None:
        self.parts: list[RecordedPart] = []
        self.parameters: dict[str, Array] = {}
        self.parameter_counts: dict[str, Counts] = {}
        self.ids: dict[str, TensorId] = {}
        self._kernels, self._stores_contributions = kernels, stores_contributions
        self._contribution: tuple[Array, Counts | None] | None = None

    def watch(self, store: Store) -> Store:
        return _Watched(store, self)

    def begin(self, part: MicroBatch, images: Array, labels: Array) -> None:
        labels = labels.astype(np.float32 if labels.dtype.kind == "f" else np.int64)
        self.parts.append(RecordedPart(part, np.array(images), labels))

    def contribution(self, contribution: Contribution, value: Array) -> Array:
        name = f"GX/{contribution.op}/{contribution.index}"
        if self._stores_contributions:
            assert self._contribution is not None, "a contribution is stored just before"
            unrounded, counts = self._contribution
            self._keep(name, TensorId(contribution.producer, "activation_gradient", 0), unrounded, value, counts)
        else:
            self.parts[-1].tensors[name] = self.host(value)
        return value

    def added(self, parameter: Parameter, total: Array) -> None:
        if self.parts[-1].place.of > 1:
            self.parts[-1].sums[parameter.name] = self.host(total)

    def stored(self, id: TensorId, unrounded: Array, value: Array, counts: Counts | None) -> None:
        """Keeps a stored tensor; a contribution waits for its name."""
        if id.role == "activation_gradient" and self._stores_contributions:
            self._contribution = unrounded, counts
        else:
            self._keep(tensor_name(id), id, unrounded, value, counts)

    def host(self, value: Array) -> Array:
        return np.array(self._kernels.to_numpy(value))

    def _keep(self, name: str, id: TensorId, unrounded: Array, value: Array, counts: Counts | None) -> None:
        if id.role == "parameter":
            tensors, all_counts, source = self.parameters, self.parameter_counts, f"master/{id.op}/{id.index}"
        else:
            tensors, all_counts, source = self.parts[-1].tensors, self.parts[-1].counts, UNROUNDED + name
        tensors[source] = unrounded
        tensors[name] = self.host(value)
        self.ids[name] = id
        if counts is not None:
            all_counts[name] = counts


class _Watched:
    """A store that shows what it got and gave to a recorder."""

    def __init__(self, store: Store, recorder: Recorder) -> None:
        self._store, self._recorder = store, recorder
        self.overflow, self.underflow, self.counts = store.overflow, store.underflow, store.counts

    def __call__(self, id: TensorId, value: Array) -> Array:
        unrounded, before = self._recorder.host(value), self.counts().get(id)
        stored = self._store(id, value)
        after = self.counts().get(id)
        if after is not None and before is not None:  # stored before: another contribution, or another micro-batch
            after = Counts(*(new - old for new, old in zip(after, before, strict=True)))
        self._recorder.stored(id, unrounded, stored, after)
        return stored
