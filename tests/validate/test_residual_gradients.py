"""Gradients that a residual connection adds to those of a norm: other programs add the same terms in another order.

x + f(norm(x)) gives x two gradients, of which the second is small where f is. The sum of both is rounded to 2**-24 of
the first, which may be more than all that sums in another order do to the second.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mpsim import Trainer, nn, ops
from mpsim.files.tensors import TensorFile
from mpsim.recording import StepRecord, record_step
from mpsim.validate import TeacherReport, teacher_forced
from mpsim.validate.step.noise import UNIT

ROWS, CLASSES = 256, 10


class Residual(nn.Module):
    """A linear layer, x + linear(norm(x)), and a linear layer: ops 1 to 5. ``share``: the size of the branch."""

    name, width, classes = "residual", 1.0, CLASSES

    def __init__(self, norm: str, size: int, share: float, seed: int) -> None:
        self.input_shape = (size,)
        self.stem, self.norm = nn.Linear(size, size), getattr(nn, norm)(size)
        self.branch, self.head = nn.Linear(size, size, bias=False), nn.Linear(size, CLASSES)
        random = np.random.default_rng(seed)
        for name, parameter in self.parameters().items():
            factor = {"norm.weight": 1.0, "branch.weight": share}.get(name, 1.0) / np.sqrt(parameter.shape[-1])
            parameter.replace((factor * random.standard_normal(parameter.shape)).astype(np.float32))

    def __call__(self, x: Any) -> Any:
        x = self.stem(x)
        return self.head(ops.add(x, self.branch(self.norm(x))))


Case = tuple[str, int, float, int]  # norm, size, share, seed


@functools.cache
def step_of(*case: Any) -> StepRecord:
    """mpsim's step with finished gradients alone, as PyTorch shows them."""
    step = whole_step_of(*case)
    return StepRecord({name: array for name, array in step.tensors.items() if not name.startswith("GX")}, step.index)


@functools.cache
def whole_step_of(*case: Any) -> StepRecord:
    _, size, _, seed = case
    random = np.random.default_rng(seed)
    images = random.standard_normal((ROWS, size), np.float32)
    step = record_step(Trainer(Residual(*case), threads=1), images, random.integers(0, CLASSES, ROWS))
    kept = {name: array for name, array in step.tensors.items() if not name.startswith("next_master")}
    return StepRecord(kept, step.index)


def terms_of(case: Case, tensors: dict[str, np.ndarray]) -> list[np.ndarray]:
    """The gradients of op 1's output: the residual's, and those that autograd computes of each use of x in the norm."""
    x, weight, branch, residual = (tensors[name] for name in ("Y/1/0", "P/2/0", "G/2/0", "G/4/0"))
    scaled, size = branch * weight, x.shape[-1]
    if case[0] == "RMSNorm":  # x * rsqrt(mean(x**2) + eps)
        inverse = np.float32(1) / np.sqrt((x * x).mean(-1, keepdims=True) + np.float32(2.0**-23))
        of_mean = np.float32(-0.5) * (scaled * x).sum(-1, keepdims=True) * (inverse * inverse * inverse) / size
        return [residual, scaled * inverse, np.float32(2) * x * of_mean]
    centred = x - x.mean(-1, keepdims=True)  # centred * rsqrt(mean(centred**2) + eps)
    inverse = np.float32(1) / np.sqrt((centred * centred).mean(-1, keepdims=True) + np.float32(1e-5))
    of_variance = np.float32(-0.5) * (scaled * centred).sum(-1, keepdims=True) * (inverse * inverse * inverse) / size
    of_mean = -(scaled * inverse).mean(-1, keepdims=True)
    return [residual, scaled * inverse, np.float32(2) * centred * of_variance, np.broadcast_to(of_mean, x.shape)]


def check(case: Case, gradient: np.ndarray, step: StepRecord | None = None) -> TeacherReport:
    """The report on a step in which ``gradient`` is that of op 1's output, and what follows is computed from it."""
    step = step or step_of(*case)
    follows = {"G/1/0": gradient, "GP/1/0": gradient.T @ step.tensors["images"], "GP/1/1": gradient.sum(0)}
    file = TensorFile({**step.tensors, **follows}, step.index, "theirs")
    return teacher_forced(file, Residual(*case), None, "standard", threads=1)


def names(report: TeacherReport) -> list[str]:
    return [tensor.name for tensor in report.suspects()]


@pytest.mark.parametrize("norm", ["RMSNorm", "LayerNorm"])
@pytest.mark.parametrize("size", [16, 64, 256])
@pytest.mark.parametrize("share", [1.0, 0.1, 0.001])
def test_terms_that_are_added_one_by_one_are_no_suspicion(norm: str, size: int, share: float) -> None:
    for seed in range(2):
        case = (norm, size, share, seed)
        report = check(case, functools.reduce(np.add, terms_of(case, step_of(*case).tensors)))
        assert names(report) == []
        (found,) = [tensor for tensor in report.tensors if tensor.name == "G/1/0"]
        assert found.differing > ROWS  # the order is another one


