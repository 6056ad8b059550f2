"""The loss of a student, against NumPy in float64."""

import keras
import numpy as np
import pytest
from gradients import grad_mean_square
from keras import ops

from leaf_audio.training import NpzTeacher, losses
from leaf_audio.training.distillation import Distillation, accuracy

NUM_LABELS = 3


def softmax(logits):
    shares = np.exp(logits - logits.max(-1, keepdims=True))
    return shares / shares.sum(-1, keepdims=True)


def sigmoid(logits):
    return 1 / (1 + np.exp(-logits))


def entropy_of_one(targets, logits):
    return -(targets * np.log(softmax(logits))).sum(-1)


def entropy_of_several(targets, logits):
    own = sigmoid(logits)
    return -(targets * np.log(own) + (1 - targets) * np.log(1 - own)).mean(-1)


def divergence_of_one(said, logits):
    return (said * np.log(said / softmax(logits))).sum(-1)


def divergence_of_several(said, logits):
    own = sigmoid(logits)
    terms = said * np.log(said / own)
    terms += (1 - said) * np.log((1 - said) / (1 - own))
    return terms.mean(-1)


def squared(said, predicted):
    return ((said - predicted) ** 2).mean(-1)


def cosine(said, predicted):
    lengths = np.linalg.norm(said, axis=-1) * np.linalg.norm(predicted, axis=-1)
    return 1 - (said * predicted).sum(-1) / lengths


def case(name):
    """Returns the loss, targets, outputs, and the loss in NumPy."""
    rng = np.random.default_rng(0)
    is_multilabel = name == "several labels"
    settings = {
        "one label": {"temperature": 3.0},
        "several labels": {"temperature": 2.0},
        "squared": {"outputs": "embeddings"},
        "cosine": {"outputs": "embeddings", "distance": "cosine"},
    }[name]
    teacher = NpzTeacher("x.npz", weight=0.3, **settings)
    shares = softmax(rng.normal(size=(4, NUM_LABELS)))
    if is_multilabel:
        shares = sigmoid(rng.normal(size=(4, NUM_LABELS)))
    said = rng.normal(size=(4, NUM_LABELS if teacher.temperature else 5))
    if teacher.temperature:
        said = (sigmoid if is_multilabel else softmax)(said)
    size = NUM_LABELS if teacher.temperature else NUM_LABELS + 5
    outputs = rng.normal(0, 2, size=(4, size))
    labels_loss = entropy_of_several if is_multilabel else entropy_of_one
    distance = {
        "one label": divergence_of_one,
        "several labels": divergence_of_several,
        "squared": squared,
        "cosine": cosine,
    }[name]

    def expected(given):
        logits = given[:, :NUM_LABELS]
        own = labels_loss(shares, logits)
        if teacher.temperature:
            t = teacher.temperature
            taught = t**2 * distance(said, logits / t)
        else:
            taught = distance(said, given[:, NUM_LABELS:])
        return (0.7 * own + 0.3 * taught).mean()

    loss = Distillation(
        losses.choose(has_shares=True, is_multilabel=is_multilabel),
        teacher,
        num_labels=NUM_LABELS,
        is_multilabel=is_multilabel,
    )
    targets = np.concatenate([shares, said], axis=1).astype("float32")
    return loss, targets, outputs, expected


CASES = ["one label", "several labels", "squared", "cosine"]


@pytest.mark.parametrize("name", CASES)
def test_the_loss_is_a_mean_of_that_of_the_labels_and_the_teachers(name):
    loss, targets, outputs, expected = case(name)
    found = loss(targets, outputs.astype("float32"))
    assert float(found) == pytest.approx(expected(outputs), rel=1e-5)


class RootOfLoss(keras.layers.Layer):
    """Its mean square is the loss of its inputs."""

    def __init__(self, loss, targets):
        super().__init__()
        self._loss = loss
        self._targets = targets

    def call(self, inputs):
        return ops.sqrt(self._loss(self._targets, inputs))


@pytest.mark.parametrize("name", CASES)
def test_the_gradient_of_the_loss_is_that_of_differences(name):
    loss, targets, outputs, expected = case(name)
    found, _ = grad_mean_square(RootOfLoss(loss, targets), outputs)
    for i in np.ndindex(outputs.shape):
        step = np.zeros_like(outputs)
        step[i] = 1e-5
        slope = (expected(outputs + step) - expected(outputs - step)) / 2e-5
        assert found[i] == pytest.approx(slope, rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("is_multilabel", [False, True])
def test_a_sure_teacher_gives_a_finite_loss_and_gradient(is_multilabel):
    loss = Distillation(
        losses.choose(has_shares=True, is_multilabel=is_multilabel),
        NpzTeacher("x.npz", temperature=1),
        num_labels=NUM_LABELS,
        is_multilabel=is_multilabel,
    )
    sure = np.eye(NUM_LABELS, dtype="float32")
    targets = np.concatenate([sure, sure], axis=1)
    outputs = np.random.default_rng(0).normal(size=(3, 3)).astype("float32")
    own = losses.choose(has_shares=True, is_multilabel=is_multilabel)
    # Without any doubt of the teacher, the two losses are the same.
    assert float(loss(targets, outputs)) == pytest.approx(
        float(own(sure, outputs)), rel=1e-5
    )
    found, _ = grad_mean_square(RootOfLoss(loss, targets), 100 * outputs)
    assert np.isfinite(found).all()


def test_the_accuracy_is_that_of_the_labels():
    targets = np.float32([[1, 0, 9, 9, 9], [0, 1, 9, 9, 9]])
    outputs = np.float32([[2, 1, 8, 8], [3, 1, 8, 8]])
    assert float(accuracy(2, False)(targets, outputs)) == 0.5
    assert float(accuracy(2, True)(targets, outputs)) == 0.5
