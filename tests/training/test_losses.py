"""The loss of a classifier, against plain NumPy."""

import keras
import numpy as np
import pytest

from leaf_audio.training.losses import Crossentropy

pytestmark = pytest.mark.any_backend

LOGITS = np.random.default_rng(0).normal(0, 3, (5, 4)).astype("float32")
LABELS = np.array([3, 0, 1, 1, 2])
SHARES = np.random.default_rng(1).dirichlet(np.ones(4), 5).astype("float32")


def crossentropy(shares, smoothing):
    logits = LOGITS.astype("float64")
    logs = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    smooth = (1 - smoothing) * shares + smoothing / shares.shape[-1]
    return -(smooth * logs).sum(axis=-1).mean()


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.7])
@pytest.mark.parametrize("shape", [(5,), (5, 1)])
@pytest.mark.parametrize("dtype", ["int32", "int64", "uint8", "float32"])
def test_labels_cost_what_their_logits_say(smoothing, shape, dtype):
    loss = Crossentropy(label_smoothing=smoothing)
    labels = LABELS.reshape(shape).astype(dtype)
    expected = crossentropy(np.eye(4)[LABELS], smoothing)
    assert float(loss(labels, LOGITS)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.7])
def test_shares_cost_the_mean_of_their_labels(smoothing):
    loss = Crossentropy(label_smoothing=smoothing)
    expected = crossentropy(SHARES, smoothing)
    assert float(loss(SHARES, LOGITS)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_as_many_labels_as_clips_are_told_from_shares(smoothing):
    loss = Crossentropy(label_smoothing=smoothing)
    logits = LOGITS[:4]
    per_clip = [
        float(loss(label[None], logit[None]))
        for label, logit in zip(LABELS[:4], logits, strict=True)
    ]
    result = float(loss(LABELS[:4], logits))
    assert result == pytest.approx(np.mean(per_clip), rel=1e-5)


def test_plain_labels_have_the_loss_of_keras():
    keras_loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    assert float(Crossentropy()(LABELS, LOGITS)) == float(
        keras_loss(LABELS, LOGITS)
    )


@pytest.mark.parametrize(
    "targets", [LABELS.astype("int32"), SHARES], ids=["labels", "shares"]
)
def test_fit_descends_along_the_loss(targets):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4)])
    model.compile("sgd", Crossentropy(0.1), metrics=["accuracy"])
    history = model.fit(
        LOGITS, targets, batch_size=5, epochs=3, verbose=0, shuffle=False
    ).history
    assert history["loss"][0] > history["loss"][1] > history["loss"][2]
    assert 0 <= history["accuracy"][0] <= 1


def test_the_loss_is_saved_with_its_smoothing():
    loss = keras.losses.deserialize(keras.losses.serialize(Crossentropy(0.3)))
    assert isinstance(loss, Crossentropy)
    assert loss.label_smoothing == 0.3


@pytest.mark.parametrize("smoothing", [-0.1, 1.0, "much", None])
def test_a_smoothing_out_of_range_is_named(smoothing):
    with pytest.raises(ValueError, match="`label_smoothing` must be"):
        Crossentropy(label_smoothing=smoothing)
