"""What a config binds to an argument is checked, and told in one line."""

import inspect

import gin
import pytest
from argument_kinds import VALUES
from arguments import (
    INDEXES,
    REQUIRED,
    arguments,
    is_legal,
)
from public_names import targets
from tones import main_flags, run_command

from leaf_audio.app import configurables, configuration, run, train  # noqa: F401

pytestmark = [pytest.mark.any_backend, pytest.mark.usefixtures("fresh_gin")]

# By the name in a config.
OWN = {
    **{name: one for name, one in targets().items() if "." not in name},
    "train": targets()["TrainingConfig"],
}
OWN = {
    name: one
    for name, one in OWN.items()
    if name in configurables.names() or name == "Study"
}
KERAS = {
    name: inspect.unwrap(gin.get_configurable(f"keras.{module}.{name}"))
    for module, names in configurables._KERAS.items()
    for name in names.split()
}
# One value of each type: test_arguments.py tries all of them.
TRIED = ("text", "negative", "bool")
# What the trainer passes itself, and what a config cannot write.
PASSED = {
    *("audio_data", "classifier", "data_dir", "fallback_sample_rate"),
    *("for_training", "inputs", "readers", "samples", "source", "transform"),
    *("more_targets", "views"),
}


def told(name, bound, passed):
    """Returns what a command prints about bindings, or None."""
    lines = [f"{name}.{key} = {value!r}" for key, value in bound.items()]
    try:
        configuration.parse([], lines)
        gin.get_configurable(name)(**passed)
    except run.EXPECTED_ERRORS as error:
        return configuration.message(error)
    return None


def is_right(message, argument, value):
    is_one_line = "\n" not in (message or "\n")
    return is_one_line and f"{argument}={value!r}" in message


@pytest.mark.parametrize("name", OWN)
def test_a_wrong_binding_is_told_in_one_line(name):
    target = OWN[name]
    owner = target.__name__
    required = REQUIRED.get(owner, {})
    # The folder of background noise can be bound.
    passes = PASSED | ({"folder"} if owner in INDEXES else set())
    passed = {k: v for k, v in required.items() if k in passes}
    bound = {k: v for k, v in required.items() if k not in passes}
    wrong = []
    for argument in arguments(owner, target):
        for label in TRIED:
            if argument in passes or is_legal(owner, argument, label):
                continue
            value = VALUES[label]
            message = told(name, {**bound, argument: value}, passed)
            if not is_right(message, argument, value):
                wrong.append(f"{argument}={value!r}: {message}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("name", KERAS)
def test_a_wrong_binding_of_a_part_of_keras_is_told_in_one_line(name):
    wrong = []
    for argument, parameter in KERAS[name].__signature__.parameters.items():
        values = {bool: [5, "no"], float: ["no", True], str: [5, True]}
        values[int] = ["no", 0.5]
        tried = values.get(type(parameter.default), [])
        if argument in ("beta_1", "beta_2", "epsilon", "momentum", "rho"):
            tried = [*tried, -2]
        for value in tried:
            message = told(name, {argument: value}, {})
            if not is_right(message, argument, value):
                wrong.append(f"{argument}={value!r}: {message}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    "name, lines, named",
    [
        (
            "BatchNormalization",
            ["BatchNormalization.momentum = 2"],
            "`momentum`.*momentum=2",
        ),
        (
            "Conv1D",
            ["Conv1D.filters = 'x'", "Conv1D.kernel_size = 3"],
            "Conv1D .*filters='x'",
        ),
        ("Dense", ["Dense.units = 'x'"], "Dense .*units='x'"),
        (
            "ConvNet",
            [
                "ConvNet.filters = [2]",
                "ConvNet.block = @ConvBlock",
                "ConvBlock.normalization_layer = @BatchNormalization",
                "BatchNormalization.momentum = 2",
            ],
            "`momentum`.*momentum=2",
        ),
        (
            "Leaf",
            ["Leaf.conv1d_cls = @GaborConv1D", "GaborConv1D.sort_filters = 1"],
            "`sort_filters`.*sort_filters=1",
        ),
        (
            "Leaf",
            ["Leaf.complex_conv_init = @ArrayInit"],
            "`complex_conv_init`.*ArrayInit",
        ),
        (
            "Leaf",
            ["Leaf.conv1d_cls = @ConvNet"],
            "`conv1d_cls` must make",
        ),
    ],
)
def test_a_wrong_binding_of_a_part_is_told(name, lines, named):
    configuration.parse([], lines)
    with pytest.raises(ValueError, match=named):
        gin.get_configurable(name)()


def test_an_initializer_may_be_named_without_parentheses():
    configuration.parse(
        [],
        [
            "Leaf.complex_conv_init = @GaborInit",
            "GaborInit.min_freq = 100.0",
        ],
    )
    leaf = gin.get_configurable("Leaf")()
    configuration.check_all_used()
    assert leaf.complex_conv_init.min_freq == 100.0


def test_wrong_settings_of_a_function_are_named_when_a_frontend_is_built():
    configuration.parse(
        [],
        [
            "Leaf.compression_fn = @log_compression",
            "log_compression.log_offset = 'x'",
        ],
    )
    leaf = gin.get_configurable("Leaf")()
    with pytest.raises(ValueError, match="`log_offset`.*log_offset='x'"):
        leaf.build((None, 1600))


def test_an_undefined_macro_is_named_with_its_place(tmp_path):
    config = tmp_path / "own.gin"
    config.write_text("count = 3\n\nLeaf.n_filters = %nf\n")
    with pytest.raises(ValueError) as error:
        configuration.parse([str(config)], [])
    assert str(error.value) == (
        "`%nf` must be defined, by a line such as nf = 1. Received: "
        f"Leaf.n_filters = %nf ({config}, line 3)."
    )
    with pytest.raises(ValueError, match=r"\(gin_bindings\). Did you mean %nf"):
        configuration.parse([], ["nf = 3", "align.seq_len = 2 ", "x = [%nff]"])


def test_bindings_without_effect_for_one_reason_share_a_line():
    configuration.parse(
        [],
        [
            "ConvNet.filters = [2]",
            "ConvBlock.dropout = 0.2",
            "ConvBlock.activation = 'relu'",
            "PANN.depth = 3",
        ],
    )
    gin.get_configurable("ConvNet")()
    with pytest.raises(ValueError) as error:
        configuration.check_all_used()
    _, block, pann = str(error.value).splitlines()
    assert "ConvBlock.activation" in block and "ConvBlock.dropout" in block
    assert block.count("nothing refers to @ConvBlock") == 1
    assert "PANN.depth" in pann


@pytest.mark.parametrize(
    "binding, named",
    [
        ("audio_folder.path = 3", "`audio_folder.path` must be"),
        ("MelFilterbanks.n_filters = -1", "`MelFilterbanks.n_filters` must be"),
    ],
)
def test_an_error_names_the_binding(tmp_path, binding, named):
    process = run_command(
        *("train", "--gin_config=example/configs/mel.gin"),
        "--gin_config=example/configs/audio_folder.gin",
        *main_flags([binding, f"train.workdir = '{tmp_path / 'run'}'"]),
    )
    assert process.returncode == 1
    assert process.stderr.splitlines()[-1].startswith(f"Error: {named}")
    assert "(In " not in process.stderr
