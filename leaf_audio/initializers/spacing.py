"""Where Gabor filters start: centres and widths along a frequency scale.

Conventions: frequencies in Hz. A filter's base is the width of the triangle
whose place it takes, from the centre of its lower neighbour to that of its
upper one. The standard deviation of a Gabor filter of that base is
`sample_rate / (2 · base)` samples: EfficientLEAF's (arXiv:2207.05508), and
within 0.1 % of what LEAF reads off a finely sampled mel matrix. Everything here
is float64 NumPy: it runs once, when a layer is built.
"""

import math
import statistics
from collections.abc import Callable

import numpy as np

from leaf_audio.initializers import mel

# Full width at half maximum of a Gabor filter's magnitude response, as a share
# of its base: 2 √(2 ln 2) / σ rad/sample, with σ = sample_rate / (2 · base).
_FWHM_PER_BASE = 2 * math.sqrt(2 * math.log(2)) / math.pi

# Of the ratio of the band's edges, in octaves: the base of "constant" filters.
_CONSTANT_BASE = 0.4

# Of the band: the widest random filter.
_WIDEST_RANDOM = 0.1

RANDOM = ("uniform", "truncated_normal")


def hz_to_bark(frequency_hz: np.ndarray | float) -> np.ndarray:
    """Converts Hz to Bark.

    `26.81 f / (1960 + f) − 0.53`: Traunmüller, "Analytical expressions for the
    tonotopic sensory scale", 1990, doi:10.1121/1.399849, without the
    corrections below 2 and above 20.1 Bark.
    """
    frequency_hz = np.asarray(frequency_hz)
    return 26.81 * frequency_hz / (1960 + frequency_hz) - 0.53


def bark_to_hz(bark: np.ndarray | float) -> np.ndarray:
    """Converts Bark to Hz, as `hz_to_bark` has it."""
    bark = np.asarray(bark)
    return 1960 * (bark + 0.53) / (26.28 - bark)


def hz_to_erb_rate(frequency_hz: np.ndarray | float) -> np.ndarray:
    """Converts Hz to the number of equivalent rectangular bandwidths below.

    `21.4 log10(1 + 0.00437 f)`: Glasberg and Moore, "Derivation of auditory
    filter shapes from notched-noise data", 1990,
    doi:10.1016/0378-5955(90)90170-T.
    """
    return 21.4 * np.log10(1 + 0.00437 * np.asarray(frequency_hz))


def erb_rate_to_hz(erb_rate: np.ndarray | float) -> np.ndarray:
    """Converts a number of equivalent rectangular bandwidths to Hz."""
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
    """Computes centres and bases, from the lowest filter to the highest.

    Args:
      method: one of METHODS. A scale has the filters' centres and the band's
        edges equally far apart. `"constant"` has all filters alike: their
        centre is the geometric mean of the edges, their base lies at two fifths
        of the way between the edges, in octaves. `"uniform"` and
        `"truncated_normal"` draw both: the centres within the band, around its
        middle; the widths at half maximum from `narrowest` to a tenth of the
        band. A normal distribution is cut off at two standard deviations, which
        are the limits.
      n_filters: number of filters.
      min_freq: lower edge of the band; above 0 for `"constant"`.
      max_freq: upper edge of the band.
      narrowest: least width at half maximum that is drawn.
      seed: of what is drawn; a seed always draws the same.

    Returns:
      Two arrays `(n_filters,)`.
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
    """Converts a width at half maximum of the magnitude response to a base."""
    return np.asarray(fwhm) / _FWHM_PER_BASE


def gabor_parameters(
    centres: np.ndarray, bases: np.ndarray, sample_rate: float
) -> np.ndarray:
    """Converts bands to the parameters of Gabor filters.

    Args:
      centres: in Hz, `(n_filters,)`.
      bases: in Hz, `(n_filters,)`.
      sample_rate: in Hz.

    Returns:
      An array `(n_filters, 2)`: centres in rad/sample, standard deviations in
      samples.
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
