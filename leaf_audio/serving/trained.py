"""A trained classifier with what is needed to use it: loading and calling."""

from __future__ import annotations

import dataclasses
import functools
import numbers
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from leaf_audio import data, models
from leaf_audio.common.checks import (
    check_list_of,
    check_path,
    check_positive_int,
    check_share,
)
from leaf_audio.common.included import included, located
from leaf_audio.common.plain import plain
from leaf_audio.data import chunks
from leaf_audio.data.decoding import at_rate, check_sample_rate
from leaf_audio.models.contrastive import Contrastive
from leaf_audio.serving import finished, packed
from leaf_audio.serving.batching import call_padded, mean_row
from leaf_audio.serving.streaming import ClassifierStream
from leaf_audio.serving.window_sizes import check_samples, default_hop
from leaf_audio.training.metrics import log_probabilities
from leaf_audio.training.thresholds import sigmoid

Path = str | os.PathLike


class Window(NamedTuple):
    """A part of a recording, and the clip that a model gets for it.

    Attributes:
        start: int, in samples at the model's sample rate.
        end: int, in samples. Where the part ends in the recording.
        clip: float32 array, the prepared part.
    """

    start: int
    end: int
    clip: np.ndarray


@dataclasses.dataclass(frozen=True)
class TrainedClassifier:
    """A model, with what is needed to use it on recordings.

    `leaf_audio.load` makes it from a run, a file or a name.

    Args:
        model: A Keras model from a batch of clips to logits.
        labels: A name for each output of the model.
        sample_rate: int. The sample rate of its inputs, in Hz.
        thresholds: Sequence of float, or None. Where a recording may have
            several labels, the probability from which on it has each of them.
            None is for a model of one label for each recording. Defaults to
            None.
        transform_fns: The functions that prepare a clip, as in the training;
            see `leaf_audio.data.prepare`. Defaults to none.
        evaluation_hop: int, in samples, or None. The distance between the
            windows in which the evaluation judges a long recording. Defaults
            to None.
        card: What is known about the model: its data, its results and the
            versions of the libraries. Defaults to nothing.
    """

    model: keras.Model
    labels: Sequence[str]
    sample_rate: int
    thresholds: Sequence[float] | None = None
    transform_fns: Sequence[Callable] = ()
    evaluation_hop: int | None = None
    card: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __repr__(self) -> str:
        seconds = self.window and self.window / self.sample_rate
        return (
            f"TrainedClassifier({len(self.labels)} labels, {self.sample_rate} "
            f"Hz, window={seconds} s, {type(self.model).__name__})"
        )

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = plain(getattr(self, field.name))
            object.__setattr__(self, field.name, value)
        labels = check_list_of("labels", self.labels, str, "names")
        check_sample_rate("sample_rate", self.sample_rate)
        outputs = _num_outputs(self.model, default=len(labels))
        if len(labels) != outputs or len(set(labels)) < len(labels):
            raise ValueError(
                "`labels` must be a different name for each of the model's "
                f"{outputs} outputs. Received: {len(labels)} labels, "
                f"{len(set(labels))} of them different."
            )
        if self.thresholds is not None:
            thresholds = check_list_of(
                "thresholds", self.thresholds, numbers.Real, "numbers"
            )
            if len(thresholds) != len(labels):
                raise ValueError(
                    "`thresholds` must be None or a number for each of the "
                    f"{len(labels)} labels. Received: {len(thresholds)} "
                    "numbers."
                )
            for threshold in thresholds:
                check_share("thresholds", threshold)
        hop = self.evaluation_hop
        if hop is not None:
            check_positive_int("evaluation_hop", hop, at_most=self.window)

    @classmethod
    def from_run(
        cls,
        workdir: Path,
        transform_fns: Sequence[Callable] | None = None,
        evaluation_hop: int | None = None,
    ) -> TrainedClassifier:
        """Loads the model of a finished run. No code of the run is executed.

        Args:
            workdir: The folder of the run.
            transform_fns: The functions that prepare a clip. None takes those
                that the run has recorded in `settings.json`. Defaults to None.
            evaluation_hop: int, in samples, or None. Only with
                `transform_fns`; otherwise it is what the run has recorded.
                Defaults to None.

        Returns:
            The classifier.

        Raises:
            ValueError: If there is no finished run, its sample rate is
                unknown, or it has recorded functions that are not of
                `leaf_audio.data`.
        """
        folder = finished.finished_run(workdir)
        if transform_fns is None:
            if evaluation_hop is not None:
                raise ValueError(
                    "`evaluation_hop` must be None without `transform_fns`. "
                    f"Received: evaluation_hop={evaluation_hop!r}."
                )
            transform_fns, evaluation_hop = finished.read_preparation(folder)
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
        fields: dict[str, Any] = {
            "labels": trained_on["labels"],
            "sample_rate": int(rate),
            "thresholds": folder.read_thresholds(),
            "transform_fns": transform_fns,
            "evaluation_hop": evaluation_hop,
            "card": finished.read_card(folder),
        }
        try:
            return cls(model=model, **fields)
        except ValueError as error:
            raise ValueError(
                f"{folder.results} must fit {folder.best.name}. {error}"
            ) from error

    @classmethod
    def from_file(cls, path: Path) -> TrainedClassifier:
        """Loads a file that `save` has written. No code in it is executed.

        Args:
            path: Name of the `.keras` file.

        Returns:
            The classifier.

        Raises:
            ValueError: If the file cannot be loaded, or holds a model alone.
        """
        model, fields = packed.read(path)
        try:
            return cls(model=model, **fields)
        except ValueError as error:
            raise ValueError(
                f"{str(path)!r} must hold a valid classifier. {error}"
            ) from error

    def save(self, path: Path, compact: bool = False) -> None:
        """Writes the classifier as one `.keras` file.

        `leaf_audio.load` reads it. `keras.models.load_model` reads the model in
        it, once `leaf_audio` is imported.

        Args:
            path: Name of the file, ending in `.keras`. A file of this name is
                replaced, unless it is one of a run.
            compact: bool. Whether weights are rounded to 11 significant bits,
                as those of float16, and compressed. The file then has about
                half the size. Defaults to False.

        Raises:
            ValueError: If `path` does not end in `.keras`, its folder does not
                exist, it is a file of a run, or `transform_fns` has functions
                that are not of `leaf_audio.data`.
        """
        thresholds = self.thresholds
        if thresholds is not None:
            thresholds = [float(one) for one in thresholds]
        fields = {
            "labels": list(self.labels),
            "sample_rate": self.sample_rate,
            "thresholds": thresholds,
            "transform_fns": self.transform_fns,
            "evaluation_hop": self.evaluation_hop,
            "card": dict(self.card),
        }
        packed.write(path, self.model, fields, compact)

    @property
    def frontend(self) -> keras.layers.Layer | None:
        """The frontend of the model, or None if it has none."""
        return getattr(self.model, "frontend", None)

    @functools.cached_property
    def window(self) -> int | None:
        """The length of the model's clips in samples; None if it takes any."""
        shape = data.example_shape(self.transform_fns)
        return None if shape is None else shape[0]

    def prepare(self, samples: Any, sample_rate: int) -> np.ndarray:
        """Makes of a recording what the evaluation makes of a clip.

        Args:
            samples: Array of shape (time,), of floats from -1 to 1 or of 16-bit
                integers.
            sample_rate: int. The sample rate of `samples`, in Hz.

        Returns:
            A float32 array, for most runs of shape (`window`,). With a batch
            axis in front, it is the input of `model`.

        Raises:
            ValueError: If `samples` or `sample_rate` cannot be used.
        """
        samples = at_rate(samples, sample_rate, self.sample_rate)
        return data.transform(samples, self.transform_fns)

    def predict(self, samples: Any, sample_rate: int) -> dict[str, float]:
        """Computes the probability of each label for a recording.

        A recording that is longer than `window` is judged in windows; see
        `windows`. Their probabilities are averaged.

        Args:
            samples: Array of shape (time,), of floats from -1 to 1 or of 16-bit
                integers.
            sample_rate: int. The sample rate of `samples`, in Hz.

        Returns:
            The probability of each label. They sum to 1 unless a recording may
            have several labels.

        Raises:
            ValueError: If `samples` or `sample_rate` cannot be used.

        Example:

        ```python
        import soundfile

        import leaf_audio

        classifier = leaf_audio.load("speech_commands")
        probabilities = classifier.predict(*soundfile.read("yes.wav"))
        ```
        """
        mean = self._mean(self.probabilities, samples, sample_rate)
        return dict(zip(self.labels, mean.tolist(), strict=True))

    def embed(self, samples: Any, sample_rate: int) -> np.ndarray:
        """Computes the embedding of a recording.

        It is the input of the model's last layer. That of a recording longer
        than `window` is the mean over its windows.

        Args:
            samples: Array of shape (time,), of floats from -1 to 1 or of 16-bit
                integers.
            sample_rate: int. The sample rate of `samples`, in Hz.

        Returns:
            A float32 array of shape (channels,).

        Raises:
            ValueError: If `samples` or `sample_rate` cannot be used, or the
                model is no `models.AudioClassifier`.
        """
        return self._mean(self.embeddings, samples, sample_rate)

    def _mean(
        self,
        compute: Callable[[np.ndarray], np.ndarray],
        samples: Any,
        sample_rate: int,
    ) -> np.ndarray:
        """Returns the mean over windows of what the model gives for them."""
        samples = at_rate(samples, sample_rate, self.sample_rate)
        return mean_row(compute, (one.clip for one in self.windows(samples)))

    def windows(
        self,
        samples: np.ndarray,
        length: int | None = None,
        hop: int | None = None,
    ) -> Iterator[Window]:
        """Cuts a recording into what the model gets.

        Args:
            samples: Array of shape (time,), at the model's `sample_rate`, of
                floats from -1 to 1 or of 16-bit integers.
            length: int, in samples. The length of a window, at most that of a
                clip of the model. Defaults to that of a clip; if the model
                takes any length, to the whole recording.
            hop: int, in samples, at most `length`. The distance between the
                beginnings of windows. Defaults to `evaluation_hop`; if that is
                None or longer, to `length`.

        Yields:
            Each `Window`. The last one ends where the recording ends. A
            recording that is not longer than a window is one.

        Raises:
            ValueError: If `samples` cannot be used, or `length` or `hop` is out
                of range.
        """
        samples = at_rate(samples, self.sample_rate, self.sample_rate)
        if length is None:
            length = self.window or len(samples)
        check_samples("length", length, at_most=self.window)
        if hop is None:
            hop = default_hop(self.evaluation_hop, length)
        check_samples("hop", hop, at_most=length)
        _, starts = chunks.cut(np.array([len(samples)]), length, hop)
        for start in starts.tolist():
            part = samples[start : start + length]
            clip = data.transform(part, self.transform_fns)
            yield Window(start, start + len(part), clip)

    def stream(
        self,
        sample_rate: int | None = None,
        window: float | None = None,
        hop: float | None = None,
    ) -> ClassifierStream:
        """Makes a stream, which judges audio while it comes in.

        With the same sizes, what it says, joined, is what `serving.predict`
        says of the windows of a file with the whole audio.

        Args:
            sample_rate: int, in Hz. The sample rate of the audio. Defaults to
                that of the model.
            window: float, in seconds. The length of a window, at most that of a
                clip of the model. Defaults to that of a clip.
            hop: float, in seconds, at most `window`. The distance between the
                beginnings of windows. Defaults to half a window.

        Returns:
            A `ClassifierStream`, with the methods `push` and `finish`.

        Raises:
            ValueError: If an argument is out of range.
        """
        return ClassifierStream(self, sample_rate, window, hop)

    def probabilities(self, clips: np.ndarray) -> np.ndarray:
        """Computes the probabilities of prepared clips.

        Args:
            clips: float32 array of shape (batch, time), from `prepare` or
                `windows`.

        Returns:
            A float64 array of shape (batch, labels).

        Raises:
            ValueError: If the model was trained without labels.
        """
        if isinstance(self.model, Contrastive):
            raise ValueError(
                "`model` must be a classifier to give probabilities. Received: "
                f"{type(self.model).__name__}, which was trained without "
                "labels; it has embeddings only."
            )
        logits = call_padded(self.model, clips)
        if self.thresholds is not None:
            return sigmoid(logits)
        return np.exp(log_probabilities(logits.astype(np.float64)))

    def embeddings(self, clips: np.ndarray) -> np.ndarray:
        """Computes the embeddings of prepared clips.

        Args:
            clips: float32 array of shape (batch, time), from `prepare` or
                `windows`.

        Returns:
            A float32 array of shape (batch, channels).

        Raises:
            ValueError: If the model is no `models.AudioClassifier`.
        """
        return call_padded(self._embedder, clips)

    @functools.cached_property
    def _embedder(self) -> keras.Model:
        if not isinstance(self.model, (models.AudioClassifier, Contrastive)):
            raise ValueError(
                "`model` must be a models.AudioClassifier to have embeddings. "
                f"Received: {type(self.model).__name__}."
            )
        return _Embedder(self.model)


