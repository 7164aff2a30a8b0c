"""The task runner: `nox` for tests, lint and types; `nox -s bench` for the benchmark tables."""

import nox

nox.options.sessions = ["lint", "types", "tests"]


@nox.session
def tests(session: nox.Session) -> None:
    session.install("-e", ".[test]")
    session.run("pytest", *(session.posargs or ["-n", "logical", "--dist", "worksteal"]))


@nox.session
def slow(session: nox.Session) -> None:
    """The tests, with those that only add to what others check in part."""
    session.install("-e", ".[test]")
    session.run("pytest", "--slow", *(session.posargs or ["-n", "logical", "--dist", "worksteal"]))


@nox.session
def lint(session: nox.Session) -> None:
    session.install("ruff")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


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
