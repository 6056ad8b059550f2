"""Random changes of a waveform, which make training data more varied.

Each augmentation is a function of the samples of one clip, a float32 array of
shape (time,), and of `rng`, which is

- in training, a numpy.random.Generator of its own for each clip and each pass
  over the data. What it draws can be reproduced.
- in evaluation, None. The samples are then returned unchanged.

Every augmentation takes `probability`, the share of the clips that it changes.
An augmentation is used if it is listed in the `transform_fns` of `prepare`.

This is the place for a new augmentation. A function of one's own needs no place
here: docs/augmentation.md shows one. `background.py` adds recordings, and
`audiomentation.py` wraps the library audiomentations.
"""

import math
from collections.abc import Callable

import numpy as np
import soxr

from leaf_audio.common.checks import (
    check_count,
    check_finite,
    check_positive_int,
    check_share,
)
from leaf_audio.data.transforms import MAX_CLIP_SAMPLES, check_decibels

# Beyond, the spectrum of a noise could not be held in float32.
_MAX_EXPONENT = 8
# Of a long clip, training reads eight examples; see `batches`.
_MAX_SPEED = 8

# In a narrower range, hundredths would be too few speeds. It is a little less
# than 0.1, which 1.05 - 0.95 is not in floating point.
_RANGE_OF_HUNDREDTHS = 0.0999


def time_shift(
    samples: np.ndarray,
    max_shift: int = 1600,
    probability: float = 1.0,
    rng: np.random.Generator | None = None,
) -> np.ndarray:
    """Shifts a clip in time by a random number of samples.

    The shift is drawn uniformly from -`max_shift` to `max_shift`. Samples that
    leave the clip at one end are lost, and zeros fill the other end.

    Args:
        samples: float32 array of shape (time,).
        max_shift: int, in samples. The largest shift. Default: 1600.
        probability: float from 0 to 1. The share of the clips that are changed.
            Default: 1.
        rng: numpy.random.Generator in training, None in evaluation.
            Default: None.

    Returns:
        An array of the same shape as `samples`.

    Raises:
        ValueError: `max_shift` is not an integer from 0 to 2**28.
    """
    max_shift = check_count(
        "time_shift.max_shift", max_shift, at_most=MAX_CLIP_SAMPLES
    )
    if not happens("time_shift", probability, rng):
        return samples
    start = int(rng.integers(2 * max_shift + 1))
    return np.pad(samples, max_shift)[start : start + len(samples)]


def circular_shift(
    samples: np.ndarray,
    max_share: float = 0.1,
    probability: float = 1.0,
    rng: np.random.Generator | None = None,
) -> np.ndarray:
    """Shifts a clip in time; what leaves it at one end enters at the other.

    The shift is drawn uniformly from -`max_share` to `max_share` times the
    length of the clip.

    Args:
        samples: float32 array of shape (time,).
        max_share: float from 0 to 1. The largest shift, as a share of the
            length of the clip. Default: 0.1.
        probability: float from 0 to 1. The share of the clips that are changed.
            Default: 1.
        rng: numpy.random.Generator in training, None in evaluation.
            Default: None.

    Returns:
        An array of the same shape as `samples`.

    Raises:
        ValueError: `max_share` is not a number from 0 to 1.
    """
    check_share("circular_shift.max_share", max_share)
    if not happens("circular_shift", probability, rng):
        return samples
    limit = int(max_share * len(samples))
    start = int(rng.integers(-limit, limit + 1)) % max(len(samples), 1)
    # Half the time of np.roll.
    return np.concatenate((samples[start:], samples[:start]))


def gain(
    samples: np.ndarray,
    min_db: float = -6.0,
    max_db: float = 6.0,
    probability: float = 1.0,
    rng: np.random.Generator | None = None,
) -> np.ndarray:
    """Multiplies a clip by a random gain.

    The gain in dB is drawn uniformly. A normalisation of the loudness that
    follows undoes this augmentation, so list it after that.

    Args:
        samples: float32 array of shape (time,).
        min_db: float, in dB. The smallest gain. Default: -6.
        max_db: float, in dB. The largest gain. Default: 6.
        probability: float from 0 to 1. The share of the clips that are changed.
            Default: 1.
        rng: numpy.random.Generator in training, None in evaluation.
            Default: None.

    Returns:
        An array of the same shape as `samples`.

    Raises:
        ValueError: The two limits are not numbers in ascending order.
    """
    check_order("gain", check_decibels, min_db=min_db, max_db=max_db)
    if not happens("gain", probability, rng):
        return samples
    return samples * np.float32(10 ** (rng.uniform(min_db, max_db) / 20))