@pytest.mark.parametrize("norm", ["RMSNorm", "LayerNorm"])
@pytest.mark.parametrize("share", [1.0, 0.01])
def test_a_missing_second_term_is_a_suspicion(norm: str, share: float) -> None:
    case = (norm, 64, share, 0)
    residual, first, _, *rest = terms_of(case, step_of(*case).tensors)
    report = check(case, sum(rest, residual + first))
    assert names(report) == ["G/1/0"] and report.suspects()[0].unexplained > ROWS


def test_one_element_beyond_the_roundings_is_a_suspicion() -> None:
    """With r the residual's gradient and a branch of a thousandth, the roundings of the sum are 4 units of r."""
    case = ("RMSNorm", 64, 0.001, 0)
    tensors = step_of(*case).tensors
    residual = np.abs(tensors["G/4/0"])
    place = np.unravel_index(np.argmax(residual), residual.shape)
    for units, found in ((2, []), (8, ["G/1/0"])):
        gradient = tensors["G/1/0"].copy()
        gradient[place] += np.float32(units * UNIT * residual[place])
        assert gradient[place] != tensors["G/1/0"][place]
        assert names(check(case, gradient)) == found


def test_the_sum_of_exact_gradients_has_one_result() -> None:
    """A step that has both gradients has one sum of them: one unit in the last place is a suspicion."""
    case = ("RMSNorm", 16, 0.1, 0)
    step = whole_step_of(*case)
    gradient = step.tensors["G/1/0"].copy()
    assert names(check(case, gradient, step)) == []
    gradient[3, 5] = np.nextafter(gradient[3, 5], np.float32(np.inf))
    assert names(check(case, gradient, step)) == ["G/1/0"]


# -- steps of PyTorch -----------------------------------------------------------------------------------------


def torch_step(norm: str, change: Callable[[Any], object] = lambda part: None, seed: int = 0) -> TeacherReport:
    """A step of three residual blocks with branches of a hundredth; ``change`` is given the norm of the second."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch")
    from mpsim.nn import from_torch
    from mpsim.recording.torch import record

    images = norm in ("GroupNorm", "BatchNorm2d")
    size, linear = 16, functools.partial(torch.nn.Conv2d, kernel_size=1) if images else torch.nn.Linear
    norms = {
        "GroupNorm": lambda: torch.nn.GroupNorm(4, size),
        "RMSNorm": lambda: torch.nn.RMSNorm(size, 1e-5),
        "plain RMSNorm": lambda: torch.nn.RMSNorm(size, None, False),
    }
    make = norms.get(norm) or (lambda: getattr(torch.nn, norm)(size))

    class Block(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.branch = make(), linear(size, size, bias=False)
            self.branch.weight.data *= 0.01

        def forward(self, x: Any) -> Any:
            return x + self.branch(self.norm(x))

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.blocks = linear(3, size), torch.nn.Sequential(*(Block() for _ in range(3)))
            self.head = torch.nn.Linear(size, CLASSES)

        def forward(self, x: Any) -> Any:
            x = self.blocks(self.stem(x))
            return self.head(x.mean((2, 3)) if images else x)

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    module, random = Network(), np.random.default_rng(seed)
    shape = (8, 3, 6, 6) if images else (ROWS, 3)
    batch = random.standard_normal(shape).astype(np.float32), random.integers(0, CLASSES, shape[0])
    network = from_torch(module, torch.zeros(2, *shape[1:]))
    change(module.blocks[1].norm)
    step = record(module, batch)
    return teacher_forced(TensorFile(step.tensors, step.index, "theirs"), network, None, "standard", threads=1)


@pytest.mark.parametrize("norm", ["RMSNorm", "plain RMSNorm", "LayerNorm", "GroupNorm", "BatchNorm2d"])
def test_right_steps_of_pytorch_pass(norm: str) -> None:
    assert names(torch_step(norm)) == []


def without_epsilon(part: Any) -> None:
    part.eps = 1e-30


def by_deviation(part: Any) -> None:
    """As LayerNorm: the mean is taken off, which RMSNorm leaves in."""

    def wrong(part: Any, inputs: Any, output: Any) -> Any:
        centred = inputs[0] - inputs[0].mean(-1, keepdim=True)
        return centred * (centred.pow(2).mean(-1, keepdim=True) + part.eps).rsqrt() * part.weight

    part.register_forward_hook(wrong)


def constant_inverse(part: Any) -> None:
    """The second term of the gradient is missing."""

    def wrong(part: Any, inputs: Any, output: Any) -> Any:
        return inputs[0] * (inputs[0].detach().pow(2).mean(-1, keepdim=True) + part.eps).rsqrt() * part.weight

    part.register_forward_hook(wrong)


@pytest.mark.parametrize("defect", [by_deviation, constant_inverse])
def test_defects_of_rms_norm_in_pytorch_are_found(defect: Callable[[Any], object]) -> None:
    report = torch_step("RMSNorm", defect)
    first, norm = report.suspects()[0], "RMSNorm blocks.1.norm"
    assert norm in first.op and first.name[0] == ("G" if defect is constant_inverse else "Y")


@pytest.mark.parametrize("norm", ["RMSNorm", "LayerNorm", "GroupNorm"])
def test_an_epsilon_that_was_forgotten_is_found(norm: str) -> None:
    first = torch_step(norm, without_epsilon).suspects()[0]
    assert first.name.startswith("Y/") and f"{norm} blocks.1.norm" in first.op
