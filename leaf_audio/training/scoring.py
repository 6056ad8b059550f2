"""The outputs of a classifier for a whole split, and their metrics."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from leaf_audio import data
from leaf_audio.training import intervals, metrics, processes
from leaf_audio.training.feeding import feed_all, own_errors

if TYPE_CHECKING:
    import grain


class Scorer:
    """Computes a classifier's metrics on a split.

    Keras' own metrics are not used, for three reasons. Several devices and a
    compiler need batches of one size, so the last batch must be filled up. Each
    clip must count exactly once. And some metrics need all clips at once.

    Args:
        batches: grain.IterDataset of (audio, label), without end. The labels
            are not read. The last batch may be smaller than the others.
        labels: The labels of the clips: integers of shape (clips,) or booleans
            of shape (clips, labels).
        batch_size: int. The number of examples in a full batch.
        clips: Integers of shape (examples,), or None. The index of the clip of
            each example, in rising order. The probabilities of the examples of
            a clip are averaged. None stands for one example for each clip.
            Defaults to None.
    """

    def __init__(
        self,
        batches: grain.IterDataset,
        labels: np.ndarray,
        batch_size: int,
        clips: np.ndarray | None = None,
    ):
        self.labels = labels
        self._clips = np.arange(len(labels)) if clips is None else clips

        def fill_up(batch: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
            audio, _ = batch
            missing = batch_size - len(audio)
            return np.pad(audio, [(0, missing)] + [(0, 0)] * (audio.ndim - 1))

        self._audio = batches.map(fill_up)
        # Keras would warn of data that ends before it was told to.
        self._steps = -(-len(self._clips) // batch_size)

    def __call__(
        self, model: keras.Model, verbose: int = 0
    ) -> dict[str, float]:
        """Evaluates a model.

        Args:
            model: A classifier that returns logits.
            verbose: See `keras.Model.predict`. Defaults to 0.

        Returns:
            What `leaf_audio.training.metrics.scores` returns.
        """
        return metrics.scores(self.labels, self.logits(model, verbose))

    def outcome(
        self, model: keras.Model, groups: np.ndarray | None = None
    ) -> Any:
        """Returns the `Outcome` of a model on the split.

        Args:
            model: As for a call.
            groups: The groups of the clips. Defaults to None.
        """
        return Outcome(self.labels, self.logits(model), groups)

    def logits(self, model: keras.Model, verbose: int = 0) -> np.ndarray:
        """Computes the outputs of a model for each clip.

        Args:
            model: A classifier that returns logits.
            verbose: See `keras.Model.predict`. Defaults to 0.

        Returns:
            float64 array of shape (clips, labels).
        """
        return self.average(self.outputs(model, verbose))

    def outputs(self, model: keras.Model, verbose: int = 0) -> np.ndarray:
        """Computes the outputs of a model for each example.

        Args:
            model: As for `logits`.
            verbose: As for `logits`.

        Returns:
            float64 array of shape (examples, labels).
        """
        with processes.undistributed(), own_errors(self._audio) as audio:
            logits = model.predict(
                feed_all(audio), steps=self._steps, verbose=verbose
            )
        return logits[: len(self._clips)].astype("float64")

    def average(self, outputs: np.ndarray) -> np.ndarray:
        """Averages the probabilities of the examples of each clip.

        Args:
            outputs: Floats of shape (examples, labels).

        Returns:
            The logits of the clips, of shape (clips, labels).
        """
        if len(self._clips) == len(self.labels):
            return outputs
        several = metrics.has_several_labels(self.labels)
        return metrics.average_chunks(outputs, self._clips, several)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The targets of a split and the logits of a model for it.

    Args:
        labels: The labels of the clips: integers of shape (clips,) or booleans
            of shape (clips, labels).
        logits: Floats of shape (clips, labels).
        groups: Integers of shape (clips,), or None. Clips of the same number
            belong together; see `leaf_audio.data.clips.Clips`. Defaults to
            None.
    """

    labels: np.ndarray
    logits: np.ndarray
    groups: np.ndarray | None = None

    @functools.cached_property
    def metrics(self) -> dict[str, float]:
        """The metrics, and the 95 % interval of the main one.

        They are those of `leaf_audio.training.metrics.scores`. The ends of the
        interval have the name of the main metric with "_low" and "_high", such
        as "accuracy_low"; see `leaf_audio.training.intervals`. There is none
        where there are fewer than two groups.
        """
        values = metrics.scores(self.labels, self.logits)
        main = metrics.main_metric(self.labels)
        if main not in values:
            return values
        ends = intervals.of_main_metric(self.labels, self.logits, self.groups)
        if ends is not None:
            values |= {f"{main}_low": ends[0], f"{main}_high": ends[1]}
        return values

    @property
    def num_groups(self) -> int:
        """The number of groups that the interval is drawn from."""
        return intervals.count_groups(len(self.labels), self.groups)


def score_splits(
    model: keras.Model,
    batches: data.Batches,
    make_scorer: Callable[..., Scorer] = Scorer,
) -> dict[str, Any]:
    """Evaluates a model on each evaluation split, as a finished run is.

    Clips are cut into chunks if the batches have an `evaluation_hop`.

    Args:
        model: The model.
        batches: The batches.
        make_scorer: Makes the scorer of a split. Defaults to `Scorer`, for a
            classifier that returns logits.

    Returns:
        By name of the split, what `outcome` of its scorer returns: for a
        classifier, an `Outcome`.

    Raises:
        ValueError: If a loss is not finite.
    """
    outcomes = {}
    for split, labels in batches.labels.items():
        some, clips = batches.chunks(split)
        scorer = make_scorer(some, labels, batches.batch_size, clips)
        outcome = scorer.outcome(model, batches.groups[split])
        loss = outcome.metrics["loss"]
        if not math.isfinite(loss):
            raise ValueError(
                "The clips and the outputs of the model must be finite. "
                f"Received: a loss of {loss} on {split!r}."
            )
        outcomes[split] = outcome
    return outcomes


def metrics_of(
    outcomes: Mapping[str, Outcome],
) -> dict[str, dict[str, float]]:
    """Returns the metrics of each split."""
    return {split: outcome.metrics for split, outcome in outcomes.items()}


def describe_data(
    audio_data: data.AudioData, outcomes: Mapping[str, Outcome]
) -> dict[str, Any]:
    """Returns what is to be recorded of the data that a model is measured on.

    Args:
        audio_data: The data set.
        outcomes: What `score_splits` returned.

    Returns:
        A dictionary that JSON can represent.
    """
    return {
        "name": audio_data.name,
        "counts": dict(audio_data.counts),
        "groups": {split: one.num_groups for split, one in outcomes.items()},
        "skipped": dict(audio_data.skipped),
        "warnings": list(audio_data.warnings),
        "fingerprint": audio_data.fingerprint,
    }
