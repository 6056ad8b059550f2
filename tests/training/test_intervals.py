"""The 95 % interval of a metric fits what the metric is."""

import numpy as np
import pytest
from scipy import stats

from leaf_audio.training import bootstrap, intervals
from leaf_audio.training.scoring import Outcome

pytestmark = [pytest.mark.any_backend, pytest.mark.fast]


def logits_of(right):
    """The logits of two labels for clips of label 0."""
    return np.eye(2)[np.where(right, 0, 1)]


@pytest.mark.parametrize("count", [1, 2, 8, 575])
def test_wilsons_interval_is_that_of_scipy(count):
    for hits in {0, 1, count // 3, count - 1, count}:
        expected = stats.binomtest(hits, count).proportion_ci(method="wilson")
        low, high = intervals.of_share(hits, count)
        assert (low, high) == pytest.approx(
            (expected.low, expected.high), abs=1e-9
        )
        assert 0 <= low <= hits / count <= high <= 1


@pytest.mark.parametrize("groups", [None, np.arange(8), 3 * np.arange(8)[::-1]])
def test_few_clips_that_are_all_right_leave_doubt(groups):
    targets, logits = np.zeros(8, int), logits_of([True] * 8)
    metrics = Outcome(targets, logits, groups).metrics
    assert metrics["accuracy"] == metrics["accuracy_high"] == 1
    assert metrics["accuracy_low"] == pytest.approx(0.6756, abs=1e-4)


def test_groups_that_differ_have_the_interval_of_the_bootstrap():
    speakers = np.arange(400) // 10
    targets, logits = np.zeros(400, int), logits_of(speakers % 5 > 0)
    found = intervals.of_main_metric(targets, logits, speakers)
    assert found == bootstrap.interval(targets, logits, speakers)
    # Independent clips are more certain.
    alone = intervals.of_main_metric(targets, logits)
    assert alone == intervals.of_share(320, 400)
    assert alone[0] > found[0] and alone[1] < found[1]


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_groups_that_agree_count_as_one_recording_each(share):
    # Three speakers, of four clips each.
    right = np.tile(np.arange(4) < 4 * share, 3)
    targets, speakers = np.zeros(12, int), np.repeat([7, 1, 4], 4)
    low, high = intervals.of_main_metric(targets, logits_of(right), speakers)
    assert (low, high) == pytest.approx(intervals.of_share(3 * share, 3))
    assert low <= share <= high and high - low > 0.5


def test_a_mean_average_precision_has_no_interval_where_all_draws_agree():
    targets = np.array([[1, 0], [1, 0], [0, 1], [0, 1]] * 3, bool)
    perfect = Outcome(targets, 2.0 * targets - 1).metrics
    assert perfect["map"] == 1
    assert not {"map_low", "map_high"} & set(perfect)
    logits = 2.0 * targets - 1
    logits[0] = [-2, 2]
    flawed = Outcome(targets, logits).metrics
    assert flawed["map_low"] < flawed["map"] <= flawed["map_high"]


def test_there_is_no_interval_of_one_group():
    targets, logits = np.zeros(3, int), logits_of([True] * 3)
    assert intervals.of_main_metric(targets, logits, np.zeros(3)) is None
    assert intervals.of_main_metric(targets[:1], logits[:1]) is None
