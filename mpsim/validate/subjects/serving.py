"""Answers the requests of a ``calling.Child``, as a program in a separate process.

It imports only the standard library, NumPy and ``worker.py`` beside it, so that no expected value is computed where a
subject may have changed the floating-point state.
"""

from __future__ import annotations

import ctypes
import importlib.util
import json
import mmap
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

import numpy as np

if __package__:
    from mpsim.validate.subjects import worker
else:  # run as a program, where mpsim is not imported
    _spec = importlib.util.spec_from_file_location("_mpsim_worker", Path(__file__).with_name("worker.py"))
    assert _spec is not None and _spec.loader is not None
    worker = importlib.util.module_from_spec(_spec)
    sys.modules[_spec.name] = worker
    _spec.loader.exec_module(worker)

Fields = worker.Fields
Typed = worker.Typed
WorkerError = worker.WorkerError


class Memory:
    """A file that both processes map. It grows if an answer needs more space, up to a limit."""

    def __init__(self, file: int) -> None:
        self.file, self.map = file, mmap.mmap(file, os.fstat(file).st_size)

    def read(self, described: Fields) -> Typed:
        """Returns the array that a message describes, without copying it."""
        size = os.fstat(self.file).st_size
        if size > len(self.map):
            self.map = mmap.mmap(self.file, size)
        dtype, shape = np.dtype(described["dtype"]), tuple(described["shape"])
        count = int(np.prod(shape, dtype=np.int64))
        words = np.frombuffer(self.map, dtype, count, described["offset"]).reshape(shape)
        return Typed(described["type"], words)

    def write(self, arrays: Sequence[Typed], first: int, limit: int) -> list[Fields]:
        """Writes arrays from offset ``first`` and returns their description. Raises WorkerError beyond the limit."""
        places, end = [], first
        for each in arrays:
            places.append(end)
            end += -(-each.words.nbytes // 64) * 64
        if end - first > limit:
            raise WorkerError(f"answers {end - first:,} bytes; at most {limit:,} were expected")
        size = os.fstat(self.file).st_size
        if end > size:
            os.ftruncate(self.file, end)
        if end > len(self.map):
            self.map = mmap.mmap(self.file, max(size, end))
        for each, offset in zip(arrays, places, strict=True):
            room = np.frombuffer(self.map, each.words.dtype, each.words.size, offset)
            room.reshape(each.words.shape)[...] = each.words
        return [
            {"type": each.type, "dtype": each.words.dtype.str, "shape": list(each.words.shape), "offset": offset}
            for each, offset in zip(arrays, places, strict=True)
        ]


def serve(requests: TextIO, replies: TextIO, memory: Memory) -> None:
    """Answers requests, one JSON object per line, until there are no more."""
    begin = json.loads(requests.readline())
    sys.path[:] = begin["path"]
    function = None
    try:
        function, about = worker.load(begin["spec"])
        reply: Fields = {"about": about, "state": worker.float_state()}
    except (WorkerError, OSError) as error:
        reply = {"error": str(error)}
    while True:
        replies.write(json.dumps(reply) + "\n")
        replies.flush()
        line = requests.readline()
        if not line or function is None:
            return
        asked = json.loads(line)
        try:
            answers = function([memory.read(each) for each in asked["arrays"]])
            reply = {"arrays": memory.write(answers, asked["room"], asked["limit"]), "state": worker.float_state()}
        except WorkerError as error:
            reply = {"error": str(error)}
        except Exception as error:  # the subject may raise anything
            reply = {"failed": worker.words_of(error)}


def main() -> None:
    """Serves on the file descriptors given on the command line: requests, replies, memory."""
    requests, replies, memory = map(int, sys.argv[1:4])
    if sys.platform.startswith("linux"):  # ends when the parent ends: PR_SET_PDEATHSIG, SIGKILL
        ctypes.CDLL(None).prctl(1, 9)
    with open(requests, encoding="utf-8") as reading, open(replies, "w", encoding="utf-8") as writing:
        serve(reading, writing, Memory(memory))


if __name__ == "__main__":
    main()
