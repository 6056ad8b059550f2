"""What configs may name is built as they say."""

import functools
import inspect

import gin
import keras
import numpy as np
import pytest

from leaf_audio import (
    convolution,
    frontend,
    initializers,
    pooling,
    postprocessing,
)
from leaf_audio.app import configurables, configuration, train  # noqa: F401
from leaf_audio.initializers import spacing

pytestmark = [pytest.mark.any_backend, pytest.mark.usefixtures("fresh_gin")]


def build(name, *lines):
    """Builds a configurable as a config says, all of which must be used."""
    configuration.parse([], lines)
    built = gin.get_configurable(name)()
    configuration.check_all_used()
    return built


def build_on(config, name, *lines):
    """Builds a part of a shipped config; the lines must have an effect."""
    configuration.parse([config], [])
    shipped = configuration.bound()
    configuration.parse([config], lines)
    built = gin.get_configurable(name)()
    configuration.check_all_used(exempt=shipped)
    return built


def build_leaf(*lines):
    """Builds the frontend of leaf.gin, changed by some lines."""
    return build_on("leaf.gin", "Leaf", *lines)


def parts(leaf):
    """The layers of a frontend, as its config names them."""
    return {
        name: keras.saving.deserialize_keras_object(value)
        for name, value in leaf.get_config().items()
        if isinstance(value, dict)
    }


def test_gin_builds_instances_of_the_true_classes():
    leaf = build("Leaf", "Leaf.n_filters = 3", "Leaf.dtype = 'float64'")
    assert type(leaf) is frontend.Leaf
    assert leaf.dtype_policy.name == "float64"
    assert type(build("L2", "L2.l2 = 0.5")) is keras.regularizers.L2


@pytest.mark.parametrize(
    "name",
    [
        "Leaf",
        "MelFilterbanks",
        "SincNet",
        "SincNetPlus",
        "Spectrogram",
        "EfficientLeaf",
        "TimeDomainFilterbanks",
    ],
)
def test_a_frontend_takes_every_argument_it_can_keep(name):
    signature = inspect.unwrap(gin.get_configurable(name)).__signature__
    cls = getattr(frontend, name)
    assert set(signature.parameters) == {
        *(set(cls().get_config()) - {"dtype", "trainable"}),
        *("name", "dtype", "trainable"),
    }


def test_gabor_settings_reach_leaf_on_top_of_its_own():
    def centres_hz(leaf):
        leaf.build((None, 16000))
        kernel = parts(leaf)["conv1d_cls"].kernel_initializer((40, 2))
        return keras.ops.convert_to_numpy(kernel)[:, 0] * 8000 / np.pi

    default = centres_hz(frontend.Leaf())
    lower = centres_hz(build_leaf("GaborInit.max_freq = 4000"))
    expected = initializers.GaborInit(16000, 60.0, 4000)((40, 2))
    np.testing.assert_allclose(
        lower, keras.ops.convert_to_numpy(expected)[:, 0] * 8000 / np.pi
    )
    assert lower[-1] < 4000 < default[-1]
    same = centres_hz(build_leaf("GaborInit.normalize_energy = False"))
    np.testing.assert_array_equal(same, default)


@pytest.mark.parametrize("method", ("mel", *spacing.METHODS))
def test_one_line_chooses_the_filters_to_start_from(method):
    seed = ["GaborInit.seed = 3"] if method in spacing.RANDOM else []
    leaf = build_leaf(
        f"GaborInit.method = '{method}'",
        "Leaf.sample_rate = 8000",
        "Leaf.window_len = 20.0",
        *seed,
    )
    # What the frontend has settled comes from the frontend.
    expected = initializers.GaborInit(
        8000,
        60.0,
        "auto",
        window_len=20.0,
        method=method,
        seed=3 if seed else None,
    )
    found = parts(leaf)["conv1d_cls"].kernel_initializer
    assert found.get_config() == expected.get_config()


def test_filters_and_pooling_may_be_given_or_trained(tmp_path):
    trained = frontend.Leaf(n_filters=2)
    trained.build((None, 1600))
    trained.save(tmp_path / "trained.keras")
    leaf = build(
        "Leaf",
        "Leaf.n_filters = 2",
        "Leaf.complex_conv_init = @from_trained()",
        f"from_trained.source = '{tmp_path / 'trained.keras'}'",
        "Leaf.pooling_init = @ArrayInit()",
        "ArrayInit.values = [0.3, 0.2]",
    )
    leaf.build((None, 1600))
    kernel, pooled = (
        keras.ops.convert_to_numpy(w)
        for w in leaf.weights
        if "kernel" in w.name
    )
    (expected,) = (w for w in trained.weights if "complex_conv" in w.path)
    np.testing.assert_array_equal(kernel, keras.ops.convert_to_numpy(expected))
    np.testing.assert_allclose(pooled.ravel(), [0.3, 0.2], rtol=1e-6)


