"""SincConv1D: band-pass filters made of two cutoff frequencies.

Conventions: cutoff frequencies in Hz, lengths in samples. A filter is scaled so
that its largest sample is 1, and windowed after that.
"""

from typing import Any

import keras
from keras import ops

from leaf_audio import impulse_responses
from leaf_audio.common.checks import check_not_negative, check_positive
from leaf_audio.convolution.base import (
    ParametricConv1D,
    Shape,
    Tensor,
    check_one_channel,
)
from leaf_audio.initializers import SincInit


@keras.saving.register_keras_serializable("leaf_audio")
class SincConv1D(ParametricConv1D):
    """Convolves a waveform with learnable band-pass filters.

    Each filter is the difference of two ideal low-pass filters with the cutoff
    frequencies f₁ and f₂ in Hz, where t is in seconds and sinc(x) = sin(x) / x:

        h(t) = 2 f₂ sinc(2π f₂ t) − 2 f₁ sinc(2π f₁ t)

    It is divided by its maximum and multiplied by a periodic Hamming window.
    The filter of an empty band, where f₁ = f₂, is all zeros.

    The weight `kernel` has the shape `(filters // 2, 2)` and holds two numbers
    k₀ and k₁ in Hz for each filter. The cutoff frequencies follow from them:

        f₁ = min_low_hz + |k₀|
        f₂ = min(f₁ + min_band_hz + |k₁|, sample_rate / 2)

    An optimizer such as Adam moves a weight by about its learning rate in each
    step, here by thousandths of a hertz. The trainer gives this weight a rate
    of its own (`leaf_audio.training.optimizers.frontend_rate`).

    Differs from the original, which computes the filters for 16 kHz whatever
    the sample rate is.

    Args:
      filters: Integer, even. Twice the number of filters. The filters are real,
        so the number of output channels is `filters // 2`. The factor of 2 lets
        a frontend pass the same number to this layer as to GaborConv1D.
      kernel_size: Integer. Length of the filters, in samples.
      strides: Integer. Hop between outputs, in samples. Defaults to 1.
      padding: `"same"` or `"valid"`. Defaults to `"same"`.
      use_bias: Boolean. Whether to add a bias to each channel. Defaults to
        False.
      kernel_initializer: Initializer of the weight. Defaults to None, which
        stands for `SincInit(sample_rate, min_low_hz, min_band_hz)`.
      kernel_regularizer: Regularizer of the weight. Defaults to None.
      sample_rate: Sample rate of the inputs, in Hz. Defaults to 16000.
      min_low_hz: Lowest possible value of f₁ in Hz, at least 0. Defaults to 50.
      min_band_hz: Smallest possible value of f₂ − f₁ in Hz, at least 0.
        `min_low_hz + min_band_hz` must be less than `sample_rate / 2`. Defaults
        to 50.
      **kwargs: Arguments of `keras.layers.Layer`, such as `name`, `dtype` and
        `trainable`.

    Raises:
      ValueError: An argument is out of range, or the input has several
        channels.

    Input shape:
      `(batch, time, 1)`.

    Output shape:
      `(batch, frames, filters // 2)`, where `frames` is `ceil(time / strides)`
      with `"same"` padding.

    Example:

    ```python
    layer = convolution.SincConv1D(filters=80, kernel_size=401)
    bands = layer(audio[..., None])  # (batch, time, 40)
    ```

    Reference:
      SincNet, arXiv:1808.00158, section 2.
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
        sample_rate: float = 16000,
        min_low_hz: float = 50.0,
        min_band_hz: float = 50.0,
        **kwargs: Any,
    ):
        self.sample_rate = check_positive("sample_rate", sample_rate)
        self.min_low_hz = check_not_negative("min_low_hz", min_low_hz)
        self.min_band_hz = check_not_negative("min_band_hz", min_band_hz)
        if kernel_initializer is None:
            kernel_initializer = SincInit(sample_rate, min_low_hz, min_band_hz)
        if min_low_hz + min_band_hz >= sample_rate / 2:
            raise ValueError(
                "`min_low_hz + min_band_hz` must be less than half of the "
                f"sample rate. Received: min_low_hz={min_low_hz}, "
                f"min_band_hz={min_band_hz}, sample_rate={sample_rate}."
            )
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
        self._num_bands = self._half_of_filters()

    def build(self, input_shape: Shape) -> None:
        check_one_channel(self, input_shape)
        self.kernel = self._add_kernel((self._num_bands, 2))
        self.bias = self._add_bias(self._num_bands)

    def _edges_hz(self) -> tuple[Tensor, Tensor]:
        kernel = ops.abs(ops.convert_to_tensor(self.kernel))
        low_hz = self.min_low_hz + kernel[:, 0]
        high_hz = low_hz + self.min_band_hz + kernel[:, 1]
        # SincInit sets the last edge to the Nyquist frequency itself. There,
        # the gradient of `minimum` differs between backends. `where` passes the
        # full gradient on all of them.
        nyquist = self.sample_rate / 2
        high_hz = ops.where(
            high_hz <= nyquist, high_hz, ops.full_like(high_hz, nyquist)
        )
        return low_hz, high_hz

    def bands_hz(self, sample_rate: float) -> tuple[Tensor, Tensor]:
        """Returns the centre frequencies and the bandwidths of the filters.

        The centre lies midway between the cutoff frequencies. The bandwidth is
        their distance.

        Args:
          sample_rate: Sample rate of the inputs, in Hz.

        Returns:
          The centre frequencies and the bandwidths in Hz, two tensors of shape
          `(filters // 2,)`.
        """
        low_hz, high_hz = self._edges_hz()
        # The filters are made for the layer's own sample rate. At another rate
        # their frequencies scale with it.
        scale = sample_rate / self.sample_rate
        return (low_hz + high_hz) / 2 * scale, (high_hz - low_hz) * scale

    def impulse_responses(self) -> Tensor:
        """Returns the impulse responses of the windowed filters.

        Returns:
          A tensor of shape `(kernel_size, filters // 2)`.
        """
        low_hz, high_hz = self._edges_hz()
        bands = impulse_responses.sinc_filters(
            low_hz, high_hz, self.kernel_size, self.sample_rate
        )
        window = impulse_responses.window("hamming", self.kernel_size)
        return bands * ops.cast(window[:, None], bands.dtype)

    def call(self, inputs: Tensor) -> Tensor:
        kernel = ops.expand_dims(self.impulse_responses(), axis=1)
        return self._convolve(inputs, kernel, self.bias)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return self._output_shape(input_shape, self._num_bands)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "sample_rate": self.sample_rate,
            "min_low_hz": self.min_low_hz,
            "min_band_hz": self.min_band_hz,
        }
