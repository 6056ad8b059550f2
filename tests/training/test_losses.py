"""The loss of a classifier, against plain NumPy."""

import functools

import keras
import numpy as np
import pytest

from leaf_audio.training import TrainingConfig, losses
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


TARGETS = (np.random.default_rng(2).random((5, 4)) < 0.4).astype("float32")
LOSS_NAMES = [
    "binary_focal_crossentropy",
    "BinaryFocalCrossentropy",
    "bce",
    "categorical_crossentropy",
    "squared_hinge",
    "mse",
]


def own_loss(targets, logits):
    return keras.ops.mean(keras.ops.abs(targets - logits), axis=-1)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_several_labels_have_binary_crossentropy(smoothing):
    loss = losses.choose(
        label_smoothing=smoothing, has_shares=True, is_multilabel=True
    )
    smooth = TARGETS * (1 - smoothing) + smoothing / 2
    logs = np.log1p(np.exp(-LOGITS)), np.log1p(np.exp(LOGITS))
    expected = (smooth * logs[0] + (1 - smooth) * logs[1]).mean()
    assert float(loss(TARGETS, LOGITS)) == pytest.approx(expected, rel=1e-4)


def test_one_label_keeps_its_losses():
    plain = losses.choose()
    assert isinstance(plain, keras.losses.SparseCategoricalCrossentropy)
    assert isinstance(losses.choose(has_shares=True), Crossentropy)
    assert losses.choose(label_smoothing=0.1).label_smoothing == 0.1


@pytest.mark.parametrize("name", LOSS_NAMES)
def test_a_loss_by_name_gets_logits(name):
    made = losses.make(name)
    config = made.get_config()
    assert config.get("from_logits", True) is True
    chosen = losses.choose(name, has_shares=True)
    assert float(chosen(TARGETS, LOGITS)) == float(made(TARGETS, LOGITS))


@pytest.mark.parametrize(
    "loss",
    [
        keras.losses.binary_crossentropy,
        functools.partial(keras.losses.binary_crossentropy, from_logits=True),
    ],
)
def test_a_function_of_keras_gets_logits(loss):
    chosen = losses.choose(loss, has_shares=True)
    named = losses.choose("bce", has_shares=True)
    assert float(chosen(TARGETS, LOGITS)) == float(named(TARGETS, LOGITS))
    assert losses.make(loss, 0.3).label_smoothing == 0.3


@pytest.mark.parametrize(
    "loss",
    [
        *LOSS_NAMES,
        own_loss,
        functools.partial(keras.losses.BinaryFocalCrossentropy, gamma=1.0),
        keras.losses.CategoricalFocalCrossentropy(from_logits=True),
        keras.losses.BinaryCrossentropy(from_logits=True, reduction="sum"),
    ],
)
@pytest.mark.parametrize("shape", [(5,), (5, 1)])
def test_a_loss_of_shares_takes_labels_as_ones_and_zeros(loss, shape):
    shares = np.eye(4, dtype="float32")[LABELS]
    on_labels, on_shares = (
        keras.losses.get(losses.choose(loss, has_shares=has_shares))
        for has_shares in (False, True)
    )
    if on_shares is own_loss:
        expected = float(np.mean(own_loss(shares, LOGITS)))
    else:
        expected = float(on_shares(shares, LOGITS))
    result = float(on_labels(LABELS.reshape(shape), LOGITS))
    assert result == pytest.approx(expected, rel=1e-6)
    saved = keras.losses.serialize(on_labels)
    again = keras.losses.deserialize(saved, {"own_loss": own_loss})
    assert float(again(LABELS, LOGITS)) == pytest.approx(expected, rel=1e-6)


def test_smoothing_is_passed_to_a_loss_that_is_named():
    made = losses.make("binary_crossentropy", label_smoothing=0.3)
    assert made.label_smoothing == 0.3
    made = losses.make(keras.losses.CategoricalCrossentropy, 0.3)
    assert made.label_smoothing == 0.3


