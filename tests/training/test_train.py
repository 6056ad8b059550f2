"""Whole runs: what they leave, how they go on, when they stop."""

import csv
import dataclasses
import json
import random
import shutil
import signal
import subprocess
import sys

import gin
import keras
import numpy as np
import pytest
import soundfile
import tensorflow as tf
from tones import (
    LEAF,
    SAMPLE_RATE,
    bindings,
    main_flags,
    python,
    write_tones,
)

from leaf_audio import frontend, models
from leaf_audio.app import configuration, run
from leaf_audio.data import batches as data
from leaf_audio.training import train
from leaf_audio.training.workdir import Progress, Workdir

# Dies at a chosen event, given as its name and how often it has come by then.
KILLER = """
import os, signal, sys

import numpy as np

event, count = sys.argv[1].rsplit(":", 1)
left = int(count)
del sys.argv[1]

def come_by(name):
    global left
    if name == event:
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)

from example import main, train

def replace(source, target, replace=os.replace):
    replace(source, target)
    come_by(f"wrote {target.name}")

def savez(file, savez=np.savez, **arrays):
    first = dict(list(arrays.items())[:3])
    if event == "writing state.npz" and left == 1:
        savez(file, **first)
        file.flush()
    come_by("writing state.npz")
    savez(file, **arrays)

def on_train_batch_end(self, batch, logs=None):
    come_by("step")

os.replace = replace
np.savez = savez
train._Recorder.on_train_batch_end = on_train_batch_end
main.app.run(main.main)
"""


pytestmark = pytest.mark.usefixtures("fresh_gin")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("training")
    write_tones(path / "tones")
    return path


def train_with(folder, workdir, *more, **parts):
    workdir = f"train.workdir = '{workdir}'"
    configuration.parse([], bindings(folder, workdir, *more, **parts))
    return train.train()


def rows(workdir):
    with open(workdir / "metrics.csv", newline="") as file:
        return [
            {k: v for k, v in row.items() if k != "seconds"}
            for row in csv.DictReader(file)
        ]


@pytest.fixture(scope="module")
def finished(folder, tmp_path_factory):
    """A run of two epochs."""
    workdir = tmp_path_factory.mktemp("finished") / "run"
    results = train_with(
        folder, workdir, "train.num_epochs = 2", "train.learning_rate = 0.01"
    )
    gin.clear_config()
    return workdir, results


def test_a_run_leaves_every_promised_file(finished):
    workdir, results = finished
    names = {file.name for file in workdir.iterdir()}
    assert names == {
        ".lock",
        "best.keras",
        "config.gin",
        "metrics.csv",
        "results.json",
        "state.npz",
        "tensorboard",
    }
    assert json.loads((workdir / "results.json").read_text()) == results
    assert [row["epoch"] for row in rows(workdir)] == ["1", "2"]
    for name in ("train", "validation"):
        assert len(list((workdir / "tensorboard" / name).iterdir())) == 1


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="TensorFlow traces steps"
)
def test_a_step_is_traced_once(folder, tmp_path, monkeypatch):
    traces = []
    train_step = models.AudioClassifier.train_step

    def traced(self, data):
        traces.append(self)
        return train_step(self, data)

    monkeypatch.setattr(models.AudioClassifier, "train_step", traced)
    train_with(folder, tmp_path / "run", "train.num_epochs = 2")
    assert len(traces) == 1


