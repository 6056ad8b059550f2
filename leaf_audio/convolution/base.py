"""What the convolution layers share: settings, bias and checks.

The package's docstring fixes the conventions on shapes and channels.
"""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from leaf_audio.common.arguments import KnownArguments
from leaf_audio.common.blocks import reshape_each
from leaf_audio.common.checks import (
    check_bool,
    check_choice,
    check_size,
)
from leaf_audio.common.framing import frame_layout
from leaf_audio.common.keras_checks import (
    check_initializer,
    check_layer_arguments,
    check_regularizer,
)
from leaf_audio.common.sizes import output_length
from leaf_audio.convolution.by_blocks import conv1d_by_blocks

Tensor = Any
Shape = tuple[int | None, ...]

_PADDINGS = ("same", "valid")


class ParametricConv1D(KnownArguments, keras.layers.Layer):
    """Base of the layers that compute their kernels from a weight.

    It holds the arguments that these layers share, adds the weights and
    convolves. A subclass makes the weights in `build`, computes the kernel in
    `call` and passes it to `_convolve`.

    Args:
      filters: Integer. Number of channels, as the subclass defines it.
      kernel_size: Integer. Length of the filters, in samples.
      strides: Integer. Hop between outputs, in samples.
      padding: `"same"` or `"valid"`.
      use_bias: Boolean. Whether to add a bias to each channel.
      kernel_initializer: Initializer of the weight `kernel`.
      kernel_regularizer: Regularizer of the weight `kernel`, or None.
      **kwargs: Arguments of `keras.layers.Layer`.

    Raises:
      ValueError: An argument is out of range.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int,
        strides: int,
        padding: str,
        use_bias: bool,
        kernel_initializer: Any,
        kernel_regularizer: Any,
        **kwargs: Any,
    ):
        super().__init__(**check_layer_arguments(kwargs))
        self.filters = check_size("filters", filters)
        self.kernel_size = check_size("kernel_size", kernel_size)
        self.strides = check_size("strides", strides)
        self.padding = check_choice("padding", padding, _PADDINGS)
        self.use_bias = check_bool("use_bias", use_bias)
        self.kernel_initializer = check_initializer(
            "kernel_initializer", kernel_initializer
        )
        self.kernel_regularizer = check_regularizer(
            "kernel_regularizer", kernel_regularizer
        )

    def _half_of_filters(self) -> int:
        """Returns `filters // 2`, where `filters` counts each filter twice.

        Raises:
          ValueError: `filters` is odd.
        """
        if self.filters % 2:
            raise ValueError(
                "`filters` must be even: two channels for each filter. "
                f"Received: filters={self.filters}."
            )
        return self.filters // 2

    def _add_kernel(self, shape: Shape, constraint: Any = None) -> Any:
        return self.add_weight(
            name="kernel",
            shape=shape,
            initializer=self.kernel_initializer,
            regularizer=self.kernel_regularizer,
            constraint=constraint,
            # The kernel is computed in float32 even if the audio has 16 bits:
            # Keras must not cast this weight.
            autocast=False,
        )

    def _add_bias(self, channels: int) -> Any:
        if not self.use_bias:
            return None
        return self.add_weight(
            name="bias", shape=(channels,), initializer="zeros"
        )

    def _convolve(self, inputs: Tensor, kernel: Tensor, bias: Any) -> Tensor:
        kernel = ops.cast(kernel, inputs.dtype)
        if self.strides == 1 and self.padding == "same":
            outputs = conv1d_by_blocks(inputs, kernel)
        else:
            outputs = ops.conv(
                inputs,
                kernel,
                strides=self.strides,
                padding=self.padding,
                data_format="channels_last",
            )
            frames, _ = frame_layout(
                ops.shape(inputs)[1],
                self.kernel_size,
                self.strides,
                self.padding,
            )
            # For an empty batch, TensorFlow's outputs have another shape.
            outputs = reshape_each(outputs, (frames, kernel.shape[2]))
        return outputs if bias is None else outputs + bias

    def _output_shape(self, input_shape: Shape, channels: int) -> Shape:
        check_one_channel(self, input_shape)
        time = output_length(
            input_shape[1], self.kernel_size, self.strides, self.padding
        )
        return (input_shape[0], time, channels)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "padding": self.padding,
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(
                self.kernel_initializer
            ),
            "kernel_regularizer": keras.regularizers.serialize(
                self.kernel_regularizer
            ),
        }


def real_then_imaginary(interleaved: Tensor) -> Tensor:
    """Moves all real parts before all imaginary parts.

    Args:
      interleaved: Tensor of shape `(..., 2 * n_filters)`. Channel 2n is the
        real part of filter n and channel 2n + 1 its imaginary part.

    Returns:
      A tensor of the same shape: `n_filters` real parts, then `n_filters`
      imaginary parts.
    """
    return ops.concatenate(
        [interleaved[..., 0::2], interleaved[..., 1::2]], axis=-1
    )


def energies_output_spec(
    layer: keras.layers.Layer, inputs: Any, squared_modulus: bool
) -> keras.KerasTensor:
    """Returns the output of a layer that can compute energies by itself.

    Args:
      layer: Layer whose `compute_output_shape` holds without
        `squared_modulus`.
      inputs: Symbolic input.
      squared_modulus: Boolean. Whether the layer returns one energy for each
        pair of channels.

    Returns:
      A symbolic tensor of the output's shape and dtype.
    """
    *shape, channels = layer.compute_output_shape(inputs.shape)
    if squared_modulus:
        channels //= 2
    return keras.KerasTensor((*shape, channels), dtype=layer.compute_dtype)


def check_one_channel(layer: keras.layers.Layer, input_shape: Shape) -> None:
    """Raises a ValueError unless the input shape is `(batch, time, 1)`."""
    if len(input_shape) != 3 or input_shape[-1] != 1:
        raise ValueError(
            f"{type(layer).__name__} takes inputs of shape (batch, time, 1). "
            f"Received: input shape {tuple(input_shape)}."
        )


def check_conv1d_sizes(
    filters: Any, kernel_size: Any, arguments: dict[str, Any]
) -> None:
    """Raises a ValueError if arguments of `Conv1D` are not allowed.

    Args:
      filters: Value of this argument.
      kernel_size: Value of this argument. A list or tuple of one number stands
        for the number, as in Keras.
      arguments: Further arguments of `Conv1D`, by name.
    """
    check_layer_arguments(arguments)
    check_size("filters", filters)
    if not isinstance(kernel_size, (list, tuple)) or len(kernel_size) != 1:
        check_size("kernel_size", kernel_size)
    else:
        check_size("kernel_size", kernel_size[0])


def check_conv1d_settings(layer: keras.layers.Conv1D, **required: Any) -> None:
    """Raises a ValueError if a setting of `Conv1D` is not implemented.

    Subclasses of `keras.layers.Conv1D` take all of its arguments but implement
    only some of their values. Dilation, groups and "channels_first" are not
    implemented by any of them.

    Args:
      layer: Layer to check.
      **required: Further settings and the only value that each may have.
    """
    required |= {
        "dilation_rate": 1,
        "groups": 1,
        "data_format": "channels_last",
    }
    for name, supported in required.items():
        value = getattr(layer, name)
        if isinstance(value, tuple):
            (value,) = value
        if value != supported:
            raise ValueError(
                f"`{name}` of {type(layer).__name__} must be {supported!r}. "
                f"Received: {name}={value!r}."
            )


def add_bias_and_activate(
    outputs: Tensor, bias: Any, activation: Callable | None
) -> Tensor:
    """Adds a bias and applies an activation; either may be None."""
    if bias is not None:
        outputs = outputs + bias
    return outputs if activation is None else activation(outputs)