class _Embedder(keras.Model):
    """Computes what the last layer of a classifier gets."""

    def __init__(self, classifier: models.AudioClassifier | Contrastive):
        super().__init__(autocast=False, name="embedder")
        self.classifier = classifier

    def call(self, inputs: Any) -> Any:
        return self.classifier.embed(inputs, training=False)


def _num_outputs(model: keras.Model, default: int) -> int:
    """Returns the number of outputs, or the default for a model without."""
    if hasattr(model, "num_outputs"):
        return model.num_outputs
    # A model of layers, such as a Sequential.
    shape = getattr(model, "output_shape", None)
    return shape[-1] if isinstance(shape, tuple) else default


def load(path: Path) -> TrainedClassifier:
    """Loads a trained classifier, to use it on recordings.

    No code of a run or a file is executed.

    Args:
        path: The folder of a finished run, a `.keras` file that
            `TrainedClassifier.save` has written, or the name of a model that
            comes with the package: "speech_commands".

    Returns:
        The classifier, a `serving.TrainedClassifier`.

    Raises:
        ValueError: If it is none of them, or cannot be loaded.

    Example:

    ```python
    import leaf_audio

    classifier = leaf_audio.load("speech_commands")
    print(classifier.labels, classifier.sample_rate)
    ```
    """
    path = located(check_path("path", path))
    if path.is_dir():
        return TrainedClassifier.from_run(path)
    if path.suffix == ".keras":
        return TrainedClassifier.from_file(path)
    missing = "" if path.exists() else ", which does not exist"
    raise ValueError(
        "`path` must be the folder of a run, a .keras file, or one of "
        f"{', '.join(included())}. Received: path={str(path)!r}{missing}."
    )


def as_classifier(classifier: TrainedClassifier | Path) -> TrainedClassifier:
    """Returns a classifier, which is loaded if it is a path or a name."""
    if isinstance(classifier, TrainedClassifier):
        return classifier
    return load(check_path("classifier", classifier))
