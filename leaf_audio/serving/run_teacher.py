"""A trained model as the teacher of another one."""

from __future__ import annotations

import hashlib
import itertools
import json
import pathlib
from collections.abc import Iterator

import numpy as np

from leaf_audio.common.included import located
from leaf_audio.common.tracing import in_own_thread
from leaf_audio.data import AudioData
from leaf_audio.data.decoding import at_rate
from leaf_audio.data.progress import progress
from leaf_audio.models.contrastive import Contrastive
from leaf_audio.serving import preparation
from leaf_audio.serving.batching import in_batches
from leaf_audio.serving.trained import TrainedClassifier, load
from leaf_audio.training import Workdir
from leaf_audio.training.teachers import Teacher, columns

# The logarithm of a probability of 0 or 1 is not finite.
_LEAST = 1e-12


class RunTeacher(Teacher):
    """A teacher that is a trained model, such as that of another run.

    Before training, it says of each training recording what `predict` or
    `embed` of `leaf_audio.load(path)` says: it gets the recording resampled to
    its rate and prepared by its transforms, and in windows if it is longer than
    its clips. Their probabilities or embeddings are averaged. All of a long
    recording counts, also where the evaluation of the teacher, without an
    `evaluation_hop`, takes the centre alone.

    Args:
        path: str or path. What `leaf_audio.load` takes: the folder of a
            finished run, a `.keras` file, or the name of a model that comes
            with the package.
        outputs: `"logits"` or `"embeddings"`. With logits, its labels must
            include those of the data. Defaults to "logits".
        weight: float, above 0 and at most 1; see `Teacher`. Defaults to 0.5.
        temperature: float above 0, or None; see `Teacher`. Defaults to None,
            which stands for 2 with logits.
        distance: `"squared"`, `"cosine"` or None; see `Teacher`. Defaults to
            None, which stands for "squared" with embeddings.

    Raises:
        ValueError: If an argument is out of range.

    Example:

    ```python
    from leaf_audio import serving, training

    teacher = serving.RunTeacher("runs/large", temperature=4)
    config = training.TrainingConfig("runs/small", teacher=teacher)
    ```
    """

    _loaded: TrainedClassifier | None = None
    _manner: str | None = None

    @property
    def _where(self) -> pathlib.Path:
        return located(self.path)

    @property
    def file(self) -> pathlib.Path:
        """The file of the model."""
        where = self._where
        return Workdir(where).best if where.is_dir() else where

    def fingerprint(self) -> str:
        """Returns a hash of the model and of how it gets recordings."""
        if self._manner is None:
            self._load()
        digest = hashlib.sha256(self.file.read_bytes())
        digest.update(str(self._manner).encode())
        return digest.hexdigest()[:16]

    def _load(self) -> TrainedClassifier:
        try:
            loaded = in_own_thread(load, self._where)
        except ValueError as error:
            # A config has more than one path.
            raise ValueError(
                "`RunTeacher.path` must name a trained model. Received: "
                f"RunTeacher.path={str(self.path)!r}. {error}"
            ) from error
        # What a run keeps beside its model decides too.
        self._manner = json.dumps(
            [
                list(loaded.labels),
                loaded.sample_rate,
                loaded.thresholds is not None,
                preparation.to_config(loaded.transform_fns),
                loaded.evaluation_hop,
            ]
        )
        return loaded

    def check(self) -> None:
        """Raises a ValueError if there is no such model, or without logits."""
        self._loaded = self._load()
        is_contrastive = isinstance(self._loaded.model, Contrastive)
        if self.outputs == "logits" and is_contrastive:
            raise ValueError(
                "`outputs` of a RunTeacher must be 'embeddings' for a model "
                "that was trained without labels. Received: outputs='logits', "
                f"path={str(self.path)!r}."
            )

    def outputs_of(self, audio_data: AudioData) -> np.ndarray:
        """Computes the outputs for the training clips; see `Teacher`."""
        classifier = self._loaded or self._load()
        # It is not needed any more while the student is trained.
        self._loaded = None
        if audio_data.sample_rate is None:
            raise ValueError(
                "`dataset` must have a known sample rate for a teacher. "
                f"Received: dataset={audio_data.name!r}; "
                "data.load.sample_rate sets it."
            )
        if self.outputs == "embeddings":
            return self._means(classifier, audio_data)
        has_several = classifier.thresholds is not None
        if has_several != audio_data.is_multilabel:
            kinds = ["one label", "several labels"]
            raise ValueError(
                "`teacher` must be for "
                f"{kinds[audio_data.is_multilabel]} of each recording, as the "
                f"data is. Received: {self.path}, which is for "
                f"{kinds[has_several]}."
            )
        chosen = columns(classifier.labels, audio_data, self.path)
        found = self._means(classifier, audio_data)[:, chosen]
        # Up to a constant for each clip, the logarithms are the logits.
        logits = np.log(np.maximum(found, _LEAST))
        if has_several:
            logits -= np.log(np.maximum(1 - found, _LEAST))
        return logits

    def _means(
        self, classifier: TrainedClassifier, audio_data: AudioData
    ) -> np.ndarray:
        """Returns the mean of each clip over its windows."""
        compute = (
            classifier.embeddings
            if self.outputs == "embeddings"
            else classifier.probabilities
        )
        rows = in_batches(compute, _windows(classifier, audio_data))
        by_clip = itertools.groupby(rows, lambda one: one[0])
        return np.stack(
            [
                np.mean([row for _, row in group], axis=0, dtype=np.float64)
                for _, group in by_clip
            ]
        )


def _windows(
    classifier: TrainedClassifier, audio_data: AudioData
) -> Iterator[tuple[int, np.ndarray]]:
    """Yields the windows of each training clip, with its index."""
    clips = audio_data.clips["train"]
    read = clips.reader()
    rate = int(audio_data.sample_rate or 0)
    count = len(clips)
    with progress(
        range(count), count, "Asking the teacher", transient=True
    ) as tracked:
        for index in tracked:
            samples, _ = read(index)
            samples = at_rate(samples, rate, classifier.sample_rate)
            for window in classifier.windows(samples):
                yield index, window.clip
