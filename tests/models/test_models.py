"""What holds for all models: saving, training, shapes, precision, errors."""

import keras
import numpy as np
import pytest
from keras import layers
from model_makers import MODELS, UNKNOWN_TIME, every_model, noise, numpy

from leaf_audio import models
from leaf_audio.models import (
    PANN,
    AudioClassifier,
    ConvBlock,
    ConvNet,
    PANNConvBlock,
    PANNWavBlock,
    WaveGram,
)


def all_parts(layer: layers.Layer) -> list[layers.Layer]:
    parts = [layer]
    for part in getattr(layer, "layers", []):
        parts += all_parts(part)
    return parts


@pytest.fixture
def channels_first():
    before = keras.config.image_data_format()
    keras.config.set_image_data_format("channels_first")
    yield
    keras.config.set_image_data_format(before)


@every_model
def test_saved_model_loads_without_custom_objects(name, tmp_path):
    make, shape = MODELS[name]
    model, inputs = make(), noise(*shape)
    expected = numpy(model(inputs))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert type(loaded) is type(model)
    np.testing.assert_allclose(numpy(loaded(inputs)), expected, rtol=1e-6)


@every_model
def test_config_makes_an_equal_model(name):
    make, shape = MODELS[name]
    model = make()
    again = type(model).from_config(model.get_config())
    assert again.get_config() == model.get_config()
    model.build(shape)
    again.build(shape)
    assert [w.shape for w in again.weights] == [w.shape for w in model.weights]


@every_model
def test_unknown_time_builds_and_the_shape_told_is_the_shape_made(name):
    make, shape = MODELS[name]
    model = make()
    symbolic = model(keras.Input(UNKNOWN_TIME[name][1:]))
    outputs = model(noise(*shape))
    assert model.compute_output_shape(shape) == tuple(outputs.shape)
    assert len(symbolic.shape) == len(outputs.shape)
    for told, made in zip(symbolic.shape, outputs.shape, strict=True):
        assert told in (None, made)


@every_model
def test_a_model_that_is_frozen_before_it_is_built_stays_frozen(name):
    make, shape = MODELS[name]
    model = make()
    model.trainable = False
    inside = keras.Sequential([model])
    inside.build(shape)
    assert inside.weights and not inside.trainable_weights


@every_model
def test_every_weight_trains(name):
    # Few random filters may all be dead behind a ReLU.
    keras.utils.set_random_seed(0)
    make, shape = MODELS[name]
    model, inputs = make(), noise(*shape)
    # Compiling each model would take longer than its two steps.
    model.compile(keras.optimizers.Adam(0.1), "mse", run_eagerly=True)
    targets = noise(*model.compute_output_shape(shape))
    model.build(shape)
    before = [numpy(w.value) for w in model.trainable_weights]
    model.fit(inputs, targets, epochs=2, verbose=0)
    for weight, old in zip(model.trainable_weights, before, strict=True):
        assert (numpy(weight.value) != old).any(), weight.path


@every_model
@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_of_the_policy_reaches_all_parts(name, dtype):
    make, shape = MODELS[name]
    keras.config.set_dtype_policy(dtype)
    try:
        model = make()
    finally:
        keras.config.set_dtype_policy("float32")
    outputs = model(noise(*shape))
    is_classifier = name.startswith("AudioClassifier")
    expected = "float32" if is_classifier else dtype[6:]
    assert keras.backend.standardize_dtype(outputs.dtype) == expected
    assert np.isfinite(numpy(outputs)).all()
    assert {w.dtype for w in model.trainable_weights} == {"float32"}


@pytest.mark.parametrize(
    "model,shape",
    [
        (ConvNet([4, 6], dtype="mixed_bfloat16"), (1, 8, 8, 1)),
        (PANN(1, dtype="mixed_bfloat16"), (1, 8, 8, 1)),
        (WaveGram(dtype="mixed_bfloat16"), (1, 700)),
    ],
)
def test_dtype_argument_reaches_all_parts(model, shape):
    model.build(shape)
    policies = {layer.dtype_policy.name for layer in all_parts(model)}
    assert policies == {"mixed_bfloat16"}


@pytest.mark.parametrize(
    "model", [ConvBlock(2, dropout=0.9), PANN(1, dropout_rate=0.9)]
)
def test_dropout_acts_in_training_only(model):
    inputs = noise(2, 8, 8, 1)
    np.testing.assert_array_equal(
        numpy(model(inputs)), numpy(model(inputs, training=False))
    )
    first = numpy(model(inputs, training=True))
    assert (first != numpy(model(inputs, training=True))).any()


