"""WaveGram: a frontend of plain convolutions, from the PANN family.

It belongs to the models and not to the frontends, because it is built from
blocks of the PANN family and does not follow the contract of
`leaf_audio.frontend.base`: it has no window, stride or sample rate to set, and
its features have an axis of channels.
"""

from typing import Any

import keras
from keras import layers

from leaf_audio.common.checks import check_bool, check_size
from leaf_audio.frontend.channels import (
    fold_channels,
    folded_shape,
    is_one_channel,
    one_channel,
    unfold_channels,
    unfolded_shape,
)
from leaf_audio.models.chain import Chain, Shape, Tensor
from leaf_audio.models.pann import PANNConvBlock


@keras.saving.register_keras_serializable("leaf_audio")
class PANNWavBlock(Chain):
    """Applies two convolutions over time, then max-pooling.

    Each convolution has 3 taps and no bias, and is followed by batch
    normalization and ReLU. The second one is dilated by 2. The pooling uses
    "same" padding: if `pool_size` does not divide the number of samples, the
    last window is shorter than the others.

    Args:
      filters: Positive integer. Number of output channels.
      pool_size: Positive integer. Length of the pooling window, in samples of
        the input. Defaults to 4.
      **kwargs: Arguments of `keras.Model`, such as `name`, `dtype` and
        `trainable`.

    Raises:
      ValueError: If an argument is out of range, or if the inputs are not of
        shape `(batch, time, channels)`.

    Input shape:
      `(batch, time, channels)`.

    Output shape:
      `(batch, ceil(time / pool_size), filters)`.

    Example:

    ```python
    block = models.PANNWavBlock(64)
    outputs = block(waveforms[..., None])
    ```

    Reference:
      PANNs: Large-Scale Pretrained Audio Neural Networks for Audio Pattern
      Recognition, arXiv:1912.10211, section III.
    """

    def __init__(self, filters: int, pool_size: int = 4, **kwargs: Any):
        super().__init__(**kwargs)
        self.filters = check_size("filters", filters)
        self.pool_size = check_size("pool_size", pool_size)
        dtype = self.dtype_policy
        self.chain = []
        for dilation_rate in (1, 2):
            self.chain += [
                layers.Conv1D(
                    filters,
                    3,
                    padding="same",
                    dilation_rate=dilation_rate,
                    use_bias=False,
                    dtype=dtype,
                    data_format="channels_last",
                ),
                layers.BatchNormalization(dtype=dtype),
                layers.ReLU(dtype=dtype),
            ]
        self.chain.append(
            layers.MaxPooling1D(
                pool_size,
                padding="same",
                dtype=dtype,
                data_format="channels_last",
            )
        )

    def _check_shape(self, shape: Shape) -> None:
        if len(shape) != 3:
            raise ValueError(
                "PANNWavBlock takes inputs of shape (batch, time, channels). "
                f"Received: inputs of shape {tuple(shape)}."
            )

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "filters": self.filters,
            "pool_size": self.pool_size,
        }


@keras.saving.register_keras_serializable("leaf_audio")
class WaveGram(Chain):
    """Learns a time-frequency representation with plain convolutions.

    The layers are a convolution with 64 filters of 11 samples and stride 5,
    three `PANNWavBlock` with 64, 128 and 128 filters, and a `PANNConvBlock`
    whose 64 output channels become the frequency axis. There is one frame for
    every 640 samples. Unlike the other frontends, a WaveGram returns a channel
    axis, so it can be joined to a 2-D encoder directly.

    Args:
      multichannel: Boolean. Whether waveforms may have any number of channels.
        Every channel goes through the same convolutions. Defaults to False,
        for waveforms of one channel.
      **kwargs: Arguments of `keras.Model`, such as `name`, `dtype` and
        `trainable`.

    Raises:
      ValueError: If an argument is out of range, or if the inputs are not
        waveforms of one channel and `multichannel` is False.

    Input shape:
      `(batch, time)` or `(batch, time, 1)`; with `multichannel` also
      `(batch, time, channels)`.

    Output shape:
      `(batch, ceil(time / 640), 64, 1)`; with `multichannel`
      `(batch, ceil(time / 640), 64, channels)`.

    Example:

    ```python
    model = models.AudioClassifier(12, models.WaveGram(), models.PANN(4))
    ```

    Reference:
      PANNs: Large-Scale Pretrained Audio Neural Networks for Audio Pattern
      Recognition, arXiv:1912.10211, section III.
    """

    def __init__(self, multichannel: bool = False, **kwargs: Any):
        super().__init__(**kwargs)
        self.multichannel = check_bool("multichannel", multichannel)
        dtype = self.dtype_policy
        self.chain = [
            layers.Reshape((-1, 1), dtype=dtype),
            layers.Conv1D(
                64,
                11,
                strides=5,
                padding="same",
                use_bias=False,
                dtype=dtype,
                data_format="channels_last",
            ),
            layers.BatchNormalization(dtype=dtype),
            layers.ReLU(dtype=dtype),
            *(PANNWavBlock(n, 4, dtype=dtype) for n in (64, 128, 128)),
            layers.Reshape((-1, 1, 128), dtype=dtype),
            PANNConvBlock(64, (2, 1), dtype=dtype),
            layers.Permute((1, 3, 2), dtype=dtype),
        ]

    def _check_shape(self, shape: Shape) -> None:
        is_waveform = len(shape) in (2, 3)
        if is_waveform and not self.multichannel:
            is_waveform = is_one_channel(shape)
        if not is_waveform:
            raise ValueError(
                "WaveGram takes waveforms of shape (batch, time) or (batch, "
                "time, 1), and with multichannel=True (batch, time, channels). "
                f"Received: inputs of shape {tuple(shape)}."
            )

    def build(self, input_shape: Shape) -> None:
        self._check_shape(input_shape)
        super().build(folded_shape(input_shape))

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        self._check_shape(inputs.shape)
        if not self.multichannel:
            return super().call(one_channel(inputs), training=training)
        if len(inputs.shape) == 2:
            inputs = inputs[..., None]
        outputs = super().call(fold_channels(inputs), training=training)
        return unfold_channels(outputs, inputs)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        self._check_shape(input_shape)
        if not self.multichannel:
            input_shape = input_shape[:2]
        shape = super().compute_output_shape(folded_shape(input_shape))
        return unfolded_shape(shape, input_shape)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "multichannel": self.multichannel}
