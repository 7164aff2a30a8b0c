"""Steps that mpsim.recording.torch records: right ones pass, and each defect planted in a module is found at its op.

The expected verdicts follow from where each defect is planted. They were written before the runs.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mpsim.assignment import assign
from mpsim.errors import UsageError, UsageTypeError
from mpsim.files.tensors import TensorFile
from mpsim.nn import from_torch
from mpsim.recording import StepRecord, read_step
from mpsim.recording.torch import record
from mpsim.trace import trace
from mpsim.validate import TeacherReport, teacher_forced

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch")
nn, F = torch.nn, torch.nn.functional
TOKENS, SIZE, HEADS = 16, 16, 4


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2, self.gelu = nn.LayerNorm(SIZE), nn.LayerNorm(SIZE), nn.GELU()
        self.q, self.k, self.v, self.out = (nn.Linear(SIZE, SIZE) for _ in range(4))
        self.up, self.down = nn.Linear(SIZE, 2 * SIZE), nn.Linear(2 * SIZE, SIZE)

    def forward(self, x: Any) -> Any:
        n, tokens, size = x.shape
        y = self.norm1(x)
        q, k, v = (part(y).view(n, tokens, HEADS, size // HEADS).transpose(1, 2) for part in (self.q, self.k, self.v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(n, tokens, size))
        return x + self.down(self.gelu(self.up(self.norm2(x))))


class Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patch, self.blocks = nn.Conv2d(3, SIZE, 4, 4), nn.Sequential(Block(), Block())
        self.position = nn.Parameter(0.02 * torch.randn(TOKENS, SIZE))
        self.norm, self.head = nn.LayerNorm(SIZE), nn.Linear(SIZE, 10)

    def forward(self, x: Any) -> Any:
        x = self.patch(x).flatten(2).transpose(1, 2) + self.position
        return self.head(self.norm(self.blocks(x)).mean(1))


def taken(
    change: Callable[[Any], object] = lambda module: None, decay: float = 5e-4, path: Path | None = None
) -> tuple[Any, StepRecord]:
    """A right module, and the second step of one that was changed."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    module, right, random = Transformer(), Transformer(), np.random.default_rng(0)
    batch = random.standard_normal((8, 3, 16, 16)).astype(np.float32), random.integers(0, 10, 8)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9, weight_decay=decay)
    for parameter in module.parameters():
        optimizer.state[parameter]["momentum_buffer"] = torch.full_like(parameter, 1e-3)
    change(module)
    return right, record(module, batch, path, optimizer=optimizer)


def check(right: Any, step: StepRecord, **changed: Any) -> TeacherReport:
    network = from_torch(right, torch.zeros(2, 3, 16, 16))
    index = {**step.index, **changed}
    return teacher_forced(TensorFile(step.tensors, index, "theirs"), network, None, "standard", threads=1)


def op(step: StepRecord, name: str) -> int:
    (found,) = [each["index"] for each in step.index["ops"] if each["name"] == name]
    return int(found)


def test_a_right_step_passes(tmp_path: Path) -> None:
    right, step = taken(path=tmp_path / "theirs.safetensors")
    report = check(right, step)
    assert report.verdict.name == "EQUAL" and not report.suspects()
    traced = {name for name in step.tensors if name.split("/")[0] in ("P", "Y", "G", "GP", "next_master")}
    assert {tensor.name for tensor in report.tensors} == traced
    assert sum(name.startswith("Y/") for name in traced) == len(step.index["ops"])
    assert any("as a whole gave other bits" in note for note in report.notes)  # the fused kernel of attention
    read = read_step(tmp_path / "theirs.safetensors")
    assert read.index["module_differs"] == step.index["module_differs"]
    assert all(np.array_equal(read.tensors[name], array) for name, array in step.tensors.items())


def hook(part: Any, function: Callable[[Any, Any], Any]) -> None:
    part.register_forward_hook(lambda part, inputs, output: function(inputs[0], output))


def scaled_gradient(module: Any) -> None:
    hook(module.blocks[1].up, lambda x, y: y.clone() if y.register_hook(lambda g: g * 2) else y)


def float16_sums(module: Any) -> None:
    part = module.blocks[0].down

    def sums(x: Any, y: Any) -> Any:
        total = torch.zeros(y.shape, dtype=torch.float16)
        for k in range(x.shape[-1]):
            total = total + x[..., k : k + 1].half() * part.weight[:, k].half()
        return total.float() + part.bias

    hook(part, sums)


