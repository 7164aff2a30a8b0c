"""Records a training step of a module of PyTorch, for ``mpsim validate step``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from mpsim import checks, losses
from mpsim.assignment import Plan
from mpsim.engine.tensor import TensorId
from mpsim.errors import UsageError, UsageTypeError
from mpsim.interchange import as_array
from mpsim.interchange.pytorch import TorchModule, TorchOptimizer, TorchTensor
from mpsim.kernels.contract import Array
from mpsim.nn import ImportedNetwork, from_torch
from mpsim.nn.pytorch import is_torch
from mpsim.plugins import require
from mpsim.products import passes
from mpsim.products.accumulators import Accumulator
from mpsim.recording.steps import StepRecord, index_of, tensor_name
from mpsim.recording.torch_graph import Graph, planned, without_hooks
from mpsim.recording.torch_updates import rule_of, states_of
from mpsim.recording.updates import UpdateRule
from mpsim.trace import trace

#: Converts a tensor to a format, given by its name, and back to float32.
Cast = Callable[[Any, str], Any]


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
    torch = require("torch", "record")
    if not is_torch(module):
        raise UsageTypeError(f"record: module must be a torch.nn.Module, got {type(module).__name__}")
    loss_scale = checks.real("loss_scale", loss_scale, least=2.0**-126, most=checks.FLOAT32_LARGEST)
    images, labels = _batch(torch, batch)
    with without_hooks(module):
        network = from_torch(module, images)
    recorder = _Recorder(torch, module, network, len(images), plan, cast)
    with _in_training(module):
        whole = _whole(torch, module, images, labels, loss_scale) if plan is None else {}
        recorder.take(images, labels, loss_scale, optimizer)
    step = recorder.step(loss_scale, whole)
    if path is not None:
        step.write(path)
    return step


@contextmanager
def _in_training(module: TorchModule) -> Iterator[None]:
    """Sets the module and its parts to training, and back to their modes. Frozen parameters get gradients inside."""
    modes = [(part, part.training) for part in module.modules()]
    frozen = [parameter for _, parameter in module.named_parameters() if not parameter.requires_grad]
    try:
        module.train()
        for parameter in frozen:
            parameter.requires_grad = True
        yield
    finally:
        for parameter in frozen:
            parameter.requires_grad = False
            parameter.grad = None
        for part, mode in modes:
            part.training = mode


class _Recorder:
    """Takes the step, and keeps what it stores by name: ``tensors``. ``found``: logits and gradients, unrounded."""

    def __init__(
        self,
        torch: ModuleType,
        module: TorchModule,
        network: ImportedNetwork,
        batch: int,
        plan: Plan | None,
        cast: Cast | None,
    ) -> None:
        self._torch, self._network, self._plan = torch, network, plan
        self._plans, self._traced = planned(network, batch), trace(network, batch)
        if plan is not None:
            if plan.network.semantics != "standard":
                raise UsageError(f"record: plan must have the semantics standard, got {plan.network.semantics}", "plan")
            plan.check(self._traced)
        self._cast = cast or self._converted
        self._graph = Graph(torch, module, network, self._plans)
        self._parameters = dict(module.named_parameters(remove_duplicate=False))
        self._frozen = [name for name, parameter in network.parameters().items() if not parameter.trained]
        self.tensors: dict[str, Array] = {}
        self.found: dict[str, Array] = {}
        self._rule: UpdateRule | None = None

    def take(
        self, images: TorchTensor, labels: TorchTensor, loss_scale: float, optimizer: TorchOptimizer | None
    ) -> None:
        """Both passes, and the update if there is an optimizer."""
        ids = self._traced.parameter_ids
        self.tensors |= {"images": _host(images), "labels": _host(labels)}
        masters = {name: self._parameters[name].detach().clone() for name in ids}
        for name, id in ids.items():
            self._parameters[name].grad = None
            self._parameters[name].data.copy_(self._rounded(id, masters[name]))
            self.tensors[tensor_name(id)] = _host(self._parameters[name])
        if self._network.vocabulary is None:
            images = images.clone()
            self._seen(0, images, lambda array: array)
        logits = self._graph.logits(images, self._seen)
        self.found["logits"] = _host(logits)
        (loss_scale * self._loss(logits, labels)).backward()
        for name, id in ids.items():
            parameter = self._parameters[name]
            gradient = self._torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            self.found[f"gradient of {name}"] = _host(gradient)
            gradient = self._rounded(id._replace(role="parameter_gradient"), gradient)
            self.tensors[f"GP/{id.op}/{id.index}"] = _host(gradient)
            parameter.grad = None if parameter.grad is None or name in self._frozen else gradient
            parameter.data.copy_(masters[name])
        if optimizer is not None:
            self._update(optimizer, loss_scale)

    def _seen(self, op: int, tensor: TorchTensor, to_op: Callable[[Array], Array]) -> None:
        """Keeps an op's output, and its gradient when autograd has added it up. Both are rounded in place."""
        data = tensor.data
        stored = self._rounded(TensorId(op, "activation"), data)
        if stored is not data and not tensor._is_view():
            data.copy_(stored)
        elif stored is not data and not self._torch.equal(stored, data):
            raise UsageError(f"record: {self._traced.ops[op].name} views memory that has another format in the plan")
        self.tensors[f"Y/{op}/0"] = to_op(_host(tensor))

        def finished(gradient: TorchTensor) -> TorchTensor:
            gradient = self._rounded(TensorId(op, "activation_gradient"), gradient)
            self.tensors[f"G/{op}/0"] = to_op(_host(gradient))
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

    def _update(self, optimizer: TorchOptimizer, loss_scale: float) -> None:
        held = {parameter for group in optimizer.param_groups for parameter in group["params"]}
        left = [name for name in self._traced.parameter_ids if self._parameters[name] not in held]
        self._rule = rule_of(self._torch, optimizer, dict.fromkeys([*self._frozen, *left]))
        for name, id in self._traced.parameter_ids.items():
            parameter, place = self._parameters[name], f"{id.op}/{id.index}"
            self.tensors[f"master/{place}"] = _host(parameter)
            if self._rule is not None:
                states = states_of(self._rule, optimizer, parameter)
                self.tensors |= {f"{state}/{place}": array for state, array in states.items()}
            if parameter.grad is not None:
                parameter.grad = parameter.grad / loss_scale
        optimizer.step()
        for name, id in self._traced.parameter_ids.items():
            self.tensors[f"next_master/{id.op}/{id.index}"] = _host(self._parameters[name])

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
        differs = [name for name, array in whole.items() if not _same_bits(array, self.found[name])]
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
        }
        return index_of(self._network, self._traced, self._network.input_shape, described, self._plan, settings)


