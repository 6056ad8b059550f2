"""Frontends: from waveforms to learnable or fixed spectrograms.

What they have in common is told in `base_frontend`.
"""

import inspect
from typing import Any

import keras
from keras import ops

from leaf_audio import convolution, pooling
from leaf_audio.common.checks import (
    check_bool,
    check_choice,
    check_not_negative,
    check_unbound,
)
from leaf_audio.common.serialization import clone_layer, serialize
from leaf_audio.common.sizes import output_length, wide_dtype
from leaf_audio.fast.filterbank import PlannedFilterbank, can_be_planned
from leaf_audio.frontend.base import (
    ENERGY_FLOOR,
    as_callable,
    build_in_turn,
    shape_after,
    takes_argument,
    zero_where_masked,
)
from leaf_audio.frontend.channels import folded_shape
from leaf_audio.frontend.efficient_leaf import EfficientLeaf
from leaf_audio.frontend.planned import PlannedFrontend
from leaf_audio.frontend.spectrogram import MelFilterbanks, Spectrogram
from leaf_audio.initializers import GaborInit, LowpassInit, PreempInit, mel
from leaf_audio.postprocessing import (
    InstanceNormalization,
    PCENLayer,
    db_compression,
    log_compression,
)

__all__ = [
    "EfficientLeaf",
    "Leaf",
    "MelFilterbanks",
    "SincNet",
    "SincNetPlus",
    "Spectrogram",
    "SquaredModulus",
    "TimeDomainFilterbanks",
    "db_compression",
    "log_compression",
]

Tensor = Any
Shape = tuple[int | None, ...]

# README, "Leaf by plan", has what it costs and what it gains.
_DEFAULT_TOLERANCE = 2.5e-3


