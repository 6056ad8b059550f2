"""Gives batches to Keras in the form that the devices in use take."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

if TYPE_CHECKING:
    import grain
    import tensorflow as tf


@contextlib.contextmanager
def own_errors(batches: grain.IterDataset) -> Iterator[grain.IterDataset]:
    """Yields batches, and raises errors in making them as they are.

    TensorFlow would raise an error of its own, of many lines.

    Args:
        batches: The batches, for `feed` or `feed_all` in the `with` block.
    """
    from leaf_audio.data.watched import Watched

    errors: list[Exception] = []
    try:
        yield Watched(batches, errors.append)
    except Exception as error:
        if errors and errors[0] is not error:
            raise errors[0] from error
        raise


def feed(batches: grain.IterDataset) -> Any:
    """Returns batches for Keras' `fit` or `predict` on the devices in use.

    Keras takes datasets of Grain as they are. Only on a TPU of the TensorFlow
    backend it would not know the batch size, which a TPU needs. With several
    processes of that backend, it would divide the part of a process again.

    Args:
        batches: Batches of one shape. With several processes, the parts of
            batches for this one.

    Returns:
        The batches; inside the scope of a TPUStrategy as a tf.data.Dataset, and
        in that of `Workers` as a distributed one.
    """
    if keras.backend.backend() != "tensorflow":
        return batches
    import tensorflow as tf

    from leaf_audio.training import workers

    strategy = tf.distribute.get_strategy()
    if isinstance(strategy, workers.Workers):
        dataset = with_static_shapes(batches)
        return strategy.distribute_datasets_from_function(lambda _: dataset)
    if isinstance(strategy, tf.distribute.TPUStrategy):
        return with_static_shapes(batches)
    return batches


def feed_all(batches: grain.IterDataset) -> Any:
    """Returns batches for Keras' `predict`, which all processes have in full.

    Keras on TensorFlow joins what several processes predict, in their order. So
    each predicts its part. On JAX, it cannot; see `processes.undistributed`.

    Args:
        batches: Batches of audio of one shape. The number of clips in a batch
            must be a multiple of the number of processes.
    """
    part, parts = _position()
    if parts == 1:
        return feed(batches)

    def own(audio: np.ndarray) -> np.ndarray:
        return np.split(audio, parts)[part]

    return feed(batches.map(own))


def _position() -> tuple[int, int]:
    """Returns which part of a batch this process predicts, and of how many.

    Outside the scope of `Workers`, each process predicts by itself.
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        from leaf_audio.training import workers

        strategy = tf.distribute.get_strategy()
        if isinstance(strategy, workers.Workers):
            return strategy.position()
    return 0, 1


def with_static_shapes(batches: grain.IterDataset) -> tf.data.Dataset:
    """Turns batches of one shape into a tf.data.Dataset that knows it.

    Args:
        batches: Batches of one shape.

    Returns:
        The same batches.
    """
    import tensorflow as tf

    spec = tf.nest.map_structure(
        lambda array: tf.TensorSpec(array.shape, array.dtype),
        next(iter(batches)),
    )
    return tf.data.Dataset.from_generator(
        lambda: batches, output_signature=spec
    )