@pytest.mark.parametrize(
    "loss, smoothing, named",
    [
        ("no_such", 0, "`loss` must be the name .*loss='no_such'"),
        ("binary_focal", 0, "'binary_focal'.* Did you mean 'Binary"),
        ("kl_divergence", 0, "a loss of logits.*which takes probabilities"),
        (keras.losses.Dice, 0, "a loss of logits.*which takes probabilities"),
        (keras.losses.poisson, 0, "a loss of logits.*takes probabilities"),
        (
            "CategoricalGeneralizedCrossEntropy",
            0,
            "a loss of logits.*which takes probabilities",
        ),
        ("circle", 0, "a loss of logits.*which takes embeddings"),
        (
            "mean_squared_logarithmic_error",
            0,
            "a loss of logits.*which takes values from 0 on",
        ),
        (
            "mean_absolute_percentage_error",
            0,
            "a loss of logits.*which takes targets other than 0",
        ),
        ("ctc", 0, "a loss of logits.*which takes sequences"),
        (keras.losses.get, 0, "`loss` must be the name"),
        (
            functools.partial(
                keras.losses.BinaryCrossentropy, label_smoothing=0.3
            ),
            0.1,
            "`label_smoothing` must be 0 for a loss that has its own",
        ),
        (
            functools.partial(
                keras.losses.binary_crossentropy, from_logits=False
            ),
            0,
            "a loss of logits, by from_logits=True",
        ),
        (
            keras.losses.BinaryCrossentropy(),
            0,
            r"by from_logits=True.*loss=BinaryCrossentropy\(...\)\.$",
        ),
        (keras.losses.Loss, 0, "`loss` must be the name"),
        (keras.layers.Dense, 0, "`loss` must be the name.*Dense"),
        (keras.layers.Dense(3), 0, "`loss` must be the name.*Dense"),
        (3, 0, "`loss` must be the name.*loss=3"),
        ("hinge", 0.1, "`label_smoothing` must be 0 for .*loss='hinge'"),
        (own_loss, 0.1, "`label_smoothing` must be 0 if .*own_loss"),
        (
            functools.partial(keras.losses.BinaryCrossentropy, gamma=2),
            0,
            "which failed: .*gamma",
        ),
    ],
)
def test_a_loss_that_cannot_be_used_is_named(loss, smoothing, named):
    with pytest.raises(ValueError, match=named):
        losses.make(loss, smoothing)
    with pytest.raises(ValueError, match=named):
        TrainingConfig("run", loss=loss, label_smoothing=smoothing)


def test_a_loss_of_one_label_is_refused_for_shares():
    name = "sparse_categorical_crossentropy"
    assert float(losses.choose(name)(LABELS, LOGITS)) > 0
    with pytest.raises(ValueError, match=f"targets of shape .*loss='{name}'"):
        losses.choose(name, has_shares=True)


@pytest.mark.parametrize(
    "own, named",
    [
        (lambda targets, logits: targets @ logits, "which failed"),
        (lambda targets: targets, "which failed"),
        (lambda targets, logits: logits[..., None], r"has the shape"),
    ],
)
def test_a_function_that_is_no_loss_is_named(own, named):
    with pytest.raises(ValueError, match=f"`loss` must be .*{named}"):
        losses.check_fits(own, TARGETS, LOGITS)
    losses.check_fits(own_loss, TARGETS, LOGITS)


def test_the_accuracy_of_several_labels_counts_each_label():
    targets = np.array([[1.0, 0.0, 0.0, 1.0], [0.9, 0.1, 0.0, 0.0]])
    logits = np.array([[2.0, -1.0, 1.0, -3.0], [1.0, -1.0, -1.0, -1.0]])
    found = losses.label_accuracy(targets, logits)
    assert keras.ops.convert_to_numpy(found).tolist() == [0.5, 1.0]