def stale(module: Any) -> None:
    part = module.head
    old = part.weight.detach().roll(1, 0)
    hook(part, lambda x, y: F.linear(x, old, part.bias))


#: How a module is changed -> the ops (by name) and kinds of tensors that differ first, and what is said of the first.
DEFECTS: dict[str, tuple[Callable[[Any], object], str, str, str]] = {
    "wrong gradient scale": (
        lambda m: m.blocks[1].q.weight.register_hook(lambda g: g / 2), "GP", "blocks.1.q",
        "about 0.5 times what it should be",
    ),
    "transposed weight": (
        lambda m: hook(m.blocks[1].q, lambda x, y: x @ m.blocks[1].q.weight + m.blocks[1].q.bias), "Y", "blocks.1.q",
        "unexplained",
    ),
    "missing bias gradient": (
        lambda m: m.blocks[0].up.bias.register_hook(torch.zeros_like), "GP", "blocks.0.up",
        "32 of 32 are zero and should not be",
    ),
    "dropout on": (lambda m: hook(m.blocks[0].gelu, lambda x, y: F.dropout(y, 0.1)), "Y", "blocks.0.gelu", "zero"),
    "GELU by tanh": (
        lambda m: hook(m.blocks[1].gelu, lambda x, y: F.gelu(x, approximate="tanh")), "Y", "blocks.1.gelu",
        "unexplained",
    ),
    "epsilon of layer norm": (lambda m: setattr(m.norm, "eps", 1e-3), "Y", "norm", "unexplained"),
    "float16 accumulate": (float16_sums, "Y", "blocks.0.down", "unexplained"),
    "stale parameter": (stale, "Y", "head", "unexplained"),
    "swapped tensors": (
        lambda m: hook(m.blocks[0].q, lambda x, y: F.linear(x, m.blocks[0].k.weight, m.blocks[0].q.bias)), "Y",
        "blocks.0.q", "unexplained",
    ),
}  # fmt: skip


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_defect_is_found_at_its_op(defect: str) -> None:
    change, kind, name, said = DEFECTS[defect]
    right, step = taken(change)
    report = check(right, step)
    first = report.suspects()[0]
    assert first.name.startswith(f"{kind}/{op(step, name)}/")
    assert said in "\n".join(report.details(first))
    if not said.startswith("about"):
        for tensor in report.suspects():  # PyTorch updates no parameter that has no gradient
            unused = tensor.name.startswith("next_master/") and defect in ("stale parameter", "swapped tensors")
            assert tensor.causes == (("not updated: the master is as it was before the step",) if unused else ())


def test_a_missing_weight_decay_is_named() -> None:
    right, step = taken(decay=0.0)
    rule = {**step.index["optimizer"], "weight_decay": 5e-4}
    report = check(right, step, optimizer=rule)
    masters = [name for name in step.tensors if name.startswith("master/") and step.tensors[name].any()]
    assert {tensor.name.partition("/")[2] for tensor in report.suspects()} == {
        name.partition("/")[2] for name in masters
    }
    assert all(tensor.causes == ("without weight decay",) for tensor in report.suspects())


@pytest.mark.parametrize("name", ["Adam", "AdamW", "SGD"])
def test_updates_of_other_optimizers_are_checked(name: str) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 3))
    images, labels = torch.randn(4, 1, 4, 4), torch.tensor([0, 1, 2, 0])
    options = {"nesterov": True, "momentum": 0.9} if name == "SGD" else {}
    optimizer = getattr(torch.optim, name)(module.parameters(), lr=0.01, weight_decay=0.1, **options)
    for _ in range(2):
        step = record(module, (images, labels), optimizer=optimizer, loss_scale=8.0)
    network = from_torch(module, images)
    file = TensorFile(step.tensors, step.index, "theirs")
    report = teacher_forced(file, network, None, "standard", threads=1)
    assert report.verdict.name == "EQUAL" and not any("update was not" in note for note in report.notes)
    assert step.index["optimizer"]["kind"] == name and step.index["optimizer"]["weight_decay"] == 0.1
    wrong = {**step.index, "optimizer": {**step.index["optimizer"], "weight_decay": 0.0}}
    report = teacher_forced(TensorFile(step.tensors, wrong, "theirs"), network, None, "standard", threads=1)
    assert {tensor.name.split("/")[0] for tensor in report.suspects()} == {"next_master"}


