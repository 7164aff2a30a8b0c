"""``python -m bench.hardware.record OUT`` records every subject on this machine's GPU (docs/hardware.md).

Each subject runs in a separate process, several at once, so that a crash does not affect the others. OUT/NAME.npz has
its vectors, OUT/NAME_edges.npz further products, OUT/NAME.json its report, and OUT/manifest.json all results.
"""

from __future__ import annotations

import argparse
import importlib
import io
import json
import os
import subprocess
import tarfile
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from multiprocessing import get_context
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

import mpsim
from bench.hardware import library, packs
from bench.hardware.subjects import Cast, Dot
from mpsim.files.whole import write_whole
from mpsim.validate import Subject
from mpsim.validate.cast.compare import compare
from mpsim.validate.cast.exhaustive import Sweep
from mpsim.validate.cast.validation import CastReport, sweep_all, validate_cast
from mpsim.validate.dot.subjects import open_dot
from mpsim.validate.dot.validation import validate_dot
from mpsim.vectors.pack import file_entry

TABLE = "bench.hardware.subjects:SUBJECTS"
#: Seconds that a process may continue after the time limit.
GRACE = 30.0


class OutOfTime(Exception):
    """An exhaustive comparison has reached its time limit."""


@dataclass(frozen=True)
class Task:
    """The task of a process. table: MODULE:NAME of the subjects. until: the time.time() at which sweeps stop."""

    table: str
    name: str
    out: Path
    library: Path | None
    until: float


def subjects(table: str) -> dict[str, Cast | Dot]:
    """Returns the entries of a table, MODULE:NAME, by name."""
    module, _, name = table.partition(":")
    return {row.name: row for row in getattr(importlib.import_module(module), name)}


# -- one subject ------------------------------------------------------------------------------------------------


def work(task: Task) -> None:
    """Records one subject. An error is added to its report, and earlier results are kept."""
    row = subjects(task.table)[task.name]
    began = time.time()
    try:
        if isinstance(row, Cast):
            _record_cast(row, task, began)
        else:
            _record_dot(row, task, began)
    except Exception as error:  # drivers and libraries may raise anything
        path = task.out / f"{task.name}.json"
        so_far = json.loads(path.read_text()) if path.exists() else _head(row, began)
        words = f"{type(error).__name__}: {error}"
        _write(path, so_far | {"error": words, "traceback": traceback.format_exc()})


def _head(row: Cast | Dot, began: float) -> dict[str, Any]:
    return {"name": row.name, "how": row.how, "seconds": round(time.time() - began, 1)}


def _record_cast(row: Cast, task: Task, began: float) -> None:
    function = row.open(task.library)
    subject = Subject.of(function, row.name)
    report = validate_cast(subject, row.format, row.source)
    assert report.fingerprint is not None
    report = replace(report, declared=compare(report.fingerprint.rule, report.answers))
    packs.write_cast(task.out, row.name, subject, report)
    _finish(row, task, began, packs.cast_entry(report), report.to_dict())
    if row.source == "float32" and time.time() < task.until:
        report = swept(report, task.until)
        _finish(row, task, began, packs.cast_entry(report), report.to_dict())


def swept(report: CastReport, until: float) -> CastReport:
    """Compares all 2**32 inputs with the fitted rule, or as many as the time allows, and returns the report."""

    def stop(state: Sweep) -> None:
        if time.time() > until:
            raise OutOfTime

    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder) / "sweep.json"
        try:
            return sweep_all(report, resume=state, on_progress=stop)
        except OutOfTime:
            return sweep_all(report, resume=state, blocks=0)


def _record_dot(row: Dot, task: Task, began: float) -> None:
    function, order = row.open(task.library), "rising k"
    report = validate_dot(function, inputs=row.inputs, length=row.length, side=row.side)
    for other in row.alternatives:
        if not packs.dot_entry(report)["equal"]:
            changed = packs.reordered(function, other.places) if other.places else function
            again = validate_dot(changed, other.accumulator, inputs=row.inputs, length=row.length, side=row.side)
            if again.equal:
                report, function, order = again, changed, other.order
    subject = open_dot(function, inputs=row.inputs, side=row.side)
    packs.write_dot(task.out, row.name, subject)
    packs.write_edges(task.out, row.name, subject, row.length)
    entry = packs.dot_entry(report) | {"order": order, "name": row.name}
    entry["edge_mismatches"] = packs.edge_mismatches(entry, task.out)
    entry["equal"] = entry["equal"] and entry["edge_mismatches"] == 0
    _finish(row, task, began, entry, report.to_dict() | {"subject": row.name})


def _finish(row: Cast | Dot, task: Task, began: float, entry: dict[str, Any], report: dict[str, Any]) -> None:
    entry = _head(row, began) | entry
    entry["pack_mismatches"] = packs.pack_mismatches(entry, task.out)
    _write(task.out / f"{row.name}.json", entry | {"report": report})


def _write(path: Path, content: dict[str, Any]) -> None:
    """Writes atomically, so that a stopped process leaves an existing file untouched."""
    write_whole(path, (json.dumps(content, indent=1) + "\n").encode())


# -- all of them ------------------------------------------------------------------------------------------------


