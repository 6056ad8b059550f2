"""Calls a model on clips, batch by batch."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import keras
import numpy as np

# The number of clips that a model gets at once. Memory is then bounded.
BATCH_SIZE = 64

Key = TypeVar("Key")


def in_batches(
    compute: Callable[[np.ndarray], np.ndarray],
    clips: Iterable[tuple[Key, np.ndarray]],
    batch_size: int = BATCH_SIZE,
) -> Iterator[tuple[Key, np.ndarray]]:
    """Calls a function on clips. One batch is in memory at a time.

    Args:
        compute: Function of clips of shape (batch, time) that returns an array
            of shape (batch, size), such as `TrainedClassifier.probabilities`.
        clips: Pairs of a key, which names the clip, and the clip. Clips that
            follow one another and have one shape come into one batch.
        batch_size: int, at least 1. Defaults to 64.

    Yields:
        For each clip its key and its row of the result.
    """
    for _, group in itertools.groupby(clips, lambda one: one[1].shape):
        while batch := list(itertools.islice(group, batch_size)):
            rows = compute(np.stack([clip for _, clip in batch]))
            yield from zip((key for key, _ in batch), rows, strict=True)


def mean_row(
    compute: Callable[[np.ndarray], np.ndarray], clips: Iterable[np.ndarray]
) -> np.ndarray:
    """Returns the mean over clips, such as the windows of a recording.

    Args:
        compute: As for `in_batches`.
        clips: One clip at least.

    Returns:
        An array of shape (size,).
    """
    found = in_batches(compute, ((None, clip) for clip in clips))
    return np.mean([row for _, row in found], axis=0)


def call_padded(model: keras.Model, clips: np.ndarray) -> np.ndarray:
    """Calls a model on a batch.

    Each size of a batch is compiled anew. So a batch is filled up to a power of
    two: few sizes are left.

    Args:
        model: The model.
        clips: Array of shape (batch, ...), with one clip at least.

    Returns:
        Its outputs, an array of shape (batch, ...).
    """
    count = len(clips)
    size = 1 << (count - 1).bit_length()
    filled = np.pad(clips, [(0, size - count)] + [(0, 0)] * (clips.ndim - 1))
    return np.asarray(model.predict_on_batch(filled))[:count]
