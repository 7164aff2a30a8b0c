"""Records a training step of a module of PyTorch, for ``mpsim validate step``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from mpsim import checks, losses
from mpsim.assignment import Plan
from mpsim.engine.tensor import TensorId
from mpsim.errors import UsageError, UsageTypeError
from mpsim.interchange.pytorch import TorchModule, TorchOptimizer, TorchTensor
from mpsim.kernels.contract import Array
from mpsim.nn import ImportedNetwork, from_torch
from mpsim.nn.pytorch import is_torch
from mpsim.plugins import require
from mpsim.process import in_default_environment
from mpsim.products import passes
from mpsim.products.accumulators import Accumulator
from mpsim.recording.recorder import tensor_name
from mpsim.recording.steps import StepRecord, index_of
from mpsim.recording.torch_graph import Graph, planned, without_hooks
from mpsim.recording.torch_modules import batch_of, gradients_of, host, in_training, same_bits
from mpsim.recording.torch_updates import rule_of, states_of
from mpsim.recording.updates import UpdateRule
from mpsim.trace import trace
from mpsim.training.batches import MicroBatch
from mpsim.training.recipe import MOST_PARTS

#: Converts a tensor to a format, given by its name, and back to float32.
Cast = Callable[[Any, str], Any]


@in_default_environment
def record(
    module: object,
    batch: tuple[object, object],
    path: str | Path | None = None,
    *,
    plan: Plan | None = None,
    cast: Cast | None = None,
    optimizer: Any = None,
    loss_scale: float = 1.0,
) -> StepRecord:
    """Takes a training step of a module in PyTorch, with the cross-entropy as loss, and returns all that it computes.

    PyTorch runs the functions of the exported module one after the other. Parts without parts of their own, such as
    ``torch.nn.Linear``, are called themselves, with their hooks. Names and order are those of
    ``mpsim.nn.from_torch(module, images)``. Attention runs as its separate functions, because a fused kernel shows none
    of their results, and a function that copies along several axes runs axis by axis. The gradient of a parameter that
    the module does not use is 0. Without a plan, the module is run as a whole too. What differs then is in the index,
    under "module_differs", and is a note of the report.

    Args:
        module: A ``torch.nn.Module`` that ``from_torch`` imports. Its buffers change as in any step.
        batch: (images, labels), tensors or arrays: a batch and integers, one for each row of the logits.
        path: The file to write, .safetensors or .npz. None: no file.
        plan: A plan of the imported network. Each tensor that mpsim stores is then converted to its format in place.
        cast: cast(tensor, format) returns the tensor in this format as float32. The default is ``tensor.to``, for
            formats that PyTorch has.
        optimizer: A ``torch.optim.Optimizer`` of the parameters, which updates them. SGD (without dampening), Adam and
            AdamW with one setting for all can be checked. Parameters that it does not have are frozen in the index.
        loss_scale: Multiplies the loss. Gradients are divided by it before the update.

    Returns:
        The tensors by the names of docs/step_files.md, and the index.

    Raises:
        MissingExtra: PyTorch is not installed.
        UsageError: The module is not supported, draws random numbers (dropout), or a format is not one of PyTorch's.
        UsageTypeError: It is not a module, or the batch is not a pair.

    >>> from mpsim import plugins
    >>> if plugins.has_extra("torch"):
    ...     import torch
    ...     module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 3))
    ...     step = record(module, (torch.ones(2, 1, 2, 2), torch.tensor([0, 2])))
    ...     assert step.tensors["GP/1/0"].shape == (3, 4)
    """
    (step,) = record_micro_batches(module, batch, 1, plan=plan, cast=cast, optimizer=optimizer, loss_scale=loss_scale)
    if path is not None:
        step.write(path)
    return step


@in_default_environment
def record_micro_batches(
    module: object,
    batch: tuple[object, object],
    micro_batches: int,
    *,
    plan: Plan | None = None,
    cast: Cast | None = None,
    optimizer: Any = None,
    loss_scale: float = 1.0,
) -> tuple[StepRecord, ...]:
    """Takes a training step of a module in PyTorch whose batch is divided, and returns a record of each part.

    The batch is divided as ``torch.Tensor.tensor_split`` divides it. The mean loss of each part is multiplied by the
    part's share of the batch, and PyTorch adds up the gradients. They are ``next_sum`` of each record, and the last one
    has the update. Arguments and errors are those of ``record``.

    Args:
        micro_batches: The number of parts. A batch of fewer examples has as many parts as examples.

    Returns:
        The records in order, one for each part. ``StepRecord.write`` writes one.

    >>> from mpsim import plugins
    >>> if plugins.has_extra("torch"):
    ...     import torch
    ...     module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 3))
    ...     first, last = record_micro_batches(module, (torch.ones(4, 1, 2, 2), torch.tensor([0, 2, 1, 1])), 2)
    ...     assert (last.tensors["sum/1/0"] == first.tensors["next_sum/1/0"]).all()
    """
    torch = require("torch", "record")
    if not is_torch(module):
        raise UsageTypeError(f"record: module must be a torch.nn.Module, got {type(module).__name__}")
    loss_scale = checks.real("loss_scale", loss_scale, least=2.0**-126, most=checks.FLOAT32_LARGEST)
    checks.whole("micro_batches", micro_batches, least=1, most=MOST_PARTS)
    images, labels = batch_of(torch, batch)
    with without_hooks(module):
        network = from_torch(module, images)
    losses.checked_labels(losses.CrossEntropy(), host(labels), [tuple(labels.shape)], trace(network, 2).classes)
    count, place = min(micro_batches, len(images)), MicroBatch(0, micro_batches, len(images), float(len(images)))
    steps, sums = [], _Sums({}, set())
    with in_training(module):
        cuts = zip(torch.tensor_split(images, count), torch.tensor_split(labels, count), strict=True)
        for number, (some, answers) in enumerate(cuts):
            recorder = _Recorder(torch, module, network, len(some), plan, cast, place._replace(number=number))
            scale = loss_scale * (len(some) / len(images))
            whole = gradients_of(torch, module, some, answers, scale) if plan is None else {}
            recorder.take(some, answers, scale, sums)
            if number == count - 1:
                recorder.finish(optimizer, loss_scale, sums)
            steps.append(recorder.step(loss_scale, whole))
    return tuple(steps)


class _Sums(NamedTuple):
    """The sums of gradients over micro-batches by parameter, and the names of those that a micro-batch used."""

    totals: dict[str, TorchTensor]
    used: set[str]


class _Recorder:
    """Takes a step, or a part of it, and keeps what it stores by name: ``tensors``. ``found``: logits and gradients,
    unrounded."""

    def __init__(
        self,
        torch: ModuleType,
        module: TorchModule,
        network: ImportedNetwork,
        batch: int,
        plan: Plan | None,
        cast: Cast | None,
        place: MicroBatch,
    ) -> None:
        self._torch, self._network, self._plan, self._place = torch, network, plan, place
        self._plans, self._traced = planned(network, batch), trace(network, batch)
        if plan is not None:
            if plan.network.semantics != "standard":
                raise UsageError(f"record: plan must have the semantics standard, got {plan.network.semantics}", "plan")
            plan.check(self._traced if place.of == 1 else trace(network, plan.network.batch))
        self._cast = cast or self._converted
        self._graph = Graph(torch, module, network, self._plans)
        self._parameters = dict(module.named_parameters(remove_duplicate=False))
        self._frozen = [name for name, parameter in network.parameters().items() if not parameter.trained]
        self.tensors: dict[str, Array] = {}
        self.found: dict[str, Array] = {}
        self._rule: UpdateRule | None = None

    def take(self, images: TorchTensor, labels: TorchTensor, loss_scale: float, sums: _Sums) -> None:
        """Both passes. The gradients are added to ``sums``."""
        ids = self._traced.parameter_ids
        self.tensors |= {"images": host(images), "labels": host(labels)}
        masters = {name: self._parameters[name].detach().clone() for name in ids}
        for name, id in ids.items():
            self.tensors[f"master/{id.op}/{id.index}"] = host(masters[name])
            self._parameters[name].grad = None
            self._parameters[name].data.copy_(self._rounded(id, masters[name]))
            self.tensors[tensor_name(id)] = host(self._parameters[name])
        if self._network.vocabulary is None:
            images = images.clone()
            self._seen(0, images, lambda array: array)
        logits = self._graph.logits(images, self._seen)
        self.found["logits"] = host(logits)
        (loss_scale * self._loss(logits, labels)).backward()
        for name, id in ids.items():
            parameter, place = self._parameters[name], f"{id.op}/{id.index}"
            if parameter.grad is not None:
                sums.used.add(name)
            gradient = self._torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            self.found[f"gradient of {name}"] = host(gradient)
            gradient = self._rounded(id._replace(role="parameter_gradient"), gradient)
            self.tensors[f"GP/{place}"] = host(gradient)
            if name in sums.totals:
                self.tensors[f"sum/{place}"] = host(sums.totals[name])
                gradient = sums.totals[name] + gradient
            if self._place.of > 1:
                self.tensors[f"next_sum/{place}"] = host(gradient)
            sums.totals[name] = gradient
            parameter.data.copy_(masters[name])

    def _seen(self, op: int, tensor: TorchTensor, to_op: Callable[[Array], Array]) -> None:
        """Keeps an op's output, and its gradient when autograd has added it up. Both are rounded in place."""
        data = tensor.data
        stored = self._rounded(TensorId(op, "activation"), data)
        if stored is not data and not tensor._is_view():
            data.copy_(stored)
        elif stored is not data and not self._torch.equal(stored, data):
            raise UsageError(f"record: {self._traced.ops[op].name} views memory that has another format in the plan")
        self.tensors[f"Y/{op}/0"] = to_op(host(tensor))

        def finished(gradient: TorchTensor) -> TorchTensor:
            gradient = self._rounded(TensorId(op, "activation_gradient"), gradient)
            self.tensors[f"G/{op}/0"] = to_op(host(gradient))
            return gradient

        if tensor.requires_grad and op < len(self._traced.ops) - 1:
            tensor.register_hook(finished)

    def _loss(self, logits: TorchTensor, labels: TorchTensor) -> TorchTensor:
        """The mean cross-entropy, by its two functions."""
        last = len(self._traced.ops) - 1
        rows = logits.reshape(-1, logits.shape[-1])
        logarithms = self._torch.log_softmax(rows, 1)
        self._seen(last - 1, logarithms, lambda array: array)
        loss = self._torch.nn.functional.nll_loss(logarithms, labels.reshape(-1))
        self._seen(last, loss, lambda array: array.reshape(1))
        return loss

    def finish(self, optimizer: TorchOptimizer | None, loss_scale: float, sums: _Sums) -> None:
        """Sets the gradients of the parameters that are used and trained, and updates if there is an optimizer."""
        for name in self._traced.parameter_ids:
            trained = name in sums.used and name not in self._frozen
            self._parameters[name].grad = sums.totals[name] if trained else None
        if optimizer is not None:
            self._update(optimizer, loss_scale)

    def _update(self, optimizer: TorchOptimizer, loss_scale: float) -> None:
        held = {parameter for group in optimizer.param_groups for parameter in group["params"]}
        left = [name for name in self._traced.parameter_ids if self._parameters[name] not in held]
        self._rule = rule_of(self._torch, optimizer, dict.fromkeys([*self._frozen, *left]))
        for name, id in self._traced.parameter_ids.items():
            parameter, place = self._parameters[name], f"{id.op}/{id.index}"
            if self._rule is not None:
                states = states_of(self._rule, optimizer, parameter)
                self.tensors |= {f"{state}/{place}": array for state, array in states.items()}
            if parameter.grad is not None:
                parameter.grad = parameter.grad / loss_scale
        optimizer.step()
        for name, id in self._traced.parameter_ids.items():
            self.tensors[f"next_master/{id.op}/{id.index}"] = host(self._parameters[name])

    def _rounded(self, id: TensorId, tensor: TorchTensor) -> TorchTensor:
        return tensor if self._plan is None else self._cast(tensor, self._plan.formats[id].name)

    def _converted(self, tensor: TorchTensor, format: str) -> TorchTensor:
        """PyTorch's own conversion to a format and back."""
        dtype = getattr(self._torch, format, None)
        if not isinstance(dtype, self._torch.dtype):
            raise UsageError(f"record: PyTorch has no format {format}; pass cast=, which converts a tensor to it")
        return tensor.to(dtype).to(self._torch.float32)

    def step(self, loss_scale: float, whole: dict[str, Array]) -> StepRecord:
        """The recorded step. ``whole``: what the module gave as a whole."""
        differs = [name for name, array in whole.items() if not same_bits(array, self.found[name])]
        return StepRecord(self.tensors, self._index(loss_scale, differs))

    def _index(self, loss_scale: float, differs: Sequence[str]) -> dict[str, Any]:
        described: dict[str, dict[str, object]] = {name: {"shape": list(x.shape)} for name, x in self.tensors.items()}
        formats = {} if self._plan is None else {tensor_name(id): each for id, each in self._plan.formats.items()}
        for name in described:
            if name.split("/")[0] in ("P", "Y", "G", "GP"):
                described[name]["format"] = formats[name].name if formats else "float32"
        settings = {
            "semantics": "standard",
            "rounding": "nearest",
            "accumulator": passes.to_dict(Accumulator()),
            "loss": losses.described(losses.CrossEntropy()),
            **({} if self._rule is None else {"optimizer": self._rule.to_index()}),
            "seed": 0,
            "step": 0,
            "loss_scale": loss_scale,
            "skipped": False,
            "program": f"PyTorch {self._torch.__version__}",
            "module_differs": list(differs),
            **({"micro_batch": self._place._asdict()} if self._place.of > 1 else {}),
        }
        return index_of(self._network, self._traced, self._network.input_shape, described, self._plan, settings)
