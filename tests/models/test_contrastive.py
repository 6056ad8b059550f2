"""COLA and SimCLR: similarities of pairs of views."""

import keras
import numpy as np
import pytest
from gradients import grad_mean_square
from model_makers import noise, numpy, small_classifier

from leaf_audio import models
from leaf_audio.training import contrast

pytestmark = pytest.mark.any_backend

PAIRS = noise(3, 2, 1600)
MODELS = {
    "COLA": lambda: models.COLA(small_classifier(), units=5),
    "COLA_cosine": lambda: models.COLA(
        small_classifier(), units=5, similarity="cosine", temperature=0.5
    ),
    "SimCLR": lambda: models.SimCLR(
        small_classifier(input_norm="batch"), units=5, temperature=0.3
    ),
}
every_model = pytest.mark.parametrize("name", MODELS)


def embeddings_of(model):
    """Returns those of the first views and those of the second, in float64."""
    return [
        numpy(model.embed(PAIRS[:, view])).astype("float64") for view in (0, 1)
    ]


def weight(model, path):
    (found,) = [w for w in model.weights if w.path.endswith(path)]
    return numpy(found).astype("float64")


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def projected_by_simclr(model, rows):
    hidden = rows @ weight(model, "hidden/kernel")
    hidden = np.maximum(hidden + weight(model, "hidden/bias"), 0)
    return unit(hidden @ weight(model, "projection/kernel"))


def projected_by_cola(model, rows):
    rows = rows @ weight(model, "projection/kernel")
    rows = rows + weight(model, "projection/bias")
    deviation = np.sqrt(rows.var(axis=-1, keepdims=True) + 1e-3)
    return np.tanh((rows - rows.mean(axis=-1, keepdims=True)) / deviation)


def test_cola_compares_the_first_view_of_each_with_the_second_of_all():
    model = MODELS["COLA"]()
    found = numpy(model(PAIRS))
    x, y = (projected_by_cola(model, rows) for rows in embeddings_of(model))
    expected = x @ weight(model, "bilinear/kernel") @ y.T
    assert found.shape == (3, 1, 3)
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-4, atol=1e-5)


def test_cola_by_the_cosine_divides_by_the_temperature():
    model = MODELS["COLA_cosine"]()
    found = numpy(model(PAIRS))
    x, y = (projected_by_cola(model, rows) for rows in embeddings_of(model))
    expected = unit(x) @ unit(y).T / 0.5
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-4, atol=1e-5)


def mean_entropy_of_cola(model, first, second):
    x, y = (projected_by_cola(model, rows) for rows in (first, second))
    rows = x @ weight(model, "bilinear/kernel") @ y.T
    return (np.log(np.exp(rows).sum(axis=1)) - np.diag(rows)).mean()


def mean_entropy_of_simclr(model, first, second):
    views = projected_by_simclr(model, np.concatenate([first, second]))
    rows = views @ views.T / model.temperature
    np.fill_diagonal(rows, -np.inf)
    partners = np.roll(np.arange(6), 3)
    right = rows[np.arange(6), partners]
    return (np.log(np.exp(rows).sum(axis=1)) - right).mean()


class RootOfLoss(keras.layers.Layer):
    """Its mean square is the loss of a model of pairs."""

    def __init__(self, model):
        super().__init__()
        self.model = model
        self.built = True

    def call(self, inputs, training=None):
        loss = contrast.PartnerCrossentropy()
        found = loss(np.arange(3), self.model(inputs, training=training))
        return keras.ops.sqrt(found)


@pytest.mark.parametrize(
    "name, in_numpy, path",
    [
        ("COLA", mean_entropy_of_cola, "projection/kernel"),
        ("COLA", mean_entropy_of_cola, "bilinear/kernel"),
        ("SimCLR", mean_entropy_of_simclr, "hidden/kernel"),
        ("SimCLR", mean_entropy_of_simclr, "projection/kernel"),
    ],
)
def test_the_gradient_of_the_loss_is_that_of_differences(name, in_numpy, path):
    keras.utils.set_random_seed(0)
    model = MODELS[name]()
    model(PAIRS)
    _, gradients = grad_mean_square(RootOfLoss(model), PAIRS)
    paths = [one.path for one in model.trainable_variables]
    (place,) = [i for i, one in enumerate(paths) if one.endswith(path)]
    variable, views = model.trainable_variables[place], embeddings_of(model)
    given = numpy(variable)
    expected = np.empty_like(given)
    for i in np.ndindex(given.shape):
        values, losses = [], []
        for step in (-1e-3, 1e-3):
            changed = given.copy()
            changed[i] += step
            variable.assign(changed)
            values.append(float(changed[i]))
            losses.append(in_numpy(model, *views))
        expected[i] = np.diff(losses)[0] / np.diff(values)[0]
    np.testing.assert_allclose(gradients[place], expected, rtol=2e-3, atol=2e-5)


