"""Networks of PyTorch, imported: logits and gradients of three steps against PyTorch's, state, digests, refusals."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from mpsim import kernels, networks, nn, plugins
from mpsim.cli import app
from mpsim.engine.tape import Tape
from mpsim.errors import MissingExtra, UsageError, UsageTypeError
from mpsim.kernels.philox import Stream
from mpsim.nn.pytorch.rules import RULES
from mpsim.trace import trace

WITHOUT = "PyTorch is not installed: pip install -e '.[peers]'"
if plugins.has_extra("torch"):
    import torch
    import torch.nn.functional as F

    from tests.torch_networks import NETWORKS, VGG, Attentive, Residual
    from tests.torch_steps import SHAPE, batches, built, check_backends, check_near, imported
needs_torch = pytest.mark.skipif(not plugins.has_extra("torch"), reason=WITHOUT)
#: Those that the usual tests take. The others run with --slow.
USUAL = {
    "kuangliu.efficientnet", "kuangliu.dpn", "weiaicunzai.attention", "weiaicunzai.nasnet", "weiaicunzai.resnet",
    "weiaicunzai.vgg", "paper.attentive", "paper.vit",
}  # fmt: skip


def of_networks(test: Any) -> Any:
    """Runs a test of the argument ``name`` for each row of NETWORKS."""
    names = list(NETWORKS) if plugins.has_extra("torch") else []
    rows = [pytest.param(name, marks=() if name in USUAL else pytest.mark.slow) for name in names]
    return needs_torch(pytest.mark.parametrize("name", rows)(test))


@of_networks
def test_three_steps_are_as_near_to_float64_as_pytorchs(name: str) -> None:
    check_near(built(NETWORKS[name]), imported(NETWORKS[name]))


@of_networks
def test_backends_agree(name: str) -> None:
    check_backends(imported(NETWORKS[name]))


@of_networks
def test_evaluation_and_state(name: str) -> None:
    model = NETWORKS[name]
    module, network = built(model), imported(model)
    before = network.state()
    assert list(before) == list(module.state_dict())
    for name, tensor in module.state_dict().items():
        np.testing.assert_array_equal(before[name], tensor.numpy())
    tape = Tape(kernels.bind("compiled"))
    network(tape.input(batches()[0][0]))  # moves the running statistics
    module.load_state_dict(nn.to_torch_state(network), strict=True)
    images = batches()[1][0][:3]
    logits = network(Tape(kernels.bind("compiled"), training=False).input(images)).value
    wanted = module.eval()(torch.from_numpy(images)).detach().numpy()
    np.testing.assert_allclose(logits, wanted, rtol=1e-4, atol=1e-5)
    assert all(np.array_equal(tensor.numpy(), network.state()[name]) for name, tensor in module.state_dict().items())
    network.load_state(before)


@needs_torch
def test_a_shared_parameter_is_one() -> None:
    network = imported(Attentive)
    assert "mix.weight" in network.parameters() and "again.weight" not in network.parameters()
    assert {"mix.weight", "again.weight", "scale"} <= network.state().keys()
    assert sum("mix.weight" in op.parameters for op in trace(network).ops) == 2


@needs_torch
def test_ops_are_named_by_modules_and_open_groups() -> None:
    traced = trace(imported(Residual))
    names = [op.name for op in traced.ops]
    assert names == [
        "input", "conv1", "bn1", "relu", "conv2", "bn2", "down.0", "down.1", "add", "relu.2", "slice", "slice.2", "pad",
        "conv3", "bn3", "add.2", "relu.3", "pool", "fc", "criterion.logsoftmax", "criterion.nllloss",
    ]  # fmt: skip
    assert len(traced.groups) == 6  # the input, four convolutions, the linear layer
    assert [names[i] for i in traced.ops[names.index("add")].producers] == ["bn2", "down.1"]


@needs_torch
def test_what_is_not_supported_is_listed_with_its_lines() -> None:
    class Odd(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = torch.nn.Linear(192, 5)

        def forward(self, x: Any) -> Any:
            x = torch.cumsum(x, 1)  # first
            x = F.dropout(x, 0.5)  # always
            x = torch.sin(x.flatten(1))  # second
            return self.fc(x)

    with pytest.raises(UsageError) as caught:
        nn.from_torch(Odd(), torch.zeros(2, *SHAPE))
    lines = str(caught.value).splitlines()
    assert lines[0] == "from_torch: Odd is not supported:"
    first = next(i for i, line in enumerate(Path(__file__).read_text().splitlines(), 1) if line.endswith("# first"))
    assert [line.split(": ")[0].split(" (")[0] for line in lines[1:]] == [
        f"test_from_torch.py, line {number}" for number in (first, first + 2, first + 1)
    ]
    for line, words in zip(lines[1:], ("aten.cumsum", "aten.sin", "active in evaluation too"), strict=True):
        assert words in line


@needs_torch
@pytest.mark.parametrize(
    ("forward", "words"),
    [
        (lambda self, x: (self.fc(x.flatten(1)), x), "must return one tensor"),
        (
            lambda self, x: self.fc(x.flatten(1)) if self.training else self.fc(x.flatten(1)).relu(),
            "in evaluation only",
        ),
        (lambda self, x: self.fc(x.flatten(1) * (2 if self.training else 3)), "other arguments in evaluation"),
        (lambda self, x: self.fc(F.softmax(x.flatten(1), 1, dtype=torch.float64).float()), "in torch.float64"),
        (lambda self, x: self.fc(x.reshape(2, -1)), "any size"),
        (
            lambda self, x: (
                x.flatten(1) + F.embedding(torch.zeros(1, dtype=int), self.fc.weight, None, None, 2.0, True)
            ),
            "scale_grad_by_freq",
        ),
        (lambda self, x: F.scaled_dot_product_attention(x, x, x, torch.zeros(8, 8) == 1), "leaves a query no key"),
        (lambda self, x: _overwritten(self, x), "a view read later shares"),
    ],
)
def test_refusals(forward: Any, words: str) -> None:
    kind = type("Odd", (torch.nn.Module,), {"forward": forward})
    module = kind()
    module.fc = torch.nn.Linear(192, 5)
    with pytest.raises(UsageError, match=words):
        nn.from_torch(module, torch.zeros(2, *SHAPE))


@needs_torch
def test_layers_of_pytorch_alone_are_named(capfd: pytest.CaptureFixture[str]) -> None:
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Sequential(torch.nn.ReLU(), torch.nn.Softshrink()))
    with pytest.raises(UsageError, match=r"\nmodule '1.1' \(Softshrink\): aten.softshrink.default is not supported"):
        nn.from_torch(module, torch.zeros(2, *SHAPE))
    with pytest.raises(UsageError, match=r"Linear does not take a batch of samples of shape \(3, 8, 8\); pass"):
        nn.from_torch(torch.nn.Linear(3, 4), torch.zeros(2, *SHAPE))
    assert capfd.readouterr().err == ""


def _overwritten(self: Any, x: Any) -> Any:
    x = x.flatten(1) * 2
    view = x.view(x.shape)
    x += 1
    return self.fc(view)


@needs_torch
def test_parameters_and_names_that_cannot_be_kept() -> None:
    double, named = (built(VGG) for _ in range(2))
    named.path = torch.nn.Linear(2, 2)
    for module, words in [(double.double(), "float32, got torch.float64"), (named, "rename it")]:
        with pytest.raises(UsageError, match=words):
            nn.from_torch(module, torch.zeros(2, *SHAPE))
    for module, words in [
        (torch.nn.LazyLinear(3), "weight: a lazy module has no values yet"),
        (torch.nn.Linear(4, 3, device="meta"), "weight: a parameter on the device meta has no values"),
    ]:
        with pytest.raises(UsageError, match=words):
            nn.from_torch(module, torch.zeros(2, 4))
    with pytest.raises(UsageTypeError, match="must be a torch.nn.Module, got int"):
        nn.from_torch(3, torch.zeros(2, *SHAPE))


TEXT = """
def make():
    import torch
    conv, linear = torch.nn.Conv2d(1, 4, 3), torch.nn.Linear(144, 10)
    module = torch.nn.Sequential(conv, torch.nn.ReLU(), torch.nn.Flatten(), linear)
    module.input_shape = (1, 8, 8)
    return module

