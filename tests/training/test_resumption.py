"""Runs that go on: after a kill, for longer, or not at all."""

import json
import os
import shutil
import signal
import subprocess
import sys

import keras
import numpy as np
import pytest
from tones import ROOT, bindings, main_flags, python
from training_runs import interrupted_after, rows, train_with

from leaf_audio import frontend
from leaf_audio.app import train
from leaf_audio.training import Workdir, fitting, schedules, scoring
from leaf_audio.training.progress import Progress, differences, same_run

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

from leaf_audio.app import main

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

os.replace = replace
np.savez = savez
main.run()
"""


pytestmark = pytest.mark.usefixtures("fresh_gin")


def record_rates(monkeypatch):
    """Returns a list that collects the learning rate of each step."""
    rates = []

    def on_train_batch_begin(self, batch, logs=None):
        optimizer = self.model.optimizer
        if keras.backend.backend() == "jax" and batch:
            self.model.jax_state_sync()
        rates.append(float(optimizer.learning_rate))

    monkeypatch.setattr(
        fitting.Recorder, "on_train_batch_begin", on_train_batch_begin
    )
    return rates


def train_interrupted(number, monkeypatch, folder, workdir, *lines):
    """Trains, and is interrupted when an epoch has been saved."""
    with interrupted_after(number, monkeypatch):
        train_with(folder, workdir, *lines)


def no_load(*args, **kwargs):
    raise AssertionError("data was loaded")


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


@pytest.mark.slow
def test_raising_num_epochs_equals_having_asked_for_them(folder, tmp_path):
    def run(name, epochs):
        num_epochs = f"train.num_epochs = {epochs}"
        return train_with(folder, tmp_path / name, num_epochs)

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
@pytest.mark.slow
def test_a_finished_cosine_run_that_is_trained_further_starts_its_rate_again(
    folder, tmp_path, monkeypatch
):
    rates = record_rates(monkeypatch)
    cosine = (
        "train.learning_rate = 0.01",
        "train.learning_rate_schedule = 'cosine'",
        "train.warmup_epochs = 0.5",
        "train.steps_per_epoch = 4",
    )
    train_with(folder, tmp_path / "run", *cosine, "train.num_epochs = 1")
    first = list(rates)
    train_with(folder, tmp_path / "run", *cosine, "train.num_epochs = 3")
    second = rates[4:]
    # Two steps of warm-up, then down to 0 after the last step.
    np.testing.assert_allclose(first[:3], [1 / 300, 2 / 300, 0.01], rtol=1e-5)
    assert first[3] == pytest.approx(0.005, rel=1e-5)
    np.testing.assert_allclose(second[:3], first[:3], rtol=1e-5)
    assert len(second) == 8
    falling = 0.005 * (1 + np.cos(np.pi * np.arange(6) / 6))
    np.testing.assert_allclose(second[2:], falling, rtol=1e-4)
    assert [row["epoch"] for row in rows(tmp_path / "run")] == ["1", "2", "3"]
    assert Workdir(tmp_path / "run").read_progress().ends == [1, 3]
    with pytest.raises(ValueError, match="raise train.num_epochs to train on"):
        train_with(folder, tmp_path / "run", *cosine, "train.num_epochs = 3")


def contents(workdir):
    return {
        name: (workdir / name).read_bytes()
        for name in ("best.keras", "results.json")
    }


@pytest.mark.any_backend
def test_what_a_run_has_finished_stays_until_it_ends_again(
    folder, tmp_path, monkeypatch
):
    lines = (
        "train.keep = 'last'",
        "train.learning_rate_schedule = 'cosine'",
        "train.warmup_epochs = 0.5",
    )
    train_with(folder, tmp_path, *lines, "train.num_epochs = 1")
    finished = contents(tmp_path)
    longer = (folder, tmp_path, *lines, "train.num_epochs = 3")
    for number in (2, 3):
        train_interrupted(number, monkeypatch, *longer)
        assert contents(tmp_path) == finished
    # There is no epoch left to train.
    results = train_with(*longer)
    assert results["kept_epoch"] == 3
    for name, content in contents(tmp_path).items():
        assert content != finished[name]


@pytest.mark.any_backend
def test_results_go_with_the_best_model_that_they_describe(
    folder, tmp_path, monkeypatch
):
    one = train_with(folder, tmp_path, "train.num_epochs = 1")
    finished = contents(tmp_path)
    score = scoring.Scorer.__call__
    monkeypatch.setattr(
        scoring.Scorer,
        "__call__",
        lambda *given: score(*given) | {"accuracy": 1.0},
    )
    train_interrupted(2, monkeypatch, folder, tmp_path, "train.num_epochs = 2")
    assert one["metrics"]["validation"]["accuracy"] < 1
    assert (tmp_path / "best.keras").read_bytes() != finished["best.keras"]
    for name in ("results.json", "classes_test.csv", "confusion_test.csv"):
        assert not (tmp_path / name).exists()
    results = train_with(folder, tmp_path, "train.num_epochs = 2")
    assert results["kept_epoch"] == 2
    assert (tmp_path / "classes_test.csv").exists()


def test_a_model_that_cannot_be_written_leaves_the_one_before(
    finished, tmp_path, monkeypatch
):
    shutil.copytree(finished[0], tmp_path / "run")
    before = contents(tmp_path / "run")

    def fail(self, path):
        path.write_bytes(b"a half")
        raise OSError("disk full")

    monkeypatch.setattr(keras.Model, "save", fail)
    progress = Workdir(tmp_path / "run").read_progress()
    progress.history.append({**progress.history[-1], "val_accuracy": 1.0})
    progress.history[-1]["epoch"] = 3
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    with pytest.raises(OSError, match="disk full"):
        Workdir(tmp_path / "run").agree(model, progress)
    assert contents(tmp_path / "run") == before


@pytest.mark.any_backend
def test_a_run_is_not_trained_further_for_its_warm_up_alone(
    folder, tmp_path, monkeypatch
):
    lines = (
        "train.learning_rate_schedule = 'cosine'",
        "train.warmup_epochs = 1",
        "train.steps_per_epoch = 1",
    )
    train_with(folder, tmp_path, *lines, "train.num_epochs = 2")
    monkeypatch.setattr(train, "load", no_load)
    with pytest.raises(ValueError, match="must be at least 4 .*num_epochs=3"):
        train_with(folder, tmp_path, *lines, "train.num_epochs = 3")


@pytest.mark.any_backend
@pytest.mark.slow
def test_an_unfinished_cosine_run_keeps_its_length(
    folder, tmp_path, monkeypatch
):
    cosine = "train.learning_rate_schedule = 'cosine'"
    train_interrupted(
        1, monkeypatch, folder, tmp_path, cosine, "train.num_epochs = 2"
    )
    state = (tmp_path / "state.npz").read_bytes()
    monkeypatch.setattr(train, "load", no_load)
    for number in (1, 3):
        with pytest.raises(
            ValueError, match=f"must be 2 until.*num_epochs={number}"
        ):
            train_with(folder, tmp_path, cosine, f"train.num_epochs = {number}")
    assert (tmp_path / "state.npz").read_bytes() == state
    monkeypatch.undo()
    train_with(folder, tmp_path, cosine, "train.num_epochs = 2")
    assert len(rows(tmp_path)) == 2


@pytest.mark.parametrize(
    "done, ends, asked, schedule, after",
    [
        (0, [], 5, (0, 5), [5]),
        # Nothing is trained yet, so that any length will do.
        (0, [5], 7, (0, 7), [7]),
        (3, [5], 5, (0, 5), [5]),
        (5, [5], 5, (0, 5), [5]),
        (5, [5], 9, (5, 9), [5, 9]),
        (7, [5, 9], 9, (5, 9), [5, 9]),
        (9, [5, 9], 10, (9, 10), [5, 9, 10]),
    ],
)
@pytest.mark.any_backend
def test_a_schedule_begins_where_the_one_before_has_ended(
    done, ends, asked, schedule, after
):
    progress = Progress({}, [{}] * done, list(ends))
    # The second time, the data is loaded.
    for _ in range(2):
        assert progress.begin_schedule(asked, moves=True) == schedule
        assert progress.ends == after


@pytest.mark.any_backend
def test_a_constant_rate_has_one_schedule_of_any_length():
    progress = Progress({}, [{}] * 3, [3])
    assert progress.begin_schedule(8, moves=False) == (0, 8)


@pytest.mark.any_backend
def test_a_delayed_schedule_is_saved():
    made = schedules.create("cosine", 0.1, 2, 6, first_step=10)
    loaded = keras.optimizers.schedules.deserialize(
        keras.optimizers.schedules.serialize(made)
    )
    plain = schedules.create("cosine", 0.1, 2, 6)
    for step in range(6):
        assert float(loaded(10 + step)) == float(plain(step))
    assert float(loaded(3)) == float(plain(0))


@pytest.mark.compiled
@pytest.mark.slow
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
    # The second process goes on from where the first was killed.
    for event, epochs_done in (
        ("writing state.npz:2", 1),
        ("wrote state.npz:1", 2),
    ):
        killed = python("-c", KILLER, event, *flags, check=False)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        progress = Workdir(tmp_path / "killed").read_progress()
        assert len(progress.history) == epochs_done, event
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


def test_a_workdir_in_use_is_refused_with_the_name_of_its_user(
    folder, tmp_path
):
    workdir = tmp_path / "run"
    with Workdir(workdir).locked():
        with pytest.raises(ValueError, match="in use by another proc") as error:
            train_with(folder, workdir)
    assert f"which process {os.getpid()} on " in str(error.value)
    assert not workdir.exists()


def test_a_killed_process_leaves_no_lock(tmp_path):
    program = (
        "import sys, time\n"
        "from leaf_audio.training import Workdir\n"
        "with Workdir(sys.argv[1]).locked():\n"
        "    print('locked', flush=True)\n"
        "    time.sleep(600)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "locked\n"
    with pytest.raises(ValueError, match=f"which process {process.pid} on "):
        with Workdir(tmp_path).locked():
            pass
    process.kill()
    process.communicate()
    with Workdir(tmp_path).locked():
        pass


def test_a_damaged_state_is_named(folder, tmp_path):
    (tmp_path / "state.npz").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(ValueError, match="state.npz, which is damaged"):
        train_with(folder, tmp_path)


def test_results_without_a_state_are_not_overwritten(folder, tmp_path):
    (tmp_path / "results.json").write_text("{}")
    with pytest.raises(ValueError, match="results.json but no state.npz"):
        train_with(folder, tmp_path)


def test_differences_name_the_bindings():
    assert differences(
        {"a": "1", "b": "2", "c": "3"}, {"a": "1", "b": "5", "d": "4"}
    ) == ["b (was 2, is 5)", "c (was 3, is not set)", "d (was not set, is 4)"]


def test_a_setting_that_is_missing_counts_as_its_default():
    defaults = {"c": "3", "d": "4"}
    assert not differences({"a": "1"}, {"a": "1", "c": "3"}, defaults)
    found = differences({"a": "1"}, {"a": "1", "c": "5"}, defaults)
    assert found == ["c (was 3, is 5)"]


def test_where_a_run_is_computed_may_change():
    for name in ("tpu.address", "mirrored.devices", "data_parallel.devices"):
        assert not same_run({name: "'a'"})
    assert same_run({"train.seed": "1"})
