"""Convolution through the Fourier domain.

"Convolution" means cross-correlation, as everywhere in deep learning. Shapes
are `(batch, time, channels)` and `(kernel_size, in_channels, out_channels)`.
"""

from typing import Any

import numpy as np
from keras import ops

Tensor = Any


def fft_conv1d(inputs: Tensor, kernel: Tensor, pad: tuple[int, int]) -> Tensor:
    """Convolves with long kernels, block by block (overlap-save).

    Its cost grows with the logarithm of the kernel's length. Blocks of a fixed
    length make it work on inputs of unknown length.

    Args:
      inputs: `(batch, time, in_channels)`, float32 or float64.
      kernel: `(kernel_size, in_channels, out_channels)`, of the same dtype.
      pad: zeros to put before and after the input.

    Returns:
      The full-rate convolution,
      `(batch, time + sum(pad) - kernel_size + 1, out_channels)`.
    """
    kernel_size, in_channels, out_channels = kernel.shape
    batch, time = ops.shape(inputs)[0], ops.shape(inputs)[1]
    fft_length = _fft_length(kernel_size)
    step = fft_length - kernel_size + 1
    out_length = time + sum(pad) - kernel_size + 1
    num_blocks = (out_length + step - 1) // step

    # Block i reads samples [i·step, i·step + fft_length). Padded by a fixed
    # amount and cut to whole blocks, since `time` may be unknown.
    padded = ops.pad(
        inputs, [[0, 0], [pad[0], pad[1] + fft_length + step], [0, 0]]
    )
    pieces = [
        ops.reshape(
            padded[:, start : start + num_blocks * step],
            (batch, num_blocks, step, in_channels),
        )
        for start in range(0, fft_length, step)
    ]
    blocks = ops.concatenate(pieces, axis=2)[:, :, :fft_length]
    blocks = ops.transpose(blocks, (0, 3, 1, 2))

    x_real, x_imag = ops.rfft(blocks)
    k_real, k_imag = ops.rfft(
        ops.pad(
            ops.transpose(kernel, (1, 2, 0)),
            [[0, 0], [0, 0], [0, fft_length - kernel_size]],
        )
    )

    # Correlation: the kernel's spectrum enters conjugated.
    def product(a: Tensor, b: Tensor) -> Tensor:
        return ops.einsum("bitf,iof->botf", a, b)

    real = product(x_real, k_real) + product(x_imag, k_imag)
    imag = product(x_imag, k_real) - product(x_real, k_imag)
    full = ops.irfft((real, imag), fft_length)
    full = ops.transpose(full[..., :step], (0, 2, 3, 1))
    full = ops.reshape(full, (batch, num_blocks * step, out_channels))
    return full[:, :out_length]


def _fft_length(kernel_size: int) -> int:
    # Four kernels a block: three quarters of each FFT are new samples.
    return int(2 ** np.ceil(np.log2(max(4 * kernel_size, 64))))
