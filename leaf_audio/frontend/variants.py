"""Frontends that change the parts of a Leaf: SincNet and relatives."""

from typing import Any

import keras

from leaf_audio import convolution, pooling
from leaf_audio.common.keras_checks import check_dtype
from leaf_audio.common.sizes import wide_dtype
from leaf_audio.frontend.leaf import Leaf
from leaf_audio.initializers import LowpassInit, SincInit
from leaf_audio.postprocessing import PCENLayer

# The arguments of Leaf that make these frontends what they are.
_FIXED = (
    "conv1d_cls",
    "activation",
    "pooling_cls",
    "compression_fn",
    "complex_conv_init",
    "pooling_init",
    "tolerance",
)


@keras.saving.register_keras_serializable("leaf_audio")
class TimeDomainFilterbanks(Leaf):
    """Time-domain filterbanks: free filters that are initialized as Leaf's.

    Waveform → complex convolution with free kernels → squared modulus → one
    learnable lowpass for all filters → max(·, 1e-5) → log(· + 1e-5).

    By default the frames cover the whole input. The original pools without
    padding, which gives 98 frames for one second; `pooling_padding="valid"`
    reproduces that.

    Args:
      sample_rate: Positive number. Sample rate of the waveforms, in Hz.
        Defaults to 16000.
      name: String. Name of the model. Defaults to `"tfbanks"`.
      **kwargs: Other arguments of `Leaf`, except `conv1d_cls`, `activation`,
        `pooling_cls`, `compression_fn`, `complex_conv_init`, `pooling_init` and
        `tolerance`, which this class fixes.

    Raises:
      ValueError: If an argument is out of range or fixed, or if the inputs are
        not floating-point waveforms of one channel.

    Input shape:
      `(batch, time)` or `(batch, time, 1)`; with `multichannel` also
      `(batch, time, channels)`.

    Output shape:
      `(batch, ceil(time / stride), n_filters)`; with `multichannel`
      `(batch, ceil(time / stride), n_filters, channels)`.

    Example:

    ```python
    tfbanks = frontend.TimeDomainFilterbanks(n_filters=40)
    features = tfbanks(waveforms)
    ```

    Reference:
      Learning Filterbanks from Raw Speech for Phone Recognition,
      arXiv:1711.01161, section 2.
    """

    _settled = _FIXED

    def __init__(
        self,
        sample_rate: float = 16000,
        name: str = "tfbanks",
        **kwargs: Any,
    ):
        self._check_not_settled(kwargs)
        super().__init__(
            conv1d_cls=convolution.WaveformConv1D,
            pooling_cls=pooling.LearnablePooling1D,
            pooling_init=LowpassInit(window_type="squared_hanning"),
            compression_fn="log",
            sample_rate=sample_rate,
            name=name,
            **kwargs,
        )


@keras.saving.register_keras_serializable("leaf_audio")
class SincNet(Leaf):
    """SincNet: learnable band-pass filters, rectified and max-pooled.

    Waveform → sinc convolution → leaky ReLU (slope 0.2) → max-pooling →
    max(·, 1e-5) → layer normalization over the filters. A sinc filter has two
    learned parameters, its lower cutoff and its bandwidth.

    The filters follow `sample_rate`. Those of the LEAF release are always
    computed for 16 kHz.

    Args:
      name: String. Name of the model. Defaults to `"sincnet"`.
      learn_pooling: Boolean. Max-pooling has no weights, so this only matters
        with `regularizer_fn`: it must then be False. Defaults to False.
      min_freq: Lower cutoff frequency of the lowest initial filter in Hz, at
        least 50. Defaults to `"auto"`, which is 100 Hz.
      max_freq: Upper cutoff frequency of the highest initial filter in Hz, up
        to half the sample rate, which None and 0 stand for. Defaults to
        `"auto"`, which is half the sample rate.
      **kwargs: Other arguments of `Leaf`, except `conv1d_cls`, `activation`,
        `pooling_cls`, `compression_fn`, `complex_conv_init`, `pooling_init` and
        `tolerance`, which this class fixes.

    Raises:
      ValueError: If an argument is out of range or fixed, or if the inputs are
        not floating-point waveforms of one channel.

    Input shape:
      `(batch, time)` or `(batch, time, 1)`; with `multichannel` also
      `(batch, time, channels)`.

    Output shape:
      `(batch, ceil(time / stride), n_filters)`; with `multichannel`
      `(batch, ceil(time / stride), n_filters, channels)`.

    Example:

    ```python
    sincnet = frontend.SincNet(n_filters=40)
    features = sincnet(waveforms)
    ```

    Reference:
      Speaker Recognition from Raw Waveform with SincNet, arXiv:1808.00158,
      section 2.
    """

    _settled = _FIXED

    def __init__(
        self,
        name: str = "sincnet",
        learn_pooling: bool = False,
        min_freq: float | str = "auto",
        max_freq: float | str | None = "auto",
        **kwargs: Any,
    ):
        self._check_not_settled(kwargs)
        dtype = _internal_dtype_of(kwargs.get("dtype"))
        super().__init__(
            learn_pooling=learn_pooling,
            min_freq=min_freq,
            max_freq=max_freq,
            conv1d_cls=convolution.SincConv1D,
            activation=keras.layers.LeakyReLU(0.2, dtype=dtype),
            pooling_cls=pooling.MaxPooling1D,
            compression_fn=keras.layers.LayerNormalization(
                epsilon=1e-3, dtype=dtype
            ),
            name=name,
            **kwargs,
        )

    def _default_filters(self, conv1d_cls: Any, has_sample_rate: bool) -> Any:
        return _sinc_init(self)


