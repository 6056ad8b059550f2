"""Layers that pool energies: one value per frame instead of one per sample.

Inputs are `(batch, time, channels)`, outputs `(batch, frames, channels)`.
Samples outside the input count as 0; a maximum ignores them. All layers take
the same arguments, so a frontend can use any of them.

The argument `padding` sets where frame m lies:

- `"same"`: TensorFlow's padding, half of it before the input. One more sample
  moves all frames.
- `"centred"`: the middle of its window is sample `m * strides`.
- `"causal"`: the last sample of its window is sample `m * strides`.
- `"valid"`: the first sample of its window is sample `m * strides`. There are
  only the frames whose window lies within the input.

`leaf_audio.common.framing` has the formulas.
"""

from typing import Any

import keras
from keras import ops

from leaf_audio import impulse_responses
from leaf_audio.common.arguments import KnownArguments
from leaf_audio.common.blocks import cut_into_blocks, reshape_each
from leaf_audio.common.checks import (
    check_bool,
    check_choice,
    check_size,
)
from leaf_audio.common.framing import (
    FIXED_PADDINGS,
    PADDINGS,
    frame_layout,
)
from leaf_audio.common.keras_checks import (
    check_initializer,
    check_layer_arguments,
    check_regularizer,
)
from leaf_audio.common.sizes import output_length
from leaf_audio.initializers import LowpassInit

Tensor = Any
Shape = tuple[int | None, ...]

# `pool_blocks` is used for windows of at most this many strides. For longer
# windows, a depthwise convolution is faster.
_MAX_OVERLAP = 8


