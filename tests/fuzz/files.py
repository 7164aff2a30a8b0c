"""Damaged files: each ends in a value or in mpsim's own error, within 5 s and 1 GiB, and runs nothing.

Two targets share a corpus for each reader. ``readers`` damages files of the corpus by tests/mutations.py, and adds
those whose error is new. ``coverage`` is atheris (libFuzzer), which adds those that reach new lines.
"""

from __future__ import annotations

import hashlib
import os
import re
import resource
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from readers import READERS, Outcome, Reader, read_damaged

from mpsim.files.semantics import OlderSemantics

MOST_MEMORY = 1 << 30
#: The longest file that atheris makes.
MOST_BYTES = 1 << 16
#: The most files in a corpus of ``readers``.
MOST_FILES = 500
#: What no file may make a reader do.
FORBIDDEN = ("os.system", "os.exec", "os.fork", "os.posix_spawn", "subprocess.Popen", "socket.connect")


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


def coverage(seconds: float, seed: int, folder: Path) -> Iterator[str]:
    """atheris on three readers, those of the seed, each in a separate process that libFuzzer ends."""
    import atheris

    chosen = [READERS[(3 * seed + i) % len(READERS)] for i in range(3)]
    for reader in chosen:
        corpus, crashes = corpus_of(reader, folder), folder / "failures" / reader.name
        crashes.mkdir(parents=True, exist_ok=True)
        before = set(crashes.iterdir())
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            _fuzz(atheris, reader, corpus, crashes, max(1, int(seconds / 3)), seed, write)
        os.close(write)
        with os.fdopen(read, encoding="utf-8") as messages:
            said = messages.read()
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        new = sorted(path.name for path in set(crashes.iterdir()) - before)
        if status != 0:
            yield f"{reader.name}: {said or f'exit code {status} of libFuzzer'} ({crashes}: {new})"


def _fuzz(atheris: object, reader: Reader, corpus: Path, crashes: Path, seconds: int, seed: int, write: int) -> None:
    guarded()
    scratch = Path(tempfile.mkdtemp())

    def one(content: bytes) -> None:
        outcome = read_damaged(reader, content, scratch)
        if outcome.escaped:
            os.write(write, outcome.said.encode())
            raise AssertionError(outcome.said)

    arguments = [
        "fuzz", str(corpus), f"-artifact_prefix={crashes}/", f"-max_total_time={seconds}", f"-seed={seed + 1}",
        f"-max_len={MOST_BYTES}", "-rss_limit_mb=0", "-timeout=20", "-verbosity=0",
    ]  # fmt: skip
    atheris.Setup(arguments, one)  # type: ignore[attr-defined]
    atheris.Fuzz()  # type: ignore[attr-defined]
    os._exit(0)