@keras.saving.register_keras_serializable("leaf_audio")
class SincNetPlus(Leaf):
    """SincNet+: SincNet with Leaf's lowpass pooling and a fixed PCEN.

    Waveform → sinc convolution → leaky ReLU (slope 0.2) → Gaussian lowpass
    pooling → max(·, 1e-5) → PCEN. The PCEN has the default settings of
    `PCENLayer`, and none of its parameters is learned.

    Args:
      name: String. Name of the model. Defaults to `"sincnet_plus"`.
      min_freq: Lower cutoff frequency of the lowest initial filter in Hz, at
        least 50. Defaults to `"auto"`, which is 100 Hz.
      max_freq: Upper cutoff frequency of the highest initial filter in Hz, up
        to half the sample rate, which None and 0 stand for. Defaults to
        `"auto"`, which is half the sample rate.
      **kwargs: Other arguments of `Leaf`, except `conv1d_cls`, `activation`,
        `pooling_cls`, `compression_fn`, `complex_conv_init`, `pooling_init` and
        `tolerance`, which this class fixes.

    Raises:
      ValueError: If an argument is out of range or fixed, or if the inputs are
        not floating-point waveforms of one channel.

    Input shape:
      `(batch, time)` or `(batch, time, 1)`; with `multichannel` also
      `(batch, time, channels)`.

    Output shape:
      `(batch, ceil(time / stride), n_filters)`; with `multichannel`
      `(batch, ceil(time / stride), n_filters, channels)`.

    Example:

    ```python
    sincnet_plus = frontend.SincNetPlus(n_filters=40)
    features = sincnet_plus(waveforms)
    ```

    Reference:
      LEAF: A Learnable Frontend for Audio Classification, arXiv:2101.08596,
      section 4.
    """

    _settled = _FIXED

    def __init__(
        self,
        name: str = "sincnet_plus",
        min_freq: float | str = "auto",
        max_freq: float | str | None = "auto",
        **kwargs: Any,
    ):
        self._check_not_settled(kwargs)
        dtype = _internal_dtype_of(kwargs.get("dtype"))
        super().__init__(
            min_freq=min_freq,
            max_freq=max_freq,
            conv1d_cls=convolution.SincConv1D,
            activation=keras.layers.LeakyReLU(0.2, dtype=dtype),
            pooling_cls=pooling.GaussianLowpass,
            compression_fn=PCENLayer(dtype=dtype),
            name=name,
            **kwargs,
        )

    def _default_filters(self, conv1d_cls: Any, has_sample_rate: bool) -> Any:
        return _sinc_init(self)


def _sinc_init(sincnet: Leaf) -> SincInit | None:
    """Returns an initializer for the band of a SincNet, or None without one."""
    band: dict[str, Any] = {
        "min_freq": sincnet.min_freq,
        "max_freq": sincnet.max_freq,
    }
    given = {name: hz for name, hz in band.items() if hz != "auto"}
    return SincInit(**given) if given else None


def _internal_dtype_of(policy: Any) -> str:
    """Returns the dtype that a frontend with this dtype policy computes in."""
    check_dtype("dtype", policy)
    return wide_dtype(keras.dtype_policies.get(policy).variable_dtype)
