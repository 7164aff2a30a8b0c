"""Micro-batches of a module of PyTorch: the records are those of the loop that people write, bit for bit."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

from mpsim.assignment import assign
from mpsim.errors import UsageError
from mpsim.files.tensors import TensorFile
from mpsim.nn import from_torch
from mpsim.recording.torch import record, record_micro_batches
from mpsim.trace import trace
from mpsim.validate import teacher_forced

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch")
nn, F = torch.nn, torch.nn.functional


class Unused(nn.Module):
    """A network with batch norm, a frozen parameter, and one that it does not use."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.linear = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Linear(144, 3)
        self.left = nn.Parameter(torch.ones(2))
        self.conv.bias.requires_grad_(False)

    def forward(self, x: Any) -> Any:
        return self.linear(torch.relu(self.norm(self.conv(x))).flatten(1))


def case() -> tuple[Any, Any, Any, Any]:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    module = Unused()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)
    return module, optimizer, torch.randn(8, 1, 8, 8), torch.tensor([0, 1, 2, 0, 1, 2, 2, 1])


@pytest.mark.parametrize("parts", [2, 3, 20])
def test_records_are_those_of_an_ordinary_loop(parts: int) -> None:
    module, optimizer, images, labels = case()
    plain, network = copy.deepcopy(module), from_torch(module, images)
    other = torch.optim.SGD(plain.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)
    for _ in range(2):  # the second step has a velocity
        steps = record_micro_batches(module, (images, labels), parts, optimizer=optimizer, loss_scale=4.0)
        other.zero_grad()
        cuts = list(zip(images.tensor_split(min(parts, 8)), labels.tensor_split(min(parts, 8)), strict=True))
        for number, (some, answers) in enumerate(cuts):
            (4.0 * len(some) / 8 * F.cross_entropy(plain(some), answers)).backward()
            ids = trace(network, len(some)).parameter_ids
            for name, parameter in plain.named_parameters():
                if parameter.grad is not None:
                    total = steps[number].tensors[f"next_sum/{ids[name].op}/{ids[name].index}"]
                    assert total.tobytes() == parameter.grad.numpy().tobytes(), name
        for parameter in plain.parameters():
            parameter.grad = None if parameter.grad is None else parameter.grad / 4
        other.step()
    assert len(steps) == len(cuts)
    for (name, ours), theirs in zip(module.state_dict().items(), plain.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs), name
    for number, step in enumerate(steps):
        report = teacher_forced(TensorFile(step.tensors, step.index, "theirs"), network, None, "standard", threads=1)
        assert not report.suspects() and f"micro-batch {number} (from 0) of {min(parts, 8)}" in str(report)
        sums = [tensor for tensor in report.tensors if tensor.name.startswith("next_sum/")]
        assert len(sums) == 6 and all(tensor.equal for tensor in sums)
    assert sum(tensor.name.startswith("next_master/") for tensor in report.tensors) == 6


def test_under_a_plan_of_the_whole_batch() -> None:
    module, _, images, labels = case()
    network = from_torch(module, images)
    plan = assign(trace(network, 8), "uniform_low", levels="bfloat16:float8_e4m3fn,float8_e5m2")
    steps = record_micro_batches(module, (images, labels), 2, plan=plan, loss_scale=1024.0)
    for step in steps:
        file = TensorFile(step.tensors, step.index, "theirs")
        assert not teacher_forced(file, network, plan, "standard", threads=1).suspects()
    first, last = (step.tensors for step in steps)
    assert (last["next_sum/1/0"] == first["GP/1/0"] + last["GP/1/0"]).all() and last["sum/1/0"].any()


def test_gradients_stay_with_the_module_and_one_part_is_a_step() -> None:
    module, _, images, labels = case()
    steps = record_micro_batches(module, (images, labels), 2)
    grad = module.linear.weight.grad.numpy()
    assert grad.tobytes() == steps[1].tensors["next_sum/4/0"].tobytes()
    assert module.conv.bias.grad is None and module.left.grad is None
    one, same = record_micro_batches(case()[0], (images, labels), 1)[0], record(case()[0], (images, labels))
    assert one.index == same.index and "micro_batch" not in one.index
    assert all(np.array_equal(array, same.tensors[name]) for name, array in one.tensors.items())
    for wrong in (-100, 3):  # PyTorch leaves -100 out of its mean
        with pytest.raises(UsageError, match="labels must be in 0..2"):
            record_micro_batches(module, (images, torch.where(labels == 1, wrong, labels)), 2)
    with pytest.raises(UsageError, match="micro_batches"):
        record_micro_batches(module, (images, labels), 0)
