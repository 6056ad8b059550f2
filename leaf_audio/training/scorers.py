"""Chooses how a model is scored: by labels, by pairs, or by task."""

import functools
from collections.abc import Callable

from leaf_audio import data
from leaf_audio.training.contrast import PairScorer
from leaf_audio.training.multitask import TaskScorer
from leaf_audio.training.scoring import Scorer


def scorer_of(batches: data.Batches) -> Callable[..., Scorer]:
    """Returns what makes the scorer of a split; see `scoring.Scorer`.

    Args:
        batches: The batches that a model is evaluated on.
    """
    if batches.views > 1:
        return PairScorer
    if batches.tasks:
        return functools.partial(TaskScorer, batches.tasks)
    return Scorer
