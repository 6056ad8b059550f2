"""Functions that bring every clip to one length and one level.

A transform is a function of the samples of one clip. `Chain` calls a list of
transforms as training and evaluation do. Random changes, which only training
makes, are in `leaf_audio.data.augmentation`.
"""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from leaf_audio.common.checks import (
    check_choice,
    check_finite,
    check_positive_int,
)
from leaf_audio.data.flac import INT16_MAX

Transform = Callable[..., np.ndarray]

_PADDINGS = ("zeros", "wrap")
# The lengths, in samples, of the clips that `example_shape` tries. If the
# result has one shape for both, it hardly depends on the data. They are long,
# because a transform may need clips of some length.
_TRIED_LENGTHS = (160001, 240007)

# More than four hours at 16 kHz, 1 GiB of float32.
MAX_CLIP_SAMPLES = 2**28
# Beyond, the samples of float32 would be infinite or 0.
_MAX_DECIBELS = 300


def align(
    samples: np.ndarray,
    seq_len: int = 16000,
    padding: str = "zeros",
    rng: np.random.Generator | None = None,
) -> np.ndarray:
    """Pads or crops a clip to `seq_len` samples.

    A longer clip is cropped: to a random part in training, and to its centre in
    evaluation. A shorter clip is continued at its end, as `padding` says.

    Args:
        samples: float32 array of shape (time,).
        seq_len: int, in samples. The length of the result. Default: 16000.
        padding: str. What follows a shorter clip: "zeros", or "wrap" for the
            clip again, from its beginning. Default: "zeros".
        rng: numpy.random.Generator in training, None in evaluation.
            Default: None.

    Returns:
        An array of shape (seq_len,).

    Raises:
        ValueError: `seq_len` is not an integer from 1 to 2**28, or `padding`
            is unknown.
    """
    seq_len = check_positive_int(
        "align.seq_len", seq_len, at_most=MAX_CLIP_SAMPLES
    )
    padding = check_choice("align.padding", padding, _PADDINGS)
    surplus = len(samples) - seq_len
    if surplus < 0:
        if padding == "wrap":
            return np.resize(samples, seq_len)
        return np.pad(samples, (0, -surplus))
    start = surplus // 2 if rng is None else int(rng.integers(surplus + 1))
    return samples[start : start + seq_len]


def loudness_normalization(
    samples: np.ndarray, target_db: float = 15.0, max_gain_db: float = 30.0
) -> np.ndarray:
    """Scales a clip to a fixed standard deviation.

    The standard deviation becomes `10 ** (target_db / 20)`. The gain is limited
    to `max_gain_db`, so that silence is not amplified without bound. With the
    defaults, which are those of LEAF's release, clips with a standard deviation
    below 0.18 stay below the target.

    Args:
        samples: float32 array of shape (time,).
        target_db: float, in dB relative to a standard deviation of 1. The level
            of the result. Default: 15.
        max_gain_db: float, in dB. The largest gain. Default: 30.

    Returns:
        An array of the same shape as `samples`.

    Raises:
        ValueError: `target_db` or `max_gain_db` is not a number from -300 to
            300.
    """
    # The squares of samples above 1e19 are infinite in float32.
    level = float(samples.std(dtype=np.float64))
    name = "loudness_normalization"
    return _to_level(name, samples, level, target_db, max_gain_db)


def peak_normalization(
    samples: np.ndarray, target_db: float = 0.0, max_gain_db: float = 30.0
) -> np.ndarray:
    """Scales a clip to a fixed largest absolute value.

    The largest absolute value becomes `10 ** (target_db / 20)`. The gain is
    limited to `max_gain_db`, so that silence is not amplified without bound.

    Args:
        samples: float32 array of shape (time,).
        target_db: float, in dB relative to full scale, which is 1. The peak of
            the result. Default: 0.
        max_gain_db: float, in dB. The largest gain. Default: 30.

    Returns:
        An array of the same shape as `samples`.

    Raises:
        ValueError: `target_db` or `max_gain_db` is not a number from -300 to
            300.
    """
    peak = float(np.abs(samples).max(initial=0))
    name = "peak_normalization"
    return _to_level(name, samples, peak, target_db, max_gain_db)


def _to_level(
    name: str,
    samples: np.ndarray,
    level: float,
    target_db: float,
    max_gain_db: float,
) -> np.ndarray:
    target, max_gain = (
        10 ** (check_decibels(f"{name}.{key}", value) / 20)
        for key, value in (
            ("target_db", target_db),
            ("max_gain_db", max_gain_db),
        )
    )
    # Written without a division by `level`, which is 0 for silence.
    gain = max_gain if target >= max_gain * level else target / level
    return samples * np.float32(gain)


