"""Embeddings of recordings: what the last layer of a classifier gets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from leaf_audio.serving.trained import Path, TrainedClassifier, as_classifier
from leaf_audio.serving.windows import Windows, rows_of_windows


def embed(
    classifier: TrainedClassifier | Path,
    recordings: Sequence[str],
    window: float | None = None,
    hop: float | None = None,
    batch_size: int = 64,
    on_unusable: Callable[[str, ValueError], None] | None = None,
) -> Iterator[Windows]:
    """Computes the embeddings of recordings.

    Recordings are mixed to one channel, resampled and prepared as clips are in
    an evaluation. A recording that is longer than a clip of the model has
    several windows, which together cover all of it.

    Args:
        classifier: A `TrainedClassifier`, or what `leaf_audio.load` takes.
        recordings: Names of audio files, at any sample rate. A folder stands
            for all audio files below it. A file that is named twice is read
            once.
        window: float, in seconds. The length of a window; see `predict`.
        hop: float, in seconds. The distance between the beginnings of windows;
            see `predict`.
        batch_size: int, at least 1. The number of clips that the model gets at
            once. Defaults to 64.
        on_unusable: Function that is called with the name of a recording that
            cannot be read and the error. The recording is then left out. None
            raises the error. Defaults to None.

    Yields:
        For each recording that can be read, its `Windows`. Their `rows` are
        float32 embeddings, and `mean` is that of the whole recording.

    Raises:
        ValueError: If there is no such classifier, its model has no embeddings,
            or an argument is out of range. If `on_unusable` is None, also if a
            recording cannot be read, or a folder holds none.

    Example:

    ```python
    import numpy as np
    from leaf_audio import serving

    files = ["one.wav", "two.wav"]
    found = serving.embed("speech_commands", files)
    embeddings = np.stack([one.mean for one in found])
    ```
    """
    classifier = as_classifier(classifier)
    return rows_of_windows(
        classifier=classifier,
        compute=classifier.embeddings,
        recordings=recordings,
        window=window,
        hop=hop,
        batch_size=batch_size,
        on_unusable=on_unusable,
    )
