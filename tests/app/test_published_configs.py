"""The recipes of papers, on the data sets that they were published for."""

import inspect

import gin
import keras
import numpy as np
import pytest
from first_step import loss_of_first_step

from leaf_audio import data
from leaf_audio.app import configuration, data_configurables
from leaf_audio.data.clips import Task

pytestmark = [pytest.mark.any_backend, pytest.mark.usefixtures("fresh_gin")]

FOLDER = configuration.CONFIGS / "published"
# The data sets of TensorFlow Datasets: the feature with the label, and the
# number of labels. TFDS counts one speaker of VoxCeleb1 too many.
TFDS = {
    "crema_d": ("label", 6),
    "nsynth_instrument": ("instrument/family", 11),
    "nsynth_pitch": ("pitch", 128),
    "voxceleb": ("label", 1252),
    "voxforge": ("label", 6),
}
# Those that are read from the files of their owners.
FOLDERS = {
    "audioset": data.audioset_index,
    "bird_detection": data.bird_detection_index,
    "birdclef2021": data.birdclef2021_index,
    "speech_commands_35": data.speech_commands_index,
    "tut2018": data.tut2018_index,
}
RECIPES = {
    "audax_cola": ["audioset"],
    "audax_convnext_tiny": ["audioset"],
    "audax_efficientnet_b0": ["audioset"],
    "audax_linear_probe": ["speech_commands_35"],
    "audax_simclr": ["audioset"],
    "efficient_leaf_paper": [
        *("birdclef2021", "crema_d", "nsynth_instrument", "nsynth_pitch"),
        *("speech_commands_35", "voxforge"),
    ],
    "leaf_paper": [
        *("bird_detection", "crema_d", "nsynth_instrument", "nsynth_pitch"),
        *("speech_commands_35", "tut2018", "voxceleb", "voxforge"),
    ],
    "leaf_pytorch": ["speech_commands_35"],
}
# It names its data sets itself.
MULTITASK = "leaf_multitask"
CONFIGS = [*RECIPES, MULTITASK, *TFDS, *FOLDERS]


def parse(recipe, data_set):
    configuration.parse(
        [f"published/{recipe}.gin", f"published/{data_set}.gin"],
        ["train.workdir = 'x'"],
    )


def test_all_configs_are_tested():
    names = {file.stem for file in FOLDER.glob("*.gin")}
    assert names == set(CONFIGS)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_says_what_it_is_and_how_to_run_it(name):
    text = (FOLDER / f"{name}.gin").read_text()
    header = text[: text.index("\n\n")]
    assert "python -m example.main" in header
    assert f"--gin_config=example/configs/published/{name}.gin" in header
    data_sets = (
        RECIPES["leaf_paper"] if name == MULTITASK else RECIPES.get(name)
    )
    if data_sets:
        assert "Expected result" in header
        assert "Hardware" in header
        for data_set in data_sets:
            assert f"{data_set}.gin" in header


@pytest.mark.parametrize(
    "recipe, data_set",
    [(recipe, one) for recipe, some in RECIPES.items() for one in some],
)
def test_the_data_of_a_recipe_is_found(recipe, data_set):
    parse(recipe, data_set)
    loading = gin.get_bindings("data.load")
    name = gin.get_configurable("train.train")().dataset
    if data_set in FOLDERS:
        assert name == "audio_folder"
        index = gin.get_bindings("audio_folder")["index"]
        assert inspect.unwrap(index) is FOLDERS[data_set]
        return
    key, labels = TFDS[data_set]
    assert loading.get("label_key", "label") == key
    assert num_classes(name, key) == labels


def num_classes(name, key):
    """Returns how many labels a feature of a set of TFDS has."""
    tfds = pytest.importorskip("tensorflow_datasets")
    features = tfds.builder(name).info.features
    for part in key.split("/"):
        features = features[part]
    return features.num_classes


