"""How Leaf makes its parts: pre-emphasis, filters and pooling."""

import inspect
from typing import Any

import keras

from leaf_audio import convolution, pooling
from leaf_audio.common.checks import check_unbound
from leaf_audio.common.framing import frame_layout
from leaf_audio.common.keras_checks import check_maker, make_layer
from leaf_audio.common.serialization import clone_layer
from leaf_audio.frontend.planned import PlannedFrontend
from leaf_audio.frontend.squared_modulus import SquaredModulus
from leaf_audio.frontend.stream_steps import is_frame_wise
from leaf_audio.frontend.streaming import Reach
from leaf_audio.initializers import GaborInit

# The parts for which it is known which audio their output depends on.
_CONVOLUTIONS = (
    convolution.FFTConv1D,
    convolution.GaborConv1D,
    convolution.NormalizedConv1D,
    convolution.SincConv1D,
    convolution.WaveformConv1D,
)
_POOLINGS = (
    pooling.ChannelWiseLearnablePooling1D,
    pooling.GaussianLowpass,
    pooling.LearnablePooling1D,
    pooling.MaxPooling1D,
)

_MAKER = "a class of layers, a layer or None"


class LeafParts(PlannedFrontend):
    """Base class of Leaf, which makes layers from the arguments of Leaf.

    A part may be given as a class or as a layer. A class is called with the
    sizes of the frontend. A layer is copied.
    """

    learn_filters: bool
    learn_pooling: bool
    mean_var_norm: bool
    preemp: bool
    preemp_init: Any
    complex_conv_init: Any
    pooling_init: Any
    pooling_padding: str
    regularizer_fn: Any

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
            dtype=self._internal_dtype,
        )

    def _make_convolution(self, conv1d_cls: Any) -> keras.layers.Layer:
        if isinstance(conv1d_cls, keras.layers.Layer):
            if not self._is_made_for_band(conv1d_cls):
                self._check_band_is_free("conv1d_cls", conv1d_cls)
            return _copy_for_training(conv1d_cls, self.learn_filters)
        check_maker("conv1d_cls", conv1d_cls, keras.layers.Layer, _MAKER)
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
            "dtype": self._internal_dtype,
        }
        has_sample_rate = (
            "sample_rate" in inspect.signature(conv1d_cls).parameters
        )
        if has_sample_rate:
            settings["sample_rate"] = self.sample_rate
        init = self.complex_conv_init
        if init is None:
            init = self._default_filters(conv1d_cls, has_sample_rate)
        if init is not None:
            settings["kernel_initializer"] = self._complete_initializer(init)
        if "conv1d_cls" in self._settled:
            # What is wrong is an argument of this frontend.
            return conv1d_cls(**settings)
        check_unbound("conv1d_cls", conv1d_cls, settings)
        return make_layer("conv1d_cls", conv1d_cls, settings)

    def _default_filters(self, conv1d_cls: Any, has_sample_rate: bool) -> Any:
        """Returns the initializer of the filters if none is given.

        Args:
          conv1d_cls: Class of the convolution.
          has_sample_rate: Whether it takes a `sample_rate`.

        Returns:
          An initializer for the band of this frontend, or None for that of the
          convolution itself.
        """
        if has_sample_rate:
            self._check_band_is_free("conv1d_cls", conv1d_cls)
            return None
        return GaborInit(min_freq=self._band()[0], max_freq=self.max_freq)

    def _is_made_for_band(self, convolution: keras.layers.Layer) -> bool:
        # A frontend that is loaded from a file gets the layer that it has made.
        init = getattr(convolution, "kernel_initializer", None)
        band = (getattr(init, "min_freq", None), getattr(init, "max_freq", ""))
        return band == (self._band()[0], self.max_freq)

    def _make_pooling(self, pooling_cls: Any) -> keras.layers.Layer:
        if isinstance(pooling_cls, keras.layers.Layer):
            padding = getattr(pooling_cls, "padding", self.pooling_padding)
            if padding != self.pooling_padding:
                raise ValueError(
                    "`pooling_padding` must be the padding of the layer given "
                    f"as `pooling_cls`, {padding!r}. Received: "
                    f"pooling_padding={self.pooling_padding!r}."
                )
            return _copy_for_training(pooling_cls, self.learn_pooling)
        check_maker("pooling_cls", pooling_cls, keras.layers.Layer, _MAKER)
        pooling_cls = pooling_cls or pooling.GaussianLowpass
        settings = {
            "kernel_size": self._window_size,
            "strides": self._stride,
            "padding": self.pooling_padding,
            "use_bias": False,
            "name": "learnable_pooling",
            "trainable": self.learn_pooling,
            "dtype": self._internal_dtype,
        }
        if self.pooling_init is not None:
            settings["kernel_initializer"] = self._complete_initializer(
                self.pooling_init
            )
        if self.regularizer_fn is not None and self.learn_pooling:
            settings["kernel_regularizer"] = self.regularizer_fn
        check_unbound("pooling_cls", pooling_cls, settings)
        return make_layer("pooling_cls", pooling_cls, settings)

    def _reach(self, length: int | None) -> Reach:
        self._check_parts_can_stream()
        size = _kernel_size(self._complex_conv)
        window = _kernel_size(self._pooling)
        # The frames of all lengths with the same remainder lie alike.
        time = self._stride + (length or 0) % self._stride
        _, left = frame_layout(time, window, self._stride, self.pooling_padding)
        after = window - left + size // 2 + self.preemp
        return Reach(left + (size - 1) // 2, after)

    def _check_parts_can_stream(self) -> None:
        parts = (self._complex_conv, self._activation, self._pooling)
        convolve, activation, pool = parts
        known = (
            isinstance(convolve, _CONVOLUTIONS)
            and convolve.strides in (1, (1,))
            and convolve.padding == "same"
            and (
                type(activation) is SquaredModulus or is_frame_wise(activation)
            )
            and isinstance(pool, _POOLINGS)
        )
        if not known:
            names = (getattr(part, "name", part) for part in parts)
            raise ValueError(
                f"{self.name} cannot stream: its filters, activation and "
                "pooling must be those of leaf_audio, with a stride of 1 and "
                "'same' padding, so that it is known which audio a frame "
                f"depends on. Received: {', '.join(map(str, names))}."
            )
        if self.mean_var_norm:
            raise ValueError(
                f"{self.name} cannot stream: `mean_var_norm` needs the mean "
                "and the variance over the whole signal. Received: "
                "mean_var_norm=True."
            )

    def _regularizer(self, learned: bool) -> Any:
        return self.regularizer_fn if learned else None


def _kernel_size(layer: Any) -> int:
    size = layer.kernel_size
    return size[0] if isinstance(size, tuple) else size


def _copy_for_training(
    layer: keras.layers.Layer, learned: bool
) -> keras.layers.Layer:
    copy = clone_layer(layer)
    copy.trainable = copy.trainable and learned
    return copy
