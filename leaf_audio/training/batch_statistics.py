"""Batch normalization where each device has a copy of the model.

Each copy of the layer keeps moving statistics. Taken from the device's own part
of a batch, they would differ: all of them would take part in an evaluation, and
one would be saved.
"""

import contextlib
from collections.abc import Iterator

import keras

from leaf_audio.frontend.layer_calls import find_layers


def synchronize(model: keras.Model) -> None:
    """Has a model take the statistics of batches over all devices.

    To be called before the first step is compiled, on the TensorFlow backend.

    Args:
        model: The model. All of its layers `BatchNormalization` are changed.
    """
    for layer in find_layers(model, keras.layers.BatchNormalization):
        layer.synchronized = True


@contextlib.contextmanager
def not_synchronized(model: keras.Model) -> Iterator[None]:
    """Within the `with` block, the layers of a model are as for one device.

    Keras refuses to load synchronized layers on JAX and PyTorch.

    Args:
        model: The model.
    """
    synchronized = [
        layer
        for layer in find_layers(model, keras.layers.BatchNormalization)
        if layer.synchronized
    ]
    for layer in synchronized:
        layer.synchronized = False
    try:
        yield
    finally:
        for layer in synchronized:
            layer.synchronized = True
