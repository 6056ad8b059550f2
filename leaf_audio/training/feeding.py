"""Gives batches to Keras in the form that the devices in use take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras

if TYPE_CHECKING:
    import grain
    import tensorflow as tf


def feed(batches: grain.IterDataset) -> Any:
    """Returns batches for Keras' `fit` or `predict` on the devices in use.

    Keras takes datasets of Grain as they are. Only on a TPU of the TensorFlow
    backend it would not know the batch size, which a TPU needs.

    Args:
        batches: Batches of one shape.

    Returns:
        The batches; inside the scope of a TPUStrategy as a tf.data.Dataset.
    """
    if keras.backend.backend() != "tensorflow":
        return batches
    import tensorflow as tf

    if not isinstance(tf.distribute.get_strategy(), tf.distribute.TPUStrategy):
        return batches
    return with_static_shapes(batches)


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
