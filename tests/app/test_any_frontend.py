"""What a recipe asks for reaches whichever frontend is chosen, or is told."""

import itertools

import gin
import pytest

from leaf_audio.app import configuration, train  # noqa: F401
from leaf_audio.app.data_configurables import DATA_CONFIGURABLES
from leaf_audio.postprocessing import SpecAugment

pytestmark = [pytest.mark.any_backend, pytest.mark.usefixtures("fresh_gin")]

FRONTENDS = {
    "leaf.gin": "Leaf",
    "efficient_leaf.gin": "EfficientLeaf",
    "mel.gin": "MelFilterbanks",
    "sincnet.gin": "SincNet",
    "sincnet_plus.gin": "SincNetPlus",
    "tfbanks.gin": "TimeDomainFilterbanks",
}
RECIPE = "own_recordings.gin"


def build(files, lines=(), told=()):
    """Builds a classifier; returns it without data and training."""
    configuration.parse(files, lines)
    made = gin.get_configurable("AudioClassifier")(num_outputs=2)
    configuration.check_all_used(later=[*DATA_CONFIGURABLES, "train"])
    dropped = configuration.dropped()
    assert len(dropped) == len(told), dropped
    for line, expected in zip(dropped, told, strict=True):
        assert expected in line
    return made


def augmentation(made):
    return made.frontend.get_config()["spec_augment"]


@pytest.mark.parametrize("recipe", [[], ["audio_folder.gin", RECIPE]], ids=str)
@pytest.mark.parametrize("config", FRONTENDS)
def test_every_shipped_combination_is_silent(config, recipe):
    made = build([config, *recipe], ["sample_rate = 8000"])
    assert made.frontend.sample_rate == 8000
    assert (augmentation(made) is not None) == (RECIPE in recipe)


@pytest.mark.parametrize(
    "config",
    ["leaf_custom.gin", "leaf_erb.gin", "leaf_efficientnet_b0.gin"]
    + ["mel_pcen.gin", "quickstart.gin"],
)
def test_every_other_shipped_config_is_silent(config):
    small = ["PANN.depth = 2"] if config == "leaf_custom.gin" else []
    build([config], small)


@pytest.mark.parametrize(
    "config, name",
    [
        (config, name)
        for config, name in itertools.product(
            ["leaf.gin", "efficient_leaf.gin", "mel.gin"], FRONTENDS.values()
        )
        if FRONTENDS[config] != name
    ],
)
def test_a_recipe_reaches_the_frontend_that_replaces_another(config, name):
    made = build(
        [config, RECIPE],
        [f"AudioClassifier.frontend = @{name}()", "sample_rate = 8000"],
    )
    assert type(made.frontend).__name__ == name
    assert made.frontend.sample_rate == 8000
    layer = made.frontend._spec_augment
    assert isinstance(layer, SpecAugment)
    assert layer.time_mask_max_frames == 20


@pytest.mark.parametrize(
    "lines",
    [
        ["AudioClassifier.frontend = @some/MelFilterbanks()"],
        ["AudioClassifier.frontend = %one", "one = @MelFilterbanks()"],
    ],
)
def test_a_frontend_behind_a_scope_or_a_macro_is_found(lines):
    made = build(["leaf.gin", RECIPE], [*lines, "sample_rate = 8000"])
    assert made.frontend.sample_rate == 8000
    assert augmentation(made) is not None


def test_a_binding_of_the_frontend_itself_comes_first():
    lines = ["Frontend.sample_rate = 4000", "Leaf.sample_rate = 8000"]
    assert build(["leaf.gin"], lines).frontend.sample_rate == 8000
    assert build(["leaf.gin"], lines[:1]).frontend.sample_rate == 4000


def test_what_is_recorded_needs_no_binding_of_all_frontends(tmp_path):
    build(["leaf.gin", RECIPE], ["sample_rate = 8000"])
    text = configuration.operative_text()
    assert "Frontend.sample_rate" not in text
    (tmp_path / "config.gin").write_text(text)
    made = build([str(tmp_path / "config.gin")])
    assert made.frontend.sample_rate == 8000
    assert augmentation(made) is not None


WAVEGRAM = "AudioClassifier.frontend = @WaveGram()"


@pytest.mark.parametrize("config", ["leaf.gin", "mel.gin"])
def test_a_recipe_that_a_frontend_cannot_follow_is_told(config):
    with pytest.raises(ValueError) as error:
        build([config, RECIPE], [WAVEGRAM])
    message = str(error.value)
    for name in ("spec_augment", "SpecAugment.freq_mask_count"):
        assert f"{name} (" in message
    assert f"{RECIPE}, line" in message
    assert "@WaveGram() takes no `spec_augment`" in message
    assert "sample_rate" not in message and "common.gin" not in message


@pytest.mark.parametrize("config", ["leaf.gin", "mel.gin"])
@pytest.mark.parametrize("lines", [[], [WAVEGRAM]])
def test_a_recipe_without_its_masks_is_silent(config, lines):
    made = build([config, RECIPE], [*lines, "spec_augment = False"])
    assert lines or augmentation(made) is None


@pytest.mark.parametrize(
    "line", ["spec_augment = True", "Frontend.sample_rate = 8000"]
)
def test_the_command_line_is_told_the_same(line):
    with pytest.raises(ValueError) as error:
        build(["mel.gin"], [line, WAVEGRAM])
    name = line.partition(" ")[0]
    assert f"{name} (gin_bindings): @WaveGram() takes no" in str(error.value)


def test_settings_that_went_with_a_replaced_part_are_told(tmp_path):
    small = ["AudioClassifier.encoder = @PANN()", "PANN.depth = 2"]
    more = tmp_path / "more.gin"
    more.write_text("ResNet.drop_path = 0.1\n")
    told = ["since AudioClassifier.encoder is another: ResNet.drop_path ("]
    build(["mel.gin", RECIPE, str(more)], small, told)
    own = tmp_path / "own.gin"
    own.write_text("include 'leaf.gin'\nPCENLayer.alpha = 0.9\n")
    build(
        [str(own)],
        ["Leaf.compression_fn = 'log'"],
        ["Leaf.compression_fn is another: PCENLayer.alpha ("],
    )


def test_it_is_no_frontend_itself():
    with pytest.raises(ValueError, match="must not be called"):
        build([], ["AudioClassifier.frontend = @Frontend()"])
