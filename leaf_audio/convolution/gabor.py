"""Convolutions whose kernels are made of few parameters, and one by FFT.

Inputs are `(batch, time, 1)`, outputs `(batch, time', channels)`. A complex
filter takes two channels, 2n its real and 2n + 1 its imaginary part; therefore
`filters` counts channels, twice the number of complex (or band-pass) filters,
as in the original.
"""

import math
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from leaf_audio import impulse_responses
from leaf_audio.common.checks import (
    check_bool,
    check_choice,
    check_not_negative,
    check_positive,
    check_positive_int,
)
from leaf_audio.common.conv1d import valid_conv1d
from leaf_audio.common.lean_ops import complex_energies
from leaf_audio.common.sizes import output_length, wide_dtype
from leaf_audio.convolution import fft
from leaf_audio.convolution.constraints import GaborConstraint
from leaf_audio.initializers import GaborInit, SincInit

Tensor = Any
Shape = tuple[int | None, ...]

_PADDINGS = ("same", "valid")

# Samples that `conv1d_by_blocks` takes for channels; measured.
_BLOCK = 8


def conv1d_by_blocks(
    inputs: Tensor, kernel: Tensor, padding: str = "same", strides: int = 1
) -> Tensor:
    """Convolves one channel by blocks of samples.

    Convolution libraries are slow with one input channel, above all in the
    gradient of the kernel. So blocks of eight samples, or of a stride where
    that is longer, become the channels, and shifted copies of each kernel give
    a block's outputs at once. The copies add a block's zeros to the kernel,
    nothing else changes.

    Args:
      inputs: `(batch, time, 1)`; `time` may be unknown.
      kernel: `(kernel_size, 1, channels)`.
      padding: `"same"`, or `"valid"` for inputs no shorter than the kernel.
      strides: in samples. With `"same"`, output i is centred on sample
        `i * strides`, which is not where TensorFlow puts it.

    Returns:
      An array `(batch, ceil(time / strides), channels)`; `"valid"` leaves out
      what the last `kernel_size - 1` samples would add.
    """
    size, _, channels = kernel.shape
    batch, time = ops.shape(inputs)[0], ops.shape(inputs)[1]
    left = (size - 1) // 2
    if padding == "valid":
        left, time = 0, time - size + 1
    together = max(_BLOCK // strides, 1)
    block = together * strides
    num_outputs = (time + strides - 1) // strides
    num_blocks = (time + block - 1) // block
    reach = -(-(size + block - strides) // block)

    padded = ops.pad(inputs[..., 0], [[0, 0], [left, (reach + 1) * block]])
    padded = padded[:, : (num_blocks + reach - 1) * block]
    blocks = ops.reshape(padded, (batch, num_blocks + reach - 1, block))

    kernel = ops.pad(kernel[:, 0], [[0, reach * block - size], [0, 0]])
    shifted = ops.stack(
        [ops.roll(kernel, shift, axis=0) for shift in range(0, block, strides)],
        axis=1,
    )
    outputs = valid_conv1d(
        blocks, ops.reshape(shifted, (reach, block, together * channels))
    )
    outputs = ops.reshape(outputs, (batch, num_blocks * together, channels))
    return outputs[:, :num_outputs]


def _parts_apart(interleaved: Tensor) -> Tensor:
    """Reorders channels: all real parts, then all imaginary ones."""
    return ops.concatenate(
        [interleaved[..., 0::2], interleaved[..., 1::2]], axis=-1
    )


def gabor_energies(
    audio: Tensor,
    real: Tensor,
    imag: Tensor,
    padding: str = "same",
    strides: int = 1,
) -> Tensor:
    """Computes the squared modulus of complex filters' outputs.

    Args:
      audio: `(batch, time, 1)`.
      real: real parts of the filters, `(kernel_size, filters)`.
      imag: imaginary parts.
      padding: see `conv1d_by_blocks`.
      strides: likewise.

    Returns:
      An array `(batch, time', filters)`.
    """
    kernel = ops.cast(ops.concatenate([real, imag], axis=-1), audio.dtype)
    return complex_energies(
        conv1d_by_blocks(audio, kernel[:, None], padding, strides)
    )


def _output_spec(
    layer: keras.layers.Layer, inputs: Any, squared_modulus: bool
) -> keras.KerasTensor:
    *shape, channels = layer.compute_output_shape(inputs.shape)
    if squared_modulus:
        channels //= 2
    return keras.KerasTensor((*shape, channels), dtype=layer.compute_dtype)


class _ParametricConv1D(keras.layers.Layer):
    """What the convolutions share: arguments, bias, the convolution itself."""

    def __init__(
        self,
        filters: int,
        kernel_size: int,
        strides: int,
        padding: str,
        use_bias: bool,
        kernel_initializer: Any,
        kernel_regularizer: Any,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.filters = check_positive_int("filters", filters)
        self.kernel_size = check_positive_int("kernel_size", kernel_size)
        self.strides = check_positive_int("strides", strides)
        self.padding = check_choice("padding", padding, _PADDINGS)
        self.use_bias = check_bool("use_bias", use_bias)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)

    @property
    def _pairs(self) -> int:
        """Number of filters that take two parameters and, as given, channels.

        Raises:
          ValueError: `filters` is odd.
        """
        if self.filters % 2:
            raise ValueError(
                "`filters` must be even, two for each filter. "
                f"Received: filters={self.filters}."
            )
        return self.filters // 2

    def _add_kernel(self, shape: Shape, constraint: Any = None) -> Any:
        return self.add_weight(
            name="kernel",
            shape=shape,
            initializer=self.kernel_initializer,
            regularizer=self.kernel_regularizer,
            constraint=constraint,
            # Filters are made in float32 also where audio has 16 bits.
            autocast=False,
        )

    def _add_bias(self, channels: int) -> Any:
        if not self.use_bias:
            return None
        return self.add_weight(
            name="bias", shape=(channels,), initializer="zeros"
        )

    def _convolve(self, inputs: Tensor, kernel: Tensor, bias: Any) -> Tensor:
        kernel = ops.cast(kernel, inputs.dtype)
        if self.strides == 1 and self.padding == "same":
            outputs = conv1d_by_blocks(inputs, kernel)
        else:
            outputs = ops.conv(
                inputs,
                kernel,
                strides=self.strides,
                padding=self.padding,
                data_format="channels_last",
            )
        return outputs if bias is None else outputs + bias

    def _output_shape(self, input_shape: Shape, channels: int) -> Shape:
        _check_one_channel(self, input_shape)
        time = output_length(
            input_shape[1], self.kernel_size, self.strides, self.padding
        )
        return (input_shape[0], time, channels)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "padding": self.padding,
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(
                self.kernel_initializer
            ),
            "kernel_regularizer": keras.regularizers.serialize(
                self.kernel_regularizer
            ),
        }


@keras.saving.register_keras_serializable("leaf_audio")
class GaborConv1D(_ParametricConv1D):
    """Convolves with complex Gabor filters of learnable centre and width.

    The weight `kernel`, `(filters // 2, 2)`, holds centre frequencies in
    rad/sample and standard deviations in samples (the original calls these
    "fwhm"). Its constraint applies in the forward pass and after every update.

    Args:
      filters: number of output channels, two for each complex filter.
      kernel_size: length of the filters, in samples.
      strides: in samples.
      padding: `"same"` or `"valid"`.
      use_bias: add a bias to each channel.
      kernel_initializer: of the weight; None is GaborInit().
      kernel_regularizer: of the weight.
      sort_filters: order the outputs by centre frequency, whatever order
        training has led to.
      kernel_constraint: of the weight; None is GaborConstraint(kernel_size).
      **kwargs: of keras.layers.Layer, such as `name`, `dtype`, `trainable`.

    Raises:
      ValueError: an argument is out of range, or inputs have several channels.

    Input shape:
      `(batch, time, 1)`.

    Output shape:
      `(batch, time', filters)`. Called with `squared_modulus=True` it gives
      energies, `(batch, time', filters // 2)`, as SquaredModulus makes them of
      the other, at less cost.

    Example:

    ```python
    layer = convolution.GaborConv1D(filters=80, kernel_size=401)
    energy = frontend.SquaredModulus()(layer(audio[..., None]))
    same_energy = layer(audio[..., None], squared_modulus=True)
    ```

    Reference: LEAF, arXiv:2101.08596, section 3.1.
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
        sort_filters: bool = False,
        kernel_constraint: Any = None,
        **kwargs: Any,
    ):
        super().__init__(
            filters,
            kernel_size,
            strides,
            padding,
            use_bias,
            GaborInit() if kernel_initializer is None else kernel_initializer,
            kernel_regularizer,
            **kwargs,
        )
        self.sort_filters = check_bool("sort_filters", sort_filters)
        self.kernel_constraint = keras.constraints.get(
            GaborConstraint(kernel_size)
            if kernel_constraint is None
            else kernel_constraint
        )
        self._num_complex = self._pairs

    def build(self, input_shape: Shape) -> None:
        _check_one_channel(self, input_shape)
        self.kernel = self._add_kernel(
            (self._num_complex, 2), self.kernel_constraint
        )
        self.bias = self._add_bias(self.filters)

    def constrained_kernel(self) -> Tensor:
        """Returns centres and deviations, as the layer uses them.

        An array `(filters // 2, 2)`, constrained, and sorted if it sorts.
        """
        kernel = self.kernel.constraint(ops.convert_to_tensor(self.kernel))
        if self.sort_filters:
            kernel = ops.take(kernel, ops.argsort(kernel[:, 0]), axis=0)
        return kernel

    def impulse_responses(self) -> tuple[Tensor, Tensor]:
        """Returns the parts of the filters, each `(kernel_size, filters // 2)`.

        Real parts first, then imaginary ones.
        """
        kernel = self.constrained_kernel()
        return impulse_responses.gabor_filters(
            kernel[:, 0], kernel[:, 1], self.kernel_size
        )

    def bands_hz(self, sample_rate: float) -> tuple[Tensor, Tensor]:
        """Returns centre frequencies and bandwidths, each `(filters // 2,)`.

        In Hz. A bandwidth is the full width at half the power's maximum.

        Args:
          sample_rate: of the inputs, in Hz.
        """
        kernel = self.constrained_kernel()
        # |G|² is a Gaussian of deviation 1 / (√2 σ) rad/sample.
        width = 2 * math.sqrt(math.log(2)) / kernel[:, 1]
        scale = sample_rate / (2 * math.pi)
        return kernel[:, 0] * scale, width * scale

    def call(self, inputs: Tensor, squared_modulus: bool = False) -> Tensor:
        parts = ops.concatenate(self.impulse_responses(), axis=-1)[:, None]
        if squared_modulus:
            bias = None if self.bias is None else _parts_apart(self.bias)
            return complex_energies(self._convolve(inputs, parts, bias))
        shape = (self.kernel_size, 1, 2, self._num_complex)
        kernel = ops.transpose(ops.reshape(parts, shape), (0, 1, 3, 2))
        kernel = ops.reshape(kernel, (self.kernel_size, 1, self.filters))
        return self._convolve(inputs, kernel, self.bias)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return self._output_shape(input_shape, self.filters)

    def compute_output_spec(
        self, inputs: Any, squared_modulus: bool = False
    ) -> keras.KerasTensor:
        return _output_spec(self, inputs, squared_modulus)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "sort_filters": self.sort_filters,
            "kernel_constraint": keras.constraints.serialize(
                self.kernel_constraint
            ),
        }


@keras.saving.register_keras_serializable("leaf_audio")
class NormalizedConv1D(_ParametricConv1D):
    """Convolves with free kernels, each of an L2 norm of 1.

    The norm holds in the forward pass and after every update. The weight
    `kernel` is `(kernel_size, 1, filters)`.

    Args:
      filters: number of output channels.
      kernel_size: length of the kernels, in samples.
      strides: in samples.
      padding: `"same"` or `"valid"`.
      use_bias: add a bias to each channel.
      kernel_initializer: of the weight; None is Glorot's uniform one.
      kernel_regularizer: of the weight.
      **kwargs: of keras.layers.Layer.

    Raises:
      ValueError: an argument is out of range, or inputs have several channels.

    Input shape:
      `(batch, time, 1)`.

    Output shape:
      `(batch, time', filters)`.
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
        **kwargs: Any,
    ):
        super().__init__(
            filters,
            kernel_size,
            strides,
            padding,
            use_bias,
            "glorot_uniform"
            if kernel_initializer is None
            else kernel_initializer,
            kernel_regularizer,
            **kwargs,
        )

    def build(self, input_shape: Shape) -> None:
        _check_one_channel(self, input_shape)
        self.kernel = self._add_kernel(
            (self.kernel_size, 1, self.filters),
            keras.constraints.UnitNorm(axis=0),
        )
        self.bias = self._add_bias(self.filters)

    def call(self, inputs: Tensor) -> Tensor:
        kernel = self.kernel.constraint(ops.convert_to_tensor(self.kernel))
        return self._convolve(inputs, kernel, self.bias)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return self._output_shape(input_shape, self.filters)


