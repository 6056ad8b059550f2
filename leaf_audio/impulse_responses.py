"""Impulse responses of filters, and windows.

Conventions: kernel sizes and times are in samples, centre frequencies in
rad/sample, cutoff frequencies in Hz.

Functions of learnable parameters take tensors and are differentiable. The
functions for Gaussians also take NumPy arrays: they then compute in NumPy, with
the dtype of the arrays. Plans and initial kernels are made in this way, in
float64. Functions that return a window by its name give float64 NumPy arrays.
"""

import math
from typing import Any

import numpy as np
from keras import ops

from leaf_audio.common.lean_ops import clip

Tensor = Any

WINDOWS = ("hamming", "hanning", "squared_hanning", "tf_hann")

# Gaussians are set to 0 where they fall below this value. Products of smaller
# values with audio would be denormal numbers, with which convolutions take ten
# times as long in PyTorch on a CPU. TensorFlow and JAX treat denormal numbers
# as 0.
_NEGLIGIBLE = 1e-30

# Windows of spectrograms, as coefficients of cosines. The names are SciPy's.
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

    The Gaussian has an area of 1, so the frequency response peaks at 1.

    Args:
      centre: Centre frequencies η in rad/sample, `(n_filters,)`.
      sigma: Standard deviations σ in samples, `(n_filters,)`.
      kernel_size: Length of the filters in samples. Time 0 lies at
        `kernel_size // 2`.

    Returns:
      The real and the imaginary parts, each `(kernel_size, n_filters)`.

    Reference: LEAF, arXiv:2101.08596, section 3.1.
    """
    centre, sigma = map(ops.convert_to_tensor, (centre, sigma))
    t = ops.cast(_gabor_times(kernel_size), centre.dtype)
    envelope = gabor_envelope(sigma, kernel_size)
    envelope = envelope / (math.sqrt(2 * math.pi) * sigma)
    phase = centre * t
    return envelope * ops.cos(phase), envelope * ops.sin(phase)


def gabor_envelope(sigma: Tensor, kernel_size: int) -> Tensor:
    """Computes the Gaussian envelopes of Gabor filters, with a peak of 1.

    Args:
      sigma: Standard deviations in samples, `(n_filters,)`; a tensor or a NumPy
        array.
      kernel_size: Length of the filters in samples. Time 0 lies at
        `kernel_size // 2`.

    Returns:
      An array `(kernel_size, n_filters)`; NumPy if `sigma` is.
    """
    return _gaussian(_gabor_times(kernel_size), sigma)


def _gabor_times(kernel_size: int) -> np.ndarray:
    return np.arange(kernel_size)[:, None] - kernel_size // 2


def scaled_gabor_filters(
    parameters: np.ndarray, area: np.ndarray, kernel_size: int
) -> np.ndarray:
    """Computes Gabor filters with the energies of filters of a given area.

    Time-domain filterbanks are initialized with these filters.

    Args:
      parameters: Centre frequencies in rad/sample and standard deviations in
        samples, `(n_filters, 2)`, float64.
      area: Areas of the responses to energy, in rad/sample, `(n_filters, 1)`.
      kernel_size: Length of the filters in samples. Time 0 lies at
        `kernel_size // 2`.

    Returns:
      A complex NumPy array `(n_filters, kernel_size)`.

    Reference: time-domain filterbanks, arXiv:1711.01161, section 2.2.
    """
    centre, sigma = np.split(parameters, 2, axis=1)
    envelope = gabor_envelope(sigma[:, 0], kernel_size).T
    envelope = envelope / (math.sqrt(2 * math.pi) * sigma)
    filters = envelope * np.exp(1j * centre * _gabor_times(kernel_size).T)
    return filters * np.sqrt(area * 2 * math.sqrt(np.pi) * sigma)


def clip_lowpass_width(width: Tensor, kernel_size: int) -> Tensor:
    """Clips pooling widths to `[2 / kernel_size, 0.5]`.

    Args:
      width: Standard deviations as a share of half the window, of any shape; a
        tensor or a NumPy array.
      kernel_size: Length of the window in samples.

    Returns:
      An array of the same shape and kind.
    """
    narrowest = 2.0 / kernel_size
    if isinstance(width, np.ndarray):
        return np.clip(width, narrowest, 0.5)
    return clip(width, narrowest, 0.5)


def gaussian_lowpass(width: Tensor, kernel_size: int) -> Tensor:
    """Computes Gaussian lowpass filters with a peak of 1.

    Widths are clipped first; see `clip_lowpass_width`. As in LEAF, the filters
    are not normalised.

    Args:
      width: Standard deviations as a share of half the window, `(n_filters,)`;
        a tensor or a NumPy array.
      kernel_size: Length of the filters in samples.

    Returns:
      `(kernel_size, n_filters)`, a NumPy array if `width` is one, otherwise a
      tensor.

    Reference: LEAF, arXiv:2101.08596, section 3.2.
    """
    return gaussian_windows(clip_lowpass_width(width, kernel_size), kernel_size)


def gaussian_windows(width: Tensor, kernel_size: int) -> Tensor:
    """Computes Gaussian windows with a peak of 1, without clipping widths.

    Args:
      width: Standard deviations as a share of half the window, `(n_filters,)`;
        a tensor or a NumPy array.
      kernel_size: Length of the windows in samples.

    Returns:
      `(kernel_size, n_filters)`, a NumPy array if `width` is one, otherwise a
      tensor.
    """
    # A window of one sample has its peak at 0 whatever the width.
    half = max(kernel_size - 1, 1) / 2
    t = (np.arange(kernel_size)[:, None] - (kernel_size - 1) / 2) / half
    return _gaussian(t, width)


def _gaussian(times: np.ndarray, sigma: Tensor) -> Tensor:
    """Computes `exp(-(t / σ)² / 2)`, in NumPy if σ is a NumPy array."""
    xp = _namespace(sigma)
    if xp is np:
        times = times.astype(sigma.dtype)
    else:
        times = ops.cast(times, sigma.dtype)
    # With a minus after the square, TensorFlow would take a slow composition.
    exponent = xp.square(times / sigma) * -0.5
    vanishes = exponent < math.log(_NEGLIGIBLE)
    return xp.where(vanishes, xp.zeros_like(exponent), xp.exp(exponent))


def _namespace(x: Tensor) -> Any:
    """Returns the module whose functions suit an array: NumPy or keras.ops."""
    return np if isinstance(x, np.ndarray) else ops


def sinc_filters(
    low_hz: Tensor, high_hz: Tensor, kernel_size: int, sample_rate: float
) -> Tensor:
    """Computes ideal band-pass filters, scaled to a maximum of 1.

    `h(t) = 2 f₂ sinc(2π f₂ t) − 2 f₁ sinc(2π f₁ t)`. No window is applied. The
    filter of an empty band, where f₁ = f₂, is all zeros.

    Args:
      low_hz: Lower cutoff frequencies f₁ in Hz, `(n_filters,)`.
      high_hz: Upper cutoff frequencies f₂ in Hz, `(n_filters,)`.
      kernel_size: Length of the filters in samples. Time 0 lies at
        `kernel_size // 2`.
      sample_rate: Sample rate in Hz.

    Returns:
      An array `(kernel_size, n_filters)`.

    Reference: SincNet, arXiv:1808.00158, section 2.
    """
    samples = np.arange(kernel_size)[:, None] - kernel_size // 2
    t = ops.cast(samples / sample_rate, low_hz.dtype)

    def lowpass(cutoff_hz: Tensor) -> Tensor:
        # The order of these products matters. Angles reach 2π · 100, where the
        # rounding of float32 determines the stop band, and the published
        # numbers contain that rounding.
        return 2 * cutoff_hz * _sinc((2 * math.pi * cutoff_hz) * t)

    band = lowpass(high_hz) - lowpass(low_hz)
    highest = ops.max(band, axis=0, keepdims=True)
    # Dividing by 1 in an empty band keeps its gradient finite, too.
    return band / ops.where(ops.equal(highest, 0), 1.0, highest)


def _sinc(x: Tensor) -> Tensor:
    # Dividing by 1 at x = 0 keeps the value and the gradient there finite.
    at_zero = ops.equal(x, 0)
    safe = ops.where(at_zero, ops.ones_like(x), x)
    return ops.where(at_zero, ops.ones_like(x), ops.sin(safe) / safe)


def window(name: str, size: int) -> np.ndarray:
    """Computes one of the windows that LEAF's frontends use.

    Args:
      name: One of

        - `"hamming"`: periodic Hamming window;
        - `"hanning"`, `"squared_hanning"`: those of time-domain filterbanks,
          which start one sample before their first zero;
        - `"tf_hann"`: TensorFlow's Hann window, which is periodic for an even
          size and symmetric for an odd one.
      size: Length of the window in samples.

    Returns:
      A float64 array `(size,)`.

    Raises:
      ValueError: There is no window of that name.
    """
    n = np.arange(size)
    if name == "tf_hann" and size == 1:
        # By the formula, it would be 0.
        return np.ones(1)
    if name == "hamming":
        return 0.54 - 0.46 * np.cos(2 * np.pi * n / size)
    if name == "tf_hann":
        return (1 - np.cos(2 * np.pi * n / (size - size % 2))) / 2
    hanning = (1 - np.cos(2 * np.pi * (n - 1) / max(size - 1, 1))) / 2
    if name == "hanning":
        return hanning
    if name == "squared_hanning":
        return hanning**2
    raise ValueError(
        f"`window_type` must be one of {WINDOWS}. Received: "
        f"window_type={name!r}."
    )


def stft_window(name: str, size: int) -> np.ndarray:
    """Computes a window for spectrograms.

    Args:
      name: `"hann"`, `"hamming"`, `"blackman"` or `"boxcar"`, periodic as in
        SciPy, librosa and torchaudio; or `"tf_hann"`, see `window`.
      size: Length of the window in samples.

    Returns:
      A float64 array `(size,)`.

    Raises:
      ValueError: There is no window of that name.
    """
    if name not in STFT_WINDOWS:
        raise ValueError(
            f"`window` must be one of {STFT_WINDOWS}. Received: "
            f"window={name!r}."
        )
    if name == "tf_hann":
        return window(name, size)
    if size == 1:
        # By the formula, some of these windows would be 0.
        return np.ones(1)
    phase = 2 * np.pi * np.arange(size) / size
    values = np.zeros(size)
    for k, coefficient in enumerate(_COSINE_WINDOWS[name]):
        values += coefficient * np.cos(k * phase)
    return values
