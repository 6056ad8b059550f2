"""Waveforms of several channels: shared filters, an axis of channels."""

import functools

import keras
import numpy as np
import pytest
from keras import ops
from layer_checks import check_layer

from leaf_audio import frontend, models

FRONTENDS = {
    "leaf": frontend.Leaf,
    "leaf_normalized": functools.partial(
        frontend.Leaf, mean_var_norm=True, preemp=True
    ),
    "efficient_leaf": functools.partial(
        frontend.EfficientLeaf, compression_fn="pcen"
    ),
    "mel": frontend.MelFilterbanks,
    "spectrogram": functools.partial(frontend.Spectrogram, compression_fn="db"),
    "tfbanks": frontend.TimeDomainFilterbanks,
    "sincnet": frontend.SincNet,
    "sincnet_plus": frontend.SincNetPlus,
}


def noise(*shape, seed=0):
    generator = np.random.default_rng(seed)
    return generator.normal(0, 0.1, shape).astype("float32")


def numpy(tensor):
    return ops.convert_to_numpy(tensor)


@pytest.mark.parametrize("name", FRONTENDS)
def test_each_channel_is_transformed_as_if_alone(name):
    stereo = FRONTENDS[name](multichannel=True)
    mono = FRONTENDS[name]()
    x = noise(2, 1600, 3)
    features = numpy(stereo(x))
    mono.build((None, 1600))
    assert len(mono.weights) == len(stereo.weights)
    mono.set_weights(stereo.get_weights())
    assert features.shape == (*mono.compute_output_shape((2, 1600)), 3)
    assert stereo.compute_output_shape((2, 1600, 3)) == features.shape
    for channel in range(3):
        np.testing.assert_allclose(
            features[..., channel],
            numpy(mono(x[..., channel])),
            rtol=1e-4,
            atol=1e-5,
        )


def test_channels_that_a_compression_appends_lie_side_by_side():
    leaf = frontend.EfficientLeaf(n_filters=8, multichannel=True)
    outputs = leaf(noise(2, 1600, 3))
    assert outputs.shape == (2, 10, 8, 6)
    assert leaf.compute_output_shape((2, 1600, 3)) == (2, 10, 8, 6)
    mono = frontend.EfficientLeaf(n_filters=8)
    np.testing.assert_allclose(
        numpy(outputs)[..., 2:4],
        numpy(mono(noise(2, 1600, 3)[..., 1])),
        rtol=1e-5,
    )


@pytest.mark.parametrize("shape", [(2, 1600), (2, 1600, 1)])
def test_one_channel_has_an_axis_too(shape):
    leaf = frontend.Leaf(n_filters=8, multichannel=True)
    assert leaf(noise(*shape)).shape == (2, 10, 8, 1)
    assert leaf.compute_output_shape(shape) == (2, 10, 8, 1)


@pytest.mark.parametrize("name", ["leaf", "mel"])
def test_is_a_keras_citizen(name, tmp_path):
    make = functools.partial(FRONTENDS[name], multichannel=True)
    if name != "mel":
        make = functools.partial(make, n_filters=2)
    x = noise(2, 1600, 2)
    layer = make()
    expected = numpy(layer(x))
    check_layer(make, x, tmp_path, compiles=name == "mel")
    model = keras.Sequential([keras.Input((None, 2)), make()])
    assert model.output_shape == (None, None, *expected.shape[2:])
    model.save(tmp_path / "stereo.keras")
    loaded = keras.models.load_model(tmp_path / "stereo.keras")
    assert loaded.layers[0].multichannel
    assert loaded.predict(x, verbose=0).shape == expected.shape


def test_a_compressions_own_channels_stay_with_their_channel():
    def both(energies):
        return ops.stack([energies, 2 * energies], axis=-1)

    stereo = frontend.MelFilterbanks(compression_fn=both, multichannel=True)
    mono = frontend.MelFilterbanks(compression_fn=None)
    x = noise(2, 1600, 2)
    features = numpy(stereo(x))
    assert features.shape == stereo.compute_output_shape(x.shape)
    expected = [numpy(mono(x[..., c])) for c in (0, 1)]
    for index, values in enumerate(
        (expected[0], 2 * expected[0], expected[1], 2 * expected[1])
    ):
        np.testing.assert_allclose(features[..., index], values, rtol=1e-4)