def check_decibels(name: str, value: Any) -> float:
    """Returns a number from -300 to 300, or raises a ValueError."""
    if abs(check_finite(name, value)) > _MAX_DECIBELS:
        raise ValueError(
            f"`{name}` must be a number of decibels from -{_MAX_DECIBELS} to "
            f"{_MAX_DECIBELS}. Received: {name}={value!r}."
        )
    return float(value)


def transform(
    samples: np.ndarray, transform_fns: Sequence[Transform]
) -> np.ndarray:
    """Applies transforms to one clip, as in evaluation.

    Args:
        samples: float32 array of shape (time,), at the sample rate that the
            model was trained for. Integers are divided by 32767.
        transform_fns: Sequence of functions, as for `prepare`.

    Returns:
        A float32 array, the transformed clip.

    Raises:
        ValueError: `transform_fns` is not a sequence of such functions, or
            `samples` is not such an array.
    """
    samples = np.asarray(samples)
    if samples.ndim != 1 or samples.dtype.kind not in "fiu":
        raise ValueError(
            "`samples` must be an array of shape (time,), of floats or "
            f"integers. Received: an array of shape {samples.shape} and dtype "
            f"{samples.dtype}."
        )
    return Chain(transform_fns)(samples)


def example_shape(
    transform_fns: Sequence[Transform],
) -> tuple[int, ...] | None:
    """Computes the shape of a transformed clip, before there is any data.

    The transforms are tried on noise of two lengths, as in training and as in
    evaluation.

    Args:
        transform_fns: Sequence of functions, as for `prepare`.

    Returns:
        The shape, or None if it depends on the data.

    Raises:
        ValueError: `transform_fns` is not a sequence of such functions.
    """
    chain = Chain(transform_fns)
    shapes = set()
    for length in _TRIED_LENGTHS:
        noise = np.random.default_rng(0).standard_normal(length, np.float32)
        for rng in (None, np.random.default_rng(0)):
            shapes.add(chain(0.1 * noise, rng).shape)
    return shapes.pop() if len(shapes) == 1 else None


class Chain:
    """Calls several transforms, one after the other.

    Args:
        transform_fns: Sequence of functions, as for `prepare`.

    Raises:
        ValueError: `transform_fns` is not a sequence of such functions.
    """

    def __init__(self, transform_fns: Sequence[Transform]):
        check_transforms(transform_fns)
        self._steps = [(fn, _draws(fn)) for fn in transform_fns]

    @property
    def names(self) -> list[str]:
        """The names of the transforms."""
        return [_name(fn) for fn, _ in self._steps]

    def __call__(
        self, samples: np.ndarray, rng: np.random.Generator | None = None
    ) -> np.ndarray:
        """Transforms one clip.

        Args:
            samples: float32 or integer array of shape (time,), which is not
                changed. Integers are divided by 32767 first.
            rng: numpy.random.Generator in training, None in evaluation.
                Default: None.

        Returns:
            A float32 array, the transformed clip.

        Raises:
            ValueError: A transform returns nothing.
        """
        # A copy, so that a transform may change its argument.
        result = samples.astype(np.float32)
        if np.issubdtype(samples.dtype, np.integer):
            result /= INT16_MAX
        for fn, draws in self._steps:
            given = fn(result, rng=rng) if draws else fn(result)
            if given is None:
                raise ValueError(
                    "`transform_fns` must hold functions that return the "
                    f"transformed samples. Received: {_name(fn)}, which "
                    "returned None."
                )
            result = np.asarray(given, np.float32)
        return result


def check_transforms(transform_fns: Any) -> None:
    """Raises ValueError unless the value is a sequence of functions."""
    if not isinstance(transform_fns, Sequence) or not all(
        map(callable, transform_fns)
    ):
        raise ValueError(
            "`transform_fns` must be a list of functions, such as "
            f"[@data.align]. Received: transform_fns={transform_fns!r}."
        )


def _draws(transform_fn: Transform) -> bool:
    """Returns whether a transform takes `rng`."""
    try:
        parameters = inspect.signature(transform_fn).parameters
    except ValueError:
        # Functions written in C may have no signature.
        return False
    if "seed" in parameters and "rng" not in parameters:
        raise ValueError(
            "`transform_fns` must hold functions of the samples, or of the "
            "samples and `rng`, which is a numpy.random.Generator in training "
            f"and None in evaluation. Received: {_name(transform_fn)} with an "
            "argument `seed`, which was for TensorFlow's functions. Replace "
            "`seed` by `rng`, and for instance "
            "tf.random.stateless_uniform([], seed) by rng.random()."
        )
    return "rng" in parameters


def _name(transform_fn: Transform) -> str:
    fn = getattr(transform_fn, "func", transform_fn)
    return getattr(transform_fn, "__name__", None) or getattr(
        fn, "__name__", type(fn).__name__
    )
