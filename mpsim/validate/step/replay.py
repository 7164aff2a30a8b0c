"""Teacher-forced validation of a training step: each op by itself, on the inputs that a file says it had.

The step is run through mpsim's own tape, kernels and store; wherever a tensor is stored it is compared with the
file's, and the file's goes on in its place. So a difference shows at the op that made it and hides no other.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from mpsim import checks
from mpsim import kernels as backends
from mpsim.assignment import Plan
from mpsim.engine.tape import Tape
from mpsim.errors import UsageError
from mpsim.files.records import Record
from mpsim.files.tensors import TensorFile, TensorFileError
from mpsim.kernels import DEFAULT_BACKEND, Kernels
from mpsim.kernels.contract import Array
from mpsim.losses import Loss, loss_of
from mpsim.nn import Module
from mpsim.ops import may_multiply, sums_of
from mpsim.process import in_default_environment
from mpsim.products.accumulators import Accumulator
from mpsim.products.passes import Accumulators, Choice
from mpsim.recording.order import in_order_of_computation
from mpsim.recording.reading import micro_batch_of, read_step
from mpsim.trace import Trace, check_layers, trace
from mpsim.training.batches import MicroBatch
from mpsim.training.passes import both_passes, stored_parameters
from mpsim.training.semantics import Semantics, as_semantics
from mpsim.validate.answers import Verdict
from mpsim.validate.step.bounds import bound_kernels
from mpsim.validate.step.inputs import labels_of, loss_scale_of
from mpsim.validate.step.teacher import Bounds, Teacher
from mpsim.validate.step.tensor_compare import TensorComparison
from mpsim.validate.step.update import StepRules, UpdateRule, check_update


@dataclass(frozen=True)
class TeacherReport:
    """Every tensor of a step, mpsim's from the file's inputs against the file's, in order of computation.

    ``loss_scale`` and ``labels``: as used. ``notes``: what was taken from where, and what was not compared.
    ``described``: the tensors that products of a described order make, which have to be equal in every bit.
    ``names``: the file's own names of tensors -> those of docs/step_files.md.

    >>> import numpy as np, reference_models
    >>> from mpsim import Trainer
    >>> from mpsim.validate import record_step
    >>> model = reference_models.build("small_cnn", width=0.1)
    >>> images, labels = np.ones((2, 1, 8, 8), np.float32), np.array([3, 7])
    >>> step = record_step(Trainer(model, backend="reference"), images, labels)
    >>> step.tensors["G/13/0"][0, 0] += 1
    >>> report = teacher_forced(TensorFile(step.tensors, step.index), model, None, "standard", backend="reference")
    >>> report.equal, [tensor.name for tensor in report.suspects()]
    (False, ['G/13/0', 'GX/13/0'])
    """

    source: str
    model: str
    semantics: str
    loss_scale: float
    labels: Array
    tensors: tuple[TensorComparison, ...]
    notes: tuple[str, ...] = ()
    described: tuple[str, ...] = ()
    names: Mapping[str, str] = field(default_factory=dict)

    @property
    def equal(self) -> bool:
        """Whether every tensor is equal in every bit."""
        return all(tensor.equal for tensor in self.tensors)

    @property
    def verdict(self) -> Verdict:
        """EQUAL where every difference is one that float32 sums in another order may make, or a sign of zero."""
        return Verdict.of(not self.suspects())

    def suspects(self) -> list[TensorComparison]:
        """Tensors that differ by more than float32 sums in another order explain (``TensorComparison.suspect``)."""
        return [tensor for tensor in self.tensors if tensor.suspect]

    def details(self, tensor: TensorComparison) -> list[str]:
        """Further lines on a suspect; the last is its cause, or that there is none known."""
        return [*tensor.details(), *(() if tensor.causes else ("unexplained",))]

    def __str__(self) -> str:
        suspects = self.suspects()
        equal = sum(tensor.equal for tensor in self.tensors)
        signs = sum(not (tensor.equal or tensor.differing or tensor.suspect) for tensor in self.tensors)
        lines = [
            f"{self.source}: {self.model}, semantics {self.semantics}, loss scale {self.loss_scale:g}",
            f"{len(self.tensors)} tensors, each from the file's inputs: {equal} equal, "
            f"{f'{signs} equal but for signs of zeros, ' if signs else ''}"
            f"{len(self.tensors) - equal - signs - len(suspects)} as float32 sums in another order may give, "
            f"{len(suspects)} otherwise",
        ]
        products = [tensor for tensor in self.tensors if tensor.name in self.described]
        if products:
            same = sum(tensor.equal for tensor in products)
            lines.append(f"{len(products)} of them are sums in a described order: {same} equal")
        for tensor in suspects[:10]:
            lines += [f"  {tensor}", *(f"    {line}" for line in self.details(tensor))]
        if len(suspects) > 10:
            lines.append(f"  and {len(suspects) - 10} more")
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])

    def to_dict(self) -> Record:
        """The fields, for JSON."""
        return {
            "source": self.source,
            "model": self.model,
            "semantics": self.semantics,
            "loss_scale": self.loss_scale,
            "labels": self.labels.tolist(),
            "verdict": self.verdict.name.lower(),
            "equal": self.equal,
            "suspects": [tensor.name for tensor in self.suspects()],
            "names": dict(self.names),
            "notes": list(self.notes),
            "described": list(self.described),
            "tensors": [tensor.to_dict() for tensor in self.tensors],
        }


@in_default_environment
def teacher_forced(
    trace_file: str | Path | TensorFile,
    model: Module,
    plan: Plan | None,
    semantics: str | Semantics = "lee2023",
    *,
    labels: Array | None = None,
    loss_scale: float | None = None,
    update: UpdateRule | None = None,
    loss: Loss | str | None = None,
    accumulator: Choice = Accumulator(),
    described: Accumulators = Accumulators(),
    backend: str = DEFAULT_BACKEND,
    threads: int | None = None,
) -> TeacherReport:
    """Checks a recorded step op by op: mpsim computes each output and gradient from the file's stored inputs.

    Args:
        trace_file: The step, safetensors or npz (docs/step_files.md). Gradients are still multiplied by the loss scale.
        model: The same network. Its numbers play no part and do not change.
        plan: The formats, None if nothing was rounded.
        labels, loss_scale: None reads them from the file, or infers them from the gradient of the log-probabilities.
        update: How the optimizer computed ``next_master``. None reads it from the file's index, if it is there.
        loss: The loss. None reads it from the file's index, or else is the cross-entropy.
        accumulator: How mpsim sums products.
        described: How the other program sums some of them (``mpsim.products.passes.entries_of``), bit by bit.

    Raises:
        TensorFileError: The file is broken, lacks tensors, or is of another network.
        ValueError: The plan does not fit.
        OSError: The file cannot be read.

    >>> import mpsim, numpy as np, reference_models
    >>> model = reference_models.build("small_cnn", width=0.25)
    >>> trainer = mpsim.Trainer(model, backend="reference")
    >>> step = mpsim.validate.record_step(trainer, np.zeros((2, 1, 8, 8), np.float32), np.zeros(2, np.int64))
    >>> teacher_forced(TensorFile(step.tensors, step.index), model, None, "standard", backend="reference").equal
    True
    """
    file = trace_file if isinstance(trace_file, TensorFile) else read_step(trace_file)
    semantics = as_semantics(semantics)
    criterion = loss_of(file.index.get("loss", "cross_entropy") if loss is None else loss)
    check_layers(described, traced := _traced(file, model, plan, criterion))
    kernels = backends.bind(backend, threads := checks.threads(threads), described.over(accumulator).simplest)
    rules = StepRules.of(UpdateRule.of_index(file.index) if update is None else update, model, traced)
    teacher = Teacher(file, traced, plan, semantics, kernels, rules.frozen)
    labels = labels_of(file, traced, criterion, labels, teacher.notes)
    scale = loss_scale_of(file, traced, loss_scale, labels, teacher.notes)
    inputs = _Inputs.of(file.index, labels, criterion, scale)
    _step(model, traced, teacher, kernels, semantics, inputs)
    teacher.refuse_problems()
    bounds = Bounds(teacher)
    if not all(pair.comparison.equal for pair in teacher.pairs.values()):
        plain = bound_kernels(backends.bind(DEFAULT_BACKEND, threads), described)
        _step(model, traced, bounds, plain, semantics, inputs)
    tensors = teacher.report(bounds.found)
    tensors += check_update(file, traced, plan, rules, scale, teacher.notes)
    notes = (*teacher.notes, *_module_notes(file.index.get("module_differs", ())))
    names = tuple(filter({tensor.name for tensor in tensors}.__contains__, _described_tensors(traced, described)))
    return TeacherReport(file.source, repr(traced), semantics.name, scale, labels, tensors, notes, names)


def _module_notes(names: Sequence[object]) -> list[str]:
    """What a recorder of modules says in the index: logits and gradients of which the whole module gave other bits."""
    if not names:
        return []
    shown = f"{', '.join(map(str, names[:3]))}{f' and {len(names) - 3} more' if len(names) > 3 else ''}"
    return [f"the module as a whole gave other bits than its functions one by one, which are checked here: {shown}"]


def _described_tensors(traced: Trace, described: Accumulators) -> Iterator[str]:
    """The names of tensors that sums of a described order make; of a finished gradient, that alone."""
    for op in traced.ops:
        says = described.says(op.name)
        passes = says if may_multiply(op.kind) else set()
        if "sums" in says and sums_of(op.kind) == "bias":
            yield f"GP/{op.index}/1"
        if "sums" in says and sums_of(op.kind) == "output":
            yield f"Y/{op.index}/0"
        producer = op.producers[0]
        if "forward" in passes:
            yield f"Y/{op.index}/0"
        if "weight_gradient" in passes:
            yield f"GP/{op.index}/0"
        if "input_gradient" in passes and producer > 0:
            yield f"GX/{op.index}/0"
            if traced.ops[producer].consumers == (op.index,):
                yield f"G/{producer}/0"


class _Inputs(NamedTuple):
    """What both passes read besides the file's tensors. ``loss_scale``: what multiplies the derivative of the loss;
    ``seed``, ``step``: on which dropout depends."""

    labels: Array
    loss: Loss
    loss_scale: float
    seed: int
    step: int

    @classmethod
    def of(cls, index: Mapping[str, Any], labels: Array, criterion: Loss, scale: float) -> _Inputs:
        """Those of a step, or of the micro-batch that the index says. ``scale``: that of the step."""
        place = micro_batch_of(index) or MicroBatch.whole(criterion, labels)
        weight = criterion.weight(labels)
        if len(labels) > place.examples or weight > place.weight * (1 + 1e-6):
            raise UsageError(
                f"'micro_batch' of the index: of a batch of {place.examples} examples of weight {place.weight:g}, this "
                f"part has {len(labels)} of weight {weight:g}"
            )
        loss, share = place.loss_of(criterion, labels)
        return cls(labels, loss, scale * share, index.get("seed", 0), place.draws_as(index.get("step", 0)))


def _step(
    model: Module, traced: Trace, store: Teacher | Bounds, kernels: Kernels, semantics: Semantics, inputs: _Inputs
) -> None:
    """Both passes of a copy of the model through a store that replaces every tensor."""
    model = copy.deepcopy(model)
    model.move(kernels)
    tape = Tape(
        kernels, store, store_each_contribution=semantics.store_each_contribution, on_contribution=store.contribution,
        seed=inputs.seed, step=inputs.step,
    )  # fmt: skip
    with stored_parameters(model, traced.parameter_ids, lambda id, master: store.parameter(id, master.shape)):
        both_passes(model, store.images(), inputs.labels, tape, inputs.loss, inputs.loss_scale)


def check_images(file: TensorFile, model: Module, given: TensorFile | None = None) -> str:
    """The name of the tensor with which a replay begins: the stored images, or tokens, which are not stored.

    TensorFileError where the file does not have it. ``given``: the file without what was added to it, for the message.
    """
    name, what = ("Y/0/0", "the stored images") if model.vocabulary is None else ("images", "the tokens")
    if name not in file.tensors:
        known = ", ".join(list((given or file).tensors)[:4]) or "nothing"
        raise TensorFileError(f"{file.source}: no tensor {name}, {what} (docs/step_files.md); it has {known}")
    return name


def _traced(file: TensorFile, model: Module, plan: Plan | None, loss: Loss) -> Trace:
    """The trace of the model at the file's batch, after checking that plan and file were made for it."""
    name = check_images(file, model)
    shape = file.tensors[name].shape
    wanted = tuple(getattr(model, "input_shape", shape[1:]))
    if len(shape) < 2 or shape[1:] != wanted or (model.vocabulary is None and len(shape) not in (2, 4)):
        what = "the stored images" if model.vocabulary is None else "the tokens"
        raise TensorFileError(
            f"{file.source}: {name}, {what}, has shape {shape}; {type(model).__name__} takes (N, "
            f"{', '.join(map(str, wanted))}): the file was made from another network"
        )
    _check_tokens(file, model)
    semantics = "standard" if plan is None else plan.network.semantics
    traced = trace(model, shape[0], semantics, shape[1:], loss)
    if plan is not None:
        planned = plan.network.batch
        if file.index.get("micro_batch") is None and planned != shape[0]:
            raise UsageError(f"the plan is for a batch of {planned}, {file.source} has {shape[0]} examples")
        plan.check(traced if planned == shape[0] else trace(model, planned, semantics, shape[1:], loss))
    numbers = [int(name.split("/")[1]) for name in in_order_of_computation(file.tensors) if name.startswith("Y/")]
    if max(numbers) >= len(traced.ops):
        raise TensorFileError(
            f"{file.source} has outputs of {max(numbers) + 1} ops, {traced!r} has {len(traced.ops)}: "
            f"it was made from another network"
        )
    return traced


def _check_tokens(file: TensorFile, model: Module) -> None:
    """TensorFileError where a model that reads tokens would be given something else."""
    if model.vocabulary is not None:
        tokens = file.tensors["images"]
        if tokens.dtype.kind not in "iu" or tokens.size == 0 or tokens.min() < 0 or tokens.max() >= model.vocabulary:
            what = f"integers in 0..{model.vocabulary - 1}"
            raise TensorFileError(f"{file.source}: images, the tokens of {type(model).__name__}, must be {what}")
