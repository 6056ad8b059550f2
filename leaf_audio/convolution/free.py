"""Convolutions whose kernels are free: each sample of a kernel is a weight."""

from typing import Any

import keras
from keras import ops

from leaf_audio.common.arguments import KnownArguments
from leaf_audio.common.lean_ops import complex_energies
from leaf_audio.convolution.base import (
    ParametricConv1D,
    Shape,
    Tensor,
    add_bias_and_activate,
    check_conv1d_settings,
    check_conv1d_sizes,
    check_one_channel,
    energies_output_spec,
    real_then_imaginary,
)
from leaf_audio.convolution.by_blocks import conv1d_by_blocks


@keras.saving.register_keras_serializable("leaf_audio")
class NormalizedConv1D(ParametricConv1D):
    """Convolves a waveform with free kernels whose L2 norm is 1.

    Every sample of a kernel is learned. The weight `kernel` has the shape
    `(kernel_size, 1, filters)`. Each kernel is divided by its L2 norm in the
    forward pass, and the weight itself after each update.

    Args:
      filters: Integer. Number of output channels.
      kernel_size: Integer. Length of the kernels, in samples.
      strides: Integer. Hop between outputs, in samples. Defaults to 1.
      padding: `"same"` or `"valid"`. Defaults to `"same"`.
      use_bias: Boolean. Whether to add a bias to each channel. Defaults to
        False.
      kernel_initializer: Initializer of the weight. Defaults to None, which
        stands for `"glorot_uniform"`.
      kernel_regularizer: Regularizer of the weight. Defaults to None.
      **kwargs: Arguments of `keras.layers.Layer`, such as `name`, `dtype` and
        `trainable`.

    Raises:
      ValueError: An argument is out of range, or the input has several
        channels.

    Input shape:
      `(batch, time, 1)`.

    Output shape:
      `(batch, frames, filters)`, where `frames` is `ceil(time / strides)` with
      `"same"` padding.

    Example:

    ```python
    layer = convolution.NormalizedConv1D(filters=40, kernel_size=401)
    outputs = layer(audio[..., None])  # (batch, time, 40)
    ```
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int,
        strides: int = 1,
        padding: str = "same",
        use_bias: bool = False,
        kernel_initializer: Any = None,
        kernel_regularizer: Any = None,
        **kwargs: Any,
    ):
        if kernel_initializer is None:
            kernel_initializer = "glorot_uniform"
        super().__init__(
            filters=filters,
            kernel_size=kernel_size,
            strides=strides,
            padding=padding,
            use_bias=use_bias,
            kernel_initializer=kernel_initializer,
            kernel_regularizer=kernel_regularizer,
            **kwargs,
        )

    def build(self, input_shape: Shape) -> None:
        check_one_channel(self, input_shape)
        self.kernel = self._add_kernel(
            (self.kernel_size, 1, self.filters),
            keras.constraints.UnitNorm(axis=0),
        )
        self.bias = self._add_bias(self.filters)

    def call(self, inputs: Tensor) -> Tensor:
        kernel = self.kernel.constraint(ops.convert_to_tensor(self.kernel))
        return self._convolve(inputs, kernel, self.bias)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return self._output_shape(input_shape, self.filters)


@keras.saving.register_keras_serializable("leaf_audio")
class WaveformConv1D(KnownArguments, keras.layers.Conv1D):
    """Computes `keras.layers.Conv1D` of a waveform, faster in training.

    The layer has the weights and the outputs of `keras.layers.Conv1D`, but
    takes inputs of one channel only and computes an output for every sample.
    It convolves block by block (see `conv1d_by_blocks`), which halves the time
    that the gradient of a long kernel takes.

    Args:
      filters: Integer. Number of output channels.
      kernel_size: Integer. Length of the kernels, in samples.
      **kwargs: Further arguments of `keras.layers.Conv1D`. `strides` must be 1,
        `padding` must be `"same"` (the default here), `data_format` must be
        `"channels_last"`, and `dilation_rate` and `groups` must be 1.

    Raises:
      ValueError: One of these arguments has another value, or the input has
        several channels.

    Input shape:
      `(batch, time, 1)`.

    Output shape:
      `(batch, time, filters)`. The layer also takes a call argument
      `squared_modulus`. If it is True, channels 2n and 2n + 1 are taken as the
      real and the imaginary part of a complex filter, and the output is the
      energy of each complex filter, of shape `(batch, time, filters // 2)`.

    Example:

    ```python
    layer = convolution.WaveformConv1D(filters=80, kernel_size=401)
    energy = layer(audio[..., None], squared_modulus=True)
    ```
    """

    def __init__(self, filters: int, kernel_size: int, **kwargs: Any):
        kwargs.setdefault("data_format", "channels_last")
        kwargs.setdefault("padding", "same")
        check_conv1d_sizes(filters, kernel_size, kwargs)
        super().__init__(filters, kernel_size, **kwargs)
        check_conv1d_settings(self, strides=1, padding="same")

    def build(self, input_shape: Shape) -> None:
        check_one_channel(self, input_shape)
        super().build(input_shape)

    def call(self, inputs: Tensor, squared_modulus: bool = False) -> Tensor:
        kernel = ops.cast(ops.convert_to_tensor(self.kernel), inputs.dtype)
        bias = self.bias
        if squared_modulus:
            kernel = real_then_imaginary(kernel)
            bias = None if bias is None else real_then_imaginary(bias)
        outputs = conv1d_by_blocks(inputs, kernel)
        outputs = add_bias_and_activate(outputs, bias, self.activation)
        return complex_energies(outputs) if squared_modulus else outputs

    def compute_output_spec(
        self, inputs: Any, squared_modulus: bool = False
    ) -> keras.KerasTensor:
        return energies_output_spec(self, inputs, squared_modulus)
