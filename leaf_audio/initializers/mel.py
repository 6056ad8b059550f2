"""The mel scale, mel matrices, and Gabor filters that match a mel matrix.

Conventions:

- Frequencies are in Hz, angular frequencies in rad/sample and standard
  deviations in samples.
- The mel scale is HTK's, `mel = 1127 ln(1 + f / 700)`, unless Slaney's scale is
  asked for.
- A mel matrix has one row for each filter and one column for each bin of a real
  FFT: `(n_filters, n_fft // 2 + 1)`. By default, its filters are triangles on
  the mel axis with a peak of 1 and are not normalised.

All values are float64 NumPy arrays, because they are computed only once, when a
layer is built.
"""

import math
from typing import Any

import numpy as np

from leaf_audio import impulse_responses
from leaf_audio.common.checks import check_not_negative, check_size
from leaf_audio.common.sizes import told_rate

_MEL_BREAK_HZ = 700.0
_MEL_SCALE = 1127.0

MEL_SCALES = ("htk", "slaney")

# Slaney's scale is linear up to 1000 Hz, which is 15 mel. Above that, it is
# logarithmic.
_SLANEY_HZ_PER_MEL = 200 / 3
_SLANEY_BREAK_HZ = 1000.0
_SLANEY_BREAK_MEL = _SLANEY_BREAK_HZ / _SLANEY_HZ_PER_MEL
_SLANEY_LOG_STEP = math.log(6.4) / 27

# The longest FFT that `smallest_n_fft` tries. If a filter has no bin in an FFT
# of this length, the band is too narrow for the number of filters.
_MAX_N_FFT = 1 << 18

# Length of the FFT in the release of LEAF, in samples.
LEAF_N_FFT = 512

# Lower edge of LEAF's lowest filter, in Hz.
DEFAULT_MIN_FREQ = 60.0

# Upper edge of LEAF's highest filter as a fraction of the Nyquist frequency. It
# is 7800 Hz at 16 kHz.
_AUTO_MAX_FREQ = 0.975


def hz_to_mel(
    frequency_hz: np.ndarray | float, mel_scale: str = "htk"
) -> np.ndarray:
    """Converts frequencies from Hz to mel.

    Args:
      frequency_hz: Frequencies in Hz.
      mel_scale: `"htk"`, or `"slaney"` for the scale of Slaney's Auditory
        Toolbox (Interval Research technical report 1998-010), which is
        librosa's default. Defaults to `"htk"`.

    Returns:
      The frequencies in mel, an array of the same shape.
    """
    frequency_hz = np.asarray(frequency_hz, dtype="float64")
    if mel_scale == "htk":
        return _MEL_SCALE * np.log1p(frequency_hz / _MEL_BREAK_HZ)
    above = np.maximum(frequency_hz, _SLANEY_BREAK_HZ) / _SLANEY_BREAK_HZ
    return (
        np.minimum(frequency_hz, _SLANEY_BREAK_HZ) / _SLANEY_HZ_PER_MEL
        + np.log(above) / _SLANEY_LOG_STEP
    )


def mel_to_hz(mel: np.ndarray | float, mel_scale: str = "htk") -> np.ndarray:
    """Converts frequencies from mel to Hz.

    Args:
      mel: Frequencies in mel.
      mel_scale: `"htk"` or `"slaney"`, as in `hz_to_mel`. Defaults to `"htk"`.

    Returns:
      The frequencies in Hz, an array of the same shape.
    """
    mel = np.asarray(mel, dtype="float64")
    if mel_scale == "htk":
        return _MEL_BREAK_HZ * np.expm1(mel / _MEL_SCALE)
    above = np.maximum(mel - _SLANEY_BREAK_MEL, 0.0)
    return (
        np.minimum(mel, _SLANEY_BREAK_MEL)
        * _SLANEY_HZ_PER_MEL
        * np.exp(_SLANEY_LOG_STEP * above)
    )


