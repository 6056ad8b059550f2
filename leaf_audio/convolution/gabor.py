"""Complex Gabor filters with learnable centre frequencies and widths.

A Gabor filter is a complex exponential under a Gaussian envelope:

    g(t) = exp(-t² / (2 σ²)) / (√(2π) σ) · exp(i η t)

Conventions: the time t is in samples and is 0 at sample `kernel_size // 2` of
the kernel. The centre frequency η is in rad/sample. The standard deviation σ of
the envelope is in samples. The envelope has an area of 1, so the magnitude
response of a filter has a peak of 1. Its full width at half maximum is
`2 √(2 ln 2) / σ` rad/sample.

`leaf_audio.impulse_responses.gabor_filters` computes the formula. It lies there
because other rooms use it too.
"""

import math
from typing import Any

import keras
from keras import ops

from leaf_audio import impulse_responses
from leaf_audio.common.checks import check_bool, check_size
from leaf_audio.common.keras_checks import check_constraint
from leaf_audio.common.lean_ops import clip, complex_energies
from leaf_audio.convolution.base import (
    ParametricConv1D,
    Shape,
    Tensor,
    check_one_channel,
    energies_output_spec,
    real_then_imaginary,
)
from leaf_audio.convolution.by_blocks import conv1d_by_blocks
from leaf_audio.initializers import GaborInit


@keras.saving.register_keras_serializable("leaf_audio")
class GaborConstraint(keras.constraints.Constraint):
    """Keeps Gabor filters below Nyquist and their widths within bounds.

    The constraint clips the two columns of a weight of shape `(n_filters, 2)`:

    - centre frequencies to `[0, π]` rad/sample;
    - standard deviations to
      `[min_size √(2 ln 2) / π, kernel_size √(2 ln 2) / π]` samples. If
      `kernel_size` is less than `min_size`, both bounds are the lower one.

    With these bounds, the full width at half maximum of a filter's magnitude
    response lies between `2π / kernel_size` and `2π / min_size` rad/sample. The
    first is the frequency resolution of the kernel. The second is half of the
    band if `min_size` is 4, as in LEAF. EfficientLEAF has a `min_size` of 2.

    Args:
      kernel_size: Integer. Length of the filters, in samples.
      min_size: Integer. Sets the greatest width of a filter: it is the
        frequency resolution of a kernel of `min_size` samples. Defaults to 4.

    Raises:
      ValueError: An argument is not a positive integer.

    Reference:
      LEAF, arXiv:2101.08596, section 3.1.
    """

    def __init__(self, kernel_size: int, min_size: int = 4):
        self.kernel_size = check_size("kernel_size", kernel_size)
        self.min_size = check_size("min_size", min_size)

    def __call__(self, w: Any) -> Any:
        unit = math.sqrt(2 * math.log(2)) / math.pi
        centre = clip(w[:, 0], 0.0, math.pi)
        # For a kernel shorter than `min_size`, the upper bound would otherwise
        # be below the lower bound.
        longest = max(self.kernel_size, self.min_size) * unit
        sigma = clip(w[:, 1], self.min_size * unit, longest)
        return ops.stack([centre, sigma], axis=1)

    def get_config(self) -> dict[str, Any]:
        return {"kernel_size": self.kernel_size, "min_size": self.min_size}


