"""Predicts the relative errors of a filter's pooled energies.

There are three sources of error, and a function for each: a shortened kernel
(`truncation_error`), energies that are computed at every hop-th sample only
(`sampling_error`), and products of bins that are left out (`offset_errors`).

All three assume a stationary random input. Its spectrum is flat around the
filter's centre frequency and 20 dB higher away from it, because in real audio
quiet bands lie next to loud ones. `offset_errors` also assumes a loud burst
just outside the window. Frequencies are counted from the filter's centre, so
that its kernel is the Gaussian envelope alone. The filter's output is modelled
as a Gaussian process, whose energy has a known covariance.

The weights that replace a pooling window follow from the same covariance
(`weight_matrix`). From the energies at the samples, linear prediction (after
Wiener) estimates the energy at any point in between. The weight of a sample is
the sum, over all points of the window, of its share in the prediction times the
window.

Arguments: `sigma` is the standard deviation of a filter in samples, `width`
that of its pooling window as a share of half the window.
"""

import functools
import math
from typing import Any

import numpy as np

from leaf_audio import impulse_responses
from leaf_audio.fast.constants import CONSTANTS
from leaf_audio.fast.plan import Geometry

# Added to the variance of samples. Without it, the equations for the weights of
# samples that lie close together would be nearly singular.
_NUGGET = 1e-6


def _envelope(sigma: float, kernel_size: int) -> np.ndarray:
    """Returns a Gabor filter's envelope with a peak of 1, `(kernel_size,)`."""
    envelope = impulse_responses.gabor_envelope(np.array([sigma]), kernel_size)
    return envelope[:, 0]


def _windows(widths: list[float], geometry: Geometry) -> np.ndarray:
    """Returns pooling windows, `(widths, window_size)`."""
    windows = impulse_responses.gaussian_lowpass(
        np.array(widths), geometry.window_size
    )
    return np.ascontiguousarray(windows.T)


@functools.lru_cache(maxsize=256)
def taper(taps: int, kernel_size: int) -> np.ndarray:
    """Returns the factors of a shortened kernel's taps.

    They fall to 0 at both ends like half a period of a cosine, since an abrupt
    end would leak into all frequencies.

    Args:
      taps: Number of taps that are used, in the middle of the kernel.
      kernel_size: Number of taps of the whole kernel.

    Returns:
      An array `(taps,)`, all 1 for a kernel that is not shortened.
    """
    if taps == kernel_size:
        return np.ones(taps)
    from_end = 1 - np.abs(np.linspace(-1, 1, taps + 2)[1:-1])
    share = CONSTANTS.taper_share
    return np.where(
        from_end < share, (1 - np.cos(np.pi * from_end / share)) / 2, 1.0
    )


def near_distance(sigma: float | np.ndarray, geometry: Geometry) -> Any:
    """Returns how far a filter's band reaches from its centre frequency.

    Beyond, the filter only leaks, because its kernel is cut off.

    Args:
      sigma: Standard deviations in samples, of any shape.
      geometry: Sizes.

    Returns:
      Distances in cycles per sample, of the same shape.
    """
    band = CONSTANTS.near_deviations / (2 * np.pi * sigma)
    return np.maximum(CONSTANTS.near_distance / geometry.kernel_size, band)


# Spectra are those of real signals: of 2 n - 2 frequencies, the n from 0 on are
# kept. The others are their mirror image.


def _mean_of_all(spectrum: np.ndarray) -> float:
    """Returns the mean over all frequencies, the negative ones included."""
    twice = 2 * spectrum.sum() - spectrum[0] - spectrum[-1]
    return twice / (2 * len(spectrum) - 2)


def _all_frequencies(spectrum: np.ndarray) -> np.ndarray:
    return np.concatenate([spectrum, spectrum[-2:0:-1]])


def _input_spectrum(sigma: float, length: int) -> np.ndarray:
    """Returns a power spectrum that is higher away from frequency 0."""
    distance = 2 * np.pi * np.fft.rfftfreq(length) * sigma
    far = distance / CONSTANTS.input_excess_distance
    return 1 + CONSTANTS.input_excess * -np.expm1(-(far**2) / 2)


def _output_spectrum(
    sigma: float, kernel_size: int, input_spectrum: np.ndarray
) -> np.ndarray:
    """Returns the power spectrum of a filter's output, with a mean of 1."""
    envelope = _envelope(sigma, kernel_size)
    response = np.fft.rfft(envelope, 2 * len(input_spectrum) - 2)
    power = np.abs(response) ** 2 * input_spectrum
    return power / _mean_of_all(power)


