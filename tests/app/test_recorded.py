"""A run's settings are read as data, and gin is left as it was."""

import json
import shutil

import gin
import numpy as np
import pytest
from tones import bindings, write_tones

from leaf_audio.app import configuration, predict, recorded, run
from leaf_audio.training import Workdir

pytestmark = [pytest.mark.any_backend, pytest.mark.usefixtures("fresh_gin")]

# Settings that a stranger might write, by what they would do.
HOSTILE = {
    "an import in a value": {"align.seq_len": "500\nimport harm"},
    "an include": {"align.seq_len": "500\ninclude 'harm.gin'"},
    "a loader as a transform": {
        "data.prepare.transform_fns": "[@from_trained]"
    },
    "a call": {"data.prepare.transform_fns": "[@align()]"},
    "a call as a value": {"align.seq_len": "@from_trained()"},
    "a function of a module": {"data.prepare.transform_fns": "[@harm.run]"},
    "a macro": {"align.seq_len": "%length"},
    "no value": {"align.seq_len": "500 +"},
    "Python": {"align.seq_len": "__import__('harm')"},
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a short run, and a recording."""
    folder = tmp_path_factory.mktemp("recorded")
    write_tones(folder / "tones")
    lines = bindings(
        folder, f"train.workdir = '{folder / 'run'}'", "train.num_epochs = 1"
    )
    run.train([], ["length = 500", *lines, "align.seq_len = %length"])
    return folder / "run", str(folder / "tones/test/low/0.wav")


@pytest.fixture
def workdir(trained, tmp_path, monkeypatch):
    """A copy of the run, whose config would do harm if gin read it."""
    (tmp_path / "harm.py").write_text(
        "import pathlib\npathlib.Path(__file__).with_name('done').touch()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    copy = shutil.copytree(trained[0], tmp_path / "run")
    text = (copy / "config.gin").read_text()
    (tmp_path / "harm.gin").write_text("import harm\n")
    (copy / "config.gin").write_text(f"import harm\ninclude 'harm.gin'\n{text}")
    yield copy
    assert not (tmp_path / "done").exists()


def test_training_records_its_settings_as_data(trained):
    workdir, _ = trained
    settings = json.loads((workdir / "settings.json").read_text())
    results = json.loads((workdir / "results.json").read_text())
    assert settings == results["config"]
    assert settings["align.seq_len"] == "500"
    assert settings["prepare.transform_fns"] == "[@align]"
    assert settings["MelFilterbanks.n_filters"] == "8"
    lines = recorded.data_bindings(settings)
    assert "align.seq_len = 500" in lines
    assert not any("MelFilterbanks" in line for line in lines)


def test_the_config_of_a_run_is_not_executed(workdir, trained):
    _, recording = trained
    expected = predict.predict(str(trained[0]), [recording])
    assert predict.predict(str(workdir), [recording]) == expected
    run.evaluate([], [f"train.workdir = '{workdir}'"])
    # A run of an earlier version has nothing but this config.
    (workdir / "settings.json").unlink()
    assert predict.predict(str(workdir), [recording]) == expected
    run.evaluate([], [f"train.workdir = '{workdir}'"])
    results = json.loads((workdir / "results.json").read_text())
    (file,) = workdir.glob("evaluations/*/evaluation.json")
    evaluation = json.loads(file.read_text())
    assert evaluation["metrics"] == results["metrics"]


@pytest.mark.parametrize("name", HOSTILE)
def test_made_up_settings_run_nothing(name, workdir, trained):
    file = workdir / "settings.json"
    settings = json.loads(file.read_text())
    file.write_text(json.dumps(settings | HOSTILE[name]))
    with pytest.raises(ValueError, match="recorded"):
        predict.predict(str(workdir), [trained[1]])
    with pytest.raises(ValueError, match="recorded"):
        run.evaluate([], [f"train.workdir = '{workdir}'"])


def test_settings_of_other_things_than_data_are_left_out():
    settings = {
        "import harm\nalign.seq_len": "500",
        "harm.run": "1",
        "train.optimizer": "@harm.run",
        "Leaf.n_filters": "9",
        "train.batch_size": "5",
        "short/align.seq_len": "7",
    }
    assert recorded.data_bindings(settings) == [
        "train.batch_size = 5",
        "short/align.seq_len = 7",
    ]


def test_transforms_of_audiomentations_are_left_out():
    settings = {
        "data.prepare.transform_fns": "[@align, @Audiomentation(),"
        " @some/data.Audiomentation(), @gain]",
        "Audiomentation.transform": "@PitchShift()",
        "PitchShift.p": "0.3",
    }
    assert recorded.data_bindings(settings) == [
        "prepare.transform_fns = [@align, @gain]"
    ]


@pytest.mark.parametrize(
    "content, message",
    [
        ("[1", "settings.json must .* a file that is no JSON"),
        ("[]", "must hold a text for each setting"),
        ('{"align.seq_len": 500}', "must hold a text for each setting"),
    ],
)
def test_what_is_no_record_is_named(workdir, content, message):
    (workdir / "settings.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        recorded.read(Workdir(workdir))


def test_a_config_of_ones_own_replaces_what_cannot_be_read(workdir, trained):
    file = workdir / "settings.json"
    settings = json.loads(file.read_text())
    expected = predict.predict(str(trained[0]), [trained[1]])
    settings["prepare.transform_fns"] = "[@mine.own]"
    file.write_text(json.dumps(settings))
    own = workdir / "own.gin"
    own.write_text("data.prepare.transform_fns = [@align]\n")
    assert predict.predict(str(workdir), [trained[1]], [str(own)]) == expected


def test_the_data_of_the_run_can_be_replaced(workdir, tmp_path):
    write_tones(tmp_path / "tones")
    shutil.rmtree(tmp_path / "tones" / "validation")
    run.evaluate(
        [],
        [
            f"train.workdir = '{workdir}'",
            f"audio_folder.path = '{tmp_path / 'tones'}'",
        ],
    )
    (file,) = workdir.glob("evaluations/*/evaluation.json")
    evaluation = json.loads(file.read_text())
    assert evaluation["data"]["counts"] == {"train": 21, "test": 9}


@gin.configurable(module="notebook")
def own_function(array=None, of=None, name="x"):
    return array, of, name


@pytest.mark.parametrize("is_locked", [True, False])
def test_gin_is_left_as_it_was(workdir, trained, is_locked):
    array = np.arange(3)
    gin.parse_config(
        "import json\n"
        "size = 3\n"
        "scope/own_function.of = @ConvNet()\n"
        "own_function.name = 'mine'\n"
        "ConvNet.filters = [%size, 4]\n"
    )
    gin.bind_parameter("own_function.array", array)
    if is_locked:
        gin.finalize()
    before = gin.config_str()

    predict.predict(str(workdir), [trained[1]])
    run.evaluate([], [f"train.workdir = '{workdir}'"])
    with pytest.raises(ValueError, match="must hold a run"):
        run.evaluate([], ["train.workdir = 'nowhere'"])
    with pytest.raises(ValueError, match="no_such"):
        run.train([], ["no_such.binding = 1"])

    assert gin.config_str() == before
    assert gin.config_is_locked() is is_locked
    bound = gin.get_bindings("own_function", resolve_references=False)
    assert bound["array"] is array
    with gin.config_scope("scope"):
        assert own_function()[1].filters == [3, 4]


class Odd:
    def __repr__(self):
        return "x = 1\n# Parameters for no:\nx.y = 2"


@pytest.mark.parametrize("is_locked", [True, False])
def test_macros_that_no_config_can_state_are_restored(is_locked):
    values = {"arr": np.arange(3), "odd": Odd(), "s/long": [Odd()] * 30}
    for name, value in values.items():
        gin.bind_parameter(f"{name}/macro.value", value)
    gin.parse_config("size = 3\nown_function.array = [%arr, %size, %s/long]\n")
    if is_locked:
        gin.finalize()
    before = gin.config_str()
    with pytest.raises(KeyError, match="of the block"):
        with configuration.restored():
            configuration.parse([], ["size = 4"])
            raise KeyError("of the block")
    assert gin.config_str() == before
    assert gin.config_is_locked() is is_locked
    for name, value in values.items():
        assert gin.query_parameter(f"{name}/macro.value") is value
    array, size, long = own_function()[0]
    np.testing.assert_array_equal(array, np.arange(3))
    assert (size, len(long)) == (3, 30)


def test_a_configuration_can_be_followed_by_another(workdir, trained):
    configuration.parse([], ["ConvNet.filters = [4]"])
    gin.parse_config("ConvNet.filters = [8]")
    assert configuration.bound() == {"ConvNet.filters": "[8]"}
    predict.predict(str(workdir), [trained[1]])
    gin.parse_config("Leaf.n_filters = 5")
    configuration.parse([], ["Leaf.n_filters = 6"])
    gin.bind_parameter("Leaf.n_filters", 7)
    assert configuration.bound() == {"Leaf.n_filters": "7"}


@pytest.mark.parametrize("text", ["[", "'''", "(((", "1e400", "x", "", "@"])
def test_a_value_that_gin_cannot_read_is_named(text):
    with pytest.raises(ValueError, match="seq_len|Received: "):
        lines = recorded.data_bindings({"align.seq_len": text})
        configuration.parse([], [], lines)


def test_the_settings_of_a_task_are_those_of_its_scope():
    settings = {
        "tasks.sets": "{'a': @one/audio_folder, 'b': @audio_folder}",
        "tasks.weights": "None",
        "audio_folder.path": "'b'",
        "one/audio_folder.path": "'a'",
        "one/audio_folder.index": "@my_index",
        "one/my_index.column": "'species'",
        "align.seq_len": "500",
    }
    found = recorded.of_task(settings, "a")
    assert found == {
        "train.dataset": "'audio_folder'",
        "audio_folder.path": "'a'",
        "audio_folder.index": "@my_index",
        "my_index.column": "'species'",
        "align.seq_len": "500",
    }
    assert recorded.of_task(settings, "b")["audio_folder.path"] == "'b'"
    with pytest.raises(ValueError, match="one of 'a', 'b'.*: task='zz'"):
        recorded.of_task(settings, "zz")
