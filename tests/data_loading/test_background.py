"""Batches made ahead by threads: the same ones in the same order, errors as they are, no thread left behind."""

import gc
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from picture_folders import tree

from mpsim import data
from mpsim.data import Augmentation, DataLoader, Dataset, RandomResizedCrop, image_folder
from mpsim.data.background import NAME, in_order
from mpsim.kernels.philox import Stream, random_bits

#: Seconds after which a test that waits for another thread has failed.
LONG = 20


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    assert threads() == []


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(NAME)]


@given(st.lists(st.integers()), st.integers(1, 5), st.integers(0, 6))
def test_results_come_in_order(tasks: list[int], workers: int, ahead: int) -> None:
    assert list(in_order(lambda x: -x, tasks, workers, ahead)) == [-x for x in tasks]


def test_no_more_than_asked_for_is_made_ahead() -> None:
    begun: list[int] = []
    results = in_order(lambda task: begun.append(task) or task, range(100), workers=3, ahead=4)
    assert begun == []
    for expected in (0, 1, 2):
        assert next(results) == expected
        assert max(begun) <= expected + 4
    results.close()  # type: ignore[attr-defined]


def test_what_was_not_begun_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[int] = []
    closed, shut_down = threading.Event(), ThreadPoolExecutor.shutdown

    def work(task: int) -> None:
        begun.append(task)
        if task == 1:
            closed.wait(LONG)

    def shutdown(pool: ThreadPoolExecutor, wait: bool, cancel_futures: bool) -> None:
        shut_down(pool, wait=False, cancel_futures=cancel_futures)
        closed.set()
        shut_down(pool, wait=wait)

    monkeypatch.setattr(ThreadPoolExecutor, "shutdown", shutdown)
    results = in_order(work, range(100), workers=1, ahead=50)
    next(results)
    results.close()  # type: ignore[attr-defined]
    assert threads() == [] and max(begun) <= 1


def test_a_loader_makes_so_many_batches_ahead_per_worker(numbered: Dataset) -> None:
    begun = threading.Semaphore(0)

    class Counted(Dataset):
        def load(self, *arguments: object) -> np.ndarray:
            begun.release()
            return super().load(*arguments)  # type: ignore[arg-type]

    loader = DataLoader(Counted(numbered.images, numbered.labels, 23, "counted"), 2, workers=2, prefetch=3)
    with closing(loader.epoch(0)) as batches:
        next(batches)
        for _ in range(1 + 2 * 3):
            assert begun.acquire(timeout=LONG)
        assert not begun.acquire(timeout=0.05)


def test_work_goes_on_while_a_result_is_used() -> None:
    second = threading.Event()
    results = in_order(lambda task: second.set() if task == 1 else None, range(3), workers=1, ahead=1)
    next(results)
    assert second.wait(LONG)  # without another next()
    results.close()  # type: ignore[attr-defined]


def test_several_threads_work_at_the_same_time() -> None:
    meeting = threading.Barrier(3)
    assert len(list(in_order(lambda task: meeting.wait(LONG), range(6), workers=3, ahead=3))) == 6


class Broken(ValueError):
    pass


def test_an_error_comes_out_where_its_result_is_due() -> None:
    def work(task: int) -> int:
        if task == 2:
            raise Broken("task 2")
        return task

    results, seen = in_order(work, range(50), workers=2, ahead=8), []
    with pytest.raises(Broken, match="^task 2$") as caught:
        for result in results:
            seen.append(result)  # noqa: PERF402
    assert seen == [0, 1]
    assert caught.traceback[-1].name == "work"  # where it arose
    assert threads() == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_a_stop_in_the_middle_leaves_no_thread(numbered: Dataset, error: type[BaseException]) -> None:
    loader = DataLoader(numbered, 2, workers=3)
    with pytest.raises(error), closing(loader.epoch(0)) as batches:
        for number, _ in enumerate(batches):
            if number == 2:
                assert threads() != []
                raise error
    assert threads() == []


def test_an_epoch_that_is_let_go_of_leaves_no_thread(numbered: Dataset) -> None:
    for _ in DataLoader(numbered, 2, workers=3):
        break
    gc.collect()
    assert threads() == []