# The tasks of the LEAF paper: the config of each data set.
OF_TASKS = {
    "birds": "bird_detection",
    "emotions": "crema_d",
    "instruments": "nsynth_instrument",
    "languages": "voxforge",
    "pitches": "nsynth_pitch",
    "scenes": "tut2018",
    "speakers": "voxceleb",
    "words": "speech_commands_35",
}


def test_the_data_of_all_tasks_is_found():
    configuration.parse([f"published/{MULTITASK}.gin"], [])
    sets = gin.get_bindings("tasks")["sets"]
    assert {*OF_TASKS.values()} == {*RECIPES["leaf_paper"]}
    assert set(sets) == set(OF_TASKS)
    for task, data_set in OF_TASKS.items():
        if data_set in FOLDERS:
            index = gin.get_bindings(f"{task}/audio_folder")["index"]
            assert inspect.unwrap(index) is FOLDERS[data_set]
            continue
        key, labels = TFDS[data_set]
        own = {"name": sets[task]}
        if not isinstance(sets[task], str):
            own = gin.get_bindings(f"{task}/tfds_set")
        assert own.get("label_key", "label") == key
        assert num_classes(own["name"], key) == labels


@pytest.mark.slow
def test_the_recipe_of_all_tasks_trains_a_step():
    if keras.backend.backend() != "tensorflow":
        pytest.skip("another backend compiles for minutes")
    configuration.parse([f"published/{MULTITASK}.gin"], [])
    sizes = {"birds": 2, "pitches": 128, "scenes": 10}
    tasks = [
        Task(name, name, tuple(map(str, range(size))), 1.0)
        for name, size in sizes.items()
    ]
    # Of the first labels of all, those of the first two tasks.
    loss = loss_of_first_step(16000, labels=4, tasks=tasks)
    assert loss < 1.5 * (np.log(2) + np.log(128)) / 2


def test_an_index_that_is_called_is_told():
    configuration.parse([], ["audio_folder.index = @tut2018_index()"])
    with pytest.raises(ValueError, match="without parentheses: @tut2018_index"):
        gin.get_configurable("audio_folder")(path=".")


@pytest.mark.parametrize("channels", [1, 2])
def test_a_network_of_keras_gets_features_as_they_are(channels):
    """Not divided by 255, as if they were pixels."""
    configuration.parse([], [f"EfficientNetB0.channels = {channels}"])
    network = gin.get_configurable("EfficientNetB0")()
    assert network.input_shape == (None, None, None, channels)
    scales = [
        layer.scale
        for layer in network.layers
        if isinstance(layer, keras.layers.Rescaling)
    ]
    assert np.prod(scales) == pytest.approx(1)
    copy = keras.models.clone_model(network)
    assert copy.input_shape == network.input_shape


def test_channels_must_be_a_number():
    configuration.parse([], ["EfficientNetB0.channels = 0"])
    with pytest.raises(ValueError, match="channels=0"):
        gin.get_configurable("EfficientNetB0")()


@pytest.mark.parametrize(
    "recipe, labels, seconds",
    [
        # Of 8 pairs, a first view has 8 candidates, and any view 15.
        ("audax_cola", 8, 0.96),
        ("audax_convnext_tiny", 527, 5),
        ("audax_efficientnet_b0", 527, 5),
        ("audax_linear_probe", 35, 1),
        ("audax_simclr", 15, 0.96),
        ("efficient_leaf_paper", 397, 1),
        ("leaf_paper", 11, 1),
        ("leaf_pytorch", 35, 1),
    ],
)
@pytest.mark.slow
def test_a_recipe_trains_a_step(recipe, labels, seconds):
    """On noise of the shape of its clips, with as many labels."""
    if keras.backend.backend() != "tensorflow":
        pytest.skip("another backend compiles for minutes")
    parse(recipe, RECIPES[recipe][0])
    shape = data.example_shape(data_configurables.transform_fns())
    assert shape == (16000 * seconds,)
    several = RECIPES[recipe] == ["audioset"] and labels == 527
    loss = loss_of_first_step(shape[0], labels, is_multilabel=several)
    # The cross-entropy of guessing, for each label if there are several.
    assert loss < 1.5 * np.log(2 if several else labels)
