"""Clips are encoded in threads, in bounded memory."""

import threading
import time

import numpy as np
import pytest

from leaf_audio.data import UnusableFileError
from leaf_audio.data.parallel import in_parallel

pytestmark = pytest.mark.any_backend

BLOCK = np.ones(250, np.float32)  # 1000 bytes


class Decoder:
    """Yields blocks, and counts those that nobody has asked for yet."""

    def __init__(self, n_blocks):
        self.n_blocks = n_blocks
        self.lock = threading.Lock()
        self.n_made = collected = 0
        self.n_taken = collected
        self.most = 0

    def __call__(self, item):
        for _ in range(self.n_blocks):
            with self.lock:
                self.n_made += 1
                self.most = max(self.most, self.n_made - self.n_taken)
            yield item * BLOCK


@pytest.mark.parametrize("max_bytes", [1, 5000, 10**9])
def test_results_come_in_order_whatever_the_limit(max_bytes):
    decoder = Decoder(7)
    results = list(in_parallel(range(99), decoder, max_bytes))
    assert [item for item, _ in results] == list(range(99))
    for item, blocks in results:
        np.testing.assert_array_equal(blocks, [item * BLOCK] * 7)


@pytest.mark.parametrize("n_cores", [1, 2, 64])
def test_memory_does_not_grow_with_the_number_of_cores(monkeypatch, n_cores):
    monkeypatch.setattr("os.cpu_count", lambda: n_cores)
    decoder = Decoder(50)
    results = in_parallel(range(64), decoder, max_bytes=100_000)
    for _ in results:
        with decoder.lock:
            decoder.n_taken += 50
        time.sleep(0.002)
    # The limit is 100 blocks. Beyond it are the file that is next, and the
    # block that each thread has made but waits to keep.
    assert decoder.most <= 100 + 50 + n_cores
    assert decoder.n_made == 64 * 50


@pytest.mark.parametrize("n_cores", [1, 2])
def test_items_are_asked_for_a_few_at_a_time(monkeypatch, n_cores):
    monkeypatch.setattr("os.cpu_count", lambda: n_cores)
    asked = []

    def items():
        for item in range(500):
            asked.append(item)
            yield item

    results = in_parallel(items(), Decoder(1))
    for count, _ in enumerate(results, 1):
        # Four items for each core, of which one has come.
        assert len(asked) == min(count - 1 + 4 * n_cores, 500)


def test_an_unusable_file_keeps_no_memory():
    def decode(item):
        yield BLOCK
        if item % 2:
            raise UnusableFileError(f"{item} is odd")
        yield BLOCK

    results = dict(in_parallel(range(99), decode, max_bytes=4000))
    assert [len(results[i]) for i in range(0, 99, 2)] == 50 * [2]
    assert [str(results[i]) for i in (1, 97)] == ["1 is odd", "97 is odd"]


def test_threads_that_wait_end_when_the_generator_is_closed():
    before = threading.active_count()
    results = in_parallel(range(99), Decoder(9), max_bytes=1)
    next(results)
    results.close()
    assert threading.active_count() == before


def test_any_other_error_ends_the_generator():
    def decode(item):
        yield BLOCK
        if item == 3:
            raise TypeError("a mistake in the program")

    with pytest.raises(TypeError, match="mistake"):
        list(in_parallel(range(9), decode))