def _energy_correlation(output_spectrum: np.ndarray) -> np.ndarray:
    """Returns the autocorrelation of a filter's energy, by lag, circular.

    For an output that is a Gaussian process, it is the square of the output's
    own autocorrelation, plus the square of the mean energy, which is 1.
    """
    return 1 + np.fft.irfft(output_spectrum) ** 2


def _spectrum_length(geometry: Geometry, hop: int) -> int:
    longest = 2 * geometry.kernel_size + geometry.window_size
    return 2 ** math.ceil(math.log2(longest + hop))


@functools.lru_cache(maxsize=4096)
def truncation_error(sigma: float, taps: int, kernel_size: int) -> float:
    """Predicts the relative error of energies from a shortened kernel.

    It is the root of the ratio of two powers: that of the output of what the
    kernel has lost, and that of the output of the whole kernel.

    Args:
      sigma: Standard deviation of the filter, in samples.
      taps: Number of taps that are used.
      kernel_size: Number of taps of the whole kernel.
    """
    # The widest filter for which a plan holds loses most.
    envelope, power, whole = _whole_kernel(
        sigma * CONSTANTS.sigma_margin, kernel_size
    )
    first = kernel_size // 2 - taps // 2
    missing = envelope.copy()
    missing[first : first + taps] *= 1 - taper(taps, kernel_size)
    return math.sqrt(_output_power(missing, power) / whole)


@functools.lru_cache(maxsize=256)
def _whole_kernel(
    sigma: float, kernel_size: int
) -> tuple[np.ndarray, np.ndarray, float]:
    """Returns a kernel's envelope, and the powers of its input and output."""
    envelope = _envelope(sigma, kernel_size)
    length = 2 ** math.ceil(math.log2(4 * kernel_size))
    power = _input_spectrum(sigma, length)
    return envelope, power, _output_power(envelope, power)


def _output_power(kernel: np.ndarray, power: np.ndarray) -> float:
    """Returns the power of a kernel's output for a power spectrum of inputs."""
    response = np.fft.rfft(kernel, 2 * len(power) - 2)
    return _mean_of_all(np.abs(response) ** 2 * power)


