"""Work done ahead by threads, handed out in its own order."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")

#: How the threads' names start.
NAME = "mpsim-data"


def in_order(work: Callable[[Task], Result], tasks: Sequence[Task], workers: int, ahead: int) -> Iterator[Result]:
    """``work(task)`` of each task in order, done by ``workers`` threads, up to ``ahead`` of them before they are asked
    for. An error of ``work`` is raised where its result is due. When the iterator is closed, or let go of, what was not
    begun is dropped, and the threads have ended when ``close`` returns.

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
