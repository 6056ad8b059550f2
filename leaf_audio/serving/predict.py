"""Classifies recordings with the model of a run."""

from __future__ import annotations

import collections
import dataclasses
import itertools
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence

import keras
import numpy as np

from leaf_audio import data
from leaf_audio.common.checks import (
    check_callable,
    check_is,
    check_numbers,
    check_path,
    check_positive_int,
    check_unless_none,
)
from leaf_audio.data import chunks
from leaf_audio.data.recordings import audio_files
from leaf_audio.data.transforms import check_transforms
from leaf_audio.training import Workdir
from leaf_audio.training.metrics import log_probabilities
from leaf_audio.training.thresholds import sigmoid

Path = str | os.PathLike


@dataclasses.dataclass(frozen=True)
class TrainedClassifier:
    """A model, with what is needed to use it on recordings.

    Args:
        model: A Keras model from a batch of clips to logits.
        labels: A name for each output of the model.
        sample_rate: int. The sample rate of its inputs, in Hz.
        thresholds: Sequence of float, or None. Where a recording may have
            several labels, the probability from which on it has each of them.
            None is for a model of one label for each recording. Defaults to
            None.
    """

    model: keras.Model
    labels: Sequence[str]
    sample_rate: int
    thresholds: Sequence[float] | None = None

    @classmethod
    def from_run(cls, workdir: Path) -> TrainedClassifier:
        """Loads the model of a finished run.

        Args:
            workdir: The folder of the run.

        Returns:
            The classifier.

        Raises:
            ValueError: If there is no finished run, or its sample rate is
                unknown.
        """
        folder = finished_run(workdir)
        trained_on = folder.read_data()
        model = folder.load_best()
        frontend = getattr(model, "frontend", None)
        rate = trained_on.get("sample_rate") or getattr(
            frontend, "sample_rate", None
        )
        if rate is None:
            raise ValueError(
                "`workdir` must hold a run that has recorded a sample rate. "
                f"Received: workdir={str(workdir)!r}, trained on "
                f"{trained_on['name']!r} without one; data.load.sample_rate "
                "sets it."
            )
        return cls(
            model, trained_on["labels"], int(rate), folder.read_thresholds()
        )


def predict(
    classifier: TrainedClassifier | Path,
    recordings: Sequence[str],
    transform_fns: Sequence[Callable],
    batch_size: int = 64,
    on_unusable: Callable[[str, ValueError], None] | None = None,
    evaluation_hop: int | None = None,
) -> dict[str, dict[str, float]]:
    """Computes the probability of each label for each recording.

    The probabilities of a recording sum to 1, unless the model is for several
    labels of a recording. Then each is between 0 and 1, and `given_labels` says
    which are high enough.

    Recordings are mixed to one channel and resampled. Then they are
    transformed as clips are in an evaluation. One recording and one batch are
    in memory at a time.

    Args:
        classifier: A `TrainedClassifier`, or the folder of a finished run.
        recordings: Names of audio files, at any sample rate. A folder stands
            for all audio files below it.
        transform_fns: The transforms that the model was trained with; see
            `leaf_audio.data.prepare`.
        batch_size: int, at least 1. The number of clips that the model gets at
            once. Defaults to 64.
        on_unusable: Function that is called with the name of a recording that
            cannot be read and the error. The recording is then left out. None
            raises the error. Defaults to None.
        evaluation_hop: int, in samples, or None. The distance between the
            chunks that a long recording is cut into, whose probabilities are
            averaged; see `leaf_audio.data.prepare`. None takes what the
            transforms make of the whole recording; `align` crops it to its
            centre. Defaults to None.

    Returns:
        For each recording, by its name, the probability of each label.

    Raises:
        ValueError: If there is no finished run, or `evaluation_hop` is out of
            range. If `on_unusable` is None, also if a recording cannot be read,
            or a folder holds none.

    Example:

    ```python
    import functools
    from leaf_audio import data, serving

    align = functools.partial(data.align, seq_len=8000)
    serving.predict(
        "runs/vowels", ["one.wav"], [align, data.loudness_normalization]
    )
    ```
    """
    check_positive_int("batch_size", batch_size)
    check_transforms(transform_fns)
    if not isinstance(recordings, (list, tuple)) or not all(
        isinstance(one, (str, os.PathLike)) for one in recordings
    ):
        raise ValueError(
            "`recordings` must be a list of names of audio files. "
            f"Received: recordings={recordings!r}."
        )
    if not isinstance(classifier, TrainedClassifier):
        check_path("classifier", classifier)
        classifier = TrainedClassifier.from_run(classifier)
    check_unless_none(check_callable, on_unusable=on_unusable)
    check_unless_none(check_positive_int, evaluation_hop=evaluation_hop)
    sums: dict[str, np.ndarray] = {}
    counts: collections.Counter[str] = collections.Counter()
    examples = (
        (recording, example)
        for recording, samples in _read(
            recordings, classifier.sample_rate, on_unusable
        )
        for example in _examples(samples, transform_fns, evaluation_hop)
    )
    while batch := list(itertools.islice(examples, batch_size)):
        shares = _probabilities(
            classifier, np.stack([example for _, example in batch])
        )
        for (recording, _), row in zip(batch, shares, strict=True):
            sums[recording] = sums.get(recording, 0) + row
            counts[recording] += 1
    return {
        recording: dict(
            zip(
                classifier.labels,
                (total / counts[recording]).tolist(),
                strict=True,
            )
        )
        for recording, total in sums.items()
    }


