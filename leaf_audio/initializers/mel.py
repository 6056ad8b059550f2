"""The mel scale, mel matrices, and Gabor filters that match them.

Conventions: frequencies in Hz unless a name says otherwise; angular frequencies
in rad/sample; standard deviations in samples; the mel scale is HTK's,
`mel = 1127 ln(1 + f / 700)`, unless Slaney's is asked for; a mel matrix has one
row a filter and one column a bin of a real FFT, `(n_filters, n_fft // 2 + 1)`,
its triangles are triangles on the mel axis with a peak of 1 and no
normalisation, unless asked for otherwise. Everything here is float64 NumPy: it
runs once, when a layer is built.
"""

import math

import numpy as np

from leaf_audio import impulse_responses
from leaf_audio.common.checks import check_not_negative

_MEL_BREAK_HZ = 700.0
_MEL_SCALE = 1127.0

MEL_SCALES = ("htk", "slaney")

# Slaney's scale is linear up to 1000 Hz, 15 mel, and logarithmic from there.
_SLANEY_HZ_PER_MEL = 200 / 3
_SLANEY_BREAK_HZ = 1000.0
_SLANEY_BREAK_MEL = _SLANEY_BREAK_HZ / _SLANEY_HZ_PER_MEL
_SLANEY_LOG_STEP = math.log(6.4) / 27

# Above this length a longer FFT is no remedy for a filter without a bin.
_MAX_N_FFT = 1 << 18

# LEAF's filters start here, in Hz.
DEFAULT_MIN_FREQ = 60.0

# Of the Nyquist frequency; LEAF's 7800 Hz at 16 kHz, kept at every other rate.
_AUTO_MAX_FREQ = 0.975


def hz_to_mel(
    frequency_hz: np.ndarray | float, mel_scale: str = "htk"
) -> np.ndarray:
    """Converts Hz to mel, on HTK's or Slaney's scale.

    Slaney's is that of his Auditory Toolbox (Interval Research technical report
    1998-010), and librosa's default.
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
    """Converts mel to Hz, on HTK's or Slaney's scale."""
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
    """Resolves the two settings of `max_freq` that are not a frequency.

    Args:
      max_freq: a frequency in Hz; None or 0 for the Nyquist frequency; or
        `"auto"` for 97.5 % of it, which is LEAF's 7800 Hz at 16 kHz.
      sample_rate: in Hz.

    Returns:
      The upper edge in Hz.

    Raises:
      ValueError: `max_freq` is another string.
    """
    nyquist = sample_rate / 2
    if isinstance(max_freq, str):
        if max_freq != "auto":
            raise ValueError(
                "`max_freq` must be a frequency in Hz, None or 'auto'. "
                f"Received: max_freq={max_freq!r}."
            )
        return _AUTO_MAX_FREQ * nyquist
    return float(max_freq) if max_freq else nyquist


def check_band(min_freq: float, max_freq: float, sample_rate: float) -> None:
    """Raises a ValueError unless `0 <= min_freq < max_freq <= Nyquist`."""
    for name, value in (("min_freq", min_freq), ("max_freq", max_freq)):
        check_not_negative(name, value)
    if min_freq >= max_freq:
        raise ValueError(
            "`min_freq` must be below `max_freq`. Received: "
            f"min_freq={min_freq}, max_freq={max_freq}."
        )
    if max_freq > sample_rate / 2:
        raise ValueError(
            "`max_freq` must not exceed the Nyquist frequency, half of "
            f"`sample_rate`. Received: max_freq={max_freq}, "
            f"sample_rate={sample_rate}."
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
    """Computes the weights that sum a spectrogram's bins into mel bands.

    The bin at 0 Hz has no weight, as in HTK and TensorFlow.

    Args:
      n_filters: number of bands.
      n_fft: length of the FFT, in samples.
      sample_rate: in Hz.
      min_freq: lower edge of the lowest band, in Hz.
      max_freq: upper edge of the highest band, in Hz.
      mel_scale: `"htk"` or `"slaney"`.
      norm: None for a peak of 1; `"slaney"` divides a band by half its width in
        Hz.
      triangles: the axis on which the sides of a triangle are straight, `"mel"`
        as in HTK and TensorFlow or `"hz"` as in librosa and torchaudio.

    Returns:
      An array of shape `(n_filters, n_fft // 2 + 1)`.

    Raises:
      ValueError: the band is empty or exceeds the Nyquist frequency.
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


