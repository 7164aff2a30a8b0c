"""Calls subjects in a separate process with a time limit, or in this process with mpsim's arithmetic protected.

A subject may crash, hang, print without end, exit or change the floating-point state. In a child process (``Child``)
this cannot affect mpsim. In this process (``InProcess``, for functions that are objects of this process) the
floating-point environment is restored after every call, and the subject's environment is restored before the next.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from mpsim.files.records import Fields
from mpsim.process.environment import enter_float_environment, leave_float_environment
from mpsim.validate.answers import SubjectError
from mpsim.validate.subjects import serving, worker
from mpsim.validate.subjects.worker import Function, Typed, WorkerError

#: The time limit of one answer, in seconds.
TIMEOUT = 120.0
#: How many bytes a subject may print.
MOST_OUTPUT = 16 << 20
#: Makes waiting threads of a subject sleep. By default OpenMP's threads spin, on the core on which mpsim compares.
_WAITING = {"OMP_WAIT_POLICY": "passive"}
#: The number of slots in a child's memory. The child answers one request while the next is prepared.
_SLOTS = 2

Result = TypeVar("Result")


class Callee(Protocol):
    """A function of typed arrays. ``state`` describes what is unusual about its floating-point arithmetic."""

    name: str
    state: list[str]

    def call(self, arrays: Sequence[Typed], most: int) -> list[Typed]:
        """Returns the answer, of at most ``most`` bytes. Raises SubjectError if there is none."""

    def submit(self, arrays: Sequence[Typed], most: int) -> None:
        """Sends a request without waiting. At most two may be open, and ``result`` returns their answers in order."""

    def result(self) -> list[Typed]:
        """Returns the answer to the first open request. The second request after it overwrites the answer."""

    def forget(self) -> None:
        """Discards the answers to open requests."""

    def close(self) -> None:
        """Ends the callee."""


class Immediate:
    """A callee that answers a request immediately and stores the answer until it is read."""

    def __init__(self) -> None:
        self._answers: list[list[Typed]] = []

    def call(self, arrays: Sequence[Typed], most: int) -> list[Typed]:
        """See Callee."""
        raise NotImplementedError

    def submit(self, arrays: Sequence[Typed], most: int) -> None:
        """See Callee."""
        self._answers.append(self.call(arrays, most))

    def result(self) -> list[Typed]:
        """See Callee."""
        return self._answers.pop(0)

    def forget(self) -> None:
        """See Callee."""
        self._answers.clear()

    def close(self) -> None:
        """See Callee. There is nothing to end."""


class InProcess(Immediate):
    """A function called in this process. ``load`` returns it and what is known about it."""

    def __init__(self, name: str, load: Callable[[], tuple[Function, Fields]]) -> None:
        super().__init__()
        self.name, self.state = name, list[str]()
        self._environment: int | None = None
        self._function: Function | None = None
        self._function, self.about = self._protected(load)

    def _protected(self, work: Callable[[], Result]) -> Result:
        """Runs ``work`` in the floating-point state that the subject left, at first the default, and restores ours."""
        ours = enter_float_environment()
        if self._environment is not None:
            leave_float_environment(self._environment)
        try:
            return work()
        except WorkerError as error:
            raise SubjectError(f"{self.name} {error}" if self._function else str(error)) from error
        except SystemExit as error:
            raise SubjectError(f"{self.name} calls sys.exit({error.code!r})") from error
        except SubjectError:
            raise
        except Exception as error:  # the subject may raise anything
            raise SubjectError(f"{self.name} failed: {worker.words_of(error)}") from error
        finally:
            self.state = worker.float_state()
            self._environment = enter_float_environment()
            leave_float_environment(ours)

    def call(self, arrays: Sequence[Typed], most: int) -> list[Typed]:
        """See Callee. The subject receives copies."""
        function, given = self._function, [Typed(each.type, each.words.copy()) for each in arrays]
        assert function is not None
        answers: list[Typed] = self._protected(lambda: function(given))
        _check_size(self.name, sum(each.words.nbytes for each in answers), most)
        return answers


class Child:
    """A subject in a separate process. ``spec`` describes it (``worker.load``)."""

    def __init__(self, name: str, spec: Fields, timeout: float = TIMEOUT) -> None:
        self.name, self.state, self.timeout = name, list[str](), timeout
        self._open = self._next = self._stale = 0
        self._received = b""
        self._slot = 0
        self._process = _Process(spec)
        self._memory = serving.Memory(self._process.memory)
        begun = self._reply()
        self.state, self.about = begun["state"], begun["about"]

    # -- requests -----------------------------------------------------------------------------------------
    def call(self, arrays: Sequence[Typed], most: int) -> list[Typed]:
        """See Callee."""
        self.submit(arrays, most)
        return [Typed(each.type, each.words.copy()) for each in self.result()]

    def submit(self, arrays: Sequence[Typed], most: int) -> None:
        """See Callee."""
        assert self._open < _SLOTS
        size = sum(-(-each.words.nbytes // 64) * 64 for each in arrays)
        if max(size, most) > self._slot:
            assert not self._open, "memory grows only between requests"
            self._slot = -(-max(size, most) // 4096) * 4096
            os.ftruncate(self._process.memory, 2 * _SLOTS * self._slot)
            self._memory = serving.Memory(self._process.memory)
        place = self._next % _SLOTS
        described = self._memory.write(arrays, place * self._slot, self._slot)
        self._process.ask({"arrays": described, "room": (_SLOTS + place) * self._slot, "limit": most})
        self._open, self._next = self._open + 1, self._next + 1

    def result(self) -> list[Typed]:
        """See Callee."""
        while self._stale:
            self._stale -= 1
            self._reply()
        reply = self._reply()
        self._open -= 1
        self.state = reply["state"]
        return [self._memory.read(each) for each in reply["arrays"]]

    def forget(self) -> None:
        """See Callee."""
        self._stale, self._open = self._stale + self._open, 0

    def _reply(self) -> Fields:
        deadline = time.monotonic() + self.timeout
        while b"\n" not in self._received:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._process.replies], [], [], left)[0]:
                self.close()
                raise SubjectError(
                    f"{self.name} gave no answer within {self.timeout:g} s and was ended; --timeout allows more"
                )
            received = os.read(self._process.replies, 1 << 16)
            if not received:
                raise SubjectError(f"{self.name} {self._process.end()}")
            self._received += received
        line, _, self._received = self._received.partition(b"\n")
        reply: Fields = json.loads(line)
        if "error" in reply:
            self.close()
            raise SubjectError(f"{self.name} {reply['error']}" if self._next else reply["error"])
        if "failed" in reply:
            raise SubjectError(f"{self.name} failed: {reply['failed']}")
        return reply

    def close(self) -> None:
        """See Callee."""
        self._process.kill()


class _Process:
    """The process of a child, with its pipes, its memory and its output."""

    def __init__(self, spec: Fields) -> None:
        folder = "/dev/shm" if Path("/dev/shm").is_dir() else None
        with tempfile.TemporaryFile(dir=folder) as file:
            self.memory = os.dup(file.fileno())
        os.ftruncate(self.memory, 4096)
        theirs, self._requests = os.pipe()
        self.replies, writing = os.pipe()
        program = [sys.executable, "-P", serving.__file__, *map(str, (theirs, writing, self.memory))]
        self._process = subprocess.Popen(
            program, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            pass_fds=(theirs, writing, self.memory), start_new_session=True, env=_WAITING | os.environ,
        )  # fmt: skip
        os.close(theirs)
        os.close(writing)
        self._stopped: list[str] = []
        printing = threading.Thread(target=_pass_on, args=(self._process, self._stopped), daemon=True)
        printing.start()
        files = (self._requests, self.replies, self.memory)
        self._finalizer = weakref.finalize(self, _end, self._process, printing, files)
        self.ask({"spec": spec, "path": [str(Path(place).resolve()) for place in sys.path]})

    def ask(self, message: Fields) -> None:
        """Sends a message. If the process has ended, reading its replies reports that."""
        try:
            os.write(self._requests, json.dumps(message).encode() + b"\n")
        except BrokenPipeError:
            return

    def end(self) -> str:
        """Describes how the process ended."""
        try:
            code = self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            _kill(self._process)
            code = self._process.wait()
        self.kill()
        if self._stopped:
            return self._stopped[0]
        if code < 0:
            return f"crashed: its process ended with {signal.Signals(-code).name}"
        return f"ended its process (exit code {code}) instead of answering"

    def kill(self) -> None:
        """Ends the process and closes its files."""
        self._finalizer()


def _pass_on(process: subprocess.Popen[bytes], stopped: list[str]) -> None:
    """Forwards the subject's output to standard error. Beyond a limit it ends the subject and fills ``stopped``."""
    printed, output = 0, process.stdout
    assert output is not None
    while part := os.read(output.fileno(), 1 << 16):
        printed += len(part)
        if printed > MOST_OUTPUT:
            stopped.append(f"printed more than {MOST_OUTPUT >> 20} MiB and was ended")
            _kill(process)
            break
        sys.stderr.write(part.decode(errors="replace"))


def _end(process: subprocess.Popen[bytes], printing: threading.Thread, files: Sequence[int]) -> None:
    _kill(process)
    process.wait()
    printing.join(timeout=10)
    assert process.stdout is not None
    process.stdout.close()
    for file in files:
        os.close(file)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Ends the process and all processes that it started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        process.kill()


def _check_size(name: str, size: int, most: int) -> None:
    if size > most:
        raise SubjectError(f"{name} answers {size:,} bytes; at most {most:,} were expected")
