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

#: How many bytes a program may print for each word of a request, and in addition.
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
        return [Typed("uint64", self._results(self._ask(arrays), arrays[0].words, len(arrays)))]

    def _ask(self, arrays: Sequence[Typed]) -> list[list[str]]:
        """Returns the words of the line that answers each row. A row has the words of every array, one after another.

        Raises SubjectError if the program fails, or answers another number of lines.
        """
        rows = len(arrays[0].words)
        columns: list[list[str]] = []
        for array in arrays:
            size = array.words.itemsize
            table = np.ascontiguousarray(array.words).view(f"u{size}").reshape(rows, -1)
            columns += [[f"{word:0{2 * size}X}" for word in column] for column in table.T.tolist()]
        lines = "".join(" ".join(row) + "\n" for row in zip(*columns, strict=True))
        output = self._run(lines.encode(), MOST_A_LINE * len(columns) * rows + MOST_BESIDE)
        found = [line.split() for line in output.splitlines() if line.strip() and not line.startswith(("#", "//"))]
        if len(found) != rows:
            raise SubjectError(f"{self.name} answered {len(found)} lines to {rows}")
        return found

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

    def _results(self, rows: list[list[str]], operands: Array, count: int) -> Array:
        """Returns the word after the ``count`` operands, or the only one of each line."""
        patterns = operands.view(f"u{operands.itemsize}")
        try:
            if all(len(row) == 1 for row in rows):
                return np.array([int(row[0], 16) for row in rows], np.uint64)
            repeated = np.array([int(row[0], 16) for row in rows], patterns.dtype)
            results = np.array([int(row[count], 16) for row in rows], np.uint64)
        except (ValueError, IndexError, OverflowError) as error:
            raise SubjectError(f"{self.name}: expected lines 'OPERAND RESULT' of hex digits: {error}") from error
        if not np.array_equal(repeated, patterns):
            first = int(np.flatnonzero(repeated != patterns)[0])
            raise SubjectError(
                f"{self.name}: line {first + 1} answers operand {rows[first][0]}, not {int(patterns[first]):x}"
            )
        return results


#: Hex digits of a result -> its type; results of the operands' own width are numbers of their format.
WIDTHS = {4: "float16", 8: "float32", 16: "float64"}


class DotProgram(Program):
    """A program that reads the words of two vectors on each line, first those of the left one, and prints the word of
    their dot product, alone or last on a line. ``inputs``: the format of the operands."""

    def __init__(self, text: str, inputs: str, timeout: float = TIMEOUT) -> None:
        super().__init__(text, timeout)
        self.inputs = inputs

    def call(self, arrays: Sequence[Typed], most: int) -> list[Typed]:
        """See mpsim.validate.subjects.calling.Callee. Two arrays (pairs of vectors, K)."""
        digits = 2 * arrays[0].words.itemsize
        found = [row[-1] for row in self._ask(arrays)]
        widths = {len(word.removeprefix("0x")) for word in found}
        type = self.inputs if widths == {digits} else WIDTHS.get(min(widths))
        if len(widths) > 1 or type is None:
            shown = ", ".join(map(str, sorted(widths)))
            raise SubjectError(
                f"{self.name} answered words of {shown} hex digits; expected {digits}, 4, 8 or 16 on all lines"
            )
        try:
            words = np.array([int(word, 16) for word in found], f"uint{4 * widths.pop()}")
        except ValueError as error:
            raise SubjectError(f"{self.name}: expected a result of hex digits at the end of a line: {error}") from error
        return [Typed(type, words)]


def _feed(process: subprocess.Popen[bytes], text: bytes) -> None:
    """Writes the operands. A program that ends before it has read all of them is judged by its answers."""
    assert process.stdin is not None
    try:
        process.stdin.write(text)
        process.stdin.close()
    except (BrokenPipeError, ValueError):
        return