def _covariances(
    sigma: float, hop: int, samples: np.ndarray, geometry: Geometry
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the covariances between energies.

    Args:
      sigma: Standard deviation of the filter, in samples.
      hop: Distance between two sampled energies, in samples.
      samples: `(n,)`, their positions, counted from the window's start.
      geometry: Sizes.

    Returns:
      Two arrays: `(n, n)` of the samples with each other, and `(n,
      window_size)` of the samples with all points of the window.
    """
    white = np.ones(_spectrum_length(geometry, hop) // 2 + 1)
    correlation = _energy_correlation(
        _output_spectrum(sigma, geometry.kernel_size, white)
    )
    among = correlation[samples[:, None] - samples]
    among[np.diag_indices_from(among)] += _NUGGET
    points = np.arange(geometry.window_size)
    return among, correlation[samples[:, None] - points]


@functools.lru_cache(maxsize=128)
def weight_matrix(sigma: float, hop: int, geometry: Geometry) -> np.ndarray:
    """Returns the matrix that turns a window into weights of energies.

    Args:
      sigma: Standard deviation of the filter, in samples.
      hop: Distance between two energies, in samples.
      geometry: Sizes.

    Returns:
      An array `(energies, window_size)`. Times a pooling window it gives the
      weights of the energies.
    """
    samples = geometry.sample_positions(hop)
    return np.linalg.solve(*_covariances(sigma, hop, samples, geometry))


@functools.lru_cache(maxsize=4096)
def sampling_error(
    sigma: float, width: float, hop: int, geometry: Geometry
) -> float:
    """Predicts the relative error of energies at every `hop`-th sample only.

    The error is the greatest over the bounds within which a plan holds: the
    weights are made for `sigma`, and used for filters and windows that are
    wider or narrower by the margins.

    Args:
      sigma: Standard deviation of the filter, in samples.
      width: Pooling width, as a share of half the window.
      hop: Distance between two energies, in samples.
      geometry: Sizes.
    """
    if hop == 1:
        return 0.0
    size = geometry.window_size
    samples = geometry.sample_positions(hop)
    margin = CONSTANTS.width_margin
    windows = _windows([width / margin, width * margin], geometry)
    # Solving for two windows is many times cheaper than for every point.
    among, with_points = _covariances(sigma, hop, samples, geometry)
    weights = np.linalg.solve(among, with_points @ windows.T).T
    length = _spectrum_length(geometry, hop)
    worst = 0.0
    for window, of_samples in zip(windows, weights, strict=True):
        difference = np.zeros(length)
        difference[:size] = window
        difference[samples] -= of_samples
        power = np.abs(np.fft.rfft(difference)) ** 2
        for actual in _sigma_bounds(sigma):
            spectrum = _energy_spectrum(actual, length, geometry)
            variance = max(_mean_of_all(power * spectrum), 0.0)
            worst = max(worst, math.sqrt(variance) / window.sum())
    return worst


def _sigma_bounds(sigma: float) -> tuple[float, float]:
    margin = CONSTANTS.sigma_margin
    return sigma * (1 / margin), sigma * margin


@functools.lru_cache(maxsize=256)
def _energy_spectrum(
    sigma: float, length: int, geometry: Geometry
) -> np.ndarray:
    """Returns the power spectrum of a filter's energy."""
    output = _output_spectrum(
        sigma, geometry.kernel_size, _input_spectrum(sigma, length)
    )
    return np.fft.rfft(_energy_correlation(output)).real


@functools.lru_cache(maxsize=4096)
def offset_errors(
    sigma: float, width: float, geometry: Geometry
) -> tuple[float, ...]:
    """Predicts the relative errors of leaving out products of distant bins.

    Near the filter's centre, products with an offset above the greatest one are
    left out. Elsewhere, those above `Geometry.far_offset` are. A stationary
    input does not show all of the error: a short loud burst just outside the
    window leaks into it, and is predicted separately.

    Args:
      sigma: Standard deviation of the filter, in samples.
      width: Pooling width, as a share of half the window.
      geometry: Sizes.

    Returns:
      One error for each greatest offset, in the order of `CONSTANTS.offsets`.
    """
    length = geometry.fft_length
    distance = np.minimum(np.arange(length), length - np.arange(length))
    left_out = distance > np.array(CONSTANTS.offsets)[:, None]
    left_out_far = (distance > geometry.far_offset) & ~left_out
    reach = near_distance(sigma, geometry) * length
    margin = CONSTANTS.width_margin
    worst = np.zeros(len(CONSTANTS.offsets))
    for width_factor in (1 / margin, margin):
        (window,) = _windows([width * width_factor], geometry)
        window_power = np.abs(np.fft.fft(window, length)) ** 2
        near_power = window_power * left_out
        for actual in _sigma_bounds(sigma):
            output = _output_spectrum(
                actual, geometry.kernel_size, _input_spectrum(actual, length)
            )
            energy = np.fft.rfft(_energy_correlation(output)).real
            spectrum = _all_frequencies(energy)
            steady = np.maximum(np.mean(near_power * spectrum, axis=1), 0)
            leaked = window_power * _leaked_spectrum(
                _all_frequencies(output), reach
            )
            steady += np.mean(left_out_far * leaked, axis=1)
            burst = _burst_error(actual, near_power, geometry)
            errors = np.sqrt(steady + burst) / window.sum()
            worst = np.maximum(worst, errors)
    return tuple(worst.tolist())


def _leaked_spectrum(output_spectrum: np.ndarray, reach: float) -> np.ndarray:
    """Returns the part of an energy's spectrum that comes from distant bins.

    Args:
      output_spectrum: `(length,)`, power spectrum of the filter's output.
      reach: Distance from the centre, in bins, beyond which bins are distant.

    Returns:
      An array `(length,)`, 0 beyond the greatest of `CONSTANTS.offsets`.
    """
    length = len(output_spectrum)
    leaked = np.zeros(length)
    for d in range(1, min(max(CONSTANTS.offsets), length // 2) + 1):
        middle = np.arange(length) + d / 2
        away = np.abs((middle + length / 2) % length - length / 2) > reach
        products = output_spectrum * np.roll(output_spectrum, -d)
        leaked[[d, -d]] = np.mean(products * away)
    return leaked


def _burst_error(
    sigma: float, left_out_power: np.ndarray, geometry: Geometry
) -> np.ndarray:
    """Predicts the squared error of a burst that lies outside the window.

    Args:
      sigma: Standard deviation of the filter, in samples.
      left_out_power: `(offsets, length)`, the window's power spectrum where
        products are left out, else 0.
      geometry: Sizes.

    Returns:
      An array `(offsets,)`.
    """
    length = geometry.fft_length
    deviation = geometry.kernel_size * CONSTANTS.burst_length
    burst = np.exp(-((2 * np.pi * np.fft.fftfreq(length) * deviation) ** 2) / 2)
    energy = _envelope(sigma, geometry.kernel_size) ** 2
    response = np.abs(np.fft.fft(energy, length) * burst) ** 2
    misplaced = np.sum(left_out_power * response, axis=1) / energy.sum() ** 2
    return CONSTANTS.burst_ratio**2 * misplaced
