"""Recording a training step: every tensor it stores, by name, with an index. docs/step_files.md has the layout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mpsim import losses, networks
from mpsim.assignment import Plan
from mpsim.engine.tape import Contribution
from mpsim.engine.tensor import TensorId
from mpsim.files.semantics import FIELD, SEMANTICS, warn_if_older
from mpsim.files.tensors import TensorFile, TensorFileError, write_tensors
from mpsim.kernels import Kernels
from mpsim.kernels.contract import Array
from mpsim.nn import Module
from mpsim.products import passes
from mpsim.products.passes import Choice
from mpsim.recording.updates import UpdateRule
from mpsim.rounding import Counts
from mpsim.trace import Trace, TracedOp, trace
from mpsim.training.optimizer.groups import groups_of
from mpsim.training.saving import build_network, vocabulary_of
from mpsim.training.semantics import Semantics, of_stored, stored
from mpsim.training.store import Store
from mpsim.training.trainer import Trainer

KIND, VERSION = "mpsim step", 1

#: Prefix of a tensor's name -> what it is, in the order in which an op's tensors are made.
PREFIXES = {
    "master": "a parameter in float32, as the optimizer keeps it",
    "velocity": "SGD's momentum of a parameter, in float32, before the step",
    "first_moment": "the first moment of a parameter (Adam, AdamW, Lion), in float32, before the step",
    "second_moment": "the second moment of a parameter (Adam, AdamW), in float32, before the step",
    "compensation": "what Kahan's rule kept of a parameter, in the format of stored masters, before the step",
    "P": "a parameter as the step used it",
    "Y": "an op's output",
    "G": "the finished gradient of an op's output (standard semantics)",
    "GX": "what an op adds to the gradient of its i-th input's producer",
    "GP": "a parameter's gradient",
    "next_master": "a parameter after the step",
    "next_compensation": "what Kahan's rule keeps of it",
}
#: What stands before the name of the same tensor as it was before rounding.
UNROUNDED = "unrounded/"

_PREFIX_OF_ROLE = {"activation": "Y", "parameter": "P", "activation_gradient": "G", "parameter_gradient": "GP"}


def tensor_name(id: TensorId) -> str:
    """The name of a stored tensor in a step file.

    >>> tensor_name(TensorId(3, "parameter_gradient", 1))
    'GP/3/1'
    """
    return f"{_PREFIX_OF_ROLE[id.role]}/{id.op}/{id.index}"


@dataclass(frozen=True)
class StepRecord:
    """A recorded step: ``tensors`` by name in the order they were made, ``index`` as docs/step_files.md has it.

    >>> record = StepRecord({"A/0/0": np.zeros((2, 3), np.float32)}, {"model": "small_cnn"})
    >>> record.tensors["A/0/0"].shape
    (2, 3)
    """

    tensors: Mapping[str, Array]
    index: Mapping[str, Any]

    def write(self, path: str | Path) -> None:
        """Writes it as .safetensors or .npz, and the index beside it as .json."""
        write_tensors(path, self.tensors, self.index)


class Recorder:
    """An observer of ``Trainer.step`` that keeps a copy of everything stored. It changes no number."""

    def __init__(self, kernels: Kernels, stores_contributions: bool) -> None:
        self.tensors: dict[str, Array] = {}
        self.ids: dict[str, TensorId] = {}
        self.counts: dict[str, Counts] = {}
        self._kernels, self._stores_contributions = kernels, stores_contributions
        self._contribution: tuple[Array, Counts | None] | None = None

    def watch(self, store: Store) -> Store:
        return _Watched(store, self)

    def contribution(self, contribution: Contribution, value: Array) -> Array:
        name = f"GX/{contribution.op}/{contribution.index}"
        if self._stores_contributions:
            assert self._contribution is not None, "a contribution is stored just before"
            unrounded, counts = self._contribution
            self._keep(name, TensorId(contribution.producer, "activation_gradient", 0), unrounded, value, counts)
        else:
            self.tensors[name] = self.host(value)
        return value

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
            self.tensors[f"master/{id.op}/{id.index}"] = unrounded
        else:
            self.tensors[UNROUNDED + name] = unrounded
        self.tensors[name] = self.host(value)
        self.ids[name] = id
        if counts is not None:
            self.counts[name] = counts


class _Watched:
    """A store that shows what it got and gave to a recorder."""

    def __init__(self, store: Store, recorder: Recorder) -> None:
        self._store, self._recorder = store, recorder
        self.overflow, self.underflow, self.counts = store.overflow, store.underflow, store.counts

    def __call__(self, id: TensorId, value: Array) -> Array:
        unrounded, before = self._recorder.host(value), self.counts().get(id)
        stored = self._store(id, value)
        after = self.counts().get(id)
        if after is not None and before is not None:  # an earlier contribution to the same gradient
            after = Counts(*(new - old for new, old in zip(after, before, strict=True)))
        self._recorder.stored(id, unrounded, stored, after)
        return stored


def record_step(trainer: Trainer, images: Array, labels: Array) -> StepRecord:
    """Takes one step with ``trainer`` (which changes as by ``trainer.step``) and returns all that it stored.

    images float32 (N, C, H, W), or tokens, integers (N, T), labels integers; errors as of ``trainer.step``. Memory:
    about three times the step's tensors.

    >>> import reference_models
    >>> model = reference_models.build("small_cnn", width=0.1)
    >>> trainer = Trainer(model, backend="reference", threads=1)
    >>> record = record_step(trainer, np.ones((2, 1, 8, 8), np.float32), np.array([3, 7]))
    >>> [name for name in record.tensors if name.startswith("G") and "/13/" in name]
    ['G/13/0', 'GX/13/0']
    """
    recorder = Recorder(trainer.kernels, trainer.semantics.store_each_contribution)
    plan, number = trainer.plan, trainer.steps  # a step may promote
    states = {
        state: {name: recorder.host(array) for name, array in found.items()} for state, found in trainer.states.items()
    }
    kept = {name: recorder.host(array) for name, array in trainer.compensation.items()}
    recipe = trainer.recipe
    groups = groups_of(recipe.groups)
    rule = UpdateRule(recipe.optimizer, trainer.learning_rate, trainer.updates + 1, groups, recipe.clip, recipe.storage)
    report = trainer.step(images, labels, recorder)
    traced = trace(trainer.model, len(images), trainer.semantics.name, tuple(images.shape[1:]), trainer.loss)
    labels = np.asarray(labels)
    labels = labels.astype(np.float32 if labels.dtype.kind == "f" else np.int64)
    tensors = {"images": np.array(images), "labels": labels, **recorder.tensors}
    parameters = trainer.model.parameters()
    for name, id in traced.parameter_ids.items():
        tensors |= {f"{state}/{id.op}/{id.index}": found[name] for state, found in states.items() if name in found}
        tensors[f"next_master/{id.op}/{id.index}"] = recorder.host(parameters[name].master)
        if name in kept:
            tensors[f"compensation/{id.op}/{id.index}"] = kept[name]
            tensors[f"next_compensation/{id.op}/{id.index}"] = recorder.host(trainer.compensation[name])
    index = index_of(
        trainer.model,
        traced,
        tuple(images.shape[1:]),
        {name: _tensor(name, array, recorder, plan) for name, array in tensors.items()},
        plan,
        {
            "semantics": stored(trainer.semantics),
            "rounding": trainer.recipe.rounding,
            "accumulator": passes.to_dict(trainer.accumulator),
            "loss": losses.described(trainer.loss),
            "optimizer": rule.to_index(),
            "seed": trainer.recipe.seed,
            "step": number,
            "loss_scale": report.loss_scale,
            "skipped": report.skipped,
        },
    )
    return StepRecord(tensors, index)


def index_of(
    model: Module, traced: Trace, shape: tuple[int, ...], tensors: Mapping[str, object], plan: Plan | None,
    settings: Mapping[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """Returns the index of a step file. ``shape``: of one input; ``tensors``: each one's description; ``settings``: the
    fields that say how the step was taken."""
    return {
        "kind": KIND,
        "version": VERSION,
        FIELD: SEMANTICS,
        "model": {
            "name": traced.model, "width": traced.width, "classes": traced.classes, "input_shape": shape,
            **vocabulary_of(model),
        },
        "batch": traced.batch,
        **settings,
        "ops": [_op(op) for op in traced.ops],
        "tensors": dict(tensors),
        "plan": None if plan is None else plan.to_dict(),
    }  # fmt: skip


@dataclass(frozen=True)
class RecordedNetwork:
    """What a step was recorded with, built anew (initial weights, which play no part)."""

    model: Module
    plan: Plan | None
    semantics: Semantics
    accumulator: Choice


def network_of(record: TensorFile, model: str | None = None) -> RecordedNetwork:
    """The network, plan and settings of a step file that mpsim wrote; ``model``: as of ``mpsim.networks.build``,
    where the network is not of reference_models.

    Raises TensorFileError if the file has no such index or another version's, or its rounding was stochastic (whose
    random bits are not in the file); CheckpointError for a network that is none of reference_models.
    """
    index = record.index
    if index.get("kind") != KIND or index.get("version") != VERSION:
        found = f"{index.get('kind')!r} version {index.get('version')}" if index else "no index"
        raise TensorFileError(f"{record.source} is no {KIND!r} of version {VERSION} ({found}): write it by trace-step")
    warn_if_older(index.get(FIELD), record.source)
    try:
        rounding, described = index["rounding"], dict(index["model"])
        plan = None if index["plan"] is None else Plan.from_json(index["plan"])
        semantics, accumulator = of_stored(index["semantics"]), passes.from_dict(index["accumulator"])
        options = {"classes": described["classes"], "input_shape": tuple(described["input_shape"])}
        options |= {"width": described["width"], "vocabulary": described.get("vocabulary")}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise TensorFileError(f"{record.source}: its index is not one that trace-step writes: {what}") from error
    if rounding != "nearest":
        raise TensorFileError(f"{record.source} had rounding {rounding!r}, whose random bits are not in it")
    if model is None:
        network = build_network(described, record.source, "pass model (--model), its name or my_net.py:build")
    else:
        network = networks.build(model, **options)
    return RecordedNetwork(network, plan, semantics, accumulator)


def _op(op: TracedOp) -> dict[str, Any]:
    """One row of the index's list of ops."""
    return {
        "index": op.index,
        "name": op.name,
        "kind": op.kind,
        "producers": list(op.producers),
        "parameters": list(op.parameters),
        "output_shape": list(op.output_shape),
    }


def _tensor(name: str, array: Array, recorder: Recorder, plan: Plan | None) -> dict[str, Any]:
    """What the index says of one tensor: shape and, where it was rounded, format and counts."""
    described: dict[str, Any] = {"shape": list(array.shape)}
    if name in recorder.ids:
        described["format"] = "float32" if plan is None else plan.formats[recorder.ids[name]].name
    if name in recorder.counts:
        described["counts"] = recorder.counts[name]._asdict()
    return described