def resolve_max_freq(max_freq: float | str | None, sample_rate: float) -> float:
    """Returns the frequency in Hz that a setting of `max_freq` stands for.

    Args:
      max_freq: A frequency in Hz; None or 0 for the Nyquist frequency; or
        `"auto"` for 97.5 % of the Nyquist frequency, which is 7800 Hz at 16 kHz
        as in LEAF.
      sample_rate: Sample rate in Hz.

    Returns:
      The upper edge of the band, in Hz.

    Raises:
      ValueError: `max_freq` is a string other than `"auto"`, or a number that
        is negative or not finite.
    """
    check_max_freq(max_freq)
    nyquist = sample_rate / 2
    if isinstance(max_freq, str):
        return _AUTO_MAX_FREQ * nyquist
    return float(max_freq) if max_freq else nyquist


def check_max_freq(max_freq: Any) -> None:
    """Raises a ValueError unless `resolve_max_freq` takes the setting."""
    if isinstance(max_freq, str):
        if max_freq != "auto":
            raise ValueError(
                "`max_freq` must be a frequency in Hz, None or 'auto'. "
                f"Received: max_freq={max_freq!r}."
            )
    elif max_freq is not None:
        check_not_negative("max_freq", max_freq)


def resolve_min_freq(min_freq: float | str) -> float:
    """Returns the frequency in Hz that a setting of `min_freq` stands for.

    Args:
      min_freq: A frequency in Hz; or `"auto"` for 60 Hz, as in LEAF.

    Returns:
      The lower edge of the band, in Hz.

    Raises:
      ValueError: `min_freq` is neither `"auto"` nor a number from 0 on.
    """
    if isinstance(min_freq, str) and min_freq == "auto":
        return DEFAULT_MIN_FREQ
    return check_not_negative("min_freq", min_freq)


def check_band(min_freq: float, max_freq: float, sample_rate: float) -> None:
    """Checks that a band is not empty and does not exceed Nyquist.

    Args:
      min_freq: Lower edge of the band, in Hz.
      max_freq: Upper edge of the band, in Hz.
      sample_rate: Sample rate in Hz.

    Raises:
      ValueError: `0 <= min_freq < max_freq <= sample_rate / 2` does not hold.
    """
    for name, value in (("min_freq", min_freq), ("max_freq", max_freq)):
        check_not_negative(name, value)
    if min_freq >= max_freq:
        raise ValueError(
            "`min_freq` must be below `max_freq`. Received: "
            f"min_freq={min_freq}, max_freq={max_freq}, "
            f"{told_rate(sample_rate)}"
        )
    if max_freq > sample_rate / 2:
        raise ValueError(
            "`max_freq` must not exceed the Nyquist frequency, half of "
            f"`sample_rate`. Received: max_freq={max_freq}, "
            f"{told_rate(sample_rate)}"
        )


