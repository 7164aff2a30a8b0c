"""The task runner: `nox` for lint, types and tests; `nox -s gate` for all that a change must pass (.ci/run)."""

import tarfile
from pathlib import Path

import nox

nox.options.sessions = ["lint", "types", "tests"]
IN_PARALLEL = ["-n", "logical", "--dist", "worksteal"]


def check_style(session: nox.Session) -> None:
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def gate(session: nox.Session) -> None:
    """Builds the sdist and from it the wheel, runs a sweep where nothing else is installed, then lint, types and tests.

    The tests run in the unpacked sdist, whose build left the wheel's extension there. The C code is compiled once,
    and its portable variant a second time for the sanitizers.
    """
    folder = Path(session.create_tmp()).resolve()
    source, wheel = build(session, folder)
    session.install(str(wheel))
    with session.chdir(folder):
        session.run("mpsim", "sweep", "--epochs", "1", "--ratios", "0.5", "--levels", "paper", "--results", "results")
    session.install(f"mpsim[test] @ {wheel.as_uri()}")
    session.run("pip", "install", "--quiet", f"mpsim[test-cuda] @ {wheel.as_uri()}", success_codes=[0, 1])
    check_style(session)
    session.run("mypy")
    with session.chdir(source):
        session.run("python", ".ci/sanitize.py", "quick")
    beside = Path(__file__).resolve().parents[1] / "shared"
    if beside.is_dir():  # recordings that some tests read beside the checkout
        link = source.parent / beside.name
        link.unlink(missing_ok=True)
        link.symlink_to(beside, target_is_directory=True)
    with session.chdir(source):
        session.run("pytest", *(session.posargs or IN_PARALLEL))


def build(session: nox.Session, folder: Path) -> tuple[Path, Path]:
    """Builds an sdist and a wheel in the folder, and returns the unpacked sdist and the wheel."""
    for old in [*folder.glob("*.tar.gz"), *folder.glob("*.whl")]:
        old.unlink()
    session.install("build")
    session.run("python", "-m", "build", "--sdist", "--outdir", str(folder), ".", silent=True)
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as file:
        file.extractall(folder, filter="data")
    source = folder / archive.name.removesuffix(".tar.gz")
    session.run("pip", "uninstall", "--quiet", "--yes", "build", "packaging", "pyproject_hooks")
    session.run("pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(source))
    (wheel,) = folder.glob("*.whl")
    return source, wheel


@nox.session
def dist(session: nox.Session) -> None:
    """Writes the sdist, a wheel built from it, and the pure-Python wheel to dist/, and checks their contents."""
    session.install("build", "twine", "check-wheel-contents")
    session.run("python", "-m", "build", "--outdir", "dist", ".")
    session.run("python", "-m", "build", "--wheel", "--outdir", "dist", ".", env={"MPSIM_NO_EXTENSION": "1"})
    session.run("twine", "check", "--strict", *map(str, Path("dist").glob("mpsim-*")))
    session.run("check-wheel-contents", *map(str, Path("dist").glob("mpsim-*.whl")))


@nox.session
def tests(session: nox.Session) -> None:
    session.install("-e", ".[test]")
    session.run("pytest", *(session.posargs or IN_PARALLEL))


@nox.session
def slow(session: nox.Session) -> None:
    """The tests, with those that only add to what others check in part."""
    session.install("-e", ".[test]")
    session.run("pytest", "--slow", *(session.posargs or IN_PARALLEL))


@nox.session
def fuzz(session: nox.Session) -> None:
    """Ten minutes of inputs that nobody wrote, into .fuzz/: `nox -s fuzz -- --minutes 60` (tests/fuzz/README.md)."""
    session.install("-e", ".[test]")
    session.run("pip", "install", "--quiet", "atheris", success_codes=[0, 1])  # not for every platform
    session.run("python", "-m", "tests.fuzz", *session.posargs)


@nox.session
def pure(session: nox.Session) -> None:
    """The tests without the C extension. Those that need it are skipped."""
    session.install("-e", ".[test]", env={"MPSIM_NO_EXTENSION": "1"})
    session.run("pytest", *(session.posargs or IN_PARALLEL))


@nox.session
def portability(session: nox.Session) -> None:
    """Builds with Clang, for aarch64 and for Windows, and compares bits. Steps whose tools are missing are skipped."""
    session.install("-e", ".[dev]", "ziglang")  # dev has what setup.py imports
    session.run("python", ".ci/portability.py", *session.posargs)


@nox.session
def sanitize(session: nox.Session) -> None:
    """Runs the C code under GCC's sanitizers of memory, undefined behaviour and threads."""
    session.install("-e", ".[test]")
    session.run("python", ".ci/sanitize.py", *session.posargs)


@nox.session
def crash(session: nox.Session) -> None:
    """Kills sweeps and training, fails their writes, and compares what they go on to, bit for bit."""
    session.install("-e", ".[test]")
    session.run("python", "tests/crashes/harness.py", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    session.install("ruff")
    check_style(session)


@nox.session
def types(session: nox.Session) -> None:
    session.install("-e", ".[test]")
    session.run("mypy")


@nox.session
def bench(session: nox.Session) -> None:
    session.install("-e", ".[bench]")
    for table in session.posargs or ["rounding"]:
        session.run("python", "-m", "bench", table)


@nox.session
def docs(session: nox.Session) -> None:
    """Writes the table of kernels into docs/semantics.md, and builds the site into site/."""
    session.install("-e", ".[docs]")
    session.run("python", "-m", "mpsim.kernels.contract", "docs/semantics.md")
    session.run("python", "-m", "mkdocs", "build", *session.posargs, env={"NO_MKDOCS_2_WARNING": "1"})
