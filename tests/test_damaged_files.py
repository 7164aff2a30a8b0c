"""Every damaged file ends in a value or in mpsim's own error with the file's name: never in a traceback.

Each reader gets mutations of a right file, 100 in the gate and 20,000 with ``--slow``. A read takes at most 5 s.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from readers import KIT, MOST_GROWTH, READERS, Reader, read_damaged

from bench.memory import peak
from mpsim.files.semantics import OlderSemantics


def _campaign(reader: Reader, folder: Path, count: int, seed: int) -> list[str]:
    """Returns the mutations (by number) that end in anything else than a value or mpsim's error, or take too long."""
    generator, escapes = np.random.default_rng(seed), []
    right = reader.content()
    for number in range(count):
        outcome = read_damaged(reader, reader.damages[number % len(reader.damages)](right, generator), folder)
        escapes += [f"{number}: {outcome.said}"] if outcome.escaped else []
    return escapes


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
def test_the_right_file_is_read(reader: Reader, tmp_path: Path) -> None:
    (tmp_path / reader.name).write_bytes(reader.content())
    reader.read(tmp_path / reader.name)


def _restart_peak() -> None:
    """Lets the peak begin anew, which else hides a growth below an earlier test's."""
    if sys.platform == "linux":
        Path("/proc/self/clear_refs").write_text("5")


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
@pytest.mark.parametrize("count", [100, pytest.param(20_000, marks=pytest.mark.slow)])
def test_damaged_files(reader: Reader, count: int, tmp_path: Path) -> None:
    _restart_peak()
    before = peak()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OlderSemantics)
        assert _campaign(reader, tmp_path, count, seed=count) == []
    assert peak() - before < MOST_GROWTH


@pytest.mark.slow
def test_damaged_matlab_files(tmp_path: Path) -> None:
    """SciPy reads them in another process, which some of them end."""
    (tmp_path / KIT.name).write_bytes(KIT.content())
    KIT.read(tmp_path / KIT.name)
    assert _campaign(KIT, tmp_path, 300, seed=0) == []
