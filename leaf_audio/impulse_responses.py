"""Impulse responses and windows.

Conventions: `kernel_size` and times in samples, centre frequencies in
rad/sample, cutoff frequencies in Hz. Functions of learnable parameters use
`keras.ops` and are differentiable; windows, and kernels to start from, are
float64 NumPy.
"""

import math
from typing import Any

import numpy as np
from keras import ops

Tensor = Any

WINDOWS = ("hamming", "hanning", "squared_hanning", "tf_hann")

# What is left of a Gaussian where it is zeroed. Its products with audio would
# be denormal numbers, with which a convolution takes ten times as long on
# PyTorch on CPUs. TensorFlow and JAX take them for zeros.
_NOTHING = 1e-30

# Of a spectrogram, as coefficients of cosines; SciPy's names.
_COSINE_WINDOWS = {
    "hann": (0.5, -0.5),
    "hamming": (0.54, -0.46),
    "blackman": (0.42, -0.5, 0.08),
    "boxcar": (1.0,),
}
STFT_WINDOWS = (*_COSINE_WINDOWS, "tf_hann")


def gabor_filters(
    centre: Tensor, sigma: Tensor, kernel_size: int
) -> tuple[Tensor, Tensor]:
    """Computes complex Gabor filters, `g(t) = N(t; 0, σ) exp(iηt)`.

    The Gaussian has an area of 1, so a filter's response peaks at 1. LEAF,
    arXiv:2101.08596, section 3.1.

    Args:
      centre: centre frequencies η in rad/sample, `(n_filters,)`.
      sigma: standard deviations σ in samples, `(n_filters,)`.
      kernel_size: length in samples; t = 0 lies at `kernel_size // 2`.

    Returns:
      The real and the imaginary parts, each `(kernel_size, n_filters)`.
    """
    t = ops.cast(
        np.arange(kernel_size)[:, None] - kernel_size // 2, centre.dtype
    )
    envelope = _gaussian(t / sigma) / (math.sqrt(2 * math.pi) * sigma)
    phase = centre * t
    return envelope * ops.cos(phase), envelope * ops.sin(phase)


def scaled_gabor_filters(
    parameters: np.ndarray, area: np.ndarray, kernel_size: int
) -> np.ndarray:
    """Computes Gabor filters with the energies of filters of a given area.

    Time-domain filterbanks start from these, arXiv:1711.01161, section 2.2. In
    float64 NumPy.

    Args:
      parameters: centres in rad/sample and standard deviations in samples,
        `(n_filters, 2)`.
      area: of the responses to energy, in rad/sample, `(n_filters, 1)`.
      kernel_size: length in samples; t = 0 lies at `kernel_size // 2`.

    Returns:
      A complex array `(n_filters, kernel_size)`.
    """
    centre, sigma = np.split(parameters, 2, axis=1)
    t = np.arange(kernel_size) - kernel_size // 2
    envelope = np.exp(-(t**2) / (2 * sigma**2)) / (np.sqrt(2 * np.pi) * sigma)
    envelope[envelope < _NOTHING] = 0
    filters = envelope * np.exp(1j * centre * t)
    return filters * np.sqrt(area * 2 * math.sqrt(np.pi) * sigma)


def clip_lowpass_width(width: Tensor, kernel_size: int) -> Tensor:
    """Clips widths as `gaussian_lowpass` does, to `[2 / kernel_size, 0.5]`."""
    return ops.clip(width, 2.0 / kernel_size, 0.5)


def gaussian_lowpass(width: Tensor, kernel_size: int) -> Tensor:
    """Computes Gaussian lowpass filters with a peak of 1.

    LEAF, arXiv:2101.08596, section 3.2; there the filters are not normalised.

    Args:
      width: standard deviations as a share of half the kernel,
        `(n_filters,)`; see `clip_lowpass_width`.
      kernel_size: length in samples.

    Returns:
      An array `(kernel_size, n_filters)`.
    """
    return gaussian_windows(clip_lowpass_width(width, kernel_size), kernel_size)


