"""mpsim.extend: what docs/extending.md adds trains, what is wrong is refused, packages bring things along."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
import linecache
import re
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mpsim import extend, kernels, networks, plugins, trace
from mpsim.assignment import SCHEMES, assign
from mpsim.assignment.liveness import peak_memory
from mpsim.data import DATASETS
from mpsim.engine.primitive import Primitive, Sample
from mpsim.errors import UsageError, UsageTypeError
from mpsim.experiments.settings import RunSettings
from mpsim.ops import PRIMITIVES, RELU
from mpsim.testing.promises import check_promises
from mpsim.training.trainer import Trainer
from mpsim.validate import PRESETS, validate_cast

DOCUMENT = (Path(__file__).parent.parent / "docs/extending.md").read_text()


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """What a test adds is gone after it."""
    tables: list[dict[str, Any]] = [PRIMITIVES, kernels.FURTHER, kernels.BACKENDS, networks.FURTHER, DATASETS, SCHEMES]
    tables.append(PRESETS)
    copies = [dict(table) for table in tables]
    yield
    for table, copy in zip(tables, copies, strict=True):
        table.clear()
        table.update(copy)


def said(row: str) -> float:
    """A percentage of the document's table."""
    (found,) = re.findall(rf"^\| {row} \| ([\d.]+) % \|$", DOCUMENT, re.MULTILINE)
    return float(found)


def blocks(count: int | None = None) -> dict[str, Any]:
    """The names that the document's first ``count`` blocks of Python define."""
    names: dict[str, Any] = {}
    for block in re.findall(r"^```python\n(.*?)^```$", DOCUMENT, re.DOTALL | re.MULTILINE)[:count]:
        exec(compile(block, "docs/extending.md", "exec"), names)
    return names


def test_the_document_trains_a_gelu_from_nothing() -> None:
    names = blocks()
    assert round(100 * names["plan"].low_share, 1) == said("elements held low")
    assert round(100 * names["accuracy"], 1) == said("test accuracy")
    assert peak_memory(names["plan"]).bytes > 0


def test_an_op_of_ones_own_has_equal_bits_on_every_cpu_backend() -> None:
    blocks(3)
    images, labels = np.random.default_rng(1).standard_normal((4, 1, 8, 8)).astype(np.float32), np.arange(4)
    digests = set()
    for backend in ("reference", "numba", "compiled"):
        model = networks.build("gelu_net", seed=1)
        trainer = Trainer(model, assign(trace(model, batch=4), "uniform_low"), backend=backend, threads=1)
        trainer.step(images, labels)
        digests.add(trainer.digest())
    assert len(digests) == 1


def test_gelu_is_what_its_formula_gives() -> None:
    blocks(1)
    x = np.float32([-3, -0.5, 0, 0.5, 3])
    exact = x.astype(np.float64) / (1 + np.exp(-1.702 * x.astype(np.float64)))
    assert np.allclose(kernels.bind("compiled").quick_gelu(x), exact, rtol=2e-7, atol=0)  # type: ignore[attr-defined]


def test_a_wrong_derivative_is_refused() -> None:
    wrong = dataclasses.replace(
        RELU,
        kind="HalfReLU",
        backward=lambda kernels, gradient, saved, needs: ((kernels.scale(gradient, 0.5),), ()),
    )
    with pytest.raises(UsageError, match="op 'HalfReLU': .*disagree"):
        extend.op(wrong)
    assert "HalfReLU" not in PRIMITIVES
    with pytest.raises(UsageError, match="no samples"):
        extend.op(dataclasses.replace(RELU, kind="Unchecked", samples=()))
    with pytest.raises(UsageTypeError, match="primitive must be"):
        extend.op("ReLU")  # type: ignore[arg-type]


def test_what_is_missing_or_taken() -> None:
    with pytest.raises(UsageError, match="needs a function"):
        extend.kernel("quick_gelu")
    with pytest.raises(UsageError, match="there is a kernel 'add' already"):
        extend.kernel("add", host=np.add)
    with pytest.raises(UsageError, match="must not contain a colon"):
        extend.backend("chip:1", "mpsim.kernels.reference")
    with pytest.raises(UsageError, match="must not contain a colon or end in .py"):
        extend.network("nets.py", lambda: None)
    with pytest.raises(UsageError, match="unknown model 'gelu_nett'; did you mean gelu_net"):
        blocks(3)
        networks.build("gelu_nett")


