"""Imports go down: a file imports only from floors below its own, or from its own package."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

#: From the ground up; modules of one row do not import each other.
FLOORS = (
    ("mpsim.errors",),
    ("mpsim.files",),
    ("mpsim.weights",),
    ("mpsim.checks", "mpsim.plugins"),
    ("mpsim.formats",),
    ("mpsim.accumulators", "mpsim.policies"),
    ("mpsim.tensor_cores",),
    ("mpsim.kernels",),
    ("mpsim.kernels.cuda.device",),
    ("mpsim.kernels.cuda.rounding", "mpsim.kernels.cuda.chunks", "mpsim.kernels.cuda.layers"),
    ("mpsim.kernels.cuda.contraction",),
    ("mpsim.kernels.cuda",),
    ("mpsim.rounding",),
    ("mpsim.contraction", "mpsim.blocks"),
    ("mpsim.engine",),
    ("mpsim.ops",),
    ("mpsim.nn",),
    ("mpsim.initialization",),
    ("mpsim.trace",),
    ("mpsim.assignment", "mpsim.data", "reference_models"),
    ("mpsim.networks",),
    ("mpsim.training",),
    ("mpsim.experiments", "mpsim.validate", "reference_models.golden"),
    ("mpsim.vectors", "mpsim.kernels.cuda_check"),
    ("mpsim.testing",),
    ("mpsim.extend",),
    ("mpsim.cli",),
    ("mpsim",),
)


def floor_of(module: str) -> tuple[int, str]:
    """(height, row's name) of the longest row that the module's name starts with."""
    rows = [(name, height) for height, names in enumerate(FLOORS) for name in names]
    fitting = [(len(name), height, name) for name, height in rows if f"{module}.".startswith(f"{name}.")]
    if not fitting or max(fitting)[2] == "mpsim" != module:
        raise LookupError(f"{module} is on no floor: add it to FLOORS")
    return max(fitting)[1:]


def imports(source: str) -> set[str]:
    """Modules of the project that the text imports; ``from a import b`` is a.b where that is a file, else a."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            files = {name for name in inner if is_module(name)}
            found |= files | ({node.module or ""} if inner - files else set())
    return {name for name in found if name.split(".")[0] in ("mpsim", "reference_models")}


def is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return path.with_suffix(".py").exists() or path.is_dir() or name == "mpsim._kernels"


def upward(module: str, source: str) -> list[str]:
    """What the module imports that is not below it."""
    height, row = floor_of(module)
    wrong = []
    for name in sorted(imports(source) - {"mpsim._kernels"}):
        other_height, other_row = floor_of(name)
        if other_row != row and other_height >= height:
            wrong.append(f"{module} imports {name}")
    return wrong


def modules() -> dict[str, Path]:
    found = {}
    for package in ("mpsim", "reference_models"):
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def test_imports_go_down() -> None:
    wrong = [line for module, path in modules().items() for line in upward(module, path.read_text())]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    "module,source",
    [
        ("mpsim.formats", "from mpsim.policies import Mode"),
        ("mpsim.engine.tape", "def late():\n    from mpsim.ops import relu"),
        ("mpsim.kernels.spec", "import mpsim.rounding"),
        ("mpsim.nn", "from mpsim import trace"),
        ("mpsim.training.store", "from mpsim import Trainer"),
        ("mpsim.ops.linear", "if TYPE_CHECKING:\n    from mpsim.trace import Trace"),
    ],
)
def test_an_import_that_goes_up_is_noticed(module: str, source: str) -> None:
    assert upward(module, source)


def test_a_module_on_no_floor_is_noticed() -> None:
    with pytest.raises(LookupError, match="mpsim.attic is on no floor"):
        floor_of("mpsim.attic")


def test_peers_and_test_tools_are_imported_by_no_module_but_testing() -> None:
    barred = {"torch", "qtorch", "ml_dtypes", "hypothesis", "pytest"}
    for module, path in modules().items():
        if floor_of(module)[1] in ("mpsim.testing", "mpsim.validate"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert not barred & {name.split(".")[0] for name in names}, module
