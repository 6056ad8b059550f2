"""The loss and the metrics of a model that compares pairs of views.

Its outputs are similarities of shape `(clips, queries, candidates)`, as those
of `leaf_audio.models.contrastive`: with n clips in a batch, candidate i of clip
i is the right one, and the candidates come in groups of n. The targets are the
numbers of the clips: a clip that a batch holds twice is no candidate for its
copy, which would count as an error. A device that has a part of the batch has
rows for its own clips, whose candidates are those of the whole batch.
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
from leaf_audio.training.losses import flat_labels
from leaf_audio.training.replicas import whole_batch


@keras.saving.register_keras_serializable("leaf_audio")
class PartnerCrossentropy(keras.losses.Loss):
    """Computes the cross-entropy of the similarities of a batch.

    Each clip of a batch has its own position as the right one. The targets,
    numbers of shape (batch,) or (batch, 1), tell which clips are the same. With
    several queries, the loss of a clip is their mean.

    Args:
        name: str. The name of the loss. Defaults to "partner_crossentropy".
        **kwargs: Arguments of `keras.losses.Loss`, such as `reduction`.
    """

    def __init__(self, name: str = "partner_crossentropy", **kwargs: Any):
        super().__init__(name=name, **kwargs)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        positions, similarities = _partners(y_true, y_pred)
        losses = keras.losses.sparse_categorical_crossentropy(
            positions, similarities, from_logits=True
        )
        return ops.mean(losses, axis=-1)


@keras.saving.register_keras_serializable("leaf_audio")
def partner_accuracy(targets: Any, similarities: Any) -> Any:
    """Returns the share of the queries of each clip that find its other view.

    Args:
        targets: The numbers of the clips, of shape (clips,) or (clips, 1).
        similarities: Tensor of shape (clips, queries, candidates).

    Returns:
        A float tensor of shape (clips,).
    """
    positions, similarities = _partners(targets, similarities)
    found = ops.argmax(similarities, axis=-1)
    hits = ops.equal(ops.cast(found, "int32"), positions)
    return ops.mean(ops.cast(hits, "float32"), axis=-1)


def _partners(numbers: Any, similarities: Any) -> tuple[Any, Any]:
    """Returns the right candidates, and similarities without copies.

    Args:
        numbers: The numbers of the clips, of shape (clips,) or (clips, 1).
        similarities: Tensor of shape (clips, queries, candidates).

    Returns:
        Positions of shape (clips, queries), and the similarities, without the
        candidates that are the clip itself, once more.
    """
    numbers = flat_labels(numbers)
    candidates, start = whole_batch(numbers)
    clips, queries = ops.shape(similarities)[:2]
    own = start + ops.arange(clips, dtype="int32")[:, None]
    places = ops.arange(ops.shape(candidates)[0], dtype="int32")[None]
    same = ops.equal(numbers[:, None], candidates[None])
    copies = ops.logical_and(same, ops.not_equal(own, places))
    copies = ops.tile(copies, (1, similarities.shape[1]))[:, None]
    excluded = ops.cast(EXCLUDED, similarities.dtype)
    positions = ops.broadcast_to(own, (clips, queries))
    return positions, ops.where(copies, excluded, similarities)


def chance(queries: int, clips: int, batch_size: int) -> float:
    """Returns the accuracy of guessing, on clips of which each comes once.

    Args:
        queries: How many views of a clip look for the other one; see
            `leaf_audio.models.contrastive.Contrastive`.
        clips: How many clips there are.
        batch_size: How many of them are compared. The last may be fewer.
    """
    full, rest = divmod(clips, batch_size)
    # A view is no candidate for itself, where those of its own position are.
    found = [
        size / (queries * size - (queries - 1))
        for size in [batch_size] * full + [rest] * bool(rest)
    ]
    return sum(found) / clips


@dataclasses.dataclass(frozen=True)
class PairOutcome:
    """The similarities of the clips of a split.

    Clips are compared within a batch, as in training. What fills up the last
    batch is no candidate.

    Args:
        similarities: Floats of shape (clips, queries, candidates).
    """

    similarities: np.ndarray

    @functools.cached_property
    def metrics(self) -> dict[str, float]:
        """The "accuracy", the mean "loss" in nats, "top5_accuracy", "chance".

        They depend on the number of candidates. "chance" is the accuracy of
        guessing. "top5_accuracy" is left out if no batch has more than five.
        """
        clips, queries, candidates = self.similarities.shape
        size = candidates // queries
        # One batch after the other, since all of them may be gigabytes.
        batches = [
            self.similarities[start : start + size]
            for start in range(0, clips, size)
        ]
        found = [_scores_of_batch(batch) for batch in batches]
        names = ["accuracy", "loss"]
        if queries * min(size, clips) - (queries - 1) > 5:
            names.append("top5_accuracy")
        counts = [len(batch) for batch in batches]
        return {
            **{
                name: float(
                    np.average([one[name] for one in found], weights=counts)
                )
                for name in names
                if all(name in one for one in found)
            },
            "chance": chance(queries, clips, size),
        }

    @property
    def num_groups(self) -> int:
        """The number of clips."""
        return len(self.similarities)


def _scores_of_batch(similarities: np.ndarray) -> dict[str, float]:
    """Returns the metrics of a batch, which may not be full."""
    clips, queries, candidates = similarities.shape
    is_there = np.arange(candidates) % (candidates // queries) < clips
    rows = np.where(is_there, similarities, EXCLUDED)
    places = np.repeat(np.arange(clips), queries)
    return metrics.scores(places, rows.reshape(-1, candidates))


class PairScorer(scoring.Scorer):
    """Computes the metrics of a model of pairs on a split.

    See `leaf_audio.training.scoring.Scorer` for the arguments.
    """

    def __call__(
        self, model: keras.Model, verbose: int = 0
    ) -> dict[str, float]:
        """Evaluates a model, as `PairOutcome` does, without "chance"."""
        found = PairOutcome(self.logits(model, verbose)).metrics
        return {k: v for k, v in found.items() if k != "chance"}

    def outcome(
        self, model: keras.Model, groups: np.ndarray | None = None
    ) -> PairOutcome:
        """Returns the `PairOutcome` of a model; groups are not used."""
        return PairOutcome(self.logits(model))
