"""Stores compiled kernels on disk, so that only the first process on a machine waits for the compiler.

A file contains one kernel's machine code. Its name is a digest of everything that the code depends on: the sources of
mpsim/kernels, the compiler's versions, the device's compute capability, the kernel and the kinds of its arguments.
Therefore no file is ever out of date, and processes may write the same file at the same time. A file that no process
has read for KEPT days is removed. The folder is NUMBA_CACHE_DIR if that is set, else ``__pycache__`` beside this file,
else a folder in the user's cache.
"""

from __future__ import annotations

import hashlib
import os
import time
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from numba.cuda import config
from numba.cuda.cudadrv import driver, nvvm

from mpsim.files.whole import write_whole
from mpsim.kernels.numba_cpu.jit import digest_of

SUFFIX = ".cubin"
KEPT, DAY = 60, 86400.0
DIGEST = 32  # bytes at the start of a file: the SHA-256 of the rest
SOURCES = Path(__file__).parents[2]


@cache
def toolchain() -> bytes:
    """Returns a digest of the sources and the compiler."""
    digest = hashlib.sha256(digest_of(list(SOURCES.rglob("*.py"))).encode())
    digest.update(repr((_versions(), nvvm.NVVM().get_ir_version(), driver.driver.get_version())).encode())
    return digest.digest()


def _versions() -> list[str]:
    """Returns the names and versions of the compiler's packages."""
    found = []
    for package in ("numba-cuda", "nvidia-nvvm"):
        with suppress(PackageNotFoundError):
            found.append(f"{package} {version(package)}")
    return found


@cache
def folders() -> tuple[Path, ...]:
    """Returns the folders that are searched. Files are written to the first writable one."""
    if config.CACHE_DIR:
        return (Path(config.CACHE_DIR),)
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
    return Path(__file__).parent / "__pycache__", home / "mpsim"


def name_of(kernel: str, kinds: str, capability: tuple[int, int], registers: int | None) -> str:
    """Returns the file name of a kernel."""
    digest = hashlib.sha256(toolchain())
    digest.update(repr((kernel, kinds, capability, registers)).encode())
    return digest.hexdigest()[:40] + SUFFIX


def find(name: str) -> tuple[bytes, bytes] | None:
    """Returns (name of the function, machine code), or None if no intact file exists."""
    for folder in folders():
        with suppress(OSError):
            path = folder / name
            content = path.read_bytes()
            entry, separator, cubin = content[DIGEST:].partition(b"\0")
            if separator and hashlib.sha256(content[DIGEST:]).digest() == content[:DIGEST]:
                if path.stat().st_mtime < time.time() - DAY:
                    with suppress(OSError):
                        os.utime(path)
                return entry, cubin
    return None


@cache
def remove_old(folder: Path) -> None:
    """Removes files that no process has read lately, once per process."""
    for path in folder.glob("*" + SUFFIX):
        with suppress(OSError):
            if path.stat().st_mtime < time.time() - KEPT * DAY:
                path.unlink()


def keep(name: str, entry: bytes, cubin: bytes) -> None:
    """Writes the file atomically. If no folder is writable, the next process compiles again."""
    content = entry + b"\0" + cubin
    for folder in folders():
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            remove_old(folder)
            write_whole(folder / name, hashlib.sha256(content).digest() + content)
            return
