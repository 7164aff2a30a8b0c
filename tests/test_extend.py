"""mpsim.extend: what docs/extending.md adds trains, what is wrong is refused, packages bring things along."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mpsim import extend, kernels, networks, plugins, trace
from mpsim.assignment import SCHEMES, assign
from mpsim.assignment.liveness import peak_memory
from mpsim.data import DATASETS
from mpsim.errors import UsageError, UsageTypeError
from mpsim.ops import PRIMITIVES, RELU
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
    assert np.allclose(kernels.bind("compiled").gelu(x), exact, rtol=2e-7, atol=0)  # type: ignore[attr-defined]


def test_a_wrong_derivative_is_refused() -> None:
    wrong = dataclasses.replace(
        RELU,
        kind="LeakyReLU",
        backward=lambda kernels, gradient, saved, needs: ((kernels.scale(gradient, 0.5),), ()),
    )
    with pytest.raises(UsageError, match="op 'LeakyReLU': .*disagree"):
        extend.op(wrong)
    assert "LeakyReLU" not in PRIMITIVES
    with pytest.raises(UsageError, match="no samples"):
        extend.op(dataclasses.replace(RELU, kind="Unchecked", samples=()))
    with pytest.raises(UsageTypeError, match="primitive must be"):
        extend.op("ReLU")  # type: ignore[arg-type]


def test_what_is_missing_or_taken() -> None:
    with pytest.raises(UsageError, match="needs a function"):
        extend.kernel("gelu")
    with pytest.raises(UsageError, match="there is a kernel 'add' already"):
        extend.kernel("add", host=np.add)
    with pytest.raises(UsageError, match="no colon"):
        extend.backend("chip:1", "mpsim.kernels.reference")
    with pytest.raises(UsageError, match="plain name"):
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
    extend.preset(PRESETS["ml_dtypes"]._replace(name="our_chip"))
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
