"""Metrics agree with cases that were computed by hand."""

import math

import numpy as np
import pytest

from leaf_audio.training import metrics

pytestmark = pytest.mark.any_backend


def one_hot(found, num_labels):
    return 10.0 * np.eye(num_labels)[found]


def test_metrics_of_one_label_count_the_labels_that_occur():
    targets = np.array([0, 0, 0, 1])
    logits = one_hot([0, 2, 0, 1], 4)
    found = metrics.scores(targets, logits)
    assert found["accuracy"] == 3 / 4
    # Label 2 is predicted and label 3 is not, but neither occurs.
    assert found["balanced_accuracy"] == pytest.approx((2 / 3 + 1) / 2)
    assert found["macro_f1"] == pytest.approx((4 / 5 + 1) / 2)
    sure, wrong = math.log(1 + 3 * math.exp(-10)), 10
    assert found["loss"] == pytest.approx(sure + wrong / 4)
    assert "top5_accuracy" not in found


def test_the_loss_of_equal_logits_is_that_of_guessing():
    found = metrics.scores(np.array([1, 2]), np.zeros((2, 3)))
    assert found["loss"] == pytest.approx(math.log(3))
    # Logits for which exp would overflow.
    found = metrics.scores(np.array([0, 0]), np.array([[1e4, 0.0]] * 2))
    assert found["loss"] == 0


def test_top_5_accuracy_is_there_with_more_than_five_labels():
    logits = np.array([[6.0, 5, 4, 3, 2, 1]] * 4)
    found = metrics.scores(np.array([0, 3, 4, 5]), logits)
    assert found["top5_accuracy"] == 3 / 4
    assert found["accuracy"] == 1 / 4
    found = metrics.scores(np.array([0, 1]), logits[:2, :5])
    assert "top5_accuracy" not in found


def test_of_equal_logits_the_first_labels_count_as_found():
    found = metrics.scores(np.arange(8), np.zeros((8, 8)))
    assert found["accuracy"] == 1 / 8
    assert found["top5_accuracy"] == 5 / 8


# By the order of their logits, from the highest on. Nobody has the second
# label, and all have the third.
TARGETS = np.array([[1, 0, 1], [0, 0, 1], [1, 0, 1], [0, 0, 1]], bool)
LOGITS = np.array([[4.0], [3.0], [-2.0], [-3.0]]) * np.ones(3)


def test_metrics_of_several_labels_count_the_labels_that_are_defined():
    found = metrics.scores(TARGETS, LOGITS)
    first = (1 + 2 / 3) / 2
    assert found["map"] == pytest.approx((first + 1) / 2)
    # Of four pairs of a clip with the first label and one without, three are
    # in order.
    assert found["auc"] == 3 / 4
    # The quantile of the normal distribution at 3/4 is 0.6745.
    assert found["d_prime"] == pytest.approx(math.sqrt(2) * 0.67449, abs=1e-4)
    found = metrics.scores(TARGETS, np.zeros((4, 3)))
    assert found["loss"] == pytest.approx(math.log(2))
    assert found["d_prime"] == 0


def test_what_is_not_defined_is_left_out():
    found = metrics.scores(np.zeros((3, 2), bool), np.ones((3, 2)))
    assert set(found) == {"loss"}
    perfect = metrics.scores(TARGETS[:, :1], 1e3 * (TARGETS[:, :1] - 0.5))
    assert perfect["auc"] == 1 and "d_prime" not in perfect
    assert perfect["loss"] < 1e-100
    assert set(metrics.scores(TARGETS, LOGITS * math.nan)) == {"loss"}
    nan = metrics.scores(np.array([0]), np.array([[math.inf, 0.0]]))
    assert list(nan) == ["loss"] and math.isnan(nan["loss"])


def test_the_kind_of_targets_decides_the_main_metric():
    assert metrics.main_metric(np.array([0, 1])) == "accuracy"
    assert metrics.main_metric(TARGETS) == "map"


def test_metrics_by_label_of_one_label_for_each_clip():
    found = metrics.by_label(np.array([0, 0, 0, 1]), one_hot([0, 2, 0, 1], 4))
    nan = math.nan
    expected = {
        "clips": [3, 1, 0, 0],
        "precision": [1, 1, 0, nan],
        "recall": [2 / 3, 1, nan, nan],
        "f1": [4 / 5, 1, 0, nan],
    }
    assert list(found) == list(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values)


