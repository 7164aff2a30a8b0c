"""Runs functions in a separate process, which may print, fork, end or be killed without harm to this one."""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection, wait

from mpsim.errors import MpsimError

#: Seconds between two looks at a process. A process that it forked may hide its end from ``wait``.
POLL = 0.25
#: Characters of a message, and of the last lines that a process printed, at most.
MOST_CHARACTERS, MOST_WORDS = 8000, 1000


class WorkerError(MpsimError, RuntimeError):
    """A process failed. The message is its own, or describes how it ended, with the last lines that it printed."""


class Child:
    """A new process that calls functions. What it prints goes to standard error."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._calls, theirs = context.Pipe()
        self._output, printing = context.Pipe(duplex=False)
        self._process = context.Process(target=_serve, args=(theirs, printing, os.getpid()))
        self._process.start()
        theirs.close()
        printing.close()
        self._last = b""
        self._asked = 0.0
        self._reader = threading.Thread(target=self._pass_on, daemon=True)
        self._reader.start()

    def ask(self, function: Callable[..., object], *arguments: object) -> None:
        """Lets the process call a function of a module. The result is that of ``answer``."""
        self._asked = time.monotonic()
        try:
            self._calls.send((function, arguments))
        except OSError:  # it has ended, which answer reports
            return

    def is_ready(self) -> bool:
        """Returns whether ``answer`` returns at once, because there is an answer or the process has ended."""
        return self._calls.poll() or self._process.exitcode is not None

    def is_late(self, timeout: float | None) -> bool:
        """Returns whether the call has taken more than ``timeout`` seconds, if that is not None."""
        return timeout is not None and time.monotonic() - self._asked > timeout

    def answer(self, on_poll: Callable[[], None] | None = None, timeout: float | None = None) -> object:
        """Waits for the result.

        Args:
            on_poll: Called regularly while the process runs.
            timeout: The seconds that the call may take. A process that takes longer is ended.

        Raises:
            WorkerError: The process ended, or took too long.
            Exception: What the function raised.
        """
        while not self.is_ready():
            if self.is_late(timeout):
                self.close()
                raise WorkerError(f"its process did not end within {timeout:g} s and was ended; --timeout allows more")
            wait_for([self])
            if on_poll is not None:
                on_poll()
        try:
            if not self._calls.poll():
                raise EOFError
            value, error = self._calls.recv()
        except Exception:  # whatever the process wrote before it ended
            raise WorkerError(self._end()) from None
        if error is not None:
            raise error
        return value

    def _end(self) -> str:
        """Describes how the process ended."""
        self._process.join(1)
        code = self._process.exitcode
        self.close()
        how = f"ended with exit code {code} before it had finished"
        if code is None:
            how = "closed its connection"
        elif code < 0:
            how = f"was killed by {_signal_name(-code)}"
        lines = [line for line in self._last.decode(errors="replace").splitlines()[-5:] if line.strip()]
        words = f"; its last words: {' / '.join(lines)[-MOST_WORDS:]}" if lines else ""
        return f"its process {how}{words}"

    def _pass_on(self) -> None:
        """Forwards the output of the process to standard error, and keeps its end."""
        try:
            while part := os.read(self._output.fileno(), 1 << 16):
                self._last = (self._last + part)[-4 * MOST_WORDS :]
                sys.stderr.write(part.decode(errors="replace"))
                sys.stderr.flush()
        except (OSError, ValueError):  # standard error is closed
            return

    def close(self) -> None:
        """Ends the process, and those that it started."""
        if self._process.pid is not None and hasattr(os, "killpg"):
            with contextlib.suppress(OSError):  # they have ended, or it has no group yet
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()
        self._process.join()
        self._reader.join(1)
        self._calls.close()


def wait_for(children: list[Child]) -> None:
    """Waits until one of the processes answers or ends, for a short time at most."""
    wait([place for child in children for place in (child._calls, child._process.sentinel)], timeout=POLL)


def call(
    function: Callable[..., object],
    *arguments: object,
    on_poll: Callable[[], None] | None = None,
    timeout: float | None = None,
) -> object:
    """Returns the result of a function of a module, called in a new process.

    Args:
        function, arguments: What to call.
        on_poll, timeout: As for ``Child.answer``.

    Raises:
        WorkerError: The process ended, was killed, or took too long.
        Exception: What the function raised.

    >>> call(int, "7f", 16)
    127
    """
    child = Child()
    try:
        child.ask(function, *arguments)
        return child.answer(on_poll, timeout)
    finally:
        child.close()


def shortened(message: str) -> str:
    """Returns the beginning and the end of a long message.

    >>> len(shortened("long" * 10_000)) < 9000
    True
    """
    half = MOST_CHARACTERS // 2
    left_out = len(message) - 2 * half
    return (
        message if left_out <= 0 else f"{message[:half]} ... ({left_out:,} characters left out) ... {message[-half:]}"
    )


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"


def _serve(calls: Connection, printing: Connection, parent: int) -> None:
    """Calls functions until the parent ends this process, or has ended itself."""
    own = os.getpid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent receives Ctrl-C, and ends this process
    if hasattr(os, "setsid"):
        os.setsid()
        os.dup2(printing.fileno(), 1)
        os.dup2(printing.fileno(), 2)
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(1, int(signal.SIGKILL))  # PR_SET_PDEATHSIG: ends when the parent ends
    threading.Thread(target=_end_if_orphaned, args=(parent,), daemon=True).start()
    while True:
        try:
            function, arguments = calls.recv()
        except EOFError:
            os._exit(0)
        reply: tuple[object, BaseException | None]
        try:
            reply = function(*arguments), None
        except BaseException as error:  # a user's code may raise anything
            reply = None, _sent(error)
        if os.getpid() != own:  # a user's code forked, and the copy arrived here too
            os._exit(0)
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        calls.send(reply)


def _end_if_orphaned(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _sent(error: BaseException) -> BaseException:
    """Returns an error that the parent can read: the same one if it is mpsim's or the system's."""
    known = isinstance(error, MpsimError) or type(error).__module__ == "builtins" and isinstance(error, OSError)
    if known:
        try:
            return pickle.loads(pickle.dumps(error))
        except Exception:  # it has other arguments than its class takes
            return WorkerError(shortened(str(error)))
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({os.path.basename(frames[-1].filename)}, line {frames[-1].lineno})" if frames else ""
    words = f": {shortened(str(error))}" if str(error) else ""
    return WorkerError(f"it failed with {type(error).__name__}{words}{place}")