def odd(input_shape=(1, 8, 8)):
    import torch
    class Odd(torch.nn.Module):
        def forward(self, x):
            return torch.sin(x.flatten(1))
    return Odd()

def unsized():
    import torch
    return torch.nn.Flatten()

def branching(input_shape=(1, 8, 8)):
    import torch
    class Branching(torch.nn.Module):
        def forward(self, x):
            return x.flatten(1) if x.sum() > 0 else -x.flatten(1)
    return Branching()
def tokens(input_shape=(8,)):
    import torch
    return torch.nn.Embedding(5, 3)
def known_tokens(input_shape=(8,), vocabulary=5):
    return tokens()
def encoder(input_shape=(1, 8, 8)):
    import torch
    class Encoder(torch.nn.Module):
        def __init__(self):
            super().__init__()
            layer = torch.nn.TransformerEncoderLayer(8, 2, 8, dropout=0.0, batch_first=True)
            self.layers = torch.nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
            self.register_buffer("mask", torch.triu(torch.full((8, 8), float("-inf")), 1))
        def forward(self, x):
            return self.layers(x.squeeze(1), mask=self.mask).mean(1)
    return Encoder()
"""


@needs_torch
def test_commands_take_a_function_that_returns_a_module(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(TEXT)
    model = f"{tmp_path / 'model.py'}:make"
    torch.manual_seed(11)
    first, again, other = (networks.build(model, seed=seed).state() for seed in (1, 1, 2))
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not np.array_equal(first["0.weight"], other["0.weight"])
    few = ["--data", "digits", "--epochs", "1", "--train-images", "128", "--results", str(tmp_path / "runs")]
    sweep = ["--ratios", "0.5", "--levels", "paper", "--seeds", "1", "--processes", "1"]
    commands = [
        ["plan", model, "--scheme", "largest_first", "--ratio", "0.5"],
        ["train", model, *few],
        ["sweep", "--model", model, *few, *sweep],
        ["trace-step", model, "--out", str(tmp_path / "step.safetensors")],
    ]
    for words in commands:
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 0, result.output
    assert (tmp_path / "step.safetensors").exists()


@needs_torch
@pytest.mark.parametrize(
    ("function", "words"),
    [
        ("odd", r"model.py:odd: from_torch: Odd is not supported:\nmodel.py, line 13 .*aten.sin"),
        ("unsized", "model.py:unsized: the size of its images is not known"),
        (
            "branching",
            r"model.py, line 24 \(return x.flatten.*\): Branching cannot be exported .*decides by the values",
        ),
        ("tokens", r"does not take a batch of samples of shape \(8,\).*reads tokens, set module.vocabulary or give"),
        ("encoder", r"Encoder cannot be exported .*pass is_causal to torch.nn.TransformerEncoder"),
    ],
)
def test_a_file_whose_module_cannot_be_imported(tmp_path: Path, function: str, words: str) -> None:
    (tmp_path / "model.py").write_text(TEXT)
    with pytest.raises(UsageError, match=words):
        networks.build(f"{tmp_path / 'model.py'}:{function}")


@needs_torch
def test_a_default_vocabulary_is_of_tokens(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(TEXT)
    network = networks.build(f"{tmp_path / 'model.py'}:known_tokens")
    assert network.vocabulary == 5 and network.input_shape == (8,)


def test_the_document_lists_every_function() -> None:
    document = (Path(__file__).parent.parent / "docs/pytorch.md").read_text()
    listed = set(re.findall(r"`(\w+)`", document.split("## What is refused")[0]))
    functions = {rule.split(".")[1] for rule in RULES if rule.startswith("aten.")}
    hidden = {"alias", "lift_fresh_copy", "sym_size"}  # torch.export writes them
    assert functions - hidden <= listed, functions - hidden - listed


def test_without_pytorch_the_message_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "find_spec", lambda module: None)
    for call, what in [
        (lambda: nn.from_torch(None, None), "from_torch"),
        (lambda: nn.to_torch_state(nn.ReLU()), "to_torch_state"),
    ]:
        with pytest.raises(MissingExtra, match=f"{what} needs PyTorch, .* pip install 'mpsim\\[torch\\]'"):
            call()


@needs_torch
@pytest.mark.parametrize(
    "dropped",
    [
        lambda x: x.div_(0.75).mul_(x.new_empty((x.shape[0], 1, 1, 1)).bernoulli_(0.75)),
        lambda x: x / 0.75 * (0.75 + torch.rand((x.shape[0], 1, 1, 1))).floor_(),
        lambda x: x / 0.75 * (torch.rand((x.shape[0], 1, 1, 1)) < 0.75),
        lambda x: x * x.new_empty((x.shape[0], 1, 1, 1)).bernoulli_(0.75).div_(0.75),
    ],
)
def test_masks_that_a_module_draws_itself(dropped: Any) -> None:
    class Own(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = torch.nn.Linear(192, 5)

        def forward(self, x: Any) -> Any:
            x = x * 1.5
            if self.training:
                x = dropped(x)
            return self.fc(x.flatten(1))

    network = nn.from_torch(Own(), torch.zeros(2, *SHAPE))
    images = np.concatenate([images for images, _ in batches()])
    tapes = [Tape(kernels.bind("compiled"), seed=7, step=2, training=training) for training in (True, False)]
    taken: list[np.ndarray] = []
    for tape in tapes:
        stored: dict[int, np.ndarray] = {}
        tape.store = lambda id, value, stored=stored: stored.setdefault(id.op, value.copy())
        network(tape.input(images))
        taken.append(stored[len(tape.ops) - 2])
    assert [op.output_shape for op in tapes[0].ops] == [op.output_shape for op in tapes[1].ops]
    words = kernels.bind("reference").random_bits(Stream(7, "dropout", len(tapes[0].ops) - 2, 2), len(images))
    kept = (words >= 2**30)[:, None, None, None]
    assert 0 < kept.sum() < len(kept)
    x = images * np.float32(1.5)
    over = x * np.float32(1 / 0.75) if len(tapes[0].ops) == 4 else x / np.float32(0.75)
    np.testing.assert_array_equal(taken[0], np.where(kept, over, 0))
    np.testing.assert_array_equal(taken[1], x)


@needs_torch
def test_random_numbers_in_evaluation_are_refused() -> None:
    module = type("Odd", (torch.nn.Module,), {"forward": lambda self, x: self.fc((x * torch.rand(1)).flatten(1))})()
    module.fc = torch.nn.Linear(192, 5)
    with pytest.raises(UsageError, match="rand.default is active in evaluation too"):
        nn.from_torch(module, torch.zeros(2, *SHAPE))
