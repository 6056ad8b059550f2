"""Classifying recordings with the best model of a run."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence

import keras
import numpy as np

from leaf_audio import data
from leaf_audio.training import Workdir

Path = str | os.PathLike


@dataclasses.dataclass(frozen=True)
class TrainedClassifier:
    """A model, with what is needed to use it on recordings.

    Args:
        model: A Keras model from a batch of clips to logits.
        labels: A name for each output of the model.
        sample_rate: int. The sample rate of its inputs, in Hz.
    """

    model: keras.Model
    labels: Sequence[str]
    sample_rate: int

    @classmethod
    def from_run(cls, workdir: Path) -> TrainedClassifier:
        """Loads the best model of a finished run.

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
        return cls(model, trained_on["labels"], int(rate))


def predict(
    classifier: TrainedClassifier | Path,
    recordings: Sequence[str],
    transform_fns: Sequence[Callable],
    batch_size: int = 64,
) -> dict[str, dict[str, float]]:
    """Computes the probability of each label for each recording.

    Recordings are mixed to one channel and resampled. Then they are
    transformed as clips are in an evaluation.

    Args:
        classifier: A `TrainedClassifier`, or the folder of a finished run.
        recordings: Names of audio files, at any sample rate.
        transform_fns: The transforms that the model was trained with; see
            `leaf_audio.data.prepare`.
        batch_size: int, at least 1. The number of clips that the model gets at
            once. Defaults to 64.

    Returns:
        For each recording, by its name, the probability of each label.

    Raises:
        ValueError: If there is no finished run, or a recording cannot be read.

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
    if not isinstance(classifier, TrainedClassifier):
        classifier = TrainedClassifier.from_run(classifier)
    clips = []
    for recording in recordings:
        samples = data.read_recording(recording, classifier.sample_rate)
        clips.append(np.asarray(data.transform(samples, transform_fns)))
    logits = classifier.model.predict(
        np.stack(clips), batch_size=batch_size, verbose=0
    )
    shares = keras.ops.convert_to_numpy(keras.ops.softmax(logits))
    return {
        recording: dict(zip(classifier.labels, row.tolist(), strict=True))
        for recording, row in zip(recordings, shares, strict=True)
    }


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
