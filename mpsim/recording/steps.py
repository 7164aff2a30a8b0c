"""Recording a training step: every tensor it stores, by name, with an index. docs/step_files.md has the layout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mpsim import losses, networks
from mpsim.assignment import Plan
from mpsim.engine.tensor import TensorId
from mpsim.errors import UsageError
from mpsim.files.semantics import FIELD, SEMANTICS, warn_if_older
from mpsim.files.tensors import TensorFile, TensorFileError, write_tensors
from mpsim.kernels.contract import Array
from mpsim.nn import Module
from mpsim.process import in_default_environment
from mpsim.products import passes
from mpsim.products.passes import Choice
from mpsim.recording.recorder import RecordedPart, Recorder
from mpsim.recording.updates import UpdateRule
from mpsim.trace import Trace, TracedOp, trace
from mpsim.training.optimizer.groups import groups_of
from mpsim.training.saving import build_network, vocabulary_of
from mpsim.training.semantics import Semantics, of_stored, stored
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
    "sum": "the sum of a parameter's gradients of earlier micro-batches, as stored",
    "next_sum": "the same with the gradient of this micro-batch",
    "next_master": "a parameter after the step",
    "next_compensation": "what Kahan's rule keeps of it",
}


@dataclass(frozen=True)
class StepRecord:
    """A recorded step: ``tensors`` by name in the order they were made, ``index`` as docs/step_files.md has it.

    >>> import numpy as np
    >>> record = StepRecord({"A/0/0": np.zeros((2, 3), np.float32)}, {"model": "small_cnn"})
    >>> record.tensors["A/0/0"].shape
    (2, 3)
    """

    tensors: Mapping[str, Array]
    index: Mapping[str, Any]

    def write(self, path: str | Path) -> None:
        """Writes it as .safetensors or .npz, and the index beside it as .json."""
        write_tensors(path, self.tensors, self.index)


@in_default_environment
def record_step(trainer: Trainer, images: Array, labels: Array) -> StepRecord:
    """Takes one step with ``trainer`` (which changes as by ``trainer.step``) and returns all that it stored.

    images float32 (N, C, H, W), or tokens, integers (N, T), labels integers; errors as of ``trainer.step``. Memory:
    about three times the step's tensors. Raises UsageError, before the step, for a trainer that divides the batch into
    ``micro_batches``, each of which has its own record (``record_micro_batches``).

    >>> import numpy as np, reference_models
    >>> model = reference_models.build("small_cnn", width=0.1)
    >>> trainer = Trainer(model, backend="reference", threads=1)
    >>> record = record_step(trainer, np.ones((2, 1, 8, 8), np.float32), np.array([3, 7]))
    >>> [name for name in record.tensors if name.startswith("G") and "/13/" in name]
    ['G/13/0', 'GX/13/0']
    """
    if (parts := trainer.recipe.micro_batches) > 1:
        raise UsageError(
            f"record_step: a step of {parts} micro-batches has {parts} records; call record_micro_batches, or use "
            f"micro_batches=1"
        )
    return record_micro_batches(trainer, images, labels)[0]


@in_default_environment
def record_micro_batches(trainer: Trainer, images: Array, labels: Array) -> tuple[StepRecord, ...]:
    """Takes one step with ``trainer`` and returns a record of each micro-batch, in order.

    Each has the tensors of both passes of its micro-batch, and the sum of gradients before it (``sum``) and after it
    (``next_sum``). The last one has the update. Arguments, memory and errors are those of ``record_step``.

    >>> import numpy as np, reference_models
    >>> model = reference_models.build("small_cnn", width=0.1)
    >>> trainer = Trainer(model, backend="reference", threads=1, micro_batches=2)
    >>> first, last = record_micro_batches(trainer, np.ones((4, 1, 8, 8), np.float32), np.array([3, 7, 1, 2]))
    >>> bool((last.tensors["sum/1/0"] == first.tensors["next_sum/1/0"]).all())
    True
    >>> "next_master/1/0" in first.tensors, "next_master/1/0" in last.tensors
    (False, True)
    """
    recorder = Recorder(trainer.kernels, trainer.semantics.store_each_contribution)
    plan, number = trainer.plan, trainer.steps  # a step may promote
    kept = {**trainer.states, "compensation": trainer.compensation}
    starts = {kind: {name: recorder.host(array) for name, array in found.items()} for kind, found in kept.items()}
    recipe = trainer.recipe
    groups = groups_of(recipe.groups)
    rule = UpdateRule(recipe.optimizer, trainer.learning_rate, trainer.updates + 1, groups, recipe.clip, recipe.storage)
    report = trainer.step(images, labels, recorder)
    settings = {
        "semantics": stored(trainer.semantics),
        "rounding": recipe.rounding,
        "accumulator": passes.to_dict(trainer.accumulator),
        "loss": losses.described(trainer.loss),
        "optimizer": rule.to_index(),
        "seed": recipe.seed,
        "step": number,
        "loss_scale": report.loss_scale,
        "skipped": report.skipped,
    }
    shape = tuple(images.shape[1:])
    records, sums = [], dict[str, Array]()
    for part in recorder.parts:
        traced = trace(trainer.model, len(part.labels), trainer.semantics.name, shape, trainer.loss)
        ids = traced.parameter_ids
        tensors = {"images": part.images, "labels": part.labels, **recorder.parameters, **part.tensors}
        if recipe.micro_batches > 1:
            tensors |= {_placed("sum", ids[name]): total for name, total in sums.items()}
            sums = part.sums
            tensors |= {_placed("next_sum", ids[name]): total for name, total in sums.items()}
            settings["micro_batch"] = part.place._asdict()
        if part is recorder.parts[-1]:
            tensors |= _update(trainer, ids, starts, recorder)
        described = {name: _tensor(name, array, recorder, part, plan) for name, array in tensors.items()}
        records.append(StepRecord(tensors, index_of(trainer.model, traced, shape, described, plan, settings)))
    return tuple(records)


def _update(
    trainer: Trainer, ids: Mapping[str, TensorId], starts: Mapping[str, Mapping[str, Array]], recorder: Recorder
) -> dict[str, Array]:
    """The tensors of the update: ``starts``, what it read of states and compensation by kind, and what it made."""
    tensors: dict[str, Array] = {}
    parameters = trainer.model.parameters()
    for name, id in ids.items():
        tensors |= {_placed(state, id): starts[state][name] for state in trainer.states if name in starts[state]}
        tensors[_placed("next_master", id)] = recorder.host(parameters[name].master)
        if name in trainer.compensation:
            tensors[_placed("compensation", id)] = starts["compensation"][name]
            tensors[_placed("next_compensation", id)] = recorder.host(trainer.compensation[name])
    return tensors


def _placed(kind: str, id: TensorId) -> str:
    return f"{kind}/{id.op}/{id.index}"


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


def _tensor(name: str, array: Array, recorder: Recorder, part: RecordedPart, plan: Plan | None) -> dict[str, Any]:
    """What the index says of one tensor: shape and, where it was rounded, format and counts."""
    described: dict[str, Any] = {"shape": list(array.shape)}
    if name in recorder.ids:
        described["format"] = "float32" if plan is None else plan.formats[recorder.ids[name]].name
    counts = part.counts.get(name, recorder.parameter_counts.get(name))
    if counts is not None:
        described["counts"] = counts._asdict()
    return described
