"""Metrics of a classifier, computed from its outputs for a whole split.

All functions take targets and logits as NumPy arrays. The shape of the targets
says which kind of classifier it is:

- One label for each clip: integers of shape (clips,). Probabilities are the
  softmax of the logits.
- Several labels for each clip: booleans of shape (clips, labels). Probabilities
  are the sigmoid of the logits.

Logits are floats of shape (clips, labels). A split may hold only some of the
labels of the model. A mean over labels is then that over the labels that occur.
A metric that is not defined for the targets is left out.

scikit-learn computes most of them. It is imported when a function is called, so
that a prediction does not wait for it.
"""

import math
import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np

from leaf_audio.training.thresholds import sigmoid

# Top-5 accuracy says nothing with so few labels.
_TOP = 5


def has_several_labels(targets: np.ndarray) -> bool:
    """Returns whether each clip may have several labels.

    Args:
        targets: Integers of shape (clips,) or booleans of shape
            (clips, labels).
    """
    return targets.ndim == 2


def main_metric(targets: np.ndarray) -> str:
    """Returns the name of the metric that decides which epoch is the best.

    Args:
        targets: Integers of shape (clips,) or booleans of shape
            (clips, labels).

    Returns:
        "accuracy" for one label for each clip, "map" for several.
    """
    return "map" if has_several_labels(targets) else "accuracy"


def scores(targets: np.ndarray, logits: np.ndarray) -> dict[str, float]:
    """Computes the metrics of a split.

    With one label for each clip:

    - "accuracy": the share of clips whose label has the highest logit.
    - "loss": the mean cross-entropy, in nats.
    - "top5_accuracy": the share of clips whose label is among the five highest
      logits. Of equal logits, the first ones count as higher, as for
      "accuracy". Only with more than five labels.
    - "balanced_accuracy": the mean recall over the labels that occur.
    - "macro_f1": the mean F1 score over the labels that occur.

    With several labels for each clip:

    - "map": the mean average precision over the labels that occur.
    - "auc": the mean area under the ROC curve, over the labels that some clips
      have and others have not.
    - "d_prime": sqrt(2) times the quantile of the normal distribution at "auc".
      It is left out where it is infinite.
    - "loss": the mean binary cross-entropy over clips and labels, in nats.

    Args:
        targets: Integers of shape (clips,) or booleans of shape
            (clips, labels), with one clip at least.
        logits: Floats of shape (clips, labels).

    Returns:
        The metrics by name. Accuracies, "macro_f1", "map" and "auc" are from 0
        to 1. If a logit is not finite, there is only a "loss" of NaN.

    Raises:
        ValueError: If the shapes do not fit each other, or a label is out of
            range.
    """
    targets, logits = _checked(targets, logits)
    if not np.isfinite(logits).all():
        return {"loss": math.nan}
    if has_several_labels(targets):
        return _scores_of_several(targets, logits)
    return _scores_of_one(targets, logits)


def _scores_of_one(targets: np.ndarray, logits: np.ndarray) -> dict[str, float]:
    from sklearn import metrics as sklearn_metrics

    found = logits.argmax(axis=-1)
    # The functions for balanced accuracy and F1 would count labels that are
    # predicted but do not occur, or warn of them.
    occurring: dict[str, Any] = {
        "labels": np.unique(targets),
        "average": "macro",
        "zero_division": 0,
    }
    own = np.take_along_axis(log_probabilities(logits), targets[:, None], -1)
    values = {
        "accuracy": sklearn_metrics.accuracy_score(targets, found),
        "loss": -own.mean(),
    }
    if logits.shape[1] > _TOP:
        # scikit-learn's function counts the last of equal logits as higher.
        top = np.argsort(-logits, axis=-1, kind="stable")[:, :_TOP]
        values["top5_accuracy"] = (top == targets[:, None]).any(axis=-1).mean()
    values |= {
        "balanced_accuracy": sklearn_metrics.recall_score(
            targets, found, **occurring
        ),
        "macro_f1": sklearn_metrics.f1_score(targets, found, **occurring),
    }
    return {name: float(value) for name, value in values.items()}


def _scores_of_several(
    targets: np.ndarray, logits: np.ndarray
) -> dict[str, float]:
    by_label = _ranking(targets, logits)
    values = {
        "map": _mean_of_defined(by_label["average_precision"]),
        "auc": _mean_of_defined(by_label["auc"]),
    }
    if 0 < values["auc"] < 1:
        quantile = statistics.NormalDist().inv_cdf(values["auc"])
        values["d_prime"] = math.sqrt(2) * quantile
    values["loss"] = (np.logaddexp(0, logits) - targets * logits).mean()
    return {
        name: float(value)
        for name, value in values.items()
        if not math.isnan(value)
    }


def _ranking(targets: np.ndarray, logits: np.ndarray) -> dict[str, np.ndarray]:
    """Returns "average_precision" and "auc" of each label; NaN if undefined."""
    from sklearn import metrics as sklearn_metrics

    precisions = np.full(targets.shape[1], math.nan)
    areas = precisions.copy()
    for label in range(targets.shape[1]):
        own, values = targets[:, label], logits[:, label]
        if own.any():
            precisions[label] = sklearn_metrics.average_precision_score(
                own, values
            )
            if not own.all():
                areas[label] = sklearn_metrics.roc_auc_score(own, values)
    return {"average_precision": precisions, "auc": areas}