def test_metrics_by_label_of_several_labels():
    found = metrics.by_label(TARGETS, LOGITS)
    nan = math.nan
    expected = {
        "clips": [2, 0, 4],
        "precision": [1 / 2, 0, 1],
        "recall": [1 / 2, nan, 1 / 2],
        "f1": [1 / 2, 0, 2 / 3],
        "average_precision": [5 / 6, nan, 1],
        "auc": [3 / 4, nan, nan],
    }
    assert list(found) == list(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, err_msg=name)


def test_a_label_is_found_where_it_reaches_its_threshold():
    # The probabilities are 0.98, 0.95, 0.12 and 0.05.
    found = metrics.by_label(TARGETS, LOGITS, [0.96, 0.1, 0.04])
    np.testing.assert_allclose(found["precision"], [1, 0, 1])
    np.testing.assert_allclose(found["recall"], [1 / 2, math.nan, 1])
    halves = metrics.by_label(TARGETS, LOGITS, [0.5] * 3)
    for name, values in metrics.by_label(TARGETS, LOGITS).items():
        np.testing.assert_array_equal(halves[name], values, err_msg=name)


def test_one_label_that_clips_may_have_is_measured_as_itself():
    has = np.array([[1], [1], [0], [0], [0], [0]], bool)
    logits = np.array([[3.0], [2], [-1], [-2], [-3], [1]])
    found = metrics.by_label(has, logits)
    for name, value in (
        ("clips", 2),
        ("precision", 2 / 3),
        ("recall", 1),
        ("f1", 4 / 5),
    ):
        np.testing.assert_allclose(found[name], [value], err_msg=name)


def test_confusions_have_a_row_for_the_label_of_a_clip():
    found = metrics.confusion(np.array([0, 0, 0, 1]), one_hot([0, 2, 0, 1], 3))
    np.testing.assert_array_equal(found, [[2, 0, 1], [0, 1, 0], [0, 0, 0]])
    with pytest.raises(ValueError, match="one label for each clip"):
        metrics.confusion(TARGETS, LOGITS)


@pytest.mark.parametrize("several", [False, True])
def test_the_probabilities_of_chunks_are_averaged(several):
    logits = np.random.default_rng(0).normal(0, 3, (6, 3))
    clips = np.array([0, 0, 0, 1, 2, 2])

    def probabilities(values):
        if several:
            return 1 / (1 + np.exp(-values))
        shares = np.exp(values)
        return shares / shares.sum(axis=-1, keepdims=True)

    found = metrics.average_chunks(logits, clips, several)
    each = probabilities(logits)
    expected = [each[:3].mean(0), each[3], each[4:].mean(0)]
    np.testing.assert_allclose(probabilities(found), expected, rtol=1e-12)


@pytest.mark.parametrize("several", [False, True])
def test_chunks_of_extreme_logits_have_finite_ones(several):
    logits = np.array([[1e3, -1e3], [900.0, -900.0]])
    found = metrics.average_chunks(logits, np.array([0, 0]), several)
    assert np.isfinite(found).all()
    assert np.isnan(
        metrics.average_chunks(logits * math.nan, np.array([0, 1]), several)
    ).all()


@pytest.mark.parametrize(
    "targets, logits",
    [
        (np.zeros(3, int), np.zeros((2, 2))),
        (np.zeros((2, 3), bool), np.zeros((2, 2))),
        (np.zeros(0, int), np.zeros((0, 2))),
        (np.zeros(2, int), np.zeros(2)),
    ],
)
def test_shapes_that_do_not_fit_are_named(targets, logits):
    with pytest.raises(ValueError, match="`targets` must have the shape"):
        metrics.scores(targets, logits)


@pytest.mark.parametrize("label", [-1, 2])
def test_a_label_out_of_range_is_named(label):
    with pytest.raises(ValueError, match="`targets` must be .* from 0 to 1"):
        metrics.scores(np.array([0, label]), np.zeros((2, 2)))


@pytest.mark.parametrize(
    "targets, thresholds",
    [(np.zeros((2, 2), bool), [0.5]), (np.zeros(2, int), [0.5, 0.5])],
)
def test_thresholds_that_do_not_fit_are_named(targets, thresholds):
    with pytest.raises(ValueError, match="`thresholds` must be a number for"):
        metrics.by_label(targets, np.zeros((2, 2)), thresholds)
