"""Convolution through the Fourier domain.

Conventions: convolution means cross-correlation, so kernels are not flipped.
Inputs have the shape `(batch, time, channels)` and kernels the shape
`(kernel_size, in_channels, out_channels)`.
"""

from typing import Any

import keras
import numpy as np
from keras import ops

from leaf_audio.common.arguments import KnownArguments
from leaf_audio.common.blocks import cut_into_blocks, frames_of_blocks
from leaf_audio.common.portable import is_portable
from leaf_audio.common.sizes import wide_dtype
from leaf_audio.convolution.base import (
    Tensor,
    add_bias_and_activate,
    check_conv1d_settings,
    check_conv1d_sizes,
)


def fft_conv1d(inputs: Tensor, kernel: Tensor, pad: tuple[int, int]) -> Tensor:
    """Convolves with long kernels through the Fourier domain.

    The function cuts the input into overlapping blocks of a fixed length and
    multiplies their spectra by the spectra of the kernels (overlap-save). For
    each output, the cost grows with the logarithm of the kernel's length. Since
    the blocks have a fixed length, the length of the input may be unknown.

    Args:
      inputs: Tensor of shape `(batch, time, in_channels)`, float32 or float64.
      kernel: Tensor of shape `(kernel_size, in_channels, out_channels)` and of
        the same dtype.
      pad: Two integers. Number of zeros to add before and after the input, in
        samples.

    Returns:
      The convolution at every sample, a tensor of shape
      `(batch, time + sum(pad) - kernel_size + 1, out_channels)`.
    """
    kernel_size, in_channels, out_channels = kernel.shape
    batch, time = ops.shape(inputs)[0], ops.shape(inputs)[1]
    fft_length = _fft_length(kernel_size)
    step = fft_length - kernel_size + 1
    out_length = time + sum(pad) - kernel_size + 1
    num_blocks = (out_length + step - 1) // step

    # A frame starts at each block and reaches over the blocks after it.
    blocks = cut_into_blocks(
        inputs,
        step,
        num_blocks + -(-fft_length // step) - 1,
        start=-pad[0],
        max_padding=(pad[0], pad[1] + fft_length + step),
    )
    pieces = frames_of_blocks(blocks, num_blocks, 0, fft_length)
    blocks = ops.concatenate(pieces, axis=2)
    blocks = ops.transpose(blocks, (0, 3, 1, 2))

    x_real, x_imag = ops.rfft(blocks)
    k_real, k_imag = ops.rfft(
        ops.pad(
            ops.transpose(kernel, (1, 2, 0)),
            [[0, 0], [0, 0], [0, fft_length - kernel_size]],
        )
    )

    # A correlation in time is a product with the complex conjugate of the
    # kernel's spectrum.
    def product(a: Tensor, b: Tensor) -> Tensor:
        return ops.einsum("bitf,iof->botf", a, b)

    real = product(x_real, k_real) + product(x_imag, k_imag)
    imag = product(x_imag, k_real) - product(x_real, k_imag)
    full = ops.irfft((real, imag), fft_length)
    full = ops.transpose(full[..., :step], (0, 2, 3, 1))
    full = ops.reshape(full, (batch, num_blocks * step, out_channels))
    return full[:, :out_length]


def _fft_length(kernel_size: int) -> int:
    # A block is at least four times as long as the kernel. Three quarters of
    # its outputs are then valid.
    return int(2 ** np.ceil(np.log2(max(4 * kernel_size, 64))))


@keras.saving.register_keras_serializable("leaf_audio")
class FFTConv1D(KnownArguments, keras.layers.Conv1D):
    """Computes `keras.layers.Conv1D` in the Fourier domain.

    The layer has the weights and the outputs of `keras.layers.Conv1D`. It pays
    off for kernels of hundreds of samples and a stride of 1. With a longer
    stride, it still computes an output for every sample and drops those that
    the stride leaves out.

    Differs from the original in padding and regularization. The original only
    has `"same"` padding. If it is given a regularizer, it adds the L1 norm of
    the kernels' spectra to the loss. Here the regularizer applies to the
    kernels, as in Keras.

    Args:
      filters: Integer. Number of output channels.
      kernel_size: Integer. Length of the kernels, in samples.
      **kwargs: Further arguments of `keras.layers.Conv1D`. `dilation_rate` and
        `groups` must be 1, and `data_format` must be `"channels_last"` (the
        default here).

    Raises:
      ValueError: One of these arguments has another value.

    Input shape:
      `(batch, time, channels)`.

    Output shape:
      `(batch, frames, filters)`, where `frames` is `ceil(time / strides)` with
      `"same"` and `"causal"` padding.

    Example:

    ```python
    layer = convolution.FFTConv1D(filters=80, kernel_size=401, padding="same")
    outputs = layer(audio[..., None])  # (batch, time, 80)
    ```
    """

    def __init__(self, filters: int, kernel_size: int, **kwargs: Any):
        kwargs.setdefault("data_format", "channels_last")
        check_conv1d_sizes(filters, kernel_size, kwargs)
        super().__init__(filters, kernel_size, **kwargs)
        check_conv1d_settings(self)

    def call(self, inputs: Tensor) -> Tensor:
        if is_portable():
            return super().call(inputs)
        outputs = ops.cast(self._correlate(inputs), self.compute_dtype)
        return add_bias_and_activate(outputs, self.bias, self.activation)

    def _correlate(self, inputs: Tensor) -> Tensor:
        size, stride = self.kernel_size[0], self.strides[0]
        inputs = ops.cast(inputs, wide_dtype(self.compute_dtype))
        kernel = ops.cast(ops.convert_to_tensor(self.kernel), inputs.dtype)
        if self.padding == "valid":
            return fft_conv1d(inputs, kernel, (0, 0))[:, ::stride]
        time = ops.shape(inputs)[1]
        frames = (time + stride - 1) // stride
        if self.padding == "causal":
            left = size - 1
        else:
            # Keras' "same" padding adds what the last frame lacks, the smaller
            # half of it on the left.
            total = (frames - 1) * stride + size - time
            if isinstance(total, int):
                left = max(total, 0) // 2
            else:
                left = ops.maximum(total, 0) // 2
        full = fft_conv1d(inputs, kernel, (size - 1, size - 1))
        return full[:, size - 1 - left :: stride][:, :frames]
