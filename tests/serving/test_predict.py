"""Predictions for recordings are those of the run's evaluation."""

import os
import pathlib
import sys
import zipfile

import gin
import keras
import numpy as np
import pytest
import soundfile
from tones import bindings, python, run_command, write_tones

from leaf_audio import frontend, models, serving
from leaf_audio.app import configuration, predict, train, trained_flags
from leaf_audio.training import Workdir

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


def test_the_card_names_the_folder_of_the_recordings(folder, finished):
    workdir, results = finished
    assert results["data"]["name"] == "audio_folder"
    classifier = serving.load(workdir)
    assert classifier.card["data"] == "tones"
    classifier.save(folder / "tones.keras")
    # Nobody else is told where the recordings lie.
    with zipfile.ZipFile(folder / "tones.keras") as archive:
        for name in archive.namelist():
            assert str(folder).encode() not in archive.read(name)


def test_predictions_are_as_good_as_the_evaluation(folder, finished):
    workdir, results = finished
    files = sorted((folder / "tones/test").rglob("*.wav"))
    found = predict.predict(str(workdir), list(map(str, files)))
    assert list(found) == list(map(str, files))
    right = 0
    for file in files:
        shares = found[str(file)]
        # The evaluation computes probabilities in float64 too.
        assert sum(shares.values()) == pytest.approx(1, abs=1e-14)
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


def test_means_over_windows_are_told(folder, finished, tmp_path):
    samples, rate = soundfile.read(folder / "tones/test/low/0.wav")
    window = serving.load(finished[0]).window
    short, long = (str(tmp_path / f"{name}.wav") for name in ("short", "long"))
    soundfile.write(short, np.resize(samples, window), rate)
    soundfile.write(long, np.resize(samples, window + 1), rate)
    command = ("predict", f"--workdir={finished[0]}")
    told = "1 recording is longer than a clip of the model"
    assert told in run_command(*command, short, long).stderr
    assert "longer" not in run_command(*command, short).stderr
    assert "longer" not in run_command(*command, "--hop=0.01", long).stderr


def test_what_does_not_exist_is_told_by_the_name_of_its_flag():
    for flag, value in (("workdir", "nowhere"), ("model", "no.keras")):
        told = run_command("predict", f"--{flag}={value}", "a.wav").stderr
        assert told.startswith(f"Error: `{flag}` must ")
        assert f"Received: {flag}={value}" in told


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


def test_a_folder_stands_for_all_recordings_below_it(folder, finished):
    low = folder / "tones/test/low"
    files = sorted(map(str, low.glob("*.wav")))
    # A recording that is named twice is predicted once.
    found = predict.predict(str(finished[0]), [str(low), files[0]])
    assert list(found) == files and len(files) > 1
    one_by_one = predict.predict(str(finished[0]), files[::-1])
    assert {name: found[name] for name in files} == {
        name: pytest.approx(one_by_one[name]) for name in files
    }


@pytest.mark.slow
def test_predictions_do_not_depend_on_the_size_of_a_batch(folder, finished):
    trained = serving.load(finished[0])
    tones = [str(folder / "tones")]
    expected = list(serving.predict(trained, tones))
    for batch_size in (1, 7):
        found = list(serving.predict(trained, tones, batch_size=batch_size))
        assert len(found) == len(expected) > 20
        for one, other in zip(found, expected, strict=True):
            assert one.recording == other.recording
            np.testing.assert_allclose(one.rows, other.rows, atol=1e-5)
    assert list(serving.predict(trained, [])) == []
    name = expected[0].recording
    (one,) = serving.predict(trained, [pathlib.Path(name)])
    assert one.recording == name


