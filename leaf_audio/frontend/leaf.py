"""Leaf, the learnable frontend.

The other frontends of this kind, which only change the parts of a Leaf, are in
`variants`.
"""

from typing import Any

import keras
from keras import ops

from leaf_audio.common.checks import (
    check_bool,
    check_choice,
    check_rate,
)
from leaf_audio.common.framing import PADDINGS, clip_lengths, place_clips
from leaf_audio.common.keras_checks import (
    check_activation,
    check_initializer,
    check_regularizer,
)
from leaf_audio.common.serialization import serialize
from leaf_audio.common.sizes import output_length
from leaf_audio.fast.filterbank import PlannedFilterbank, can_be_planned
from leaf_audio.frontend.base import (
    ENERGY_FLOOR,
    Shape,
    Tensor,
    copy_if_layer,
)
from leaf_audio.frontend.channels import folded_shape
from leaf_audio.frontend.layer_calls import (
    build_chain,
    call_accepts,
    output_shape_of,
)
from leaf_audio.frontend.leaf_parts import LeafParts
from leaf_audio.frontend.squared_modulus import SquaredModulus
from leaf_audio.initializers import PreempInit
from leaf_audio.postprocessing import InstanceNormalization

# `benchmarks/leaf_error.py` measures the error on speech, and
# `benchmarks/frontends.py` the speed.
_DEFAULT_TOLERANCE = 2.5e-3


