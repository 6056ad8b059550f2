"""Computes label probabilities and chooses a decision threshold for each label.

Where a clip may have several labels, each output of a model tells about one
label alone. Its probability is the sigmoid of its logit, and the label is given
if the probability reaches a threshold of its own. One half is a poor threshold
for rare labels, whose probabilities rarely get so high.
"""

from collections.abc import Sequence

import numpy as np

from leaf_audio.common.listing import listed

# For a label that no clip has, so that nothing can be measured.
DEFAULT_THRESHOLD = 0.5
# A threshold that fewer clips with the label have chosen is one of chance.
_FEW_CLIPS = 5
# How many labels a warning names.
_MAX_NAMED_LABELS = 5


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Returns the probability of each label, where a clip may have several.

    Args:
        logits: Array of shape (clips, labels).

    Returns:
        A float64 array of the same shape, of values from 0 to 1.
    """
    return np.exp(-np.logaddexp(0, -np.asarray(logits, np.float64)))


def best_thresholds(labels: np.ndarray, logits: np.ndarray) -> list[float]:
    """Finds the threshold of each label that gives the highest F1.

    F1 is the harmonic mean of precision and recall. A threshold lies halfway
    between the probabilities of two clips. Of several thresholds with the same
    F1, the highest is taken.

    Args:
        labels: Array of shape (clips, labels), of zeros and ones or bool.
        logits: Array of the same shape.

    Returns:
        A probability for each label. It is 0.5 for a label that no clip has,
        and for one whose probabilities are all 0.
    """
    return [
        _best_threshold(present, probabilities)
        for present, probabilities in zip(
            np.asarray(labels).T > 0, sigmoid(logits).T, strict=True
        )
    ]


def describe_few(labels: np.ndarray, names: Sequence[str]) -> list[str]:
    """Says which thresholds are chosen by few clips that have the label.

    A label that no clip has is not named: its threshold is not chosen.

    Args:
        labels: As in `best_thresholds`.
        names: The name of each label.

    Returns:
        A warning, or an empty list.
    """
    counts = (np.asarray(labels) > 0).sum(axis=0)
    few = [
        f"{name!r} ({count})"
        for name, count in zip(names, counts, strict=True)
        if 0 < count < _FEW_CLIPS
    ]
    if not few:
        return []
    return [
        "warning: thresholds are chosen by few clips, fewer than "
        f"{_FEW_CLIPS} with the label: {listed(few, _MAX_NAMED_LABELS)}"
    ]


def _best_threshold(present: np.ndarray, probabilities: np.ndarray) -> float:
    if not present.any():
        return DEFAULT_THRESHOLD
    order = np.argsort(-probabilities, kind="stable")
    falling = probabilities[order]
    given = np.arange(1, len(falling) + 1)
    f1 = 2 * np.cumsum(present[order]) / (given + present.sum())
    following = np.append(falling[1:], 0.0)
    # No threshold lies between clips of one probability.
    f1[falling == following] = -1
    best = int(f1.argmax())
    if f1[best] < 0:
        # All probabilities are 0.
        return DEFAULT_THRESHOLD
    middle = (falling[best] + following[best]) / 2
    # Between neighbouring numbers there is none, and it was rounded down.
    return float(middle if middle > following[best] else falling[best])
