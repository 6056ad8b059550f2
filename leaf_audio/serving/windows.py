"""Reads recordings and calls a model on their windows, batch by batch."""

from __future__ import annotations

import dataclasses
import itertools
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import keras
import numpy as np

from leaf_audio import data
from leaf_audio.common.checks import (
    check_callable,
    check_positive_int,
    check_unless_none,
)
from leaf_audio.data.decoding import UnusableFileError, naming
from leaf_audio.data.recordings import files_of
from leaf_audio.serving.batching import in_batches
from leaf_audio.serving.trained import TrainedClassifier
from leaf_audio.serving.window_sizes import in_samples


# Arrays have no single answer to whether they are equal.
@dataclasses.dataclass(frozen=True, eq=False)
class Windows:
    """What a model gives for the windows of one recording.

    Attributes:
        recording: str. The name of the file.
        starts: float array of shape (windows,). Where each window begins in the
            recording, in seconds.
        ends: float array of shape (windows,). Where each window ends in the
            recording, in seconds.
        rows: float array of shape (windows, size). What the model gives for
            each window: probabilities of labels, or embeddings.
    """

    recording: str
    starts: np.ndarray
    ends: np.ndarray
    rows: np.ndarray

    @property
    def mean(self) -> np.ndarray:
        """The mean over the windows, an array of shape (size,)."""
        return self.rows.mean(axis=0)


def rows_of_windows(
    classifier: TrainedClassifier,
    compute: Callable[[np.ndarray], np.ndarray],
    recordings: Sequence[str],
    window: float | None,
    hop: float | None,
    batch_size: int,
    on_unusable: Callable[[str, ValueError], None] | None,
) -> Iterator[Windows]:
    """Calls a model on the windows of recordings.

    One recording and one batch are in memory at a time.

    Args:
        classifier: The classifier that prepares the recordings.
        compute: Function of prepared clips of shape (batch, time) that returns
            an array of shape (batch, size), such as
            `classifier.probabilities`.
        recordings: Names of audio files and folders.
        window: float, in seconds, or None. The length of a window.
        hop: float, in seconds, or None. The distance between the beginnings of
            windows. `TrainedClassifier.windows` has the defaults.
        batch_size: int, at least 1. The number of clips that the model gets at
            once.
        on_unusable: Function that is called with the name of a recording that
            cannot be read and the error. None raises the error.

    Yields:
        For each recording that can be read, its `Windows`.

    Raises:
        ValueError: If an argument is out of range. If `on_unusable` is None,
            also if a recording cannot be read, or a folder holds none.
    """
    check_positive_int("batch_size", batch_size)
    if not isinstance(recordings, (list, tuple)) or not all(
        isinstance(one, (str, os.PathLike)) for one in recordings
    ):
        raise ValueError(
            "`recordings` must be a list of names of audio files. "
            f"Received: recordings={recordings!r}."
        )
    check_unless_none(check_callable, on_unusable=on_unusable)
    length, step = in_samples(
        classifier.sample_rate, classifier.window, window, hop
    )
    clips = _clips(classifier, recordings, length, step, on_unusable)
    # What is wrong in the arguments is raised by this call, and not by the
    # first step of the iterator.
    return _by_recording(
        in_batches(compute, clips, batch_size), classifier.sample_rate
    )


class _Place(NamedTuple):
    """Where a window is: its recording, and its ends in samples."""

    recording: str
    start: int
    end: int


def _clips(
    classifier: TrainedClassifier,
    recordings: Sequence[str],
    length: int | None,
    hop: int | None,
    on_unusable: Callable[[str, ValueError], None] | None,
) -> Iterator[tuple[_Place, np.ndarray]]:
    check_clip = _LengthCheck(classifier)
    for recording in files_of(recordings):
        try:
            if os.path.isdir(recording):
                with naming(recording):
                    raise UnusableFileError("it is a folder without any audio")
            samples = data.read_recording(recording, classifier.sample_rate)
            windows = classifier.windows(samples, length, hop)
            first = next(windows)
            with naming(recording):
                check_clip(first.clip)
        except ValueError as error:
            if on_unusable is None:
                raise
            on_unusable(recording, error)
            continue
        for start, end, clip in itertools.chain([first], windows):
            yield _Place(recording, start, end), clip


class _LengthCheck:
    """Tells clips that are too short for a model that takes any length.

    An encoder that halves its features again and again needs some frames. The
    model is called on clips that are shorter than all before.
    """

    def __init__(self, classifier: TrainedClassifier):
        self._model = classifier.model
        # None for a model of clips of one length.
        self._shortest = math.inf if classifier.window is None else None

    def __call__(self, clip: np.ndarray) -> None:
        if self._shortest is None or len(clip) >= self._shortest:
            return
        reason = (
            f"the model cannot take a clip of {len(clip)} samples, which is "
            "too short for its encoder"
        )
        try:
            # Not compiled: a compiled call of any length may crash.
            found = self._model(clip[None], training=False)
        # Each backend has errors of its own.
        except Exception as error:
            raise UnusableFileError(reason) from error
        # Means over no frames.
        if not np.isfinite(keras.ops.convert_to_numpy(found)).all():
            raise UnusableFileError(reason)
        self._shortest = len(clip)


def _by_recording(
    computed: Iterable[tuple[_Place, np.ndarray]], sample_rate: int
) -> Iterator[Windows]:
    by_recording = itertools.groupby(computed, lambda one: one[0].recording)
    for recording, group in by_recording:
        places, rows = zip(*group, strict=True)
        yield Windows(
            recording=recording,
            starts=np.array([one.start for one in places]) / sample_rate,
            ends=np.array([one.end for one in places]) / sample_rate,
            rows=np.stack(rows),
        )
