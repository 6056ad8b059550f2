"""Encodes many clips at the same time, in bounded memory."""

import collections
import concurrent.futures
import os
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Protocol, TypeVar

from leaf_audio.data.decoding import UnusableFileError


class _Sized(Protocol):
    @property
    def nbytes(self) -> int:
        """The size in bytes."""


_Item = TypeVar("_Item")
_Result = TypeVar("_Result", bound=_Sized)

# FLAC files of ten hours at 16 kHz take about this much.
MAX_BYTES = 2**29


def in_parallel(
    items: Iterable[_Item],
    work: Callable[[_Item], Iterator[_Result]],
    max_bytes: int = MAX_BYTES,
) -> Generator[tuple[_Item, list[_Result] | UnusableFileError], None, None]:
    """Does the work of items in threads, and yields the results in their order.

    The threads work ahead. They wait while the results that were not yet asked
    for hold `max_bytes`. Hence the memory does not grow with the number of
    threads times the length of a recording. The next result never waits, so
    that a recording may be larger than `max_bytes`.

    Close the generator if you do not exhaust it. Otherwise its threads are
    joined when Python collects it, which may be at any point of the program.

    Args:
        items: Iterable of anything.
        work: Function that yields the results of an item, each of which has
            `nbytes`. It may raise `UnusableFileError`.
        max_bytes: int. The size of the results that may wait.
            Default: 512 MiB.

    Yields:
        Each item with a list of its results, or with the reason why there are
        none.
    """
    memory = _Memory(max_bytes)

    def attempt(number: int, item: _Item) -> list[_Result]:
        results = []
        for result in work(item):
            memory.reserve(number, result.nbytes)
            results.append(result)
        return results

    # Threads suffice, because the codecs and the resampler release the GIL.
    workers = os.cpu_count() or 1
    waiting: collections.deque = collections.deque()
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        try:
            for number, item in enumerate(items):
                future = pool.submit(attempt, number, item)
                waiting.append((number, item, future))
                if len(waiting) >= 4 * workers:
                    yield _next_result(waiting, memory)
            while waiting:
                yield _next_result(waiting, memory)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            memory.close()


def _next_result(
    waiting: collections.deque, memory: "_Memory"
) -> tuple[_Item, list[_Result] | UnusableFileError]:
    number, item, future = waiting.popleft()
    try:
        return item, future.result()
    except UnusableFileError as error:
        return item, error
    finally:
        memory.release(number)


class _Closed(Exception):
    """Ends a thread whose result nobody waits for any more."""


class _Memory:
    """Counts the bytes that the results of numbered items hold.

    Args:
        max_bytes: int. How many bytes there may be. The first item that was
            not released may exceed this number.
    """

    def __init__(self, max_bytes: int):
        self._max_bytes = max_bytes
        self._reserved: collections.Counter[int] = collections.Counter()
        self._first = 0
        self._is_closed = False
        self._changed = threading.Condition()

    def reserve(self, number: int, nbytes: int) -> None:
        """Waits until there is room, and counts the bytes."""
        with self._changed:
            self._changed.wait_for(lambda: self._has_room(number, nbytes))
            if self._is_closed:
                raise _Closed
            self._reserved[number] += nbytes

    def release(self, number: int) -> None:
        """Ends the count of an item. Items must be released in order."""
        with self._changed:
            self._reserved.pop(number, None)
            self._first = number + 1
            self._changed.notify_all()

    def close(self) -> None:
        """Ends all waiting."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def _has_room(self, number: int, nbytes: int) -> bool:
        return (
            self._is_closed
            or number == self._first
            or self._reserved.total() + nbytes <= self._max_bytes
        )
