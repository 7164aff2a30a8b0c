"""Single features of PyTorch's modules, imported: steps against PyTorch's, backends, refusals with their lines."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import pytest

from mpsim import Trainer, nn, plugins
from mpsim.errors import UsageError
from mpsim.training import optimizer

if plugins.has_extra("torch"):
    import torch
    import torch.nn.functional as F

    from tests import torch_features
    from tests.torch_features import LAYERS, OF_TOKENS, REFUSED, module_of
    from tests.torch_networks import NETWORKS
    from tests.torch_steps import SHAPE, batches, built, check_backends, check_near, distance
needs_torch = pytest.mark.skipif(not plugins.has_extra("torch"), reason="PyTorch is not installed")
#: The features that the usual tests take. The others run with --slow.
USUAL = {
    "dilation", "interpolate to a size", "powers", "variance and deviation", "einsum", "ELU", "PReLU", "GLU",
    "masked attention", "tokens and positions as parameters", "ConstantPad2d", "pooling of rows",
    "einsum with a parameter", "parameter without axes",
}  # fmt: skip


def of_features(test: Any) -> Any:
    """Runs a test of the argument ``feature`` for each row of LAYERS and OF_TOKENS."""
    names = [*LAYERS, *OF_TOKENS] if plugins.has_extra("torch") else []
    rows = [pytest.param(name, marks=() if name in USUAL else pytest.mark.slow) for name in names]
    return needs_torch(pytest.mark.parametrize("feature", rows)(test))


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")
@of_features
def test_a_feature_works(feature: str) -> None:
    module = built(lambda: module_of(feature))
    network = nn.from_torch(module, torch.zeros(1, *SHAPE))
    check_near(module, network)
    check_backends(network)


@needs_torch
def test_there_are_more_than_fifty() -> None:
    assert len(LAYERS) + len(OF_TOKENS) >= 50


@pytest.mark.filterwarnings("ignore:The tensor attributes:UserWarning")
@needs_torch
@pytest.mark.parametrize("feature", [*REFUSED] if plugins.has_extra("torch") else [])
def test_a_refusal_names_the_function_and_the_line_of_the_module(feature: str) -> None:
    with pytest.raises(UsageError) as caught:
        nn.from_torch(module_of(feature), torch.zeros(1, *SHAPE))
    first, *lines = str(caught.value).splitlines()
    assert first == "from_torch: Around is not supported:"
    code = Path(torch_features.__file__).read_text().splitlines()
    called = "self.function(self, x)" if feature == "LSTM" else "self.body(self.stem(x))"  # the innermost forward
    number = next(i for i, line in enumerate(code, 1) if called in line)
    place = f"torch_features.py, line {number} ({code[number - 1].strip()}): "
    assert any(line.startswith(place + REFUSED[feature][1]) for line in lines), lines
    assert all(re.match(r"[\w.]+, line \d+ \(.+\): ", line) for line in lines)


#: Settings of training: ours, and PyTorch's.
OPTIMIZERS = {
    "SGD": (lambda o: o.SGD(lr=0.1, momentum=0.9, weight_decay=5e-4), {"momentum": 0.9, "weight_decay": 5e-4}),
    "SGD(nesterov)": (
        lambda o: o.SGD(lr=0.1, momentum=0.9, weight_decay=0, nesterov=True), {"momentum": 0.9, "nesterov": True},
    ),
    "SGD(dampening)": (
        lambda o: o.SGD(lr=0.1, momentum=0.9, weight_decay=0, dampening=0.5), {"momentum": 0.9, "dampening": 0.5},
    ),
    "Adam": (lambda o: o.Adam(lr=0.01), {"lr": 0.01}),
    "AdamW": (lambda o: o.AdamW(lr=0.01), {"lr": 0.01}),
}  # fmt: skip


@needs_torch
@pytest.mark.parametrize("feature", OPTIMIZERS)
def test_an_optimizer_works(feature: str) -> None:
    """Parameters after three steps of a Trainer are within 8 times PyTorch's distance to float64."""
    ours, settings = OPTIMIZERS[feature]
    module = built(NETWORKS["kuangliu.lenet"])
    network = nn.from_torch(module, torch.zeros(1, *SHAPE))
    network.classes = 5
    trainer = Trainer(network, optimizer=ours(optimizer), backend="compiled")
    for images, labels in batches():
        trainer.step(images, labels)
    found = {}
    for dtype in (torch.float32, torch.float64):
        copied = copy.deepcopy(module).to(dtype)
        kind = getattr(torch.optim, feature.split("(")[0])(copied.parameters(), **{"lr": 0.1, **settings})
        for images, labels in batches():
            kind.zero_grad()
            F.cross_entropy(copied(torch.from_numpy(images).to(dtype)), torch.from_numpy(labels)).backward()
            kind.step()
        found[dtype] = {name: p.detach().numpy() for name, p in copied.named_parameters()}
    names, state = list(found[torch.float64]), network.state()
    own = distance(found[torch.float32], found[torch.float64], names)
    assert 0 < distance(state, found[torch.float64], names) <= 8 * own