def test_simclr_compares_each_view_with_all_others_and_not_with_itself():
    # With few hidden units, all may be 0 for a view, which has no direction.
    keras.utils.set_random_seed(0)
    model = MODELS["SimCLR"]()
    found = numpy(model(PAIRS))
    views = [projected_by_simclr(model, rows) for rows in embeddings_of(model)]
    assert found.shape == (3, 2, 6)
    for view in (0, 1):
        for i in range(3):
            for j in range(3):
                own = views[view][i]
                other = own @ views[1 - view][j] / 0.3
                same = own @ views[view][j] / 0.3 if i != j else -1e9
                np.testing.assert_allclose(
                    found[i, view, [j, 3 + j]], [other, same], rtol=1e-4
                )


@every_model
def test_every_weight_but_those_of_the_unused_layer_gets_a_gradient(name):
    model = MODELS[name]()
    _, gradients = grad_mean_square(model, PAIRS, training=True)
    assert not [w.path for w in model.weights if "head" in w.path]
    for variable, gradient in zip(
        model.trainable_variables, gradients, strict=True
    ):
        assert gradient is not None, variable.path
        assert np.isfinite(gradient).all(), variable.path
        # A bias before a layer normalization of five units has one.
        assert np.abs(gradient).max() > 0, variable.path


@every_model
def test_a_saved_model_of_pairs_loads_and_gives_the_same(name, tmp_path):
    model = MODELS[name]()
    expected = numpy(model(PAIRS))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert type(loaded) is type(model)
    np.testing.assert_allclose(numpy(loaded(PAIRS)), expected, rtol=1e-6)


@every_model
def test_the_shape_told_is_the_shape_made(name):
    model = MODELS[name]()
    assert model.compute_output_shape(PAIRS.shape) == model(PAIRS).shape


@every_model
def test_a_silent_pair_gives_finite_similarities_and_gradients(name):
    model = MODELS[name]()
    silent = np.zeros_like(PAIRS)
    _, gradients = grad_mean_square(model, silent)
    assert np.isfinite(numpy(model(silent))).all()
    assert all(np.isfinite(one).all() for one in gradients)


@every_model
def test_a_classifier_with_a_head_has_the_embeddings_of_the_pretrained(name):
    model = MODELS[name]()
    model(PAIRS)
    clips = PAIRS[:, 0]
    embedded = numpy(model.embed(clips))
    kernel = noise(embedded.shape[1], 4)
    made = model.with_head(kernel, np.ones(4, "float32"))
    expected = embedded @ kernel + 1
    np.testing.assert_allclose(
        numpy(made(clips)), expected, rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("name", ["COLA", "SimCLR"])
def test_one_view_is_refused(name):
    with pytest.raises(ValueError, match="two views of each recording"):
        MODELS[name]()(PAIRS[:, :1])


def test_a_temperature_without_the_cosine_is_refused():
    with pytest.raises(ValueError, match="`temperature` must be None unless"):
        models.COLA(small_classifier(), temperature=0.1)


def test_another_model_than_a_classifier_is_refused():
    with pytest.raises(ValueError, match="`classifier` must be"):
        models.SimCLR(models.ConvNet([3]))


def test_weights_of_another_architecture_are_refused_by_name():
    wide = models.AudioClassifier(3, encoder=models.ConvNet([4, 8]))
    narrow = models.AudioClassifier(3, encoder=models.ConvNet([4, 6]))
    for one in (wide, narrow):
        one.build((None, 12, 8))
    with pytest.raises(ValueError, match="`encoder` of the two classifiers"):
        narrow.take_weights(wide)
