"""Chooses and computes the 95 % interval of a metric.

- A share of independent recordings, such as an accuracy: Wilson's score
  interval, which has a width also where all of them are right.
- A share of recordings that belong together in groups, such as those of a
  speaker: a bootstrap over the groups. Where all groups have the same share,
  every draw has it too. The interval is then Wilson's, with the groups in the
  place of the recordings.
- The mean average precision, which is no share: a bootstrap. There is no
  interval where all draws agree.
"""

import math
import statistics

import numpy as np

from leaf_audio.training import bootstrap
from leaf_audio.training.metrics import has_several_labels

# Of the normal distribution, 2.5 % are above this.
_QUANTILE = statistics.NormalDist().inv_cdf(0.975)
# Draws of one share differ by this much through rounding.
_ROUNDING = 1e-6


def of_share(hits: float, count: int) -> tuple[float, float]:
    """Computes Wilson's 95 % interval of a share.

    Args:
        hits: From 0 to `count`. Need not be a whole number.
        count: int, at least 1. The number of independent recordings.

    Returns:
        The lower and the upper end, from 0 to 1. `hits / count` lies between
        them, or at 0 or 1.
    """
    share, square = hits / count, _QUANTILE**2 / count
    centre = share + square / 2
    half = math.sqrt(share * (1 - share) * square + square**2 / 4)
    low, high = (centre - half) / (1 + square), (centre + half) / (1 + square)
    return (low if hits > 0 else 0.0, high if hits < count else 1.0)


def count_groups(clips: int, groups: np.ndarray | None) -> int:
    """Returns the number of groups, which is that of the clips without any.

    Args:
        clips: The number of clips.
        groups: Integers of shape (clips,), or None; see `of_main_metric`.
    """
    return clips if groups is None else len(np.unique(groups))


def of_main_metric(
    targets: np.ndarray,
    logits: np.ndarray,
    groups: np.ndarray | None = None,
) -> tuple[float, float] | None:
    """Computes the 95 % interval of the accuracy, or of the mean AP.

    Args:
        targets: Integers of shape (clips,) or booleans of shape
            (clips, labels).
        logits: Floats of shape (clips, labels), all of them finite.
        groups: Integers of shape (clips,). Clips of the same number belong
            together. None stands for clips that are independent. Defaults to
            None.

    Returns:
        The lower and the upper end, or None if there are fewer than two groups,
        or the metric or its interval is not defined.
    """
    num_groups = count_groups(len(targets), groups)
    if num_groups < 2:
        return None
    if has_several_labels(targets):
        ends = bootstrap.interval(targets, logits, groups)
        return ends if ends is not None and _differ(ends) else None
    share = float(np.mean(logits.argmax(axis=-1) == targets))
    if num_groups < len(targets):
        ends = bootstrap.interval(targets, logits, groups)
        if ends is not None and _differ(ends):
            return ends
    return of_share(share * num_groups, num_groups)


def _differ(ends: tuple[float, float]) -> bool:
    return ends[1] - ends[0] > _ROUNDING
