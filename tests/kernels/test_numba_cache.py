"""The numba backend's cache on disk: what one process stores is never read as what another one stored."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("numba")

from mpsim.kernels import numba_cpu
from mpsim.kernels.numba_cpu import jit
from mpsim.kernels.numba_cpu.rounding import _round_narrow


def cache_file(folder, monkeypatch):
    """The cache of a kernel with one variant after another, in an empty folder."""
    file = _round_narrow._cache._cache_file
    monkeypatch.setattr(file, "_cache_path", str(folder))
    monkeypatch.setattr(file, "_index_path", str(folder / file._index_name))
    return file


def test_processes_that_store_at_once_do_not_share_a_file(tmp_path, monkeypatch):
    file = cache_file(tmp_path, monkeypatch)
    file.save("one variant", "its code")
    index = file._load_index()
    with monkeypatch.context() as other:
        other.setattr(file, "_load_index", dict)  # another process read the index before that was written
        file.save("another", "another code")
    assert file.load("another") == "another code"
    file._save_index(index)  # and wrote its own before that
    assert file.load("one variant") == "its code"
    assert file.load("another") is None, "lost, so compiled again"


def test_a_change_of_any_source_is_seen(tmp_path, monkeypatch):
    """Numba alone looks at the file of the compiled function, and not at those of the functions that it calls."""
    (tmp_path / "a.py").write_text("1")
    (tmp_path / "b.py").write_text("2")
    before = jit.digest_of(list(tmp_path.glob("*.py")))
    (tmp_path / "b.py").write_text("3")
    assert jit.digest_of(list(tmp_path.glob("*.py"))) != before
    folder = tmp_path / "cache"
    folder.mkdir()
    file = cache_file(folder, monkeypatch)
    file.save("a variant", "its code")
    assert file.load("a variant") == "its code"
    assert file._source_stamp[1] == jit.SOURCES
    monkeypatch.setattr(file, "_source_stamp", (file._source_stamp[0], before))
    assert file.load("a variant") is None, "compiled again"


def test_every_kernel_has_this_cache():
    for path in Path(numba_cpu.__file__).parent.glob("*.py"):
        assert path.name == "jit.py" or "from numba import njit" not in path.read_text(), path


def test_rounding_is_not_compiled_again_by_the_next_process():
    script = """
import numpy as np
from mpsim import round_to
from mpsim.kernels.numba_cpu.rounding import _round_narrow
round_to(np.float32([0.3]), "float8_e4m3fn", backend="numba")
print(sum(_round_narrow.stats.cache_hits.values()))
"""
    hits = [
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True) for _ in range(2)
    ]
    assert hits[1].stdout == "1\n", hits