def white_noise(
    samples: np.ndarray,
    min_snr_db: float = 16.0,
    max_snr_db: float = 50.0,
    probability: float = 1.0,
    rng: np.random.Generator | None = None,
) -> np.ndarray:
    """Adds white Gaussian noise at a random level below that of the clip.

    The ratio of the clip's standard deviation to that of the noise, in dB, is
    drawn uniformly. The defaults give noise of 10^u times the clip's standard
    deviation, where u is uniform from -2.5 to -0.8. Silence stays silent.

    Args:
        samples: float32 array of shape (time,).
        min_snr_db: float, in dB. The smallest ratio of signal to noise.
            Default: 16.
        max_snr_db: float, in dB. The largest ratio of signal to noise.
            Default: 50.
        probability: float from 0 to 1. The share of the clips that are changed.
            Default: 1.
        rng: numpy.random.Generator in training, None in evaluation.
            Default: None.

    Returns:
        An array of the same shape as `samples`.

    Raises:
        ValueError: The two limits are not numbers in ascending order.
    """
    check_order(
        "white_noise",
        check_decibels,
        min_snr_db=min_snr_db,
        max_snr_db=max_snr_db,
    )
    if not happens("white_noise", probability, rng):
        return samples
    snr_db = rng.uniform(min_snr_db, max_snr_db)
    noise = rng.standard_normal(len(samples), np.float32)
    noise *= np.float32(10 ** (-snr_db / 20) * samples.std(dtype=np.float64))
    noise += samples
    return noise


