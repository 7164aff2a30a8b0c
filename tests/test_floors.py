"""Imports go down: a file imports only from layers below its own or from its own package, without cycles."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

#: From the ground up; modules of one row do not import each other.
FLOORS = (
    ("mpsim.errors", "mpsim.process"),
    ("mpsim.checks", "mpsim.plugins", "mpsim.interchange"),
    ("mpsim.files",),
    ("mpsim.formats", "mpsim.user_code"),
    ("mpsim.products", "mpsim.policies"),
    ("mpsim.kernels",),
    ("mpsim.kernels.cuda.device",),
    ("mpsim.kernels.cuda.rounding", "mpsim.kernels.cuda.chunks", "mpsim.kernels.cuda.layers"),
    ("mpsim.kernels.cuda.contraction",),
    ("mpsim.kernels.cuda",),
    ("mpsim.rounding", "mpsim.integers"),
    ("mpsim.contraction", "mpsim.blocks", "mpsim.arithmetic"),
    ("mpsim.engine",),
    ("mpsim.ops",),
    ("mpsim.nn",),
    ("mpsim.initialization", "mpsim.weights", "mpsim.losses"),
    ("mpsim.trace",),
    ("mpsim.assignment", "mpsim.data", "reference_models"),
    ("mpsim.networks",),
    ("mpsim.training",),
    ("mpsim.recording",),
    ("mpsim.experiments", "mpsim.validate", "reference_models.golden"),
    ("mpsim.vectors", "mpsim.kernels.cuda_check"),
    ("mpsim.testing",),
    ("mpsim.extend",),
    ("mpsim.cli",),
    ("mpsim",),
)

#: (importer, imported) by the beginnings of their names: why the import stands in a function or under TYPE_CHECKING.
#: Elsewhere an import stands at the top, where a reader looks for it.
_ONE_COMMAND = "a command loads what it runs, and the others start sooner"
LATE = {
    ("mpsim.__init__", "mpsim"): "import mpsim imports what is used",
    ("mpsim.cli", "mpsim.experiments"): _ONE_COMMAND,
    ("mpsim.cli", "mpsim.assignment.comparison"): _ONE_COMMAND,
    ("mpsim.cli.arithmetic", "mpsim._kernels"): "the extension may not be built",
    ("mpsim.cli.arithmetic", "mpsim.kernels.cuda"): "numba-cuda may not be installed",
    ("mpsim.kernels.cuda_check", "mpsim.kernels.cuda"): "importing the check needs no device",
    ("mpsim.kernels.cuda_check", "reference_models.golden"): "only one of the checks reads the golden digests",
    ("mpsim.extend", "mpsim.testing"): "the checks of an op, for who brings one",
    ("mpsim.testing", "mpsim.testing"): "the laws need hypothesis, which may not be installed",
}


def floor_of(module: str) -> tuple[int, str]:
    """(height, row's name) of the longest row that the module's name starts with."""
    rows = [(name, height) for height, names in enumerate(FLOORS) for name in names]
    fitting = [(len(name), height, name) for name, height in rows if f"{module}.".startswith(f"{name}.")]
    if not fitting or max(fitting)[2] == "mpsim" != module:
        raise LookupError(f"{module} is on no floor: add it to FLOORS")
    return max(fitting)[1:]


def imports(source: str) -> set[str]:
    """Modules of the project that the text imports; ``from a import b`` is a.b where that is a file, else a."""
    return {name for node in ast.walk(ast.parse(source)) for name in imported(node)}


def imported(node: ast.AST) -> set[str]:
    """Modules of the project that a statement imports."""
    found = set()
    if isinstance(node, ast.Import):
        found = {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, "imports are absolute"
        inner = {f"{node.module}.{alias.name}" for alias in node.names}
        files = {name for name in inner if is_module(name)}
        found = files | ({node.module or ""} if inner - files else set())
    return {name for name in found if name.split(".")[0] in ("mpsim", "reference_models", "bench", "website")}


def imports_at_top(source: str) -> set[str]:
    """Those of ``imports`` that happen when the module is loaded: not in a function or under TYPE_CHECKING."""
    found = set()
    waiting: list[ast.AST] = [ast.parse(source)]
    while waiting:
        node = waiting.pop()
        found |= imported(node)
        late = isinstance(node, ast.FunctionDef) or (
            isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        )
        waiting += [] if late else ast.iter_child_nodes(node)
    return found


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


@cache
def modules(packages: tuple[str, ...] = ("mpsim", "reference_models")) -> dict[str, str]:
    """The source of every module of some packages."""
    found = {}
    for package in packages:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path.read_text()
    return found


def test_imports_go_down() -> None:
    wrong = [line for module, source in modules().items() for line in upward(module, source)]
    assert not wrong, "\n".join(wrong)


def circle(sources: dict[str, str]) -> list[str]:
    """Modules of which each imports the next, at the top, in a function or for the type checker; [] if there is none.

    That a package is loaded before what is in it is not counted as an import.
    """
    graph = {module: (imports(source) - {module}) & sources.keys() for module, source in sources.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(reversed(error.args[1]))
    return []


@cache
def loaded_with(module: str) -> set[str]:
    """Every module that importing one loads: what it and the packages around it import at the top, and so on."""
    found: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name not in found and name in modules():
            found.add(name)
            waiting += [*imports_at_top(modules()[name]), name.rpartition(".")[0]]
    return found


def late_imports() -> Iterator[tuple[str, str]]:
    """(module, what it imports in a function or for the type checker)."""
    for module, source in modules().items():
        yield from ((module, name) for name in sorted(imports(source) - imports_at_top(source)))


def reasons(module: str, name: str) -> set[tuple[str, str]]:
    """The entries of LATE that allow a late import."""
    importer = "mpsim.__init__" if module == "mpsim" else module
    return {(a, b) for a, b in LATE if f"{importer}.".startswith(f"{a}.") and f"{name}.".startswith(f"{b}.")}


def test_no_module_imports_itself_in_a_circle() -> None:
    assert not circle(modules())
    assert not circle(modules(("bench", "website")))


@pytest.mark.parametrize(
    "second",
    [
        "from mpsim.first import one",
        "def late():\n    import mpsim.first",
        "if TYPE_CHECKING:\n    from mpsim.first import One",
    ],
)
def test_a_circle_is_noticed(second: str) -> None:
    sources = {"mpsim.first": "import mpsim.second", "mpsim.second": second, "mpsim.third": "import mpsim.first"}
    assert set(circle(sources)) == {"mpsim.first", "mpsim.second"}


def test_late_imports_have_a_reason_and_save_something() -> None:
    used = set()
    for module, name in late_imports():
        used |= (found := reasons(module, name))
        assert found, f"{module} imports {name} late: import it at the top, or say in LATE why not"
        assert name not in loaded_with(module) or module == name.rpartition(".")[0], (
            f"{module} imports {name} late, which is loaded with it anyway"
        )
    assert used == LATE.keys(), "an entry of LATE that no import needs any more"


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


def drawn() -> list[list[str]]:
    """The modules of each line of the picture in docs/design.md."""
    text = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    lines = text.partition("## The layers")[2].split("```")[1].strip().splitlines()
    return [re.split(r", ?", re.split(r" {2,}", line)[0].replace("/", "")) for line in lines]


def test_the_picture_of_the_layers_has_every_module_on_its_floor() -> None:
    files = {
        path.stem for path in (ROOT / "mpsim").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    lines = drawn()
    assert sorted(name for line in lines for name in line) == sorted(files - {"__init__"})
    heights = [sorted(floor_of(f"mpsim.{name}")[0] for name in line) for line in lines]
    for below, above in pairwise(heights):
        assert below[0] <= above[0] and below[-1] <= above[-1], heights


def test_a_module_on_no_floor_is_noticed() -> None:
    with pytest.raises(LookupError, match="mpsim.attic is on no floor"):
        floor_of("mpsim.attic")


def test_peers_and_test_tools_are_imported_by_no_module_but_testing() -> None:
    barred = {"torch", "qtorch", "ml_dtypes", "hypothesis", "pytest"}
    for module, source in modules().items():
        if floor_of(module)[1] in ("mpsim.testing", "mpsim.validate"):
            continue
        for node in ast.walk(ast.parse(source)):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert not barred & {name.split(".")[0] for name in names}, module