def test_an_iterator_may_be_collected_in_a_thread_of_its_own() -> None:
    """A thread cannot wait for its own end: an error that Python only reports, and pytest then raises."""
    let_go = threading.Event()

    def work(task: int) -> None:
        if task == 1:
            let_go.wait(LONG)
            gc.collect()

    gc.disable()
    try:
        ring: list = [in_order(work, range(3), workers=1, ahead=1)]
        ring.append(ring)
        next(ring[0])
        del ring
        let_go.set()
        for thread in threading.enumerate():
            if thread.name.startswith(NAME):
                thread.join(LONG)
    finally:
        gc.enable()


def test_an_interrupt_while_waiting_comes_out() -> None:
    def work(task: int) -> int:
        if task == 1:
            raise KeyboardInterrupt  # as Ctrl-C reaches the thread that waits
        return task

    results = in_order(work, range(10), workers=1, ahead=1)
    with pytest.raises(KeyboardInterrupt):
        list(results)
    assert threads() == []


@pytest.fixture(scope="module")
def numbered() -> Dataset:
    images = np.arange(23 * 36, dtype=np.float32).reshape(23, 1, 6, 6)
    return Dataset(images, np.arange(23), 23, "numbered", (-7.0,))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tree(tmp_path_factory.mktemp("pictures"), ending="jpg", count=5)


def batches_of(loader: DataLoader, epoch: int, first: int = 0) -> list[tuple[bytes, list[int]]]:
    return [(images.tobytes(), labels.tolist()) for images, labels in loader.epoch(epoch, first)]


@pytest.mark.parametrize("prefetch", [1, 3])
@pytest.mark.parametrize("workers", [1, 2, 5])
def test_the_same_batches_with_any_number_of_workers(
    numbered: Dataset, folder: Path, workers: int, prefetch: int
) -> None:
    for dataset, augmentation in (
        (numbered, Augmentation(2)),
        (numbered, None),
        (image_folder(folder, size=32), RandomResizedCrop()),
        (image_folder(folder, "test", size=32), None),
    ):
        alone = DataLoader(dataset, 4, seed=3, augmentation=augmentation)
        helped = DataLoader(dataset, 4, seed=3, augmentation=augmentation, workers=workers, prefetch=prefetch)
        for epoch in (0, 2):
            assert batches_of(helped, epoch) == batches_of(alone, epoch)
        assert batches_of(helped, 1, 1) == batches_of(alone, 1)[1:]


def test_a_picture_becomes_what_its_number_says(folder: Path) -> None:
    """Whatever the batch it is in: image i takes words 44 i .. 44 i + 43 of the epoch's stream."""
    dataset = image_folder(folder, size=32)
    words = random_bits(Stream(4, "augmentation", step=6), 44 * len(dataset)).reshape(-1, 44)
    expected = dataset.load(np.arange(len(dataset)), RandomResizedCrop(), words)
    for batch_size in (1, 4, 15):
        loader = DataLoader(dataset, batch_size, seed=4, augmentation=RandomResizedCrop())
        images = np.concatenate([images for images, _ in loader.epoch(6)])
        assert np.array_equal(images.view(np.uint32), expected[loader.order(6)].view(np.uint32))
    assert len({image.tobytes() for image in expected}) == len(dataset)


def test_a_broken_picture_comes_out_as_itself(folder: Path, tmp_path: Path) -> None:
    dataset = image_folder(tree(tmp_path, count=2), size=32)
    Path(dataset.paths[3]).write_bytes(b"broken")
    for workers in (0, 2):
        with pytest.raises(ValueError, match="not a readable picture"):
            list(DataLoader(dataset, 2, shuffle=False, workers=workers))
    assert threads() == []


@pytest.mark.parametrize("options", [{"workers": -1}, {"workers": 1, "prefetch": 0}])
def test_bad_numbers(numbered: Dataset, options: dict) -> None:
    with pytest.raises(ValueError, match="(workers|prefetch) must be a whole number from [01] to 1024, got"):
        data.DataLoader(numbered, 4, **options)
