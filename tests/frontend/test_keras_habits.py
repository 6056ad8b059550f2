"""What users of Keras expect of a layer: unknown axes, freezing, clones."""

import functools

import keras
import numpy as np
import pytest
from frontend_makers import FRONTENDS, noise
from keras import ops

from leaf_audio import convolution, frontend, models, pooling, postprocessing

MAKERS = {
    **FRONTENDS,
    "spectrogram": frontend.Spectrogram,
    "wavegram": models.WaveGram,
    "leaf_normalized": functools.partial(
        frontend.Leaf, mean_var_norm=True, preemp=True
    ),
}


@pytest.mark.slow_on_jax
@pytest.mark.parametrize("name", MAKERS)
def test_the_axis_of_channels_may_be_unknown(name):
    # As the shapes of `keras.utils.audio_dataset_from_directory` are.
    inputs = keras.Input((3200, None))
    layer = MAKERS[name]()
    model = keras.Model(inputs, layer(inputs))
    x = noise(2, 3200, 1)
    features = model.predict(x, verbose=0)
    assert model.output_shape == (None, *features.shape[1:])
    np.testing.assert_allclose(
        features, ops.convert_to_numpy(layer(x[..., 0])), rtol=1e-4, atol=1e-4
    )
    with pytest.raises(ValueError, match="one channel|time, 1"):
        model(noise(2, 3200, 2))


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow",
    reason="elsewhere shapes are known when a model is called",
)
@pytest.mark.parametrize("name", ["leaf", "mel", "efficient_leaf", "wavegram"])
@pytest.mark.slow
def test_several_channels_are_found_when_they_arrive(name):
    import tensorflow as tf

    inputs = keras.Input((1600, None))
    model = keras.Model(inputs, MAKERS[name]()(inputs))
    spec = tf.TensorSpec((None, 1600, None))

    def batches(channels):
        return tf.data.Dataset.from_generator(
            lambda: iter([noise(2, 1600, channels)]), output_signature=spec
        )

    assert len(model.predict(batches(1), steps=1, verbose=0)) == 2
    with pytest.raises(tf.errors.InvalidArgumentError):
        model.predict(batches(2), steps=1, verbose=0)


def test_a_classifier_takes_an_unknown_axis_of_channels():
    model = keras.Sequential(
        [
            keras.Input((1600, None)),
            models.AudioClassifier(
                3, frontend.MelFilterbanks(), models.ConvNet([2])
            ),
        ]
    )
    assert model.predict(noise(2, 1600, 1), verbose=0).shape == (2, 3)
    model.compile("sgd", "mse")
    model.fit(noise(2, 1600, 1), np.zeros((2, 3)), verbose=0)


ENERGIES = (2, 20, 4)
# Layers that have something fixed, with the inputs they take.
FIXED = {
    "leaf_pooling": (
        lambda: frontend.Leaf(n_filters=4, learn_pooling=False),
        (2, 1600),
    ),
    "leaf_filters": (
        lambda: frontend.Leaf(n_filters=4, learn_filters=False, preemp=True),
        (2, 1600),
    ),
    "leaf_layers": (
        lambda: frontend.Leaf(
            n_filters=4,
            learn_filters=False,
            learn_pooling=False,
            conv1d_cls=convolution.GaborConv1D(8, 401),
            pooling_cls=pooling.GaussianLowpass(401, 160),
            mean_var_norm=True,
        ),
        (2, 1600),
    ),
    "efficient_leaf": (
        lambda: frontend.EfficientLeaf(
            n_filters=4,
            learn_filters=False,
            learn_pooling=False,
            compression_fn=postprocessing.LogTBN(learn_a=False),
        ),
        (2, 1600),
    ),
    "sincnet": (
        lambda: frontend.SincNet(n_filters=4, learn_filters=False),
        (2, 1600),
    ),
    "sincnet_plus": (
        lambda: frontend.SincNetPlus(n_filters=4, learn_pooling=False),
        (2, 1600),
    ),
    "tfbanks": (
        lambda: frontend.TimeDomainFilterbanks(
            n_filters=4, learn_pooling=False
        ),
        (2, 1600),
    ),
    "pcen": (
        lambda: postprocessing.PCENLayer(trainable=True),
        ENERGIES,
    ),
    "pcen_smoothing": (
        lambda: postprocessing.PCENLayer(learn_smooth_coef=True),
        ENERGIES,
    ),
    "log_pcen": (
        lambda: postprocessing.PCENLayer(trainable=True, parametrization="log"),
        ENERGIES,
    ),
    "logtbn": (lambda: postprocessing.LogTBN(learn_a=False), ENERGIES),
    "moving_average": (
        lambda: postprocessing.ExponentialMovingAverage(0.1),
        ENERGIES,
    ),
    "log1p": (lambda: postprocessing.Log1p(1.0), ENERGIES),
}


def learned(layer):
    return [w.path for w in layer.trainable_weights]


@pytest.mark.parametrize("name", FIXED)
@pytest.mark.parametrize("is_built", [True, False])
def test_what_is_not_learned_stays_fixed_after_unfreezing(name, is_built):
    make, shape = FIXED[name]
    layer = make()
    model = keras.Sequential([layer, keras.layers.Rescaling(1.0)])
    if is_built:
        model.build(shape)
        before = learned(layer)
    model.trainable = False
    assert not model.trainable_weights
    if not is_built:
        model.build(shape)
        assert not model.trainable_weights
        same = make()
        same.build(shape)
        before = [None] * len(learned(same))
    model.trainable = True
    after = learned(layer)
    assert len(after) == len(before)
    assert len(after) < len(layer.weights)
    if is_built:
        assert after == before
    # The layer alone, too.
    layer.trainable = False
    assert not layer.trainable_weights
    layer.trainable = True
    assert learned(layer) == after


@pytest.mark.parametrize("trainable", [True, False])
def test_a_layer_learns_what_it_is_asked_to_after_it_was_frozen(trainable):
    layer = postprocessing.LogTBN(trainable=trainable)
    layer.build(ENERGIES)
    assert len(layer.trainable_weights) == (3 if trainable else 0)
    layer.trainable = True
    assert len(layer.trainable_weights) == 3
    for make in (
        functools.partial(postprocessing.Log1p, 1.0),
        functools.partial(postprocessing.ExponentialMovingAverage, 0.1),
    ):
        one = make(trainable=trainable)
        one.build(ENERGIES)
        assert one.get_config()["trainable"] is trainable
        one.trainable = False
        one.trainable = True
        assert len(one.trainable_weights) == int(trainable)