def record(
    out: Path,
    table: str = TABLE,
    *,
    only: Sequence[str] = (),
    seconds: float = 300.0,
    jobs: int | None = None,
    built: Path | None = None,
    tar: Path | None = None,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Records the subjects whose names contain one of ``only`` (none: all), ``jobs`` at once (0: in this process).

    seconds: the time limit for all, after which sweeps stop. GRACE seconds later remaining processes are ended. built:
    the library. tar: an archive of all files. Returns the manifest, which is rewritten after each subject.
    """
    out.mkdir(parents=True, exist_ok=True)
    names = [name for name in subjects(table) if not only or any(part in name for part in only)]
    until = time.time() + seconds
    manifest: dict[str, Any] = {**environment(), "subjects": []}
    tasks = [Task(table, name, out, built, until) for name in names]
    for name, ended in run(tasks, (os.cpu_count() or 1) if jobs is None else jobs):
        path = out / f"{name}.json"
        entry = json.loads(path.read_text()) if path.exists() else {"name": name, "error": ended}
        entry = {key: value for key, value in entry.items() if key not in ("report", "traceback")}
        files = [out / f"{name}{suffix}" for suffix in (".json", ".npz", "_edges.npz")]
        entry["files"] = {file.name: file_entry(file.read_bytes()) for file in files if file.exists()}
        manifest["subjects"] = sorted([*manifest["subjects"], entry], key=lambda row: names.index(row["name"]))
        _write(out / "manifest.json", manifest)
        if tar is not None:
            pack(out, tar)
        say(line(entry))
    return manifest


def run(tasks: Sequence[Task], jobs: int) -> Iterator[tuple[str, str]]:
    """Runs each task in a new process, and yields (name, outcome) when it ends."""
    if jobs == 0:
        for task in tasks:
            work(task)
            yield task.name, "no report"
        return
    context, waiting = get_context("spawn"), list(tasks)
    running: dict[Task, SpawnProcess] = {}
    while waiting or running:
        while waiting and len(running) < jobs:
            task = waiting.pop(0)
            running[task] = context.Process(target=work, args=(task,), daemon=True)
            running[task].start()
        time.sleep(0.05)
        for task, process in list(running.items()):
            late = time.time() > task.until + GRACE
            if process.is_alive() and not late:
                continue
            if late:
                process.kill()
            process.join()
            del running[task]
            yield task.name, "was ended: out of time" if late else f"ended without a report, exit {process.exitcode}"


def line(entry: dict[str, Any]) -> str:
    """Describes a subject's results in one line."""
    if "error" in entry:
        return f"{entry['name']}: failed: {entry['error']}"
    state = "equal to" if entry["equal"] else "NEAREST is"
    count = entry["inputs"] if entry["kind"] == "cast" else entry["results"]
    more = f" ({', '.join(names)})" if (names := entry.get("presets", entry.get("names"))) else ""
    differ = f"{entry['mismatches']:,} of {count:,} differ; pack: {entry['pack_mismatches']}"
    differ += f"; edges: {entry['edge_mismatches']}" if "edge_mismatches" in entry else ""
    return f"{entry['name']}: {state} {entry['fitted']}{more}; {differ}; {entry['seconds']} s"


def environment() -> dict[str, Any]:
    """Describes the machine and the versions, with null for missing ones."""
    query = "--query-gpu=name,driver_version,compute_cap,vbios_version"
    device = _said(["nvidia-smi", query, "--format=csv,noheader"])
    fields = [field.strip() for field in device.splitlines()[0].split(",")] if device else [None] * 4
    found: dict[str, Any] = dict(zip(("device", "driver", "compute_capability", "vbios"), fields, strict=False))
    compiler = _said(["nvcc", "--version"])
    found["nvcc"] = compiler.splitlines()[-1] if compiler else None
    for package in ("torch", "numpy", "ml_dtypes", "nvidia-cublas"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found | {"mpsim": mpsim.__version__, "recorded": time.strftime("%Y-%m-%d", time.gmtime())}


def _said(command: list[str]) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=60).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def pack(folder: Path, tar: Path) -> None:
    """Writes all finished files of the folder to one archive, atomically."""
    archived = io.BytesIO()
    with tarfile.open(fileobj=archived, mode="w") as archive:
        for path in sorted(folder.iterdir()):
            if path.suffix in (".json", ".npz"):
                archive.add(path, path.name)
    write_whole(tar, archived.getvalue())


def main() -> None:
    """Parses the arguments and records."""
    parser = argparse.ArgumentParser("python -m bench.hardware.record", description=__doc__)
    parser.add_argument("out", type=Path, help="the folder of the files")
    parser.add_argument("--only", action="append", default=[], help="subjects whose name contains it (may be repeated)")
    parser.add_argument("--seconds", type=float, default=300.0, help="time limit for all subjects (default 300)")
    parser.add_argument("--jobs", type=int, help="processes at once (default: one per processor; 0: in this process)")
    parser.add_argument("--library", type=Path, help="instructions.so; by default built with nvcc")
    parser.add_argument("--subjects", default=TABLE, help=f"MODULE:NAME of the table (default {TABLE})")
    parser.add_argument("--tar", type=Path, help="also write all files to this archive")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        built = given.library
        if built is None and given.subjects == TABLE:
            try:
                built = library.build(Path(folder))
            except library.HardwareError as error:
                print(error, flush=True)
        record(
            given.out, given.subjects, only=given.only, seconds=given.seconds, jobs=given.jobs, built=built,
            tar=given.tar, say=lambda text: print(text, flush=True),
        )  # fmt: skip


if __name__ == "__main__":
    main()
