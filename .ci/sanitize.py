"""Runs the C extension under GCC's sanitizers: nox -s sanitize [-- STEP ...].

quick: AddressSanitizer and UndefinedBehaviorSanitizer on the portable variant without optimisation, and every kernel
    called on all its test cases. The gate runs this step.
memory: the same sanitizers on every variant that runs here, and the tests of kernels, rounding, products and layers.
threads: ThreadSanitizer on every variant, and every kernel called by four Python threads on one and three threads.
    The kernels' loops run on openmp_on_pthreads.c, because ThreadSanitizer does not see how GCC's OpenMP synchronises.

Every report ends the process that causes it, and with it the step. Each step first makes errors of each kind in a small
library (planted_errors.c). The last two also plant errors in kernels. An error that is not reported fails the step.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
HERE = ROOT / ".ci"
sys.path.insert(0, str(ROOT / "ext"))
from common import variants, wrappers  # noqa: E402
from common.building import Task, Toolchain  # noqa: E402

TESTS = (
    "kernels/test_contract.py", "kernels/test_arrays.py", "kernels/test_contraction_compiled.py",
    "kernels/test_structs.py", "kernels/test_aligned_floats.py", "test_rounding_variants.py", "test_accumulators.py",
    "test_accumulators_aligned.py", "test_layer_sums.py", "test_philox.py", "test_blocks_fast.py",
)  # fmt: skip


class Plant(NamedTuple):
    """An error in a kernel: text of a C file of ext/ to replace, and a word of the report."""

    file: str
    old: str
    new: str
    report: str


class Step(NamedTuple):
    """What a step builds, the errors of planted_errors.c and of kernels that it must report, and what it runs."""

    flags: Sequence[str]
    libraries: Sequence[str]
    errors: dict[str, str]
    plants: Sequence[Plant]
    callers: int
    variants: Sequence[str] = ()
    tests: Sequence[str] = ()


MEMORY = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
MEMORY_ERRORS = {
    "heap_overflow": "heap-buffer-overflow",
    "use_after_free": "heap-use-after-free",
    "signed_overflow": "signed integer overflow",
    "shift": "shift exponent",
    "misaligned": "misaligned address",
}
MEMORY_PLANTS = (
    Plant(
        "layers/elementwise.c",
        "EACH_ELEMENT(i, n) y[i] = x[i] * factor;",
        "EACH_ELEMENT(i, n + 1) y[i] = x[i] * factor;",
        "heap-buffer-overflow",
    ),
    Plant(
        "layers/loss.c",
        "i = row * columns; i <",
        "i = row * columns * (INT64_MAX / 2); i <",
        "signed integer overflow",
    ),
    Plant("rounding/arrays.c", "(uint32_t *)x;", "(uint32_t *)((char *)x + 1);", "misaligned address"),
)
THREAD_PLANTS = (
    Plant("rounding/arrays.c", "reduction(+ : all[:5])", "shared(all)", "data race"),
    Plant(
        "contraction/weight.c",
        "schedule(static)\n        for (int64_t t = 0; t < images * panels",
        "schedule(static) nowait\n        for (int64_t t = 0; t < images * panels",
        "data race",
    ),
)
STEPS = {
    "quick": Step(["-O0", *MEMORY], ["asan", "ubsan"], MEMORY_ERRORS, (), 1, ["portable"]),
    "memory": Step(["-O1", "-g", *MEMORY], ["asan", "ubsan"], MEMORY_ERRORS, MEMORY_PLANTS, 1, (), TESTS),
    "threads": Step(
        ["-O1", "-g", "-fsanitize=thread", "-DWORTH_THREADS=1"], ["tsan"], {"race": "data race"}, THREAD_PLANTS, 4
    ),
}  # fmt: skip


def running() -> Sequence[str]:
    """The variants that this processor runs, according to the installed extension."""
    from mpsim import _kernels

    return _kernels.variants()


class Build:
    """The extension and the library of planted errors, as one step builds them, in a copy of the tree."""

    def __init__(self, name: str, folder: Path) -> None:
        self.step, self.folder, self.source = STEPS[name], folder, folder / "source"
        self.objects = ROOT / "build" / f"sanitize-{name}"
        include = [self.objects, ROOT / "ext", sysconfig.get_path("include"), sysconfig.get_path("platinclude")]
        command = [os.environ.get("CC", "gcc"), "-fPIC", "-fno-omit-frame-pointer"]
        self.toolchain = Toolchain(SimpleNamespace(compiler_type="unix", compiler_so=command), include)
        self.flags = ["-fopenmp", *self.step.flags]
        self.names = list(self.step.variants or running())
        self.module = self.source / "mpsim" / f"_kernels{sysconfig.get_config_var('EXT_SUFFIX')}"
        for each in (".ci", "ext", "mpsim", "mpsim_pytest", "reference_models", "tests"):
            ignored = shutil.ignore_patterns("_kernels.*", "__pycache__")
            shutil.copytree(ROOT / each, self.source / each, ignore=ignored)
        shutil.copy(ROOT / "pyproject.toml", self.source)

    def make(self, planted: Plant | None = None) -> None:
        """Builds the extension, with an error in one file if there is one."""
        tasks = [self._module(), *variants.tasks(self.toolchain, self.objects, self.names, self.flags)]
        if self.step.libraries == ["tsan"]:
            tasks.append(Task(HERE / "openmp_on_pthreads.c", self.flags, self.objects / "openmp.o"))
        if planted is not None:
            tasks = [self._with_error(task, planted) for task in tasks]
        self.toolchain.compile_all(tasks)
        self.link(tasks, self.module)
        loaded = self.run("-c", "from mpsim import _kernels; print(_kernels.__file__)").stdout
        if loaded.strip() != str(self.module):
            sys.exit(f"sanitize: Python loads another extension: {loaded}")

    def _module(self) -> Task:
        """The extension's C file, which Cython wrote when mpsim was installed from this tree."""
        written = sorted(ROOT.glob("build/kernels-*/kernels.c"))
        if len(written) != 1:
            sys.exit("sanitize: build the extension first: pip install -e .")
        return Task(written[0], [*variants.flags(self.toolchain), *self.flags], self.objects / "kernels.o")

    def _with_error(self, task: Task, planted: Plant) -> Task:
        if task.source != ROOT / "ext" / planted.file:
            return task
        text = task.source.read_text(encoding="utf-8")
        if text.count(planted.old) != 1:
            sys.exit(f"sanitize: {planted.file} has {text.count(planted.old)} times {planted.old!r}")
        path = self.folder / "planted" / task.source.name
        wrappers.write(path, text.replace(planted.old, planted.new))
        return task._replace(source=path, output=self.folder / "planted" / task.output.parent.name / task.output.name)

    def link(self, tasks: Sequence[Task], output: Path) -> None:
        """Links objects with the sanitizers' libraries, and with GCC's OpenMP unless there is another."""
        openmp = [] if self.step.libraries == ["tsan"] else ["-fopenmp"]
        sanitizers = [flag for flag in self.step.flags if flag.startswith("-fsanitize")]
        command = [*self.toolchain.command, *openmp, *sanitizers, "-shared", "-pthread"]
        subprocess.run([*command, *(str(task.output) for task in tasks), "-o", str(output)], check=True)

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Runs Python under the sanitizers."""
        found = [
            subprocess.run(
                [*self.toolchain.command[:1], f"-print-file-name=lib{each}.so"],
                check=True,
                capture_output=True,
                text=True,
            ).stdout.strip()
            for each in self.step.libraries
        ]
        environment = {
            **os.environ, "LD_PRELOAD": " ".join(found), "PYTHONPATH": str(self.source), "PYTHONMALLOC": "malloc",
            # not detect_stack_use_after_return: GCC before 13.3 misaligns vectors of 64 bytes there (its bug 110027)
            "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1:detect_stack_use_after_return=0",
            "UBSAN_OPTIONS": "print_stacktrace=1", "TSAN_OPTIONS": "halt_on_error=1:history_size=4",
        }  # fmt: skip
        return subprocess.run(
            [sys.executable, *command], cwd=self.source, env=environment,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
        )  # fmt: skip

    def passes(self, *command: str) -> None:
        """Runs Python, and ends the program if that fails."""
        done = self.run(*command)
        print(done.stdout[-20_000:] if done.returncode else done.stdout.strip().splitlines()[-1], flush=True)
        if done.returncode:
            sys.exit(f"sanitize: this failed with {done.returncode}: python {' '.join(command)}")

    def reports(self, what: str, words: str, *command: str) -> None:
        """Runs Python, and ends the program unless the sanitizer stops it with these words in the report."""
        done = self.run(*command)
        if not done.returncode or words not in done.stdout:
            sys.exit(f"{done.stdout}\nsanitize: {what} was not reported as {words!r}; exit code {done.returncode}")
        print(f"reported, as it must be: {what}", flush=True)


def check_sanitizers(build: Build) -> None:
    """Calls each function of planted_errors.c, whose errors must be reported, and the correct one."""
    library = build.folder / "planted.so"
    source = HERE / "planted_errors.c"
    task = Task(source, ["-O0", "-std=gnu11", *build.flags, "-O0"], build.objects / "planted.o")
    openmp = Task(HERE / "openmp_on_pthreads.c", build.flags, build.objects / "openmp.o")
    tasks = [task, openmp] if build.step.libraries == ["tsan"] else [task]
    build.toolchain.compile_all(tasks)
    build.link(tasks, library)
    call = f"import ctypes, sys; sys.exit(getattr(ctypes.CDLL({str(library)!r}), sys.argv[1])(3))"
    build.passes("-c", f"print('parallel loops run'); {call}", "correct_loops")
    for name, words in build.step.errors.items():
        build.reports(name, words, "-c", call, name)


def run_step(name: str, folder: Path) -> None:
    """Runs one step."""
    build = Build(name, folder)
    check_sanitizers(build)
    build.make()
    build.passes(".ci/kernel_threads.py", str(build.step.callers))
    for planted in build.step.plants:
        build.make(planted)
        what = f"{planted.new!r} in ext/{planted.file}"
        build.reports(what, planted.report, ".ci/kernel_threads.py", str(build.step.callers))
    if build.step.plants:
        build.make()
    if build.step.tests:
        tests = [f"tests/{each}" for each in build.step.tests]
        build.passes("-m", "pytest", "-q", "-n", "logical", "-k", "not numba and not cuda", *tests)


def main(names: Sequence[str]) -> None:
    """Runs the named steps, or all but the quick one."""
    if unknown := set(names) - set(STEPS):
        sys.exit(f"sanitize: unknown step {', '.join(sorted(unknown))}; expected {', '.join(STEPS)}")
    if not sys.platform.startswith("linux"):
        sys.exit("sanitize: only for Linux and GCC")
    for name in names or ("memory", "threads"):
        print(f"== {name}", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            run_step(name, Path(folder))


if __name__ == "__main__":
    main(sys.argv[1:])
