"""Layers: names as in a PyTorch state dict, states in and out, and one call of each."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from networks import Branching, batch, loss_of

from mpsim import kernels, nn
from mpsim.engine.tape import Tape
from mpsim.engine.tensor import Parameter
from mpsim.errors import MpsimError

KERNELS = kernels.bind("reference")


class Block(nn.Module):
    def __init__(self) -> None:
        self.conv1 = nn.Conv2d(2, 2, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(2)

    def __call__(self, x: Any) -> Any:
        return self.bn1(self.conv1(x))


class Network(nn.Module):
    def __init__(self) -> None:
        self.gain = Parameter(np.ones(1, np.float32))
        self.layer1 = nn.Sequential(Block(), nn.Sequential(nn.ReLU(), Block()))
        self.head = nn.Linear(2, 3)


BN = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def test_names_are_those_of_a_pytorch_state_dict() -> None:
    model = Network()
    blocks = ("layer1.0", "layer1.1.1")
    expected = ["gain"]
    for block in blocks:
        expected += [f"{block}.conv1.weight", *(f"{block}.bn1.{name}" for name in BN)]
    expected += ["head.weight", "head.bias"]
    assert list(model.state()) == expected
    buffers = {f"{block}.bn1.{name}" for block in blocks for name in BN[2:]}
    assert list(model.parameters()) == [name for name in expected if name not in buffers]
    assert set(model.buffers()) == buffers
    assert all(parameter.name == name for name, parameter in model.parameters().items())
    assert model.layer1.path == "layer1" and vars(model.layer1)["1"].path == "layer1.1"


def test_layers_of_layers_are_renamed_as_they_move_up() -> None:
    inner = Block()
    assert list(inner.parameters())[0] == "conv1.weight"
    outer = nn.Sequential(inner)
    assert list(outer.parameters())[0] == "0.conv1.weight"
    assert inner.conv1.weight.name == "0.conv1.weight" and inner.conv1.path == "0.conv1"


def test_a_layer_has_one_place() -> None:
    layer = nn.ReLU()
    nn.Sequential(layer)
    with pytest.raises(ValueError, match="layer '0' already has a place in a network"):
        nn.Sequential(layer)


def test_ops_are_named_by_their_layers() -> None:
    tape = Tape(KERNELS)
    loss_of(tape, Branching(), *batch())
    names = "input conv1 bn1 relu1 pool1 split.first split.second branch.0 branch.1 cat conv2 add relu2 avgpool linear"
    assert [op.name for op in tape.ops] == [*names.split(), "criterion.logsoftmax", "criterion.nllloss"]


def test_state_is_a_copy_and_goes_back_bit_for_bit() -> None:
    model, other = Branching(seed=1), Branching(seed=2)
    tape = Tape(KERNELS)
    loss_of(tape, model, *batch())
    state = model.state()
    assert state["bn1.num_batches_tracked"] == 1 and state["bn1.num_batches_tracked"].dtype == np.int64
    assert state["bn1.running_mean"].any()
    other.load_state(state)
    for name, array in other.state().items():
        assert array.dtype == state[name].dtype and array.tobytes() == state[name].tobytes(), name
    state["conv1.weight"].fill(7)
    assert not (model.conv1.weight.master == 7).any() and not (other.conv1.weight.master == 7).any()
    assert all(parameter.value is parameter.master for parameter in other.parameters().values())


def test_deep_copies_are_models_of_their_own() -> None:
    model = Branching()
    twin = copy.deepcopy(model)
    twin.conv1.weight.master.fill(7)
    assert list(twin.parameters()) == list(model.parameters())
    assert not (model.conv1.weight.master == 7).any()


def changed(**arrays: Any) -> dict[str, Any]:
    state = nn.Linear(2, 3).state()
    return {name: array for name, array in (state | arrays).items() if array is not None}


@pytest.mark.parametrize(
    "state,message",
    [
        (changed(weight=None), "load_state: missing weight. strict=False"),
        (changed(scale=np.zeros(1)), "load_state: unexpected scale. strict=False"),
        (changed(bias=None, scale=np.zeros(1)), "missing bias; unexpected scale"),
        ({f"extra{i}": 0 for i in range(9)} | changed(), "unexpected extra0, extra1, extra2, extra3 and 5 more"),
        (changed(weight=np.zeros((2, 3))), r"weight must have shape \(3, 2\), got \(2, 3\)"),
        (changed(bias=np.array([0.1, 0, 0])), "bias has values of float64 that float32 does not hold exactly"),
        (changed(bias=np.array(["a", "b", "c"])), "bias must hold numbers, got <U1"),
        (changed(bias=np.zeros(3, complex)), "bias must hold numbers, got complex128"),
    ],
)
def test_states_that_do_not_fit_are_refused_and_nothing_is_loaded(state: dict, message: str) -> None:
    layer = nn.Linear(2, 3)
    layer.weight.master.fill(5)
    with pytest.raises(ValueError, match=message):
        layer.load_state(state)
    assert (layer.weight.master == 5).all() and not layer.bias.master.any()


def test_states_of_other_number_types_are_taken_where_they_are_exact() -> None:
    layer = nn.Linear(2, 3)
    layer.load_state({"weight": [[1, 2], [3, 4], [5, 6]], "bias": np.array([0.5, -0.0, np.nan], ml_dtypes.bfloat16)})
    assert layer.weight.master.tolist() == [[1, 2], [3, 4], [5, 6]] and layer.weight.master.dtype == np.float32
    assert layer.bias.master[0] == 0.5 and np.signbit(layer.bias.master[1]) and np.isnan(layer.bias.master[2])


def test_not_strict_loads_the_names_that_fit() -> None:
    layer = nn.Linear(2, 3)
    layer.load_state({"bias": np.ones(3), "scale": np.ones(1)}, strict=False)
    assert (layer.bias.master == 1).all() and not layer.weight.master.any()
    with pytest.raises(ValueError, match="bias must have shape"):
        layer.load_state({"bias": np.ones(2)}, strict=False)


class Elsewhere:
    """An array that NumPy does not see into, as on a device."""

    def __init__(self, array: np.ndarray) -> None:
        self.hidden, self.shape = array.copy(), array.shape


def test_a_model_moves_to_a_backend_and_its_state_comes_back() -> None:
    model = Branching()
    before = model.state()
    device = SimpleNamespace(from_numpy=Elsewhere, to_numpy=lambda array: array.hidden)
    model.move(device)
    assert isinstance(model.conv1.weight.master, Elsewhere) and isinstance(model.bn1.running_mean, Elsewhere)
    assert model.conv1.weight.value is model.conv1.weight.master
    after = model.state()
    assert all(after[name].tobytes() == array.tobytes() for name, array in before.items())
    model.load_state(before)
    assert isinstance(model.conv1.weight.master, Elsewhere)
    assert isinstance(model.bn1.num_batches_tracked, np.ndarray)  # counted on the host
    model.move(KERNELS)
    assert isinstance(model.conv1.weight.master, np.ndarray)
    assert all(model.state()[name].tobytes() == array.tobytes() for name, array in before.items())


def test_batches_are_counted_in_training_only() -> None:
    layer = nn.BatchNorm2d(2)
    x = np.ones((3, 2, 2, 2), np.float32)
    for options in ({"training": False}, {"shape_only": True}):
        layer(Tape(KERNELS, **options).input(x))
        assert layer.num_batches_tracked == 0 and not layer.running_mean.any()
    layer(Tape(KERNELS).input(x))
    assert layer.num_batches_tracked == 1 and layer.running_mean.tolist() == [np.float32(0.1)] * 2


def test_every_layer_runs() -> None:
    tape = Tape(KERNELS)
    x = tape.input(np.ones((2, 4, 6, 6), np.float32))
    layers = nn.Sequential(
        nn.Conv2d(4, 6, (3, 1), stride=(1, 2), padding=(1, 0), groups=2),  # (2, 6, 6, 3)
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.MaxPool2d(3, 1, 1),
        nn.AvgPool2d((2, 3)),  # (2, 6, 3, 1)
        nn.ChannelShuffle(3),
        nn.Identity(),
        nn.Flatten(),
        nn.Linear(18, 5),
    )
    assert layers(x).shape == (2, 5)
    first, second = nn.SplitHalf()(x)
    assert nn.Cat()(first, second, first).shape == (2, 6, 6, 6)
    assert nn.Add()(first, second).shape == (2, 2, 6, 6)


@pytest.mark.parametrize(
    "build,message",
    [
        (lambda: nn.Conv2d(3, 4, 3, groups=2), "3 input and 4 output channels cannot be divided into 2 groups"),
        (lambda: nn.Conv2d(4, 3, 3, groups=2), "4 input and 3 output channels cannot be divided into 2 groups"),
        (lambda: nn.Conv2d(4, 4, 3, groups=0), "groups must be a whole number of at least 1, got 0"),
        (lambda: nn.Conv2d(1, 1, 0), "kernel_size must be a whole number from 1 to .*got 0"),
        (lambda: nn.Linear(0, 1), "at least 1"),
    ],
)
def test_layers_without_sense_are_refused(build: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()


def test_a_module_without_a_call_says_so() -> None:
    with pytest.raises(NotImplementedError, match="Module defines no __call__"):
        nn.Module()()


# -- lists of layers ----------------------------------------------------------------------------------------


class Stacked(nn.Module):
    def __init__(self) -> None:
        self.blocks = nn.ModuleList(Block() for _ in range(2))
        self.blocks.append(nn.ReLU()).extend([nn.Linear(2, 3)])

    def __call__(self, x: Any) -> Any:
        for block in self.blocks:
            x = block(x)
        return x


def test_a_module_list_names_its_layers_as_pytorch_does() -> None:
    model = Stacked()
    block = ("conv1.weight", *(f"bn1.{name}" for name in BN))
    expected = [f"blocks.{place}.{name}" for place in (0, 1) for name in block]
    assert list(model.state()) == [*expected, "blocks.3.weight", "blocks.3.bias"]
    assert len(model.blocks) == 4 and isinstance(model.blocks[-1], nn.Linear) and model.blocks[3].path == "blocks.3"
    assert [type(layer) for layer in model.blocks][2:] == [nn.ReLU, nn.Linear]
    with pytest.raises(IndexError):
        model.blocks[4]
    with pytest.raises(NotImplementedError, match="ModuleList defines no __call__"):
        model.blocks(None)


@pytest.mark.parametrize(
    "value,message",
    [
        ([nn.ReLU()], "parts of Module is a list of layers, which would not be trained.*use nn.ModuleList"),
        ((nn.ReLU(),), "is a tuple of layers"),
        ({"a": nn.ReLU()}, "is a dict of layers"),
        ([1, {"a": [nn.ReLU()]}], "is a list of layers"),
        ([Parameter(np.zeros(1, np.float32))], "is a list of parameters.*an attribute for each parameter"),
    ],
)
def test_layers_in_a_python_container_are_refused(value: Any, message: str) -> None:
    model = nn.Module()
    with pytest.raises(ValueError, match=message):
        model.parts = value
    assert not hasattr(model, "parts")


def test_containers_of_other_things_are_taken() -> None:
    model = nn.Module()
    for value in ([1, 2], (3, 8, 8), {"a": [None]}, "text", []):
        model.parts = value
        assert model.parts == value


@pytest.mark.parametrize("layers", [nn.Sequential, lambda *layers: nn.ModuleList(layers)])
@pytest.mark.parametrize("wrong", [nn.ReLU, [nn.ReLU()], len, None])
def test_what_is_not_a_layer_is_refused_by_its_place(layers: Any, wrong: Any) -> None:
    with pytest.raises(TypeError, match="layer 1 must be an nn.Module"):
        layers(nn.ReLU(), wrong)


@pytest.mark.parametrize(
    "build,name",
    [
        (lambda n: nn.Conv2d(n, 1, 3), "in_channels"),
        (lambda n: nn.Conv2d(1, n, 3), "out_channels"),
        (lambda n: nn.Conv2d(1, 1, n), "kernel_size"),
        (lambda n: nn.Conv2d(1, 1, (3, n)), r"kernel_size\[1\]"),
        (lambda n: nn.Conv2d(1, 1, 3, stride=n), "stride"),
        (lambda n: nn.Conv2d(1, 1, 3, groups=n), "groups"),
        (lambda n: nn.Linear(n, 1), "in_features"),
        (lambda n: nn.Linear(1, n), "out_features"),
        (lambda n: nn.BatchNorm2d(n), "channels"),
        (lambda n: nn.BatchNorm2d(1, epsilon=n), "epsilon"),
        (lambda n: nn.BatchNorm2d(1, momentum=n), "momentum"),
        (lambda n: nn.MaxPool2d(n), "kernel_size"),
        (lambda n: nn.AvgPool2d(2, stride=n), "stride"),
        (lambda n: nn.AvgPool2d(n), "kernel_size"),
        (lambda n: nn.ChannelShuffle(n), "groups"),
    ],
)
@pytest.mark.parametrize("wrong", [-1, float("nan"), "3", True])
def test_numbers_of_layers_are_checked_as_they_are_built(build: Any, name: str, wrong: Any) -> None:
    with pytest.raises(MpsimError, match=f"^{name} must be .* got {wrong!r}"):
        build(wrong)


def test_numpy_integers_are_sizes_too() -> None:
    layer = nn.Conv2d(np.int64(2), np.uint8(4), (np.int32(3), 1), padding=np.int64(1))
    assert layer.weight.shape == (4, 2, 3, 1) and layer.padding == (1, 1)


def test_a_layer_larger_than_the_machine_is_refused_before_it_is_made() -> None:
    with pytest.raises(ValueError, match="a parameter of shape .* needs .* bytes and this machine has .*smaller"):
        nn.Linear(1 << 24, 1 << 24)


def test_a_state_is_a_mapping() -> None:
    with pytest.raises(TypeError, match="state must be a mapping of names to arrays"):
        nn.Linear(1, 1).load_state([("weight", 1)])  # type: ignore[arg-type]
