"""A binding that has no effect is an error, which says why."""

import contextlib

import gin
import pytest
from tones import bindings, write_tones

from leaf_audio.app import configuration, train

pytestmark = [pytest.mark.any_backend, pytest.mark.usefixtures("fresh_gin")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("unused")
    write_tones(path / "tones")
    return path


def build(name, *lines):
    """Builds a configurable as a config says, all of which must be used."""
    configuration.parse([], lines)
    built = gin.get_configurable(name)()
    configuration.check_all_used()
    return built


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
        "Leaf.compression_fn = @PCENLayer()",
        "PCENLayer.alpha = 0.9",
        "ConvNet.filters = [2, 2]",
        "ConvNet.block = @ConvBlock",
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


def test_a_binding_of_a_scope_is_used_by_calls_in_scopes_inside_it():
    lines = ["a/Leaf.n_filters = 3", "a/n = 20.0", "a/Leaf.window_len = %a/n"]
    configuration.parse([], lines)
    with gin.config_scope("a"), gin.config_scope("b"):
        leaf = gin.get_configurable("Leaf")()
    configuration.check_all_used()
    assert (leaf.n_filters, leaf.window_len) == (3, 20.0)


@pytest.mark.parametrize("scopes", [["ab"], ["b", "a"], []])
def test_a_binding_of_a_scope_is_not_used_by_calls_in_others(scopes):
    configuration.parse([], ["a/Leaf.n_filters = 3"])
    with contextlib.ExitStack() as stack:
        for scope in scopes:
            stack.enter_context(gin.config_scope(scope))
        gin.get_configurable("Leaf")()
    with pytest.raises(ValueError, match="any effect: a/Leaf.n_filters"):
        configuration.check_all_used()


def message_for(files, lines, name="AudioClassifier"):
    """Returns what is said about the bindings that nothing has used."""
    configuration.parse(files, lines)
    settings = {"num_outputs": 2} if name == "AudioClassifier" else {}
    gin.get_configurable(name)(**settings)
    with pytest.raises(ValueError) as error:
        configuration.check_all_used()
    return str(error.value)


@pytest.mark.parametrize(
    "line, advice",
    [
        ("PCENLayer.alpha = 0.9", "Leaf.compression_fn = @PCENLayer()"),
        ("GaborInit.max_freq = 9.0", "Leaf.complex_conv_init = @GaborInit()"),
        ("GaborConv1D.sort_filters = True", "Leaf.conv1d_cls = @GaborConv1D"),
        ("SpecAugment.time_mask_count = 1", "Leaf.spec_augment = @SpecAug"),
    ],
)
def test_a_missing_reference_is_shown(line, advice):
    reference = advice.partition(" = ")[2]
    message = message_for([], [line], "Leaf")
    assert f"nothing refers to {reference}" in message
    assert f"; write {advice}" in message


def test_a_file_and_a_line_are_named(tmp_path):
    config = tmp_path / "own.gin"
    config.write_text("\nLeaf.n_filters = 3\nPCENLayer.alpha = 0.9\n")
    message = message_for([str(config)], [], "Leaf")
    assert "own.gin, line 3): nothing refers to @PCENLayer()" in message
    assert "Leaf.n_filters" not in message


def test_a_name_that_is_near_is_suggested():
    message = message_for(
        [], ["spec_augmnt = True", "spec_augment = False"], "Leaf"
    )
    assert "spec_augmnt (gin_bindings): nothing reads %spec_augmnt" in message
    assert "did you mean spec_augment?" in message
    message = message_for(
        [],
        [
            "AudioClassifier.frontend = @SincNetPlus()",
            "SincNet.n_filters = 3",
        ],
    )
    assert "SincNet.n_filters (gin_bindings): nothing refers to" in message


def test_what_the_caller_passes_itself_is_told():
    message = message_for([], ["AudioClassifier.num_outputs = 3"])
    assert "what calls AudioClassifier passes `num_outputs` itself" in message


def test_a_config_that_replaces_a_part_of_a_shipped_one_needs_no_more():
    configuration.parse(
        ["leaf.gin"],
        [
            "Leaf.compression_fn = @log_compression",
            "log_compression.log_offset = 1e-3",
        ],
    )
    later = ["data.load", "data.prepare", "train", "AudioClassifier"]
    gin.get_configurable("Leaf")()
    configuration.check_all_used(later=later[:3], exempt=_of_classifier())
    configuration.parse(
        ["leaf.gin"],
        ["Leaf.compression_fn = 'log'", "PCENLayer.alpha = 0.9"],
    )
    gin.get_configurable("Leaf")()
    with pytest.raises(ValueError, match=r"any effect: PCENLayer.alpha\."):
        configuration.check_all_used(later=later[:3], exempt=_of_classifier())


def _of_classifier():
    return {
        key: value
        for key, value in configuration.bound().items()
        if key.startswith(("AudioClassifier.", "ConvNet."))
    }