def test_a_run_follows_the_filters_that_it_learns(folder, tmp_path):
    train_with(
        folder,
        tmp_path / "run",
        "train.num_epochs = 2",
        "Leaf.n_filters = 4",
        "Leaf.sample_rate = 4000",
        "AudioClassifier.frontend = @Leaf()",
    )
    with open(tmp_path / "run" / "filters.csv", newline="") as file:
        epochs = [row["epoch"] for row in csv.DictReader(file)]
    assert epochs == ["0"] * 4 + ["1"] * 4 + ["2"] * 4
    for row in rows(tmp_path / "run"):
        assert float(row["drift_centre_hz"]) > 0
    pytest.importorskip("matplotlib")
    recording = next((folder / "tones").rglob("*.wav"))
    command = [*(sys.executable, "-m", "example.plot")]
    command += [f"--workdir={tmp_path / 'run'}", f"--recording={recording}"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    names = {file.name for file in (tmp_path / "run" / "figures").iterdir()}
    assert names == {
        f"{name}.{suffix}"
        for name in ("responses", "bands", "outputs")
        for suffix in ("png", "svg")
    }


def test_results_tell_what_was_done(finished):
    _, results = finished
    assert results["seed"] == 0
    assert results["data"]["counts"] == {
        "train": 21,
        "validation": 9,
        "test": 9,
    }
    assert results["data"]["labels"] == ["high", "low", "mid"]
    assert results["config"]["MelFilterbanks.n_filters"] == "8"
    assert results["timings"]["steps_per_epoch"] == 4
    assert results["parameters"]["frontend"] == 0
    assert results["parameters"]["total"] > results["parameters"]["trainable"]
    assert set(results["metrics"]) == {"validation", "test"}
    assert set(results["metrics"]["test"]) == {"accuracy", "loss"}


def test_results_are_those_of_the_best_epoch(finished):
    workdir, results = finished
    best = rows(workdir)[results["best_epoch"] - 1]
    validation = results["metrics"]["validation"]
    assert validation["accuracy"] == float(best["val_accuracy"])
    np.testing.assert_allclose(
        validation["loss"], float(best["val_loss"]), rtol=1e-6
    )


def test_the_best_model_gives_the_reported_test_metrics(folder, finished):
    workdir, results = finished
    model = keras.models.load_model(workdir / "best.keras")
    configuration.parse([], bindings(folder))
    batches = data.prepare(
        data.load("audio_folder", data_dir=str(folder / "prepared")),
        batch_size=5,
    )
    right, losses = [], []
    for audio, label in batches.evaluation["test"].as_numpy_iterator():
        logits = keras.ops.convert_to_numpy(model(audio)).astype("float64")
        log_probabilities = logits - np.log(
            np.exp(logits).sum(-1, keepdims=True)
        )
        losses += list(-log_probabilities[np.arange(len(label)), label])
        right += list(logits.argmax(-1) == label)
    assert np.mean(right) == results["metrics"]["test"]["accuracy"]
    np.testing.assert_allclose(
        np.mean(losses), results["metrics"]["test"]["loss"], rtol=1e-4
    )


def test_the_best_epoch_has_the_highest_accuracy_then_the_lowest_loss():
    history = [
        {"epoch": i + 1, "val_accuracy": accuracy, "val_loss": loss}
        for i, (accuracy, loss) in enumerate(
            [(0.5, 0.1), (0.7, 0.9), (0.7, 0.8), (0.7, 0.8), (0.6, 0.2)]
        )
    ]
    assert Progress({}, history).best_epoch == 3


def test_training_learns_the_tones(folder, tmp_path):
    results = train_with(
        folder,
        tmp_path / "run",
        "train.num_epochs = 12",
        "train.learning_rate = 0.1",
        # Frequencies as channels: a linear classifier of their maxima.
        "AudioClassifier.encoder = @Permute()",
        "Permute.dims = (1, 3, 2)",
        encoder=(),
    )
    assert results["metrics"]["test"]["accuracy"] > 0.85


def test_a_finished_run_is_not_overwritten(folder, finished):
    workdir, _ = finished
    before = {p: p.stat().st_mtime_ns for p in workdir.iterdir()}
    with pytest.raises(ValueError, match="raise train.num_epochs to train on"):
        train_with(
            folder,
            workdir,
            "train.num_epochs = 2",
            "train.learning_rate = 0.01",
        )
    del before[workdir / ".lock"]
    after = {p: p.stat().st_mtime_ns for p in before}
    assert before == after


def test_another_configuration_in_a_workdir_is_refused_by_name(
    folder, finished
):
    workdir, _ = finished
    with pytest.raises(ValueError) as error:
        train_with(
            folder,
            workdir,
            "train.num_epochs = 3",
            "train.learning_rate = 0.02",
            "MelFilterbanks.n_filters = 9",
        )
    message = str(error.value)
    assert "MelFilterbanks.n_filters (was 8, is 9)" in message
    assert "train.learning_rate (was 0.01, is 0.02)" in message
    assert "num_epochs" not in message
    assert "align" not in message


def test_raising_num_epochs_equals_having_asked_for_them(folder, tmp_path):
    def run(name, epochs):
        num_epochs = f"train.num_epochs = {epochs}"
        return train_with(folder, tmp_path / name, num_epochs, frontend=LEAF)

    run("raised", 1)
    longer, whole = run("raised", 3), run("whole", 3)
    assert longer["metrics"] == whole["metrics"]
    assert rows(tmp_path / "raised") == rows(tmp_path / "whole")


def test_a_run_killed_after_its_last_epoch_is_only_evaluated(folder, tmp_path):
    one_epoch = "train.num_epochs = 1"
    before = train_with(folder, tmp_path / "run", one_epoch)
    (tmp_path / "run" / "results.json").unlink()
    (tmp_path / "run" / "best.keras").unlink()
    state = (tmp_path / "run" / "state.npz").read_bytes()
    after = train_with(folder, tmp_path / "run", one_epoch)
    assert after == before
    assert (tmp_path / "run" / "state.npz").read_bytes() == state


@pytest.mark.any_backend
def test_num_epochs_of_a_cosine_schedule_cannot_be_raised(folder, tmp_path):
    cosine = "train.learning_rate_schedule = 'cosine'"
    train_with(folder, tmp_path / "run", cosine, "train.num_epochs = 1")
    with pytest.raises(ValueError, match=r"num_epochs \(was 1, is 2\)") as no:
        train_with(folder, tmp_path / "run", cosine, "train.num_epochs = 2")
    assert "made for the length it began with" in str(no.value)
    with pytest.raises(ValueError, match="a finished run") as no:
        train_with(folder, tmp_path / "run", cosine, "train.num_epochs = 1")
    assert "raise train.num_epochs" not in str(no.value)
    assert "followed its schedule to the end" in str(no.value)


def test_a_killed_run_ends_as_an_uninterrupted_one(folder, tmp_path):
    if keras.backend.backend() != "tensorflow":
        pytest.skip("its processes take most of a minute: TensorFlow only")
    settings = (
        "train.num_epochs = 3",
        "train.learning_rate = 0.01",
        "train.learning_rate_schedule = 'cosine'",
        "train.warmup_epochs = 1",
        # Moving averages, seeds and stateful noise must all go on.
        "ConvBlock.dropout = 0.2",
        "MelFilterbanks.spec_augment = @SpecAugment()",
        "SpecAugment.time_mask_max_frames = 4",
        "SpecAugment.freq_mask_max_bins = 2",
    )
    workdir = f"train.workdir = '{tmp_path / 'killed'}'"
    flags = main_flags(bindings(folder, workdir, *settings))

    train_with(folder, tmp_path / "whole", *settings)
    # Each event comes in the process that goes on from the one before.
    for event, epochs_done in (
        ("step:6", 1),
        ("writing state.npz:1", 1),
        ("wrote state.npz:1", 2),
    ):
        killed = python("-c", KILLER, event, *flags, check=False)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        progress = Workdir(tmp_path / "killed").read_progress()
        assert len(progress.history if progress else []) == epochs_done, event
    train_with(folder, tmp_path / "killed", *settings)

    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert rows(killed) == rows(whole)
    metrics = [
        json.loads((path / "results.json").read_text())["metrics"]
        for path in (whole, killed)
    ]
    assert metrics[0] == metrics[1]
    with np.load(whole / "state.npz") as one:
        with np.load(killed / "state.npz") as other:
            for name in set(one.files) - {"progress"}:
                np.testing.assert_array_equal(one[name], other[name])


def test_a_plan_is_restored_with_the_state(tmp_path):
    def model():
        made = keras.Sequential(
            [frontend.Leaf(n_filters=4), keras.layers.GlobalMaxPooling1D()]
        )
        made.build((None, 1600))
        made.compile("sgd", "mse")
        made.optimizer.build(made.trainable_variables)
        return made

    row = {"epoch": 1, "val_accuracy": 0.5, "val_loss": 1.0}
    progress = Progress(identity={}, history=[row])
    saved, restored = model(), model()
    # Another than its weights would be given.
    planned_for = saved.layers[0].planned_for * 1.03
    saved.layers[0].planned_for = planned_for
    Workdir(tmp_path).save(saved, progress)
    Workdir(tmp_path).restore(restored, progress)
    np.testing.assert_allclose(
        restored.layers[0].planned_for, planned_for, rtol=0.02
    )
    np.testing.assert_array_equal(
        restored.layers[0].planned_for, saved.layers[0].planned_for
    )


def test_a_loss_that_is_not_finite_stops_training(folder, tmp_path):
    with pytest.raises(train.TrainingStopped, match="loss is (nan|inf) at st"):
        train_with(
            folder,
            tmp_path / "run",
            "train.learning_rate = 1e30",
            "train.optimizer = @SGD",
        )
    assert not (tmp_path / "run" / "state.npz").exists()


def test_a_validation_loss_that_is_not_finite_stops_training(
    folder, tmp_path, monkeypatch
):
    monkeypatch.setattr(
        train.Scorer,
        "__call__",
        lambda *_: {"accuracy": 0.5, "loss": float("nan")},
    )
    with pytest.raises(train.TrainingStopped, match="validation loss is nan"):
        train_with(folder, tmp_path / "run")
    assert not (tmp_path / "run" / "state.npz").exists()


def test_an_unknown_data_set_is_named(folder, tmp_path):
    for name in ("'no_such_set'", "None"):
        with pytest.raises(ValueError, match=f"dataset={name}"):
            train_with(folder, tmp_path / "run", f"train.dataset = {name}")


def test_data_without_an_evaluation_split_is_refused(tmp_path):
    write_tones(tmp_path / "tones")
    for split in ("validation", "test"):
        shutil.rmtree(tmp_path / "tones" / split)
    with pytest.raises(ValueError, match="must have a split 'validation' or"):
        train_with(tmp_path, tmp_path / "run")


def test_evaluation_needs_a_split_to_evaluate(finished, tmp_path):
    write_tones(tmp_path / "tones")
    for split in ("validation", "test"):
        shutil.rmtree(tmp_path / "tones" / split)
    workdir = f"train.workdir = '{finished[0]}'"
    path = f"audio_folder.path = '{tmp_path / 'tones'}'"
    with pytest.raises(ValueError, match="must have a split 'validation' or"):
        run.evaluate([], [workdir, path])


@pytest.mark.any_backend
def test_scores_count_each_clip_once_in_batches_of_one_size():
    sizes = []

    class First(keras.Model):
        def call(self, inputs):
            sizes.append(inputs.shape[0])
            return keras.ops.pad(inputs, [[0, 0], [0, 1]])

    audio = np.array([[1.0], [1.0], [-1.0]], "float32")
    labels = np.array([0, 0, 0], "int32")
    batches = tf.data.Dataset.from_tensor_slices((audio, labels)).batch(4)
    scores = train.Scorer(batches, batch_size=4)(First())
    assert set(sizes) == {4}
    assert scores["accuracy"] == pytest.approx(2 / 3)


def test_data_of_one_label_is_refused(folder, tmp_path, monkeypatch):
    def load(*args, load=data.load, **kwargs):
        loaded = load(*args, **kwargs)
        return dataclasses.replace(loaded, label_names=("high",))

    monkeypatch.setattr(data, "load", load)
    with pytest.raises(ValueError, match=r"two labels.*\['high'\]"):
        train_with(folder, tmp_path / "run")


class Loaded(Exception):
    """Data was asked for."""


@pytest.fixture
def no_data(monkeypatch):
    def load(*args, **kwargs):
        raise Loaded

    monkeypatch.setattr(data, "load", load)


@pytest.mark.parametrize(
    "binding, named",
    [
        ("train.num_epochs = 0", "`num_epochs` must be a positive integer"),
        ("train.batch_size = 1.5", "`batch_size` must be a positive integer"),
        ("train.steps_per_epoch = -1", "`steps_per_epoch` must be a positive"),
        ("train.seed = -1", "`seed` must be an integer"),
        ("train.seed = 1.5", "`seed` must be an integer"),
        ("train.learning_rate = 0", "`learning_rate` must be a positive"),
        ("train.learning_rate = 'fast'", "`learning_rate` must be a positive"),
        ("train.learning_rate_schedule = 'step'", "must be one of"),
        ("train.warmup_epochs = 10", "`warmup_epochs` must be a number"),
        ("train.warmup_epochs = 'one'", "`warmup_epochs` must be a number"),
        ("train.optimizer = @Adam()", "`optimizer` must be a factory"),
        ("train.jit_compile = 'yes'", "`jit_compile` must be"),
        ("train.dtype_policy = 'half'", "half"),
        ("train.workdir = 'gs://bucket'", "`workdir` must be a local folder"),
        ("train.strategy = 'several'", "`strategy` must be one of"),
        ("MelFilterbanks.n_filters = -1", "`n_filters` must be"),
        ("MelFilterbanks.sample_rate = 8000", "`sample_rate` of the frontend"),
        ("ConvNet.filters = [4, 4, 4, 4, 4, 4, 4]", "ConvNet"),
        ("align.seq_len = 0", "`align.seq_len` must be"),
        ("align.seq_len = '1 s'", "`align.seq_len` must be"),
        ("data.prepare.transform_fns = @align", "`transform_fns` must be"),
        ("data.prepare.transform_fns = ['align']", "`transform_fns` must be"),
        ("SincNet.n_filters = 8", "any effect: SincNet.n_filters"),
        ("other/Leaf.n_filters = 8", "any effect: other/Leaf.n_filters"),
        ("clip_length = 16000", "any effect: clip_length"),
    ],
)
def test_mistakes_are_told_before_data_is_loaded(
    folder, tmp_path, no_data, binding, named
):
    with pytest.raises(ValueError, match=named):
        train_with(folder, tmp_path / "run", binding)


def test_what_only_data_uses_is_no_mistake_before_it_is_loaded(
    folder, tmp_path, no_data
):
    with pytest.raises(Loaded):
        train_with(
            folder,
            tmp_path / "run",
            "rate = 4000",
            "data.load.sample_rate = %rate",
            "audio_folder.on_error = 'skip'",
            "data.prepare.transform_fns = []",
        )


def test_another_model_in_a_workdir_is_refused_before_data_is_loaded(
    folder, finished, no_data
):
    with pytest.raises(ValueError, match="n_filters .was 8, is 9"):
        train_with(
            folder,
            finished[0],
            "train.num_epochs = 3",
            "MelFilterbanks.n_filters = 9",
        )


def test_building_the_model_early_leaves_no_trace(folder, tmp_path, no_data):
    def state():
        name = keras.layers.Dense(1).name
        return int(name.rpartition("_")[2]), keras.config.dtype_policy().name

    keras.layers.Dense(1)
    number, policy = state()
    with pytest.raises(Loaded):
        train_with(
            folder, tmp_path / "run", "train.dtype_policy = 'mixed_bfloat16'"
        )
    assert state() == (number + 1, policy)


@pytest.mark.any_backend
def test_what_loading_draws_does_not_change_a_run(
    folder, tmp_path, monkeypatch
):
    """TFDS draws from Python's random numbers where it prepares a set."""
    load, runs = data.load, []
    for draws in (0, 5):

        def load_and_draw(*args, draws=draws, **kwargs):
            for _ in range(draws):
                random.random()
                np.random.rand()
            return load(*args, **kwargs)

        monkeypatch.setattr(data, "load", load_and_draw)
        workdir = tmp_path / str(draws)
        runs.append(train_with(folder, workdir, "train.num_epochs = 1"))
    assert runs[0]["metrics"] == runs[1]["metrics"]


@pytest.mark.parametrize("exists", [True, False])
def test_a_failed_start_leaves_nothing(folder, tmp_path, no_data, exists):
    workdir = tmp_path / "new" / "run"
    if exists:
        workdir.mkdir(parents=True)
        (workdir / "notes.txt").write_text("mine")
    with pytest.raises(Loaded):
        train_with(folder, workdir)
    if exists:
        assert (workdir / "notes.txt").read_text() == "mine"
    else:
        assert not any(tmp_path.iterdir())


@pytest.mark.any_backend
def test_a_run_says_what_it_trains_on_and_where_it_goes_on(
    folder, tmp_path, capsys
):
    for epochs in (1, 2):
        train_with(folder, tmp_path / "run", f"train.num_epochs = {epochs}")
        printed = capsys.readouterr().out
        assert "3 labels (high, low, mid)" in printed
        assert "train 21, validation 9, test 9" in printed
        going_on = f"going on after epoch 1 of {tmp_path / 'run'}\n"
        assert (going_on in printed) == (epochs == 2)


@pytest.mark.any_backend
def test_a_run_without_validation_clips_says_what_it_chooses_by(
    tmp_path, capsys
):
    told = "no validation clips: the best epoch will be the best on test"
    write_tones(tmp_path / "tones")
    train_with(tmp_path, tmp_path / "with", "train.num_epochs = 1")
    assert told not in capsys.readouterr().out
    shutil.rmtree(tmp_path / "tones" / "validation")
    train_with(tmp_path, tmp_path / "without", "train.num_epochs = 1")
    assert told in capsys.readouterr().out


@pytest.mark.any_backend
def test_results_hold_macros_and_names_as_they_are_written(tmp_path):
    for split in ("train", "test"):
        for label in ("größe", "日本"):
            place = tmp_path / "tones" / split / label
            place.mkdir(parents=True)
            soundfile.write(place / "0.wav", np.ones(600) / 2, SAMPLE_RATE)
    (tmp_path / "tones" / "train" / "größe" / "\udcff.wav").write_bytes(b"?")
    results = train_with(
        tmp_path,
        tmp_path / "run",
        "train.num_epochs = 1",
        "rate = 4000",
        "MelFilterbanks.sample_rate = %rate",
        "audio_folder.on_error = 'skip'",
    )
    text = (tmp_path / "run" / "results.json").read_text(encoding="utf-8")
    assert json.loads(text) == results
    assert '"größe"' in text and '"日本"' in text
    assert results["config"]["rate"] == "4000"
    assert list(results["data"]["skipped"]) == ["train/größe/\udcff.wav"]


def test_a_workdir_must_be_given(folder):
    configuration.parse([], bindings(folder))
    with pytest.raises(ValueError, match="`workdir` must be given"):
        train.train()


def test_a_workdir_in_use_is_refused(folder, tmp_path):
    with Workdir(tmp_path).locked():
        with pytest.raises(ValueError, match="in use by another process"):
            train_with(folder, tmp_path)


def test_a_damaged_state_is_named(folder, tmp_path):
    (tmp_path / "state.npz").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(ValueError, match="state.npz, which is damaged"):
        train_with(folder, tmp_path)


def test_results_without_a_state_are_not_overwritten(folder, tmp_path):
    (tmp_path / "results.json").write_text("{}")
    with pytest.raises(ValueError, match="results.json but no state.npz"):
        train_with(folder, tmp_path)


def test_mixed_precision_trains_and_is_undone(folder, tmp_path):
    before = keras.config.dtype_policy().name
    train_with(
        folder,
        tmp_path / "run",
        "train.dtype_policy = 'mixed_bfloat16'",
        "train.num_epochs = 1",
    )
    assert keras.config.dtype_policy().name == before
    model = keras.models.load_model(tmp_path / "run" / "best.keras")
    assert model.encoder.dtype_policy.name == "mixed_bfloat16"


def test_the_optimizer_is_gins(folder, tmp_path):
    train_with(
        folder,
        tmp_path / "run",
        "train.optimizer = @AdamW",
        "AdamW.weight_decay = 0.03",
        "train.num_epochs = 1",
    )
    model = keras.models.load_model(tmp_path / "run" / "best.keras")
    # On torch, Keras has a subclass of its own.
    assert isinstance(model.optimizer, keras.optimizers.AdamW)
    assert model.optimizer.weight_decay == 0.03


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_the_learning_rate_warms_up_and_follows_its_schedule(schedule):
    rate = train._schedule(schedule, 0.1, warmup_steps=4, total_steps=12)
    rates = [float(rate(step)) for step in range(13)]
    np.testing.assert_allclose(rates[:5], np.linspace(0.02, 0.1, 5), rtol=1e-5)
    if schedule == "constant":
        np.testing.assert_allclose(rates[4:], 0.1, rtol=1e-5)
    else:
        expected = 0.05 * (1 + np.cos(np.pi * np.arange(9) / 8))
        np.testing.assert_allclose(rates[4:], expected, atol=1e-7)


def test_evaluation_needs_no_config_and_repeats_the_results(finished, capsys):
    workdir, results = finished
    run.evaluate([], [f"train.workdir = '{workdir}'"])
    evaluation = json.loads((workdir / "evaluation.json").read_text())
    (workdir / "evaluation.json").unlink()
    assert evaluation["metrics"] == results["metrics"]
    assert evaluation["data"]["skipped"] == {}
    accuracy = f"{results['metrics']['test']['accuracy']:.4f}"
    assert accuracy in capsys.readouterr().out


def test_evaluation_takes_the_command_of_the_training(folder, finished):
    workdir, _ = finished
    run.evaluate(
        [],
        bindings(
            folder,
            f"train.workdir = '{workdir}'",
            "train.num_epochs = 2",
            "train.learning_rate = 0.01",
        ),
    )
    (workdir / "evaluation.json").unlink()


def test_evaluation_refuses_bindings_that_need_another_model(finished, no_data):
    workdir, _ = finished
    with pytest.raises(ValueError, match="effect: MelFilterbanks.n_filters"):
        run.evaluate(
            [],
            [f"train.workdir = '{workdir}'", "MelFilterbanks.n_filters = 9"],
        )


def test_evaluation_refuses_other_labels_and_rates(finished, tmp_path):
    write_tones(tmp_path / "tones")
    for split in ("train", "validation", "test"):
        place = tmp_path / "tones" / split
        (place / "mid").rename(place / "middle")
    workdir = f"train.workdir = '{finished[0]}'"
    path = f"audio_folder.path = '{tmp_path / 'tones'}'"
    with pytest.raises(ValueError, match="labels.*'mid'.*'middle'"):
        run.evaluate([], [workdir, path])
    with pytest.raises(ValueError, match="`sample_rate` of the frontend"):
        run.evaluate([], [workdir, "data.load.sample_rate = 8000"])
    assert not (finished[0] / "evaluation.json").exists()


def test_evaluation_takes_a_folder_of_test_clips_of_some_labels(
    finished, tmp_path
):
    workdir, results = finished
    write_tones(tmp_path / "tones")
    for other in ("train", "validation", "test/high"):
        shutil.rmtree(tmp_path / "tones" / other)
    run.evaluate(
        [],
        [
            f"train.workdir = '{workdir}'",
            f"audio_folder.path = '{tmp_path / 'tones'}'",
        ],
    )
    evaluation = json.loads((workdir / "evaluation.json").read_text())
    (workdir / "evaluation.json").unlink()
    assert evaluation["data"]["counts"] == {"test": 6}
    # "low" and "mid" must not have become the first two of three labels.
    model = keras.models.load_model(workdir / "best.keras")
    waves, labels = [], []
    for label, position in (("low", 1), ("mid", 2)):
        for path in sorted((tmp_path / "tones/test" / label).glob("*.wav")):
            waves.append(soundfile.read(path, dtype="float32")[0][50:550])
            labels.append(position)
    found = model.predict(np.stack(waves), verbose=0).argmax(axis=-1)
    accuracy = np.mean(found == labels)
    assert evaluation["metrics"]["test"]["accuracy"] == pytest.approx(accuracy)


def test_evaluation_draws_anew_where_it_is_asked_for_a_share(tmp_path, capsys):
    write_tones(tmp_path / "splits")
    for split in ("train", "validation", "test"):
        for label in ("low", "high"):
            for file in (tmp_path / "splits" / split / label).iterdir():
                target = tmp_path / "tones" / label / f"{split}{file.name}"
                target.parent.mkdir(parents=True, exist_ok=True)
                file.rename(target)
    workdir = f"train.workdir = '{tmp_path / 'run'}'"
    fraction = "audio_folder.validation_fraction = 0.3"
    train_with(tmp_path, tmp_path / "run", "train.num_epochs = 1", fraction)

    def counts(*asked):
        run.evaluate([], [workdir, *asked])
        text = (tmp_path / "run/evaluation.json").read_text()
        evaluation = json.loads(text)
        if asked:
            assert (
                evaluation["config"].items()
                >= dict(one.split(" = ") for one in asked).items()
            )
        return evaluation["data"]["counts"]

    assert counts("audio_folder.test_fraction = 1") == {"test": 26}
    left = counts()["train"]
    assert f"not evaluated: train {left}\n" in capsys.readouterr().out
    path = f"audio_folder.path = '{tmp_path / 'splits'}'"
    shutil.rmtree(tmp_path / "splits/train")
    with pytest.raises(ValueError, match="takes it from the run, unless"):
        counts(path)
    for split in ("validation", "test"):
        place = tmp_path / "splits" / split
        (place / "low").rmdir()
        (place / "mid").rename(place / "low")
    assert counts(path, "audio_folder.validation_fraction = None") == {
        "validation": 3,
        "test": 3,
    }


@pytest.mark.parametrize("is_there", [True, False])
def test_evaluation_needs_a_run(tmp_path, is_there):
    workdir = tmp_path if is_there else tmp_path / "nothing"
    with pytest.raises(ValueError, match="`workdir` must hold a run"):
        run.evaluate([], [f"train.workdir = '{workdir}'"])


def test_without_a_config_the_quickstart_is_named():
    process = python("-m", "example.main", check=False)
    assert process.returncode == 1
    assert "--gin_config=example/configs/quickstart.gin" in process.stderr
    assert len(process.stderr.splitlines()) == 1


@pytest.mark.any_backend
def test_errors_of_use_end_in_one_line_and_a_status():
    process = python(
        "-m",
        "example.main",
        "--gin_config=mel.gin",
        "--gin_bindings=train.num_epoch = 3",
        check=False,
        KERAS_BACKEND="tensorflow",
    )
    assert process.returncode == 1
    assert "train" in process.stderr and "num_epoch" in process.stderr
    assert "Traceback" not in process.stderr
    assert process.stdout == ""


@pytest.mark.any_backend
def test_a_backend_that_is_not_there_is_named():
    command = ("-m", "example.main", "--gin_config=quickstart.gin")
    process = python(*command, check=False, KERAS_BACKEND="tensorflo")
    assert process.returncode == 1
    assert process.stderr.splitlines() == [
        "Error: `KERAS_BACKEND` must be one of tensorflow, jax, torch. "
        "Received: KERAS_BACKEND=tensorflo."
    ]


@pytest.mark.any_backend
def test_a_run_prints_a_table_and_what_to_run_next(folder, tmp_path):
    process = python(
        "-m",
        "example.main",
        f"--workdir={tmp_path / 'run'}",
        f"--data_dir={folder / 'prepared'}",
        "--seed=5",
        *main_flags(bindings(folder, "train.num_epochs = 1")),
    )
    assert process.stderr == ""
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["seed"] == 5
    for expected in (
        f"{results['metrics']['test']['accuracy']:.4f}",
        f"{results['metrics']['validation']['loss']:.4f}",
        f"best model: {tmp_path / 'run' / 'best.keras'}",
        f"--mode=eval --workdir={tmp_path / 'run'}",
        f"tensorboard --logdir={tmp_path / 'run' / 'tensorboard'}",
    ):
        assert expected in process.stdout


@pytest.mark.any_backend
def test_a_name_that_the_terminal_cannot_show_stops_nothing(tmp_path):
    write_tones(tmp_path / "tönes")
    process = python(
        "-m",
        "example.main",
        f"--workdir={tmp_path / 'rün'}",
        *main_flags(
            bindings(
                tmp_path,
                "train.num_epochs = 1",
                f"audio_folder.path = '{tmp_path / 'tönes'}'",
            )
        ),
        PYTHONIOENCODING="ascii",
    )
    assert r"r\xfcn" in process.stdout