def by_label(
    targets: np.ndarray,
    logits: np.ndarray,
    thresholds: Sequence[float] | None = None,
) -> dict[str, np.ndarray]:
    """Computes the metrics of each label.

    Args:
        targets: Integers of shape (clips,) or booleans of shape
            (clips, labels).
        logits: Floats of shape (clips, labels), all of them finite.
        thresholds: Sequence of float, or None. With several labels for each
            clip, a label counts as found where its probability reaches its
            threshold. None stands for 0.5 for each label. With one label for
            each clip, there are no thresholds. Defaults to None.

    Returns:
        Arrays of shape (labels,). "clips" are the numbers of clips that have
        each label; "precision", "recall" and "f1" are from 0 to 1, and so are
        "average_precision" and "auc", which are there with several labels for
        each clip. A value that is not defined is NaN, such as the recall of a
        label that no clip has.

    Raises:
        ValueError: If the shapes do not fit each other, or `thresholds` is not
            a number for each label of several.
    """
    targets, logits = _checked(targets, logits)
    several = has_several_labels(targets)
    if thresholds is not None and (
        not several or np.shape(thresholds) != logits.shape[1:]
    ):
        raise ValueError(
            "`thresholds` must be a number for each label where a clip may "
            f"have several, or None. Received: thresholds={thresholds!r} with "
            f"targets of shape {targets.shape}."
        )
    if not several:
        labels = np.arange(logits.shape[1])
        has = targets[:, None] == labels
        found = logits.argmax(axis=-1)[:, None] == labels
    else:
        has = targets
        found = (
            logits >= 0
            if thresholds is None
            else sigmoid(logits) >= np.asarray(thresholds)
        )
    # scikit-learn would take a single column for a binary target, and measure
    # its absence.
    right = (has & found).sum(axis=0)
    clips, told = has.sum(axis=0), found.sum(axis=0)
    values = {
        "clips": clips,
        "precision": _share(right, told),
        "recall": _share(right, clips),
        "f1": _share(2 * right, clips + told),
    }
    return values | (_ranking(targets, logits) if several else {})


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Divides counts; NaN where the whole is 0."""
    shares = np.full(part.shape, math.nan)
    return np.divide(part, whole, out=shares, where=whole > 0)


def confusion(targets: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """Counts how often clips of each label are taken for which label.

    Args:
        targets: Integers of shape (clips,).
        logits: Floats of shape (clips, labels).

    Returns:
        Integers of shape (labels, labels): a row for each label that clips
        have, a column for each label that the classifier has found.

    Raises:
        ValueError: If the shapes do not fit each other, or clips have several
            labels.
    """
    from sklearn import metrics as sklearn_metrics

    targets, logits = _checked(targets, logits)
    if has_several_labels(targets):
        raise ValueError(
            "`targets` must hold one label for each clip. "
            f"Received: targets of shape {targets.shape}."
        )
    return sklearn_metrics.confusion_matrix(
        targets, logits.argmax(axis=-1), labels=np.arange(logits.shape[1])
    )


def log_probabilities(logits: np.ndarray) -> np.ndarray:
    """Returns the logarithm of the softmax over the last axis."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def average_chunks(
    logits: np.ndarray, clips: np.ndarray, several_labels: bool
) -> np.ndarray:
    """Averages the probabilities of the chunks of each clip.

    Args:
        logits: Floats of shape (chunks, labels).
        clips: Integers of shape (chunks,). The clip that each chunk is from,
            from 0 and in rising order. Each clip has one chunk at least.
        several_labels: Whether probabilities are the sigmoid of the logits, and
            not their softmax.

    Returns:
        Floats of shape (clips, labels): logits whose probabilities are the
        means of those of the chunks.
    """
    if not np.isfinite(logits).all():
        # The loss will tell. NumPy would warn of each operation until then.
        return np.full((int(clips[-1]) + 1, logits.shape[1]), math.nan)
    starts = np.flatnonzero(np.diff(clips, prepend=-1))

    def add_up(logarithms: np.ndarray) -> np.ndarray:
        return np.logaddexp.reduceat(logarithms, starts, axis=0)

    # In logarithms, since a probability near 0 or 1 has no logit otherwise.
    if several_labels:
        yes, no = -np.logaddexp(0, -logits), -np.logaddexp(0, logits)
        return add_up(yes) - add_up(no)
    counts = np.diff(starts, append=len(clips))
    return add_up(log_probabilities(logits)) - np.log(counts)[:, None]


def _mean_of_defined(values: np.ndarray) -> float:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else math.nan


def _checked(
    targets: np.ndarray, logits: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns targets as integers or booleans, and logits as float64."""
    targets, logits = np.asarray(targets), np.asarray(logits, np.float64)
    fits = (
        logits.ndim == 2
        and 0 < len(logits) == len(targets)
        and targets.shape in (logits.shape[:1], logits.shape)
    )
    if not fits:
        raise ValueError(
            "`targets` must have the shape (clips,) or (clips, labels), and "
            "`logits` the shape (clips, labels), with one clip at least. "
            f"Received: targets of shape {targets.shape}, logits of shape "
            f"{logits.shape}."
        )
    if targets.ndim == 2:
        return targets.astype(bool), logits
    count = logits.shape[1]
    if targets.min() < 0 or targets.max() >= count:
        raise ValueError(
            f"`targets` must be labels from 0 to {count - 1}, as many as "
            f"`logits` has columns. Received: {targets.min()} to "
            f"{targets.max()}."
        )
    return targets.astype(np.int64), logits
