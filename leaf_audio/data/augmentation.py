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

import numbers

import numpy as np
import soxr


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
        ValueError: `max_shift` is not an integer, or is negative.
    """
    if not isinstance(max_shift, int) or max_shift < 0:
        raise ValueError(
            "`time_shift.max_shift` must be a number of samples, 0 or more. "
            f"Received: max_shift={max_shift!r}."
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
    check_range("circular_shift", 0, 1, max_share=max_share)
    if not happens("circular_shift", probability, rng):
        return samples
    limit = int(max_share * len(samples))
    return np.roll(samples, int(rng.integers(-limit, limit + 1)))


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
    check_order("gain", min_db=min_db, max_db=max_db)
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
    check_order("white_noise", min_snr_db=min_snr_db, max_snr_db=max_snr_db)
    if not happens("white_noise", probability, rng):
        return samples
    snr_db = rng.uniform(min_snr_db, max_snr_db)
    noise = rng.standard_normal(len(samples), np.float32)
    noise *= np.float32(10 ** (-snr_db / 20) * samples.std())
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
        min_exponent: float. The smallest exponent. Default: 0.
        max_exponent: float. The largest exponent. Default: 2.
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
    check_order(name, min_snr_db=min_snr_db, max_snr_db=max_snr_db)
    check_order(name, min_exponent=min_exponent, max_exponent=max_exponent)
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
    check_range("time_mask", 0, 1, max_share=max_share)
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
    probability: float = 1.0,
    rng: np.random.Generator | None = None,
) -> np.ndarray:
    """Plays a clip faster or slower, by resampling.

    Pitch and tempo change together, and so does the length: list `align` after
    it. The factor is drawn uniformly.

    Args:
        samples: float32 array of shape (time,).
        min_factor: float, above 0. The smallest factor. Below 1 is slower,
            lower and longer. Default: 0.9.
        max_factor: float, above 0. The largest factor. Above 1 is faster,
            higher and shorter. Default: 1.1.
        probability: float from 0 to 1. The share of the clips that are changed.
            Default: 1.
        rng: numpy.random.Generator in training, None in evaluation.
            Default: None.

    Returns:
        An array of shape (time / factor,), rounded.

    Raises:
        ValueError: The two limits are not positive numbers in ascending order.
    """
    check_order("speed_change", min_factor=min_factor, max_factor=max_factor)
    if min_factor <= 0:
        raise ValueError(
            "`speed_change.min_factor` must be a positive number. "
            f"Received: min_factor={min_factor!r}."
        )
    if not happens("speed_change", probability, rng):
        return samples
    return soxr.resample(samples, rng.uniform(min_factor, max_factor), 1.0)


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
    check_range(name, 0, 1, probability=probability)
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
    level = noise.std()
    if not level:
        return samples
    factor = np.float32(10 ** (-snr_db / 20) * samples.std() / level)
    return samples + factor * noise


def check_range(
    name: str, lowest: float, highest: float, **argument: float
) -> None:
    """Raises ValueError unless arguments are numbers in a range.

    Args:
        name: str. The name of the augmentation.
        lowest: float. The smallest value that is valid.
        highest: float. The largest value that is valid.
        **argument: The arguments, by name.
    """
    for key, value in argument.items():
        if (
            not isinstance(value, numbers.Real)
            or not lowest <= float(value) <= highest
        ):
            raise ValueError(
                f"`{name}.{key}` must be a number from {lowest} to {highest}. "
                f"Received: {key}={value!r}."
            )


def check_order(name: str, **limits: float) -> None:
    """Raises ValueError unless two limits are numbers in ascending order.

    Args:
        name: str. The name of the augmentation.
        **limits: The lower and the higher limit, by name.
    """
    (low_key, low), (high_key, high) = limits.items()
    are_numbers = all(
        isinstance(limit, numbers.Real) and np.isfinite(float(limit))
        for limit in (low, high)
    )
    if not are_numbers or low > high:
        raise ValueError(
            f"`{name}.{low_key}` and `{name}.{high_key}` must be numbers, the "
            f"first not above the second. Received: {low_key}={low!r}, "
            f"{high_key}={high!r}."
        )
