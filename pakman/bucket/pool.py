"""Threads that store many objects side by side, and the count of what they have sent."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Executor, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

OnProgress = Callable[[str, int, int], None]
"""Called with what has just arrived, and the bytes that have arrived so far and will in all."""


class Counter:
    """Counts what many threads have sent, and tells it to one listener, one call at a time."""

    def __init__(self, total: int, listener: OnProgress) -> None:
        self._total = total
        self._listener = listener
        self._done = 0
        self._lock = threading.Lock()

    def add(self, title: str, count: int) -> None:
        """Count bytes of what has this title."""
        with self._lock:
            self._done += count
            self._listener(title, self._done, self._total)


_this_thread = threading.local()
"""Has `ended` in those of `workers`: whether these were left by an exception."""


def checkpoint() -> None:
    """Raise CancelledError in a thread of `workers` that an exception has left: what takes long calls this often."""
    if hasattr(_this_thread, "ended") and _this_thread.ended.is_set():
        raise CancelledError


@contextmanager
def workers(count: int) -> Iterator[tuple[Executor, Executor]]:
    """Yield the threads for files and, a quarter of them, for parts; a file waits for its parts, a part for nobody.

    When this is left by an exception (an interrupt included), what has not begun does not begin, and what has begun
    ends at its next `checkpoint`.
    """
    ended = threading.Event()
    pool = partial(ThreadPoolExecutor, initializer=partial(setattr, _this_thread, "ended", ended))
    with pool(count) as files, pool(max(min(count, 2), count // 4)) as parts:
        try:
            yield files, parts
        except BaseException:
            ended.set()
            files.shutdown(wait=False, cancel_futures=True)
            parts.shutdown(wait=False, cancel_futures=True)
            raise