@keras.saving.register_keras_serializable("leaf_audio")
class GaborConv1D(ParametricConv1D):
    """Convolves a waveform with learnable complex Gabor filters.

    Filter n has a centre frequency η in rad/sample and a standard deviation σ
    in samples:

        g(t) = exp(-t² / (2 σ²)) / (√(2π) σ) · exp(i η t)

    The layer learns both. Its weight `kernel` has the shape
    `(filters // 2, 2)`: η is in the first column and σ in the second. The
    constraint applies in the forward pass, and to the weight after each update.

    The original calls σ "fwhm", although it is a standard deviation. Its
    constraint is fixed, and it has no option to compute energies directly.

    Args:
      filters: Integer, even. Number of output channels, which is twice the
        number of complex filters. Channel 2n is the real part of the output of
        filter n, and channel 2n + 1 its imaginary part.
      kernel_size: Integer. Length of the filters, in samples.
      strides: Integer. Hop between outputs, in samples. Defaults to 1.
      padding: `"same"` or `"valid"`. Defaults to `"same"`.
      use_bias: Boolean. Whether to add a bias to each channel. Defaults to
        False.
      kernel_initializer: Initializer of the weight. Defaults to None, which
        stands for `GaborInit()`.
      kernel_regularizer: Regularizer of the weight. Defaults to None.
      sort_filters: Boolean. Whether to sort the filters by centre frequency
        before they are used. The output channels then go from low to high
        frequencies even if training changes the order of the filters. Defaults
        to False.
      kernel_constraint: Constraint of the weight. Defaults to None, which
        stands for `GaborConstraint(kernel_size)`.
      **kwargs: Arguments of `keras.layers.Layer`, such as `name`, `dtype` and
        `trainable`.

    Raises:
      ValueError: An argument is out of range, or the input has several
        channels.

    Input shape:
      `(batch, time, 1)`.

    Output shape:
      `(batch, frames, filters)`, where `frames` is `ceil(time / strides)` with
      `"same"` padding. The layer also takes a call argument
      `squared_modulus`. If it is True, the output is the energy of each complex
      filter, of shape `(batch, frames, filters // 2)`. It equals
      `SquaredModulus()` of the layer's usual output, but costs less to compute.

    Example:

    ```python
    layer = convolution.GaborConv1D(filters=80, kernel_size=401)
    energy = frontend.SquaredModulus()(layer(audio[..., None]))
    same_energy = layer(audio[..., None], squared_modulus=True)
    ```

    Reference:
      LEAF, arXiv:2101.08596, section 3.1.
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
        if kernel_initializer is None:
            kernel_initializer = GaborInit()
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
        self.sort_filters = check_bool("sort_filters", sort_filters)
        self.kernel_constraint = check_constraint(
            "kernel_constraint",
            GaborConstraint(kernel_size)
            if kernel_constraint is None
            else kernel_constraint,
        )
        self._num_complex = self._half_of_filters()

    def build(self, input_shape: Shape) -> None:
        check_one_channel(self, input_shape)
        self.kernel = self._add_kernel(
            (self._num_complex, 2), self.kernel_constraint
        )
        self.bias = self._add_bias(self.filters)

    def constrained_kernel(self) -> Tensor:
        """Returns the centre frequencies and widths that the layer uses.

        Returns:
          A tensor of shape `(filters // 2, 2)`: centre frequencies in
          rad/sample and standard deviations in samples, after the constraint.
          They are sorted by centre frequency if `sort_filters` is True.
        """
        kernel = self.kernel.constraint(ops.convert_to_tensor(self.kernel))
        if self.sort_filters:
            kernel = ops.take(kernel, ops.argsort(kernel[:, 0]), axis=0)
        return kernel

    def impulse_responses(self) -> tuple[Tensor, Tensor]:
        """Returns the impulse responses of the filters.

        Returns:
          The real parts and the imaginary parts, two tensors of shape
          `(kernel_size, filters // 2)`.
        """
        kernel = self.constrained_kernel()
        return impulse_responses.gabor_filters(
            kernel[:, 0], kernel[:, 1], self.kernel_size
        )

    def bands_hz(self, sample_rate: float) -> tuple[Tensor, Tensor]:
        """Returns the centre frequencies and the bandwidths of the filters.

        A bandwidth is the full width at half maximum of the power response.

        Args:
          sample_rate: Sample rate of the inputs, in Hz.

        Returns:
          The centre frequencies and the bandwidths in Hz, two tensors of shape
          `(filters // 2,)`.
        """
        kernel = self.constrained_kernel()
        # The power response is a Gaussian with a standard deviation of
        # 1 / (√2 σ) rad/sample.
        width = 2 * math.sqrt(math.log(2)) / kernel[:, 1]
        scale = sample_rate / (2 * math.pi)
        return kernel[:, 0] * scale, width * scale

    def call(self, inputs: Tensor, squared_modulus: bool = False) -> Tensor:
        parts = ops.concatenate(self.impulse_responses(), axis=-1)[:, None]
        if squared_modulus:
            bias = None if self.bias is None else real_then_imaginary(self.bias)
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
        return energies_output_spec(self, inputs, squared_modulus)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "sort_filters": self.sort_filters,
            "kernel_constraint": keras.constraints.serialize(
                self.kernel_constraint
            ),
        }


def gabor_energies(
    audio: Tensor,
    real: Tensor,
    imag: Tensor,
    padding: str = "same",
    strides: int = 1,
) -> Tensor:
    """Computes the energies of the outputs of complex filters.

    The energy is the squared modulus: real part² + imaginary part².

    Args:
      audio: Tensor of shape `(batch, time, 1)`.
      real: Real parts of the filters, a tensor of shape
        `(kernel_size, n_filters)`.
      imag: Imaginary parts of the filters, of the same shape.
      padding: `"same"` or `"valid"`, as in `conv1d_by_blocks`. Defaults to
        `"same"`.
      strides: Integer. Hop between outputs in samples, as in
        `conv1d_by_blocks`. Defaults to 1.

    Returns:
      A tensor of shape `(batch, frames, n_filters)`.
    """
    kernel = ops.cast(ops.concatenate([real, imag], axis=-1), audio.dtype)
    return complex_energies(
        conv1d_by_blocks(audio, kernel[:, None], padding, strides)
    )
