"""Computes results ahead in threads and yields them in order."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")

#: The beginning of the threads' names.
NAME = "mpsim-data"


def in_order(work: Callable[[Task], Result], tasks: Sequence[Task], workers: int, ahead: int) -> Iterator[Result]:
    """Yields ``work(task)`` of each task in order.

    When the iterator is closed or collected, tasks that have not started are dropped. The threads have ended when
    ``close`` returns. An exception of ``work`` is raised at the position of its result.

    Args:
        work: The function.
        tasks: Its arguments.
        workers: The number of threads.
        ahead: How many results are computed before they are requested.

    >>> list(in_order(abs, [-1, 2, -3], workers=2, ahead=4))
    [1, 2, 3]
    """
    pool = ThreadPoolExecutor(workers, thread_name_prefix=NAME)
    waiting: deque[Future[Result]] = deque()
    try:
        for task in tasks:
            waiting.append(pool.submit(work, task))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        # A collected iterator may be closed in any thread, and a thread cannot wait for itself.
        pool.shutdown(wait=not threading.current_thread().name.startswith(NAME), cancel_futures=True)
