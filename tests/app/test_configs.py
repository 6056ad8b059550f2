"""What configs may say, and what takes effect of it."""

import functools
import inspect

import gin
import keras
import numpy as np
import pytest
from tones import bindings, write_tones

from leaf_audio import (
    convolution,
    frontend,
    initializers,
    models,
    pooling,
    postprocessing,
)
from leaf_audio.app import configurables as external_configurables
from leaf_audio.app import configuration
from leaf_audio.initializers import spacing
from leaf_audio.training import train

pytestmark = [pytest.mark.any_backend, pytest.mark.usefixtures("fresh_gin")]

# Studies are configs of `example.study`, and have tests of their own.
CONFIGS = sorted(
    file.name
    for file in configuration.CONFIGS.glob("*.gin")
    if not file.name.startswith("study_")
)
# What a config is to be given after.
AFTER = {
    "audio_folder.gin": ["mel.gin"],
    "fast.gin": ["mel.gin", "small.gin"],
    "small.gin": ["mel.gin"],
    "small_plain.gin": ["mel.gin"],
}
# The encoders of the paper, and many filters, are more than a step needs.
SMALL_CONV_NET = ["ConvNet.filters = [4, 4]"]
FEW_FILTERS = ["Leaf.n_filters = 8"]
SMALLER = {
    "leaf_custom.gin": ["PANN.depth = 2", *FEW_FILTERS],
    "leaf_efficientnet_b0.gin": [],
    "leaf_erb.gin": [*SMALL_CONV_NET, *FEW_FILTERS],
    "quickstart.gin": [*SMALL_CONV_NET, *FEW_FILTERS],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("configs")
    write_tones(path / "tones")
    return path


def build(name, *lines):
    """Builds a configurable as a config says, all of which must be used."""
    configuration.parse([], lines)
    built = gin.get_configurable(name)()
    configuration.check_all_used()
    return built


def parts(leaf):
    """The layers of a frontend, as its config names them."""
    return {
        name: keras.saving.deserialize_keras_object(value)
        for name, value in leaf.get_config().items()
        if isinstance(value, dict)
    }


def test_all_configs_of_the_issue_are_shipped():
    names = "common leaf leaf_custom mel sincnet sincnet_plus tfbanks"
    names += " quickstart leaf_efficientnet_b0 audio_folder efficient_leaf"
    assert set(CONFIGS) >= {f"{name}.gin" for name in names.split()}


@pytest.mark.parametrize("name", sorted(set(CONFIGS) - {"common.gin"}))
def test_a_config_trains_for_a_step(folder, tmp_path, name, monkeypatch):
    if keras.backend.backend() != "tensorflow" and name != "leaf.gin":
        pytest.skip("another backend compiles for minutes; leaf.gin stands in")
    if name not in ("leaf.gin", "efficient_leaf.gin"):
        # Tracing so many networks for a step each would take minutes. The
        # frontends are compiled in their own tests.
        eager = property(lambda self: True, lambda self, value: None)
        monkeypatch.setattr(models.AudioClassifier, "run_eagerly", eager)
    files = [*AFTER.get(name, ()), name]
    lines = [
        "train.dataset = 'audio_folder'",
        f"audio_folder.path = '{folder / 'tones'}'",
        f"train.data_dir = '{folder / 'prepared'}'",
        f"train.workdir = '{tmp_path / 'run'}'",
        "train.num_epochs = 1",
        "train.steps_per_epoch = 1",
        "train.warmup_epochs = 0",
        "train.batch_size = 8",
        "align.seq_len = 5000",
        *SMALLER.get(name, SMALL_CONV_NET),
    ]
    configuration.parse(files, lines)
    results = train.train()
    assert np.isfinite(results["metrics"]["test"]["loss"])
    model = keras.models.load_model(tmp_path / "run" / "best.keras")
    assert type(model) is models.AudioClassifier


def test_a_config_says_how_to_run_it():
    for name in set(CONFIGS) - {"common.gin"}:
        text = (configuration.CONFIGS / name).read_text()
        header = text[: text.index("\n\n")]
        assert "python -m example.main" in header, name
        assert f"--gin_config=example/configs/{name}" in header, name


@pytest.mark.parametrize("name", ["leaf.gin", "example/configs/leaf.gin"])
def test_configs_and_their_includes_are_found_from_any_folder(
    tmp_path, monkeypatch, name
):
    monkeypatch.chdir(tmp_path)
    configuration.parse([name], [])
    assert configuration.bound()["Leaf.sample_rate"] == "16000"


def test_a_config_of_ones_own_may_include_a_shipped_one(tmp_path):
    own = tmp_path / "own.gin"
    own.write_text(
        "import leaf_audio.frontend\n"
        "include 'example/configs/leaf.gin'\n"
        "Leaf.n_filters = 7\n"
    )
    configuration.parse([str(own)], ["sample_rate = 8000"])
    leaf = gin.get_configurable("Leaf")()
    assert (leaf.n_filters, leaf.sample_rate) == (7, 8000)


@pytest.mark.parametrize(
    "line, named",
    [
        ("Leaf.n_filter = 3", "n_filter"),
        ("TimeDomainFilterbanks.pooling_cls = None", "pooling_cls"),
        ("Dense.unit = 3", "unit"),
        ("train.num_epoch = 3", "num_epoch"),
        ("Lief.n_filters = 3", "Lief"),
        ("AudioClassifier.frontend = @Lief()", "Lief"),
        ("Leaf.sample_rate = %rate", "rate"),
        ("Leaf.n_filters = ", "Received: Leaf.n_filters ="),
        ("Leaf.compression_fn = log_fn", r"^Failed to parse.*log_fn\n.*@name"),
        ("Leaf.n_filters = [3", "something is opened and never closed"),
        ("train.workdir = runs/one", "runs/one\n.*Text is quoted"),
        ("import leaf_audio.frontends", "leaf_audio.frontends"),
        ("include 'nowhere.gin'", "nowhere.gin"),
    ],
)
def test_a_misspelt_line_fails_and_is_named(line, named):
    with pytest.raises(ValueError, match=named):
        configuration.parse(["leaf.gin"], [line])


@pytest.mark.parametrize(
    "line, meant",
    [
        ("Lief.n_filters = 3", "Leaf"),
        ("AudioClassifier.frontend = @some/Lief()", "Leaf"),
        ("data.align.seqlen = 3", "seq_len"),
        ("leaf_audio.Lief.n_filters = 3", "Leaf"),
        ("leaf_audio.Lief.n_filters = 3", "Leaf"),
        ("Leaf.xyz = 3", None),
    ],
)
def test_the_message_suggests_what_was_meant(line, meant):
    with pytest.raises(ValueError) as caught:
        configuration.parse([], [line])
    message = configuration.message(caught.value)
    suggestion = message.partition("Did you mean ")[2]
    assert (meant in suggestion) if meant else not suggestion


def test_a_missing_config_is_named():
    with pytest.raises(ValueError, match="`gin_config` must name a file"):
        configuration.parse(["loaf.gin"], [])


@pytest.mark.parametrize(
    "line, named",
    [
        ("SincNet.n_filters = 8", "SincNet.n_filters"),
        ("SpecAugment.time_mask_count = 1", "SpecAugment.time_mask_count"),
        ("PANN.depth = 3", "PANN.depth"),
        ("clip_length = 16000", "clip_length"),
        ("data.prepare.seed = 3", "prepare.seed"),
        ("AudioClassifier.num_outputs = 3", "AudioClassifier.num_outputs"),
        ("Adam.learning_rate = 0.1", "Adam.learning_rate"),
        ("SGD.momentum = 0.9", "SGD.momentum"),
        ("other/Leaf.n_filters = 8", "other/Leaf.n_filters"),
    ],
)
def test_a_binding_that_nothing_uses_stops_training_and_is_named(
    folder, tmp_path, line, named
):
    workdir = tmp_path / "run"
    configuration.parse(
        [], bindings(folder, line, f"train.workdir = '{workdir}'")
    )
    with pytest.raises(ValueError, match=f"any effect: {named}\\."):
        train.train()
    assert not (workdir / "config.gin").exists()


def test_an_overridden_binding_counts_as_used():
    build("Leaf", "n = 3", "Leaf.n_filters = 4", "Leaf.n_filters = %n")


@pytest.mark.parametrize(
    "lines",
    [
        ["AudioClassifier.encoder = @Permute()", "Permute.dims = (1, 3, 2)"],
        ["ConvNet.filters = [3]", "AudioClassifier.encoder = None"],
        [
            "AudioClassifier.frontend = @MelFilterbanks()",
            "MelFilterbanks.sample_rate = 8000",
            "AudioClassifier.encoder = None",
        ],
    ],
)
def test_what_configures_a_replaced_part_need_not_be_used(lines):
    earlier = [
        "rate = 8000",
        "AudioClassifier.frontend = @Leaf()",
        "AudioClassifier.encoder = @ConvNet()",
        "Leaf.sample_rate = %rate",
        "PCENLayer.alpha = 0.9",
        "ConvNet.filters = [2, 2]",
        "ConvBlock.normalization_layer = @BatchNormalization",
        "BatchNormalization.momentum = 0.9",
    ]
    configuration.parse([], [*earlier, *lines])
    gin.get_configurable("AudioClassifier")(num_outputs=2)
    configuration.check_all_used()


@pytest.mark.parametrize(
    "line", ["ConvNet.filters = [3]", "SincNet.n_filters = 3"]
)
def test_a_replaced_part_excuses_no_later_and_no_other_binding(line):
    configuration.parse(
        [],
        [
            "SincNet.window_len = 3",
            "AudioClassifier.frontend = @Leaf()",
            "AudioClassifier.encoder = @ConvNet()",
            "ConvNet.filters = [2, 2]",
            "AudioClassifier.encoder = None",
            line,
        ],
    )
    gin.get_configurable("AudioClassifier")(num_outputs=2)
    with pytest.raises(ValueError) as error:
        configuration.check_all_used()
    assert line.partition(" ")[0] in str(error.value)
    assert "SincNet.window_len" in str(error.value)


def test_a_scoped_binding_counts_as_used_in_its_scope():
    configuration.parse(
        [],
        [
            "AudioClassifier.frontend = @small/Leaf()",
            "small/Leaf.n_filters = 3",
            "Leaf.window_len = 20.0",
        ],
    )
    model = gin.get_configurable("AudioClassifier")(num_outputs=2)
    configuration.check_all_used()
    assert (model.frontend.n_filters, model.frontend.window_len) == (3, 20.0)


def test_differences_name_the_bindings():
    assert configuration.differences(
        {"a": "1", "b": "2", "c": "3"}, {"a": "1", "b": "5", "d": "4"}
    ) == ["b (was 2, is 5)", "c (was 3, is not set)", "d (was not set, is 4)"]


def test_values_read_the_same_however_they_were_written():
    configuration.parse(
        [],
        [
            "n = 3",
            "Leaf.n_filters = %n",
            "ConvNet.filters = (4, %n)",
            "AudioClassifier.frontend = @leaf_audio.frontend.Leaf()",
        ],
    )
    assert configuration.bound() == {
        "n": "3",
        "Leaf.n_filters": "3",
        "ConvNet.filters": "[4, 3]",
        "AudioClassifier.frontend": "@Leaf()",
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
    lower = centres_hz(build("Leaf", "GaborInit.max_freq = 4000"))
    expected = initializers.GaborInit(16000, 60.0, 4000)((40, 2))
    np.testing.assert_allclose(
        lower, keras.ops.convert_to_numpy(expected)[:, 0] * 8000 / np.pi
    )
    assert lower[-1] < 4000 < default[-1]
    same = centres_hz(build("Leaf", "GaborInit.normalize_energy = False"))
    np.testing.assert_array_equal(same, default)


@pytest.mark.parametrize("method", ("mel", *spacing.METHODS))
def test_one_line_chooses_the_filters_to_start_from(method):
    seed = ["GaborInit.seed = 3"] if method in spacing.RANDOM else []
    leaf = build(
        "Leaf",
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
        (["PCENLayer.parametrization = 'log'"], {"parametrization": "log"}),
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
    leaf = build("Leaf", *lines)
    assert leaf.compression.get_config() == {**default, **expected}


def test_pcens_parameters_may_start_at_random():
    leaf = build(
        "Leaf",
        "PCENLayer.alpha = @RandomUniform()",
        "RandomUniform.minval = 0.5",
        "RandomUniform.maxval = 0.9",
    )
    leaf.build((None, 1600))
    alpha = keras.ops.convert_to_numpy(leaf.compression.alpha)
    assert 0.5 < alpha.min() < alpha.max() < 0.9


def test_pcen_settings_reach_leaf_on_top_of_its_own():
    default = frontend.Leaf().compression.get_config()
    changed = build("Leaf", "PCENLayer.alpha = 0.5").compression.get_config()
    assert changed.pop("alpha") == 0.5
    del default["alpha"]
    assert changed == default


def test_settings_reach_efficient_leaf_on_top_of_its_own():
    lines = [
        "LogTBN.a = 3.0",
        "GaborInit.max_freq = 4000.0",
        "EfficientLeaf.num_groups = 2",
    ]
    leaf = build("EfficientLeaf", *lines)
    assert leaf.compression.get_config()["a"] == 3.0
    assert leaf.compression.get_config()["median"] == "append"
    assert leaf.complex_conv_init.max_freq == 4000.0
    assert leaf.complex_conv_init.min_freq == 60.0
    assert leaf.complex_conv_init.method == "mel_analytic"
    assert leaf.num_groups == 2
    pcen = build(
        "EfficientLeaf",
        "EfficientLeaf.compression_fn = 'pcen'",
        "PCENLayer.alpha = 0.5",
    )
    config = pcen.compression.get_config()
    assert (config["alpha"], config["floor"]) == (0.5, 1e-12)


def test_a_pcen_that_is_asked_for_has_its_own_defaults():
    leaf = build("Leaf", "Leaf.compression_fn = @PCENLayer()")
    own = postprocessing.PCENLayer().get_config()
    assert leaf.compression.get_config() == own


def test_spec_augment_settings_reach_leaf():
    leaf = build(
        "Leaf", "Leaf.spec_augment = True", "SpecAugment.time_mask_count = 5"
    )
    layer = parts(leaf)["spec_augment"]
    assert type(layer) is postprocessing.SpecAugment
    assert layer.time_mask_count == 5


def test_pre_emphasis_settings_reach_leaf():
    leaf = build("Leaf", "Leaf.preemp = True", "PreempInit.alpha = 0.5")
    assert leaf.preemp_init.alpha == 0.5


def test_convolution_settings_reach_leaf():
    leaf = build("Leaf", "GaborConv1D.sort_filters = True")
    assert parts(leaf)["conv1d_cls"].sort_filters is True


def test_pooling_settings_reach_leaf():
    leaf = build(
        "Leaf",
        "Leaf.pooling_cls = @LearnablePooling1D",
        "LowpassInit.window_type = 'hamming'",
    )
    layer = parts(leaf)["pooling_cls"]
    assert type(layer) is pooling.LearnablePooling1D
    assert layer.kernel_initializer.window_type == "hamming"


def test_sinc_settings_reach_leaf():
    leaf = build(
        "Leaf",
        "Leaf.conv1d_cls = @SincConv1D",
        "SincInit.min_low_hz = 80.0",
    )
    layer = parts(leaf)["conv1d_cls"]
    assert type(layer) is convolution.SincConv1D
    assert layer.kernel_initializer.min_low_hz == 80.0


@pytest.mark.parametrize(
    "line", ["Leaf.compression_fn = @log_compression", "Leaf.name = 'leaf'"]
)
def test_log_settings_reach_frontends(line):
    name = "Leaf" if "log" in line else "MelFilterbanks"
    lines = [line] if "log" in line else []
    built = build(name, *lines, "log_compression.log_offset = 0.01")
    assert isinstance(built.compression, functools.partial)
    assert built.compression.func is frontend.log_compression
    assert built.compression.keywords == {"log_offset": 0.01}


def test_db_settings_reach_frontends():
    for name in ("Leaf", "MelFilterbanks", "Spectrogram"):
        built = build(
            name, f"{name}.compression_fn = 'db'", "db_compression.top_db = 60."
        )
        assert built.compression.func is frontend.db_compression
        assert built.compression.keywords == {"top_db": 60.0}
        gin.clear_config()


def test_decibels_are_of_the_frontends_power():
    lines = ["Spectrogram.power = 1.0", "Spectrogram.compression_fn = 'db'"]
    audio = np.random.default_rng(0).normal(size=(1, 1600)).astype("float32")
    outputs = []
    for more in ([], ["db_compression.top_db = 80.0"]):
        outputs.append(build("Spectrogram", *lines, *more)(audio))
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
    more = ["ConvNet.filters = [2]"] if name == "ConvNet" else []
    argument = line.partition(" ")[0].partition(".")[2]
    with pytest.raises(ValueError, match=f"must not bind {argument}, which"):
        build(name, line, *more)


def test_block_settings_reach_a_conv_net(tmp_path):
    net = build(
        "ConvNet",
        "ConvNet.filters = [2, 3]",
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
    registered = set(external_configurables._APPLICATIONS.split())
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
