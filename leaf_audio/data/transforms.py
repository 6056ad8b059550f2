"""Functions that bring every clip to one length and one level.

A transform is a function of the samples of one clip. `apply` calls a list of
transforms as training and evaluation do. Random changes, which only training
makes, are in `leaf_audio.data.augmentation`.
"""

import inspect
import numbers
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from leaf_audio.data.clips import INT16_MAX

Transform = Callable[..., tf.Tensor]


def align(
    samples: tf.Tensor, seq_len: int = 16000, seed: tf.Tensor | None = None
) -> tf.Tensor:
    """Pads or crops a clip to `seq_len` samples.

    A shorter clip is padded with zeros at its end. A longer clip is cropped: to
    a random part in training, and to its centre in evaluation.

    Args:
        samples: float32 tensor of shape (time,).
        seq_len: int, in samples. The length of the result. Default: 16000.
        seed: Integer tensor of shape (2,) in training, None in evaluation.
            Default: None.

    Returns:
        A tensor of shape (seq_len,).

    Raises:
        ValueError: `seq_len` is not a positive integer.
    """
    if not isinstance(seq_len, int) or seq_len < 1:
        raise ValueError(
            "`align.seq_len` must be a positive number of samples. "
            f"Received: seq_len={seq_len!r}."
        )
    surplus = tf.shape(samples)[0] - seq_len
    samples = tf.pad(samples, [[0, tf.maximum(-surplus, 0)]])
    surplus = tf.maximum(surplus, 0)
    if seed is None:
        start = surplus // 2
    else:
        start = tf.random.stateless_uniform([], seed, 0, surplus + 1, tf.int32)
    samples = samples[start : start + seq_len]
    samples.set_shape([seq_len])
    return samples


def loudness_normalization(
    samples: tf.Tensor, target_db: float = 15.0, max_gain_db: float = 30.0
) -> tf.Tensor:
    """Scales a clip to a fixed standard deviation.

    The standard deviation becomes `10 ** (target_db / 20)`. The gain is limited
    to `max_gain_db`, so that silence is not amplified without bound.

    Args:
        samples: float32 tensor of shape (time,).
        target_db: float, in dB relative to a standard deviation of 1. The level
            of the result. Default: 15.
        max_gain_db: float, in dB. The largest gain. Default: 30.

    Returns:
        A tensor of the same shape as `samples`.

    Raises:
        ValueError: `target_db` or `max_gain_db` is not a number.
    """
    for name, value in (
        ("target_db", target_db),
        ("max_gain_db", max_gain_db),
    ):
        if not isinstance(value, numbers.Real):
            raise ValueError(
                f"`{name}` must be a number of decibels. "
                f"Received: {name}={value!r}."
            )
    target = 10 ** (target_db / 20)
    max_gain = 10 ** (max_gain_db / 20)
    std = tf.math.reduce_std(samples)
    # The squares of samples above 1e19 are infinite in float32.
    peak = tf.reduce_max(tf.abs(samples))
    scaled = peak * tf.math.reduce_std(samples / peak)
    std = tf.where(tf.math.is_finite(std), std, scaled)
    # For silence the quotient is infinite, and `max_gain` is used.
    return samples * tf.minimum(max_gain, target / std)


def transform(
    samples: np.ndarray, transform_fns: Sequence[Transform]
) -> tf.Tensor:
    """Applies transforms to one clip, as in evaluation.

    Args:
        samples: float32 array of shape (time,), at the sample rate that the
            model was trained for. Integers are divided by 32767.
        transform_fns: Sequence of functions, as for `prepare`.

    Returns:
        A float32 tensor, the transformed clip.

    Raises:
        ValueError: `transform_fns` is not a sequence of functions.
    """
    check_transforms(transform_fns)
    return apply(transform_fns, tf.constant(samples), seed=None)


def example_shape(
    transform_fns: Sequence[Transform],
) -> tuple[int, ...] | None:
    """Computes the shape of a transformed clip, before there is any data.

    Args:
        transform_fns: Sequence of functions, as for `prepare`.

    Returns:
        The shape, or None if it depends on the data.

    Raises:
        ValueError: `transform_fns` is not a sequence of functions.
    """
    check_transforms(transform_fns)

    def transform_example(samples: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        return apply(transform_fns, samples, seed)

    traced = tf.function(
        transform_example, autograph=False
    ).get_concrete_function(
        tf.TensorSpec([None], tf.float32), tf.TensorSpec([2], tf.int64)
    )
    shape = traced.output_shapes
    return tuple(shape) if shape.is_fully_defined() else None


def apply(
    transform_fns: Sequence[Transform],
    samples: tf.Tensor,
    seed: tf.Tensor | None,
) -> tf.Tensor:
    """Applies transforms in order.

    Args:
        transform_fns: Sequence of functions, as for `prepare`.
        samples: float32 or integer tensor of shape (time,). Integers are
            divided by 32767 first.
        seed: Integer tensor of shape (2,) in training, None in evaluation. Each
            transform gets another seed, which is derived from this one.

    Returns:
        A float32 tensor, the transformed clip.
    """
    if samples.dtype.is_integer:
        samples = tf.cast(samples, tf.float32) / INT16_MAX
    for i, transform_fn in enumerate(transform_fns):
        if "seed" not in inspect.signature(transform_fn).parameters:
            samples = transform_fn(samples)
        elif seed is None:
            samples = transform_fn(samples, seed=None)
        else:
            samples = transform_fn(samples, seed=tf.random.fold_in(seed, i))
    return samples


def check_transforms(transform_fns: Any) -> None:
    """Raises ValueError unless the value is a sequence of functions."""
    if not isinstance(transform_fns, Sequence) or not all(
        map(callable, transform_fns)
    ):
        raise ValueError(
            "`transform_fns` must be a list of functions, such as "
            f"[@data.align]. Received: transform_fns={transform_fns!r}."
        )
