"""Classifies recordings, each as a whole and window by window."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from leaf_audio.common.checks import check_is, check_numbers
from leaf_audio.serving.trained import Path, TrainedClassifier, as_classifier
from leaf_audio.serving.windows import Windows, rows_of_windows


@dataclasses.dataclass(frozen=True, eq=False)
class Prediction(Windows):
    """What a classifier says about one recording.

    Its `rows` are the probabilities of the labels in each window.

    Attributes:
        labels: The labels.
    """

    labels: Sequence[str]

    @property
    def probabilities(self) -> dict[str, float]:
        """The probability of each label, averaged over the windows."""
        return self._by_label(self.mean)

    def timeline(self) -> list[tuple[float, float, dict[str, float]]]:
        """For each window its start and end in seconds, and probabilities."""
        return [
            (float(start), float(end), self._by_label(row))
            for start, end, row in zip(
                self.starts, self.ends, self.rows, strict=True
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
    classifier = as_classifier(classifier)
    found = rows_of_windows(
        classifier=classifier,
        compute=classifier.probabilities,
        recordings=recordings,
        window=window,
        hop=hop,
        batch_size=batch_size,
        on_unusable=on_unusable,
    )
    labels = classifier.labels
    return (Prediction(**vars(one), labels=labels) for one in found)


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
