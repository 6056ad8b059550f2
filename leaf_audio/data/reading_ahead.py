"""Makes batches ahead of their use, in threads or in processes."""

import atexit
import multiprocessing
import os
import re
import signal
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
from absl import flags

from leaf_audio.data.quiet_grain import grain
from leaf_audio.data.watched import Watched

# Each thread makes a whole batch. NumPy computes without holding up the other
# threads, but Python does not, so that more threads than a few gain nothing.
# `benchmarks/data.py` measures it.
_THREADS = min(os.cpu_count() or 1, 4)
_BATCHES_AHEAD = _THREADS + 2
# How long a worker process outlives SIGTERM: while its parent saves.
_SECONDS_TO_SAVE = 60


def read_ahead(
    batches: grain.MapDataset, worker_processes: int = 0
) -> grain.IterDataset:
    """Makes batches ahead of their use.

    Args:
        batches: What makes the batch of a step.
        worker_processes: 0 makes the batches in threads of this process. Above,
            so many other processes make them. They get copies of `batches`.
            Default: 0.

    Returns:
        The batches, in their order. If a worker process ends, such as by a
        signal, they raise a ChildProcessError.
    """
    if not worker_processes:
        options = grain.ReadOptions(_THREADS, _BATCHES_AHEAD)
        return batches.to_iter_dataset(options)
    _let_grain_read_its_flags()
    # In each process one thread: more would hold up each other.
    in_one_process = batches.to_iter_dataset(grain.ReadOptions(1, 2))
    shared = in_one_process.mp_prefetch(
        grain.MultiprocessingOptions(
            worker_processes, per_worker_buffer_size=2
        ),
        worker_init_fn=_obey_parent,
    )
    return _ClosedAtExit(Watched(shared.map(_copied), _tell_of_lost_worker))


def _let_grain_read_its_flags() -> None:
    """Lets Grain read its flags in a program whose flags nobody parses.

    Where JAX is installed, Grain 0.2.18 reads one of them as it starts a
    process, and absl refuses that. The flags of others stay unparsed.
    """
    if not flags.FLAGS.is_parsed():
        for name in flags.FLAGS:
            if name.startswith("grain_"):
                flags.FLAGS[name].present = 1


def _tell_of_lost_worker(error: Exception) -> None:
    """Raises a ChildProcessError if a worker process has ended by itself.

    Args:
        error: What Grain has raised, for any reason.
    """
    ended = re.search(r"process was terminated.* exit code (-?\d+)", str(error))
    if ended:
        raise ChildProcessError(
            "`worker_processes` must live as long as the run. Received: one of "
            f"them has ended, with exit code {ended[1]}, such as for want of "
            "memory. Fewer of them take less."
        ) from error


def _obey_parent(*_: int) -> None:
    """Leaves the end of a worker process to its parent.

    Ctrl-C in a terminal, and the end of a job of a cluster, reach all
    processes. Then the parent saves its state and ends its workers. If the
    parent is killed, they end by themselves.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: _end_later())
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_later() -> None:
    timer = threading.Timer(_SECONDS_TO_SAVE, os._exit, (1,))
    timer.daemon = True
    timer.start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _copied(batch: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
    """Copies arrays, which lie in memory that processes share.

    There is little of it on many machines, and an array that is kept until the
    end of the program would be an error then.
    """
    return tuple(map(np.array, batch))


_OPEN: weakref.WeakSet[Any] = weakref.WeakSet()


class _ClosedAtExit(grain.IterDataset):
    """Ends the processes of iterators that are still open at the exit.

    Otherwise they would end when Python takes its modules apart, with errors.
    """

    def __init__(self, data: grain.IterDataset):
        super().__init__()
        self._data = data

    def __iter__(self) -> Iterator[Any]:
        iterator = iter(self._data)
        _OPEN.add(iterator)
        # What is registered last is called first: before the end of
        # multiprocessing, which would wait for the processes.
        atexit.unregister(_close_all)
        atexit.register(_close_all)
        return iterator


def _close_all() -> None:
    for iterator in list(_OPEN):
        iterator.close()