@pytest.mark.parametrize(
    "lines, expected",
    [
        (
            ["PCENLayer.parametrization = 'linear'"],
            {"parametrization": "linear"},
        ),
        (
            ["PCENLayer.alpha = [0.9, 0.8]", "Leaf.n_filters = 2"],
            {"alpha": [0.9, 0.8]},
        ),
        (
            [
                "PCENLayer.smooth_coef = @smoothing_coefficient()",
                "smoothing_coefficient.time_constant = 0.06",
                "smoothing_coefficient.sample_rate = 16000",
                "smoothing_coefficient.hop_length = 160",
            ],
            # T = 6 frames, (√(1 + 4 T²) − 1) / (2 T²).
            {"smooth_coef": pytest.approx(0.153355, rel=1e-5)},
        ),
    ],
)
def test_pcens_variants_reach_leaf(lines, expected):
    default = frontend.Leaf().compression.get_config()
    leaf = build_leaf(*lines)
    # The config learns logarithms where Leaf by itself does not.
    assert leaf.compression.get_config() == {
        **default,
        "parametrization": "log",
        **expected,
    }


def test_pcens_parameters_may_start_at_random():
    leaf = build_leaf(
        "PCENLayer.alpha = @RandomUniform()",
        "RandomUniform.minval = 0.5",
        "RandomUniform.maxval = 0.9",
    )
    leaf.build((None, 1600))
    alpha = np.exp(keras.ops.convert_to_numpy(leaf.compression.log_alpha))
    assert 0.5 < alpha.min() < alpha.max() < 0.9


def test_pcen_settings_reach_leaf_on_top_of_its_own():
    default = frontend.Leaf().compression.get_config()
    changed = build_leaf("PCENLayer.alpha = 0.5").compression.get_config()
    assert changed.pop("alpha") == 0.5
    assert changed.pop("parametrization") == "log"
    del default["alpha"], default["parametrization"]
    assert changed == default


def test_settings_reach_efficient_leaf_on_top_of_its_own():
    lines = [
        "LogTBN.a = 3.0",
        "GaborInit.max_freq = 4000.0",
        "EfficientLeaf.num_groups = 2",
    ]
    leaf = build_on("efficient_leaf.gin", "EfficientLeaf", *lines)
    assert leaf.compression.get_config()["a"] == 3.0
    assert leaf.compression.get_config()["median"] == "append"
    assert leaf.complex_conv_init.max_freq == 4000.0
    assert leaf.complex_conv_init.min_freq == 60.0
    assert leaf.complex_conv_init.method == "mel_analytic"
    assert leaf.num_groups == 2
    pcen = build_on(
        "efficient_leaf.gin",
        "EfficientLeaf",
        "EfficientLeaf.compression_fn = @PCENLayer()",
        "PCENLayer.alpha = 0.5",
        "PCENLayer.floor = 1e-12",
    )
    config = pcen.compression.get_config()
    assert (config["alpha"], config["floor"]) == (0.5, 1e-12)


def test_a_pcen_that_is_asked_for_has_its_own_defaults():
    leaf = build("Leaf", "Leaf.compression_fn = @PCENLayer()")
    own = postprocessing.PCENLayer().get_config()
    assert leaf.compression.get_config() == own


def test_spec_augment_settings_reach_leaf():
    leaf = build_leaf("spec_augment = True", "SpecAugment.time_mask_count = 5")
    layer = parts(leaf)["spec_augment"]
    assert type(layer) is postprocessing.SpecAugment
    assert layer.time_mask_count == 5


def test_pre_emphasis_settings_reach_leaf():
    leaf = build_leaf("Leaf.preemp = True", "PreempInit.alpha = 0.5")
    assert leaf.preemp_init.alpha == 0.5


def test_convolution_settings_reach_leaf():
    leaf = build_leaf("GaborConv1D.sort_filters = True")
    assert parts(leaf)["conv1d_cls"].sort_filters is True


def test_pooling_settings_reach_leaf():
    leaf = build(
        "Leaf",
        "Leaf.pooling_cls = @LearnablePooling1D",
        "Leaf.pooling_init = @LowpassInit()",
        "LowpassInit.window_type = 'hamming'",
    )
    layer = parts(leaf)["pooling_cls"]
    assert type(layer) is pooling.LearnablePooling1D
    assert layer.kernel_initializer.window_type == "hamming"


def test_sinc_settings_reach_leaf():
    leaf = build(
        "Leaf",
        "Leaf.conv1d_cls = @SincConv1D",
        "Leaf.complex_conv_init = @SincInit()",
        "SincInit.min_low_hz = 80.0",
    )
    layer = parts(leaf)["conv1d_cls"]
    assert type(layer) is convolution.SincConv1D
    assert layer.kernel_initializer.min_low_hz == 80.0