def test_a_backend_a_scheme_a_dataset_and_a_preset() -> None:
    extend.backend("plain", "mpsim.kernels.reference", "the reference under another name")
    assert kernels.bind("plain").backend == "plain"
    half = extend.scheme(dataclasses.replace(SCHEMES["uniform_low"], name="everything_low"))
    model = networks.build("small_cnn", width=0.25)
    assert assign(trace(model, batch=2), half.name).low_share == assign(trace(model, batch=2), "uniform_low").low_share
    extend.dataset(dataclasses.replace(DATASETS["digits"], name="numerals"))
    extend.preset(PRESETS["ml_dtypes<0.7"]._replace(name="our_chip"))
    report = validate_cast("ml_dtypes.float8_e5m2", source="float16")
    assert report.fingerprint is not None and "our_chip" in report.fingerprint.equal_presets


# -- packages -------------------------------------------------------------------------------------------------

PACKAGE = """
import mpsim.data
from mpsim import nn

SOURCE = mpsim.data.DATASETS["digits"].__class__("numerals", "digits again", mpsim.data.DATASETS["digits"].read)

def build(classes=10, input_shape=(1, 8, 8)):
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, classes))
    network.input_shape = input_shape
    return network
"""
POINTS = """[mpsim.models]
one_layer = my_package:build
broken = my_package:nothing
[mpsim.datasets]
numerals = my_package:SOURCE
[mpsim.backends]
plain = mpsim.kernels.reference
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A folder for the path of Python with a package in it, as pip leaves one."""
    (tmp_path / "my_package.py").write_text(PACKAGE)
    information = tmp_path / "my_package-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(POINTS)
    return tmp_path


def test_commands_find_what_a_package_brings(package: Path, tmp_path: Path) -> None:
    arguments = ["one_layer", "--data", "numerals", "--backend", "plain", "--epochs", "1", "--json"]
    command = [sys.executable, "-m", "mpsim.cli", "train", *arguments, "--results", str(tmp_path / "runs")]
    environment = {"PYTHONPATH": str(package), "PATH": ""}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    row = json.loads(done.stdout)
    assert (row["model"], row["data"]) == ("one_layer", "numerals") and row["test_accuracy"] > 0.5
    assert row["model_sha256"] == hashlib.sha256(PACKAGE.encode()).hexdigest()
    command[4] = "broken"
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.returncode == 2
    assert "'broken' comes from my-package (my_package:nothing), which cannot be imported" in done.stderr


