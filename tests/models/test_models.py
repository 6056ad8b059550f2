"""Heads: shapes and sizes of the published ones, and Keras' habits."""

import functools

import keras
import numpy as np
import pytest
from keras import layers, ops

from leaf_audio import frontend, models
from leaf_audio.models import (
    PANN,
    AudioClassifier,
    ConvBlock,
    ConvNet,
    PANNConvBlock,
    PANNWavBlock,
    WaveGram,
)


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def numpy(tensor) -> np.ndarray:
    return ops.convert_to_numpy(ops.cast(tensor, "float32"))


def mel(**kwargs) -> frontend.MelFilterbanks:
    return frontend.MelFilterbanks(n_filters=8, n_fft=512, **kwargs)


def small_classifier(**kwargs) -> AudioClassifier:
    return AudioClassifier(3, mel(), ConvNet([4, 6]), **kwargs)


def all_parts(layer: layers.Layer) -> list[layers.Layer]:
    parts = [layer]
    for part in getattr(layer, "layers", []):
        parts += all_parts(part)
    return parts


MODELS = {
    "ConvBlock": (
        lambda: ConvBlock(
            4,
            activation=layers.PReLU(shared_axes=[1, 2]),
            normalization_layer=layers.LayerNormalization,
            dropout=0.25,
            max_pooling=False,
            name="block",
        ),
        (2, 12, 8, 1),
    ),
    "ConvNet": (lambda: ConvNet([4, 6, 5]), (2, 12, 8, 1)),
    "ConvNet_block": (
        lambda: ConvNet(
            (4, 6),
            functools.partial(
                ConvBlock, activation="gelu", normalization_layer="instance"
            ),
        ),
        (2, 12, 8, 1),
    ),
    "PANN": (lambda: PANN(depth=1, dropout_rate=0.5), (2, 11, 8, 1)),
    "PANNConvBlock": (lambda: PANNConvBlock(3, (2, 1)), (2, 11, 8, 1)),
    "PANNWavBlock": (lambda: PANNWavBlock(3, 2), (2, 21, 2)),
    "WaveGram": (WaveGram, (2, 1300)),
    "AudioClassifier": (small_classifier, (2, 1600)),
}


@pytest.fixture
def channels_first():
    before = keras.config.image_data_format()
    keras.config.set_image_data_format("channels_first")
    yield
    keras.config.set_image_data_format(before)


UNKNOWN_TIME = {
    name: (None, None, *shape[2:]) for name, (_, shape) in MODELS.items()
}
every_model = pytest.mark.parametrize("name", MODELS)


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
def test_every_weight_trains(name):
    make, shape = MODELS[name]
    model, inputs = make(), noise(*shape)
    model.compile(keras.optimizers.Adam(0.1), "mse")
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
    expected = "float32" if name == "AudioClassifier" else dtype[6:]
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


@pytest.mark.any_backend
def test_convnet_has_the_originals_shape_and_size():
    model = ConvNet([64, 128, 256, 256, 512, 512])
    model.build((1, 100, 40, 1))
    assert model.count_params() == 3_544_128
    assert model.compute_output_shape((1, 100, 40, 1)) == (1, 6, 2, 512)


@pytest.mark.any_backend
def test_pann_of_depth_four_has_the_originals_shape_and_size():
    model = PANN(depth=4)
    model.build((1, 100, 40, 1))
    assert model.count_params() == 4_690_144
    assert model.compute_output_shape((1, 100, 40, 1)) == (1, 7, 3, 512)


def block_size(channels: int, filters: int) -> int:
    """Two 3×3 kernels without bias, two batch norms of four numbers each."""
    return 9 * channels * filters + 9 * filters**2 + 8 * filters


@pytest.mark.any_backend
@pytest.mark.parametrize("channels,filters", [(1, 8), (8, 12)])
def test_pann_block_has_the_size_that_the_next_test_adds_up(channels, filters):
    block = PANNConvBlock(filters)
    block.build((None, None, 4, channels))
    assert block.count_params() == block_size(channels, filters)


@pytest.mark.parametrize(
    "depth,size,shape",
    [
        (4, 4_690_144, (1, 7, 3, 512)),
        (6, 75_493_600, (1, 4, 2, 2048)),
        (7, 151_007_456, (1, 4, 2, 2048)),
    ],
)
def test_deep_pann_has_the_originals_size(depth, size, shape):
    """Added up, for the weights themselves would take 600 MB."""
    model = PANN(depth=depth)
    total, channels = 4 * 40, 1
    for block in model.chain:
        if isinstance(block, PANNConvBlock):
            total += block_size(channels, block.filters)
            channels = block.filters
    assert total == size
    assert model.compute_output_shape((1, 100, 40, 1)) == shape


def test_pann_normalises_each_bin():
    model = PANN(depth=1)
    model.build((None, None, 5, 1))
    assert model.chain[0].gamma.shape == (5,)


def test_wavegram_has_the_originals_shape_and_size():
    model = WaveGram()
    outputs = model(noise(1, 16000))
    assert tuple(outputs.shape) == (1, 25, 64, 1)
    assert model.count_params() == 311_232


def test_wavegram_takes_waveforms_with_and_without_channel_axis():
    model, audio = WaveGram(), noise(2, 1300)
    np.testing.assert_allclose(
        numpy(model(audio[..., None])), numpy(model(audio)), rtol=1e-6
    )


