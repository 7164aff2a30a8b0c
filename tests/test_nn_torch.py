"""Layers against PyTorch's of the same name, arguments and state: results within float32 order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mpsim import kernels, nn
from mpsim.engine.tape import Tape
from mpsim.initialization import initialize

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install -e '.[peers]'")
IMAGE, ROWS = (2, 4, 6, 5), (3, 4, 8)

#: name -> (ours, PyTorch's, shape of the input)
LAYERS: dict[str, tuple[Callable[[], nn.Module], Callable[[], Any], tuple[int, ...]]] = {
    "same": (
        lambda: nn.Conv2d(4, 6, (3, 2), padding="same"),
        lambda: torch.nn.Conv2d(4, 6, (3, 2), padding="same"),
        IMAGE,
    ),
    "same_dilated": (
        lambda: nn.Conv2d(4, 6, 4, padding="same", dilation=2, padding_mode="circular"),
        lambda: torch.nn.Conv2d(4, 6, 4, padding="same", dilation=2, padding_mode="circular"),
        (2, 4, 9, 8),
    ),
    "reflect": (
        lambda: nn.Conv2d(4, 6, 3, padding=(2, 1), padding_mode="reflect"),
        lambda: torch.nn.Conv2d(4, 6, 3, padding=(2, 1), padding_mode="reflect"),
        IMAGE,
    ),
    "conv1d": (lambda: nn.Conv1d(4, 6, 3, 2, 1), lambda: torch.nn.Conv1d(4, 6, 3, 2, 1), (2, 4, 9)),
    "transpose": (
        lambda: nn.ConvTranspose2d(4, 6, 3, 2, 1, 1, bias=False),
        lambda: torch.nn.ConvTranspose2d(4, 6, 3, 2, 1, 1, bias=False),
        IMAGE,
    ),
    "batch_norm": (
        lambda: nn.BatchNorm1d(4, affine=False, track_running_stats=False),
        lambda: torch.nn.BatchNorm1d(4, affine=False, track_running_stats=False),
        (3, 4, 5),
    ),
    "max_pool": (
        lambda: nn.MaxPool2d(2, ceil_mode=True),
        lambda: torch.nn.MaxPool2d(2, ceil_mode=True),
        IMAGE,
    ),
    "avg_pool": (
        lambda: nn.AvgPool2d(3, 2, 1, True, False),
        lambda: torch.nn.AvgPool2d(3, 2, 1, True, False),
        IMAGE,
    ),
    "adaptive": (lambda: nn.AdaptiveAvgPool2d((4, 3)), lambda: torch.nn.AdaptiveAvgPool2d((4, 3)), IMAGE),
    "adaptive_max": (lambda: nn.AdaptiveMaxPool2d(2), lambda: torch.nn.AdaptiveMaxPool2d(2), IMAGE),
    "zero_pad": (lambda: nn.ZeroPad2d((1, 2, -1, 3)), lambda: torch.nn.ZeroPad2d((1, 2, -1, 3)), IMAGE),
    "circular_pad": (lambda: nn.CircularPad2d(2), lambda: torch.nn.CircularPad2d(2), IMAGE),
    "upsample": (
        lambda: nn.Upsample(2, "bilinear"),
        lambda: torch.nn.Upsample(scale_factor=2, mode="bilinear"),
        IMAGE,
    ),
    "pixel_shuffle": (lambda: nn.PixelShuffle(2), lambda: torch.nn.PixelShuffle(2), IMAGE),
    "layer_norm": (lambda: nn.LayerNorm((4, 8)), lambda: torch.nn.LayerNorm((4, 8)), ROWS),
    "rms_norm": (lambda: nn.RMSNorm(8, 1e-5), lambda: torch.nn.RMSNorm(8, 1e-5), ROWS),
    "group_norm": (lambda: nn.GroupNorm(2, 4), lambda: torch.nn.GroupNorm(2, 4), IMAGE),
    "gelu": (lambda: nn.GELU("tanh"), lambda: torch.nn.GELU("tanh"), ROWS),
    "leaky": (nn.LeakyReLU, torch.nn.LeakyReLU, ROWS),
    "softmax": (lambda: nn.Softmax(1), lambda: torch.nn.Softmax(1), ROWS),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:Using padding=.same.")  # PyTorch copies the input for even kernels
@pytest.mark.parametrize("name", LAYERS)
def test_layer(name: str) -> None:
    ours, theirs, shape = LAYERS[name]
    layer, other = ours(), theirs()
    initialize(layer, seed=3)
    state = layer.state()
    assert list(state) == list(other.state_dict())
    other.load_state_dict({key: torch.from_numpy(array) for key, array in state.items()})
    x = np.random.default_rng(4).standard_normal(shape).astype(np.float32)
    found = layer(Tape(kernels.bind("compiled")).input(x)).value
    wanted = other(torch.from_numpy(x)).detach().numpy()
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def test_an_embedding_is_drawn_from_the_normal_distribution() -> None:
    layer = nn.Embedding(50, 40)
    initialize(layer, seed=1)
    assert abs(layer.weight.master.std() - 1) < 0.05


def test_arguments_are_checked() -> None:
    for call, words in [
        (lambda: nn.Conv2d(4, 4, 3, stride=2, padding="same"), 'padding="same" needs a stride of 1'),
        (lambda: nn.Conv2d(4, 4, 3, padding="sme"), "padding"),
        (lambda: nn.Conv2d(4, 4, 3, padding_mode="mirror"), "padding_mode"),
        (lambda: nn.ConvTranspose2d(4, 6, 3, groups=4), "4 input and 6 output channels"),
        (lambda: nn.GroupNorm(3, 4), "4 channels cannot be divided into 3 groups"),
        (lambda: nn.LayerNorm((4, 0)), r"shape\[1\]"),
        (lambda: nn.GELU("fast"), "approximate"),
        (lambda: nn.LeakyReLU(float("inf")), "negative_slope"),
        (lambda: nn.StochasticDepth(-0.1), "share"),
    ]:
        with pytest.raises(ValueError, match=words):
            call()