@pytest.mark.parametrize(
    "model,shape,message",
    [
        (
            ConvNet([2] * 6),
            (None, 15, 40, 1),
            "ConvNet with 6 blocks needs at least 16 frames and 16 bins. "
            r"Received: inputs of shape \(None, 15, 40, 1\)",
        ),
        (ConvNet([2] * 6), (None, None, 8, 1), "needs at least 16 frames"),
        (ConvNet([2]), (1, 1, 8, 1), "ConvNet with 1 block needs at least 2"),
        (ConvBlock(2), (1, 8, 1, 1), "ConvBlock needs at least 2 frames"),
        (PANN(1), (1, 8, None, 1), "PANN needs a known number of bins"),
        (PANN(1), (1, 8, 8), r"PANN takes inputs of shape \(batch, time, bins"),
        (PANNWavBlock(2), (1, 8), "PANNWavBlock takes inputs of shape"),
        (WaveGram(), (1, 80, 2), "WaveGram takes waveforms of shape"),
    ],
)
def test_unfit_input_is_an_error(model, shape, message):
    with pytest.raises(ValueError, match=message):
        model.build(shape)
    with pytest.raises(ValueError, match=message):
        model.compute_output_shape(shape)


def test_smallest_input_suffices():
    assert tuple(ConvNet([2] * 6)(noise(1, 16, 16, 1)).shape) == (1, 1, 1, 2)
    assert tuple(PANN(1)(noise(1, 1, 1, 1)).shape) == (1, 1, 1, 64)
    assert tuple(WaveGram()(noise(1, 1)).shape) == (1, 1, 64, 1)


@pytest.mark.parametrize(
    "make,message",
    [
        (lambda: AudioClassifier(0), "`num_outputs` must be .*num_outputs=0"),
        (
            lambda: AudioClassifier(3, frontend=np.abs),
            "`frontend` must be a Keras layer",
        ),
        (
            lambda: AudioClassifier(3, encoder="ConvNet"),
            "`encoder` must be .* encoder='ConvNet'",
        ),
        (lambda: ConvBlock(-1), "`num_filters` must be .*num_filters=-1"),
        (lambda: ConvBlock(2, dropout=1.0), "`dropout` must be .*dropout=1.0"),
        (lambda: ConvBlock(2, dropout="x"), "`dropout` must be .*dropout='x'"),
        (
            lambda: ConvBlock(2, max_pooling=2),
            "`max_pooling` must be .*max_pooling=2",
        ),
        (
            lambda: ConvBlock(2, normalization_layer="bach"),
            "`normalization_layer` must be .*'bach'",
        ),
        (
            lambda: ConvBlock(2, normalization_layer=3),
            "`normalization_layer` must be .*normalization_layer=3",
        ),
        (
            lambda: ConvBlock(2, normalization_layer=lambda: 3),
            "`normalization_layer` must .*normalization_layer=<function",
        ),
        (lambda: ConvNet([]), r"`filters` must be .*filters=\[\]"),
        (lambda: ConvNet(64), "`filters` must be .*filters=64"),
        (lambda: ConvNet([64, 0]), r"`filters` must be .*filters=\[64, 0\]"),
        (lambda: ConvNet([2], block="x"), "`block` must be .*block='x'"),
        (
            lambda: ConvNet([2], block=lambda **_: 3),
            "`block` must make a Keras layer.*made 3",
        ),
        (lambda: PANN(depth=0), "`depth` must be .*depth=0"),
        (
            lambda: PANN(dropout_rate=-0.1),
            "`dropout_rate` must be .*dropout_rate=-0.1",
        ),
        (
            lambda: PANNConvBlock(2, (2, 2, 2)),
            r"`pool_size` must be .*pool_size=\(2, 2, 2\)",
        ),
        (lambda: PANNConvBlock(2, 0), "`pool_size` must be .*pool_size=0"),
        (lambda: PANNWavBlock(2, (2, 1)), "`pool_size` must be "),
    ],
)
def test_impossible_argument_is_an_error(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_models_exports_what_it_defines():
    for name in models.__all__:
        module = getattr(models, name).__module__
        assert module.startswith("leaf_audio.models.")


@pytest.mark.parametrize("name", MODELS)
def test_kerass_image_data_format_changes_nothing(name, request):
    make, shape = MODELS[name]
    expected = make().compute_output_shape(shape)
    request.getfixturevalue("channels_first")
    model = make()
    assert model.compute_output_shape(shape) == expected
    assert model(np.ones(shape, "float32")).shape == expected