def test_parameters_that_the_optimizer_does_not_have_are_frozen() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 3))
    images, labels = torch.randn(4, 1, 4, 4), torch.tensor([0, 1, 2, 0])
    optimizer = torch.optim.SGD(module[3].parameters(), lr=0.1, weight_decay=0.1)
    step = record(module, (images, labels), optimizer=optimizer)
    file = TensorFile(step.tensors, step.index, "theirs")
    report = teacher_forced(file, from_torch(module, images), None, "standard", threads=1)
    assert report.verdict.name == "EQUAL" and not any("update was not" in note for note in report.notes)
    assert step.index["optimizer"]["groups"] == "1.weight:frozen;1.bias:frozen"


# -- what is refused, and what is left as it was ---------------------------------------------------------------


def test_a_step_changes_the_module_as_training_does() -> None:
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(72, 3))
    other = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(72, 3))
    other.load_state_dict(module.state_dict())
    images, labels = torch.randn(4, 1, 8, 8), torch.tensor([0, 1, 2, 0])
    optimizers = [torch.optim.SGD(each.parameters(), lr=0.1, momentum=0.9) for each in (module, other)]
    module.eval()
    for _ in range(2):
        step = record(module, (images, labels), optimizer=optimizers[0], loss_scale=256.0)
        optimizers[1].zero_grad()
        F.cross_entropy(other(images), labels).backward()
        optimizers[1].step()
        assert step.index["module_differs"] == []
    assert not module.training and not module[1].training
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name


def test_what_cannot_be_recorded_is_refused() -> None:
    images, labels = torch.randn(4, 1, 2, 2), torch.tensor([0, 1, 2, 0])
    linear = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    with pytest.raises(UsageTypeError, match=r"module must be a torch\.nn\.Module, got str"):
        record("net", (images, labels))
    with pytest.raises(UsageTypeError, match=r"batch must be a pair \(images, labels\), got Tensor"):
        record(linear, images)
    for wrong in (labels.float(), labels[:2]):
        with pytest.raises(UsageError, match="labels must be integers, as many as there are images"):
            record(linear, (images, wrong))
    with pytest.raises(UsageError, match="dropout.default draws random numbers"):
        record(nn.Sequential(linear, nn.Dropout(0.1)), (images, labels))
    with pytest.raises(UsageError, match="mish.default is 3 ops of mpsim, of which PyTorch shows 1"):
        record(nn.Sequential(linear, nn.Mish()), (images, labels))
    with pytest.raises(UsageError, match="loss_scale"):
        record(linear, (images, labels), loss_scale=0.0)
    assert record(nn.Sequential(linear, nn.Dropout(0.0)), (images, labels)).tensors["Y/2/0"].shape == (4, 3)


class Viewed(nn.Module):
    """Causal attention whose result is viewed: the fused kernel stores it so that this needs no copy."""

    def __init__(self) -> None:
        super().__init__()
        self.parts, self.out, self.head = nn.Linear(8, 24), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x: Any) -> Any:
        n, _, tokens, _ = x.shape
        q, k, v = (part.view(n, tokens, 2, -1).transpose(1, 2) for part in self.parts(x[:, 0]).chunk(3, dim=-1))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.head(self.out(y.transpose(1, 2).contiguous().view(n, tokens, -1)).mean(1))


def test_views_of_attention_are_recorded() -> None:
    torch.manual_seed(0)
    module = Viewed()
    step = record(module, (torch.randn(4, 1, 8, 8), torch.tensor([0, 1, 2, 0])))
    network = from_torch(module, torch.zeros(2, 1, 8, 8))
    report = teacher_forced(TensorFile(step.tensors, step.index, "theirs"), network, None, "standard", threads=1)
    assert report.verdict.name == "EQUAL" and not report.suspects()


class ClassToken(nn.Module):
    """A trained token before the others, which is also added to all of them."""

    def __init__(self) -> None:
        super().__init__()
        self.token, self.patch, self.head = nn.Parameter(torch.randn(1, 1, 8)), nn.Conv2d(3, 8, 4, 4), nn.Linear(8, 5)

    def forward(self, x: Any) -> Any:
        x = self.patch(x).flatten(2).transpose(1, 2) + self.token
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), torch.tanh(self.token.expand(x.shape[0], -1, -1)), x], 1)
        return self.head(x[:, 0] + x.mean(1))


