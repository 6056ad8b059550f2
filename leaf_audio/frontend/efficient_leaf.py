"""EfficientLEAF, an approximation of LEAF at a fraction of its cost."""

from typing import Any

import keras
from keras import ops

from leaf_audio.common.checks import (
    check_bool,
    check_not_negative,
    check_positive,
    check_positive_int,
)
from leaf_audio.common.serialization import serialize
from leaf_audio.common.sizes import output_length
from leaf_audio.convolution import GaborConv1D
from leaf_audio.convolution.gabor import GaborConstraint
from leaf_audio.frontend.base import ENERGY_FLOOR, Shape, Tensor, build_in_turn
from leaf_audio.frontend.channels import folded_shape
from leaf_audio.frontend.grouped_filterbank import GroupedFilterbank, odd
from leaf_audio.frontend.planned import PlannedFrontend
from leaf_audio.initializers import GaborInit
from leaf_audio.initializers.mel import DEFAULT_MIN_FREQ
from leaf_audio.pooling import GaussianLowpass
from leaf_audio.postprocessing import LogTBN, PCENLayer

# The least deviation is that of a kernel so long, in samples.
_MIN_SIZE = 2


@keras.saving.register_keras_serializable("leaf_audio")
class EfficientLeaf(PlannedFrontend):
    """EfficientLEAF: LEAF with filters in groups, and strided convolutions.

    Waveform → complex Gabor convolution → squared modulus → Gaussian lowpass
    pooling → compression [→ SpecAugment, in training]. Filters of neighbouring
    centre frequencies form a group. With σ and η the largest deviation and
    centre frequency of a group, its filters are `σ · conv_win_factor` samples
    long, rounded down and made odd, and its energies are as many samples apart
    as the largest divisor of the stride that is at most
    `max(1, stride_factor · π / η)`.

    Differs from the published system in that lengths, hops and groups are a
    static plan. It is made for the weights when the frontend is built, and kept
    with them. Called eagerly, an EfficientLeaf plans for its weights of then,
    as published; what was compiled, such as `fit` and `predict`, keeps to the
    plan of then, until `replan` or the callback `callbacks.Replan` makes
    another and it is compiled anew. Groups are formed by centre frequency also
    where training has changed the filters' order, and outputs keep that of the
    weights. `planned_for` holds centre frequencies in rad/sample and deviations
    in samples.

    Args:
      n_filters: number of filters.
      num_groups: number of groups, at most `n_filters`.
      conv_win_factor: length of the filters, over the largest deviation.
      stride_factor: hop, over half the period of the highest centre frequency.
        The published "8G-opt" has 8 groups, a `conv_win_factor` of 6 and a
        `stride_factor` of 16.
      sample_rate: of the waveforms, in Hz.
      window_len: in ms; length of the pooling windows, made odd in samples.
      window_stride: in ms; one frame every so often.
      compression_fn: a layer or a function on energies; a name, `"logtbn"` (of
        LogTBN's defaults, which append a channel), `"pcen"` (as in Leaf),
        `"log"` or `"db"`; None for none. A layer is copied.
      energy_floor: energies below count as this. None is 1e-5 ahead of
        PCENLayer, and 0 otherwise, as published.
      complex_conv_init: initializer of centre frequencies and deviations; None
        is GaborInit by method `"mel_analytic"`, from 60 Hz to 97.5 % of
        Nyquist, 7800 Hz at 16 kHz.
      pooling_init: initializer of the pooling widths, as a share of half the
        window; None is 0.4.
      learn_filters: whether the filters are learned.
      learn_pooling: whether the pooling widths are learned.
      spec_augment: True, or a layer such as SpecAugment(), which is copied.
      multichannel: whether to take waveforms of any number of channels, with
        the same filters for each, and to give features a channel axis.
      name: of the model.
      **kwargs: of keras.Model, such as `dtype`, `trainable`.

    Raises:
      ValueError: an argument is out of range, or inputs are not floating-point
        waveforms of one channel.

    Input shape:
      `(batch, time)` or `(batch, time, 1)`; with `multichannel` also
      `(batch, time, channels)`.

    Output shape:
      `(batch, ceil(time / stride), n_filters)`; `(batch, ceil(time / stride),
      n_filters, 2)` where the compression appends a channel, as `"logtbn"`
      does; with `multichannel` `(batch, ceil(time / stride), n_filters,
      channels)`, or twice as many channels, two for each. Frame m is centred
      on sample `m * stride`.

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

    Reference: EfficientLEAF, arXiv:2207.05508.
    """

    _compressions = ("logtbn", *PlannedFrontend._compressions)

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
        name: str = "efficient_leaf",
        **kwargs: Any,
    ):
        super().__init__(
            n_filters,
            sample_rate,
            window_len,
            window_stride,
            compression_fn,
            spec_augment,
            multichannel=multichannel,
            name=name,
            **kwargs,
        )
        self.num_groups = check_positive_int("num_groups", num_groups)
        if num_groups > n_filters:
            raise ValueError(
                "`num_groups` must be at most `n_filters`. Received: "
                f"num_groups={num_groups}, n_filters={n_filters}."
            )
        self.conv_win_factor = check_positive(
            "conv_win_factor", conv_win_factor
        )
        self.stride_factor = check_positive("stride_factor", stride_factor)
        self.energy_floor = energy_floor
        if energy_floor is not None:
            self._energy_floor = check_not_negative(
                "energy_floor", energy_floor
            )
        elif isinstance(self._compression, PCENLayer):
            self._energy_floor = ENERGY_FLOOR
        else:
            self._energy_floor = 0.0
        self.complex_conv_init = keras.initializers.get(complex_conv_init)
        self.pooling_init = keras.initializers.get(pooling_init)
        self.learn_filters = check_bool("learn_filters", learn_filters)
        self.learn_pooling = check_bool("learn_pooling", learn_pooling)

        # Not LEAF's: rounded down, then made odd.
        self._window_size = odd(int(sample_rate * window_len // 1000))
        self._complex_conv = GaborConv1D(
            filters=2 * n_filters,
            kernel_size=self._window_size,
            kernel_initializer=self._filters_init(),
            kernel_constraint=GaborConstraint(self._window_size, _MIN_SIZE),
            name="complex_conv",
            trainable=learn_filters,
            dtype=self._wide,
        )
        self._pooling = GaussianLowpass(
            kernel_size=self._window_size,
            strides=self._stride,
            kernel_initializer=self._following(self.pooling_init),
            name="learnable_pooling",
            trainable=learn_pooling,
            dtype=self._wide,
        )
        self._filterbank = GroupedFilterbank(
            self._complex_conv,
            self._pooling,
            num_groups,
            conv_win_factor,
            stride_factor,
        )

    def _named_compression(self, name: str) -> Any:
        if name == "logtbn":
            return LogTBN(dtype=self._wide)
        return super()._named_compression(name)

    def _filters_init(self) -> Any:
        init = self.complex_conv_init
        if init is None:
            init = GaborInit(
                min_freq=DEFAULT_MIN_FREQ,
                max_freq="auto",
                method="mel_analytic",
            )
        return self._following(init)

    def build(self, input_shape: Shape) -> None:
        self._check_inputs(input_shape)
        folded = folded_shape(input_shape)
        shape = self._energies_shape(*folded[:2])
        build_in_turn([self._complex_conv], folded)
        build_in_turn([self._pooling], (*folded[:2], self.n_filters))
        build_in_turn([self._compression], shape)
        self._end_build(input_shape)
        self._filterbank.plan_initial_weights()

    def _features(
        self, audio: Tensor, mask: Tensor | None, training: bool | None
    ) -> Tensor:
        energies = self._filterbank(audio, mask)
        if self._energy_floor:
            energies = ops.maximum(energies, self._energy_floor)
        frame_mask = self.compute_mask(audio, mask)
        return self._compress(energies, frame_mask, training)

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
