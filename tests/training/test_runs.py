"""Whole runs: what they leave, what they tell, when they stop."""

import contextlib
import csv
import io
import json
import random
import shutil

import gin
import keras
import numpy as np
import pytest
import soundfile
from tones import SAMPLE_RATE, bindings, main_flags, python, write_tones
from training_runs import rows, train_with

from leaf_audio import models
from leaf_audio.app import configuration, plot, train
from leaf_audio.training import TrainingStopped, fitting, schedules, scoring
from leaf_audio.training.progress import Progress

pytestmark = pytest.mark.usefixtures("fresh_gin")


def test_a_run_leaves_every_promised_file(finished):
    workdir, results = finished
    names = {file.name for file in workdir.iterdir()}
    tables = {
        f"{name}_{split}.csv"
        for name in ("classes", "confusion")
        for split in ("validation", "test")
    }
    # These need matplotlib.
    names -= {"confusion_validation.png", "confusion_test.png"}
    assert names == tables | {
        ".lock",
        ".run",
        "best.keras",
        "config.gin",
        "metrics.csv",
        "results.json",
        "settings.json",
        "state.npz",
        "state_before.npz",
        "tensorboard",
    }
    assert json.loads((workdir / "results.json").read_text()) == results
    assert [row["epoch"] for row in rows(workdir)] == ["1", "2"]
    for name in ("train", "validation"):
        assert len(list((workdir / "tensorboard" / name).iterdir())) == 1


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="TensorFlow traces steps"
)
@pytest.mark.compiled
def test_a_step_is_traced_once(folder, tmp_path, monkeypatch):
    traces = []
    train_step = models.AudioClassifier.train_step

    def traced(self, data):
        traces.append(self)
        return train_step(self, data)

    monkeypatch.setattr(models.AudioClassifier, "train_step", traced)
    train_with(folder, tmp_path / "run", "train.num_epochs = 2")
    assert len(traces) == 1


@pytest.fixture(scope="module")
def run_of_leaf(folder, tmp_path_factory):
    """The folder of a run that learns filters, and what it printed."""
    workdir = tmp_path_factory.mktemp("leaf") / "run"
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        train_with(
            folder,
            workdir,
            "train.num_epochs = 2",
            "Leaf.n_filters = 4",
            "Leaf.sample_rate = 4000",
            "AudioClassifier.frontend = @Leaf()",
        )
    gin.clear_config()
    return workdir, printed.getvalue()


def test_a_run_follows_the_filters_that_it_learns(folder, run_of_leaf):
    workdir, _ = run_of_leaf
    with open(workdir / "filters.csv", newline="") as file:
        epochs = [row["epoch"] for row in csv.DictReader(file)]
    assert epochs == ["0"] * 4 + ["1"] * 4 + ["2"] * 4
    for row in rows(workdir):
        assert float(row["drift_centre_hz"]) > 0
    pytest.importorskip("matplotlib")
    recording = next((folder / "tones").rglob("*.wav"))
    plot.draw(str(workdir), None, str(recording))
    names = {file.name for file in (workdir / "figures").iterdir()}
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
    assert set(results["metrics"]["test"]) == {
        "accuracy",
        "accuracy_low",
        "accuracy_high",
        "balanced_accuracy",
        "macro_f1",
        "loss",
    }
    assert results["data"]["groups"] == {"validation": 9, "test": 9}


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
    batches = train.prepare(
        train.load("audio_folder", data_dir=str(folder / "prepared")),
        batch_size=5,
    )
    right, losses = [], []
    for audio, label in batches.evaluation["test"]:
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


def test_the_model_of_the_last_epoch_may_be_kept():
    history = [
        {"epoch": 1, "val_accuracy": 0.9, "val_loss": 0.1},
        {"epoch": 2, "val_accuracy": 0.8, "val_loss": 0.2},
    ]
    assert Progress({}, history).kept_epoch == 1
    assert Progress({}, history, keep="last").kept_epoch == 2


def test_the_best_epoch_of_several_labels_is_that_of_their_metric():
    history = [
        {"epoch": 1, "val_map": 0.5, "val_loss": 0.1},
        # Undefined, where no validation clip has a label.
        {"epoch": 2, "val_loss": 0.1},
        {"epoch": 3, "val_map": 0.6, "val_loss": 0.3},
        {"epoch": 4, "val_map": 0.6, "val_loss": 0.2},
    ]
    assert Progress({}, history).best_epoch == 4


@pytest.mark.any_backend
def test_each_epoch_has_a_line_of_80_columns(run_of_leaf):
    workdir, printed = run_of_leaf
    lines = [one for one in printed.splitlines() if "epoch " in one]
    for number, (row, line) in enumerate(
        zip(rows(workdir), lines, strict=True), 1
    ):
        assert line.startswith(f"epoch {number}/2: loss ")
        value = float(row["val_accuracy"])
        assert f" (val {value:.3f}), " in line
        assert "drift" not in line and len(line) <= 80
    assert "step" not in printed


