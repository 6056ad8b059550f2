"""BC-ResNet: a network of broadcasted residuals, for few weights.

Each block looks at every bin on its own, then at the mean of all bins over
time, and adds ("broadcasts") the second to the first.
"""

from typing import Any

import keras
from keras import layers, ops

from leaf_audio.common.arguments import KnownArguments
from leaf_audio.common.checks import (
    check_positive,
    check_rate,
    check_size,
)
from leaf_audio.common.keras_checks import check_layer_arguments
from leaf_audio.models.chain import Chain, Shape, Tensor, keep_frozen

# Blocks, channels (times the size), stride over bins and dilation over time of
# each stage.
_STAGES = ((2, 8, 1, 1), (2, 12, 2, 2), (4, 16, 2, 4), (4, 20, 1, 8))
_MAX_WIDTH = 8192
# Bins that the last depthwise convolution takes away.
_LAST_KERNEL = 5


@keras.saving.register_keras_serializable("leaf_audio")
class SubSpectralNormalization(KnownArguments, layers.Layer):
    """Normalizes groups of neighbouring bins, each with its own statistics.

    The bins are divided into `sub_bands` groups of the same size. A batch
    normalization follows for each channel and group.

    Args:
      sub_bands: Positive integer. Number of groups. Defaults to 5.
      **kwargs: Arguments of `keras.layers.Layer`, such as `name` and `dtype`.

    Raises:
      ValueError: If `sub_bands` is not a positive integer, or the number of
        bins is not a multiple of it.

    Input shape:
      `(batch, time, bins, channels)`.

    Output shape:
      The same as the input shape.

    Reference: SubSpectralNorm, arXiv:2103.13620.
    """

    def __init__(self, sub_bands: int = 5, **kwargs: Any):
        super().__init__(**check_layer_arguments(kwargs))
        self.sub_bands = check_size("sub_bands", sub_bands)
        self._norm = layers.BatchNormalization(dtype=self.dtype_policy)

    def build(self, input_shape: Shape) -> None:
        bins, channels = input_shape[2:]
        if bins is None or bins % self.sub_bands:
            raise ValueError(
                "`sub_bands` must divide the number of bins. Received: "
                f"sub_bands={self.sub_bands}, inputs of shape "
                f"{tuple(input_shape)}."
            )
        width = bins // self.sub_bands
        self._norm.build((*input_shape[:2], width, self.sub_bands * channels))

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        shape = ops.shape(inputs)
        bins, channels = inputs.shape[2:]
        groups, width = self.sub_bands, bins // self.sub_bands
        split = ops.reshape(inputs, (*shape[:2], groups, width, channels))
        split = ops.transpose(split, (0, 1, 3, 2, 4))
        split = ops.reshape(split, (*shape[:2], width, groups * channels))
        split = self._norm(split, training=training)
        split = ops.reshape(split, (*shape[:2], width, groups, channels))
        split = ops.transpose(split, (0, 1, 3, 2, 4))
        return ops.reshape(split, shape)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "sub_bands": self.sub_bands}