@keras.saving.register_keras_serializable("leaf_audio")
class SquaredModulus(keras.layers.Layer):
    """Computes the energy of complex channels, `Re² + Im²`.

    Args:
      **kwargs: of keras.layers.Layer.

    Raises:
      ValueError: the number of channels is odd.

    Input shape:
      `(batch, time, 2 * channels)`: channel 2n real, 2n + 1 imaginary.

    Output shape:
      `(batch, time, channels)`.
    """

    def call(self, inputs: Tensor) -> Tensor:
        channels = self.compute_output_shape(inputs.shape)[-1]
        shape = (*ops.shape(inputs)[:-1], channels, 2)
        return ops.sum(ops.square(ops.reshape(inputs, shape)), axis=-1)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        if input_shape[-1] % 2:
            raise ValueError(
                "SquaredModulus takes an even number of channels, a real and "
                "an imaginary one each. Received: input shape "
                f"{tuple(input_shape)}."
            )
        return (*input_shape[:-1], input_shape[-1] // 2)


@keras.saving.register_keras_serializable("leaf_audio")
class Leaf(PlannedFrontend):
    """LEAF, a learnable frontend that starts as a mel filterbank.

    Waveform → [pre-emphasis →] complex Gabor convolution → squared modulus →
    Gaussian lowpass pooling → max(·, 1e-5) → compression [→ normalisation]
    [→ SpecAugment, in training]. Each part can be replaced. Differs from the
    original in that the initial filters follow `sample_rate` and `window_len`,
    that no two frontends share a layer, and that sizes are checked.

    Args:
      learn_pooling: whether the pooling is learned.
      learn_filters: whether the filters, and the pre-emphasis, are learned.
      conv1d_cls: class of the convolution, called with the arguments of
        `convolution.GaborConv1D`, also with `sample_rate` if it takes that; or
        a layer, which is copied, and has an initializer and a regularizer of
        its own. None is GaborConv1D.
      activation: a layer, a function or the name of one in keras.activations,
        on the convolution's output; None is SquaredModulus.
      pooling_cls: class of the pooling, called with the arguments of
        `pooling.GaussianLowpass`; or a layer, likewise. None is
        GaussianLowpass.
      n_filters: number of filters.
      sample_rate: of the waveforms, in Hz.
      window_len: in ms; length of the filters and of the pooling windows.
      window_stride: in ms; one frame every so often.
      compression_fn: a layer or a function on energies; a name, `"pcen"`,
        `"log"` or `"db"`; None for none. `"pcen"` is a PCENLayer with alpha
        0.96, smooth_coef 0.04, delta 2, root 2, floor 1e-12, all of them
        learned, one smoothing a channel. A layer is copied.
      preemp: whether to start with a pre-emphasis.
      preemp_init: initializer of the pre-emphasis; None is PreempInit().
      complex_conv_init: initializer of the filters; None is mel from 60 Hz to
        97.5 % of Nyquist, 7800 Hz at 16 kHz, or the convolution's own where
        that takes a `sample_rate`.
      pooling_init: initializer of the pooling; None is the pooling's own.
      pooling_padding: `"same"`, or `"valid"` for frames that lie wholly within
        the input, `ceil((time - window + 1) / stride)` of them.
      regularizer_fn: of the filters and the pooling, where they are learned.
      mean_var_norm: whether to bring every example's channels to mean 0 and
        variance 1 over time, with learnable scale and offset.
      spec_augment: True, or a layer such as SpecAugment(), which is copied.
      tolerance: relative error that the energies may have, root mean square
        over the filters, as predicted for noise whose neighbouring bands are
        louder; 0 computes them exactly, sample by sample, at several times the
        cost. README, "Leaf by plan", has what it comes to on speech. None is
        0.0025, and 0 where `conv1d_cls`, `activation` or `pooling_cls` are
        others than the default ones, to which alone it applies. Inputs with a
        mask are computed exactly.
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
      `(batch, ceil(time / stride), n_filters)`; with `multichannel`
      `(batch, ceil(time / stride), n_filters, channels)`.

    With a tolerance, the energies are computed by a plan (`planning`) that is
    made for the filters when the layer is built, and kept with the weights.
    Filters that training, or weights from elsewhere, have moved too far for it
    are computed exactly, hence slowly, by what was compiled before, such as
    `fit` and `predict`, until `replan` or the callback `callbacks.Replan` makes
    another and it is compiled anew. Called eagerly, a Leaf plans by itself.
    `planned_for` holds standard deviations in samples, pooling widths as a
    share of half the window, and centre frequencies in rad/sample.

    Example:

    ```python
    leaf = frontend.Leaf(n_filters=64, sample_rate=24000, preemp=True)
    features = leaf(waveforms)
    ```

    Reference: LEAF: A Learnable Frontend for Audio Classification,
    arXiv:2101.08596, section 3.
    """

    exact_outside_plan = True

    # Arguments that a subclass has settled.
    _settled: tuple[str, ...] = ()

    @classmethod
    def _check_not_settled(cls, arguments: dict[str, Any]) -> None:
        for name in cls._settled:
            if name in arguments:
                raise ValueError(
                    f"`{name}` is what makes a {cls.__name__}; use Leaf to "
                    f"choose it. Received: {name}={arguments[name]!r}."
                )

    def __init__(
        self,
        learn_pooling: bool = True,
        learn_filters: bool = True,
        conv1d_cls: Any = None,
        activation: Any = None,
        pooling_cls: Any = None,
        n_filters: int = 40,
        sample_rate: float = 16000,
        window_len: float = 25.0,
        window_stride: float = 10.0,
        compression_fn: Any = "pcen",
        preemp: bool = False,
        preemp_init: Any = None,
        complex_conv_init: Any = None,
        pooling_init: Any = None,
        pooling_padding: str = "same",
        regularizer_fn: Any = None,
        mean_var_norm: bool = False,
        spec_augment: Any = False,
        tolerance: float | None = None,
        multichannel: bool = False,
        name: str = "leaf",
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
        self.learn_pooling = check_bool("learn_pooling", learn_pooling)
        self.learn_filters = check_bool("learn_filters", learn_filters)
        self.preemp = check_bool("preemp", preemp)
        self.preemp_init = keras.initializers.get(
            PreempInit() if preemp_init is None else preemp_init
        )
        self.complex_conv_init = keras.initializers.get(complex_conv_init)
        self.pooling_init = keras.initializers.get(pooling_init)
        self.pooling_padding = check_choice(
            "pooling_padding", pooling_padding, ("same", "valid")
        )
        self.regularizer_fn = keras.regularizers.get(regularizer_fn)
        self.mean_var_norm = check_bool("mean_var_norm", mean_var_norm)

        self._preemp_conv = self._make_preemp() if preemp else None
        self._complex_conv = self._make_convolution(conv1d_cls)
        if activation is None:
            activation = SquaredModulus(dtype=self._wide)
        elif isinstance(activation, str):
            activation = keras.activations.get(activation)
        self._activation = as_callable("activation", activation)
        self._pooling = self._make_pooling(pooling_cls)
        self._instance_norm = (
            InstanceNormalization(dtype=self._wide) if mean_var_norm else None
        )
        self.tolerance = tolerance
        self._filterbank = self._make_filterbank(tolerance)

    def _make_filterbank(
        self, tolerance: float | None
    ) -> PlannedFilterbank | None:
        applies = type(self._activation) is SquaredModulus and can_be_planned(
            self._complex_conv, self._pooling
        )
        if tolerance is None:
            tolerance = _DEFAULT_TOLERANCE if applies else 0
        elif check_not_negative("tolerance", tolerance) >= 1:
            raise ValueError(
                "`tolerance` is a relative error and must be less than 1. "
                f"Received: tolerance={tolerance}."
            )
        elif tolerance and not applies:
            raise ValueError(
                "`tolerance` must be 0 or None unless the filterbank is a "
                "GaborConv1D, a SquaredModulus and a GaussianLowpass. "
                f"Received: tolerance={tolerance} with "
                f"{type(self._complex_conv).__name__}, "
                f"{getattr(self._activation, 'name', self._activation)} and "
                f"{type(self._pooling).__name__}."
            )
        if not tolerance:
            return None
        return PlannedFilterbank(self._complex_conv, self._pooling, tolerance)

    def _make_preemp(self) -> keras.layers.Layer:
        return keras.layers.Conv1D(
            filters=1,
            kernel_size=2,
            padding="same",
            use_bias=False,
            kernel_initializer=self.preemp_init,
            kernel_regularizer=self._regularizer(self.learn_filters),
            data_format="channels_last",
            name="preemp",
            trainable=self.learn_filters,
            dtype=self._wide,
        )

    def _make_convolution(self, conv1d_cls: Any) -> keras.layers.Layer:
        if isinstance(conv1d_cls, keras.layers.Layer):
            return _copy_to_learn(conv1d_cls, self.learn_filters)
        _check_makes_a_layer("conv1d_cls", conv1d_cls)
        conv1d_cls = conv1d_cls or convolution.GaborConv1D
        settings = {
            "filters": 2 * self.n_filters,
            "kernel_size": self._window_size,
            "strides": 1,
            "padding": "same",
            "use_bias": False,
            "kernel_regularizer": self._regularizer(self.learn_filters),
            "name": "complex_conv",
            "trainable": self.learn_filters,
            "dtype": self._wide,
        }
        init = self.complex_conv_init
        if "sample_rate" in inspect.signature(conv1d_cls).parameters:
            settings["sample_rate"] = self.sample_rate
        elif init is None:
            init = GaborInit(min_freq=mel.DEFAULT_MIN_FREQ, max_freq="auto")
        if init is not None:
            settings["kernel_initializer"] = self._following(init)
        check_unbound("conv1d_cls", conv1d_cls, settings)
        return conv1d_cls(**settings)

    def _make_pooling(self, pooling_cls: Any) -> keras.layers.Layer:
        if isinstance(pooling_cls, keras.layers.Layer):
            return _copy_to_learn(pooling_cls, self.learn_pooling)
        _check_makes_a_layer("pooling_cls", pooling_cls)
        pooling_cls = pooling_cls or pooling.GaussianLowpass
        settings = {
            "kernel_size": self._window_size,
            "strides": self._stride,
            "padding": self.pooling_padding,
            "use_bias": False,
            "name": "learnable_pooling",
            "trainable": self.learn_pooling,
            "dtype": self._wide,
        }
        if self.pooling_init is not None:
            settings["kernel_initializer"] = self._following(self.pooling_init)
        if self.regularizer_fn is not None and self.learn_pooling:
            settings["kernel_regularizer"] = self.regularizer_fn
        check_unbound("pooling_cls", pooling_cls, settings)
        return pooling_cls(**settings)

    def _regularizer(self, learned: bool) -> Any:
        return self.regularizer_fn if learned else None

    def _check_inputs(self, shape: Shape, dtype: Any = None) -> None:
        super()._check_inputs(shape, dtype)
        is_short = shape[1] is not None and shape[1] < self._window_size
        if is_short and self.pooling_padding == "valid":
            raise ValueError(
                f"{self.name} needs {self._window_size} samples at least, with "
                "pooling_padding='valid'. Received: inputs of shape "
                f"{tuple(shape)}."
            )

    def build(self, input_shape: Shape) -> None:
        self._check_inputs(input_shape)
        layers = [
            self._preemp_conv,
            self._complex_conv,
            self._activation,
            self._pooling,
            self._compression,
            self._instance_norm,
        ]
        shape = folded_shape(input_shape)
        # What is wrong shows in a few frames where the length is unknown.
        some_frames = self._window_size + 5 * self._stride
        self._energies_shape(shape[0], shape[1] or some_frames)
        build_in_turn(layers, shape)
        self._end_build(input_shape)
        if self._filterbank is not None:
            self._filterbank.plan_initial_weights()

    def _features(
        self, audio: Tensor, mask: Tensor | None, training: bool | None
    ) -> Tensor:
        if self._preemp_conv is not None:
            audio = self._preemp_conv(audio)
        energies = ops.maximum(self._pooled_energies(audio, mask), ENERGY_FLOOR)
        frame_mask = self.compute_mask(audio, mask)
        outputs = self._compress(energies, frame_mask, training)
        if self._instance_norm is not None:
            outputs = self._instance_norm(outputs, mask=frame_mask)
        return outputs

    def _pooled_energies(self, audio: Tensor, mask: Tensor | None) -> Tensor:
        if self._filterbank is not None and mask is None:
            return self._filterbank(audio)
        energies = self._full_rate_energies(audio)
        if mask is not None:
            # Filters ring on past the end; without padding that is cut off.
            energies = zero_where_masked(energies, mask)
        return self._pooling(energies)

    def _full_rate_energies(self, audio: Tensor) -> Tensor:
        convolve = self._complex_conv
        # Not a subclass, which may compute something else.
        if type(self._activation) is SquaredModulus:
            if takes_argument(convolve, "squared_modulus"):
                return convolve(audio, squared_modulus=True)
        return self._activation(convolve(audio))

    def _energies_shape(self, batch: int | None, time: int | None) -> Shape:
        shape = (batch, time, 1)
        for layer in (self._complex_conv, self._activation, self._pooling):
            shape = shape_after(layer, shape)
        if shape[-1] != self.n_filters:
            raise ValueError(
                "`conv1d_cls`, `activation` and `pooling_cls` must together "
                "give a channel a filter. Received: "
                f"{type(self._complex_conv).__name__}, "
                f"{getattr(self._activation, 'name', self._activation)} and "
                f"{type(self._pooling).__name__}, which give {shape[-1]} "
                f"channels for n_filters={self.n_filters}."
            )
        frames = output_length(
            time, self._window_size, self._stride, self.pooling_padding
        )
        if shape[1] != frames:
            raise ValueError(
                "`conv1d_cls`, `activation` and `pooling_cls` must together "
                f"give a frame every {self._stride} samples, by windows of "
                f"{self._window_size} samples and padding "
                f"{self.pooling_padding!r}. Received: "
                f"{type(self._complex_conv).__name__} and "
                f"{type(self._pooling).__name__}, which give {shape[1]} frames "
                f"of {time} samples, not {frames}."
            )
        return shape

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        mask = super().compute_mask(inputs, previous_mask)
        if mask is None or self.pooling_padding == "same":
            return mask
        # "valid": the last sample of the frame's window must be valid.
        return previous_mask[:, self._window_size - 1 :: self._stride]

    def get_config(self) -> dict[str, Any]:
        config = {
            **super().get_config(),
            "learn_pooling": self.learn_pooling,
            "learn_filters": self.learn_filters,
            # As layers: their classes may have been called with more settings
            # than a frontend knows of.
            "conv1d_cls": serialize(self._complex_conv),
            "activation": serialize(self._activation),
            "pooling_cls": serialize(self._pooling),
            "preemp": self.preemp,
            "preemp_init": serialize(self.preemp_init),
            "complex_conv_init": serialize(self.complex_conv_init),
            "pooling_init": serialize(self.pooling_init),
            "pooling_padding": self.pooling_padding,
            "regularizer_fn": serialize(self.regularizer_fn),
            "mean_var_norm": self.mean_var_norm,
            "tolerance": self.tolerance,
        }
        return {
            name: value
            for name, value in config.items()
            if name not in self._settled
        }


@keras.saving.register_keras_serializable("leaf_audio")
class TimeDomainFilterbanks(Leaf):
    """Time-domain filterbanks: free filters that start as LEAF's.

    Waveform → free complex convolution → squared modulus → one learnable
    lowpass for all filters → log. Differs from the original in that frames
    cover the whole input by default; `pooling_padding="valid"` gives the
    original's, 98 for a second.

    Args:
      sample_rate: of the waveforms, in Hz.
      name: of the model.
      **kwargs: of Leaf, except conv1d_cls, activation, pooling_cls,
        compression_fn, complex_conv_init, pooling_init and tolerance, which are
        settled.

    Raises:
      ValueError: an argument is out of range, or inputs are not floating-point
        waveforms of one channel.

    Input shape:
      `(batch, time)` or `(batch, time, 1)`; with `multichannel` also
      `(batch, time, channels)`.

    Output shape:
      `(batch, ceil(time / stride), n_filters)`; with `multichannel`
      `(batch, ceil(time / stride), n_filters, channels)`.

    Reference: Learning Filterbanks from Raw Speech for Phone Recognition,
    arXiv:1711.01161, section 2.
    """

    _settled = (
        "conv1d_cls",
        "activation",
        "pooling_cls",
        "compression_fn",
        "complex_conv_init",
        "pooling_init",
        "tolerance",
    )

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
    """SincNet: band-pass filters, rectified and max-pooled.

    Waveform → sinc convolution → leaky ReLU → max-pooling → layer
    normalisation over the filters.

    Args:
      name: of the model.
      learn_pooling: as in Leaf; a maximum has nothing to learn, and with
        `regularizer_fn` it must be False.
      **kwargs: of Leaf, except conv1d_cls, activation, pooling_cls,
        pooling_init, compression_fn, complex_conv_init and tolerance, which
        are settled.

    Raises:
      ValueError: an argument is out of range, or inputs are not floating-point
        waveforms of one channel.

    Input shape:
      `(batch, time)` or `(batch, time, 1)`; with `multichannel` also
      `(batch, time, channels)`.

    Output shape:
      `(batch, ceil(time / stride), n_filters)`; with `multichannel`
      `(batch, ceil(time / stride), n_filters, channels)`.

    Reference: Speaker Recognition from Raw Waveform with SincNet,
    arXiv:1808.00158, section 2.
    """

    _settled = TimeDomainFilterbanks._settled

    def __init__(
        self,
        name: str = "sincnet",
        learn_pooling: bool = False,
        **kwargs: Any,
    ):
        self._check_not_settled(kwargs)
        wide = _wide_dtype_of(kwargs.get("dtype"))
        super().__init__(
            learn_pooling=learn_pooling,
            conv1d_cls=convolution.SincConv1D,
            activation=keras.layers.LeakyReLU(0.2, dtype=wide),
            pooling_cls=pooling.MaxPooling1D,
            compression_fn=keras.layers.LayerNormalization(
                epsilon=1e-3, dtype=wide
            ),
            name=name,
            **kwargs,
        )


@keras.saving.register_keras_serializable("leaf_audio")
class SincNetPlus(Leaf):
    """SincNet+: SincNet with LEAF's lowpass and a fixed PCEN.

    Waveform → sinc convolution → leaky ReLU → Gaussian lowpass pooling → PCEN.

    Args:
      name: of the model.
      **kwargs: of Leaf, except conv1d_cls, activation, pooling_cls,
        pooling_init, compression_fn, complex_conv_init and tolerance, which
        are settled.

    Raises:
      ValueError: an argument is out of range, or inputs are not floating-point
        waveforms of one channel.

    Input shape:
      `(batch, time)` or `(batch, time, 1)`; with `multichannel` also
      `(batch, time, channels)`.

    Output shape:
      `(batch, ceil(time / stride), n_filters)`; with `multichannel`
      `(batch, ceil(time / stride), n_filters, channels)`.

    Reference: LEAF, arXiv:2101.08596, section 4.
    """

    _settled = TimeDomainFilterbanks._settled

    def __init__(self, name: str = "sincnet_plus", **kwargs: Any):
        self._check_not_settled(kwargs)
        wide = _wide_dtype_of(kwargs.get("dtype"))
        super().__init__(
            conv1d_cls=convolution.SincConv1D,
            activation=keras.layers.LeakyReLU(0.2, dtype=wide),
            pooling_cls=pooling.GaussianLowpass,
            compression_fn=PCENLayer(dtype=wide),
            name=name,
            **kwargs,
        )


def _wide_dtype_of(policy: Any) -> str:
    """Returns the dtype that a frontend of this policy computes in."""
    return wide_dtype(keras.dtype_policies.get(policy).variable_dtype)


def _copy_to_learn(
    layer: keras.layers.Layer, learned: bool
) -> keras.layers.Layer:
    copy = clone_layer(layer)
    copy.trainable = copy.trainable and learned
    return copy


def _check_makes_a_layer(argument: str, value: Any) -> None:
    if value is not None and not callable(value):
        raise ValueError(
            f"`{argument}` must be a class, a layer or None. "
            f"Received: {argument}={value!r}."
        )
