"""The threshold of each label, by the highest F1."""

import numpy as np
import pytest

from leaf_audio.training.thresholds import (
    best_thresholds,
    describe_few,
    sigmoid,
)

pytestmark = pytest.mark.any_backend


def f1(present, given):
    right = (present & given).sum()
    return 2 * right / (present.sum() + given.sum())


def logit(probability):
    return np.log(probability) - np.log1p(-probability)


def test_a_threshold_lies_between_the_clips_that_it_tells_apart():
    probabilities = np.array([0.9, 0.3, 0.2, 0.1])
    labels = np.array([[1], [1], [0], [0]])
    (found,) = best_thresholds(labels, logit(probabilities)[:, None])
    assert found == pytest.approx(0.25)
    labels = np.array([[1], [0], [0], [1]])
    # Of one clip that is right, F1 is 2/3, and of all four too.
    (found,) = best_thresholds(labels, logit(probabilities)[:, None])
    assert found == pytest.approx(0.6)


def test_a_label_of_all_clips_and_one_of_none():
    probabilities = np.array([[0.9, 0.4], [0.6, 0.2]])
    found = best_thresholds(np.array([[1, 0], [1, 0]]), logit(probabilities))
    assert found == pytest.approx([0.3, 0.5])


def test_no_threshold_has_a_higher_f1():
    rng = np.random.default_rng(0)
    labels = rng.random((60, 5)) < [0.5, 0.3, 0.1, 0.1, 0.05]
    logits = np.round(rng.normal(0, 1, (60, 5)) + 1.5 * labels - 2, 1)
    found = best_thresholds(labels, logits)
    probabilities = sigmoid(logits)
    for label, threshold in enumerate(found):
        present, one = labels[:, label], probabilities[:, label]
        tried = [f1(present, one >= other) for other in [0, *one]]
        assert f1(present, one >= threshold) == pytest.approx(max(tried))


def test_neighbouring_numbers_are_told_apart():
    logits = np.array([[36.7], [36.0]])
    (found,) = best_thresholds(np.array([[1], [0]]), logits)
    assert (sigmoid(logits)[:, 0] >= found).tolist() == [True, False]


def test_clips_of_one_probability_are_not_told_apart():
    labels = np.array([[1], [0], [1], [0]])
    logits = np.array([[2.0], [1.0], [1.0], [-1.0]])
    (found,) = best_thresholds(labels, logits)
    middle = (sigmoid(logits)[1, 0] + sigmoid(logits)[3, 0]) / 2
    assert found == pytest.approx(middle)


def test_large_logits_are_no_overflow():
    found = sigmoid(np.array([-800.0, -40.0, 0.0, 800.0]))
    np.testing.assert_allclose(found, [0, np.exp(-40), 0.5, 1], rtol=1e-12)


def test_a_label_whose_probabilities_are_all_zero_is_given_to_no_clip():
    logits = np.array([[-800.0], [-900.0]])
    (found,) = best_thresholds(np.array([[1], [0]]), logits)
    assert found == 0.5
    assert not (sigmoid(logits) >= found).any()


def test_thresholds_of_few_clips_are_told_with_their_labels():
    labels = np.zeros((9, 3), bool)
    labels[:5, 0] = labels[:4, 1] = True
    assert describe_few(labels[:, :1], ["often"]) == []
    (told,) = describe_few(labels, ["often", "rare", "never"])
    assert told.endswith("with the label: 'rare' (4)")
