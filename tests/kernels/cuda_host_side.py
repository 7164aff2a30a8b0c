"""The host's side of the cuda backend on the stub of the driver; test_cuda_host.py runs this file, test by test."""

from __future__ import annotations

import ctypes
import gc
import os
import time

import numpy as np
import pytest

import reference_models
from mpsim import Trainer, assignment, trace
from mpsim.kernels import DeviceMemoryError, load
from mpsim.kernels.cuda.device import arrays, cubins, devices, direct
from mpsim.kernels.cuda.device.launch import every_kernel
from mpsim.kernels.cuda.layers.elementwise import add_elements

backend = load("cuda")
stub = ctypes.CDLL("libcuda.so.1")
BATCH = 2


def test_this_is_the_stub() -> None:
    assert "stub, not a device" in devices.describe()


def test_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every kernel is launched directly; from the second step on as many, and memory comes from the pool."""
    if os.environ.get("MPSIM_TEST_COMPILED"):  # by an earlier process
        monkeypatch.setattr("numba.cuda.dispatcher.CUDADispatcher.compile", None)
    model = reference_models.build("small_cnn", 0.25)
    trainer = Trainer(model, assignment.demote(trace(model, BATCH), 1.0), backend="cuda")
    images = np.random.default_rng(0).standard_normal((BATCH, *model.input_shape), np.float32)
    launches, allocations, records = [], [], []
    for _ in range(4):
        trainer.step(images, np.zeros(BATCH, np.int64))
        launches.append(stub.stub_launches())
        allocations.append(stub.stub_allocations())
        records.append(len(direct._records))
    opened = [entry for kernel in every_kernel() for entry in kernel.entries.values()]
    assert len(opened) > 20 and None not in opened
    assert len(set(np.diff(launches))) == 1 and allocations[-1] == allocations[-2]
    assert records[-1] == records[0]  # the words of formats and shapes are made once


def test_other_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a version of numba-cuda might hand them over."""
    monkeypatch.setattr(direct, "words_of_numba", lambda compiled, arguments: [])
    x = backend.from_numpy(np.ones(10, np.float32))
    before = stub.stub_launches()
    for _ in range(2):
        backend.add(x, x)
    assert list(add_elements.entries.values()) == [None]
    assert stub.stub_launches() == before + 2
    assert list(cubins.folders()[0].glob("*.cubin")) == []
    add_elements.entries.clear()  # for the tests below


def test_broken_file() -> None:
    """Cut short, or with another bit: found out by the digest, and written again."""
    x = backend.from_numpy(np.ones(10, np.float32))
    backend.add(x, x)
    (kinds,) = add_elements.entries
    name = cubins.name_of(add_elements.name, repr(list(kinds[1:])), (9, 0), None)
    path = cubins.folders()[0] / name
    whole = path.read_bytes()
    assert cubins.find(name) is not None
    for broken in (whole[:-1], whole[:100] + bytes([whole[100] ^ 1]) + whole[101:], b""):
        path.write_bytes(broken)
        assert cubins.find(name) is None
        add_elements.entries.clear()
        backend.add(x, x)
        assert cubins.find(name) == (whole[32:].split(b"\0")[0], whole[32:].partition(b"\0")[2])
    assert not list(path.parent.glob(".*"))  # what write_whole has not put in its place


def test_old_files_go() -> None:
    """Those not asked for in two months, when another is written; one that is asked for stays."""
    folder = cubins.folders()[0]
    for name, days in (("a", 61), ("b", 59)):
        cubins.keep(name + cubins.SUFFIX, b"f", b"code")
        os.utime(folder / (name + cubins.SUFFIX), times=(0, time.time() - days * cubins.DAY))
    cubins.remove_old.cache_clear()
    cubins.keep("c" + cubins.SUFFIX, b"f", b"code")
    assert {path.name for path in folder.glob("?.cubin")} == {"b.cubin", "c.cubin"}
    assert cubins.find("b.cubin") == (b"f", b"code")
    assert (folder / "b.cubin").stat().st_mtime > time.time() - cubins.DAY


def test_arrays_in_a_cycle_give_their_memory_back() -> None:
    """Found by the garbage collector: to the pool, from which the next array takes it, and not to the device."""
    pool = devices.device().pool
    gc.collect()  # what earlier tests left
    allocations, used = None, pool.used
    for _ in range(3):
        cycle = [arrays.empty(1000)]
        cycle.append(cycle)
        flat = arrays.part(arrays.flattened(cycle[0]), 10, 20)
        assert int(flat.gpu_data.device_pointer) == int(cycle[0].gpu_data.device_pointer) + 40
        del cycle, flat
        gc.collect()
        assert pool.used == used and not pool.in_use
        assert allocations in (None, stub.stub_allocations())
        allocations = stub.stub_allocations()


def test_full() -> None:
    """The pool gives back what it keeps before it says that the device is full."""
    quarter = 16 << 20
    kept = [arrays.empty(quarter // 4) for _ in range(3)]
    kept.clear()
    large = arrays.empty(2 * quarter // 4)
    with pytest.raises(DeviceMemoryError, match=r"allocate 48.0 MiB on the device: of its 64 MiB, 32 MiB are used by"):
        arrays.empty(3 * quarter // 4)
    assert large.size == 2 * quarter // 4
