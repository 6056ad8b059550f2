"""Classifies recordings, each as a whole and window by window."""

from __future__ import annotations

import dataclasses
import itertools
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from leaf_audio import data
from leaf_audio.common.checks import (
    check_callable,
    check_is,
    check_numbers,
    check_path,
    check_positive,
    check_positive_int,
    check_unless_none,
)
from leaf_audio.data.recordings import audio_files
from leaf_audio.serving.trained import Path, TrainedClassifier, Window, load


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What a classifier says about one recording.

    Attributes:
        recording: str. The name of the file.
        labels: The labels.
        starts: float array of shape (windows,). Where each window begins in the
            recording, in seconds.
        ends: float array of shape (windows,). Where each window ends in the
            recording, in seconds.
        window_probabilities: float64 array of shape (windows, labels).
    """

    recording: str
    labels: Sequence[str]
    starts: np.ndarray
    ends: np.ndarray
    window_probabilities: np.ndarray

    @property
    def probabilities(self) -> dict[str, float]:
        """The probability of each label, averaged over the windows."""
        return self._by_label(self.window_probabilities.mean(axis=0))

    def timeline(self) -> list[tuple[float, float, dict[str, float]]]:
        """For each window its start and end in seconds, and probabilities."""
        return [
            (float(start), float(end), self._by_label(row))
            for start, end, row in zip(
                self.starts, self.ends, self.window_probabilities, strict=True
            )
        ]

    def _by_label(self, row: np.ndarray) -> dict[str, float]:
        return dict(zip(self.labels, row.tolist(), strict=True))


def predict(
    classifier: TrainedClassifier | Path,
    recordings: Sequence[str],
    window: float | None = None,
    hop: float | None = None,
    batch_size: int = 64,
    on_unusable: Callable[[str, ValueError], None] | None = None,
) -> Iterator[Prediction]:
    """Computes the probability of each label for recordings.

    The probabilities of a recording sum to 1, unless the model is for several
    labels of a recording. Then each is between 0 and 1, and `given_labels` says
    which are high enough.

    Recordings are mixed to one channel and resampled. Then they are prepared as
    clips are in an evaluation. A recording that is longer than a clip of the
    model is judged in windows, which together cover all of it. One recording
    and one batch are in memory at a time.

    Args:
        classifier: A `TrainedClassifier`, or what `leaf_audio.load` takes.
        recordings: Names of audio files, at any sample rate. A folder stands
            for all audio files below it. A file that is named twice is judged
            once.
        window: float, in seconds. The length of a window. It must not be longer
            than a clip of the model. Defaults to the length of a clip; if the
            model takes any length, to the whole recording.
        hop: float, in seconds, at most `window`. The distance between the
            beginnings of windows. Defaults to the `evaluation_hop` of the run;
            without one, to `window`.
        batch_size: int, at least 1. The number of clips that the model gets at
            once. Defaults to 64.
        on_unusable: Function that is called with the name of a recording that
            cannot be read and the error. The recording is then left out. None
            raises the error. Defaults to None.

    Yields:
        A `Prediction` for each recording that can be read.

    Raises:
        ValueError: If there is no such classifier, or an argument is out of
            range. If `on_unusable` is None, also if a recording cannot be read,
            or a folder holds none.

    Example:

    ```python
    from leaf_audio import serving

    for one in serving.predict("speech_commands", ["yes.wav"]):
        print(one.recording, max(one.probabilities, key=one.probabilities.get))
    ```
    """
    check_positive_int("batch_size", batch_size)
    if not isinstance(recordings, (list, tuple)) or not all(
        isinstance(one, (str, os.PathLike)) for one in recordings
    ):
        raise ValueError(
            "`recordings` must be a list of names of audio files. "
            f"Received: recordings={recordings!r}."
        )
    if not isinstance(classifier, TrainedClassifier):
        classifier = load(check_path("classifier", classifier))
    check_unless_none(check_callable, on_unusable=on_unusable)
    length, step = in_samples(classifier, window, hop)
    # What is wrong in the arguments is raised by this call, and not by the
    # first step of the iterator.
    examples = _examples(classifier, recordings, length, step, on_unusable)
    return _predictions(classifier, examples, batch_size)


def in_samples(
    classifier: TrainedClassifier, window: float | None, hop: float | None
) -> tuple[int | None, int | None]:
    """Converts the length and the hop of windows from seconds to samples.

    Args:
        classifier: The classifier.
        window: float, in seconds, or None.
        hop: float, in seconds, or None.

    Returns:
        The two in samples, each None where it was.

    Raises:
        ValueError: If one is not positive, `window` is longer than a clip of
            the model, or `hop` is longer than the window.
    """
    check_unless_none(check_positive, window=window, hop=hop)
    rate = classifier.sample_rate
    length = None if window is None else max(1, round(window * rate))
    step = None if hop is None else max(1, round(hop * rate))
    clip = classifier.window
    if length is not None and clip is not None and length > clip:
        raise ValueError(
            "`window` must be at most the length of a clip of the model, "
            f"{clip / rate:g} s, so that no part is left out. "
            f"Received: window={window}."
        )
    longest = clip if length is None else length
    if step is not None and longest is not None and step > longest:
        raise ValueError(
            f"`hop` must be at most the length of a window, {longest / rate:g} "
            f"s, so that no part is left out. Received: hop={hop}."
        )
    if step is not None and longest is None:
        raise ValueError(
            "`window` must be given with `hop`, since the model takes clips of "
            f"any length. Received: window=None, hop={hop}."
        )
    return length, step


def given_labels(
    probabilities: Mapping[str, float], thresholds: Sequence[float]
) -> list[str]:
    """Returns the labels of a recording that may have several.

    Args:
        probabilities: The probability of each label, as a `Prediction` has it.
        thresholds: The thresholds of the labels, in the same order; see
            `TrainedClassifier`.

    Returns:
        The labels whose probability reaches their threshold, the most probable
        first. They may be none.

    Raises:
        ValueError: If there is not one threshold for each label.

    Example:

    ```python
    from leaf_audio import serving

    probabilities = {"rain": 0.2, "dog": 0.9, "wind": 0.4}
    found = serving.given_labels(probabilities, [0.1, 0.5, 0.5])
    assert found == ["dog", "rain"]
    ```
    """
    check_is("probabilities", probabilities, Mapping, "a number for each label")
    if len(check_numbers("thresholds", thresholds)) != len(probabilities):
        raise ValueError(
            "`thresholds` must hold a number for each of the "
            f"{len(probabilities)} labels. Received: thresholds={thresholds!r}."
        )
    given = [
        label
        for (label, probability), threshold in zip(
            probabilities.items(), thresholds, strict=True
        )
        if probability >= threshold
    ]
    return sorted(given, key=probabilities.__getitem__, reverse=True)


def files_of(recordings: Sequence[str]) -> list[str]:
    """Lists the files that names of files and folders stand for.

    Args:
        recordings: Names of audio files and folders.

    Returns:
        Each file once. A folder stands for the audio files below it; one that
        holds none stays as it is.
    """
    return list(dict.fromkeys(itertools.chain(*map(_files, recordings))))


def _files(name: str) -> list[str]:
    if not os.path.isdir(name):
        return [name]
    found = [
        os.path.join(name, file) for file in audio_files(pathlib.Path(name))
    ]
    return found or [name]


class _Example(NamedTuple):
    recording: str
    window: Window


class _Judged(NamedTuple):
    recording: str
    start: int
    end: int
    probabilities: np.ndarray


def _examples(
    classifier: TrainedClassifier,
    recordings: Sequence[str],
    length: int | None,
    hop: int | None,
    on_unusable: Callable[[str, ValueError], None] | None,
) -> Iterator[_Example]:
    for recording in files_of(recordings):
        try:
            if os.path.isdir(recording):
                raise ValueError(
                    "`recording` must be an audio file or a folder with audio "
                    f"files. Received: recording={recording!r}, a folder "
                    "without any."
                )
            samples = data.read_recording(recording, classifier.sample_rate)
        except ValueError as error:
            if on_unusable is None:
                raise
            on_unusable(recording, error)
            continue
        for window in classifier.windows(samples, length, hop):
            yield _Example(recording, window)


def _predictions(
    classifier: TrainedClassifier,
    examples: Iterable[_Example],
    batch_size: int,
) -> Iterator[Prediction]:
    judged = _judge(classifier, examples, batch_size)
    for recording, group in itertools.groupby(
        judged, lambda one: one.recording
    ):
        windows = list(group)
        yield Prediction(
            recording=recording,
            labels=classifier.labels,
            starts=np.array([one.start for one in windows])
            / classifier.sample_rate,
            ends=np.array([one.end for one in windows])
            / classifier.sample_rate,
            window_probabilities=np.stack(
                [one.probabilities for one in windows]
            ),
        )


def _judge(
    classifier: TrainedClassifier,
    examples: Iterable[_Example],
    batch_size: int,
) -> Iterator[_Judged]:
    # Recordings of several lengths are in several batches if the model takes
    # clips of any length.
    for _, group in itertools.groupby(
        examples, lambda one: one.window.clip.shape
    ):
        while batch := list(itertools.islice(group, batch_size)):
            clips = np.stack([one.window.clip for one in batch])
            rows = classifier.probabilities(clips)
            for (recording, window), row in zip(batch, rows, strict=True):
                yield _Judged(recording, window.start, window.end, row)
