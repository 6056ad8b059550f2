"""Several processes that train one model, on the TensorFlow backend.

They find each other by the environment variable TF_CONFIG, as TensorFlow
defines it. Each computes the gradients of its part of a batch.
"""

from __future__ import annotations

import functools
import json
import os
import signal
import threading
from typing import Any

import numpy as np
import tensorflow as tf

from leaf_audio.training import meeting

_EXAMPLE = (
    '{"cluster": {"worker": ["host1:12345", "host2:12345"]}, '
    '"task": {"type": "worker", "index": 0}}'
)


class Workers(tf.distribute.MultiWorkerMirroredStrategy):
    """A strategy for several processes that Keras' `fit` can use.

    Keras 3.15 asks for two means over the processes that TensorFlow cannot
    compute: that of a batch, of which it wants the shape only, and that of
    metrics along an axis that they do not have.
    """

    def reduce(
        self, reduce_op: Any, value: Any, axis: int | None = None
    ) -> Any:
        """Combines values of all processes.

        Args:
            reduce_op: What to compute, such as "MEAN".
            value: The value of this process; or a batch, a tuple.
            axis: The axis of each value to reduce too, or None.

        Returns:
            The result, or for a batch that of this process.
        """
        if isinstance(value, tuple):
            return tf.nest.map_structure(self._own, value)
        if axis == 0 and value.shape.rank == 0:
            axis = None
        return super().reduce(reduce_op, value, axis=axis)

    def _own(self, value: Any) -> tf.Tensor:
        return self.experimental_local_results(value)[0]

    def gathered(self, own: np.ndarray) -> np.ndarray:
        """Returns arrays of all processes, along a new first axis.

        All processes must call this.

        Args:
            own: The array of this process, of the same shape in each.
        """
        return self._own(self._gather(tf.constant(own[None]))).numpy()

    @functools.cached_property
    def _gather(self) -> Any:
        # One function for all calls: each new one would be traced, and kept.
        @tf.function(reduce_retracing=True)
        def gather(own: tf.Tensor) -> Any:
            def gather_here() -> tf.Tensor:
                # Unlike `own`, its copy has the device of the process.
                copy = tf.identity(own)
                return tf.distribute.get_replica_context().all_gather(copy, 0)

            return self.run(gather_here)

        return gather

    def position(self) -> tuple[int, int]:
        """Returns which process this is, and how many there are."""
        return self.cluster_resolver.task_id, self.num_replicas_in_sync


# The strategy of this process, once it has been joined.
_joined: list[Workers] = []


def join() -> Workers:
    """Connects this process to the others, once.

    It waits until all of them have been started; see `meeting`.

    Returns:
        The strategy of the processes.

    Raises:
        ValueError: If TF_CONFIG is missing or not valid, a process has several
            GPUs, or another one has not been started in time.
    """
    if _joined:
        return _joined[0]
    addresses, index = _addresses(os.environ.get("TF_CONFIG"))
    meeting.wait_for_addresses(
        addresses[index], addresses[:index] + addresses[index + 1 :]
    )
    # TensorFlow would take SIGTERM for itself, and the process would go on.
    before = signal.getsignal(signal.SIGTERM)
    strategy = Workers()
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)
    own = len(strategy.extended.worker_devices)
    if own > 1:
        raise ValueError(
            "A process must have one GPU, such as by CUDA_VISIBLE_DEVICES=0. "
            f"Received: {own} GPUs."
        )
    _joined.append(strategy)
    return strategy


def joined() -> Workers | None:
    """Returns the strategy of this process, if it is one of several."""
    return _joined[0] if _joined else None


def _addresses(text: str | None) -> tuple[list[str], int]:
    """Reads the addresses of all processes, and which is that of this one.

    Raises:
        ValueError: If TF_CONFIG does not say so.
    """
    try:
        content = json.loads(text or "null")
        addresses = content["cluster"]["worker"]
        index = int(content["task"]["index"])
        is_valid = (
            list(content["cluster"]) == ["worker"]
            and content["task"]["type"] == "worker"
            and isinstance(addresses, list)
            and all(isinstance(one, str) for one in addresses)
            and all(map(meeting.is_address, addresses))
            and len({*addresses}) == len(addresses) > 1
            and 0 <= index < len(addresses)
        )
    except (KeyError, OverflowError, TypeError, ValueError):
        is_valid = False
    if not is_valid:
        raise ValueError(
            "`TF_CONFIG`, an environment variable, must list two or more "
            f"workers, and which of them this process is, as in {_EXAMPLE}. "
            f"Received: TF_CONFIG={text!r}."
        )
    return addresses, index
