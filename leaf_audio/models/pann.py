"""PANN: convolutional encoders of the "pretrained audio neural networks"."""

from typing import Any

import keras
from keras import layers

from leaf_audio.common.checks import (
    check_positive_int,
    check_rate,
    check_size,
    check_sizes,
)
from leaf_audio.models.chain import Chain, Shape

# Of the blocks of a PANN: how many halve time and frequency, the largest number
# of channels, and the largest number of blocks.
_POOLING_BLOCKS = 5
_MAX_FILTERS = 2048
_MAX_DEPTH = 100


@keras.saving.register_keras_serializable("leaf_audio")
class PANNConvBlock(Chain):
    """Applies two 3×3 convolutions, then average-pooling.

    Each convolution has no bias and is followed by batch normalization and
    ReLU. The pooling uses "same" padding: if `pool_size` does not divide the
    number of frames or bins, the last window is shorter than the others.

    Args:
      filters: Positive integer. Number of output channels.
      pool_size: Positive integer, or a pair of them for time and frequency.
        Size of the pooling window, in frames and bins. Defaults to 2.
      **kwargs: Arguments of `keras.Model`, such as `name`, `dtype` and
        `trainable`.

    Raises:
      ValueError: If an argument is out of range.

    Input shape:
      `(batch, time, bins, channels)`.

    Output shape:
      `(batch, ceil(time / pool_size[0]), ceil(bins / pool_size[1]), filters)`.

    Example:

    ```python
    block = models.PANNConvBlock(64, pool_size=(2, 1))
    outputs = block(spectrogram[..., None])
    ```

    Reference:
      PANNs: Large-Scale Pretrained Audio Neural Networks for Audio Pattern
      Recognition, arXiv:1912.10211, appendix A.
    """

    def __init__(
        self,
        filters: int,
        pool_size: int | tuple[int, int] = 2,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.filters = check_size("filters", filters)
        self.pool_size = _check_pair("pool_size", pool_size)
        dtype = self.dtype_policy
        self.chain = []
        for _ in range(2):
            self.chain += [
                layers.Conv2D(
                    filters,
                    3,
                    padding="same",
                    use_bias=False,
                    dtype=dtype,
                    data_format="channels_last",
                ),
                layers.BatchNormalization(dtype=dtype),
                layers.ReLU(dtype=dtype),
            ]
        self.chain.append(
            layers.AveragePooling2D(
                self.pool_size,
                padding="same",
                dtype=dtype,
                data_format="channels_last",
            )
        )

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "filters": self.filters,
            "pool_size": self.pool_size,
        }


@keras.saving.register_keras_serializable("leaf_audio")
class PANN(Chain):
    """Encodes features by normalized bins and blocks of growing width.

    Batch normalization of each frequency bin comes first. Block `i`, counted
    from 0, is a `PANNConvBlock` with `min(64 * 2**i, 2048)` channels. The first
    five blocks halve the number of frames and bins and round up; the others do
    not pool. Dropout follows each block.

    Args:
      depth: Integer from 1 to 100. Number of blocks. Defaults to 6.
      dropout_rate: Float in [0, 1). Dropout rate. Defaults to 0.2.
      **kwargs: Arguments of `keras.Model`, such as `name`, `dtype` and
        `trainable`.

    Raises:
      ValueError: If an argument is out of range, or if the number of bins is
        unknown when the model is built.

    Input shape:
      `(batch, time, bins, channels)`. The number of bins must be known.

    Output shape:
      `(batch, ceil(time / 2**d), ceil(bins / 2**d), channels)`, with
      `d = min(depth, 5)` and `channels = min(64 * 2**(depth - 1), 2048)`.

    Example:

    ```python
    encoder = models.PANN(depth=4, dropout_rate=0.3)
    model = models.AudioClassifier(12, frontend.Leaf(), encoder)
    ```

    Reference:
      PANNs: Large-Scale Pretrained Audio Neural Networks for Audio Pattern
      Recognition, arXiv:1912.10211.
    """

    def __init__(
        self, depth: int = 6, dropout_rate: float = 0.2, **kwargs: Any
    ):
        super().__init__(**kwargs)
        self.depth = check_positive_int("depth", depth, at_most=_MAX_DEPTH)
        self.dropout_rate = check_rate("dropout_rate", dropout_rate)
        dtype = self.dtype_policy
        # Axis 2 is frequency: each bin has its own statistics.
        self.chain = [layers.BatchNormalization(axis=2, dtype=dtype)]
        for i in range(depth):
            self.chain.append(
                PANNConvBlock(
                    filters=min(64 * 2**i, _MAX_FILTERS),
                    pool_size=2 if i < _POOLING_BLOCKS else 1,
                    dtype=dtype,
                )
            )
            if dropout_rate:
                self.chain.append(layers.Dropout(dropout_rate, dtype=dtype))

    def _check_shape(self, shape: Shape) -> None:
        super()._check_shape(shape)
        if shape[2] is None:
            raise ValueError(
                "PANN needs a known number of bins, because it normalizes each "
                f"bin. Received: inputs of shape {tuple(shape)}."
            )

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "depth": self.depth,
            "dropout_rate": self.dropout_rate,
        }


def _check_pair(name: str, value: Any) -> tuple[int, int]:
    if not isinstance(value, (tuple, list)):
        size = check_size(name, value)
        return size, size
    if len(check_sizes(name, value)) != 2:
        raise ValueError(
            f"`{name}` must be a positive integer or a pair of them. "
            f"Received: {name}={value!r}."
        )
    return tuple(value)
