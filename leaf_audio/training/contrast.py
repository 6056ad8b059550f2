"""The loss and the metrics of a model that compares pairs of views.

Its outputs are similarities of shape `(clips, queries, candidates)`, as those
of `leaf_audio.models.contrastive`: with n clips in a batch, candidate i of clip
i is the right one, and the candidates come in groups of n. Labels are not read.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import keras
import numpy as np
from keras import ops

from leaf_audio.models.contrastive import EXCLUDED
from leaf_audio.training import metrics, scoring


@keras.saving.register_keras_serializable("leaf_audio")
class PartnerCrossentropy(keras.losses.Loss):
    """Computes the cross-entropy of the similarities of a batch.

    The targets are not read: each clip of a batch has its own position as its
    target. With several queries, the loss of a clip is their mean.

    Args:
        name: str. The name of the loss. Defaults to "partner_crossentropy".
        **kwargs: Arguments of `keras.losses.Loss`, such as `reduction`.
    """

    def __init__(self, name: str = "partner_crossentropy", **kwargs: Any):
        super().__init__(name=name, **kwargs)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        losses = keras.losses.sparse_categorical_crossentropy(
            _positions(y_pred), y_pred, from_logits=True
        )
        return ops.mean(losses, axis=-1)


@keras.saving.register_keras_serializable("leaf_audio")
def partner_accuracy(targets: Any, similarities: Any) -> Any:
    """Returns the share of the queries of each clip that find its other view.

    Args:
        targets: Tensor of any shape. It is not read.
        similarities: Tensor of shape (clips, queries, candidates).

    Returns:
        A float tensor of shape (clips,).
    """
    found = ops.argmax(similarities, axis=-1)
    hits = ops.equal(ops.cast(found, "int32"), _positions(similarities))
    return ops.mean(ops.cast(hits, "float32"), axis=-1)


def _positions(similarities: Any) -> Any:
    """Returns the right candidates, of shape (clips, queries)."""
    clips, queries = ops.shape(similarities)[:2]
    positions = ops.arange(clips, dtype="int32")[:, None]
    return ops.broadcast_to(positions, (clips, queries))


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The similarities of the clips of a split.

    Clips are compared within a batch, as in training. What fills up the last
    batch is no candidate.

    Args:
        similarities: Floats of shape (clips, queries, candidates).
    """

    similarities: np.ndarray

    @functools.cached_property
    def metrics(self) -> dict[str, float]:
        """The "accuracy", the mean "loss" in nats, and "top5_accuracy".

        They depend on the number of candidates. "top5_accuracy" is left out
        with five or fewer.
        """
        clips, queries, candidates = self.similarities.shape
        size = candidates // queries
        place = np.arange(clips) % size
        # How many clips are in the batch of each.
        present = np.minimum(size, clips - np.arange(clips) + place)
        is_there = np.arange(candidates) % size < present[:, None]
        rows = np.where(is_there[:, None], self.similarities, EXCLUDED)
        found = metrics.scores(
            np.repeat(place, queries), rows.reshape(-1, candidates)
        )
        names = ("accuracy", "loss", "top5_accuracy")
        return {name: found[name] for name in names if name in found}

    @property
    def num_groups(self) -> int:
        """The number of clips."""
        return len(self.similarities)


class PairScorer(scoring.Scorer):
    """Computes the metrics of a model of pairs on a split.

    See `leaf_audio.training.scoring.Scorer` for the arguments.
    """

    def __call__(
        self, model: keras.Model, verbose: int = 0
    ) -> dict[str, float]:
        """Evaluates a model, as `Outcome` does."""
        return Outcome(self.logits(model, verbose)).metrics

    def outcome(
        self, model: keras.Model, groups: np.ndarray | None = None
    ) -> Outcome:
        """Returns the `Outcome` of a model; groups are not used."""
        return Outcome(self.logits(model))