@keras.saving.register_keras_serializable("leaf_audio")
class BCResBlock(KnownArguments, keras.Model):
    """Adds what a depthwise convolution over time finds to every bin.

    `outputs = relu(x + f2(x) + f1(mean over bins of f2(x)))`, where f2 is a
    depthwise convolution over three bins with a sub-spectral normalization, and
    f1 is a depthwise convolution over three frames, batch normalization, swish,
    a convolution 1×1 and dropout of whole channels. If the number of channels
    changes, f2 begins with a convolution 1×1, batch normalization and ReLU, and
    x is not added. With `strides` above 1, x is not added either. The paper has
    such strides only where the number of channels changes.

    Args:
      num_filters: Positive integer. Number of output channels.
      strides: Positive integer. Stride over bins. Defaults to 1.
      dilation: Positive integer. Distance in frames between the taps of the
        convolution over time. Defaults to 1.
      sub_bands: Positive integer. Number of groups of bins that are normalized
        on their own. Defaults to 5.
      dropout: Float in [0, 1). Share of channels of f1 that is dropped.
        Defaults to 0.1.
      **kwargs: Arguments of `keras.Model`, such as `name`, `dtype` and
        `trainable`.

    Raises:
      ValueError: If an argument is out of range, or `sub_bands` does not divide
        the number of bins.

    Input shape:
      `(batch, time, bins, channels)`.

    Output shape:
      `(batch, time, ceil(bins / strides), num_filters)`.

    Reference: arXiv:2106.04140, section 2.
    """

    def __init__(
        self,
        num_filters: int,
        strides: int = 1,
        dilation: int = 1,
        sub_bands: int = 5,
        dropout: float = 0.1,
        **kwargs: Any,
    ):
        super().__init__(**check_layer_arguments(kwargs))
        self.num_filters = check_size("num_filters", num_filters)
        self.strides = check_size("strides", strides)
        self.dilation = check_size("dilation", dilation)
        self.sub_bands = check_size("sub_bands", sub_bands)
        self.dropout = check_rate("dropout", dropout)
        dtype = self.dtype_policy
        options = {"dtype": dtype, "data_format": "channels_last"}
        self.transition: list[layers.Layer] = []
        self._over_bins = layers.DepthwiseConv2D(
            (1, 3), padding="same", use_bias=False, **options
        )
        self._normalize_bands = SubSpectralNormalization(sub_bands, dtype=dtype)
        self.over_time = [
            layers.DepthwiseConv1D(
                3,
                padding="same",
                dilation_rate=dilation,
                use_bias=False,
                **options,
            ),
            layers.BatchNormalization(dtype=dtype),
            layers.Activation("swish", dtype=dtype),
            layers.Conv1D(num_filters, 1, use_bias=False, **options),
            layers.SpatialDropout1D(dropout, dtype=dtype),
        ]

    def build(self, input_shape: Shape) -> None:
        dtype = self.dtype_policy
        options = {"dtype": dtype, "data_format": "channels_last"}
        shape = tuple(input_shape)
        if shape[-1] != self.num_filters and not self.transition:
            self.transition = [
                layers.Conv2D(self.num_filters, 1, use_bias=False, **options),
                layers.BatchNormalization(dtype=dtype),
                layers.ReLU(dtype=dtype),
            ]
        for layer in self.transition:
            layer.build(shape)
            shape = layer.compute_output_shape(shape)
        self._over_bins.build(shape)
        shape = self.compute_output_shape(shape)
        self._normalize_bands.build(shape)
        shape = (shape[0], shape[1], shape[3])
        for layer in self.over_time:
            layer.build(shape)
            shape = layer.compute_output_shape(shape)
        keep_frozen(self)

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        bands = inputs
        for layer in self.transition:
            bands = layer(bands, training=training)
        # TensorFlow has no depthwise convolution with a stride for one axis.
        bands = self._over_bins(bands)[:, :, :: self.strides]
        bands = self._normalize_bands(bands, training=training)
        mean = ops.mean(bands, axis=2)
        for layer in self.over_time:
            mean = layer(mean, training=training)
        outputs = bands + mean[:, :, None]
        if not self.transition and self.strides == 1:
            outputs = outputs + inputs
        return ops.relu(outputs)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        batch, time, bins, _ = input_shape
        bins = None if bins is None else -(-bins // self.strides)
        return (batch, time, bins, self.num_filters)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_filters": self.num_filters,
            "strides": self.strides,
            "dilation": self.dilation,
            "sub_bands": self.sub_bands,
            "dropout": self.dropout,
        }


