"""Recordings: where they come from, how they are kept, how they are batched."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from leaf_audio.data import batches
from leaf_audio.data.audio_folder import audio_folder, read_recording
from leaf_audio.data.batches import (
    AudioData,
    Batches,
    align,
    load,
    loudness_normalization,
    prepare,
    time_shift,
)

__all__ = [
    "AudioData",
    "Batches",
    "align",
    "audio_folder",
    "example_shape",
    "load",
    "loudness_normalization",
    "prepare",
    "read_recording",
    "time_shift",
    "transform",
]


def transform(samples: np.ndarray, transform_fns: Sequence[Callable]) -> Any:
    """Applies transforms to a clip, as in evaluation."""
    return batches._transform(transform_fns, tf.constant(samples), None)


def example_shape(transform_fns: Sequence[Callable]) -> tuple[int, ...] | None:
    """Returns the shape that transforms lead to, or None if it is unknown."""
    return batches.example_shape()
