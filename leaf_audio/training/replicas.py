"""What devices that have a part of a batch each know of the whole batch."""

from __future__ import annotations

from typing import Any

import keras


def whole_batch(part: Any) -> tuple[Any, Any]:
    """Gathers what all devices have computed of their parts of a batch.

    Under a strategy of `tf.distribute`, each device has a part of a batch. All
    of them have to call this function, in the same order. Elsewhere, the part
    is the whole: also on JAX, where a step sees the batch of all devices.

    Its gradient is that of the sum of the losses of all devices.

    Args:
        part: A tensor of numbers whose first axis is that of the batch, of the
            same shape on all devices.

    Returns:
        The tensor of the whole batch, and the position of the first row of
        `part` in it.
    """
    if keras.backend.backend() != "tensorflow":
        return part, 0
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return part, 0
    part = tf.convert_to_tensor(part)
    own, count = context.replica_id_in_sync_group, context.num_replicas_in_sync
    # The sum over devices, each of which has zeros but in its own place. Unlike
    # `all_gather`, all strategies compute it by the means of the devices.
    place = tf.one_hot(own, count, dtype=part.dtype)
    places = tf.reshape(place, [count] + [1] * part.shape.rank) * part[None]
    gathered = context.all_reduce(tf.distribute.ReduceOp.SUM, places)
    rows = tf.shape(part)[0]
    shape = tf.concat([[count * rows], tf.shape(part)[1:]], axis=0)
    return tf.reshape(gathered, shape), own * rows
