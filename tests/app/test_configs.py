"""The shipped configs are found, read and trained."""

import gin
import keras
import numpy as np
import pytest
from first_step import LABELS, loss_of_first_step
from tones import ROOT, one_step, write_tones

import leaf_audio
from leaf_audio import models
from leaf_audio.app import configuration, train

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
    "cola.gin": ["mel.gin"],
    "distill.gin": ["mel.gin", "own_recordings.gin"],
    "five_seconds.gin": ["mel.gin", "own_recordings.gin"],
    "linear_probe.gin": ["mel.gin", "own_recordings.gin"],
    "multitask.gin": ["mel.gin"],
    "own_recordings.gin": ["mel.gin"],
    "simclr.gin": ["mel.gin"],
    "tfrecords.gin": ["mel.gin"],
}
# The encoders of the paper, and many filters, are more than a step needs.
SMALL_CONV_NET = ["ConvNet.filters = [4, 4]"]
FEW_FILTERS = ["Leaf.n_filters = 8"]
SMALLER = {
    "distill.gin": [],
    "linear_probe.gin": [],
    "five_seconds.gin": [],
    "leaf_custom.gin": ["PANN.depth = 2", *FEW_FILTERS],
    "leaf_efficientnet_b0.gin": [],
    "leaf_erb.gin": [*SMALL_CONV_NET, *FEW_FILTERS],
    "own_recordings.gin": [],
    "quickstart.gin": [*SMALL_CONV_NET, *FEW_FILTERS],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("configs")
    write_tones(path / "tones")
    return path


def test_all_configs_of_the_issue_are_shipped():
    names = "common leaf leaf_custom mel sincnet sincnet_plus tfbanks"
    names += " quickstart leaf_efficientnet_b0 audio_folder efficient_leaf"
    assert set(CONFIGS) >= {f"{name}.gin" for name in names.split()}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow)
        if "efficientnet" in name
        else name
        for name in CONFIGS
        if name != "common.gin"
    ],
)
def test_a_config_trains_for_a_step(name):
    if keras.backend.backend() != "tensorflow":
        pytest.skip("another backend compiles for minutes")
    files = [*AFTER.get(name, ()), name]
    lines = ["train.workdir = 'x'", *SMALLER.get(name, SMALL_CONV_NET)]
    configuration.parse(files, lines)
    # A view has 15 others in a batch of 8 pairs.
    choices = 15 if name in ("cola.gin", "simclr.gin") else LABELS
    # An untrained model must not be sure of what it cannot know.
    assert loss_of_first_step(seq_len=5000) < 1.5 * np.log(choices)


def test_recipes_without_labels_may_follow_one_with_labels(folder, tmp_path):
    for name in ("cola", "simclr"):
        configuration.parse(
            ["mel.gin", "own_recordings.gin", f"{name}.gin"],
            [
                *one_step(folder, tmp_path / name, seq_len=5000),
                "ResNet.widths = [4, 8]",
            ],
        )
        assert np.isfinite(train.train()["metrics"]["test"]["loss"])


@pytest.fixture(scope="module")
def pretrained(folder, tmp_path_factory):
    """A run of a step, which others begin with or learn from."""
    workdir = tmp_path_factory.mktemp("pretrained") / "run"
    configuration.parse(
        ["mel.gin", "own_recordings.gin"],
        one_step(folder, workdir, seq_len=5000),
    )
    train.train()
    gin.clear_config()
    return workdir


def weights_of_encoder(workdir):
    model = keras.models.load_model(workdir / "best.keras", compile=False)
    return model.encoder.get_weights()


def test_a_student_learns_from_a_run(pretrained, folder, tmp_path):
    configuration.parse(
        ["mel.gin", "own_recordings.gin", "distill.gin"],
        [
            *one_step(folder, tmp_path / "run", seq_len=5000),
            f"RunTeacher.path = '{pretrained}'",
        ],
    )
    assert np.isfinite(train.train()["metrics"]["test"]["loss"])
    sizes = [
        sum(one.size for one in weights_of_encoder(workdir))
        for workdir in (tmp_path / "run", pretrained)
    ]
    assert sizes[0] < 0.12 * sizes[1]


