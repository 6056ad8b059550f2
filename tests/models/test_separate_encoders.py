"""One frontend with an encoder for each of several tasks."""

import keras
import numpy as np
import pytest
from gradients import grad_mean_square
from model_makers import mel, noise, numpy

from leaf_audio import frontend, models

pytestmark = pytest.mark.any_backend

WAVES = noise(2, 1600)


def branch(num_outputs, **kwargs):
    return models.AudioClassifier(
        num_outputs, encoder=models.ConvNet([4, 6]), **kwargs
    )


def make(front=mel):
    return models.MultitaskClassifier(
        front(), [branch(3, input_norm="batch"), branch(2, pooling="attention")]
    )


def leaf():
    return frontend.Leaf(n_filters=8, sample_rate=4000)


def test_the_outputs_are_those_of_each_branch_in_turn():
    model = make()
    logits = numpy(model(WAVES))
    features = model.frontend(WAVES)
    expected = [numpy(one(features)) for one in model.branches]
    assert model.num_outputs == 5
    assert model.compute_output_shape(WAVES.shape) == logits.shape == (2, 5)
    np.testing.assert_allclose(logits, np.hstack(expected), rtol=1e-5)


@pytest.mark.parametrize("front", [mel, leaf])
def test_the_classifier_of_a_task_gives_the_same_as_the_whole(front):
    model = make(front)
    model.build(WAVES.shape)
    for variable in model.trainable_variables:
        variable.assign(variable + 0.01)
    logits = numpy(model(WAVES))
    for i, own in enumerate((logits[:, :3], logits[:, 3:])):
        one = model.of_task(i)
        assert type(one) is models.AudioClassifier
        assert type(one.frontend) is type(model.frontend)
        np.testing.assert_allclose(numpy(one(WAVES)), own, rtol=1e-5, atol=1e-6)
        one.head.bias.assign(one.head.bias + 1)
    np.testing.assert_array_equal(numpy(model(WAVES)), logits)


def test_a_saved_model_loads_and_gives_the_same(tmp_path):
    model = make()
    expected = numpy(model(WAVES))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert type(loaded) is models.MultitaskClassifier
    np.testing.assert_allclose(numpy(loaded(WAVES)), expected, rtol=1e-6)


def test_every_weight_of_every_branch_gets_a_gradient():
    model = make(leaf)
    _, gradients = grad_mean_square(model, WAVES, training=True)
    for variable, gradient in zip(
        model.trainable_variables, gradients, strict=True
    ):
        assert gradient is not None, variable.path
        assert np.isfinite(gradient).all(), variable.path


def test_classifiers_are_joined_with_the_frontend_of_the_first():
    made = [
        models.AudioClassifier(
            n,
            mel(),
            models.ConvNet([4]),
            input_norm="batch",
            dropout=0.5,
            dtype="mixed_bfloat16",
        )
        for n in (3, 2)
    ]
    model = models.MultitaskClassifier.of_classifiers(made)
    assert model.frontend is made[0].frontend
    assert [one.encoder for one in model.branches] == [
        one.encoder for one in made
    ]
    assert [one.num_outputs for one in model.branches] == [3, 2]
    assert {(o.input_norm, o.dropout) for o in model.branches} == {
        ("batch", 0.5)
    }
    dtypes = {one.compute_dtype for one in (model, *model.branches)}
    assert dtypes == {"bfloat16"}


def test_a_branch_with_a_frontend_is_refused():
    with pytest.raises(ValueError, match="`branches` must be.*Received"):
        models.MultitaskClassifier(mel(), [branch(3, frontend=mel())])
