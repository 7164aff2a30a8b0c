"""ext/common/building.py compiles what has changed and nothing else, and says what to install."""

from __future__ import annotations

import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

COMMON = Path(__file__).parent.parent / "ext/common"
building = SimpleNamespace(**runpy.run_path(str(COMMON / "building.py"), run_name="building"))
COMPILER = shutil.which("gcc") or shutil.which("clang")
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="neither gcc nor clang is on PATH")


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """Two C files, of which only one includes, by another header, limits.h."""
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner/limits.h").write_text("#define LIMIT 1\n")
    (tmp_path / "shared.h").write_text('#include "inner/limits.h"\n#include <stdint.h>\n')
    (tmp_path / "with.c").write_text('# include "shared.h"\nint with_limit(void) { return LIMIT; }\n')
    (tmp_path / "without.c").write_text("int without_limit(void) { return 0; }\n")
    return tmp_path


def toolchain(folder: Path, command: str = COMPILER or "") -> Any:
    return building.Toolchain(SimpleNamespace(compiler_type="unix", compiler_so=[command, "-fPIC"]), [folder])


def tasks(folder: Path, *flags: str) -> list[Any]:
    return [building.Task(folder / f"{name}.c", list(flags), folder / f"out/{name}.o") for name in ("with", "without")]


def test_files_that_are_included(sources: Path) -> None:
    found = building.included(sources / "with.c", [sources])
    assert [path.name for path in found] == ["with.c", "shared.h", "limits.h"]


@needs_compiler
def test_only_what_has_changed_is_compiled(sources: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tools = toolchain(sources)
    compiled: list[str] = []
    run = tools._run

    def counted(command: list[str]) -> Any:
        compiled.extend(Path(word).stem for word in command if word.endswith(".c"))
        return run(command)

    monkeypatch.setattr(tools, "_run", counted)

    def build(*flags: str) -> list[str]:
        compiled.clear()
        tools.compile_all(tasks(sources, *flags))
        return sorted(compiled)

    assert build() == ["with", "without"]
    assert build() == []
    (sources / "with.c").touch()
    assert build() == []
    (sources / "inner/limits.h").write_text("#define LIMIT 2\n")
    assert build() == ["with"]
    assert build("-O1") == ["with", "without"]
    (sources / "out/without.o.digest").unlink()  # as an interrupted build leaves it
    assert build("-O1") == ["without"]
    tools.version = "another compiler"
    assert build("-O1") == ["with", "without"]


@needs_compiler
def test_an_object_whose_compilation_failed_is_not_taken_for_the_one_before(sources: Path) -> None:
    tools = toolchain(sources)
    tools.compile_all(tasks(sources))
    good = (sources / "with.c").read_text()
    (sources / "with.c").write_text("#error no\n")
    with pytest.raises(SystemExit, match="this command failed; its messages are above: .*with.c"):
        tools.compile_all(tasks(sources))
    assert not (sources / "out/with.o.digest").exists()
    (sources / "with.c").write_text(good)
    tools.compile_all(tasks(sources))
    assert (sources / "out/with.o").exists()


def test_an_absent_compiler(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="there is no C compiler: 'no-such-cc': .*apt-get install gcc.*NO_EXTENSION"):
        toolchain(tmp_path, "no-such-cc")


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-in is a shell script")
def test_a_compiler_that_does_not_compile(tmp_path: Path) -> None:
    broken = tmp_path / "cc"
    broken.write_text("#!/bin/sh\ncase $1 in --version) echo broken;; *) exit 1;; esac\n")
    broken.chmod(0o755)
    with pytest.raises(SystemExit, match="cc' cannot compile a C program. Install"):
        toolchain(tmp_path, str(broken))


@needs_compiler
def test_absent_headers_of_python(tmp_path: Path) -> None:
    compiler = SimpleNamespace(compiler_type="unix", compiler_so=[COMPILER])
    with pytest.raises(SystemExit, match="does not find Python.h. Install .*python3-dev"):
        building.Toolchain(compiler, [tmp_path]).check_python()


def test_msvc_without_clang_cl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    compiler = SimpleNamespace(compiler_type="msvc", initialize=lambda: None)
    with pytest.raises(SystemExit, match="needs clang-cl on Windows"):
        building.Toolchain(compiler, [tmp_path])


#: What CFLAGS may contain that allows a compiler to round otherwise.
ALLOWING = ("-Ofast", "-ffast-math", "-mfpmath=387", "-ffp-contract=fast", "-freciprocal-math", "-ffinite-math-only")
ARITHMETIC = """
float single(float a, float b, float c) { return a * b + c / 3; }
double twice(double a, double b, double c) { return (a * b - c) / a; }
int is_nan(double a) { return a != a; }
double sum(const double *a, int n) { double s = 0; for (int i = 0; i < n; i++) s += a[i]; return s; }
"""


@needs_compiler
def test_flags_of_the_user_change_no_arithmetic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same machine code, and no file of the compiler that sets flush-to-zero when the extension is loaded."""
    monkeypatch.syspath_prepend(COMMON.parent)
    variants = SimpleNamespace(**runpy.run_path(str(COMMON / "variants.py"), run_name="variants"))
    (tmp_path / "sums.c").write_text(ARITHMETIC)

    def code(*given: str, last: tuple[str, ...] = ()) -> bytes:
        compiler = toolchain(tmp_path)
        own = [*variants.flags(compiler), *(["-mfma"] if compiler.accepts(["-mfma"]) else []), *last]
        task = building.Task(tmp_path / "sums.c", own, tmp_path / "sums.o")
        compiler.command += given
        compiler.compile_all([task])
        library = tmp_path / "sums.so"
        command = [COMPILER, "-shared", *given, str(task.output), "-o", str(library), *variants.link_flags(compiler)]
        subprocess.run(command, check=True)
        assert b"set_fast_math" not in library.read_bytes()
        return bytes(task.output.read_bytes())

    given = [flag for flag in ALLOWING if toolchain(tmp_path).accepts([flag])]
    assert code(*given) == code(last=("-ffp-contract=off",)), given
