"""AudioClassifier: how it joins a frontend, an encoder and a head."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from model_makers import mel, noise, numpy, small_classifier

from leaf_audio import frontend
from leaf_audio.models import (
    AudioClassifier,
    ConvNet,
    WaveGram,
)


def test_summary_shows_shapes_once_built():
    model = small_classifier()
    model.build((None, 1600))
    lines = []
    model.summary(print_fn=lines.append, expand_nested=True)
    text = "\n".join(str(line) for line in lines)
    assert "(None, 10, 8)" in text
    assert "(None, 2, 2, 6)" in text
    assert "(None, 3)" in text
    assert "?" not in text and "unbuilt" not in text


@pytest.mark.slow_on_jax
@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.slow
def test_classifier_trains_compiled(jit_compile):
    if jit_compile and keras.backend.backend() == "torch":
        pytest.skip("torch.compile needs a C++ compiler")
    model = small_classifier()
    model.compile(
        "adam",
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=jit_compile,
    )
    history = model.fit(
        noise(6, 1600), np.arange(6) % 3, batch_size=4, verbose=0
    )
    assert np.isfinite(history.history["loss"][0])


def test_classifier_is_pooled_maximum_and_dense():
    encoder = ConvNet([4])
    model = AudioClassifier(3, mel(), encoder)
    audio = noise(2, 1600)
    logits = numpy(model(audio))
    pooled = numpy(encoder(model.frontend(audio)[..., None])).max(axis=(1, 2))
    kernel, bias = (numpy(weight.value) for weight in model.head.weights)
    np.testing.assert_allclose(logits, pooled @ kernel + bias, rtol=1e-4)


def test_classifier_passes_training_to_all_its_parts():
    seen = []

    class Spy(layers.Layer):
        def call(self, inputs, training=None):
            seen.append(training)
            return inputs

    model = AudioClassifier(
        2, keras.Sequential([mel(), Spy()]), keras.Sequential([Spy()])
    )
    model.build((None, 1600))
    for training in (True, False):
        seen.clear()
        model(noise(1, 1600), training=training)
        assert seen == [training, training]


def test_wavegrams_channel_axis_passes_through():
    model = AudioClassifier(3, WaveGram(), ConvNet([4]))
    assert tuple(model(noise(2, 16000)).shape) == (2, 3)


def test_classifier_without_frontend_takes_features():
    model = AudioClassifier(3, encoder=ConvNet([4]))
    features = noise(2, 10, 8)
    np.testing.assert_allclose(
        numpy(model(features[..., None])), numpy(model(features)), rtol=1e-6
    )


def test_classifier_without_encoder_takes_the_maximum_over_the_features():
    model = AudioClassifier(3)
    assert tuple(model(noise(2, 10, 8, 5)).shape) == (2, 3)
    assert model.head.kernel.shape == (5, 3)


@pytest.mark.parametrize(
    "encoder,width",
    [
        (lambda: keras.Sequential([layers.GlobalAveragePooling2D()]), 1),
        (
            lambda: keras.Sequential(
                [layers.Reshape((-1, 8)), layers.LSTM(5, return_sequences=True)]
            ),
            5,
        ),
    ],
)
def test_encoder_may_answer_any_rank(encoder, width):
    model = AudioClassifier(3, mel(), encoder())
    assert tuple(model(noise(2, 1600)).shape) == (2, 3)
    assert model.head.kernel.shape == (width, 3)


@pytest.mark.slow_on_jax
@pytest.mark.slow
def test_keras_application_serves_as_encoder(tmp_path):
    encoder = keras.applications.MobileNetV2(
        include_top=False, weights=None, input_shape=(None, None, 1), alpha=0.35
    )
    model = AudioClassifier(3, frontend.MelFilterbanks(), encoder)
    audio = noise(2, 6400)
    logits = numpy(model(audio))
    assert logits.shape == (2, 3)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(numpy(loaded(audio)), logits, rtol=1e-5)


def test_frontend_given_twice_is_shared():
    shared = mel()
    first = AudioClassifier(3, shared, ConvNet([4]))
    second = AudioClassifier(3, shared, ConvNet([4]))
    assert first.frontend is second.frontend is shared


def test_frontend_gets_the_waveform_in_full_precision():
    """A step of 2⁻¹² next to 1 is lost in bfloat16, not in the frontend."""
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = AudioClassifier(3, WaveDtype(), ConvNet([2]))
    finally:
        keras.config.set_dtype_policy("float32")
    model(noise(1, 64))
    assert model.frontend.seen == "float32"


class WaveDtype(layers.Layer):
    """Remembers the dtype of what it gets."""

    def __init__(self, **kwargs):
        super().__init__(autocast=False, **kwargs)

    def call(self, inputs):
        self.seen = keras.backend.standardize_dtype(inputs.dtype)
        return ops.reshape(inputs, (-1, 8, 8))


def test_mask_of_samples_reaches_the_frontend():
    model = AudioClassifier(3, mel(), ConvNet([4]))
    audio = noise(2, 3200)
    mask = np.arange(3200) < np.array([[3200], [1600]])
    silenced = audio * mask
    np.testing.assert_allclose(
        numpy(model(audio, mask=mask)), numpy(model(silenced)), rtol=1e-4
    )
    # The maximum over time may be that of what is left.
    features = numpy(model.frontend(audio))
    assert (features != numpy(model.frontend(silenced))).any()


@pytest.mark.parametrize(
    "encoder",
    [
        lambda: keras.Sequential([layers.MaxPooling2D(16)]),
        lambda: keras.Sequential([layers.Conv2D(2, 9)]),
        lambda: ConvNet([2] * 6),
    ],
)
def test_encoder_that_needs_more_frames_is_an_error_that_names_it(encoder):
    encoder = encoder()
    model = AudioClassifier(3, mel(), encoder)
    message = rf"encoder `{encoder.name}` .*features of shape \(None, 5, 8, 1\)"
    with pytest.raises(ValueError, match=message):
        model.build((None, 800))


def test_encoder_for_other_channels_is_an_error_that_says_how_to_make_it():
    inputs = keras.Input((None, None, 1))
    outputs = layers.Conv2D(2, 3)(inputs)
    encoder = keras.Model(inputs, outputs, name="one_channel")
    two_channels = frontend.EfficientLeaf(n_filters=8, num_groups=2)
    model = AudioClassifier(3, two_channels, encoder)
    message = (
        "`one_channel` must take as many channels .* but it takes 1: .* "
        "`channels` in a config. .* shape \\(2, 10, 8, 2\\)"
    )
    with pytest.raises(ValueError, match=message):
        model(noise(2, 1600))


def test_encoder_that_leaves_an_empty_axis_is_an_error():
    class Slice(layers.Layer):
        def call(self, inputs):
            return inputs[:, 8:]

    model = AudioClassifier(3, mel(), Slice(name="slice"))
    message = r"`slice` needs more frames or bins. .* leaves \(None, 0, 8, 1\)"
    with pytest.raises(ValueError, match=message):
        model.build((None, 800))


def test_waveform_without_a_frontend_is_an_error():
    with pytest.raises(ValueError, match="`frontend` must be given for clips"):
        AudioClassifier(3, encoder=ConvNet([2]))(noise(2, 1600))
    with pytest.raises(ValueError, match="takes features of shape"):
        AudioClassifier(3, encoder=ConvNet([2]))(noise(2, 3, 4, 5, 6))


def test_the_number_of_outputs_may_be_an_integer_of_numpy():
    model = AudioClassifier(np.int64(3))
    assert model(noise(2, 10, 8)).shape == (2, 3)


@pytest.mark.parametrize(
    "kernel, bias",
    [
        (np.zeros((8, 5)), np.zeros(4)),
        (np.zeros((7, 4)), np.zeros(4)),
        (np.zeros((8, 0)), np.zeros(0)),
        (np.zeros(8), 0.0),
    ],
)
def test_a_head_that_does_not_fit_is_named(kernel, bias):
    model = AudioClassifier(3)
    model(noise(2, 10, 4, 8))
    with pytest.raises(ValueError, match="`kernel` must have .*channels"):
        model.with_head(kernel, bias)


def test_weights_of_a_model_without_any_are_an_error():
    built, other = AudioClassifier(3), AudioClassifier(3)
    built.build((None, 10, 4, 8))
    with pytest.raises(ValueError, match="`other` must be built"):
        built.take_weights(other)
    with pytest.raises(ValueError, match="The classifier must be built"):
        other.with_head(np.zeros((8, 2)), np.zeros(2))