def _batch(torch: ModuleType, batch: object) -> tuple[TorchTensor, TorchTensor]:
    """Images or tokens, and labels, as tensors of PyTorch."""
    if not isinstance(batch, tuple | list) or len(batch) != 2:
        raise UsageTypeError(f"record: batch must be a pair (images, labels), got {type(batch).__name__}")
    images, labels = (as_array(each) for each in batch)
    if labels.dtype.kind not in "iu" or not labels.size or images.shape[:1] != labels.shape[:1]:
        raise UsageError(
            f"record: labels must be integers, as many as there are images, got {labels.dtype} {labels.shape} for "
            f"images {images.shape}"
        )
    kind = np.float32 if images.dtype.kind == "f" else np.int64
    return torch.from_numpy(np.array(images, kind)), torch.from_numpy(np.array(labels, np.int64))


def _whole(
    torch: ModuleType, module: TorchModule, images: TorchTensor, labels: TorchTensor, loss_scale: float
) -> dict[str, Array]:
    """Logits and gradients of the module called as a whole. Its buffers and gradients are as before afterwards."""
    buffers = {name: buffer.clone() for name, buffer in module.named_buffers()}
    module.zero_grad(set_to_none=True)
    logits = module(images)
    rows = logits.reshape(-1, logits.shape[-1])
    (loss_scale * torch.nn.functional.cross_entropy(rows, labels.reshape(-1))).backward()
    found = {"logits": _host(logits)}
    for name, parameter in module.named_parameters():
        if parameter.grad is not None:
            found[f"gradient of {name}"] = _host(parameter.grad)
    module.zero_grad(set_to_none=True)
    for name, buffer in module.named_buffers():
        buffer.copy_(buffers[name])
    return found


def _host(tensor: TorchTensor) -> Array:
    """A copy as an array."""
    return np.array(as_array(tensor))


def _same_bits(a: Array, b: Array) -> bool:
    return a.shape == b.shape and a.tobytes() == b.tobytes()
