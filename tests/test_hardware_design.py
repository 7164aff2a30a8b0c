"""The Verilog and cocotb examples: a float8 multiplier against packs for $readmemh, right, and broken on purpose."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mpsim.vectors.operations import op_tables
from mpsim.vectors.pack import write_pack

EXAMPLES = Path(__file__).parent.parent / "docs" / "examples" / "verilog"
SET = "multiply_float8_e4m3fn_to_float8_e4m3fn_nearest_even_{}"
SATURATE = {"saturate": 1, "infinity": 0}

#: How many products the pack for broken designs has.
SOME = 4000
#: Text of the design, what replaces it, and the policy whose pack has to notice it.
DEFECTS = {
    "ties away from zero": ("half & (rest | keep[0])", "half", "saturate"),
    "truncated": ("half & (rest | keep[0])", "1'b0", "saturate"),
    "no sticky bit": ("rest = |wide[9:0]", "rest = 1'b0", "saturate"),
    "subnormal operands are zeros": ("{|a[6:3], a[2:0]}", "{|a[6:3], a[2:0] & {3{|a[6:3]}}}", "saturate"),
    "results without subnormals": ("-7'sd9 ||", "-7'sd5 ||", "saturate"),
    "sign of a": ("sign = a[7] ^ b[7]", "sign = a[7]", "saturate"),
    "NaN of a alone": ("(&a[6:0]) | (&b[6:0])", "&a[6:0]", "saturate"),
    "448 overflows": ("magnitude > 10'h07e", "magnitude > 10'h07d", "infinity"),
    "saturates always": ("SATURATE ? 7'h7e : 7'h7f", "7'h7e", "infinity"),
    "never saturates": ("SATURATE ? 7'h7e : 7'h7f", "7'h7f", "saturate"),
}


@pytest.fixture(scope="module")
def iverilog() -> str:
    found = shutil.which("iverilog")
    if found is None or shutil.which("vvp") is None:
        pytest.skip("Icarus Verilog is not installed (Debian: apt-get install iverilog)")
    return found


def written(folder: Path, size: int) -> Path:
    """Writes a pack as ``mpsim vectors op --form mem`` does, for both policies; size 0: every product of two codes."""
    tables = op_tables(["multiply"], ["float8_e4m3fn"] * 2, overflows=list(SATURATE), size=size)
    write_pack(folder, tables, {}, ["mem"])
    return folder


@pytest.fixture(scope="module")
def some(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pack of SOME products, which every defect fails."""
    return written(tmp_path_factory.mktemp("some"), SOME)


def simulated(design: str, policy: str, pack: Path, folder: Path, iverilog: str, count: int) -> tuple[int, str]:
    """Runs the test bench on a design's text. Returns vvp's exit code and output."""
    (folder / "design.v").write_text(design)
    bench, program = EXAMPLES / "float8_multiplier_tb.v", folder / "multiplier.vvp"
    numbers = {"SATURATE": SATURATE[policy], "COUNT": count}
    given = [f"-Pfloat8_multiplier_tb.{name}={number}" for name, number in numbers.items()]
    build = [iverilog, "-g2012", "-Wall", *given, "-o", program, folder / "design.v", bench]
    built = subprocess.run(list(map(str, build)), capture_output=True, text=True)
    assert (built.returncode, built.stderr) == (0, "")
    run = ["vvp", "-n", str(program), f"+pack={pack / SET.format(policy)}"]
    done = subprocess.run(run, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def test_every_product_of_the_multiplier_is_equal(tmp_path: Path, iverilog: str) -> None:
    design = (EXAMPLES / "float8_multiplier.v").read_text()
    pack = written(tmp_path / "pack", 0)
    for policy in SATURATE:
        found = simulated(design, policy, pack, tmp_path, iverilog, 65536)
        assert found == (0, "all 65536 products are equal\n")


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_broken_multiplier_fails(defect: str, some: Path, tmp_path: Path, iverilog: str) -> None:
    text, broken, policy = DEFECTS[defect]
    design = (EXAMPLES / "float8_multiplier.v").read_text()
    assert design.count(text) == 1
    code, output = simulated(design.replace(text, broken), policy, some, tmp_path, iverilog, SOME)
    assert code == 1 and f"of {SOME} products differ" in output and "got" in output


def test_the_multiplier_itself_passes_the_same_products(some: Path, tmp_path: Path, iverilog: str) -> None:
    design = (EXAMPLES / "float8_multiplier.v").read_text()
    assert simulated(design, "saturate", some, tmp_path, iverilog, SOME)[0] == 0


def test_a_pack_that_is_too_small_is_not_passed(some: Path, tmp_path: Path, iverilog: str) -> None:
    design = (EXAMPLES / "float8_multiplier.v").read_text()
    code, output = simulated(design, "saturate", some, tmp_path, iverilog, SOME + 1)
    assert code == 1 and f"fewer than {SOME + 1} vectors" in output


@pytest.mark.parametrize("broken", [False, True])
def test_cocotb(broken: bool, tmp_path: Path, iverilog: str) -> None:
    if importlib.util.find_spec("cocotb_tools") is None:
        pytest.skip("cocotb 2 is not installed: pip install cocotb")
    for file in EXAMPLES.iterdir():
        shutil.copy(file, tmp_path)
    design = tmp_path / "float8_multiplier.v"
    if broken:
        text, replacement, _ = DEFECTS["no sticky bit"]
        design.write_text(design.read_text().replace(text, replacement))
    written(tmp_path / "pack", 1500)
    run = [sys.executable, "float8_multiplier_cocotb.py", "pack"]
    done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True)
    output = done.stdout + done.stderr
    assert done.returncode == broken, output
    assert ("products differ, the first: " if broken else "every_product_is_equal passed") in output
