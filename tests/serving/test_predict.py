"""Predictions for recordings are those of the run's evaluation."""

import sys

import gin
import keras
import pytest
from tones import bindings, python, write_tones

from leaf_audio.app import configuration, predict, train

pytestmark = [pytest.mark.any_backend, pytest.mark.usefixtures("fresh_gin")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("predict")
    write_tones(folder / "tones")
    return folder


@pytest.fixture(scope="module")
def finished(folder):
    workdir = folder / "run"
    # Without one of their length, and of their loudness, clips are no input.
    transforms = "[@align, @loudness_normalization]"
    configuration.parse(
        [],
        bindings(
            folder,
            f"train.workdir = '{workdir}'",
            "train.num_epochs = 2",
            "train.learning_rate = 0.01",
            f"data.prepare.transform_fns = {transforms}",
            "loudness_normalization.target_db = 3.",
        ),
    )
    return workdir, train.train()


def test_predictions_are_as_good_as_the_evaluation(folder, finished):
    workdir, results = finished
    files = sorted((folder / "tones/test").rglob("*.wav"))
    found = predict.predict(str(workdir), list(map(str, files)))
    assert list(found) == list(map(str, files))
    right = 0
    for file in files:
        shares = found[str(file)]
        assert sum(shares.values()) == pytest.approx(1)
        right += max(shares, key=shares.get) == file.parent.name
    assert right / len(files) == results["metrics"]["test"]["accuracy"]


def test_each_recording_has_a_line(folder, finished):
    files = [str(folder / "tones/test" / f"{n}/0.wav") for n in ("low", "mid")]
    command = ("-m", "example.predict", f"--workdir={finished[0]}", "--top=2")
    lines = python(*command, *files).stdout.splitlines()
    found = predict.predict(str(finished[0]), files)
    for line, file in zip(lines, files, strict=True):
        first, second = sorted(found[file].items(), key=lambda one: -one[1])[:2]
        expected = [f"{label} {share:.3f}" for label, share in (first, second)]
        assert line == f"{file}: {', '.join(expected)}"


def test_a_class_of_ones_own_is_found(folder, tmp_path, monkeypatch):
    (tmp_path / "own_encoder.py").write_text(
        "import gin, keras\n"
        "from leaf_audio import models\n"
        "@gin.configurable\n"
        "@keras.saving.register_keras_serializable('own')\n"
        "class OwnEncoder(models.ConvNet):\n"
        "    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    config = tmp_path / "own.gin"
    config.write_text("import own_encoder\nOwnEncoder.filters = [4, 4]\n")
    workdir = tmp_path / "run"
    configuration.parse(
        [str(config)],
        bindings(
            folder,
            f"train.workdir = '{workdir}'",
            "train.num_epochs = 1",
            encoder=("AudioClassifier.encoder = @OwnEncoder()",),
        ),
    )
    train.train()
    # As in a process that has yet to import it.
    gin.clear_config()
    keras.saving.get_custom_objects().pop("own>OwnEncoder")
    del sys.modules["own_encoder"]
    gin.config._REGISTRY.pop("own_encoder.OwnEncoder")
    recording = str(folder / "tones/test/low/0.wav")
    # The run's config would import it, but is not executed unasked.
    with pytest.raises(ValueError, match="(?s)best.keras.*OwnEncoder"):
        predict.predict(str(workdir), [recording])
    assert "own_encoder" not in sys.modules
    found = predict.predict(str(workdir), [recording], [str(config)])
    assert set(found[recording]) == {
        "high",
        "low",
        "mid",
    }


def test_what_cannot_be_used_is_named(folder, finished, tmp_path):
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"no audio")
    with pytest.raises(ValueError, match="broken.wav"):
        predict.predict(str(finished[0]), [str(broken)])
    with pytest.raises(ValueError, match="nowhere.wav"):
        predict.predict(str(finished[0]), [str(tmp_path / "nowhere.wav")])
    with pytest.raises(ValueError, match="must hold a finished run"):
        predict.predict(str(tmp_path), [str(broken)])
    process = python("-m", "example.predict", check=False)
    assert process.returncode == 1 and "--workdir=" in process.stderr
