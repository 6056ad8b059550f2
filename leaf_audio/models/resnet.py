"""ResNet: a small residual network for spectrograms.

The spectrogram is treated as an image.
"""

import numbers
from collections.abc import Sequence
from typing import Any

import keras
from keras import layers

from leaf_audio.common.arguments import KnownArguments
from leaf_audio.common.checks import check_rate, check_size, check_sizes
from leaf_audio.common.keras_checks import check_layer_arguments
from leaf_audio.models.chain import Chain, Shape, Tensor, keep_frozen

# With Keras' default of 0.99, the moving averages need some hundred steps to
# settle, which is as long as a whole training on few clips takes.
_MOMENTUM = 0.95
_MAX_STRIDE = 1024


@keras.saving.register_keras_serializable("leaf_audio")
class ResidualBlock(KnownArguments, keras.Model):
    """Adds two convolutions to a shortcut.

    `outputs = relu(shortcut(x) + conv(relu(conv(x))))`. Both convolutions are
    3×3, and a batch normalization follows each. The shortcut is the identity.
    If the number of channels or the resolution changes, it is a convolution 1×1
    with a batch normalization.

    Args:
      num_filters: Positive integer. Number of output channels.
      strides: Positive integer, or a pair of these for time and bins. Stride of
        the first convolution. Defaults to 1.
      drop_path: Float in [0, 1). Probability that the two convolutions of a
        clip are left out in training (stochastic depth). Defaults to 0.
      **kwargs: Arguments of `keras.Model`, such as `name`, `dtype` and
        `trainable`.

    Raises:
      ValueError: If an argument is out of range.

    Input shape:
      `(batch, time, bins, channels)`.

    Output shape:
      `(batch, ceil(time / strides), ceil(bins / strides), num_filters)`.

    References: residual networks, arXiv:1512.03385; stochastic depth,
    arXiv:1603.09382.
    """

    def __init__(
        self,
        num_filters: int,
        strides: int | Sequence[int] = 1,
        drop_path: float = 0.0,
        **kwargs: Any,
    ):
        super().__init__(**check_layer_arguments(kwargs))
        self.num_filters = check_size("num_filters", num_filters)
        self.strides = check_strides("strides", strides)
        self.drop_path = check_rate("drop_path", drop_path)
        dtype = self.dtype_policy
        self.branch = [
            _convolution(num_filters, 3, self.strides, dtype),
            _normalization(dtype),
            layers.ReLU(dtype=dtype),
            _convolution(num_filters, 3, 1, dtype),
            _normalization(dtype),
            # One draw for each clip, which leaves out the whole branch.
            layers.Dropout(drop_path, noise_shape=(None, 1, 1, 1), dtype=dtype),
        ]
        self.shortcut: list[layers.Layer] = []

    def build(self, input_shape: Shape) -> None:
        if (
            self.strides != (1, 1) or input_shape[-1] != self.num_filters
        ) and not self.shortcut:
            dtype = self.dtype_policy
            self.shortcut = [
                _convolution(self.num_filters, 1, self.strides, dtype),
                _normalization(dtype),
            ]
        for chain in (self.branch, self.shortcut):
            shape = input_shape
            for layer in chain:
                layer.build(shape)
                shape = layer.compute_output_shape(shape)
        keep_frozen(self)

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        outputs = shortcut = inputs
        for layer in self.branch:
            outputs = layer(outputs, training=training)
        for layer in self.shortcut:
            shortcut = layer(shortcut, training=training)
        return keras.ops.relu(outputs + shortcut)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        for layer in self.branch:
            input_shape = layer.compute_output_shape(input_shape)
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_filters": self.num_filters,
            "strides": self.strides,
            "drop_path": self.drop_path,
        }