def test_wavegrams_second_convolution_is_dilated():
    """An impulse reaches 1 tap by the first, 2 more by the second."""
    block = PANNWavBlock(1, pool_size=1)
    block.build((None, 21, 1))
    for layer in block.chain:
        if isinstance(layer, layers.Conv1D):
            layer.kernel.assign(np.ones(layer.kernel.shape))
    impulse = np.zeros((1, 21, 1), "float32")
    impulse[0, 10] = 1
    reached = np.flatnonzero(numpy(block(impulse))[0, :, 0] > 1e-3)
    np.testing.assert_array_equal(reached, np.arange(7, 14))


def test_conv_block_is_the_layers_of_its_definition_in_order():
    block = ConvBlock(4, dropout=0.5)
    assert [type(layer) for layer in block.chain] == [
        *2
        * [
            layers.Conv2D,
            layers.Activation,
            layers.BatchNormalization,
            layers.Dropout,
        ],
        layers.MaxPooling2D,
    ]
    assert block.chain[0].kernel_size == (3, 1)
    assert block.chain[4].kernel_size == (1, 3)


@pytest.mark.parametrize(
    "value,expected",
    [
        ("layer", layers.LayerNormalization),
        ("instance", layers.GroupNormalization),
        (layers.LayerNormalization, layers.LayerNormalization),
        (
            lambda: layers.GroupNormalization(groups=2),
            layers.GroupNormalization,
        ),
        (layers.LayerNormalization(epsilon=0.5), layers.LayerNormalization),
    ],
)
def test_normalization_layer_is_made_twice_and_survives_the_config(
    value, expected
):
    block = ConvBlock(4, normalization_layer=value)
    again = ConvBlock.from_config(block.get_config())
    for model in (block, again):
        made = [layer for layer in model.chain if isinstance(layer, expected)]
        assert len(made) == 2 and made[0] is not made[1]
        assert value not in made
    if isinstance(value, layers.Layer):
        assert again.chain[2].epsilon == 0.5


def test_no_normalization_and_no_dropout_leave_no_layer():
    block = ConvBlock(4, normalization_layer=None, max_pooling=False)
    assert [type(layer) for layer in block.chain] == 2 * [
        layers.Conv2D,
        layers.Activation,
    ]


def test_activation_is_applied():
    inputs = noise(1, 4, 4, 1)
    for activation in ("sigmoid", keras.activations.sigmoid, layers.Softmax()):
        block = ConvBlock(
            2, activation, normalization_layer=None, max_pooling=False
        )
        outputs = numpy(block(inputs))
        assert (outputs > 0).all() and (outputs < 1).all()


def test_blocks_share_no_layer_that_was_given():
    given = layers.LayerNormalization()
    net = ConvNet(
        [2, 3], functools.partial(ConvBlock, normalization_layer=given)
    )
    net.build((None, 8, 8, 1))
    assert not given.built
    assert len(net.trainable_weights) == 2 * 2 * 4


def test_convnet_pools_first_and_then_every_other_block():
    pools = [block.max_pooling for block in ConvNet([1] * 6).chain]
    assert pools == [True, True, False, True, False, True]


def test_block_callable_makes_the_blocks():
    calls = []

    def block(**kwargs):
        calls.append(kwargs)
        return layers.Conv2D(kwargs["num_filters"], 1)

    net = ConvNet([3, 5, 7], block)
    assert calls == [
        {"num_filters": 3, "max_pooling": True},
        {"num_filters": 5, "max_pooling": True},
        {"num_filters": 7, "max_pooling": False},
    ]
    assert tuple(net(noise(1, 8, 8, 1)).shape) == (1, 8, 8, 7)
    again = ConvNet.from_config(net.get_config())
    assert [layer.filters for layer in again.chain] == [3, 5, 7]


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
    assert (numpy(model(audio)) != numpy(model(silenced))).any()


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


def test_input_that_becomes_too_short_is_an_error():
    model = ConvNet([2, 2])
    model(noise(1, 8, 8, 1))
    with pytest.raises(ValueError, match="needs at least 4 frames"):
        model(noise(1, 3, 8, 1))


def test_smallest_input_suffices():
    assert tuple(ConvNet([2] * 6)(noise(1, 16, 16, 1)).shape) == (1, 1, 1, 2)
    assert tuple(PANN(1)(noise(1, 1, 1, 1)).shape) == (1, 1, 1, 64)
    assert tuple(WaveGram()(noise(1, 1)).shape) == (1, 1, 64, 1)


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


def test_encoder_that_leaves_an_empty_axis_is_an_error():
    class Slice(layers.Layer):
        def call(self, inputs):
            return inputs[:, 8:]

    model = AudioClassifier(3, mel(), Slice(name="slice"))
    message = r"`slice` needs more frames or bins. .* leaves \(None, 0, 8, 1\)"
    with pytest.raises(ValueError, match=message):
        model.build((None, 800))


def test_waveform_without_a_frontend_is_an_error():
    with pytest.raises(ValueError, match="takes features of shape"):
        AudioClassifier(3, encoder=ConvNet([2]))(noise(2, 1600))


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
            "`normalization_layer` must be .*normalization_layer=<function",
        ),
        (lambda: ConvNet([]), r"`filters` must be .*filters=\[\]"),
        (lambda: ConvNet(64), "`filters` must be .*filters=64"),
        (lambda: ConvNet([64, 0]), "`filters` must be .*filters=0"),
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
        assert getattr(models, name).__module__ == "leaf_audio.models"


@pytest.mark.parametrize("name", MODELS)
def test_kerass_image_data_format_changes_nothing(name, request):
    make, shape = MODELS[name]
    expected = make().compute_output_shape(shape)
    request.getfixturevalue("channels_first")
    model = make()
    assert model.compute_output_shape(shape) == expected
    assert model(np.ones(shape, "float32")).shape == expected
