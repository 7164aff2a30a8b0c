"""Interrupts work.py at every place where it writes, and compares what it then goes on to with undisturbed work.

    python tests/crashes/harness.py [--kills N] [--torn N] [--power N] ...

After each interruption nothing that work.py had reported as stored may be missing, no file may be damaged, and the work
that goes on must end with the same rows, checkpoints and bits. `nox -s crash` runs this. faults.c, which the C compiler
builds here, makes calls fail or ends the process (LD_PRELOAD); power.py computes what a loss of power may leave.
"""

from __future__ import annotations

import argparse
import ctypes
import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
LIBRARY = "MPSIM_FAULTS"
NONE, KILL, TEAR, SHORT, FAIL, FULL, READ_ONLY, TRACE = range(8)


class Failed(Exception):
    """A trial whose end is not what is promised."""


class End(NamedTuple):
    """How a process ended: its status, what it reported, and the calls and bytes that it wrote."""

    status: int
    reported: dict[str, int]
    error: str


def build(folder: Path) -> Path:
    """Compiles faults.c."""
    library = folder / "faults.so"
    command = [os.environ.get("CC", "cc"), "-shared", "-fPIC", "-O1", "-Wall", "-Werror", str(HERE / "faults.c")]
    subprocess.run([*command, "-o", str(library), "-ldl", "-lpthread"], check=True)
    return library


class Harness:
    """The trials, each in a separate folder."""

    def __init__(self, place: Path, seed: int) -> None:
        import work

        self.work, self.place, self.chance = work, place, random.Random(seed)
        self.faults = ctypes.CDLL(os.environ[LIBRARY])
        self.faults.faults_arm.argtypes = [ctypes.c_char_p, ctypes.c_int, ctypes.c_long, ctypes.c_int, ctypes.c_int]
        self.counted = self.faults.faults_calls, self.faults.faults_bytes
        for each in self.counted:
            each.restype = ctypes.c_long
        self.number, self.left_behind = 0, 0
        self.command: tuple[object, float] = (None, 0)
        self.ends: Counter[str] = Counter()
        with self.folder() as folder:
            began = time.monotonic()
            end, self.calls, self.bytes, self.trace = self.traced(folder)
            self.seconds = time.monotonic() - began
            if end.status:
                raise Failed(f"undisturbed work failed: {end}")
            self.wanted = work.contents(folder)
            if not end.reported or work.stored(folder) != end.reported:
                raise Failed(f"undisturbed work reported {end.reported}")
        with self.folder() as folder:
            self.go_on(folder)  # the same again, in another folder

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """A new folder."""
        self.number += 1
        folder = self.place / f"trial{self.number}"
        folder.mkdir()
        yield folder
        shutil.rmtree(folder)

    def start(self, folder: Path, kind: int = NONE, at: int = 0, error: int = 0, trace: int = -1) -> tuple[int, int]:
        """Starts the work in a forked process with a fault. Returns its number and the descriptor of its reports."""
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            code = 1
            try:
                os.close(reading)
                mark = self.faults.faults_mark if kind == TRACE else None
                self.faults.faults_arm(bytes(folder), kind, at, error, trace)
                code = self.work.main_of_child(folder, writing, mark)
                if kind == TRACE:
                    os.write(writing, f"calls {self.counted[0]()}\nbytes {self.counted[1]()}\n".encode())
            except BaseException as problem:
                os.write(writing, f"error {type(problem).__name__}: {problem}\n".encode())
            finally:
                os._exit(code)
        os.close(writing)
        return child, reading

    @staticmethod
    def end(child: int, reading: int) -> End:
        """Waits for the process."""
        with os.fdopen(reading) as file:
            lines = file.read().splitlines()
        _, status = os.waitpid(child, 0)
        reported = {name: int(epochs) for name, _, epochs in (line.partition(" ") for line in lines) if name != "error"}
        errors = [line for line in lines if line.startswith("error ")]
        return End(os.waitstatus_to_exitcode(status), reported, " ".join(errors))

    def disturbed(self, folder: Path, kind: int, at: int, error: int = 0) -> End:
        """Works with a fault."""
        return self.end(*self.start(folder, kind, at, error))

    def traced(self, folder: Path) -> tuple[End, int, int, list[Any]]:
        """Works undisturbed. Returns its end, the numbers of calls and bytes, and the trace."""
        from power import read_trace

        with tempfile.TemporaryFile() as file:
            end = self.end(*self.start(folder, TRACE, trace=file.fileno()))
            file.seek(0)
            trace = read_trace(file.read())
        return end, end.reported.pop("calls"), end.reported.pop("bytes"), trace

    def check_kept(self, folder: Path, reported: dict[str, int]) -> None:
        """Raises Failed if something that was reported as stored is not there."""
        kept = self.work.stored(folder)
        missing = {name: epochs for name, epochs in reported.items() if kept.get(name, 0) < epochs}
        if missing:
            raise Failed(f"lost: {missing} were stored, {kept} are there")

    def go_on(self, folder: Path) -> None:
        """Does the rest of the work undisturbed. Raises Failed unless everything is as if nothing had happened."""
        end = self.disturbed(folder, NONE, 0)
        if end.status:
            raise Failed(f"the work did not go on: {end}")
        self.left_behind += self.work.left_behind(folder)
        found = self.work.contents(folder)
        for name, wanted in self.wanted.items():
            if found[name] != wanted:
                raise Failed(f"other {name}: {found[name]!r:.500} instead of {wanted!r:.500}")

    def note(self, what: str, end: End, expected: set[int]) -> None:
        """Counts how a process ended."""
        if end.status not in expected:
            raise Failed(f"{what} ended with {end.status}: {end.error}")
        self.ends[f"{what}: {'ended' if end.status == 0 else 'an error' if end.status == 3 else 'killed'}"] += 1

    def twice(self, folder: Path, end: End) -> None:
        """Checks what is kept, kills the process that goes on in some trials, and goes on."""
        self.check_kept(folder, end.reported)
        if self.chance.random() < 0.25:
            again = self.disturbed(folder, KILL, self.chance.randrange(self.calls))
            self.note("killed again", again, {0, -signal.SIGKILL})
            self.check_kept(folder, again.reported)
        self.go_on(folder)