@pytest.fixture
def mixed(folder, tmp_path):
    """A folder of usable and unusable recordings; the names of the latter."""
    good = (folder / "tones/test/low/0.wav").read_bytes()
    for name in ("a.wav", "sub/b.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(good)
    (tmp_path / "notes.txt").write_text("no recording")
    (tmp_path / ".hidden.wav").write_text("no recording")
    (tmp_path / "broken.wav").write_bytes(b"no audio")
    (tmp_path / "cut.wav").write_bytes(good[:-500])
    (tmp_path / "empty.flac").write_bytes(b"")
    (tmp_path / "video.mp4").write_bytes(b"no audio" * 99)
    os.mkfifo(tmp_path / "pipe.ogg")
    return ["broken.wav", "cut.wav", "empty.flac", "pipe.ogg", "video.mp4"]


def test_an_unusable_recording_is_left_out_where_asked(
    tmp_path, finished, mixed
):
    told = {}
    found = predict.predict(
        str(finished[0]),
        [str(tmp_path), str(tmp_path / "nowhere.wav")],
        on_unusable=lambda name, error: told.update({name: str(error)}),
    )
    good = ["a.wav", "sub/b.wav"]
    assert list(found) == [str(tmp_path / name) for name in good]
    bad = [*mixed, "nowhere.wav"]
    assert sorted(told) == sorted(str(tmp_path / name) for name in bad)
    assert all(repr(name) in message for name, message in told.items())


def test_a_recording_that_is_too_short_for_the_encoder_is_named(tmp_path):
    """Of a model of clips of any length, whose encoder halves its frames."""
    encoder = models.ConvNet([4, 4, 4, 4])
    model = models.AudioClassifier(2, frontend.MelFilterbanks(8), encoder)
    model(np.zeros((1, 16000), "float32"))
    classifier = serving.TrainedClassifier(
        model=model, labels=["a", "b"], sample_rate=16000, transform_fns=[]
    )
    names = ("one", "three", "short", "two")
    files = [str(tmp_path / f"{name}.wav") for name in names]
    lengths = (16000, 14000, 800, 15000)
    for file, length in zip(files, lengths, strict=True):
        soundfile.write(file, 0.1 * np.sin(np.arange(length)), 16000)
    told = {}
    found = serving.predict(
        classifier,
        files,
        on_unusable=lambda name, error: told.update({name: str(error)}),
    )
    assert [one.recording for one in found] == [*files[:2], files[3]]
    assert list(told) == [files[2]]
    assert "cannot take a clip of 800 samples" in told[files[2]]
    with pytest.raises(ValueError, match=r"short\.wav.* too short"):
        list(serving.predict(classifier, files))


def test_the_command_tells_unusable_recordings_and_goes_on(
    tmp_path, finished, mixed
):
    (tmp_path / "none").mkdir()
    recordings = [str(tmp_path), str(tmp_path / "none")]
    flag = f"--workdir={finished[0]}"
    process = run_command("predict", flag, *recordings)
    assert process.returncode == 1
    names = [line.split(": ")[0] for line in process.stdout.splitlines()]
    good = ["a.wav", "sub/b.wav"]
    assert names == [str(tmp_path / name) for name in good]
    lines = process.stderr.splitlines()
    told = [line for line in lines if line.startswith("left out: ")]
    for line, name in zip(told, [*mixed, "none"], strict=True):
        assert line.startswith(f"left out: {tmp_path / name}: ")
    assert "a folder without any audio" in told[-1]
    assert lines[-1] == "Error: 6 recordings left out."


def test_what_cannot_be_used_is_named(folder, finished, tmp_path):
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"no audio")
    with pytest.raises(ValueError, match="broken.wav"):
        predict.predict(str(finished[0]), [str(broken)])
    with pytest.raises(ValueError, match="nowhere.wav"):
        predict.predict(str(finished[0]), [str(tmp_path / "nowhere.wav")])
    (tmp_path / "none").mkdir()
    with pytest.raises(ValueError, match="none': it is a folder without any"):
        predict.predict(str(finished[0]), [str(tmp_path / "none")])
    with pytest.raises(ValueError, match="must hold a finished run"):
        predict.predict(str(tmp_path), [str(broken)])
    process = run_command("predict")
    assert process.returncode == 1 and "--workdir=" in process.stderr


@pytest.mark.parametrize(
    "content",
    ["{}", "rubbish", "[]", '{"data": {}}', '{"data": {"labels": "ab"}}'],
)
def test_a_damaged_summary_is_named(tmp_path, content):
    (tmp_path / "results.json").write_text(content)
    with pytest.raises(ValueError, match="results.json must"):
        Workdir(tmp_path).read_data()


@pytest.mark.slow
def test_a_long_recording_is_predicted_in_chunks(folder, tmp_path):
    workdir = tmp_path / "run"
    configuration.parse(
        [],
        bindings(
            folder,
            f"train.workdir = '{workdir}'",
            "train.num_epochs = 1",
            "data.prepare.evaluation_hop = 200",
        ),
    )
    results = train.train()
    files = sorted(map(str, (folder / "tones/test").rglob("*.wav")))
    long = tmp_path / "long.wav"
    waves = [soundfile.read(file, dtype="float32") for file in files]
    wave = np.concatenate([samples for samples, _ in waves])
    soundfile.write(long, wave, waves[0][1], subtype="FLOAT")
    found = predict.predict(str(workdir), [*files, str(long)])
    # As in the evaluation of the run.
    labels = results["data"]["labels"]
    own = [found[file][file.split(os.sep)[-2]] for file in files]
    loss = results["metrics"]["test"]["loss"]
    assert -np.log(own).mean() == pytest.approx(loss, rel=1e-4)
    model = Workdir(workdir).load_best()
    starts = [*range(0, len(wave) - 500, 200), len(wave) - 500]
    parts = np.stack([wave[start : start + 500] for start in starts])
    logits = model.predict(parts, verbose=0)
    shares = keras.ops.convert_to_numpy(keras.ops.softmax(logits)).mean(axis=0)
    for label, share in zip(labels, shares, strict=True):
        assert found[str(long)][label] == pytest.approx(share, abs=1e-5)
    # However the windows of several recordings fall into batches.
    again = {
        one.recording: one.probabilities
        for one in serving.predict(workdir, [*files, str(long)], batch_size=7)
    }
    assert again[str(long)] == pytest.approx(found[str(long)], abs=1e-5)


def test_a_workdir_in_the_home_directory_takes_the_config(
    folder, finished, tmp_path, monkeypatch
):
    monkeypatch.setenv("HOME", str(folder))
    config = tmp_path / "louder.gin"
    config.write_text("loudness_normalization.target_db = 9.\n")
    for configs, target in (([], 3.0), ([str(config)], 9.0)):
        with trained_flags.trained("~/run", configs) as classifier:
            (prepared,) = (
                one.clip for one in classifier.windows(np.ones(500) * 0.1)
            )
        level = dict(classifier.transform_fns[-1].keywords)
        assert level["target_db"] == target and len(prepared)


def test_a_finalized_configuration_is_no_obstacle(folder, finished, tmp_path):
    config = tmp_path / "louder.gin"
    config.write_text("loudness_normalization.target_db = 9.\n")
    gin.finalize()
    recording = str(folder / "tones/test/low/0.wav")
    assert predict.predict(str(finished[0]), [recording], [str(config)])
    assert gin.config.config_is_locked()
