"""Memory that is used again: never by two arrays at once, and never more than was in use at the same time."""

from __future__ import annotations

import threading

import numpy as np
import pytest

_kernels = pytest.importorskip("mpsim._kernels", reason="the compiled backend is not built")
from mpsim.kernels.compiled import arrays  # noqa: E402

ROWS = arrays.LARGE // 4


@pytest.fixture(autouse=True)
def _nothing_waits():
    arrays.release()
    yield
    arrays.release()


def test_a_dropped_array_is_the_next_of_its_size() -> None:
    array = arrays.empty((ROWS, 2))
    address = array.ctypes.data
    del array
    assert arrays.empty(2 * ROWS, np.int32).ctypes.data == address


def test_a_view_keeps_the_memory() -> None:
    array = arrays.empty((ROWS, 2))
    array[:] = 1
    view = array.reshape(-1)[ROWS:]
    del array
    other = arrays.empty((ROWS, 2))
    other[:] = 2
    assert not np.shares_memory(view, other) and (view == 1).all()


def test_what_waits_makes_room_for_what_is_asked() -> None:
    before = _kernels.block_sizes()[0]
    first, second = arrays.empty(3 * ROWS), arrays.empty(3 * ROWS)
    most = _kernels.block_sizes()[2]
    assert most == before + first.nbytes + second.nbytes
    del first, second
    for rows in range(ROWS, 6 * ROWS, ROWS // 3):
        kept = arrays.empty(rows)
        in_use, waiting, largest = _kernels.block_sizes()
        assert in_use == before + kept.nbytes and in_use + waiting <= largest == most
        del kept


def test_release_gives_all_back() -> None:
    before = _kernels.block_sizes()[0]
    array = arrays.empty(ROWS)
    del array
    assert _kernels.block_sizes()[:2] == (before, 4 * ROWS)
    arrays.release()
    assert _kernels.block_sizes() == (before, 0, before)


def test_threads_never_share_an_array() -> None:
    wrong = []

    def work(number: int) -> None:
        for _ in range(200):
            array = arrays.empty(ROWS, np.int32)
            array[:] = number
            if not (array == number).all():
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_small_arrays_and_other_shapes() -> None:
    assert arrays.empty(()).shape == () and arrays.empty(0).shape == (0,)
    array = arrays.empty((2, 0, ROWS))
    assert array.shape == (2, 0, ROWS) and array.dtype == np.float32
    double = arrays.empty((ROWS, 3), np.float64)
    assert double.flags.c_contiguous and double.flags.aligned and double.dtype == np.float64


def test_no_memory_is_an_error() -> None:
    with pytest.raises(MemoryError, match="bytes"):
        arrays.empty(1 << 60)
    arrays.empty(ROWS)[:] = 0
