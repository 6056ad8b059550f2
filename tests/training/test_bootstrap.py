"""The interval of a metric, by a bootstrap over clips or groups of them."""

import math

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from leaf_audio.training import bootstrap

pytestmark = pytest.mark.any_backend


def several_labels(clips, labels, seed=0):
    rng = np.random.default_rng(seed)
    targets = rng.random((clips, labels)) < 0.2
    # Rounded, so that many logits are equal.
    logits = np.round(rng.normal(size=(clips, labels)) + targets, 1)
    return targets, logits


def test_weighted_average_precision_is_that_of_scikit_learn():
    targets, logits = several_labels(60, 2)
    weights = np.random.default_rng(1).integers(0, 3, (60, 20))
    weights = weights.astype("float32")
    for label in range(2):
        found, is_defined = bootstrap.average_precision(
            targets[:, label], logits[:, label], weights
        )
        expected = [
            average_precision_score(
                targets[:, label], logits[:, label], sample_weight=one
            )
            for one in weights.T
        ]
        np.testing.assert_allclose(found, expected, rtol=1e-5)
        assert is_defined.all()


def test_a_draw_without_a_clip_of_the_label_does_not_count():
    targets = np.array([True, False])
    weights = np.array([[0, 1], [2, 1]], "float32")
    found, is_defined = bootstrap.average_precision(
        targets, np.array([1.0, 2.0]), weights
    )
    np.testing.assert_array_equal(is_defined, [False, True])
    np.testing.assert_allclose(found, [0, 0.5])


def test_the_interval_of_an_accuracy_has_the_width_of_its_deviation():
    targets = np.zeros(400, int)
    logits = np.eye(2)[(np.arange(400) % 5 == 0).astype(int)]
    low, high = bootstrap.interval(targets, logits)
    deviation = math.sqrt(0.8 * 0.2 / 400)
    assert low == pytest.approx(0.8 - 1.96 * deviation, abs=0.006)
    assert high == pytest.approx(0.8 + 1.96 * deviation, abs=0.006)
    assert bootstrap.interval(targets, logits) == (low, high)
    assert bootstrap.interval(targets, logits, seed=1) != (low, high)


def test_clips_of_a_group_are_drawn_together():
    targets = np.zeros(400, int)
    # All clips of a speaker are right, or all are wrong.
    speakers = np.arange(400) // 10
    logits = np.eye(2)[(speakers % 5 == 0).astype(int)]
    low, high = bootstrap.interval(targets, logits, groups=speakers)
    deviation = math.sqrt(0.8 * 0.2 / 40)
    assert high - low == pytest.approx(2 * 1.96 * deviation, rel=0.15)
    # Whatever the numbers of the groups are.
    assert bootstrap.interval(targets, logits, 7 * speakers + 3) == (low, high)


def test_the_interval_of_several_labels_holds_their_metric(monkeypatch):
    targets, logits = several_labels(300, 5)
    low, high = bootstrap.interval(targets, logits)
    expected = np.mean(
        [average_precision_score(targets[:, i], logits[:, i]) for i in range(5)]
    )
    assert low < expected < high
    assert high - low < 0.2
    # A large split is drawn in several parts.
    monkeypatch.setattr(bootstrap, "_MAX_WEIGHTS", 300 * 64)
    parts = bootstrap.interval(targets, logits)
    np.testing.assert_allclose(parts, [low, high], atol=0.01)


def test_a_mean_average_precision_of_rare_labels_is_within_its_interval():
    """The mean of the draws is above it, since copies of a clip are alike."""
    rng = np.random.default_rng(0)
    targets = np.zeros((1000, 100), bool)
    for label in range(100):
        targets[rng.permutation(1000)[:3], label] = True
    logits = rng.normal(size=targets.shape) + 1.5 * targets
    found = average_precision_score(targets, logits, average="macro")
    low, high = bootstrap.interval(targets, logits, draws=200)
    assert (low + high) / 2 == pytest.approx(found, abs=1e-5)
    assert low < found < high


def test_intervals_over_few_speakers_hold_what_they_should():
    rng = np.random.default_rng(0)
    for count in (2, 3, 5):
        hits = 0
        for _ in range(60):
            speakers = np.repeat(np.arange(count), 40)
            shares = rng.normal(0.8, 0.08, count).clip(0, 1)
            right = rng.random(len(speakers)) < shares[speakers]
            logits = np.eye(2)[np.where(right, 0, 1)]
            targets = np.zeros(len(speakers), int)
            low, high = bootstrap.interval(targets, logits, speakers, draws=200)
            hits += low <= 0.8 <= high
        # By percentiles, it was 34 to 50.
        assert hits >= 53


def test_there_is_no_interval_of_one_group_or_no_label():
    targets, logits = np.array([0, 1]), np.eye(2)
    assert bootstrap.interval(targets, logits, groups=np.zeros(2)) is None
    assert bootstrap.interval(targets[:1], logits[:1]) is None
    assert bootstrap.interval(np.zeros((2, 2), bool), logits) is None
    with pytest.raises(ValueError, match="`draws` must be"):
        bootstrap.interval(targets, logits, draws=0)
