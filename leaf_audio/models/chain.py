"""The base class of the encoders.

Encoders take and return `(batch, time, bins, channels)`. Their convolutions use
"same" padding, so only pooling changes the number of frames and bins. The
docstring of each encoder says where it pools and how it rounds.
"""

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers

from leaf_audio.common.arguments import KnownArguments
from leaf_audio.common.keras_checks import check_layer_arguments
from leaf_audio.common.serialization import deserialize

Tensor = Any
Shape = tuple[int | None, ...]


class Chain(KnownArguments, keras.Model):
    """Applies layers one after the other.

    A subclass creates its layers in the constructor and assigns them to
    `chain`. It may override `_check_shape` to reject inputs that do not fit.

    `keras.Sequential` is not used as the base class, because its config holds
    its layers instead of the arguments of the subclass' constructor.

    Attributes:
      chain: List of layers, in the order in which they are applied.
    """

    chain: Sequence[layers.Layer]

    def __init__(self, **kwargs: Any):
        super().__init__(**check_layer_arguments(kwargs))

    def _check_shape(self, shape: Shape) -> None:
        """Raises a ValueError if inputs of this shape do not fit."""
        if len(shape) != 4:
            raise ValueError(
                f"{type(self).__name__} takes inputs of shape (batch, time, "
                "bins, channels). Received: inputs of shape "
                f"{tuple(shape)}."
            )

    def build(self, input_shape: Shape) -> None:
        self._check_shape(input_shape)
        for layer in self.chain:
            # A block that was loaded from a file is built already.
            if not layer.weights:
                layer.build(input_shape)
            input_shape = layer.compute_output_shape(input_shape)
        keep_frozen(self)

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        self._check_shape(inputs.shape)
        for layer in self.chain:
            inputs = layer(inputs, training=training)
        return inputs

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        self._check_shape(input_shape)
        for layer in self.chain:
            input_shape = layer.compute_output_shape(input_shape)
        return tuple(input_shape)


def keep_frozen(model: keras.Model) -> None:
    """Freezes the layers that a model has made in `build`, if it is frozen.

    Keras freezes the layers that there are when `trainable` is set.
    """
    if not model.trainable:
        for layer in model.layers:
            layer.trainable = False


def from_config_with_objects(
    cls: type,
    config: dict[str, Any],
    names: Sequence[str],
    custom_objects: dict[str, Any] | None,
) -> Any:
    """Creates an object from a config that contains serialized objects.

    Args:
      cls: Class of the object.
      config: Config that `cls.get_config` has returned.
      names: Names of the arguments that are serialized layers or functions.
      custom_objects: Classes and functions by name, for those that are not
        registered with Keras. None if there are none.

    Returns:
      An instance of `cls`.
    """
    with keras.saving.custom_object_scope(custom_objects or {}):
        objects = {name: deserialize(config[name]) for name in names}
    return cls(**{**config, **objects})
