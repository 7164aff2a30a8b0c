"""The numba backend's cache on disk: what one process stores is never read as what another one stored."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("numba")

from numba.core import caching

from mpsim.kernels import numba_cpu
from mpsim.kernels.numba_cpu import jit
from mpsim.kernels.numba_cpu.rounding import _round_narrow
from mpsim.process.numba_cache import cached


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


@pytest.mark.parametrize("suffix", [".nbi", ".nbc"])
def test_a_damaged_file_is_the_same_as_none(tmp_path, monkeypatch, suffix):
    """Whatever is damaged: an empty file, a cut one, a changed bit, another content, a folder of that name."""
    file = cache_file(tmp_path, monkeypatch)
    file.save("a variant", ("its", "code"))
    (path,) = tmp_path.glob(f"*{suffix}")
    right = path.read_bytes()
    damages = [right[:n] for n in range(0, len(right), 7)] + [right + b"x", b"\x80\x04K\x01.", b"not a pickle"]
    damages += [right[:at] + bytes([right[at] ^ 1]) + right[at + 1 :] for at in range(len(right))]
    for damaged in damages:
        path.write_bytes(damaged)
        assert file.load("a variant") is None
    path.unlink()
    path.mkdir()
    assert file.load("a variant") is None
    file.save("a variant", ("its", "code"))  # cannot be written, which is no error
    path.rmdir()
    file.save("a variant", ("its", "code"))
    assert file.load("a variant") == ("its", "code")


def test_a_process_starts_with_damaged_files(tmp_path):
    """The first process writes the files of two functions, which are then damaged."""
    script = """
from mpsim.process.registers import DEFAULT, enter_float_environment, leave_float_environment
leave_float_environment(DEFAULT)
print(enter_float_environment() & ~0x3F == DEFAULT, enter_float_environment.stats.cache_hits)
"""
    folder = tmp_path / "cache"
    for _ in range(2):
        environment = {**os.environ, "NUMBA_CACHE_DIR": str(folder)}
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment)
        assert done.stdout == "True Counter()\n" and done.returncode == 0, done.stderr
        files = sorted(path for path in folder.rglob("*.nb?") if path.is_file())
        assert len(files) >= 4
        for number, path in enumerate(files):
            content = path.read_bytes()
            middle = len(content) // 2
            rest = b"" if number % 2 else bytes([content[middle] ^ 4]) + content[middle + 1 :]
            path.write_bytes(content[:middle] + rest)


def test_where_no_folder_can_be_written_a_function_is_compiled_without_a_cache(monkeypatch):
    monkeypatch.setattr(caching.CacheImpl, "_locator_classes", [])
    assert cached(lambda x: x + 1)(2) == 3


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