def pool_blocks(
    inputs: Tensor, window: Tensor, strides: int, padding: str
) -> Tensor:
    """Pools each channel with a window, as sums over blocks of one stride.

    This is a depthwise convolution, written so that its gradients are products
    and sums as well. XLA's own gradient of a depthwise convolution takes
    seconds on a CPU, this one milliseconds.

    Args:
      inputs: `(batch, time, channels)`; `time` may be unknown.
      window: `(kernel_size, channels)`.
      strides: Distance between frames, in samples.
      padding: `"same"`, `"valid"`, `"centred"` or `"causal"`.

    Returns:
      An array `(batch, frames, channels)`.
    """
    size, channels = window.shape
    overlap = -(-size // strides)
    frames, left = frame_layout(ops.shape(inputs)[1], size, strides, padding)
    blocks = cut_into_blocks(
        inputs,
        length=strides,
        count=frames + overlap - 1,
        start=-left,
        max_padding=(size, size + overlap * strides),
    )
    window = ops.pad(window, [[0, overlap * strides - size], [0, 0]])
    window = ops.reshape(window, (overlap, strides, channels))

    outputs = 0.0
    for i in range(overlap):
        sums = ops.sum(blocks * window[i], axis=2)
        outputs = outputs + sums[:, i : i + frames]
    return outputs


def pool(inputs: Tensor, window: Tensor, strides: int, padding: str) -> Tensor:
    """Pools each channel with a window, in the way that suits its length.

    Args:
      inputs: `(batch, time, channels)`; `time` may be unknown.
      window: `(kernel_size, channels)`.
      strides: Distance between frames, in samples.
      padding: `"same"`, `"valid"`, `"centred"` or `"causal"`.

    Returns:
      An array `(batch, frames, channels)`.
    """
    window = ops.cast(window, inputs.dtype)
    size, channels = window.shape
    if size <= _MAX_OVERLAP * strides:
        return pool_blocks(inputs, window, strides, padding)
    frames, _ = frame_layout(ops.shape(inputs)[1], size, strides, padding)
    if padding in FIXED_PADDINGS:
        inputs = _pad_at_fixed_positions(inputs, size, padding, 0.0)
        padding = "valid"
    outputs = ops.depthwise_conv(
        inputs,
        window[..., None],
        strides=strides,
        padding=padding,
        data_format="channels_last",
    )
    # For an empty batch, TensorFlow's outputs have another shape.
    return reshape_each(outputs, (frames, channels))


def _pad_at_fixed_positions(
    inputs: Tensor, size: int, padding: str, value: float
) -> Tensor:
    """Pads inputs so that windows without padding are those of `padding`."""
    _, left = frame_layout(0, size, 1, padding)
    return ops.pad(
        inputs,
        [[0, 0], [left, size - 1 - left], [0, 0]],
        constant_values=value,
    )


class _Pooling1D(KnownArguments, keras.layers.Layer):
    """Base class of the poolings: arguments, bias and shapes."""

    def __init__(
        self,
        kernel_size: int,
        strides: int = 1,
        padding: str = "same",
        use_bias: bool = False,
        kernel_initializer: Any = None,
        kernel_regularizer: Any = None,
        **kwargs: Any,
    ):
        super().__init__(**check_layer_arguments(kwargs))
        self.kernel_size = check_size("kernel_size", kernel_size)
        self.strides = check_size("strides", strides)
        self.padding = check_choice("padding", padding, PADDINGS)
        self.use_bias = check_bool("use_bias", use_bias)
        if kernel_initializer is None:
            kernel_initializer = self._default_initializer()
        self.kernel_initializer = check_initializer(
            "kernel_initializer", kernel_initializer
        )
        self.kernel_regularizer = check_regularizer(
            "kernel_regularizer", kernel_regularizer
        )
        self.input_spec = keras.InputSpec(ndim=3)

    def _default_initializer(self) -> keras.initializers.Initializer:
        return LowpassInit()

    def _add_weights(self, kernel_shape: Shape, channels: int) -> None:
        self.kernel = self.add_weight(
            name="kernel",
            shape=kernel_shape,
            initializer=self.kernel_initializer,
            regularizer=self.kernel_regularizer,
            # Windows are computed in float32 even if energies have 16 bits.
            autocast=False,
        )
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(
                name="bias", shape=(channels,), initializer="zeros"
            )

    def pool(self, inputs: Tensor, window: Tensor) -> Tensor:
        """Pools each channel with its window, and adds the bias.

        Args:
          inputs: `(batch, time, channels)`.
          window: `(kernel_size, channels)`.

        Returns:
          An array `(batch, frames, channels)`.
        """
        outputs = pool(inputs, window, self.strides, self.padding)
        return outputs if self.bias is None else outputs + self.bias

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        frames = output_length(
            input_shape[1], self.kernel_size, self.strides, self.padding
        )
        return (input_shape[0], frames, input_shape[2])

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
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


@keras.saving.register_keras_serializable("leaf_audio")
class GaussianLowpass(_Pooling1D):
    """Pools each channel with a Gaussian window of learnable width.

    The window of a channel is `w(t) = exp(-(t / (σ h))² / 2)`, where t is the
    distance from the window's middle in samples and `h = (kernel_size - 1) /
    2`. The learnable width σ is clipped to `[2 / kernel_size, 0.5]`. The window
    peaks at 1 and is not normalised, as in the paper. The weight `kernel`,
    `(1, 1, channels, 1)`, holds the widths.

    Args:
      kernel_size: Positive integer, length of the windows in samples.
      strides: Positive integer, distance between frames in samples. Default 1.
      padding: `"same"` (default), `"valid"`, `"centred"` or `"causal"`: where
        frames lie, as the module's docstring says.
      use_bias: Boolean, whether to add a learnable bias to each channel.
        Default False.
      kernel_initializer: Keras initializer of the weight. Default None,
        a constant 0.4, which makes a window close to a Hann window.
      kernel_regularizer: Keras regularizer of the weight. Default None.
      **kwargs: Arguments of keras.layers.Layer, such as `name` and `dtype`.

    Raises:
      ValueError: An argument is out of range, or the inputs do not have three
        axes.

    Input shape:
      `(batch, time, channels)`.

    Output shape:
      `(batch, frames, channels)`.

    Example:

    ```python
    pool = leaf_audio.pooling.GaussianLowpass(401, strides=160)
    frames = pool(energies)  # (8, 16000, 40) -> (8, 100, 40)
    ```

    Reference: LEAF, arXiv:2101.08596, section 3.2.
    """

    def _default_initializer(self) -> keras.initializers.Initializer:
        return keras.initializers.Constant(0.4)

    def build(self, input_shape: Shape) -> None:
        channels = input_shape[-1]
        self._add_weights((1, 1, channels, 1), channels)

    def widths(self) -> Tensor:
        """Returns the clipped standard deviations, `(channels,)`."""
        return impulse_responses.clip_lowpass_width(
            self._raw_widths(), self.kernel_size
        )

    def window(self) -> Tensor:
        """Returns the windows, `(kernel_size, channels)`."""
        return impulse_responses.gaussian_lowpass(
            self._raw_widths(), self.kernel_size
        )

    def _raw_widths(self) -> Tensor:
        return ops.reshape(ops.convert_to_tensor(self.kernel), (-1,))

    def call(self, inputs: Tensor) -> Tensor:
        return self.pool(inputs, self.window())


@keras.saving.register_keras_serializable("leaf_audio")
class LearnablePooling1D(_Pooling1D):
    """Pools all channels with the same window, which is learned tap by tap.

    The weight `kernel` is `(1, kernel_size, 1, 1)`. In the original release the
    layer pools without padding whatever `padding` says; here `padding` is
    followed.

    Args:
      kernel_size: Positive integer, length of the window in samples.
      strides: Positive integer, distance between frames in samples. Default 1.
      padding: `"same"` (default), `"valid"`, `"centred"` or `"causal"`: where
        frames lie, as the module's docstring says.
      use_bias: Boolean, whether to add a learnable bias to each channel.
        Default False.
      kernel_initializer: Keras initializer of the weight. Default None,
        a squared Hann window.
      kernel_regularizer: Keras regularizer of the weight. Default None.
      **kwargs: Arguments of keras.layers.Layer, such as `name` and `dtype`.

    Raises:
      ValueError: An argument is out of range, or the inputs do not have three
        axes.

    Input shape:
      `(batch, time, channels)`.

    Output shape:
      `(batch, frames, channels)`.

    Example:

    ```python
    pool = leaf_audio.pooling.LearnablePooling1D(401, strides=160)
    frames = pool(energies)  # (8, 16000, 40) -> (8, 100, 40)
    ```

    Reference: time-domain filterbanks, arXiv:1711.01161, section 2.
    """

    def build(self, input_shape: Shape) -> None:
        self._add_weights((1, self.kernel_size, 1, 1), input_shape[-1])

    def call(self, inputs: Tensor) -> Tensor:
        window = ops.reshape(
            ops.convert_to_tensor(self.kernel), (self.kernel_size, 1)
        )
        return self.pool(inputs, ops.tile(window, (1, inputs.shape[-1])))


@keras.saving.register_keras_serializable("leaf_audio")
class ChannelWiseLearnablePooling1D(_Pooling1D):
    """Pools each channel with a window of its own, learned tap by tap.

    The weight `kernel` is `(kernel_size, 1, channels)`. In the original release
    the layer sums all channels into each output; here each output channel is
    the pooled input channel.

    Args:
      kernel_size: Positive integer, length of the windows in samples.
      strides: Positive integer, distance between frames in samples. Default 1.
      padding: `"same"` (default), `"valid"`, `"centred"` or `"causal"`: where
        frames lie, as the module's docstring says.
      use_bias: Boolean, whether to add a learnable bias to each channel.
        Default False.
      kernel_initializer: Keras initializer of the weight. Default None,
        a squared Hann window.
      kernel_regularizer: Keras regularizer of the weight. Default None.
      **kwargs: Arguments of keras.layers.Layer, such as `name` and `dtype`.

    Raises:
      ValueError: An argument is out of range, or the inputs do not have three
        axes.

    Input shape:
      `(batch, time, channels)`.

    Output shape:
      `(batch, frames, channels)`.

    Example:

    ```python
    pool = leaf_audio.pooling.ChannelWiseLearnablePooling1D(401, strides=160)
    frames = pool(energies)  # (8, 16000, 40) -> (8, 100, 40)
    ```
    """

    def build(self, input_shape: Shape) -> None:
        channels = input_shape[-1]
        self._add_weights((self.kernel_size, 1, channels), channels)

    def call(self, inputs: Tensor) -> Tensor:
        return self.pool(inputs, ops.convert_to_tensor(self.kernel)[:, 0])


@keras.saving.register_keras_serializable("leaf_audio")
class MaxPooling1D(KnownArguments, keras.layers.MaxPooling1D):
    """Pools each channel with a maximum over a window.

    It is keras.layers.MaxPooling1D with the arguments of the other poolings.

    Args:
      kernel_size: Positive integer, length of the window in samples.
      strides: Positive integer, distance between frames in samples. Default 1.
      padding: `"same"` (default), `"valid"`, `"centred"` or `"causal"`: where
        frames lie, as the module's docstring says.
      use_bias: Must be False; a maximum has no bias.
      kernel_initializer: Must be None; a maximum has no kernel.
      kernel_regularizer: Must be None, for the same reason.
      **kwargs: Arguments of keras.layers.Layer, such as `name` and `dtype`.

    Raises:
      ValueError: An argument is out of range, or has no meaning here.

    Input shape:
      `(batch, time, channels)`.

    Output shape:
      `(batch, frames, channels)`.
    """

    def __init__(
        self,
        kernel_size: int,
        strides: int = 1,
        padding: str = "same",
        use_bias: bool = False,
        kernel_initializer: Any = None,
        kernel_regularizer: Any = None,
        **kwargs: Any,
    ):
        check_bool("use_bias", use_bias)
        for name, value, unused in (
            ("use_bias", use_bias, False),
            ("kernel_initializer", kernel_initializer, None),
            ("kernel_regularizer", kernel_regularizer, None),
        ):
            if value is not unused:
                raise ValueError(
                    f"`{name}` has no meaning for MaxPooling1D, which has no "
                    f"weights. Received: {name}={value!r}."
                )
        self.kernel_size = check_size("kernel_size", kernel_size)
        super().__init__(
            pool_size=kernel_size,
            strides=check_size("strides", strides),
            padding=check_choice("padding", padding, PADDINGS),
            data_format="channels_last",
            **check_layer_arguments(kwargs),
        )

    def call(self, inputs: Tensor) -> Tensor:
        if self.padding not in FIXED_PADDINGS:
            return super().call(inputs)
        return ops.max_pool(
            _pad_at_fixed_positions(
                inputs, self.kernel_size, self.padding, float("-inf")
            ),
            pool_size=self.pool_size,
            strides=self.strides,
            padding="valid",
            data_format=self.data_format,
        )

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        if self.padding not in FIXED_PADDINGS:
            return tuple(super().compute_output_shape(input_shape))
        frames = output_length(
            input_shape[1], self.kernel_size, self.strides[0], self.padding
        )
        return (input_shape[0], frames, input_shape[2])

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        del config["pool_size"], config["data_format"]
        return {
            **config,
            "kernel_size": self.kernel_size,
            # Keras stores it as a tuple.
            "strides": self.strides[0],
        }