@pytest.mark.parametrize("levels", ["", "bfloat16:bfloat16,bfloat16"])
def test_a_parameter_that_is_read_as_a_tensor_is_recorded(levels: str) -> None:
    torch.manual_seed(0)
    module, images = ClassToken(), torch.randn(4, 3, 8, 8)
    network = from_torch(module, images)
    plan = assign(trace(network, 4), "uniform_low", levels=levels) if levels else None
    step = record(module, (images, torch.tensor([0, 1, 2, 0])), plan=plan)
    token = op(step, "token")
    assert step.tensors[f"Y/{token}/0"].shape == (1, 1, 8)
    readers = [each for each in step.index["ops"] if token in each["producers"]]
    assert len(readers) == 2  # both expansions
    right = TensorFile(step.tensors, step.index, "theirs")
    assert not teacher_forced(right, network, plan, "standard", threads=1).suspects()
    wrong = TensorFile({**step.tensors, f"G/{token}/0": 2 * step.tensors[f"G/{token}/0"]}, step.index, "theirs")
    found = [tensor.name for tensor in teacher_forced(wrong, network, plan, "standard", threads=1).suspects()]
    first = next(each["index"] for each in step.index["ops"] if "token" in each["parameters"])  # which adds it
    assert first < token and set(found) == {f"G/{token}/0", f"GP/{first}/0"}


#: Functions of several axes, each of which is one op.
OF_AXES: dict[str, Callable[[Any, Any], Any]] = {
    "expand": lambda x, p: p.expand(x.shape[0], 2, 3, 4) * x,
    "expand a tensor": lambda x, p: (x.mean((1, 2), keepdim=True) * p).expand(-1, 2, 3, 4) * x,
    "expand_as": lambda x, p: (x * p).sum((1, 2), keepdim=True).expand_as(x) * x,
    "repeat": lambda x, p: (x * p)[:, :1, :1].repeat(1, 2, 3, 1) * x,
    "flip": lambda x, p: (x * p).flip((-1, 1)),
    "roll": lambda x, p: (x * p).roll((1, -2), (3, 2)),
    "tile": lambda x, p: (x * p)[:, :1, :1].tile(2, 3, 1) * x,
    "fewer heads of keys": lambda x, p: F.scaled_dot_product_attention(
        x * p, (x * p)[:, :1], (x * p)[:, 1:], enable_gqa=True
    ),
}


class OfAxes(nn.Module):
    def __init__(self, function: Callable[[Any, Any], Any]) -> None:
        super().__init__()
        self.function, self.p, self.head = function, nn.Parameter(torch.randn(1, 1, 1, 4)), nn.Linear(24, 3)

    def forward(self, x: Any) -> Any:
        return self.head(self.function(x, self.p).flatten(1))


@pytest.mark.parametrize("name", OF_AXES)
def test_functions_of_several_axes_are_recorded_axis_by_axis(name: str) -> None:
    torch.manual_seed(0)
    module, images = OfAxes(OF_AXES[name]), torch.randn(4, 2, 3, 4)
    step = record(module, (images, torch.tensor([0, 1, 2, 0])))
    copies = [each["index"] for each in step.index["ops"] if each["kind"] == "Slice"]
    assert len(copies) >= 2
    network = from_torch(module, images)
    right = TensorFile(step.tensors, step.index, "theirs")
    assert not teacher_forced(right, network, None, "standard", threads=1).suspects()
    for kind in "YG":
        first = f"{kind}/{copies[-1]}/0"
        wrong = TensorFile({**step.tensors, first: step.tensors[first] + 1}, step.index, "theirs")
        found = [tensor.name for tensor in teacher_forced(wrong, network, None, "standard", threads=1).suspects()]
        assert first in found


def test_frozen_parameters_are_recorded_and_not_updated() -> None:
    torch.manual_seed(0)
    module, images = (
        nn.Sequential(nn.Conv2d(1, 2, 3), nn.Tanh(), nn.Flatten(), nn.Linear(72, 3)),
        torch.randn(4, 1, 8, 8),
    )
    module[0].requires_grad_(False)
    before = module[0].weight.clone()
    network = from_torch(module, images)
    assert [name for name, each in network.parameters().items() if not each.trained] == ["0.weight", "0.bias"]
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1, weight_decay=0.1)
    step = record(module, (images, torch.tensor([0, 1, 2, 0])), optimizer=optimizer)
    assert not module[0].weight.requires_grad and module[0].weight.grad is None
    assert torch.equal(module[0].weight, before) and step.tensors["GP/1/0"].any()
    right = TensorFile(step.tensors, step.index, "theirs")
    assert not teacher_forced(right, network, None, "standard", threads=1).suspects()
    moved = {**step.tensors, "next_master/1/0": step.tensors["next_master/1/0"] + 1}
    report = teacher_forced(TensorFile(moved, step.index, "theirs"), network, None, "standard", threads=1)
    assert [tensor.name for tensor in report.suspects()] == ["next_master/1/0"]
