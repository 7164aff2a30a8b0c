"""Builds the C code with other compilers and for other machines, and compares bits: nox -s portability [-- STEP ...].

Steps: clang builds the extension with Clang and runs the tests of kernels. aarch64 builds it with a cross compiler, for
Debian's Python, and runs it in QEMU. windows compiles and links all C files with MinGW's headers, and runs kernels in
Wine (kernel_calls.c). zig compiles and links for each machine that wheels are built for, with the newest Clang (package
ziglang). A step without its tools is skipped. Debian's names of the tools: clang libomp-dev; gcc-aarch64-linux-gnu
qemu-user-static python3-dev python3-venv; gcc-mingw-w64-x86-64 wine.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "ext"))
from common import variants  # noqa: E402
from common.building import Toolchain  # noqa: E402

TESTS = (
    "test_rounding_variants.py", "test_accumulators.py", "kernels/test_contraction_compiled.py",
    "kernels/test_structs.py", "kernels/test_aligned_floats.py", "models/test_golden.py",
    "models/test_instruction_sets.py",
)  # fmt: skip
ZIG_TARGETS = (
    "x86_64-linux-gnu", "aarch64-linux-gnu", "x86_64-linux-musl", "aarch64-linux-musl", "x86_64-macos", "aarch64-macos",
    "x86_64-windows-gnu",
)  # fmt: skip


class Skip(Exception):
    """A step cannot run here; the message says why."""


def need(*programs: str) -> None:
    """Raises Skip if a program is not on PATH."""
    if missing := [each for each in programs if shutil.which(each) is None]:
        raise Skip(f"not on PATH: {', '.join(missing)}")


def run(command: Sequence[object], folder: Path, **environment: str) -> str:
    """Runs a command in the folder, and returns its output. A failure ends the program with the output."""
    words = [str(word) for word in command]
    if words[0] != "dpkg":
        print("+", " ".join(words)[:150], flush=True)
    done = subprocess.run(words, cwd=folder, env=os.environ | environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{done.stdout}{done.stderr}\nportability: this failed: {' '.join(words)[:1000]}")
    return done.stdout


def copy_of_the_tree(folder: Path) -> Path:
    """Copies what a build and the tests need, without what was built here."""
    source = folder / "source"
    for name in (".ci", "ext", "mpsim", "reference_models", "tests"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("_kernels.*", "__pycache__"))
    for name in ("README.md", "pyproject.toml", "setup.py"):
        shutil.copy(ROOT / name, source)
    return source


def expected_bits(folder: Path) -> str:
    """What the reference backend computes here."""
    return run([sys.executable, ".ci/same_bits.py", "reference"], ROOT, PYTHONPATH=str(ROOT))


def compare_bits(found: str, expected: str) -> None:
    """Ends the program if a line differs."""
    pairs = zip(found.splitlines(), expected.splitlines(), strict=True)
    if wrong := [f"{a}\n  expected {b}" for a, b in pairs if a != b or a.endswith("different")]:
        raise SystemExit("\n".join([*wrong[:10], f"portability: {len(wrong)} lines differ"]))
    print(f"{len(expected.splitlines())} digests are equal, {expected.count(' equal')} of them of training steps")


def clang(folder: Path) -> None:
    """Builds with Clang, compares bits and runs tests."""
    need("clang")
    source = copy_of_the_tree(folder)
    run([sys.executable, "setup.py", "build_ext", "--inplace"], source, CC="clang", LDSHARED="clang -shared")
    if b"clang version" not in next((source / "mpsim").glob("_kernels.*")).read_bytes():
        raise SystemExit("portability: the extension was not compiled by Clang")
    compare_bits(
        run([sys.executable, ".ci/same_bits.py", "compiled"], source, PYTHONPATH=str(source)), expected_bits(folder)
    )
    print(run([sys.executable, "-m", "pytest", "-q", *(f"tests/{each}" for each in TESTS)], source))


def aarch64(folder: Path) -> None:
    """Builds for aarch64, and compares bits in QEMU."""
    need("aarch64-linux-gnu-gcc", "qemu-aarch64-static", "apt-get", "dpkg", "/usr/bin/python3")
    source, root = copy_of_the_tree(folder), folder / "root"
    version = run(["/usr/bin/python3", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"], folder).strip()
    python = f"python{version}"
    install_foreign_python(folder, root, version)
    include, modules = folder / "include", root / "usr/lib" / python
    (include / "aarch64-linux-gnu").mkdir(parents=True)
    (include / f"aarch64-linux-gnu/{python}").symlink_to(root / f"usr/include/aarch64-linux-gnu/{python}")
    settings = folder / "settings"
    settings.mkdir()
    shutil.copy(modules / "_sysconfigdata__aarch64-linux-gnu.py", settings)
    run(["/usr/bin/python3", "-m", "venv", folder / "host"], folder)
    host = folder / "host/bin/python"
    run([host, "-m", "pip", "install", "-q", "setuptools>=77", "setuptools-scm", "cython>=3.1"], folder)
    run(
        [host, "setup.py", "build_ext", "--inplace"],
        source,
        CC="aarch64-linux-gnu-gcc",
        LDSHARED="aarch64-linux-gnu-gcc -shared",
        CFLAGS=f"-I{root}/usr/include/{python} -I{include}",
        PYTHONPATH=str(settings),
        _PYTHON_HOST_PLATFORM="linux-aarch64",
        _PYTHON_SYSCONFIGDATA_NAME="_sysconfigdata__aarch64-linux-gnu",
    )
    emulated = ["qemu-aarch64-static", "-L", root, root / f"usr/bin/{python}"]
    there = {"PYTHONHOME": str(root / "usr"), "PYTHONPATH": f"{folder / 'packages'}:{source}"}
    about = "import platform; print(platform.machine(), platform.python_version())"
    print(run([*emulated, "-c", about], source, **there))
    compare_bits(run([*emulated, ".ci/same_bits.py", "compiled"], source, **there), expected_bits(folder))


def install_foreign_python(folder: Path, root: Path, version: str) -> None:
    """Unpacks Debian's Python for aarch64 into root, and the packages that mpsim needs into folder/packages."""
    apt = folder / "apt"
    for each in ("lists/partial", "archives/partial"):
        (apt / each).mkdir(parents=True)
    (apt / "status").touch()
    options = {
        "APT::Architecture": "arm64", "APT::Architectures": "arm64", "APT::Install-Recommends": "0",
        "Dir::State": apt, "Dir::State::lists": apt / "lists", "Dir::State::status": apt / "status", "Dir::Cache": apt,
    }  # fmt: skip
    apt_get = ["apt-get", "-q", *(word for key, value in options.items() for word in ("-o", f"{key}={value}"))]
    run([*apt_get, "update"], folder)
    wanted = [f"python{version}-minimal", *(f"libpython{version}-{part}" for part in ("stdlib", "dev"))]
    wanted += ["libgomp1", "libstdc++6"]
    run([*apt_get, "install", "-y", "--download-only", *wanted], folder)
    for package in sorted((apt / "archives").glob("*.deb")):
        run(["dpkg", "-x", package, root], folder)
    if not (root / "lib").exists():
        (root / "lib").symlink_to("usr/lib")
    platforms = [f"--platform=manylinux{tag}_aarch64" for tag in ("2014", "_2_17", "_2_27", "_2_28")]
    needed = ["numpy>=2", "scipy", "typer", "rich", "safetensors"]
    run(
        [sys.executable, "-m", "pip", "install", "-q", "--target", folder / "packages", "--only-binary=:all:"]
        + [f"--python-version={version}", *platforms, *needed],
        folder,
    )