def _edges_mel(
    n_filters: int, min_freq: float, max_freq: float, mel_scale: str
) -> np.ndarray:
    """Returns where triangles start, peak and end: entries n, n + 1, n + 2."""
    return np.linspace(
        hz_to_mel(min_freq, mel_scale),
        hz_to_mel(max_freq, mel_scale),
        n_filters + 2,
    )


def check_every_filter_has_a_bin(weights: np.ndarray, n_fft: int) -> None:
    """Raises a ValueError that names the rows of a mel matrix that are zero."""
    empty = np.flatnonzero(~weights.any(axis=1))
    if empty.size:
        raise ValueError(
            "Every mel filter must cover at least one bin of the FFT: use a "
            "longer `n_fft`, fewer filters or a wider band. Received: "
            f"n_fft={n_fft}, which leaves filters {empty.tolist()} of "
            f"{len(weights)} without a bin."
        )


def smallest_n_fft(
    n_filters: int,
    window_size: int,
    sample_rate: float,
    min_freq: float,
    max_freq: float,
    mel_scale: str = "htk",
) -> int:
    """Finds the shortest power of two that suits a window and its filters.

    Args:
      n_filters: number of mel filters.
      window_size: in samples; the FFT is at least as long.
      sample_rate: in Hz.
      min_freq: lower edge of the lowest filter, in Hz.
      max_freq: upper edge of the highest filter, in Hz.
      mel_scale: `"htk"` or `"slaney"`.

    Returns:
      The length of the FFT, in samples: 512 for LEAF's own settings.

    Raises:
      ValueError: no reasonable length gives every filter a bin.
    """
    check_band(min_freq, max_freq, sample_rate)
    edges = mel_to_hz(
        _edges_mel(n_filters, min_freq, max_freq, mel_scale), mel_scale
    )
    n_fft = 1 << max(1, math.ceil(math.log2(window_size)))
    while n_fft <= _MAX_N_FFT:
        # The first bin above a filter's lower edge; never the one at 0 Hz.
        first = np.floor(edges[:-2] * n_fft / sample_rate) + 1
        if (first * sample_rate / n_fft < edges[2:]).all():
            return n_fft
        n_fft *= 2
    raise ValueError(
        "`n_filters` is too large for the band: no FFT of a reasonable length "
        f"gives each filter a bin. Received: n_filters={n_filters}, "
        f"min_freq={min_freq}, max_freq={max_freq}, sample_rate={sample_rate}."
    )


def gabor_parameters(
    weights: np.ndarray, n_fft: int, normalize_energy: bool = False
) -> np.ndarray:
    """Reads centres and widths of Gabor filters off a mel matrix.

    A mel filter weighs energies, so a filter on the waveform has its square
    root for a magnitude response. The centre is that response's largest bin,
    the width follows from the number of bins at or above half of its peak.
    LEAF calls the second parameter "fwhm"; it is the standard deviation of the
    Gaussian envelope in time (LEAF, arXiv:2101.08596, section 3.1).

    Args:
      weights: a mel matrix, `(n_filters, n_fft // 2 + 1)`.
      n_fft: length of the FFT, in samples.
      normalize_energy: divide each filter by its `mel_areas` first. Neither
        the largest bin nor the number of bins above half of the peak depends
        on it; it is here since the original has it.

    Returns:
      An array `(n_filters, 2)`: centres in rad/sample, standard deviations in
      samples.
    """
    magnitude = _magnitude(weights, n_fft, normalize_energy)
    centre = np.argmax(magnitude, axis=1) * 2 * np.pi / n_fft
    half = magnitude.max(axis=1, keepdims=True) / 2
    fwhm = np.sum(magnitude >= half, axis=1)
    sigma = math.sqrt(2 * math.log(2)) * n_fft / (np.pi * fwhm)
    return np.stack([centre, sigma], axis=1)


def mel_areas(weights: np.ndarray, n_fft: int) -> np.ndarray:
    """Estimates the area under each mel filter, `(n_filters, 1)`.

    The area of the triangle whose base reaches one bin beyond the bins with
    weight on each side, in rad/sample.
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
    """Computes time-domain Gabor filters with the energies of mel filters.

    Time-domain filterbanks start from these (arXiv:1711.01161, section 2.2).

    Args:
      weights: a mel matrix, `(n_filters, n_fft // 2 + 1)`.
      n_fft: length of the FFT, in samples.
      kernel_size: length of the filters, in samples.
      normalize_energy: divide each mel filter by its area first.

    Returns:
      A complex array `(n_filters, kernel_size)`.
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