def gaussian_windows(width: Tensor, kernel_size: int) -> Tensor:
    """Computes Gaussian windows with a peak of 1, of any width.

    Args:
      width: standard deviations as a share of half the kernel, `(n_filters,)`.
      kernel_size: length in samples.

    Returns:
      An array `(kernel_size, n_filters)`.
    """
    # A kernel of one sample has its peak at 0 whatever the width.
    half = max(kernel_size - 1, 1) / 2
    t = ops.cast(
        (np.arange(kernel_size)[:, None] - (kernel_size - 1) / 2) / half,
        width.dtype,
    )
    return _gaussian(t / width)


def _gaussian(deviations: Tensor) -> Tensor:
    exponent = ops.square(deviations) / 2
    vanishes = exponent > -math.log(_NOTHING)
    return ops.where(vanishes, ops.zeros_like(exponent), ops.exp(-exponent))


def sinc_filters(
    low_hz: Tensor, high_hz: Tensor, kernel_size: int, sample_rate: float
) -> Tensor:
    """Computes ideal band-pass filters, scaled to a maximum of 1.

    `h(t) = 2 f₂ sinc(2π f₂ t) − 2 f₁ sinc(2π f₁ t)`, not windowed; SincNet,
    arXiv:1808.00158, section 2.

    Args:
      low_hz: lower cutoff frequencies f₁ in Hz, `(n_filters,)`.
      high_hz: upper cutoff frequencies f₂ in Hz, `(n_filters,)`.
      kernel_size: length in samples; t = 0 lies at `kernel_size // 2`.
      sample_rate: in Hz.

    Returns:
      An array `(kernel_size, n_filters)`.
    """
    samples = np.arange(kernel_size)[:, None] - kernel_size // 2
    t = ops.cast(samples / sample_rate, low_hz.dtype)

    def lowpass(cutoff_hz: Tensor) -> Tensor:
        # In this order: angles reach 2π · 100, where a rounding of float32 is
        # what the stop band is made of, and published numbers hold it.
        return 2 * cutoff_hz * _sinc((2 * math.pi * cutoff_hz) * t)

    band = lowpass(high_hz) - lowpass(low_hz)
    return band / ops.max(band, axis=0, keepdims=True)


def _sinc(x: Tensor) -> Tensor:
    # The guard keeps both the value and the gradient at 0 finite.
    at_zero = ops.equal(x, 0)
    safe = ops.where(at_zero, ops.ones_like(x), x)
    return ops.where(at_zero, ops.ones_like(x), ops.sin(safe) / safe)


def window(name: str, size: int) -> np.ndarray:
    """Computes one of the windows that LEAF's frontends use.

    Args:
      name: `"hamming"` (periodic); `"hanning"` or `"squared_hanning"`, those
        of time-domain filterbanks, which start one sample before their first
        zero; or `"tf_hann"`, which is periodic for an even and symmetric for an
        odd size, as TensorFlow's is.
      size: in samples.

    Returns:
      A float64 array of shape `(size,)`.

    Raises:
      ValueError: there is no window of that name.
    """
    n = np.arange(size)
    if name == "hamming":
        return 0.54 - 0.46 * np.cos(2 * np.pi * n / size)
    if name == "tf_hann":
        return (1 - np.cos(2 * np.pi * n / max(size - size % 2, 1))) / 2
    hanning = (1 - np.cos(2 * np.pi * (n - 1) / max(size - 1, 1))) / 2
    if name == "hanning":
        return hanning
    if name == "squared_hanning":
        return hanning**2
    raise ValueError(
        f"`window_type` must be one of {WINDOWS}. Received: {name!r}."
    )


def stft_window(name: str, size: int) -> np.ndarray:
    """Computes a window of a spectrogram.

    Args:
      name: `"hann"`, `"hamming"`, `"blackman"` or `"boxcar"`, periodic as in
        SciPy, librosa and torchaudio; or `"tf_hann"`, see `window`.
      size: in samples.

    Returns:
      A float64 array of shape `(size,)`.
    """
    if name == "tf_hann":
        return window(name, size)
    if size == 1:
        # By the formula, some would be 0.
        return np.ones(1)
    phase = 2 * np.pi * np.arange(size) / size
    return sum(
        coefficient * np.cos(k * phase)
        for k, coefficient in enumerate(_COSINE_WINDOWS[name])
    )