@pytest.mark.parametrize("name", ["Leaf", "MelFilterbanks"])
def test_log_settings_reach_frontends(name):
    built = build(
        name,
        f"{name}.compression_fn = @log_compression",
        "log_compression.log_offset = 0.01",
    )
    assert isinstance(built.compression, functools.partial)
    assert built.compression.func is frontend.log_compression
    assert built.compression.keywords == {"log_offset": 0.01}


def test_db_settings_reach_frontends():
    for name in ("Leaf", "MelFilterbanks", "Spectrogram"):
        built = build(
            name,
            f"{name}.compression_fn = @db_compression",
            "db_compression.top_db = 60.",
        )
        assert built.compression.func is frontend.db_compression
        assert built.compression.keywords == {"top_db": 60.0}
        gin.clear_config()


def test_decibels_are_of_the_frontends_power():
    audio = np.random.default_rng(0).normal(size=(1, 1600)).astype("float32")
    outputs = []
    for lines in (
        ["Spectrogram.compression_fn = 'db'"],
        [
            "Spectrogram.compression_fn = @db_compression",
            "db_compression.top_db = 80.0",
        ],
    ):
        spectrogram = build("Spectrogram", "Spectrogram.power = 1.0", *lines)
        outputs.append(spectrogram(audio))
        gin.clear_config()
    np.testing.assert_array_equal(
        *(keras.ops.convert_to_numpy(one) for one in outputs)
    )


@pytest.mark.parametrize(
    "name, line",
    [
        ("Leaf", "GaborConv1D.padding = 'valid'"),
        ("Leaf", "GaborConv1D.trainable = False"),
        ("Leaf", "GaussianLowpass.strides = 80"),
        ("ConvNet", "ConvBlock.max_pooling = False"),
    ],
)
def test_what_a_model_sets_itself_cannot_be_bound(name, line):
    more = {
        "ConvNet": ["ConvNet.filters = [2]", "ConvNet.block = @ConvBlock"],
        "Leaf": [
            "Leaf.conv1d_cls = @GaborConv1D",
            "Leaf.pooling_cls = @GaussianLowpass",
        ],
    }[name]
    argument = line.partition(" ")[0].partition(".")[2]
    with pytest.raises(ValueError, match=f"must not bind {argument}, which"):
        build(name, line, *more)


def test_block_settings_reach_a_conv_net(tmp_path):
    net = build(
        "ConvNet",
        "ConvNet.filters = [2, 3]",
        "ConvNet.block = @ConvBlock",
        "ConvBlock.dropout = 0.25",
        "ConvBlock.activation = @leaky_relu",
        "leaky_relu.negative_slope = 0.5",
        "ConvBlock.normalization_layer = @GroupNormalization",
        "GroupNormalization.groups = -1",
    )
    assert [block.dropout for block in net.chain] == [0.25, 0.25]
    spectrogram = np.random.default_rng(0).normal(size=(2, 8, 8, 1))
    before = net(spectrogram)
    net.save(tmp_path / "net.keras")
    after = keras.models.load_model(tmp_path / "net.keras")(spectrogram)
    np.testing.assert_array_equal(
        keras.ops.convert_to_numpy(before), keras.ops.convert_to_numpy(after)
    )
    norm = net.chain[0].normalization_layer
    assert type(norm) is keras.layers.GroupNormalization


def test_a_required_argument_is_named():
    configuration.parse([], [])
    with pytest.raises(ValueError, match="`filters` of ConvNet must be given"):
        gin.get_configurable("ConvNet")()


def test_every_network_of_keras_applications_has_a_head_for_spectrograms():
    networks = {
        name
        for name, value in vars(keras.applications).items()
        if inspect.isfunction(value)
    }
    registered = set(configurables._APPLICATIONS.split())
    assert registered == networks


@pytest.mark.parametrize(
    "name, channels, settings",
    [
        ("MobileNetV2", 448, ["MobileNetV2.alpha = 0.35"]),
        ("MobileNetV3Small", 432, ["MobileNetV3Small.alpha = 0.75"]),
        ("EfficientNetV2B0", 1280, []),
        ("ConvNeXtTiny", 768, []),
        ("ResNet50", 2048, []),
        ("DenseNet121", 1024, []),
    ],
)
def test_networks_take_one_channel_of_any_size(name, channels, settings):
    network = build(name, *settings)
    assert network.input_shape == (None, None, None, 1)
    if name != "MobileNetV2":
        assert network.output_shape == (None, None, None, channels)


def test_spec_augment_is_switched_on_by_one_macro():
    assert build_leaf().get_config()["spec_augment"] is None
    layer = parts(build_leaf("spec_augment = True"))["spec_augment"]
    assert type(layer) is postprocessing.SpecAugment
    gin.clear_config()
    own = parts(build_leaf("spec_augment = @SpecAugment()"))["spec_augment"]
    assert own.get_config() == {**layer.get_config(), "name": own.name}
