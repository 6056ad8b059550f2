"""EfficientLeaf, a cheaper relative of Leaf that strides its convolutions."""

from typing import Any

import keras

from leaf_audio.common.checks import (
    check_bool,
    check_not_negative,
    check_positive,
    check_positive_int,
)
from leaf_audio.common.framing import clip_lengths
from leaf_audio.common.keras_checks import check_initializer
from leaf_audio.common.serialization import serialize
from leaf_audio.common.sizes import output_length
from leaf_audio.convolution import GaborConv1D
from leaf_audio.convolution.gabor import GaborConstraint
from leaf_audio.frontend.base import ENERGY_FLOOR, Shape, Tensor
from leaf_audio.frontend.channels import folded_shape
from leaf_audio.frontend.grouped_filterbank import (
    GroupedFilterbank,
    round_up_to_odd,
)
from leaf_audio.frontend.layer_calls import build_chain
from leaf_audio.frontend.planned import PlannedFrontend
from leaf_audio.frontend.streaming import Reach
from leaf_audio.initializers import GaborInit
from leaf_audio.pooling import GaussianLowpass
from leaf_audio.postprocessing import LogTBN, PCENLayer

# The lower bound of the standard deviations is that of a kernel with this many
# samples.
_MIN_SIZE = 2

# A Gaussian is 0 in float32 from 14 standard deviations on.
_MAX_WIN_FACTOR = 100


