"""Compiles C files with GCC, Clang or clang-cl, several at once, and only those whose text or command has changed.

setup.py uses this. Beside every output lies a file with the digest of all that it was made from: the command, the
compiler's version, the source, and the headers that the source includes, directly or not. Times of files do not count,
so that a checkout of another commit compiles what differs. The digest is written last, and removed first: what an
interrupted build leaves is made again.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

WHAT_TO_INSTALL = (
    "Install GCC or Clang and Python's headers (Debian, Ubuntu: apt-get install gcc libc6-dev python3-dev; Fedora: dnf "
    "install gcc python3-devel; macOS: xcode-select --install; Windows: the C++ build tools with clang-cl), or set "
    "MPSIM_NO_EXTENSION=1 to install without the C extension: mpsim then computes the same bits with Numba."
)
_INCLUDE = re.compile(r'^\s*(?:#\s*)?include\s+"([^"]+)"', re.MULTILINE)


class CannotBuild(SystemExit):
    """Ends the build with one message and no traceback. A string as the exit code is printed."""


def digest(*parts: str | Path) -> str:
    """Returns one digest of texts and of the contents of files."""
    found = hashlib.sha256()
    for part in parts:
        content = part.read_bytes() if isinstance(part, Path) else part.encode()
        found.update(hashlib.sha256(content).digest())
    return found.hexdigest()


def included(source: Path, folders: Sequence[Path]) -> list[Path]:
    """Returns the source and all files that it includes with quotation marks, directly or not, in a fixed order."""
    found: dict[Path, None] = {}
    waiting = [source]
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found[path] = None
        for name in _INCLUDE.findall(path.read_text(encoding="utf-8")):
            waiting += [folder / name for folder in (path.parent, *folders) if (folder / name).is_file()][:1]
    return list(found)


def make(output: Path, inputs: str, function: Callable[[], object]) -> None:
    """Calls the function, which writes the output, unless the output was made from inputs with the same digest."""
    stamp = output.with_name(f"{output.name}.digest")
    if output.exists() and stamp.exists() and stamp.read_text() == inputs:
        return
    stamp.unlink(missing_ok=True)
    output.parent.mkdir(parents=True, exist_ok=True)
    function()
    stamp.write_text(inputs)


class Task(NamedTuple):
    """One file to compile, the flags that it alone gets, and its object."""

    source: Path
    flags: list[str]
    output: Path


class Toolchain:
    """The C compiler that Python's build commands have chosen, or clang-cl on Windows.

    Raises:
        CannotBuild: There is no compiler, it is MSVC's, or it does not work.
    """

    def __init__(self, compiler: Any, include: Sequence[str | Path]) -> None:
        self.is_clang_cl = compiler.compiler_type == "msvc"
        if self.is_clang_cl:
            self._use_clang_cl(compiler)
        self.command = [compiler.cc, "/nologo", "/MD"] if self.is_clang_cl else list(compiler.compiler_so)
        self.folders = [Path(folder) for folder in include]
        self.include = [f"-I{folder}" for folder in include]
        done = self._run([self.command[0], "--version"])
        self.version = done.stdout
        if not self.accepts([]):
            raise CannotBuild(f"mpsim: {self.command[0]!r} cannot compile a C program. {WHAT_TO_INSTALL}")

    def check_python(self) -> None:
        """Raises CannotBuild if Python's headers are missing."""
        if not self.accepts([], "#include <Python.h>"):
            raise CannotBuild(f"mpsim: {self.command[0]!r} does not find Python.h. {WHAT_TO_INSTALL}")

    @staticmethod
    def _use_clang_cl(compiler: Any) -> None:
        compiler.initialize()
        found = shutil.which("clang-cl")
        if found is None:
            raise CannotBuild(
                "mpsim: the C extension needs clang-cl on Windows, and it is not on PATH (MSVC's cl has no vector "
                f"types). {WHAT_TO_INSTALL}"
            )
        compiler.cc = found

    def _run(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(
                command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
            )
        except OSError as error:
            raise CannotBuild(
                f"mpsim: there is no C compiler: {command[0]!r}: {error.strerror}. {WHAT_TO_INSTALL}"
            ) from None

    def flags(self, flags: Iterable[str]) -> list[str]:
        """Returns GCC's and Clang's flags as the compiler takes them."""
        return [f"/clang:{flag}" if self.is_clang_cl and not flag.startswith("-D") else flag for flag in flags]

    def _compile(self, task: Task) -> list[str]:
        output = [f"/Fo{task.output}"] if self.is_clang_cl else ["-o", str(task.output)]
        return [*self.command, *self.flags(task.flags), *self.include, "-c", str(task.source), *output]

    def accepts(self, flags: list[str], program: str = "", link: bool = False) -> bool:
        """Returns whether a program that begins with these lines compiles, and also links, with the flags."""
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder, "probe.c")
            source.write_text(f"{program}\nint main(void) {{ return 0; }}\n", encoding="utf-8")
            task = Task(source, flags, Path(folder, "probe.o"))
            if self._run(self._compile(task)).returncode:
                return False
            if not link or self.is_clang_cl:
                return not link
            command = [*self.command, *flags, str(task.output), "-o", str(Path(folder, "probe"))]
            return self._run(command).returncode == 0

    def _compile_or_stop(self, task: Task) -> None:
        command = self._compile(task)
        done = self._run(command)
        if done.stdout:
            print(done.stdout)
        if done.returncode:
            raise CannotBuild(f"mpsim: this command failed; its messages are above: {' '.join(command)}")

    def compile_all(self, tasks: Sequence[Task]) -> str:
        """Compiles what has changed, with as many processes as there are processors; returns a digest of all.

        Raises:
            CannotBuild: A file does not compile. The compiler's messages were printed.
        """

        def compile_one(task: Task) -> str:
            inputs = digest(self.version, *self._compile(task), *included(task.source, self.folders))
            make(task.output, inputs, lambda: self._compile_or_stop(task))
            return inputs

        with ThreadPoolExecutor(processors()) as pool:
            waiting = [pool.submit(compile_one, task) for task in tasks]
            try:
                return digest(*[each.result() for each in waiting])
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise


def processors() -> int:
    """Returns the number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