@keras.saving.register_keras_serializable("leaf_audio")
class BCResNet(Chain):
    """Encodes a spectrogram with broadcasted residual blocks.

    A convolution 5×5 with stride 2 over bins comes first, then twelve
    `BCResBlock`s in four stages, then a depthwise convolution 5×5 without
    padding over bins, and a convolution 1×1. The number of frames stays as it
    is.

    The number of trainable weights with 12 labels, the output layer included,
    is that of the paper:

    | size | 1 | 1.5 | 2 | 3 | 6 | 8 |
    |---|---|---|---|---|---|---|
    | weights | 9,232 | 17,154 | 27,284 | 54,168 | 187,812 | 321,068 |

    Differs from the release of the paper in the padding of the first
    convolution, which follows Keras' `"same"`.

    Args:
      size: Positive number. Multiplies the number of channels of all layers.
        The paper has 1, 1.5, 2, 3, 6 and 8. Defaults to 2.
      sub_bands: Positive integer. Number of groups of bins that are normalized
        on their own. The bins are halved three times, and `sub_bands` must
        divide their number each time. Defaults to 5, which suits 40, 80 and 120
        bins; 4 suits 64 and 128.
      dropout: Float in [0, 1). Dropout rate of the blocks. Defaults to 0.1.
      **kwargs: Arguments of `keras.Model`, such as `name`, `dtype` and
        `trainable`.

    Raises:
      ValueError: If an argument is out of range, or the number of bins does not
        suit `sub_bands` or is below 33.

    Input shape:
      `(batch, time, bins, channels)`.

    Output shape:
      `(batch, time, ceil(bins / 8) - 4, 32 * size)`.

    Example:

    ```python
    encoder = models.BCResNet(3)
    model = models.AudioClassifier(
        12, frontend.Leaf(), encoder, pooling="average"
    )
    ```

    Reference: arXiv:2106.04140, table 1.
    """

    def __init__(
        self,
        size: float = 2,
        sub_bands: int = 5,
        dropout: float = 0.1,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.size = check_positive("size", size)
        if not 1 <= int(8 * size) <= _MAX_WIDTH:
            raise ValueError(
                "`size` must be a number from 1/8 to "
                f"{_MAX_WIDTH // 8}. Received: size={size!r}."
            )
        self.sub_bands = check_size("sub_bands", sub_bands)
        self.dropout = check_rate("dropout", dropout)
        dtype = self.dtype_policy
        options = {"dtype": dtype, "data_format": "channels_last"}

        def channels(count: int) -> int:
            return int(count * size)

        self.chain = [
            layers.Conv2D(
                channels(16),
                5,
                strides=(1, 2),
                padding="same",
                use_bias=False,
                **options,
            ),
            layers.BatchNormalization(dtype=dtype),
            layers.ReLU(dtype=dtype),
        ]
        for count, width, stride, dilation in _STAGES:
            for i in range(count):
                block = BCResBlock(
                    channels(width),
                    strides=1 if i else stride,
                    dilation=dilation,
                    sub_bands=sub_bands,
                    dropout=dropout,
                    dtype=dtype,
                )
                self.chain.append(block)
        self.chain += [
            # Pads the frames, and not the bins.
            layers.ZeroPadding2D((_LAST_KERNEL // 2, 0), **options),
            layers.DepthwiseConv2D(_LAST_KERNEL, use_bias=False, **options),
            layers.Conv2D(channels(32), 1, use_bias=False, **options),
            layers.BatchNormalization(dtype=dtype),
            layers.ReLU(dtype=dtype),
        ]

    def _check_shape(self, shape: Shape) -> None:
        super()._check_shape(shape)
        bins = shape[2]
        for _ in range(3):
            bins = None if bins is None else -(-bins // 2)
            if bins is None or bins % self.sub_bands or bins < _LAST_KERNEL:
                raise ValueError(
                    "BCResNet needs 33 bins at least, and `sub_bands` must "
                    "divide their number after each halving. Received: "
                    f"sub_bands={self.sub_bands}, inputs of shape "
                    f"{tuple(shape)}."
                )

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "size": self.size,
            "sub_bands": self.sub_bands,
            "dropout": self.dropout,
        }