def compile_and_link(
    folder: Path, command: Sequence[str], suffix: str, linker: Sequence[str] | None = None
) -> list[Path]:
    """Compiles all C files of ext/ except Python's module, and links a shared library without undefined symbols.

    Returns the objects.
    """
    toolchain = Toolchain(SimpleNamespace(compiler_type="unix", compiler_so=list(command)), [folder, ROOT / "ext"])
    names, openmp = variants.built(toolchain), variants.openmp(toolchain)
    tasks = variants.tasks(toolchain, folder, names, openmp)
    toolchain.compile_all(tasks)
    output = folder / f"kernels{suffix}"
    run([*(linker or command), *openmp, "-shared", *(task.output for task in tasks), "-o", output], folder)
    threads = "with" if openmp else "without"
    print(f"{len(tasks)} files, {', '.join(names)}, {threads} OpenMP: {output.stat().st_size} bytes")
    return [task.output for task in tasks]


def windows(folder: Path) -> None:
    """Compiles and links with MinGW's headers, by GCC and by Clang, and runs kernels in Wine."""
    need("x86_64-w64-mingw32-gcc")
    gcc = ["x86_64-w64-mingw32-gcc", "-static"]
    objects = {"gcc": compile_and_link(folder / "gcc", gcc[:1], ".dll")}
    if shutil.which("clang"):
        clang = ["clang", "--target=x86_64-w64-mingw32"]
        objects["clang"] = compile_and_link(folder / "clang", clang, ".dll", gcc[:1])
    need("wine")
    expected = run([sys.executable, ".ci/kernel_calls.py", folder / "calls"], ROOT, PYTHONPATH=str(ROOT)).splitlines()
    for name, made in objects.items():
        program = folder / f"{name}.exe"
        include = [f"-I{each}" for each in (ROOT / "ext", folder / name)]
        run(
            [*gcc, "-O2", "-std=gnu11", "-fopenmp", *include, ROOT / ".ci/kernel_calls.c", *made, "-o", program], folder
        )
        lines = run(["wine", program, "calls"], folder, WINEPREFIX=str(folder / "wine"), WINEDEBUG="-all").splitlines()
        variants_run = [line.split()[1] for line in lines if line.startswith("variant ")]
        found = [line for line in lines if not line.startswith("variant ")]
        wrong = [pair for pair in zip(found, expected * len(variants_run), strict=True) if pair[0] != pair[1]]
        if wrong or not variants_run:
            raise SystemExit(f"portability: {len(wrong)} of {len(found)} calls differ in Wine, such as {wrong[:3]}")
        print(f"{name}, in Wine: {len(expected)} calls are equal on each of {', '.join(variants_run)}")


def zig(folder: Path) -> None:
    """Compiles and links for each machine that wheels are built for."""
    if importlib.util.find_spec("ziglang") is None:
        raise Skip("the package ziglang is not installed")
    for target in ZIG_TARGETS:
        command = [sys.executable, "-m", "ziglang", "cc", "-target", target, "-fPIC"]
        compile_and_link(folder / target, command, ".dll" if "windows" in target else ".so")


STEPS: Mapping[str, Callable[[Path], None]] = {"windows": windows, "zig": zig, "clang": clang, "aarch64": aarch64}


def main(names: Sequence[str]) -> None:
    """Runs the named steps, or all, and says which were skipped."""
    if unknown := set(names) - set(STEPS):
        raise SystemExit(f"portability: there is no step {', '.join(sorted(unknown))}; expected {', '.join(STEPS)}")
    for name in names or STEPS:
        print(f"== {name}", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            try:
                STEPS[name](Path(folder))
            except Skip as reason:
                print(f"skipped: {reason}")


if __name__ == "__main__":
    main(sys.argv[1:])
