"""What C and Python share: structs, numberings, and a Python function for each row of the table of kernels."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

from mpsim.policies import Mode

_kernels = pytest.importorskip("mpsim._kernels", reason="the extension is not built")
structs = pytest.importorskip("mpsim.kernels.compiled.structs")
accumulators = pytest.importorskip("mpsim.kernels.compiled.accumulators")

EXT = Path(__file__).parents[2] / "ext"


def test_every_struct_is_the_one_that_was_built() -> None:
    built = _kernels.layouts()
    assert built.pop("RoundingMode") == tuple(mode.name for mode in sorted(Mode, key=lambda mode: mode.number))
    assert built == {name: structs.layout(type) for name, type in structs.STRUCTS.items()}


@pytest.mark.parametrize(
    ("name", "built"),
    [
        ("Batch", (16, (("images", 0, 8), ("channels", 8, 8)))),
        ("Batch", (24, (("channels", 0, 8), ("images", 8, 8), ("area", 16, 8)))),
        ("Batch", (24, (("images", 0, 4), ("channels", 8, 8), ("area", 16, 8)))),
        ("Unknown", (8, (("field", 0, 8),))),
        ("RoundingMode", ("NEAREST_EVEN", "NEAREST_AWAY")),
    ],
)
def test_another_struct_is_an_import_error(name: str, built: tuple) -> None:
    with pytest.raises(ImportError, match=f"built from different sources: its {name} is .*pip install -e"):
        structs.compare({**_kernels.layouts(), name: built})
    missing = {other: layout for other, layout in _kernels.layouts().items() if other != "Pooling"}
    with pytest.raises(ImportError, match="its Pooling is None"):
        structs.compare(missing)


def members(path: str, first: str) -> list[str]:
    """The members of the enum in a file of ext/ whose first member is given."""
    text = (EXT / path).read_text()
    found = re.search(rf"enum \w*\s*\{{\s*({first}\b[^}}]*)\}}", text)
    assert found
    return re.split(r",\s*", found[1].strip())


def test_numberings_are_those_of_python() -> None:
    kinds = [name.removeprefix("SUM_") for name in members("orders/sums.h", "SUM_FUSED")]
    assert [getattr(accumulators, kind) for kind in kinds] == list(range(len(kinds)))


def test_every_row_of_the_table_has_a_python_function() -> None:
    table = (EXT / "common/kernels.h").read_text()
    rows = [row for row in re.findall(r"X\(V, (\w+),", table) if row != "name"]  # of the comment above the table
    written = [name for name, _, _ in runpy.run_path(str(EXT / "common/wrappers.py"))["kernels"](table)]
    assert written == rows
    assert [name for name in written if not callable(getattr(_kernels, name, None))] == []
