"""Networks by name and from files: what they are called with, and every mistake reported with its place."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest

import reference_models
from mpsim import networks
from mpsim.cli import main
from mpsim.data import Dataset
from mpsim.experiments.run import run
from mpsim.experiments.settings import RunSettings
from mpsim.initialization import initialize
from mpsim.trace import trace

BODY = """
from mpsim import nn

class Net(nn.Module):
    def __init__(self, channels, classes):
        self.conv = nn.Conv2d({inputs}, channels, 3)
        self.pool = nn.AvgPool2d()
        self.flatten = nn.Flatten()
        self.head = nn.Linear(channels, classes)

    def __call__(self, x):
        return self.head(self.flatten(self.pool(self.conv(x))))
"""
TAKES_ALL = BODY.format(inputs="input_shape[0]").replace("channels, classes):", "channels, classes, input_shape):") + (
    "\ncalled = []\n"
    "def build(width=1.0, classes=10, seed=0, input_shape=(1, 8, 8)):\n"
    "    net = Net(round(8 * width), classes, input_shape)\n"
    "    net.called = (width, classes, seed, input_shape)\n"
    "    return net\n"
)
TAKES_NONE = (
    BODY.format(inputs="1") + "def build():\n    net = Net(4, 10)\n    net.input_shape = (1, 8, 8)\n    return net\n"
)


@pytest.fixture
def file(tmp_path):
    """file(text, function) -> what names the network."""

    def write(text, function="build"):
        (tmp_path / "my_net.py").write_text(text)
        return f"{tmp_path / 'my_net.py'}:{function}"

    return write


def test_a_function_gets_what_it_takes(file):
    network = networks.build(file(TAKES_ALL), width=0.5, classes=7, seed=3, input_shape=(3, 16, 16))
    assert network.called == (0.5, 7, 3, (3, 16, 16))
    assert (network.width, network.classes, network.input_shape) == (0.5, 7, (3, 16, 16))
    assert networks.build(file(TAKES_ALL)).called == (1.0, 10, 0, (1, 8, 8)), "what is not known is left to the file"


def test_a_function_that_takes_nothing_gets_its_weights_drawn(file):
    name = file(TAKES_NONE)
    network = networks.build(name, width=0.5, classes=3, seed=5)
    assert (network.width, network.classes) == (1.0, 10)
    by_hand = networks.build(name, seed=None)
    assert not any(parameter.master.any() for parameter in by_hand.parameters().values())
    initialize(by_hand, 5)
    for key, array in by_hand.state().items():
        assert np.array_equal(network.state()[key], array)


def test_weights_that_the_file_set_are_left(file):
    own = TAKES_NONE.replace("    return net\n", "    net.conv.weight.master[:] = 2\n    return net\n")
    network = networks.build(file(own))
    assert (network.conv.weight.master == 2).all() and not network.head.weight.master.any()


@pytest.mark.parametrize("name", reference_models.MODELS)
def test_a_reference_network_is_the_same_by_name(name):
    ours = networks.build(name, seed=None)
    assert trace(ours, 2) == trace(reference_models.build(name, seed=None), 2)
    if name in ("resnet18", "shufflenet_v2"):
        assert networks.build(name, seed=None, input_shape=(3, 224, 224)).input_shape == (3, 224, 224)


MISTAKES = {
    "no file": (None, "build", "my_net.py cannot be read (No such file"),
    "no function": (TAKES_NONE, "bild", "no function 'bild'. Its functions and classes: Net, build"),
    "import": ("import nowhere_to_be_found\n", "build", "failed at line 1 (ModuleNotFoundError"),
    "syntax": ("x = 1\ndef build(:\n", "build", "failed at line 2 (SyntaxError"),
    "exits": ("raise SystemExit(3)\n", "build", "failed at line 1 (SystemExit: 3)"),
    "build fails": ("def build():\n    return 1 / 0\n", "build", "failed at line 2 (ZeroDivisionError"),
    "argument": ("def build(depth):\n    pass\n", "build", "missing 1 required positional argument: 'depth'"),
    "no network": (
        "def build():\n    return 7\n",
        "build",
        "should return a network (mpsim.nn.Module or torch.nn.Module), got int",
    ),
    "no shape": (BODY.format(inputs="1") + "def build():\n    return Net(4, 10)\n", "build", "set network.input_shape"),
    "call fails": (TAKES_NONE.replace("self.pool(", "self.pol("), "build", "failed on images of (1, 8, 8), at line 12"),
    "not logits": (TAKES_NONE.replace("return self.head(", "return float("), "build", "failed on images of (1, 8, 8)"),
    "classes": (
        TAKES_NONE.replace("return net", "net.classes = 3; return net"),
        "build",
        "3 classes but returns 10 log",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_and_exits_with_2(file, mistake, capsys):
    text, function, message = MISTAKES[mistake]
    name = file(text or "", function)
    if text is None:
        networks.file_of(name).path.unlink()
    for command in (["plan", name, "--scheme", "uniform_low"], ["trace-step", name, "--out", "never.npz"]):
        with pytest.raises(SystemExit) as stopped:
            main(command)
        errors = capsys.readouterr().err
        assert stopped.value.code == 2 and "Traceback" not in errors
        assert message in " ".join(errors.split())


def test_an_unknown_name_is_told_the_near_ones():
    with pytest.raises(ValueError, match="unknown model 'resnet'; did you mean resnet18?"):
        networks.build("resnet", input_shape=(3, 32, 32))


def test_a_file_without_a_function_is_asked_for_it():
    with pytest.raises(ValueError, match=r"needs the function that builds the network, e\.g\. my_net\.py:build"):
        networks.build("my_net.py")


def test_the_key_of_a_run_has_the_content_of_the_file_and_not_its_folder(file, tmp_path):
    settings = RunSettings(model=file(TAKES_NONE), epochs=1, batch=479)
    assert settings.to_dict()["model_sha256"] == hashlib.sha256(TAKES_NONE.encode()).hexdigest()
    assert settings.to_dict()["model"] == "my_net.py:build"
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "my_net.py").write_text(TAKES_NONE)
    assert RunSettings(model=f"{tmp_path}/elsewhere/my_net.py:build", epochs=1, batch=479).key == settings.key
    old = settings.key
    changed = RunSettings(model=file(TAKES_NONE + "\n"), epochs=1, batch=479)
    assert changed == settings and settings.key == changed.key != old
    with pytest.raises(ValueError, match="my_net.py changed after the run was set up"):
        run(settings, backend="reference", threads=1, key=old)
    assert "model_sha256" not in RunSettings().to_dict()
    assert replace(changed, model="small_cnn").to_dict().get("model_sha256") is None
    (tmp_path / "other.py").write_text(TAKES_ALL)
    other = replace(changed, model=f"{tmp_path}/other.py:build").contents().model_sha256
    assert other == hashlib.sha256(TAKES_ALL.encode()).hexdigest()


def test_a_network_for_other_images_or_fewer_classes_is_refused(file):
    colour = Dataset(np.zeros((4, 3, 32, 32), np.float32), np.arange(4), 10, "colour")
    grey = Dataset(np.zeros((4, 1, 8, 8), np.float32), np.arange(4), 10, "grey")
    with pytest.raises(ValueError, match=r"needs images of shape \(1, 8, 8\), but colour has \(3, 32, 32\)"):
        RunSettings(model=file(TAKES_NONE)).build(colour)
    with pytest.raises(ValueError, match="has 4 output classes but grey has 10"):
        RunSettings(model=file(TAKES_NONE.replace("Net(4, 10)", "Net(4, 4)"))).build(grey)


def test_train_with_a_file_stores_and_goes_on(file, tmp_path, capsys):
    command = [
        "train",
        file(TAKES_ALL),
        "--scheme",
        "largest_first",
        "--ratio",
        "0.5",
        "--epochs",
        "1",
        "--batch",
        "479",
    ]
    shown = []
    for _ in range(2):
        with pytest.raises(SystemExit) as stopped:
            main([*command, "--results", str(tmp_path), "--json"])
        assert stopped.value.code == 0
        shown.append(capsys.readouterr().out)
    assert '"stored_on": null' in shown[0] and '"stored_on": "20' in shown[1]
    assert shown[0].rpartition('"stored_on"')[0] == shown[1].rpartition('"stored_on"')[0]
    assert '"model": "my_net.py:build"' in shown[0]
