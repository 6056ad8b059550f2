"""Centre frequencies and widths of filters, along a frequency scale or random.

Conventions: frequencies are in Hz. The base of a filter is the width of a
triangle in its place: the distance between the centres of its two neighbours. A
Gabor filter of that base has a standard deviation of
`sample_rate / (2 * base)` samples. This is EfficientLEAF's formula
(arXiv:2207.05508). It agrees within 0.1 % with what LEAF reads from a mel
matrix with many bins.

All values are float64 NumPy arrays, because they are computed only once, when a
layer is built.
"""

import math
import statistics
from collections.abc import Callable

import numpy as np

from leaf_audio.initializers import mel

# Full width at half maximum of a Gabor filter's magnitude response, divided by
# its base. The width is 2 √(2 ln 2) / σ rad/sample, where
# σ = sample_rate / (2 · base).
_FWHM_PER_BASE = 2 * math.sqrt(2 * math.log(2)) / math.pi

# Exponent in the base of "constant" filters,
# min_freq · (max_freq / min_freq) ** exponent.
_CONSTANT_BASE = 0.4

# Greatest width of a random filter, as a fraction of the band.
_WIDEST_RANDOM = 0.1

# Methods that draw centre frequencies and widths at random.
RANDOM = ("uniform", "truncated_normal")


def hz_to_bark(frequency_hz: np.ndarray | float) -> np.ndarray:
    """Converts frequencies from Hz to Bark.

    The formula is `26.81 f / (1960 + f) − 0.53`, without the corrections below
    2 and above 20.1 Bark. It is from Traunmüller, "Analytical expressions for
    the tonotopic sensory scale", 1990, doi:10.1121/1.399849.

    Args:
      frequency_hz: Frequencies in Hz.

    Returns:
      The frequencies in Bark, an array of the same shape.
    """
    frequency_hz = np.asarray(frequency_hz)
    return 26.81 * frequency_hz / (1960 + frequency_hz) - 0.53


def bark_to_hz(bark: np.ndarray | float) -> np.ndarray:
    """Converts frequencies from Bark to Hz, as the inverse of `hz_to_bark`.

    Args:
      bark: Frequencies in Bark.

    Returns:
      The frequencies in Hz, an array of the same shape.
    """
    bark = np.asarray(bark)
    return 1960 * (bark + 0.53) / (26.28 - bark)


def hz_to_erb_rate(frequency_hz: np.ndarray | float) -> np.ndarray:
    """Converts frequencies from Hz to the ERB-rate scale.

    The result is the number of equivalent rectangular bandwidths (ERB) below a
    frequency, `21.4 log10(1 + 0.00437 f)`. The formula is from Glasberg and
    Moore, "Derivation of auditory filter shapes from notched-noise data", 1990,
    doi:10.1016/0378-5955(90)90170-T.

    Args:
      frequency_hz: Frequencies in Hz.

    Returns:
      The frequencies on the ERB-rate scale, an array of the same shape.
    """
    return 21.4 * np.log10(1 + 0.00437 * np.asarray(frequency_hz))


def erb_rate_to_hz(erb_rate: np.ndarray | float) -> np.ndarray:
    """Converts frequencies from the ERB-rate scale to Hz.

    Args:
      erb_rate: Numbers of equivalent rectangular bandwidths.

    Returns:
      The frequencies in Hz, an array of the same shape.
    """
    return (10 ** (np.asarray(erb_rate) / 21.4) - 1) / 0.00437


Scale = Callable[[np.ndarray | float], np.ndarray]

_SCALES: dict[str, tuple[Scale, Scale]] = {
    "mel_analytic": (mel.hz_to_mel, mel.mel_to_hz),
    "linear": (np.asarray, np.asarray),
    "bark": (hz_to_bark, bark_to_hz),
    "erb": (hz_to_erb_rate, erb_rate_to_hz),
}

METHODS = (*_SCALES, "constant", *RANDOM)


def bands(
    method: str,
    n_filters: int,
    min_freq: float,
    max_freq: float,
    narrowest: float,
    seed: int | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Computes the centre frequencies and the bases of filters.

    Args:
      method: One of `METHODS`.
        `"mel_analytic"`, `"linear"`, `"bark"`, `"erb"`: the centres and the
        two edges of the band are equally spaced on that scale.
        `"constant"`: all filters are the same. Their centre is the geometric
        mean of the edges. Their base is
        `min_freq * (max_freq / min_freq) ** 0.4`.
        `"uniform"`, `"truncated_normal"`: the centres are drawn between the
        edges, and the full widths at half maximum between `narrowest` and a
        tenth of the band. The normal distribution has its mean in the middle of
        the range and is cut off at the limits, which lie two standard
        deviations from the mean.
      n_filters: Integer. Number of filters.
      min_freq: Lower edge of the band in Hz. It must be positive for
        `"constant"`.
      max_freq: Upper edge of the band, in Hz.
      narrowest: Smallest full width at half maximum of a random filter, in Hz.
        If it is more than a tenth of the band, all random filters have it.
      seed: Integer. Seed of the random methods. The same seed always gives the
        same filters. None draws others each time.

    Returns:
      The centre frequencies and the bases in Hz, two arrays of shape
      `(n_filters,)`. The centres are sorted from low to high.
    """
    if method in _SCALES:
        to_scale, to_hz = _SCALES[method]
        points = to_hz(
            np.linspace(to_scale(min_freq), to_scale(max_freq), n_filters + 2)
        )
        return points[1:-1], points[2:] - points[:-2]
    if method == "constant":
        centre = math.sqrt(min_freq * max_freq)
        base = min_freq * (max_freq / min_freq) ** _CONSTANT_BASE
        return np.full(n_filters, centre), np.full(n_filters, base)
    generator = np.random.default_rng(seed)
    widest = max(_WIDEST_RANDOM * (max_freq - min_freq), narrowest)
    centres = _draw(generator, method, min_freq, max_freq, n_filters)
    widths = _draw(generator, method, narrowest, widest, n_filters)
    return np.sort(centres), base_of(widths)


def base_of(fwhm: np.ndarray | float) -> np.ndarray:
    """Computes the base of a Gabor filter from its bandwidth.

    Args:
      fwhm: Full width at half maximum of the magnitude response, in Hz.

    Returns:
      The base in Hz, an array of the same shape.
    """
    return np.asarray(fwhm) / _FWHM_PER_BASE


def gabor_parameters(
    centres: np.ndarray, bases: np.ndarray, sample_rate: float
) -> np.ndarray:
    """Converts centre frequencies and bases to the parameters of Gabor filters.

    Args:
      centres: Centre frequencies in Hz, an array of shape `(n_filters,)`.
      bases: Widths of the filters' triangles at their feet in Hz, an array of
        shape `(n_filters,)`.
      sample_rate: Sample rate in Hz.

    Returns:
      An array of shape `(n_filters, 2)`: centre frequencies in rad/sample and
      standard deviations in samples.
    """
    return np.stack(
        [2 * np.pi * centres / sample_rate, sample_rate / (2 * bases)], axis=1
    )


def _draw(
    generator: np.random.Generator,
    distribution: str,
    low: float,
    high: float,
    size: int,
) -> np.ndarray:
    uniform = generator.uniform(size=size)
    if distribution == "uniform":
        return low + (high - low) * uniform
    normal = statistics.NormalDist()
    tail = normal.cdf(-2.0)
    deviates = [normal.inv_cdf(tail + (1 - 2 * tail) * u) for u in uniform]
    return (low + high) / 2 + (high - low) / 4 * np.array(deviates)