def test_a_linear_probe_changes_the_dense_layer_alone(
    pretrained, folder, tmp_path
):
    configuration.parse(
        ["mel.gin", "own_recordings.gin", "linear_probe.gin"],
        [
            *one_step(folder, tmp_path / "run", seq_len=5000),
            f"train.init_from = '{pretrained}'",
        ],
    )
    train.train()
    first, made = [
        keras.models.load_model(workdir / "best.keras", compile=False)
        for workdir in (pretrained, tmp_path / "run")
    ]
    for one, other in zip(first.weights, made.weights, strict=True):
        if "/head/" not in one.path:
            np.testing.assert_array_equal(one, other, err_msg=one.path)
    assert np.asarray(made.head.bias).any()


def test_a_run_may_begin_with_a_model_that_comes_with_the_package(
    folder, tmp_path
):
    configuration.parse(
        ["leaf.gin", "own_recordings.gin"],
        [
            *one_step(folder, tmp_path / "run", seq_len=5000),
            "train.init_from = 'speech_commands'",
            "train.encoder_learning_rate_factor = 0",
        ],
    )
    results = train.train()
    assert results["data"]["labels"] == ["high", "low", "mid"]
    included = leaf_audio.load("speech_commands").model
    kernel = included.encoder.trainable_weights[0]
    model = keras.models.load_model(tmp_path / "run" / "best.keras")
    np.testing.assert_array_equal(model.encoder.trainable_weights[0], kernel)


def test_a_config_trains_on_a_folder_and_its_model_is_saved(folder, tmp_path):
    configuration.parse(
        ["leaf.gin"],
        [
            *one_step(folder, tmp_path / "run", seq_len=5000),
            *(*SMALL_CONV_NET, *FEW_FILTERS),
        ],
    )
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


def test_the_guide_to_augmentation_shows_the_recipe():
    guide = ROOT / "docs" / "augmentation.md"
    block = guide.read_text().split("```")[1]
    configuration.parse([], [block])
    shown = configuration.bound()
    configuration.parse(["mel.gin", "own_recordings.gin"], [])
    assert "prepare.transform_fns" in shown
    assert shown.items() <= configuration.bound().items()


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


def test_a_config_that_includes_itself_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own = (tmp_path / "mel.gin").resolve()
    own.write_text("include 'mel.gin'\nLeaf.n_filters = 7\n")
    message = (
        rf"include 'mel.gin' in {own}, so that {own} includes itself\. "
        "That of the package is 'example/configs/mel.gin'"
    )
    for lines in ([], ["include 'mel.gin'"]):
        with pytest.raises(ValueError, match=message):
            configuration.parse([] if lines else ["mel.gin"], lines)
    own.write_text("include 'example/configs/mel.gin'\n")
    configuration.parse(["mel.gin", "mel.gin"], [])
    inner = (tmp_path / "inner.gin").resolve()
    own.write_text("include 'inner.gin'\n")
    inner.write_text(f"include '{own}'\n")
    with pytest.raises(ValueError, match=f"{own} includes itself by {inner}"):
        configuration.parse(["mel.gin"], [])


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
        ("include 'nowhere.gin'", "`include` .*'nowhere.gin' in a binding"),
        ("include 'app/nowhere.gin'", "`include` .*'app/nowhere.gin' in a b"),
    ],
)
def test_a_misspelt_line_fails_and_is_named(line, named, monkeypatch):
    # Python takes its folder `app` for a package.
    monkeypatch.syspath_prepend(ROOT / "tests")
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


def test_a_misspelt_line_of_a_file_is_named_with_its_place(tmp_path):
    config = tmp_path / "own.gin"
    config.write_text("include 'leaf.gin'\n\nLeaf.n_filter = 3\n")
    with pytest.raises(ValueError) as caught:
        configuration.parse([str(config)], [])
    message = configuration.message(caught.value)
    assert f'In file "{config}", line 3' in message
    assert "Did you mean n_filters" in message


@pytest.mark.parametrize("name", ["leaf", "efficient_leaf", "mel", "sincnet"])
def test_a_recorded_config_builds_the_model_again(name, tmp_path):
    configuration.parse([f"{name}.gin"], [])
    first = gin.get_configurable("AudioClassifier")(num_outputs=2)
    recorded = tmp_path / "config.gin"
    recorded.write_text(configuration.operative_text())
    configuration.parse([str(recorded)], [])
    second = gin.get_configurable("AudioClassifier")(num_outputs=2)
    assert second.frontend.n_filters == first.frontend.n_filters
    assert type(second.frontend) is type(first.frontend)