def mel_matrix(
    n_filters: int,
    n_fft: int,
    sample_rate: float,
    min_freq: float,
    max_freq: float,
    mel_scale: str = "htk",
    norm: str | None = None,
    triangles: str = "mel",
) -> np.ndarray:
    """Computes the matrix that sums the bins of a spectrogram to mel bands.

    The bin at 0 Hz has no weight, as in HTK and TensorFlow.

    Args:
      n_filters: Integer. Number of bands.
      n_fft: Integer. Length of the FFT, in samples.
      sample_rate: Sample rate in Hz.
      min_freq: Lower edge of the lowest band, in Hz.
      max_freq: Upper edge of the highest band, in Hz.
      mel_scale: `"htk"` or `"slaney"`, as in `hz_to_mel`. Defaults to `"htk"`.
      norm: None for bands with a peak of 1, or `"slaney"` to divide each band
        by half of its width in Hz. Defaults to None.
      triangles: Axis on which the sides of a triangle are straight: `"mel"` as
        in HTK and TensorFlow, or `"hz"` as in librosa and torchaudio. Defaults
        to `"mel"`.

    Returns:
      A float64 array of shape `(n_filters, n_fft // 2 + 1)`.

    Raises:
      ValueError: The band is empty or exceeds the Nyquist frequency.
    """
    check_band(min_freq, max_freq, sample_rate)
    edges = _edges_mel(n_filters, min_freq, max_freq, mel_scale)
    edges_hz = mel_to_hz(edges, mel_scale)
    bins = np.arange(n_fft // 2 + 1) * sample_rate / n_fft
    if triangles == "mel":
        bins = hz_to_mel(bins, mel_scale)
    else:
        edges = edges_hz
    lower, centre, upper = (
        edges[:-2, None],
        edges[1:-1, None],
        edges[2:, None],
    )
    rising = (bins - lower) / (centre - lower)
    falling = (upper - bins) / (upper - centre)
    weights = np.maximum(0.0, np.minimum(rising, falling))
    weights[:, 0] = 0.0
    if norm == "slaney":
        weights *= 2 / (edges_hz[2:] - edges_hz[:-2])[:, None]
    return weights


def centres_hz(
    n_filters: int, min_freq: float, max_freq: float, mel_scale: str
) -> np.ndarray:
    """Returns the frequencies at which the filters of `mel_matrix` peak.

    Args:
      n_filters: See `mel_matrix`.
      min_freq: See `mel_matrix`.
      max_freq: See `mel_matrix`.
      mel_scale: See `mel_matrix`.

    Returns:
      An array of shape `(n_filters,)`, in Hz.
    """
    edges = _edges_mel(n_filters, min_freq, max_freq, mel_scale)
    return mel_to_hz(edges[1:-1], mel_scale)


def _edges_mel(
    n_filters: int, min_freq: float, max_freq: float, mel_scale: str
) -> np.ndarray:
    """Returns the corners of the triangles in mel.

    Triangle n starts at entry n, peaks at entry n + 1 and ends at entry n + 2.
    """
    return np.linspace(
        hz_to_mel(min_freq, mel_scale),
        hz_to_mel(max_freq, mel_scale),
        n_filters + 2,
    )


def check_every_filter_has_a_bin(weights: np.ndarray, n_fft: int) -> None:
    """Checks that no row of a mel matrix is zero.

    Args:
      weights: Mel matrix of shape `(n_filters, n_fft // 2 + 1)`.
      n_fft: Integer. Length of the FFT in samples, for the message.

    Raises:
      ValueError: Some rows are zero. The message lists them.
    """
    empty = np.flatnonzero(~weights.any(axis=1))
    if empty.size:
        raise ValueError(
            "Every mel filter must cover at least one bin of the FFT: use a "
            "longer `n_fft`, fewer filters or a wider band. Received: "
            f"n_fft={n_fft}, which leaves filters {empty.tolist()} of "
            f"{len(weights)} without a bin."
        )


def check_n_fft(n_fft: Any) -> None:
    """Raises a ValueError unless `n_fft` is a positive integer, "auto" or None.

    Args:
      n_fft: Value of the argument `n_fft`.
    """
    if n_fft is None or n_fft == "auto":
        return
    if isinstance(n_fft, str):
        raise ValueError(
            "`n_fft` must be a positive integer, 'auto' or None. "
            f"Received: n_fft={n_fft!r}."
        )
    check_size("n_fft", n_fft)


def smallest_n_fft(
    n_filters: int,
    window_size: int,
    sample_rate: float,
    min_freq: float,
    max_freq: float,
    mel_scale: str = "htk",
) -> int:
    """Finds the shortest FFT that suits a window and its mel filters.

    Its length is a power of two, is not less than the window, and gives each
    filter at least one bin.

    Args:
      n_filters: Integer. Number of mel filters.
      window_size: Integer. Length of the window, in samples, or another lower
        limit for the FFT, such as `LEAF_N_FFT`.
      sample_rate: Sample rate in Hz.
      min_freq: Lower edge of the lowest filter, in Hz.
      max_freq: Upper edge of the highest filter, in Hz.
      mel_scale: `"htk"` or `"slaney"`, as in `hz_to_mel`. Defaults to `"htk"`.

    Returns:
      The length of the FFT in samples: 512 for LEAF's default settings.

    Raises:
      ValueError: The band is empty or exceeds the Nyquist frequency, or no FFT
        of up to 262144 samples gives each filter a bin.
    """
    check_band(min_freq, max_freq, sample_rate)
    edges = mel_to_hz(
        _edges_mel(n_filters, min_freq, max_freq, mel_scale), mel_scale
    )
    n_fft = 1 << max(1, math.ceil(math.log2(window_size)))
    longest = max(n_fft, _MAX_N_FFT)
    while n_fft <= longest:
        # Index of the first bin above each filter's lower edge. It is never 0,
        # since the bin at 0 Hz has no weight.
        first = np.floor(edges[:-2] * n_fft / sample_rate) + 1
        if (first * sample_rate / n_fft < edges[2:]).all():
            return n_fft
        n_fft *= 2
    raise ValueError(
        "`n_filters` is too large for the band: no FFT of a reasonable length "
        f"gives each filter a bin. Received: n_filters={n_filters}, "
        f"min_freq={min_freq}, max_freq={max_freq}, {told_rate(sample_rate)}"
    )


def gabor_parameters(
    weights: np.ndarray, n_fft: int, normalize_energy: bool = False
) -> np.ndarray:
    """Computes the Gabor filters that match the rows of a mel matrix.

    A mel filter weights energies. A filter that acts on the waveform therefore
    has the square root of a row as its magnitude response. Its centre frequency
    is the bin with the largest magnitude. Its full width at half maximum is the
    number of bins that have at least half of that magnitude, and the standard
    deviation follows from it. LEAF calls the second parameter "fwhm", although
    it is the standard deviation of the Gaussian envelope in time (LEAF,
    arXiv:2101.08596, section 3.1).

    Args:
      weights: Mel matrix of shape `(n_filters, n_fft // 2 + 1)`.
      n_fft: Integer. Length of the FFT, in samples.
      normalize_energy: Boolean. Whether to divide each row by its area first,
        as the original can. This does not change the results, since neither the
        largest bin nor the width depends on the scale of a row. Defaults to
        False.

    Returns:
      An array of shape `(n_filters, 2)`: centre frequencies in rad/sample and
      standard deviations in samples.
    """
    magnitude = _magnitude(weights, n_fft, normalize_energy)
    centre = np.argmax(magnitude, axis=1) * 2 * np.pi / n_fft
    half = magnitude.max(axis=1, keepdims=True) / 2
    fwhm = np.sum(magnitude >= half, axis=1)
    sigma = math.sqrt(2 * math.log(2)) * n_fft / (np.pi * fwhm)
    return np.stack([centre, sigma], axis=1)


def mel_areas(weights: np.ndarray, n_fft: int) -> np.ndarray:
    """Estimates the area under each row of a mel matrix.

    It is the area of a triangle with the peak of the row. The base of the
    triangle extends one bin beyond the bins with weight, on each side.

    Args:
      weights: Mel matrix of shape `(n_filters, n_fft // 2 + 1)`.
      n_fft: Integer. Length of the FFT, in samples.

    Returns:
      An array of shape `(n_filters, 1)`, in rad/sample.
    """
    peak = weights.max(axis=1, keepdims=True)
    base_bins = np.sum(weights > 0, axis=1, keepdims=True) + 2
    return peak * base_bins * np.pi / n_fft


def gabor_kernels(
    weights: np.ndarray,
    n_fft: int,
    kernel_size: int,
    normalize_energy: bool = False,
) -> np.ndarray:
    """Computes the samples of the Gabor filters that match a mel matrix.

    The energy of each filter is the area under its mel filter. Time-domain
    filterbanks start from these filters (arXiv:1711.01161, section 2.2).

    Args:
      weights: Mel matrix of shape `(n_filters, n_fft // 2 + 1)`.
      n_fft: Integer. Length of the FFT, in samples.
      kernel_size: Integer. Length of the filters, in samples.
      normalize_energy: Boolean. Whether to divide each row by its area first.
        Defaults to False.

    Returns:
      A complex array of shape `(n_filters, kernel_size)`.
    """
    parameters = gabor_parameters(weights, n_fft, normalize_energy)
    magnitude = _magnitude(weights, n_fft, normalize_energy)
    area = mel_areas(magnitude**2, n_fft)
    return impulse_responses.scaled_gabor_filters(parameters, area, kernel_size)


def _magnitude(
    weights: np.ndarray, n_fft: int, normalize_energy: bool
) -> np.ndarray:
    if normalize_energy:
        weights = weights / mel_areas(weights, n_fft)
    return np.sqrt(weights)
