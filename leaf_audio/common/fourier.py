"""The Fourier transform of real signals."""

import math
from typing import Any

import numpy as np
from keras import ops

from leaf_audio.common.portable import is_portable

Tensor = Any


def rfft(x: Tensor, fft_length: int) -> tuple[Tensor, Tensor]:
    """Computes the Fourier transform of real signals, as `keras.ops.rfft`.

    In the portable form it is computed by products with matrices.

    Args:
      x: `(..., fft_length)`, float32 or float64.
      fft_length: Length of the transform.

    Returns:
      The real and the imaginary parts, `(..., fft_length // 2 + 1)`.
    """
    if is_portable():
        return _rfft_by_matrices(x, fft_length)
    return ops.rfft(x, fft_length=fft_length)


def _rfft_by_matrices(x: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """Computes `rfft` in two steps, after Cooley and Tukey.

    With `length = a * b`, sample `b * i + j` and bin `k + a * l`:

    `X[k + a l] = Σ_j (Σ_i x[b i + j] W(a, i k)) W(length, j k) W(b, j l)`

    where `W(n, m) = exp(-2π i m / n)`. Two small matrices, and a factor for
    each k and j, take the place of one large matrix.
    """
    a = _middle_divisor(length)
    b = length // a
    # Bins up to half the length have an l up to half of b.
    half = b // 2 + 1
    inner = _roots(a, np.outer(np.arange(a), np.arange(a)))
    twist = _roots(length, np.outer(np.arange(a), np.arange(b)))
    outer = _roots(b, np.outer(np.arange(b), np.arange(half)))

    leading = tuple(ops.shape(x)[:-1])
    signals = ops.reshape(x, (-1, a, b))
    # (signals, a, b): bin k of the inner transform, sample j.
    real, imag = (ops.matmul(_like(x, part), signals) for part in inner)
    real, imag = _product(real, imag, *(_like(x, part) for part in twist))
    outer = tuple(_like(x, part) for part in outer)
    real, imag = (
        ops.matmul(real, outer[0]) - ops.matmul(imag, outer[1]),
        ops.matmul(real, outer[1]) + ops.matmul(imag, outer[0]),
    )
    bins = length // 2 + 1

    def in_order(part: Tensor) -> Tensor:
        part = ops.reshape(ops.transpose(part, (0, 2, 1)), (-1, half * a))
        return ops.reshape(part[:, :bins], (*leading, bins))

    return in_order(real), in_order(imag)


def _middle_divisor(length: int) -> int:
    """Returns the greatest divisor that is at most the square root."""
    return max(n for n in range(1, math.isqrt(length) + 1) if length % n == 0)


def _roots(n: int, powers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the real and the imaginary parts of `exp(-2π i powers / n)`."""
    phase = 2 * np.pi * (powers % n) / n
    return np.cos(phase), -np.sin(phase)


def _like(x: Tensor, values: np.ndarray) -> Tensor:
    return ops.convert_to_tensor(values, x.dtype)


def _product(
    real: Tensor, imag: Tensor, other_real: Tensor, other_imag: Tensor
) -> tuple[Tensor, Tensor]:
    """Multiplies complex numbers."""
    return (
        real * other_real - imag * other_imag,
        real * other_imag + imag * other_real,
    )