def test_names_of_packages_are_listed(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(package)
    plugins.of_group.cache_clear()
    try:
        assert {"one_layer", "small_cnn"} <= set(networks.known())
        with pytest.raises(UsageError, match="did you mean plain"):
            kernels.load("plainn")
    finally:
        plugins.of_group.cache_clear()


# -- what a declaration has to hold -----------------------------------------------------------------------------


def twice(**changes: Any) -> Primitive:
    """y = 2 x as an op, with some of its parts another."""
    parts: dict[str, Any] = {
        "forward": lambda kernels, inputs, parameters: (inputs[0] * 2, ()),
        "backward": lambda kernels, gradient, saved, needs: ((gradient * 2,), ()),
        "output_shape": lambda inputs, parameters: inputs[0],
        "samples": (Sample(((3, 4),)),),
    }
    return Primitive("Twice", **{**parts, **changes})


def test_the_sound_one_of_the_ops_below_is_taken() -> None:
    assert extend.op(twice()).kind == "Twice"


@pytest.mark.parametrize(
    ("words", "changes"),
    [
        ("output is float64", {"forward": lambda k, inputs, p: (inputs[0] * np.float64([2]), ())}),
        ("output has shape", {"output_shape": lambda inputs, parameters: (2,)}),
        ("output shares memory with", {"forward": lambda k, inputs, p: (inputs[0], ())}),
        ("output is not in C order", {"forward": lambda k, inputs, p: (np.asfortranarray(inputs[0] * 2), ())}),
        ("output is a float", {"forward": lambda k, inputs, p: (1.0, ())}),
        ("does not set reads_input_again", {"forward": lambda k, inputs, p: (inputs[0] * 2, (inputs[0],))}),
        (
            "it changes its inputs",
            {"forward": lambda k, inputs, p: (np.multiply(inputs[0], 2, out=inputs[0]).copy(), ())},
        ),
        ("gradient of input 0 is float64", {"backward": lambda k, g, s, n: ((g * np.float64([2]),), ())}),
        ("gradient of input 0 has shape", {"backward": lambda k, g, s, n: ((g.reshape(-1) * 2,), ())}),
        ("it returned 2 gradients", {"backward": lambda k, g, s, n: ((g * 2, g * 2), ())}),
        ("disagree for input 0", {"backward": lambda k, g, s, n: ((g * 3,), ())}),
        ("fails on .*ZeroDivisionError", {"forward": lambda k, inputs, p: 1 / 0}),
        ("has no samples", {"samples": ()}),
    ],
)
def test_an_op_that_is_not_what_it_says_is_refused(words: str, changes: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=f"op 'Twice'.*{words}"):
        extend.op(twice(**changes))
    assert "Twice" not in PRIMITIVES


@pytest.mark.parametrize("kind", [kind for kind in PRIMITIVES if kind != "Input"])
def test_every_op_of_mpsim_is_what_it_says(kind: str) -> None:
    assert PRIMITIVES[kind].samples
    for sample in PRIMITIVES[kind].samples:
        check_promises(PRIMITIVES[kind], sample)


@pytest.mark.parametrize("name", ["backend", "threads", "accumulator", "two words", "class", "add"])
def test_a_kernel_has_a_name_of_its_own_that_ops_can_say(name: str) -> None:
    with pytest.raises(UsageError, match=f"'{name}'"):
        extend.kernel(name, host=abs)


@pytest.mark.parametrize("module", [None, 3, object()])
def test_a_backend_is_a_module(module: Any) -> None:
    with pytest.raises(UsageTypeError, match="module must be a module or the name of one"):
        extend.backend("mine", module)


def test_a_backend_whose_arguments_cannot_be_seen_is_refused() -> None:
    module = types.ModuleType("mine")
    vars(module).update({name: getattr(kernels.load("reference"), name) for name in kernels.CONTRACT} | {"relu": dict})
    with pytest.raises(kernels.BackendUnavailable, match="the arguments of relu cannot be inspected"):
        extend.backend("mine", module)


def test_a_backend_whose_name_begins_as_cuda_has_host_kernels() -> None:
    extend.backend("cuda_model", "mpsim.kernels.reference")
    extend.kernel("halve", host=lambda x: x / 2)
    bound: Any = kernels.bind("cuda_model")
    assert bound.halve(3.0) == 1.5 and bound.relu(np.float32([-1, 2])).tolist() == [0, 2]


@pytest.mark.parametrize("build", [5, dict, functools.partial(dict)])
def test_a_network_is_a_function_of_a_file(build: Any) -> None:
    with pytest.raises(UsageError, match="network 'net' needs a function or class of Python code"):
        extend.network("net", build)


def test_a_run_of_a_network_that_is_in_no_file_has_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    names: dict[str, Any] = {}
    text = "def build(classes=10):\n    return 1"
    exec(compile(text, "<string>", "exec"), names)
    monkeypatch.setitem(
        linecache.cache, "<string>", (len(text), None, text.splitlines(True), "<string>")
    )  # Python 3.13
    extend.network("typed", names["build"])
    with pytest.raises(UsageError, match="'typed' must be in a file"):
        _ = RunSettings(model="typed").key


def test_the_key_of_a_network_with_a_decorator_is_of_its_own_file() -> None:
    extend.network("wrapped", contextlib.contextmanager(twice))
    assert networks.content_hash("wrapped") == hashlib.sha256(Path(__file__).read_bytes()).hexdigest()


def test_backends_of_packages_are_listed(package: Path) -> None:
    points = package / "my_package-1.0.dist-info/entry_points.txt"
    points.write_text(POINTS + "gone = my_package:nothing\nfunction = my_package:build\n")
    command = [sys.executable, "-m", "mpsim.cli", "backends", "--json"]
    environment = {"PYTHONPATH": str(package), "PATH": ""}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=package)
    rows = {row["name"]: row for row in json.loads(done.stdout)}
    assert rows["plain"]["available"] and rows["plain"]["description"] == "of an installed package"
    assert "cannot be imported" in rows["gone"]["cause"] and "is not a module" in rows["function"]["cause"]
