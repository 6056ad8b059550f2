"""Computes bootstrap confidence intervals of the main metric.

Recordings are drawn from the split with replacement, many times, and the metric
is computed for each draw. Recordings that belong together, such as those of one
speaker, are drawn together. Their results are alike, so that an interval over
single recordings would be too narrow.

A draw gives each clip a weight: how often it was drawn. The metrics of all
draws are computed at once from these weights. Their deviation is the standard
error of the metric.

Not their percentiles: a clip that is drawn twice is ranked beside its copy, so
that the mean average precision of a draw is too high where labels have few
clips, and the percentiles of few groups are too close to one another.
"""

import numpy as np
from scipy import stats

from leaf_audio.common.checks import check_positive_int, check_seed
from leaf_audio.training.metrics import has_several_labels

# The interval leaves out this share at each of its ends.
_TAIL = 0.025
# Of this many weights, the arrays that are needed take about 100 MB.
_MAX_WEIGHTS = 2**23


def interval(
    targets: np.ndarray,
    logits: np.ndarray,
    groups: np.ndarray | None = None,
    draws: int = 1000,
    seed: int = 0,
) -> tuple[float, float] | None:
    """Computes the 95 % interval of the main metric by a bootstrap.

    The main metric is the accuracy where clips have one label each, and the
    mean average precision where they may have several. The interval is the
    metric plus and minus its standard error times a quantile of Student's
    t-distribution, with one degree of freedom less than there are groups. It
    ends at 0 and 1.

    Args:
        targets: Integers of shape (clips,) or booleans of shape
            (clips, labels).
        logits: Floats of shape (clips, labels), all of them finite.
        groups: Integers of shape (clips,). Clips of the same number are drawn
            together. None draws each clip by itself. Defaults to None.
        draws: int, at least 1. The number of draws. Defaults to 1000.
        seed: int, from 0 to less than 2**32. The seed of the draws. Defaults
            to 0.

    Returns:
        The lower and the upper end, or None if there are fewer than two groups
        to draw from, or the metric is not defined.

    Raises:
        ValueError: If `draws` or `seed` is out of range.
    """
    check_positive_int("draws", draws)
    rng = np.random.default_rng(check_seed("seed", seed))
    if groups is None:
        groups = np.arange(len(targets))
    _, groups = np.unique(groups, return_inverse=True)
    num_groups = int(groups.max()) + 1
    if num_groups < 2:
        return None
    step = max(1, _MAX_WEIGHTS // len(targets))
    values = []
    for first in range(0, draws, step):
        counts = _draw(rng, num_groups, min(step, draws - first))
        values.append(_main_metric(targets, logits, counts[groups]))
    found = np.concatenate(values)
    found = found[~np.isnan(found)]
    if not len(found):
        return None
    (metric,) = _main_metric(
        targets, logits, np.ones((len(targets), 1), np.float32)
    )
    # A sample of n has a deviation that is too small by sqrt((n - 1) / n).
    error = found.std() * np.sqrt(num_groups / (num_groups - 1))
    half = stats.t.ppf(1 - _TAIL, num_groups - 1) * error
    return float(max(metric - half, 0)), float(min(metric + half, 1))


def _main_metric(
    targets: np.ndarray, logits: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Computes the main metric of each draw.

    Args:
        targets: As for `interval`.
        logits: Floats of shape (clips, labels).
        weights: float32 array of shape (clips, draws).

    Returns:
        Floats of shape (draws,), NaN where it is not defined.
    """
    if has_several_labels(targets):
        return _mean_average_precision(targets, logits, weights)
    right = logits.argmax(axis=-1) == targets
    return right.astype(np.float32) @ weights / weights.sum(0)


def _draw(rng: np.random.Generator, num_groups: int, draws: int) -> np.ndarray:
    """Draws as many groups as there are, several times.

    Returns:
        How often each group was drawn, float32 of shape (groups, draws).
    """
    drawn = rng.integers(num_groups, size=(draws, num_groups))
    drawn += num_groups * np.arange(draws)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=draws * num_groups)
    # In this order, the weights of one clip lie side by side in memory.
    counts = counts.reshape(draws, num_groups).T
    return np.ascontiguousarray(counts, np.float32)


def _mean_average_precision(
    targets: np.ndarray, logits: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Computes the mean average precision of each draw.

    Args:
        targets: Booleans of shape (clips, labels).
        logits: Floats of shape (clips, labels).
        weights: float32 array of shape (clips, draws).

    Returns:
        Floats of shape (draws,). A label counts in those draws that hold a clip
        of it. A draw without any such label has NaN.
    """
    total = np.zeros(weights.shape[1])
    defined = np.zeros(weights.shape[1])
    for label in np.flatnonzero(targets.any(axis=0)):
        precision, is_defined = average_precision(
            targets[:, label], logits[:, label], weights
        )
        total += precision
        defined += is_defined
    with np.errstate(invalid="ignore"):
        return total / np.where(defined, defined, np.nan)


def average_precision(
    targets: np.ndarray, logits: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Computes the average precision of one label for many sets of weights.

    It is the sum over all thresholds, from the highest to the lowest, of the
    precision there times the recall that is gained there. Clips of equal logits
    share a threshold. Only thresholds at clips of the label gain recall, so
    that the weights of the clips between two such thresholds are added up
    first.

    Args:
        targets: Booleans of shape (clips,), one of which is True at least.
        logits: Floats of shape (clips,).
        weights: float32 array of shape (clips, draws), of whole numbers.

    Returns:
        The average precision and whether it is defined, both of shape (draws,).
        It is 0 where it is not defined, since all clips of the label have a
        weight of 0.
    """
    order = np.argsort(-logits, kind="stable")
    targets, logits = targets[order], logits[order]
    is_last = np.append(logits[1:] != logits[:-1], True)
    # The number of the threshold of each clip, from the highest on.
    threshold = np.cumsum(is_last) - is_last
    gaining, first = np.unique(threshold[targets], return_index=True)
    ends = np.flatnonzero(is_last)[gaining] + 1
    starts = np.append(0, ends[:-1])
    hits = np.add.reduceat(weights[order[targets]], first, axis=0)
    drawn = np.add.reduceat(weights[order[: ends[-1]]], starts, axis=0)
    drawn = np.cumsum(drawn, axis=0)
    precision = np.cumsum(hits, axis=0) / np.maximum(drawn, 1)
    total = hits.sum(axis=0)
    gained = (hits * precision).sum(axis=0)
    return gained / np.maximum(total, 1), total > 0
