"""The session: targets in turn, each for some seconds in a separate process, so that a crash or a hang is a failure."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
#: target -> (module, function). Those of files and of "coverage" yield failures; the others take Hypothesis's data.
TARGETS = {
    "rounding": ("rounding", "rounding"),
    "readers": ("files", "readers"),
    "layers": ("layers", "layers"),
    "products": ("sums", "products"),
    "codes": ("rounding", "codes"),
    "contractions": ("sums", "contractions"),
    "blocks": ("sums", "blocks"),
    "functions": ("layers", "functions"),
    "streams": ("rounding", "streams"),
    "coverage": ("files", "coverage"),
    "lines": ("lines", "command_lines"),
}
ON_FILES = ("readers", "coverage")
#: Of a slice: at most so long, and so much longer until it counts as a hang. Numba may have to compile.
SLICE, GRACE = 30.0, 240.0
FOUND = "FOUND "


@dataclass
class Plan:
    """A session. ``done`` has the targets that have failed or cannot run."""

    folder: Path
    seconds: float
    jobs: int
    seed: int
    targets: list[str]
    first: bool = False
    root: Path = ROOT
    done: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Failure:
    target: str
    seconds: float
    text: str


def run(plan: Plan) -> int:
    """Runs the session and prints what it finds. Returns the exit code."""
    began = time.monotonic()
    failures, examples = search(plan)
    for failure in failures:
        kept = keep(failure, plan.folder)
        print(f"{failure.target} failed after {failure.seconds:.0f} s ({kept}):\n{failure.text}\n")
    counts = ", ".join(f"{target} {count:,}" for target, count in examples.items())
    print(f"{time.monotonic() - began:.0f} s; examples: {counts}; {len(failures)} failures; kept in {plan.folder}")
    return bool(failures)


def keep(failure: Failure, folder: Path) -> Path:
    """Stores a failure's text. Failing files are beside it, and Hypothesis keeps its inputs in ``examples``."""
    path = folder / "failures" / f"{failure.target}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(failure.text + "\n", encoding="utf-8", errors="backslashreplace")
    return path


def search(plan: Plan) -> tuple[list[Failure], dict[str, int]]:
    """Runs slices of the targets in turn until the time is over, or, with ``first``, until one fails."""
    began, lock = time.monotonic(), threading.Lock()
    failures: list[Failure] = []
    examples = dict.fromkeys(plan.targets, 0)
    length = min(SLICE, max(3.0, plan.seconds * plan.jobs / max(1, len(plan.targets))))
    turns = iter(_turns(plan))
    plan.folder.mkdir(parents=True, exist_ok=True)

    def over() -> bool:
        return time.monotonic() - began >= plan.seconds or (plan.first and bool(failures))

    def work() -> None:
        while not over():
            with lock:
                turn = next(turns, None)
            if turn is None:
                return
            target, number = turn
            left = plan.seconds - (time.monotonic() - began)
            count, found = slice_of(plan, target, min(length, max(left, 1.0)), plan.seed + number, began, over)
            with lock:
                examples[target] += count
                failures.extend(found)
                if found or count < 0:
                    plan.done.add(target)

    with ThreadPoolExecutor(plan.jobs) as pool:
        for worker in [pool.submit(work) for _ in range(plan.jobs)]:
            worker.result()
    return failures, examples


def _turns(plan: Plan) -> Iterator[tuple[str, int]]:
    number = 0
    while left := [target for target in plan.targets if target not in plan.done]:
        for target in left:
            yield target, number
        number += 1


def slice_of(
    plan: Plan, target: str, seconds: float, seed: int, began: float, over: Callable[[], bool]
) -> tuple[int, list[Failure]]:
    """Runs a target in a process. Returns the number of examples and the failures."""
    command = [
        sys.executable, "-X", "faulthandler", "-m", "tests.fuzz", "--one", target, "--minutes", str(seconds / 60),
        "--seed", str(seed), "--folder", str(plan.folder), *(["--first"] if plan.first else []),
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(plan.root), "OMP_WAIT_POLICY": "passive"}
    log = plan.folder / f"{target}.log"
    started = time.monotonic()
    with log.open("w") as errors:
        process = subprocess.Popen(
            command, cwd=plan.root, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True,
            errors="backslashreplace", start_new_session=True,
        )  # fmt: skip
        lines: list[tuple[float, str]] = []
        reader = threading.Thread(target=_collect, args=(process.stdout, lines, began))
        reader.start()
        limit = started + seconds + GRACE
        while process.poll() is None and time.monotonic() < limit and not (plan.first and over()):
            if plan.first and any(line.startswith(FOUND) for _, line in lines):
                break
            time.sleep(0.05)
        hung = process.poll() is None and time.monotonic() >= limit
        stopped = process.poll() is None and not hung
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        code = process.wait()
        reader.join()
        process.stdout.close()  # type: ignore[union-attr]
    failures = [
        Failure(target, at, json.loads(line.removeprefix(FOUND))) for at, line in lines if line.startswith(FOUND)
    ]
    ended = [line for _, line in lines if line.startswith("ENDED ")]
    if not failures and not stopped and (hung or not ended):
        what = "it hangs" if hung else f"its process ended with exit code {code}"
        tail = log.read_text(errors="replace")[-3000:]
        again = " ".join(command[3:])
        failures.append(Failure(target, time.monotonic() - began, f"{what}; again: python {again}\n{tail}"))
    return (int(ended[-1].split()[1]) if ended else 0), failures


def _collect(stream: Any, lines: list[tuple[float, str]], began: float) -> None:
    for line in stream:
        lines.append((time.monotonic() - began, line.rstrip("\n")))


# -- in the process of a slice ----------------------------------------------------------------------------------------


def run_one(target: str, seconds: float, seed: int, folder: Path, first: bool) -> int:
    """Runs one target for some seconds, and prints each failure as a line of JSON, and then the number of examples."""
    module, name = TARGETS[target]
    if target == "coverage":
        try:
            import atheris  # noqa: F401
        except ImportError as error:
            print("atheris is not installed:", error, file=sys.stderr)
            print("ENDED -1", flush=True)
            return 0
    function = getattr(importlib.import_module(f"tests.fuzz.{module}"), name)
    count = 0
    if target in ON_FILES:
        for found in function(seconds, seed, folder):
            if isinstance(found, int):
                count += found
                continue
            report(found)
            if first:
                break
    else:
        from tests.fuzz.examples import search_examples

        count = search_examples(function, seconds, folder / "examples" / target, report, shrink=not first)
    print(f"ENDED {count}", flush=True)
    return 0


def report(text: str) -> None:
    print(FOUND + json.dumps(text), flush=True)
