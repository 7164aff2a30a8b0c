"""Damaged files: each ends in a value or in mpsim's own error, within 5 s and 1 GiB, and runs nothing.

Two targets share a corpus for each reader. ``readers`` damages files of the corpus by tests/mutations.py, and adds
those whose error is new. ``coverage`` is atheris (libFuzzer), which adds those that reach new lines.
"""

from __future__ import annotations

import gc
import hashlib
import mmap
import os
import re
import resource
import struct
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np
from readers import READERS, Outcome, Reader, read_damaged

from mpsim.files.semantics import OlderSemantics

MOST_MEMORY = 1 << 30
#: The longest file that atheris makes.
MOST_BYTES = 1 << 16
#: The most files in a corpus of ``readers``.
MOST_FILES = 500
#: What atheris instruments: modules that read files. Not those that Numba compiles.
INSTRUMENTED = (
    "mpsim.files", "mpsim.data", "mpsim.recording", "mpsim.experiments.results", "mpsim.validate", "mpsim.vectors",
    "mpsim.products", "mpsim.assignment", "mpsim.weights", "mpsim.training.checkpoint", "mpsim.formats", "json",
    "zipfile", "tarfile",
)  # fmt: skip
#: A number in memory that two processes share.
COUNT = struct.Struct("q")
#: What no file may make a reader do.
FORBIDDEN = (
    "os.system", "os.exec", "os.fork", "os.posix_spawn", "subprocess.Popen", "socket.connect", "pickle.find_class",
)  # fmt: skip


def guarded() -> None:
    """Limits the memory of this process, and lets forbidden actions of readers fail."""
    warnings.simplefilter("ignore", OlderSemantics)
    used = int(re.search(r"VmSize:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) << 10  # type: ignore[index]
    resource.setrlimit(resource.RLIMIT_AS, (used + MOST_MEMORY,) * 2)

    def refuse(event: str, _: object) -> None:
        if event in FORBIDDEN:
            raise BaseException(f"a file led to {event}")

    sys.addaudithook(refuse)


def corpus_of(reader: Reader, folder: Path) -> Path:
    """The reader's folder of files, with the right one."""
    corpus = folder / "corpus" / reader.name
    corpus.mkdir(parents=True, exist_ok=True)
    if not any(corpus.iterdir()):
        (corpus / "right").write_bytes(reader.content())
    return corpus


def stored(content: bytes, folder: Path) -> Path:
    """Keeps a file under the hash of its content."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / hashlib.sha256(content).hexdigest()[:20]
    path.write_bytes(content)
    return path


def readers(seconds: float, seed: int, folder: Path) -> Iterator[str | int]:
    """Damages files of the readers in turn; first it reads what failed in earlier sessions.

    Yields what escapes, and the number of files that were read.
    """
    contents = {reader.name: reader.content() for reader in READERS}  # trains a step, before memory is limited
    guarded()
    generator, deadline = np.random.default_rng(seed), time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        for reader in READERS:
            for path in sorted((folder / "failures" / reader.name).glob("*")):
                outcome = read_damaged(reader, path.read_bytes(), place)
                if outcome.escaped:
                    yield f"{reader.name}: {outcome.said} ({path}, of an earlier session)"
        seen: set[tuple[str, str]] = set()
        while time.monotonic() < deadline:
            for reader in READERS:
                corpus = [path.read_bytes() for path in corpus_of(reader, folder).iterdir()]
                for number in range(40):
                    right = corpus[generator.integers(len(corpus))] if generator.integers(2) else contents[reader.name]
                    try:
                        damaged = reader.damages[number % len(reader.damages)](right, generator)
                    except Exception:  # a file of the corpus is no longer a zip, or JSON
                        damaged = reader.damages[number % len(reader.damages)](contents[reader.name], generator)
                    outcome = read_damaged(reader, damaged, place)
                    if outcome.escaped:
                        yield f"{reader.name}: {outcome.said} ({stored(damaged, folder / 'failures' / reader.name)})"
                    elif (kind := (reader.name, kind_of(outcome))) not in seen and len(corpus) < MOST_FILES:
                        seen.add(kind)
                        stored(damaged, corpus_of(reader, folder))
                yield 40


def kind_of(outcome: Outcome) -> str:
    """A message without its numbers and quoted texts."""
    return re.sub(r"\d+|'[^']*'|\"[^\"]*\"", "", outcome.said)[-120:]


def coverage(seconds: float, seed: int, folder: Path) -> Iterator[str | int]:
    """atheris on three readers, those of the seed, each in a separate process that libFuzzer ends.

    Yields what escapes, and the number of files that were read.
    """
    import atheris

    chosen = [READERS[(3 * seed + i) % len(READERS)] for i in range(3)]
    with tempfile.TemporaryDirectory() as scratch:
        for reader in chosen:  # which imports all modules that it needs
            read_damaged(reader, reader.content(), Path(scratch))
    instrument(atheris)
    for reader in chosen:
        corpus, crashes = corpus_of(reader, folder), folder / "failures" / reader.name
        crashes.mkdir(parents=True, exist_ok=True)
        before, files = set(crashes.iterdir()), len(list(corpus.iterdir()))
        (read, write), count = os.pipe(), mmap.mmap(-1, 8)
        pid = os.fork()
        if pid == 0:
            _fuzz(atheris, reader, corpus, crashes, max(1, int(seconds / 3)), seed, write, count)
        os.close(write)
        with os.fdopen(read, encoding="utf-8") as messages:
            said = messages.read()
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        new = sorted(path.name for path in set(crashes.iterdir()) - before)
        if status != 0:
            yield f"{reader.name}: {said or f'exit code {status} of libFuzzer'} ({crashes}: {new})"
        elif files == 1 and len(list(corpus.iterdir())) == 1 and COUNT.unpack(count)[0] > 100:
            yield f"{reader.name}: none of {COUNT.unpack(count)[0]} files reached a new line; is it instrumented?"
        yield COUNT.unpack(count)[0]


def instrument(atheris: Any) -> int:
    """Lets the functions of INSTRUMENTED report the lines that they reach. Returns their number.

    atheris's own hook of imports comes after that of mpsim (mpsim/process/importing.py), and sees no module of it.
    """
    functions = [
        each
        for each in gc.get_objects()
        if type(each) is FunctionType and f"{each.__module__}.".startswith(tuple(f"{name}." for name in INSTRUMENTED))
    ]
    for function in functions:
        atheris.instrument_func(function)
    return len(functions)


def _fuzz(
    atheris: Any, reader: Reader, corpus: Path, crashes: Path, seconds: int, seed: int, write: int, count: mmap.mmap
) -> None:
    guarded()
    scratch = Path(tempfile.mkdtemp())

    def one(content: bytes) -> None:
        COUNT.pack_into(count, 0, COUNT.unpack(count)[0] + 1)
        outcome = read_damaged(reader, content, scratch)
        if outcome.escaped:
            os.write(write, outcome.said.encode())
            raise AssertionError(outcome.said)

    arguments = [
        "fuzz", str(corpus), f"-artifact_prefix={crashes}/", f"-max_total_time={seconds}", f"-seed={seed + 1}",
        f"-max_len={MOST_BYTES}", "-rss_limit_mb=0", "-timeout=20", "-verbosity=0",
    ]  # fmt: skip
    atheris.Setup(arguments, one)
    atheris.Fuzz()
    os._exit(0)
