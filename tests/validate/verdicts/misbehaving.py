"""Subjects that answer nothing: they crash, hang, end their process or print without end, as casts or as products."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from typing import Any

import numpy as np


def exits(*arrays: Any) -> Any:
    sys.exit(0)


def exits_at_once(*arrays: Any) -> Any:
    os._exit(0)


def aborts(*arrays: Any) -> Any:
    os.abort()


def segfaults(*arrays: Any) -> Any:
    return ctypes.string_at(0)


def is_killed(*arrays: Any) -> Any:
    """As the kernel ends a process that takes too much memory."""
    signal.raise_signal(signal.SIGKILL)


def hangs(*arrays: Any) -> Any:
    while True:
        time.sleep(0.01)


def floods(*arrays: Any) -> Any:
    """Prints gigabytes."""
    while True:
        os.write(1, b"no progress " * 4096)


def answers_gigabytes(*arrays: Any) -> Any:
    return np.broadcast_to(np.uint8(0), (1 << 31,))


def interrupts(*arrays: Any) -> Any:
    raise KeyboardInterrupt


def closes_files(*arrays: Any) -> Any:
    """As a program that makes itself a daemon does."""
    os.closerange(3, 256)
    return np.zeros(arrays[0].shape, np.uint8)


def wants_too_much(*arrays: Any) -> Any:
    return np.zeros(1 << 60, np.uint8)
