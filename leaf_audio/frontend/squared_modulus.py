"""The squared modulus, Leaf's activation."""

from typing import Any

import keras
from keras import ops

from leaf_audio.common.arguments import KnownArguments
from leaf_audio.common.keras_checks import check_layer_arguments
from leaf_audio.frontend.base import Shape, Tensor


@keras.saving.register_keras_serializable("leaf_audio")
class SquaredModulus(KnownArguments, keras.layers.Layer):
    """Computes the energy of complex channels, `re**2 + im**2`.

    Args:
      **kwargs: Arguments of `keras.layers.Layer`.

    Raises:
      ValueError: If the number of channels is odd.

    Input shape:
      `(batch, time, 2 * channels)`. Channel 2n holds the real part of channel n
      of the output, channel 2n + 1 its imaginary part.

    Output shape:
      `(batch, time, channels)`.

    Example:

    ```python
    energies = frontend.SquaredModulus()(complex_channels)
    ```
    """

    def __init__(self, **kwargs: Any):
        super().__init__(**check_layer_arguments(kwargs))

    def call(self, inputs: Tensor) -> Tensor:
        channels = self.compute_output_shape(inputs.shape)[-1]
        shape = (*ops.shape(inputs)[:-1], channels, 2)
        return ops.sum(ops.square(ops.reshape(inputs, shape)), axis=-1)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        if input_shape[-1] % 2:
            raise ValueError(
                "SquaredModulus takes an even number of channels, a real and "
                "an imaginary one each. Received: input shape "
                f"{tuple(input_shape)}."
            )
        return (*input_shape[:-1], input_shape[-1] // 2)