def _examples(
    samples: np.ndarray,
    transform_fns: Sequence[Callable],
    evaluation_hop: int | None,
) -> Iterator[np.ndarray]:
    """Yields what a model gets of a recording, as in an evaluation."""
    whole = np.asarray(data.transform(samples, transform_fns))
    if evaluation_hop is None:
        yield whole
        return
    length = len(whole)
    _, starts = chunks.cut(np.array([len(samples)]), length, evaluation_hop)
    for start in starts:
        part = samples[start : start + length]
        yield np.asarray(data.transform(part, transform_fns))


def _read(
    recordings: Sequence[str],
    sample_rate: int,
    on_unusable: Callable[[str, ValueError], None] | None,
) -> Iterator[tuple[str, np.ndarray]]:
    """Yields each recording that can be read, once, with its samples."""
    for recording in dict.fromkeys(itertools.chain(*map(_files, recordings))):
        try:
            if os.path.isdir(recording):
                raise ValueError(
                    "`recording` must be an audio file or a folder with audio "
                    f"files. Received: recording={recording!r}, a folder "
                    "without any."
                )
            samples = data.read_recording(recording, sample_rate)
        except ValueError as error:
            if on_unusable is None:
                raise
            on_unusable(recording, error)
        else:
            yield recording, samples


def _files(name: str) -> list[str]:
    """Returns the audio files below a folder, or what is no such folder."""
    if not os.path.isdir(name):
        return [name]
    found = [
        os.path.join(name, file) for file in audio_files(pathlib.Path(name))
    ]
    return found or [name]


def _probabilities(
    classifier: TrainedClassifier, batch: np.ndarray
) -> np.ndarray:
    """Returns a float64 array of shape (clips, labels)."""
    logits = classifier.model.predict(batch, batch_size=len(batch), verbose=0)
    if classifier.thresholds is not None:
        return sigmoid(logits)
    return np.exp(log_probabilities(logits.astype(np.float64)))


def given_labels(
    probabilities: Mapping[str, float], thresholds: Sequence[float]
) -> list[str]:
    """Returns the labels of a recording that may have several.

    Args:
        probabilities: The probability of each label, as `predict` returns it
            for a recording.
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


def finished_run(workdir: Path) -> Workdir:
    """Returns the folder of a finished run.

    Args:
        workdir: The folder of the run.

    Raises:
        ValueError: If there is no run, or it is not finished.
    """
    folder = Workdir(workdir)
    if not (folder.best.exists() and folder.read_data()):
        raise ValueError(
            "`workdir` must hold a finished run. Received: "
            f"workdir={str(workdir)!r}, without {folder.results.name}."
        )
    return folder