@keras.saving.register_keras_serializable("leaf_audio")
class ResNet(Chain):
    """Encodes a spectrogram with stages of residual blocks.

    A convolution 5×5 with a batch normalization and a ReLU comes first. The
    blocks of a stage have as many channels as `widths` says. The first block of
    a stage has the stride of the stage.

    With the default arguments and one input channel there are 279,384 weights,
    1,440 of which are statistics of batch normalizations.

    Args:
      widths: List of positive integers. Number of channels of each stage.
        Defaults to `(24, 48, 72, 96)`.
      blocks: Positive integer, or a list of these for each stage. Number of
        blocks in a stage. Defaults to 1.
      strides: List with the stride of each stage. A stride is a positive
        integer, or a pair of these for time and bins. Defaults to None, which
        is 1 for the first stage and 2 for the others.
      stem_strides: Positive integer, or a pair of these for time and bins.
        Stride of the first convolution. `(4, 2)` suits clips of five seconds
        and more. Defaults to 2.
      drop_path: Float in [0, 1). Probability that the last block is left out
        for a clip in training (stochastic depth). The probability rises
        linearly from the first block to the last. Defaults to 0.
      **kwargs: Arguments of `keras.Model`, such as `name`, `dtype` and
        `trainable`.

    Raises:
      ValueError: If an argument is out of range.

    Input shape:
      `(batch, time, bins, channels)`.

    Output shape:
      `(batch, ceil(time / s), ceil(bins / s), widths[-1])`, where `s` is the
      product of all strides, 16 by default.

    Example:

    ```python
    encoder = models.ResNet(stem_strides=(4, 2))
    model = models.AudioClassifier(
        50, frontend.Leaf(), encoder, input_norm="batch", pooling="average"
    )
    ```

    Reference: arXiv:1512.03385. The stem and the sizes are those of this
    package.
    """

    def __init__(
        self,
        widths: Sequence[int] = (24, 48, 72, 96),
        blocks: int | Sequence[int] = 1,
        strides: Sequence[int | Sequence[int]] | None = None,
        stem_strides: int | Sequence[int] = 2,
        drop_path: float = 0.0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.widths = check_sizes("widths", widths)
        self.blocks = blocks
        counts: Any = blocks
        if isinstance(blocks, numbers.Integral):
            counts = [blocks] * len(widths)
        self.strides = strides
        if strides is None:
            strides = [1] + [2] * (len(widths) - 1)
        for name, value in (("blocks", counts), ("strides", strides)):
            check_list(name, value)
            if len(value) != len(widths):
                raise ValueError(
                    f"`{name}` must have a value for each stage. Received: "
                    f"{name}={value!r}, widths={self.widths}."
                )
        counts = [check_size("blocks", n) for n in counts]
        steps = [check_strides("strides", stride) for stride in strides]
        self.stem_strides = check_strides("stem_strides", stem_strides)
        self.drop_path = check_rate("drop_path", drop_path)

        dtype = self.dtype_policy
        self.chain = [
            _convolution(self.widths[0], 5, self.stem_strides, dtype),
            _normalization(dtype),
            layers.ReLU(dtype=dtype),
        ]
        made, total = 0, sum(counts)
        for width, count, stride in zip(
            self.widths, counts, steps, strict=True
        ):
            for i in range(count):
                made += 1
                block = ResidualBlock(
                    width,
                    strides=1 if i else stride,
                    drop_path=drop_path * made / total,
                    dtype=dtype,
                )
                self.chain.append(block)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "widths": self.widths,
            "blocks": self.blocks,
            "strides": self.strides,
            "stem_strides": self.stem_strides,
            "drop_path": self.drop_path,
        }


def check_list(name: str, value: Any) -> None:
    """Raises a ValueError unless the value is a list that is not empty."""
    if not isinstance(value, (list, tuple)) or not value:
        raise ValueError(
            f"`{name}` must be a list with a value for each stage. "
            f"Received: {name}={value!r}."
        )


def check_strides(name: str, value: Any) -> tuple[int, int]:
    """Checks a stride, and returns it as a pair for time and bins.

    Args:
      name: Name of the argument, for the error message.
      value: Value of the argument.

    Raises:
      ValueError: `value` is neither a positive integer nor a pair of these.
    """
    pair = value if isinstance(value, (list, tuple)) else (value, value)
    if len(pair) != 2 or not all(map(_is_stride, pair)):
        raise ValueError(
            f"`{name}` must be an integer from 1 to {_MAX_STRIDE}, or a pair "
            f"of these for time and bins. Received: {name}={value!r}."
        )
    time, bins = map(int, pair)
    return time, bins


def _is_stride(value: Any) -> bool:
    is_int = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    return is_int and 1 <= value <= _MAX_STRIDE


def _convolution(
    num_filters: int, size: int, strides: int | tuple[int, int], dtype: Any
) -> layers.Layer:
    return layers.Conv2D(
        num_filters,
        size,
        strides=strides,
        padding="same",
        # The batch normalization that follows has an offset of its own.
        use_bias=False,
        kernel_initializer="he_normal",
        data_format="channels_last",
        dtype=dtype,
    )


def _normalization(dtype: Any) -> layers.Layer:
    return layers.BatchNormalization(momentum=_MOMENTUM, dtype=dtype)