def test_masks_are_those_of_the_recording():
    layer = frontend.MelFilterbanks(multichannel=True)
    x = noise(2, 3200, 2)
    mask = ops.convert_to_tensor(
        np.arange(3200)[None] < np.array([[1600], [3200]])
    )
    features = numpy(layer(x, mask=mask))
    np.testing.assert_allclose(
        features[:1, :10], numpy(layer(x[:1, :1600])), rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(
        features[1:], numpy(layer(x[1:])), rtol=1e-4, atol=1e-5
    )
    frame_mask = numpy(layer.compute_mask(x, mask))
    assert frame_mask.sum(axis=1).tolist() == [10, 20]


@pytest.mark.parametrize("name", ["leaf", "mel"])
def test_spec_augment_masks_all_channels_of_a_recording_alike(name):
    layer = FRONTENDS[name](multichannel=True, spec_augment=True)
    features = numpy(layer(noise(4, 8000, 3), training=True))
    is_masked = features == 0
    assert is_masked.any()
    assert (is_masked == is_masked[..., :1]).all()
    assert (is_masked[0] != is_masked[1]).any()


@pytest.mark.slow
def test_a_classifier_takes_both_channels(tmp_path):
    model = models.AudioClassifier(
        3,
        frontend.Leaf(n_filters=8, multichannel=True),
        models.ConvNet([4, 6]),
    )
    x = noise(4, 1600, 2)
    logits = numpy(model(x))
    assert logits.shape == (4, 3)
    swapped = numpy(model(x[..., ::-1].copy()))
    assert np.abs(swapped - logits).max() > 1e-4
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(True))
    history = model.fit(x, np.arange(4) % 3, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    model.save(tmp_path / "stereo.keras")
    loaded = keras.models.load_model(tmp_path / "stereo.keras")
    np.testing.assert_allclose(
        numpy(loaded(x)), numpy(model(x)), rtol=1e-4, atol=1e-5
    )


@pytest.mark.filterwarnings("ignore:This model usually expects:UserWarning")
def test_a_network_of_keras_applications_takes_two_channels():
    encoder = keras.applications.MobileNetV2(
        include_top=False, weights=None, input_shape=(None, None, 2), alpha=0.35
    )
    model = models.AudioClassifier(
        3, frontend.MelFilterbanks(multichannel=True), encoder
    )
    assert model(noise(1, 8000, 2)).shape == (1, 3)


@pytest.mark.parametrize("name", FRONTENDS)
def test_unless_asked_for_two_channels_are_an_error(name):
    with pytest.raises(ValueError, match="one channel.*multichannel=True"):
        FRONTENDS[name]()(noise(2, 1000, 2))


def test_no_channel_is_an_error():
    with pytest.raises(ValueError, match="at least one sample"):
        frontend.Leaf(multichannel=True)(np.zeros((2, 1000, 0), "float32"))


def test_multichannel_is_true_or_false():
    with pytest.raises(ValueError, match="multichannel=2"):
        frontend.MelFilterbanks(multichannel=2)


def test_a_wavegram_takes_two_channels():
    stereo = models.WaveGram(multichannel=True)
    x = noise(2, 6400, 2)
    features = numpy(stereo(x))
    assert features.shape == stereo.compute_output_shape(x.shape)
    mono = models.WaveGram()
    mono.build((None, 6400))
    mono.set_weights(stereo.get_weights())
    for channel in range(2):
        np.testing.assert_allclose(
            features[..., channel],
            numpy(mono(x[..., channel]))[..., 0],
            rtol=1e-4,
            atol=1e-5,
        )
    copy = models.WaveGram.from_config(stereo.get_config())
    assert copy(x[..., 0]).shape == (2, 10, 64, 1)