@pytest.mark.any_backend
def test_the_line_of_an_epoch_is_short_with_large_numbers():
    row = {
        "epoch": 1000,
        "loss": 123.456,
        "accuracy": 1.0,
        "val_loss": 123.456,
        "val_accuracy": 0.5,
        "val_macro_f1": 0.5,
        "seconds": 9999.9,
        "drift_centre_hz": 1.0,
    }
    line = fitting.epoch_line(row, 1000)
    assert len(line) <= 80
    assert line.endswith("accuracy 1.000 (val 0.500), 10000 s")
    several = {
        "epoch": 3,
        "loss": 0.5,
        "label_accuracy": 0.1,
        "val_map": 0.25,
        "val_loss": 0.4,
        "seconds": 2,
    }
    assert fitting.epoch_line(several, 9) == (
        "epoch 3/9: loss 0.500 (val 0.400), val mAP 0.250, 2 s"
    )


@pytest.mark.slow
def test_training_learns_the_tones(folder, tmp_path):
    results = train_with(
        folder,
        tmp_path / "run",
        "train.num_epochs = 24",
        "train.learning_rate = 0.1",
        # Frequencies as channels: a linear classifier of their maxima.
        "AudioClassifier.encoder = @Permute()",
        "Permute.dims = (1, 3, 2)",
        encoder=(),
    )
    assert results["metrics"]["test"]["accuracy"] > 0.85


def test_a_loss_that_is_not_finite_stops_training(folder, tmp_path):
    with pytest.raises(TrainingStopped, match="loss is (nan|inf) at st"):
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
        scoring.Scorer,
        "__call__",
        lambda *_: {"accuracy": 0.5, "loss": float("nan")},
    )
    with pytest.raises(TrainingStopped, match="validation loss is nan"):
        train_with(folder, tmp_path / "run")
    assert not (tmp_path / "run" / "state.npz").exists()


@pytest.mark.any_backend
@pytest.mark.slow
def test_what_loading_draws_does_not_change_a_run(
    folder, tmp_path, monkeypatch
):
    """TFDS draws from Python's random numbers where it prepares a set."""
    load, runs = train.load, []
    for draws in (0, 5):

        def load_and_draw(*args, draws=draws, **kwargs):
            for _ in range(draws):
                random.random()
                np.random.rand()
            return load(*args, **kwargs)

        monkeypatch.setattr(train, "load", load_and_draw)
        workdir = tmp_path / str(draws)
        runs.append(train_with(folder, workdir, "train.num_epochs = 1"))
    assert runs[0]["metrics"] == runs[1]["metrics"]


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
    told = "no validation clips: the best epoch will be chosen by test"
    write_tones(tmp_path / "tones")
    train_with(tmp_path, tmp_path / "with", "train.num_epochs = 1")
    assert told not in capsys.readouterr().out
    shutil.rmtree(tmp_path / "tones" / "validation")
    train_with(tmp_path, tmp_path / "without", "train.num_epochs = 1")
    assert told in capsys.readouterr().out
    last = ("train.num_epochs = 1", "train.keep = 'last'")
    train_with(tmp_path, tmp_path / "last", *last)
    assert "test takes the place of validation" in capsys.readouterr().out


@pytest.mark.any_backend
def test_results_hold_macros_and_names_as_they_are_written(tmp_path):
    for level, split in ((0.5, "train"), (0.4, "test")):
        for label in ("größe", "日本"):
            place = tmp_path / "tones" / split / label
            place.mkdir(parents=True)
            samples = np.full(600, level)
            soundfile.write(place / "0.wav", samples, SAMPLE_RATE)
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
    rate = schedules.create(schedule, 0.1, warmup_steps=4, total_steps=12)
    rates = [float(rate(step)) for step in range(13)]
    np.testing.assert_allclose(rates[:5], np.linspace(0.02, 0.1, 5), rtol=1e-5)
    if schedule == "constant":
        np.testing.assert_allclose(rates[4:], 0.1, rtol=1e-5)
    else:
        expected = 0.05 * (1 + np.cos(np.pi * np.arange(9) / 8))
        np.testing.assert_allclose(rates[4:], expected, atol=1e-7)


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
    # Another test may have prepared the recordings.
    lines = process.stderr.splitlines()
    assert [one for one in lines if not one.startswith("Preparing")] == []
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["seed"] == 5
    for expected in (
        f"{results['metrics']['test']['accuracy']:.4f}",
        f"{results['metrics']['validation']['loss']:.4f}",
        f"model: {tmp_path / 'run' / 'best.keras'}",
        f"tables: {tmp_path / 'run' / 'classes_*.csv'}",
    ):
        assert expected in process.stdout
    *_, after = process.stdout.partition("next:\n")
    lines = [line.strip() for line in after.splitlines()]
    assert len(lines) <= 6
    for name in ("report", "predict", "stream", "embed", "export"):
        start = f"python -m example.{name} --workdir={tmp_path / 'run'}"
        assert any(line.startswith(start) for line in lines)
    assert lines[-1] == f"tensorboard --logdir={tmp_path}/run/tensorboard"


@pytest.mark.any_backend
@pytest.mark.slow
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