@keras.saving.register_keras_serializable("leaf_audio")
class SincConv1D(_ParametricConv1D):
    """Convolves with band-pass filters of learnable cutoff frequencies.

    The weight `kernel`, `(filters // 2, 2)`, holds k₀ and k₁ in Hz; the band
    goes from `min_low_hz + |k₀|` to `min_band_hz + |k₁|` above that, at most to
    the Nyquist frequency. Filters are windowed by Hamming's window. Differs
    from the original, which computes them for 16 kHz at every sample rate.

    Args:
      filters: twice the number of output channels, so that a frontend can ask
        for it as for GaborConv1D.
      kernel_size: length of the filters, in samples.
      strides: in samples.
      padding: `"same"` or `"valid"`.
      use_bias: add a bias to each channel.
      kernel_initializer: of the weight; None is SincInit(sample_rate).
      kernel_regularizer: of the weight.
      sample_rate: in Hz.
      min_low_hz: the lowest cutoff frequency, in Hz.
      min_band_hz: the least width, in Hz.
      **kwargs: of keras.layers.Layer.

    Raises:
      ValueError: an argument is out of range, or inputs have several channels.

    Input shape:
      `(batch, time, 1)`.

    Output shape:
      `(batch, time', filters // 2)`.

    Reference: SincNet, arXiv:1808.00158, section 2.
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
        super().__init__(
            filters,
            kernel_size,
            strides,
            padding,
            use_bias,
            SincInit(sample_rate, min_low_hz, min_band_hz)
            if kernel_initializer is None
            else kernel_initializer,
            kernel_regularizer,
            **kwargs,
        )
        self.min_low_hz = check_not_negative("min_low_hz", min_low_hz)
        self.min_band_hz = check_not_negative("min_band_hz", min_band_hz)
        self._num_bands = self._pairs

    def build(self, input_shape: Shape) -> None:
        _check_one_channel(self, input_shape)
        self.kernel = self._add_kernel((self._num_bands, 2))
        self.bias = self._add_bias(self._num_bands)

    def _edges_hz(self) -> tuple[Tensor, Tensor]:
        kernel = ops.abs(ops.convert_to_tensor(self.kernel))
        low_hz = self.min_low_hz + kernel[:, 0]
        high_hz = low_hz + self.min_band_hz + kernel[:, 1]
        # SincInit puts the last edge on the bound itself, where backends give
        # `minimum` different slopes; here it keeps the full one.
        nyquist = self.sample_rate / 2
        high_hz = ops.where(
            high_hz <= nyquist, high_hz, ops.full_like(high_hz, nyquist)
        )
        return low_hz, high_hz

    def bands_hz(self, sample_rate: float) -> tuple[Tensor, Tensor]:
        """Returns centre frequencies and bandwidths, each `(filters // 2,)`.

        In Hz, between the cutoff frequencies.

        Args:
          sample_rate: of the inputs, in Hz.
        """
        low_hz, high_hz = self._edges_hz()
        # Cutoffs are in terms of the layer's own rate.
        scale = sample_rate / self.sample_rate
        return (low_hz + high_hz) / 2 * scale, (high_hz - low_hz) * scale

    def impulse_responses(self) -> Tensor:
        """Returns the windowed filters, `(kernel_size, filters // 2)`."""
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


@keras.saving.register_keras_serializable("leaf_audio")
class WaveformConv1D(keras.layers.Conv1D):
    """keras.layers.Conv1D on one channel at full rate, by blocks of samples.

    The same arguments, weights and outputs; the gradient of long kernels takes
    half the time. See `conv1d_by_blocks`.

    Args:
      filters: number of output channels.
      kernel_size: length of the kernels, in samples.
      **kwargs: of keras.layers.Conv1D, except `dilation_rate` and `groups`,
        with `strides` 1, `padding` "same" (the default here) and `data_format`
        "channels_last".

    Raises:
      ValueError: one of these is another, or inputs have several channels.

    Input shape:
      `(batch, time, 1)`.

    Output shape:
      `(batch, time, filters)`. Called with `squared_modulus=True` it takes
      channels 2n and 2n + 1 for the parts of a complex filter and gives their
      energies, `(batch, time, filters // 2)`.
    """

    def __init__(self, filters: int, kernel_size: int, **kwargs: Any):
        kwargs.setdefault("data_format", "channels_last")
        kwargs.setdefault("padding", "same")
        super().__init__(filters, kernel_size, **kwargs)
        _check_fixed(self, strides=1, padding="same")

    def build(self, input_shape: Shape) -> None:
        _check_one_channel(self, input_shape)
        super().build(input_shape)

    def call(self, inputs: Tensor, squared_modulus: bool = False) -> Tensor:
        kernel = ops.cast(ops.convert_to_tensor(self.kernel), inputs.dtype)
        bias = self.bias
        if squared_modulus:
            kernel = _parts_apart(kernel)
            bias = None if bias is None else _parts_apart(bias)
        outputs = conv1d_by_blocks(inputs, kernel)
        outputs = _add_bias_and_activate(outputs, bias, self.activation)
        return complex_energies(outputs) if squared_modulus else outputs

    def compute_output_spec(
        self, inputs: Any, squared_modulus: bool = False
    ) -> keras.KerasTensor:
        return _output_spec(self, inputs, squared_modulus)


@keras.saving.register_keras_serializable("leaf_audio")
class FFTConv1D(keras.layers.Conv1D):
    """keras.layers.Conv1D, computed in the Fourier domain.

    The same arguments, weights and outputs; pays off for kernels of hundreds of
    samples and a stride of 1, since it computes every output and drops those
    that a stride leaves out. Differs from the original, which has "same"
    padding only and adds the L1 norm of the kernels' spectra to the loss when a
    kernel has a regularizer; here the regularizer is the kernel's, as in Keras.

    Args:
      filters: number of output channels.
      kernel_size: length of the kernels, in samples.
      **kwargs: of keras.layers.Conv1D, except `dilation_rate`, `groups` and a
        `data_format` other than "channels_last".

    Raises:
      ValueError: `dilation_rate`, `groups` or `data_format` is another.

    Input shape:
      `(batch, time, channels)`.

    Output shape:
      `(batch, time', filters)`.
    """

    def __init__(self, filters: int, kernel_size: int, **kwargs: Any):
        kwargs.setdefault("data_format", "channels_last")
        super().__init__(filters, kernel_size, **kwargs)
        _check_fixed(self)

    def call(self, inputs: Tensor) -> Tensor:
        outputs = ops.cast(self._correlate(inputs), self.compute_dtype)
        return _add_bias_and_activate(outputs, self.bias, self.activation)

    def _correlate(self, inputs: Tensor) -> Tensor:
        size, stride = self.kernel_size[0], self.strides[0]
        inputs = ops.cast(inputs, wide_dtype(self.compute_dtype))
        kernel = ops.cast(ops.convert_to_tensor(self.kernel), inputs.dtype)
        if self.padding == "valid":
            return fft.fft_conv1d(inputs, kernel, (0, 0))[:, ::stride]
        time = ops.shape(inputs)[1]
        frames = (time + stride - 1) // stride
        if self.padding == "causal":
            left = size - 1
        else:
            # Keras' "same": what the last frame lacks, the smaller half left.
            total = (frames - 1) * stride + size - time
            if isinstance(total, int):
                left = max(total, 0) // 2
            else:
                left = ops.maximum(total, 0) // 2
        full = fft.fft_conv1d(inputs, kernel, (size - 1, size - 1))
        return full[:, size - 1 - left :: stride][:, :frames]


def _check_one_channel(layer: keras.layers.Layer, input_shape: Shape) -> None:
    if len(input_shape) != 3 or input_shape[-1] != 1:
        raise ValueError(
            f"{type(layer).__name__} takes inputs of shape (batch, time, 1). "
            f"Received: input shape {tuple(input_shape)}."
        )


def _check_fixed(layer: keras.layers.Conv1D, **fixed: Any) -> None:
    """Raises a ValueError where a setting of Conv1D is not implemented."""
    fixed |= {"dilation_rate": 1, "groups": 1, "data_format": "channels_last"}
    for name, supported in fixed.items():
        value = getattr(layer, name)
        if isinstance(value, tuple):
            (value,) = value
        if value != supported:
            raise ValueError(
                f"`{name}` of {type(layer).__name__} must be {supported!r}. "
                f"Received: {name}={value!r}."
            )


def _add_bias_and_activate(
    outputs: Tensor, bias: Any, activation: Callable | None
) -> Tensor:
    if bias is not None:
        outputs = outputs + bias
    return outputs if activation is None else activation(outputs)