@keras.saving.register_keras_serializable("leaf_audio")
class EfficientLeaf(PlannedFrontend):
    """EfficientLEAF: LEAF with filters in groups and strided convolutions.

    Waveform → complex Gabor convolution → squared modulus → Gaussian lowpass
    pooling → compression → SpecAugment (optional, in training only).

    Filters with neighbouring centre frequencies form a group. Let σ be the
    largest standard deviation and η the highest centre frequency of a group.
    Its filters have `σ * conv_win_factor` samples, rounded down and made odd.
    Its energies are computed with a hop: the largest divisor of the stride that
    is at most `max(1, stride_factor * π / η)`.

    In the published system, groups, lengths and hops follow the weights in
    every step. Here a plan holds them. It is made for the weights when the
    frontend is built, and saved with them. An EfficientLeaf that is called
    eagerly makes a new plan whenever the weights ask for one. A compiled
    function, such as those of `fit` and `predict`, keeps to its plan until
    `replan` or the callback `callbacks.Replan` makes a new one and it is
    compiled again. Groups follow the order of the centre frequencies, even if
    training has changed it; outputs keep the order of the weights.
    `planned_for` has a column each for the centre frequency in rad/sample and
    the standard deviation in samples.

    Args:
      n_filters: Positive integer. Number of filters. Defaults to 40.
      num_groups: Positive integer, at most `n_filters`. Number of groups.
        Defaults to 4.
      conv_win_factor: Positive number up to 100. Length of the filters of a
        group, divided by the largest standard deviation in it. Defaults to
        4.77.
      stride_factor: Positive number. Largest hop of a group, divided by half
        the period of its highest centre frequency. Defaults to 1.0. The
        published variant "8G-opt" has `num_groups=8`, `conv_win_factor=6.0` and
        `stride_factor=16.0`.
      sample_rate: Positive number. Sample rate of the waveforms, in Hz.
        Defaults to 16000.
      window_len: Positive number. Length of the pooling windows, in
        milliseconds. In samples it is made odd. Defaults to 25.0.
      window_stride: Positive number. Hop between frames, in milliseconds.
        Defaults to 10.0.
      compression_fn: Layer or function that is applied to the energies, or one
        of the names `"logtbn"`, `"pcen"`, `"log"` and `"db"`, or None for no
        compression. `"logtbn"` is `LogTBN()`, which returns two channels.
        `"pcen"` is the PCENLayer of `Leaf`. A layer is copied. Defaults to
        `"logtbn"`.
      energy_floor: Number that is not negative. Smaller energies are replaced
        by it. Defaults to None, which is 1e-5 before a PCENLayer, and 0
        otherwise, as published.
      complex_conv_init: Initializer of the centre frequencies and standard
        deviations. It sets their band, and must not be given together with
        `min_freq` and `max_freq`. Defaults to None, which is `GaborInit` with
        method `"mel_analytic"` from `min_freq` to `max_freq`.
      pooling_init: Initializer of the pooling widths, as a fraction of half the
        window. Defaults to None, which is 0.4.
      learn_filters: Boolean. Whether the filters are learned. Defaults to True.
      learn_pooling: Boolean. Whether the pooling widths are learned. Defaults
        to True.
      spec_augment: Boolean or layer. True augments features in training by
        `SpecAugment()`. A layer is copied. Defaults to False.
      multichannel: Boolean. Whether waveforms may have any number of channels.
        The filters are the same for each. Features then have an axis of
        channels. Defaults to False.
      min_freq: Lower edge of the lowest initial filter in Hz, at least 0. Or
        `"auto"`: 60 Hz, or what `complex_conv_init` says. Defaults to `"auto"`.
      max_freq: Upper edge of the highest initial filter in Hz, up to half the
        sample rate. None and 0 are half the sample rate. Or `"auto"`: 97.5 % of
        that, which is 7800 Hz at 16 kHz, or what `complex_conv_init` says.
        Defaults to `"auto"`.
      name: String. Name of the model. Defaults to `"efficient_leaf"`.
      **kwargs: Arguments of `keras.Model`, such as `dtype` and `trainable`.

    Raises:
      ValueError: If an argument is out of range, or if the inputs are not
        floating-point waveforms of one channel.

    Input shape:
      `(batch, time)` or `(batch, time, 1)`; with `multichannel` also
      `(batch, time, channels)`.

    Output shape:
      `(batch, ceil(time / stride), n_filters)`; with `multichannel`
      `(batch, ceil(time / stride), n_filters, channels)`. A compression that
      returns two channels, such as `"logtbn"`, gives
      `(batch, ceil(time / stride), n_filters, 2)`; with `multichannel` twice
      as many channels as the waveforms have. Frame m is centred on sample
      `m * stride`.

    Example:

    ```python
    model = models.AudioClassifier(
        num_outputs=12,
        frontend=frontend.EfficientLeaf(
            num_groups=8, conv_win_factor=6.0, stride_factor=16.0
        ),
        encoder=models.ConvNet([64, 128, 256]),
    )
    ```

    Reference:
      EfficientLEAF: A Faster LEarnable Audio Frontend of Questionable Use,
      arXiv:2207.05508.
    """

    _compression_names = ("logtbn", *PlannedFrontend._compression_names)

    def __init__(
        self,
        n_filters: int = 40,
        num_groups: int = 4,
        conv_win_factor: float = 4.77,
        stride_factor: float = 1.0,
        sample_rate: float = 16000,
        window_len: float = 25.0,
        window_stride: float = 10.0,
        compression_fn: Any = "logtbn",
        energy_floor: float | None = None,
        complex_conv_init: Any = None,
        pooling_init: Any = None,
        learn_filters: bool = True,
        learn_pooling: bool = True,
        spec_augment: Any = False,
        multichannel: bool = False,
        min_freq: float | str = "auto",
        max_freq: float | str | None = "auto",
        name: str = "efficient_leaf",
        **kwargs: Any,
    ):
        super().__init__(
            n_filters=n_filters,
            sample_rate=sample_rate,
            window_len=window_len,
            window_stride=window_stride,
            compression_fn=compression_fn,
            spec_augment=spec_augment,
            multichannel=multichannel,
            min_freq=min_freq,
            max_freq=max_freq,
            name=name,
            **kwargs,
        )
        self.num_groups = check_positive_int("num_groups", num_groups)
        if num_groups > n_filters:
            raise ValueError(
                "`num_groups` must be at most `n_filters`. Received: "
                f"num_groups={num_groups}, n_filters={n_filters}."
            )
        self.conv_win_factor = _check_win_factor(conv_win_factor)
        self.stride_factor = check_positive("stride_factor", stride_factor)
        self.energy_floor = energy_floor
        if energy_floor is not None:
            self._energy_floor = check_not_negative(
                "energy_floor", energy_floor
            )
        elif isinstance(self._compression, PCENLayer):
            self._energy_floor = ENERGY_FLOOR
        self._check_band_is_free("complex_conv_init", complex_conv_init)
        self.complex_conv_init = check_initializer(
            "complex_conv_init", complex_conv_init
        )
        self.pooling_init = check_initializer("pooling_init", pooling_init)
        self.learn_filters = check_bool("learn_filters", learn_filters)
        self.learn_pooling = check_bool("learn_pooling", learn_pooling)

        # Unlike LEAF's window, this one is rounded down and then made odd.
        self._window_size = round_up_to_odd(
            int(sample_rate * window_len // 1000)
        )
        self._complex_conv = GaborConv1D(
            filters=2 * n_filters,
            kernel_size=self._window_size,
            kernel_initializer=self._filters_init(),
            kernel_constraint=GaborConstraint(self._window_size, _MIN_SIZE),
            name="complex_conv",
            trainable=learn_filters,
            dtype=self._internal_dtype,
        )
        self._pooling = GaussianLowpass(
            kernel_size=self._window_size,
            strides=self._stride,
            kernel_initializer=self._complete_initializer(self.pooling_init),
            name="learnable_pooling",
            trainable=learn_pooling,
            dtype=self._internal_dtype,
        )
        self._filterbank = GroupedFilterbank(
            convolve=self._complex_conv,
            pool=self._pooling,
            num_groups=num_groups,
            conv_win_factor=conv_win_factor,
            stride_factor=stride_factor,
        )

    def _named_compression(self, name: str) -> Any:
        if name == "logtbn":
            return LogTBN(dtype=self._internal_dtype)
        return super()._named_compression(name)

    def _filters_init(self) -> Any:
        init = self.complex_conv_init
        if init is None:
            init = GaborInit(
                min_freq=self._band()[0],
                max_freq=self.max_freq,
                method="mel_analytic",
            )
        return self._complete_initializer(init)

    def build(self, input_shape: Shape) -> None:
        self._check_inputs(input_shape)
        folded = folded_shape(input_shape)
        shape = self._energies_shape(*folded[:2])
        build_chain([self._complex_conv], folded)
        build_chain([self._pooling], (*folded[:2], self.n_filters))
        build_chain([self._compression], shape)
        self._finish_build(input_shape)
        self._filterbank.plan_initial_weights()

    def _compute_energies(self, audio: Tensor, mask: Tensor | None) -> Tensor:
        lengths = None if mask is None else clip_lengths(mask)
        return self._filterbank(audio, lengths)

    def _reach(self, length: int | None) -> Reach:
        return Reach(*map(max, zip(*self._filterbank.reaches(), strict=True)))

    def filter_layer(self) -> keras.layers.Layer:
        return self._complex_conv

    def _energies_shape(self, batch: int | None, time: int | None) -> Shape:
        frames = output_length(time, self._window_size, self._stride, "same")
        return (batch, frames, self.n_filters)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_groups": self.num_groups,
            "conv_win_factor": self.conv_win_factor,
            "stride_factor": self.stride_factor,
            "energy_floor": self.energy_floor,
            "complex_conv_init": serialize(self.complex_conv_init),
            "pooling_init": serialize(self.pooling_init),
            "learn_filters": self.learn_filters,
            "learn_pooling": self.learn_pooling,
        }


def _check_win_factor(value: Any) -> float:
    if check_positive("conv_win_factor", value) > _MAX_WIN_FACTOR:
        raise ValueError(
            f"`conv_win_factor` must be at most {_MAX_WIN_FACTOR}. Received: "
            f"conv_win_factor={value!r}."
        )
    return value
