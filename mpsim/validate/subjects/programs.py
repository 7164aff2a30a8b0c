"""Calls programs that read hex operands on each line and print ``OPERAND … RESULT``, like TestFloat."""

from __future__ import annotations

import os
import select
import shlex
import subprocess
import threading
import time
from collections.abc import Sequence

import numpy as np

from mpsim.kernels.contract import Array
from mpsim.validate.answers import SubjectError
from mpsim.validate.subjects.calling import TIMEOUT, Immediate
from mpsim.validate.subjects.worker import Typed

#: How many bytes a program may print for each operand, and in addition.
MOST_A_LINE, MOST_BESIDE = 256, 1 << 20


class Program(Immediate):
    """A program that is started for every request. Text after the result on a line, such as flags, is ignored."""

    def __init__(self, text: str, timeout: float = TIMEOUT) -> None:
        super().__init__()
        self.name, self.state, self.timeout = f"command:{text}", list[str](), timeout
        self._words = shlex.split(text)
        if not self._words:
            raise SubjectError("command: names no program")

    def call(self, arrays: Sequence[Typed], most: int) -> list[Typed]:
        """See mpsim.validate.subjects.calling.Callee."""
        columns = [each.words.view(f"uint{8 * each.words.itemsize}") for each in arrays]
        texts = [[f"{word:0{2 * column.itemsize}X}" for word in column.tolist()] for column in columns]
        lines = "".join(" ".join(row) + "\n" for row in zip(*texts, strict=True))
        output = self._run(lines.encode(), MOST_A_LINE * columns[0].size + MOST_BESIDE)
        return [Typed("uint64", self._results(output, columns))]

    def _run(self, text: bytes, most: int) -> str:
        try:
            process = subprocess.Popen(
                self._words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
        except OSError as error:
            raise SubjectError(f"cannot start {self._words[0]}: {error}") from error
        with process:
            writing = threading.Thread(target=_feed, args=(process, text), daemon=True)
            writing.start()
            try:
                output, errors = self._read(process, most)
            finally:
                process.kill()
                writing.join()
        if process.returncode > 0 or (process.returncode < 0 and not output):
            raise SubjectError(
                f"{self._words[0]} ended with {process.returncode}: {errors.decode(errors='replace')[-300:]}"
            )
        return output.decode(errors="replace")

    def _read(self, process: subprocess.Popen[bytes], most: int) -> tuple[bytes, bytes]:
        """Returns everything that the program prints. It enforces the limits of time and size."""
        assert process.stdout is not None and process.stderr is not None
        files = {process.stdout.fileno(): bytearray(), process.stderr.fileno(): bytearray()}
        waiting, deadline = list(files), time.monotonic() + self.timeout
        while waiting:
            ready = select.select(waiting, [], [], max(0.0, deadline - time.monotonic()))[0]
            if not ready:
                raise SubjectError(f"{self.name} did not end within {self.timeout:g} s; --timeout allows more")
            for file in ready:
                part = os.read(file, 1 << 16)
                files[file] += part
                if not part:
                    waiting.remove(file)
                if len(files[file]) > most:
                    raise SubjectError(f"{self.name} printed more than {most:,} bytes and was ended")
        process.wait(timeout=10)
        return bytes(files[process.stdout.fileno()]), bytes(files[process.stderr.fileno()])

    def _results(self, text: str, columns: Sequence[Array]) -> Array:
        """Returns the word after the operands, or the only one of each line."""
        patterns, count = columns[0], len(columns)
        rows = [line.split() for line in text.splitlines() if line.strip() and not line.startswith(("#", "//"))]
        if len(rows) != patterns.size:
            raise SubjectError(f"{self.name} answered {len(rows)} lines to {patterns.size}")
        try:
            if all(len(row) == 1 for row in rows):
                return np.array([int(row[0], 16) for row in rows], np.uint64)
            operands = np.array([int(row[0], 16) for row in rows], patterns.dtype)
            results = np.array([int(row[count], 16) for row in rows], np.uint64)
        except (ValueError, IndexError, OverflowError) as error:
            raise SubjectError(f"{self.name}: expected lines 'OPERAND RESULT' of hex digits: {error}") from error
        if not np.array_equal(operands, patterns):
            first = int(np.flatnonzero(operands != patterns)[0])
            raise SubjectError(
                f"{self.name}: line {first + 1} answers operand {rows[first][0]}, not {int(patterns[first]):x}"
            )
        return results


def _feed(process: subprocess.Popen[bytes], text: bytes) -> None:
    """Writes the operands. A program that ends before it has read all of them is judged by its answers."""
    assert process.stdin is not None
    try:
        process.stdin.write(text)
        process.stdin.close()
    except (BrokenPipeError, ValueError):
        return