def kill_at_a_moment(harness: Harness, number: int, count: int) -> None:
    """SIGKILL from outside, at a moment."""
    with harness.folder() as folder:
        child, reading = harness.start(folder)
        time.sleep(harness.chance.random() * harness.seconds)
        os.kill(child, signal.SIGKILL)
        end = harness.end(child, reading)
        harness.note("a moment", end, {0, -signal.SIGKILL})
        harness.twice(folder, end)


def kill_at_a_call(harness: Harness, number: int, count: int) -> None:
    """SIGKILL before a call that writes; the numbers are spread over all calls."""
    with harness.folder() as folder:
        end = harness.disturbed(folder, KILL, number * harness.calls // count)
        harness.note("a call", end, {-signal.SIGKILL})
        harness.twice(folder, end)


def tear(harness: Harness, number: int, count: int) -> None:
    """Half of a write and SIGKILL, or a write that writes one byte and goes on."""
    kind = SHORT if number % 4 == 3 else TEAR
    with harness.folder() as folder:
        end = harness.disturbed(folder, kind, number * harness.calls // count)
        harness.note("torn" if kind == TEAR else "short", end, {0, 3} if kind == SHORT else {0, -signal.SIGKILL})
        harness.twice(folder, end)


def lose_power(harness: Harness, number: int, count: int) -> None:
    """What a loss of power leaves after some of the calls."""
    from power import Disk

    top = harness.trace[0].path.rpartition("/")[0]
    with harness.folder() as folder:
        disk, reported = Disk(top), dict[str, int]()
        for call in harness.trace[: (number + 1) * len(harness.trace) // count]:
            disk.run(call)
            if call.what == "mark":
                name, _, epochs = call.path.partition(" ")
                reported[name] = int(epochs)
        disk.leave(folder, harness.chance)
        harness.ends["power: lost"] += 1
        harness.twice(folder, End(0, reported, ""))


def fail(harness: Harness, number: int, count: int) -> None:
    """One call fails."""
    code = (errno.ENOSPC, errno.EIO, errno.EDQUOT)[number % 3]
    with harness.folder() as folder:
        end = harness.disturbed(folder, FAIL, number * harness.calls // count, code)
        harness.note(errno.errorcode[code], end, {0, 3})
        harness.twice(folder, end)


def fill(harness: Harness, number: int, count: int) -> None:
    """The disk is full after some bytes: a small file system where one can be mounted, or calls that fail."""
    size = (number + 1) * harness.bytes // (count + 1)
    with harness.folder() as folder, small_disk(folder, 1 + size // 8) as mounted:
        end = harness.disturbed(folder, NONE if mounted else FULL, size, errno.ENOSPC)
        harness.note("full disk" if mounted else "full disk, by the library", end, {0, 3})
        if mounted:
            subprocess.run(["mount", "-o", "remount,size=64m", str(folder)], check=True)
        harness.twice(folder, end)


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[bool]:
    """Mounts a file system of that size if this process may."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    done = shutil.which("mount") and subprocess.run(command, capture_output=True).returncode == 0
    try:
        yield bool(done)
    finally:
        if done:
            subprocess.run(["umount", str(folder)], check=True)


def read_only(harness: Harness, number: int, count: int) -> None:
    """The folder is read-only, at the beginning or after some work."""
    with harness.folder() as folder:
        if number:
            harness.disturbed(folder, KILL, number * harness.calls // count)
        before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        end = harness.disturbed(folder, READ_ONLY, 0)
        harness.note("read-only", end, {3})
        if before != {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}:
            raise Failed("a read-only folder changed")
        harness.twice(folder, end)


def command(harness: Harness, number: int, count: int) -> None:
    """SIGKILL to `mpsim sweep` with two processes, at a moment; then the command again."""
    clean = {name: value for name, value in os.environ.items() if name not in ("LD_PRELOAD", LIBRARY)}
    line = [sys.executable, "-m", "mpsim.cli", "sweep", *harness.work.OPTIONS, "--processes", "2"]
    quiet: dict[str, Any] = {"env": clean, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    rows = harness.place / "rows.json"
    if not number:
        with harness.folder() as folder:
            began = time.monotonic()
            subprocess.run([*line, "--results", str(folder), "--json", str(rows)], check=True, **quiet)
            harness.command = harness.work.rows_of(rows), time.monotonic() - began
    wanted, seconds = harness.command
    with harness.folder() as folder:
        process = subprocess.Popen([*line, "--results", str(folder)], **quiet)
        time.sleep(harness.chance.random() * seconds)
        process.kill()
        harness.note("command", End(process.wait(), {}, ""), {0, -signal.SIGKILL})
        subprocess.run([*line, "--results", str(folder), "--json", str(rows)], check=True, **quiet)
        if harness.work.rows_of(rows) != wanted:
            raise Failed("the command again gave other rows")


KINDS: dict[str, tuple[Callable[[Harness, int, int], None], int]] = {
    "moments": (kill_at_a_moment, 250),
    "kills": (kill_at_a_call, 250),
    "torn": (tear, 100),
    "power": (lose_power, 200),
    "errors": (fail, 200),
    "full": (fill, 20),
    "read-only": (read_only, 5),
    "commands": (command, 10),
}


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, (function, count) in KINDS.items():
        parser.add_argument(f"--{name}", type=int, default=count, help=f"{function.__doc__} (default: {count})")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--without-sync", action="store_true", help="the disk ignores fsync: trials must fail")
    given = vars(parser.parse_args(arguments))
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as name:
        place = Path(name)
        if LIBRARY not in os.environ:
            library = str(build(place))
            again = {**os.environ, LIBRARY: library, "LD_PRELOAD": library, "OMP_NUM_THREADS": "1"}
            sys.exit(subprocess.run([sys.executable, __file__, *arguments], env=again).returncode)
        harness = Harness(place, given.pop("seed"))
        if given.pop("without_sync"):
            harness.trace = [call for call in harness.trace if call.what != "sync"]
        sys.exit(trials(harness, {name.replace("_", "-"): count for name, count in given.items()}))


def trials(harness: Harness, counts: dict[str, int]) -> int:
    """Runs the trials and prints what happened. Returns the exit code."""
    print(f"undisturbed: {harness.calls} calls that write {harness.bytes} bytes, {harness.seconds:.2f} s", flush=True)
    failures = []
    for name, count in counts.items():
        began = time.monotonic()
        for number in range(count):
            try:
                KINDS[name][0](harness, number, count)
            except Exception as error:
                failures.append(f"{name} {number} of {count}: {type(error).__name__}: {error}")
                print(failures[-1], flush=True)
        print(f"{name}: {count} trials, {time.monotonic() - began:.0f} s", flush=True)
    print("\n".join(f"  {what}: {number}" for what, number in sorted(harness.ends.items())))
    print(f"temporary files of killed processes: {harness.left_behind}")
    print(f"{sum(counts.values())} trials, {len(failures)} failures")
    return bool(failures)


if __name__ == "__main__":
    sys.path[:0] = [str(HERE), str(HERE.parents[1])]
    main(sys.argv[1:])