def colored_noise(
    samples: np.ndarray,
    min_snr_db: float = 10.0,
    max_snr_db: float = 40.0,
    min_exponent: float = 0.0,
    max_exponent: float = 2.0,
    probability: float = 1.0,
    rng: np.random.Generator | None = None,
) -> np.ndarray:
    """Adds Gaussian noise whose spectrum falls by a random power of frequency.

    The power density of the noise is proportional to 1 / f^exponent: 0 is
    white, 1 pink, 2 brown, -1 blue noise. The exponent and the ratio of signal
    to noise are drawn uniformly, the latter in dB and as in `white_noise`.

    Args:
        samples: float32 array of shape (time,).
        min_snr_db: float, in dB. The smallest ratio of signal to noise.
            Default: 10.
        max_snr_db: float, in dB. The largest ratio of signal to noise.
            Default: 40.
        min_exponent: float, at least -8. The smallest exponent. Default: 0.
        max_exponent: float, at most 8. The largest exponent. Default: 2.
        probability: float from 0 to 1. The share of the clips that are changed.
            Default: 1.
        rng: numpy.random.Generator in training, None in evaluation.
            Default: None.

    Returns:
        An array of the same shape as `samples`.

    Raises:
        ValueError: Two limits are not numbers in ascending order.
    """
    name = "colored_noise"
    check_order(
        name, check_decibels, min_snr_db=min_snr_db, max_snr_db=max_snr_db
    )
    check_order(
        name,
        _check_exponent,
        min_exponent=min_exponent,
        max_exponent=max_exponent,
    )
    if not happens(name, probability, rng):
        return samples
    snr_db = rng.uniform(min_snr_db, max_snr_db)
    exponent = rng.uniform(min_exponent, max_exponent)
    count = len(samples)
    frequencies = np.arange(count // 2 + 1, dtype=np.float32)
    parts = rng.standard_normal((2, len(frequencies)), np.float32)
    spectrum = parts[0] + np.complex64(1j) * parts[1]
    # A power of 0 Hz would be infinite, and is an offset, not a noise.
    spectrum[0] = 0
    spectrum[1:] *= frequencies[1:] ** np.float32(-exponent / 2)
    return add_at_snr(samples, np.fft.irfft(spectrum, count), snr_db)


def time_mask(
    samples: np.ndarray,
    max_share: float = 0.1,
    probability: float = 1.0,
    rng: np.random.Generator | None = None,
) -> np.ndarray:
    """Sets a random stretch of a clip to zero.

    Its length is drawn uniformly from 0 to `max_share` times the length of the
    clip. Then its place is drawn uniformly.

    Args:
        samples: float32 array of shape (time,).
        max_share: float from 0 to 1. The longest stretch, as a share of the
            length of the clip. Default: 0.1.
        probability: float from 0 to 1. The share of the clips that are changed.
            Default: 1.
        rng: numpy.random.Generator in training, None in evaluation.
            Default: None.

    Returns:
        An array of the same shape as `samples`.

    Raises:
        ValueError: `max_share` is not a number from 0 to 1.
    """
    check_share("time_mask.max_share", max_share)
    if not happens("time_mask", probability, rng):
        return samples
    length = int(rng.integers(int(max_share * len(samples)) + 1))
    start = int(rng.integers(len(samples) - length + 1))
    masked = samples.copy()
    masked[start : start + length] = 0
    return masked


def polarity_inversion(
    samples: np.ndarray,
    probability: float = 0.5,
    rng: np.random.Generator | None = None,
) -> np.ndarray:
    """Changes the sign of a clip.

    Args:
        samples: float32 array of shape (time,).
        probability: float from 0 to 1. The share of the clips that are changed.
            Default: 0.5.
        rng: numpy.random.Generator in training, None in evaluation.
            Default: None.

    Returns:
        An array of the same shape as `samples`.

    Raises:
        ValueError: `probability` is not a number from 0 to 1.
    """
    return (
        -samples if happens("polarity_inversion", probability, rng) else samples
    )


def speed_change(
    samples: np.ndarray,
    min_factor: float = 0.9,
    max_factor: float = 1.1,
    seq_len: int | None = None,
    probability: float = 1.0,
    rng: np.random.Generator | None = None,
) -> np.ndarray:
    """Plays a clip faster or slower, by resampling.

    Pitch and tempo change together, and so does the length: list `align` after
    it. The factor is drawn uniformly. In a range of 0.1 and more it is then
    rounded to hundredths, since soxr resamples faster by a ratio of small
    integers.

    To resample a long recording takes long, and `align` keeps only a part of
    it. With `seq_len`, only a random part is resampled, which is long enough
    to give `seq_len` samples at any factor.

    Args:
        samples: float32 array of shape (time,).
        min_factor: float, at least 1 / 8. The smallest factor. Below 1 is
            slower, lower and longer. Default: 0.9.
        max_factor: float, at most 8. The largest factor. Above 1 is faster,
            higher and shorter. Default: 1.1.
        seq_len: int, in samples, or None. The `seq_len` of the `align` that
            follows. Clips longer than `seq_len * max_factor` are cropped to
            this length, rounded up, before they are resampled. None resamples
            the whole clip. In a gin config, None takes `align.seq_len` if
            `data.prepare.transform_fns` lists `@data.align` directly after
            `@data.speed_change`. Default: None.
        probability: float from 0 to 1. The share of the clips that are changed.
            Default: 1.
        rng: numpy.random.Generator in training, None in evaluation.
            Default: None.

    Returns:
        An array of shape (time / factor,), rounded, where time is the length
        of the part that is resampled.

    Raises:
        ValueError: The two limits are not numbers from 1 / 8 to 8 in ascending
            order, or `seq_len` is not an integer from 1 to 2**28.
    """
    check_order(
        "speed_change",
        _check_speed,
        min_factor=min_factor,
        max_factor=max_factor,
    )
    if seq_len is not None:
        check_positive_int(
            "speed_change.seq_len", seq_len, at_most=MAX_CLIP_SAMPLES
        )
    if not happens("speed_change", probability, rng):
        return samples
    if seq_len is not None:
        length = math.ceil(seq_len * max_factor)
        if len(samples) > length:
            start = int(rng.integers(len(samples) - length + 1))
            samples = samples[start : start + length]
    factor = rng.uniform(min_factor, max_factor)
    if max_factor - min_factor < _RANGE_OF_HUNDREDTHS:
        return soxr.resample(samples, factor, 1.0)
    lowest, highest = math.ceil(100 * min_factor), math.floor(100 * max_factor)
    hundredths = min(max(round(100 * factor), lowest), highest)
    return soxr.resample(samples, hundredths, 100)


def happens(
    name: str, probability: float, rng: np.random.Generator | None
) -> bool:
    """Draws whether an augmentation changes a clip: in evaluation never.

    Args:
        name: str. The name of the augmentation, for the message.
        probability: float from 0 to 1.
        rng: numpy.random.Generator in training, None in evaluation.

    Returns:
        Whether to change the clip. If so, `rng` is not None.

    Raises:
        ValueError: `probability` is not a number from 0 to 1.
    """
    check_share(f"{name}.probability", probability)
    return rng is not None and rng.random() < probability


def add_at_snr(
    samples: np.ndarray, noise: np.ndarray, snr_db: float
) -> np.ndarray:
    """Adds noise to a clip, at a given ratio of their standard deviations.

    Args:
        samples: float32 array of shape (time,).
        noise: float32 array of shape (time,), at any level. Nothing is added if
            it is constant, as silence is.
        snr_db: float, in dB. The ratio of signal to noise.

    Returns:
        A float32 array of shape (time,).
    """
    # In float64, since squares of a steep noise exceed float32.
    level = noise.std(dtype=np.float64)
    if not level:
        return samples
    factor = np.float32(
        10 ** (-snr_db / 20) * samples.std(dtype=np.float64) / level
    )
    return samples + factor * noise


def check_order(
    name: str, check: Callable[[str, float], float], **limits: float
) -> None:
    """Raises ValueError unless two limits are valid and in ascending order.

    Args:
        name: str. The name of the augmentation.
        check: The check of each limit, such as `check_decibels`.
        **limits: The lower and the higher limit, by name.
    """
    (low_key, low), (high_key, high) = limits.items()
    for key, limit in limits.items():
        check(f"{name}.{key}", limit)
    if low > high:
        raise ValueError(
            f"`{name}.{low_key}` must not be above `{name}.{high_key}`. "
            f"Received: {low_key}={low!r}, {high_key}={high!r}."
        )


def _check_exponent(name: str, value: float) -> float:
    if abs(check_finite(name, value)) > _MAX_EXPONENT:
        raise ValueError(
            f"`{name}` must be a number from -{_MAX_EXPONENT} to "
            f"{_MAX_EXPONENT}. Received: {name}={value!r}."
        )
    return value


def _check_speed(name: str, value: float) -> float:
    if not 1 / _MAX_SPEED <= check_finite(name, value) <= _MAX_SPEED:
        raise ValueError(
            f"`{name}` must be a number from {1 / _MAX_SPEED} to {_MAX_SPEED}. "
            f"Received: {name}={value!r}."
        )
    return value
