"""Defines Trainer, which trains under a precision plan (paper §4.1, docs/semantics.md §5) with reproducible bits."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import numpy as np

from mpsim import checks, ops
from mpsim import kernels as backends
from mpsim.assignment import Plan, promote
from mpsim.engine.tape import Tape
from mpsim.engine.tensor import Array, Parameter, Tensor, TensorId
from mpsim.errors import UsageError
from mpsim.files.whole import write_whole
from mpsim.kernels import DEFAULT_BACKEND
from mpsim.losses import CrossEntropy, Loss, loss_of
from mpsim.nn import Module
from mpsim.process import in_default_environment
from mpsim.products.passes import Choice, as_accumulators
from mpsim.training import batches, saving
from mpsim.training.loss_scale import LossScaleState
from mpsim.training.passes import accumulated_passes, stored_parameters
from mpsim.training.recipe import Recipe
from mpsim.training.reports import EpochReport, Evaluation, StepReport, correct, mean_loss
from mpsim.training.semantics import Semantics, as_semantics
from mpsim.training.store import Identity, Observer, Rounder, Store
from mpsim.training.updating import Updater

#: Added to the stream of a tensor's random bits in evaluation, so that these differ from all training steps' bits.
_EVALUATION_STREAMS = 1 << 31


class Trainer:
    """Trains a network in place under a plan.

    Args:
        model: The network.
        plan: The format of each tensor. None trains in float32 without rounding.
        recipe: The settings of training.
        backend: The backend. It does not change any bit.
        threads: The number of threads, None for all cores. It does not change any bit.
        settings: Fields of ``Recipe``, which override those of ``recipe``.

    Attributes:
        plan: The plan with all promotions so far.
        epoch: The number of finished epochs.
        steps: The number of steps so far.
        updates: The number of steps so far that were not skipped.
        states: The optimizer's arrays by state and parameter, e.g. ``states["velocity"]["conv1.weight"]``.
        averages: The averages of the parameters, if the recipe has ``ema``.

    Raises:
        UsageError, UsageTypeError: An argument is invalid, such as a plan for another network or semantics.
        BackendUnavailable: The backend cannot run.

    >>> import reference_models
    >>> from mpsim.assignment import demote
    >>> from mpsim.trace import trace
    >>> model = reference_models.build("small_cnn", width=0.25)
    >>> trainer = Trainer(model, demote(trace(model, batch=16), 0.7), backend="reference", threads=1)
    >>> images, labels = np.zeros((16, *model.input_shape), np.float32), np.zeros(16, np.int64)
    >>> trainer.step(images, labels).skipped
    False
    """

    @in_default_environment
    def __init__(
        self,
        model: Module,
        plan: Plan | None = None,
        recipe: Recipe = Recipe(),
        *,
        backend: str = DEFAULT_BACKEND,
        threads: int | None = None,
        **settings: object,
    ) -> None:
        checks.instance("model", model, Module, "a network (mpsim.nn.Module), e.g. from reference_models.build")
        checks.instance("plan", plan, Plan | None, "a Plan or None; Plan.from_json reads the text of a plan's file")
        checks.instance("recipe", recipe, Recipe, "a Recipe")
        frozen = [name for name, parameter in model.parameters().items() if not parameter.trained]
        self.model, self.plan, self.backend = model, plan, backend
        self.recipe = recipe.with_(settings).freezing(frozen)
        self._ids = self.recipe.parameter_ids(model, plan)
        self.loss_scale: LossScaleState = self.recipe.scaling(plan).state()
        self.kernels = backends.bind(backend, threads, self.accumulator)
        model.move(self.kernels)
        self._parameters: dict[str, Parameter] = model.parameters()
        order = dict.fromkeys([*self._ids, *self._parameters])  # first those that a step reads, in its order
        self._updater = Updater(self.recipe, {name: self._parameters[name] for name in order}, self.kernels)
        self.epoch = self.steps = 0

    @property
    def states(self) -> dict[str, dict[str, Array]]:
        """The optimizer's arrays by state and parameter, on the backend."""
        return self._updater.states

    @property
    def averages(self) -> dict[str, Array]:
        """The averages of the trained parameters by name, on the backend. It is empty without ``ema``."""
        return self._updater.averages

    @property
    def compensation(self) -> dict[str, Array]:
        """What Kahan's rule keeps of stored masters by name, on the backend. It is empty without that storage."""
        return self._updater.compensation

    @property
    def updates(self) -> int:
        """The number of steps so far that were not skipped."""
        return self._updater.count

    @property
    def semantics(self) -> Semantics:
        """The recipe's semantics."""
        return as_semantics(self.recipe.semantics)

    @property
    def loss(self) -> Loss:
        """The recipe's loss."""
        return loss_of(self.recipe.loss)

    @property
    def accumulator(self) -> Choice:
        """The recipe's accumulator."""
        return as_accumulators(self.recipe.accumulator)

    def _store(self, *, step: int, first_stream: int = 0) -> Store:
        if self.plan is None:
            return Identity(self.kernels)
        policies, seed = self.recipe.policies, self.recipe.seed
        return Rounder(self.plan.formats, self.kernels, policies, seed=seed, step=step, first_stream=first_stream)

    # -- training -------------------------------------------------------------------------------------------
    @in_default_environment
    def step(self, images: np.ndarray, labels: np.ndarray, observer: Observer | None = None) -> StepReport:
        """Runs one step on a batch of float32 images (N, C, H, W) and integer labels (N,) in 0..classes-1.

        A network with a ``vocabulary`` reads tokens instead, integers (N, T), with labels (N,) or (N, T).
        ``observer`` sees every stored tensor (mpsim.validate.record_step), gradients of frozen parameters included,
        and changes no result. Raises TypeError for wrong types, and ValueError for wrong shapes or labels, before
        anything changes. Raises DeviceMemoryError, with the batch that would fit, where a device has too little memory;
        running statistics may have been updated then.
        """
        images, labels = batches.checked(self.model, images, labels, self.loss)
        store, kernels = self._store(step=self.steps), self.kernels
        store = store if observer is None else observer.watch(store)
        tape = partial(
            Tape, kernels, store, store_each_contribution=self.semantics.store_each_contribution,
            on_contribution=None if observer is None else observer.contribution,
            seed=self.recipe.seed, frozen=() if observer else self._updater.frozen,
        )  # fmt: skip
        scale, share = self.loss_scale.scale, self.low_share
        before = self.model.statistics() if self.recipe.skipped_statistics == "kept" else {}
        try:
            with stored_parameters(self.model, self._ids, store):
                loss, logits, found = accumulated_passes(
                    self.model, images, labels, tape, self.loss, scale, parts=self.recipe.micro_batches,
                    add=partial(self._updater.add, step=self.steps), step=self.steps, observer=observer,
                )  # fmt: skip
        except backends.DeviceMemoryError as error:
            raise batches.with_advice(error, self.model, len(images), self._updater.held_bytes(self.model)) from error
        gradients, norm = self._updater.trained(found), None
        if finite := kernels.all_finite(*gradients.values()):
            norm = self._updater(gradients, self.learning_rate, scale, self.steps)
        elif before:
            self.model.load_state(before, strict=False)
        self.loss_scale = self.loss_scale.after_step(overflowed=not finite)
        self.steps += 1
        overflow = store.overflow()
        promoted: tuple[TensorId, ...] = ()
        if self.plan is not None and self.recipe.promotion is not None:
            self.plan, promoted = promote(self.plan, overflow, self.recipe.promotion)
        return StepReport(
            loss=loss,
            logits=logits,
            overflow=overflow,
            underflow=store.underflow(),
            promoted=promoted,
            loss_scale=scale,
            skipped=not finite,
            low_share=share,
            gradient_norm=norm,
        )

    @property
    def learning_rate(self) -> float:
        """The learning rate of the next step, in float64."""
        return self.recipe.optimizer.learning_rate(self.epoch, self.steps)

    @in_default_environment
    def train_epoch(self, data: Iterable[tuple[np.ndarray, np.ndarray]]) -> EpochReport:
        """Runs a step on each batch (images, labels) of ``data``, and advances to the next epoch's learning rate."""
        steps, sizes, right, rate = [], [], 0, self.learning_rate
        for images, labels in data:
            report = self.step(images, labels)
            steps.append(report)
            found, counted = correct(report.logits, np.asarray(labels), self.loss.counted(np.asarray(labels)))
            right += found
            sizes.append(counted)
        if not steps:
            raise UsageError("an epoch needs at least one batch, got none")
        self.epoch += 1
        return EpochReport(
            epoch=self.epoch - 1,
            steps=len(steps),
            loss=mean_loss([report.loss for report in steps], sizes),
            accuracy=right / max(1, sum(sizes)),
            low_share=math.fsum(report.low_share for report in steps) / len(steps),
            low_share_after=self.low_share,
            promotions=sum(len(report.promoted) for report in steps),
            skipped_steps=sum(report.skipped for report in steps),
            loss_scale=self.loss_scale.scale,
            learning_rate=rate,
        )

    @property
    def low_share(self) -> float:
        """The share of a step's elements in low formats under the current plan, 0 without a plan."""
        return 0.0 if self.plan is None else self.plan.low_share

    # -- evaluation -----------------------------------------------------------------------------------------
    @in_default_environment
    def evaluate(
        self, data: batches.Data, precision: str = "plan", *, batch: int = 256, weights: str = "trained"
    ) -> Evaluation:
        """Computes accuracy and loss on a Dataset, a pair (images, labels) or an iterable of such batches.

        precision="plan" rounds as in training (activations, and in standard semantics parameters). "float32" uses the
        masters and rounds nothing. Losses other than the plain cross-entropy are those of the rounded logits, computed
        without rounding. Their mean is over the batches, weighted by the labels. weights="average" takes the
        averages of the parameters (``ema``) as masters. Raises ValueError for another precision, for averages that
        there are not, or for invalid data.
        """
        checks.named("precision", precision, ("plan", "float32"))
        if checks.named("weights", weights, ("trained", "average")) == "average" and not self.averages:
            raise UsageError("weights='average' needs a recipe with ema, such as ema=0.999", "weights")
        checks.batch("batch", batch)
        rounds = precision == "plan" and self.plan is not None
        right, images_seen, labels_seen, total = 0, 0, 0, 0.0
        ids = self._ids if rounds and self.semantics.evaluation_rounds_parameters else {}
        averages = self.averages if weights == "average" else {}
        with stored_parameters(self.model, ids, self._evaluation_store(rounds, 0), averages):
            for number, (images, labels) in enumerate(batches.of(data, batch)):
                images, labels = batches.checked(self.model, images, labels, self.loss)
                tape = Tape(self.kernels, self._evaluation_store(rounds, number), training=False)
                logits = self.model(tape.input(images))
                found, counted = correct(self.kernels.to_numpy(logits.value), labels, self.loss.counted(labels))
                total += self._evaluated_loss(logits, labels, counted)
                right, images_seen, labels_seen = right + found, images_seen + len(labels), labels_seen + counted
        if images_seen == 0:
            raise UsageError("evaluation needs at least one batch, got none")
        return Evaluation(right / max(1, labels_seen), total / labels_seen if labels_seen else math.nan, images_seen)

    def _evaluated_loss(self, logits: Tensor, labels: np.ndarray, counted: int) -> float:
        """Returns the sum of the losses of a batch."""
        if self.loss == CrossEntropy() and labels.dtype.kind == "i":
            logs = self.kernels.to_numpy(ops.log_softmax(ops.reshape(logits, (labels.size, -1))).value)
            return -float(logs[np.arange(labels.size), labels.reshape(-1)].astype(np.float64).sum())
        plain = Tape(self.kernels, Identity(self.kernels), training=False)
        loss = self.loss(plain.input(np.asarray(self.kernels.to_numpy(logits.value))), labels)
        return counted * float(self.kernels.to_numpy(loss.value).reshape(())) if counted else 0.0

    def _evaluation_store(self, rounds: bool, batch: int) -> Store:
        """Returns the store of one batch. The first one also rounds the parameters."""
        if not rounds or self.plan is None:
            return Identity(self.kernels)
        return self._store(step=self.steps, first_stream=_EVALUATION_STREAMS + batch * len(self.plan.formats))

    # -- state ----------------------------------------------------------------------------------------------
    def digest(self) -> str:
        """Computes the SHA-256 (hex) over the little-endian bytes of the float32 masters, parameters in order.

        It is equal on every backend and for any number of threads. Raises ValueError with accumulator kind "blas",
        which promises no bits.
        """
        if not self.accumulator.promises_bits:
            raise UsageError(
                "accumulator kind 'blas' promises no bits, so there is no digest; train with Accumulator() to get one"
            )
        sha = hashlib.sha256()
        for parameter in self._parameters.values():
            sha.update(self.kernels.to_numpy(parameter.master).astype("<f4", copy=False).tobytes())
        return sha.hexdigest()

    def is_finite(self) -> bool:
        """Returns whether all masters and running statistics are finite."""
        statistics = [array for array in self.model.buffers().values() if array.dtype.kind == "f"]
        return bool(self.kernels.all_finite(*(p.master for p in self._parameters.values()), *statistics))

    def save(self, path: str | Path) -> None:
        """Writes the whole state to a file atomically. On failure it raises OSError and keeps an existing file."""
        write_whole(path, self.dump())

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        model: Module | None = None,
        backend: str | None = None,
        threads: int | None = None,
        loss: Loss | None = None,
    ) -> Trainer:
        """Restores a saved trainer, which continues with exactly the same bits.

        ``model``: an instance of the same network, whose numbers are replaced. It is needed if the network is not in
        reference_models. The file's recipe says which parameters are frozen; ``model`` does not. ``loss``: one's own,
        which the file does not have. ``backend``: default the saved one. Raises CheckpointError for a file that is
        broken, is not a checkpoint, or belongs to another network, and OSError if it cannot be read.
        """
        content = Path(path).read_bytes()
        return cls.restore(content, str(path), model=model, backend=backend, threads=threads, loss=loss)

    @in_default_environment
    def dump(self) -> bytes:
        """Returns the whole state as the bytes of a checkpoint."""
        return saving.dump(saving.State(
            self.model, self.model.state(), self._updater.to_numpy(), self.plan, self.recipe, self.backend, self.epoch,
            self.steps, self.updates, self.loss_scale,
        ))  # fmt: skip

    @classmethod
    @in_default_environment
    def restore(
        cls,
        content: bytes,
        source: str,
        *,
        model: Module | None,
        backend: str | None,
        threads: int | None,
        loss: Loss | None = None,
    ) -> Trainer:
        """Restores a trainer from a checkpoint's bytes, like ``load``. ``source`` names the bytes in errors."""
        state = saving.read(content, source, model, loss)
        with saving.fitting(source):
            backend = state.backend if backend is None else backend
            trainer = cls(state.model, state.plan, state.recipe, backend=backend, threads=threads)
            state.model.load_state(state.arrays)
            trainer._updater.restore(state.state_of, state.updates)
        trainer.epoch, trainer.steps, trainer.loss_scale = state.epoch, state.steps, state.loss_scale
        return trainer