@keras.saving.register_keras_serializable("leaf_audio")
class Leaf(LeafParts):
    """LEAF, a learnable frontend that is initialized as a mel filterbank.

    Waveform → pre-emphasis (optional) → complex Gabor convolution → squared
    modulus → Gaussian lowpass pooling → max(·, 1e-5) → compression →
    normalization (optional) → SpecAugment (optional, in training only). Each
    part can be replaced.

    A Gabor filter has two learned parameters, its centre frequency η and its
    standard deviation σ: `g(t) = exp(iηt) exp(-t²/(2σ²)) / (sqrt(2π) σ)`.

    The initial filters follow `sample_rate`. In the original release they do
    not. Layers that are passed in are copied.

    By default the energies are computed by a plan, within a relative error of
    `tolerance`, at a fraction of the cost. The plan is made for the filters
    when the frontend is built, and saved with the weights. A Leaf that is
    called eagerly makes a new plan by itself. A compiled function, such as
    those of `fit` and `predict`, computes filters that have moved too far from
    the plan exactly, which is slow. The callback `callbacks.Replan` makes a new
    plan during training; `replan` makes one outside it. The attribute
    `planned_for` holds what the plan was made for, one row for each filter:
    standard deviation in samples, pooling width as a fraction of half the
    window, centre frequency in rad/sample.

    Args:
      learn_pooling: Boolean. Whether the pooling is learned. Defaults to True.
      learn_filters: Boolean. Whether the filters and the pre-emphasis are
        learned. Defaults to True.
      conv1d_cls: Class of the convolution. It is called with the arguments of
        `convolution.GaborConv1D`, and with `sample_rate` if it has such an
        argument. Or a layer, which is copied and keeps its own initializer and
        regularizer. Defaults to None, which is `GaborConv1D`.
      activation: Layer, function, or name of a function in
        `keras.activations`. It is applied to the output of the convolution.
        Defaults to None, which is `SquaredModulus()`.
      pooling_cls: Class of the pooling, called with the arguments of
        `pooling.GaussianLowpass`. Or a layer, which is copied and keeps its own
        initializer and regularizer. Defaults to None, which is
        `GaussianLowpass`.
      n_filters: Positive integer. Number of filters. Defaults to 40.
      sample_rate: Positive number. Sample rate of the waveforms, in Hz.
        Defaults to 16000.
      window_len: Positive number. Length of the filters and of the pooling
        windows, in milliseconds. Defaults to 25.0.
      window_stride: Positive number. Hop between frames, in milliseconds.
        Defaults to 10.0.
      compression_fn: Layer or function that is applied to the energies, or one
        of the names `"pcen"`, `"log"` and `"db"`, or None for no compression.
        `"pcen"` is a PCENLayer with alpha 0.96, smooth_coef 0.04, delta 2, root
        2 and floor 1e-12, of which all but the floor are learned, for each
        filter. What is learned are their logarithms; the release learns the
        values themselves. A layer is copied. Defaults to `"pcen"`.
      preemp: Boolean. Whether a learnable pre-emphasis comes first. Defaults to
        False.
      preemp_init: Initializer of the pre-emphasis. Defaults to None, which is
        `PreempInit()`.
      complex_conv_init: Initializer of the filters. It sets their band, and
        must not be given together with `min_freq` and `max_freq`. Defaults to
        None: for Gabor filters `GaborInit` from `min_freq` to `max_freq`; for a
        convolution that takes a `sample_rate` its own initializer.
      pooling_init: Initializer of the pooling. Defaults to None, which is the
        pooling's own.
      pooling_padding: Where frames lie. `"same"` is the padding of TensorFlow,
        where one more sample moves all frames. The others do not depend on the
        length: `"centred"` puts the middle of the window of frame m on sample
        `m * stride`, `"causal"` its last sample, `"valid"` its first sample.
        `"valid"` has only the frames whose window lies within the input. Where
        a window is outside, energies count as 0. Filters are centred and look
        half a window ahead. So frame m depends on the audio up to sample
        `m * stride + window // 2` with `"causal"`, and up to
        `m * stride + window - 1` with `"centred"`. Pre-emphasis adds a sample.
        Defaults to `"same"`.
      regularizer_fn: Regularizer of the filters and the pooling, or its name.
        It applies to what is learned. Defaults to None.
      mean_var_norm: Boolean. Whether each filter's output is normalized over
        time to mean 0 and variance 1, for each example, with a learnable scale
        and offset. Defaults to False.
      spec_augment: Boolean or layer. True augments features in training by
        `SpecAugment()`. A layer is copied. Defaults to False.
      tolerance: Float in [0, 1). Relative error that the plan may have: the RMS
        over the filters of the error predicted for an input whose neighbouring
        bands are louder. 0 computes every sample exactly, which takes several
        times as long. Other values than 0 need the default convolution,
        activation and pooling. Defaults to None: 0.0025 where a plan is
        possible, otherwise 0.
      multichannel: Boolean. Whether waveforms may have any number of channels.
        The filters are the same for each. Features then have an axis of
        channels. Defaults to False.
      min_freq: Lower edge of the lowest initial filter in Hz, at least 0. Or
        `"auto"`: 60 Hz, or what `complex_conv_init` says. Defaults to `"auto"`.
      max_freq: Upper edge of the highest initial filter in Hz, up to half the
        sample rate. None and 0 are half the sample rate. Or `"auto"`: 97.5 % of
        that, which is 7800 Hz at 16 kHz, or what `complex_conv_init` says.
        Defaults to `"auto"`.
      name: String. Name of the model. Defaults to `"leaf"`.
      **kwargs: Arguments of `keras.Model`, such as `dtype` and `trainable`.

    Raises:
      ValueError: If an argument is out of range, or if the inputs are not
        floating-point waveforms of one channel.

    Input shape:
      `(batch, time)` or `(batch, time, 1)`; with `multichannel` also
      `(batch, time, channels)`.

    Output shape:
      `(batch, ceil(time / stride), n_filters)`; with `multichannel`
      `(batch, ceil(time / stride), n_filters, channels)`. With
      `pooling_padding="valid"` there are `ceil((time - window + 1) / stride)`
      frames. The stride and the window are in samples.

    Example:

    ```python
    leaf = frontend.Leaf(n_filters=64, sample_rate=24000, preemp=True)
    features = leaf(waveforms)
    ```

    Reference:
      LEAF: A Learnable Frontend for Audio Classification, arXiv:2101.08596,
      section 3.
    """

    exact_outside_plan = True
    _energy_floor = ENERGY_FLOOR

    @classmethod
    def _check_not_settled(cls, arguments: dict[str, Any]) -> None:
        for name in cls._settled:
            if name in arguments:
                raise ValueError(
                    f"`{name}` is fixed in a {cls.__name__}. Use Leaf to "
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
        min_freq: float | str = "auto",
        max_freq: float | str | None = "auto",
        name: str = "leaf",
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
        self.learn_pooling = check_bool("learn_pooling", learn_pooling)
        self.learn_filters = check_bool("learn_filters", learn_filters)
        self.preemp = check_bool("preemp", preemp)
        self.preemp_init = check_initializer(
            "preemp_init", PreempInit() if preemp_init is None else preemp_init
        )
        self._check_band_is_free("complex_conv_init", complex_conv_init)
        self.complex_conv_init = check_initializer(
            "complex_conv_init", complex_conv_init
        )
        self.pooling_init = check_initializer("pooling_init", pooling_init)
        self.pooling_padding = check_choice(
            "pooling_padding", pooling_padding, PADDINGS
        )
        self.regularizer_fn = check_regularizer(
            "regularizer_fn", regularizer_fn
        )
        self.mean_var_norm = check_bool("mean_var_norm", mean_var_norm)

        self._preemp_conv = self._make_preemp() if preemp else None
        self._complex_conv = self._make_convolution(conv1d_cls)
        check_activation("activation", activation)
        if activation is None:
            activation = SquaredModulus(dtype=self._internal_dtype)
        elif isinstance(activation, str):
            activation = keras.activations.get(activation)
        self._activation = copy_if_layer("activation", activation)
        self._pooling = self._make_pooling(pooling_cls)
        self._instance_norm = (
            InstanceNormalization(dtype=self._internal_dtype)
            if mean_var_norm
            else None
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
        elif check_rate("tolerance", tolerance) and not applies:
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
        # This checks that the parts fit each other. If the length is unknown, a
        # few frames suffice for that.
        some_frames = self._window_size + 5 * self._stride
        energies = self._energies_shape(shape[0], shape[1] or some_frames)
        features = output_shape_of(self._compression, energies)
        if self._instance_norm is not None and len(features) != 3:
            raise ValueError(
                "`mean_var_norm` must be False with a compression that appends "
                f"an axis. Received: mean_var_norm=True with {self.compression}"
                f", which gives features of shape {features}."
            )
        build_chain(layers, shape)
        self._finish_build(input_shape)
        if self._filterbank is not None:
            self._filterbank.plan_initial_weights()

    def has_left_plan(self) -> Tensor:
        """Returns whether the filters have left the plan: a boolean scalar.

        A compiled function, such as a step of `fit`, then computes them
        exactly, which is slow. Without a plan, the result is False.
        """
        if self.plan is None:
            return ops.convert_to_tensor(False)
        return self._filterbank.has_left_plan()

    def _compute_energies(self, audio: Tensor, mask: Tensor | None) -> Tensor:
        if self._preemp_conv is not None:
            audio = self._preemp_conv(audio)
        lengths = None if mask is None else clip_lengths(mask)
        return self._pooled_energies(audio, lengths)

    def _compute_features(
        self, audio: Tensor, mask: Tensor | None, training: bool | None
    ) -> Tensor:
        outputs = super()._compute_features(audio, mask, training)
        if self._instance_norm is None:
            return outputs
        return self._instance_norm(outputs, mask=self.compute_mask(audio, mask))

    def filter_layer(self) -> keras.layers.Layer:
        return self._complex_conv

    def _filter_layers(self) -> list[keras.layers.Layer]:
        layers = super()._filter_layers()
        return [self._preemp_conv, *layers] if self.preemp else layers

    def _pooled_energies(self, audio: Tensor, lengths: Tensor | None) -> Tensor:
        if self._filterbank is not None:
            return self._filterbank(audio, lengths)
        audio, inside = place_clips(
            audio,
            lengths,
            size=self._window_size,
            strides=self._stride,
            padding=self.pooling_padding,
        )
        energies = self._full_rate_energies(audio)
        if inside is not None:
            # A filter responds a little past the end of a clip. Alone, the clip
            # would have no such samples: a maximum ignores them.
            is_max = isinstance(self._pooling, keras.layers.MaxPooling1D)
            outside = float("-inf") if is_max else 0.0
            energies = ops.where(inside, energies, outside)
        return self._pooling(energies)

    def _full_rate_energies(self, audio: Tensor) -> Tensor:
        convolve = self._complex_conv
        # A subclass of SquaredModulus may compute something else.
        if type(self._activation) is SquaredModulus:
            if call_accepts(convolve, "squared_modulus"):
                return convolve(audio, squared_modulus=True)
        return self._activation(convolve(audio))

    def _energies_shape(self, batch: int | None, time: int | None) -> Shape:
        shape: Shape = (batch, time, 1)
        for layer in (self._complex_conv, self._activation, self._pooling):
            shape = output_shape_of(layer, shape)
        if shape[-1] != self.n_filters:
            raise ValueError(
                "`conv1d_cls`, `activation` and `pooling_cls` must together "
                "give one channel for each filter. Received: "
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
        if mask is None or self.pooling_padding != "valid":
            return mask
        # With "valid" padding, a frame is valid if its whole window is.
        return previous_mask[:, self._window_size - 1 :: self._stride]

    def get_config(self) -> dict[str, Any]:
        config = {
            **super().get_config(),
            "learn_pooling": self.learn_pooling,
            "learn_filters": self.learn_filters,
            # The layers and not their classes: a partial may have set more
            # arguments than a frontend has.
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
