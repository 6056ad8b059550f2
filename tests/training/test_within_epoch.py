"""The state within an epoch: saved from time to time, and when asked to end."""

import contextlib
import csv
import dataclasses
import io
import json
import os
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
from tones import LEAF, ROOT, bindings, main_flags, write_tones
from training_runs import changed_archive

from leaf_audio.app import configuration, train
from leaf_audio.common import output
from leaf_audio.training import fitting, signals, within_epoch
from leaf_audio.training.processes import Interrupted, Terminated
from leaf_audio.training.progress import Progress
from leaf_audio.training.within_epoch import Damaged, SaveWithin, Within

pytestmark = [pytest.mark.compiled, pytest.mark.usefixtures("fresh_gin")]
EPOCHS, STEPS = 3, 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("within")
    write_tones(path / "tones")
    return path


def settings(folder, name, *more):
    return bindings(
        folder,
        f"train.workdir = '{folder / name}'",
        f"train.num_epochs = {EPOCHS}",
        f"train.steps_per_epoch = {STEPS}",
        "train.learning_rate = 0.01",
        "AudioClassifier.dropout = 0.2",
        *more,
        frontend=LEAF,
    )


def run(folder, name, *more):
    configuration.parse([], settings(folder, name, *more))
    return train.train()


@pytest.fixture(scope="module")
def whole(folder):
    with configuration.restored():
        run(folder, "whole")
    return folder / "whole"


def assert_same(one, other):
    """All but durations agree: of each epoch, the filters, and the model."""
    filters = [
        np.genfromtxt(path / "filters.csv", delimiter=",", names=True)
        for path in (one, other)
    ]
    assert filters[0].dtype.names == filters[1].dtype.names
    for name in filters[0].dtype.names:
        np.testing.assert_allclose(
            filters[0][name], filters[1][name], rtol=1e-5
        )
    rows = [
        (path / "metrics.csv").read_text().splitlines() for path in (one, other)
    ]
    columns = rows[0][0].split(",")
    assert rows[1][0].split(",") == columns
    for first, second in zip(rows[0][1:], rows[1][1:], strict=True):
        for name, a, b in zip(
            columns, first.split(","), second.split(","), strict=True
        ):
            if name != "seconds":
                np.testing.assert_allclose(float(a), float(b), rtol=1e-5)
    results = [
        json.loads((path / "results.json").read_text())["metrics"]
        for path in (one, other)
    ]
    assert results[0].keys() == results[1].keys()
    for split, values in results[0].items():
        np.testing.assert_allclose(
            values["loss"], results[1][split]["loss"], rtol=1e-5
        )


def stop_at(monkeypatch, step, number=signal.SIGTERM):
    """Sends a signal to the run, in a step counted over all epochs."""
    original = SaveWithin.on_train_batch_end
    seen = []

    def asked(self, batch, logs=None):
        seen.append(batch)
        if len(seen) == step:
            os.kill(os.getpid(), number)
        original(self, batch, logs)

    monkeypatch.setattr(SaveWithin, "on_train_batch_end", asked)


# In the first epoch, in a later one, and in the last step of an epoch.
@pytest.mark.parametrize(
    "step",
    [
        pytest.param(3, marks=pytest.mark.slow),
        STEPS + 5,
        pytest.param(2 * STEPS, marks=pytest.mark.slow),
    ],
)
def test_a_run_that_is_asked_to_end_goes_on_where_it_was(
    folder, whole, monkeypatch, capsys, step
):
    name = f"asked-{step}"
    with monkeypatch.context() as patch:
        stop_at(patch, step)
        with pytest.raises(Terminated) as error:
            run(folder, name)
    assert error.value.code == 143
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert "the same command goes on" in capsys.readouterr().out
    run(folder, name)
    told = capsys.readouterr().out
    epoch, done = divmod(step - 1, STEPS)
    place = f"in epoch {epoch + 1} of {folder / name}, after step {done + 1}\n"
    assert f"going on {place}" in told
    assert_same(whole, folder / name)
    assert not (folder / name / "state_within.npz").exists()


def test_the_time_of_an_epoch_counts_before_and_after_an_interruption(
    folder, monkeypatch
):
    more = "train.num_epochs = 2"
    with monkeypatch.context() as patch:
        stop_at(patch, 3)
        with pytest.raises(Terminated), configuration.restored():
            run(folder, "timed", more)
    with changed_archive(folder / "timed" / "state_within.npz") as about:
        about["seconds"] += 1000
    with monkeypatch.context() as patch:
        stop_at(patch, 2)
        with pytest.raises(Terminated), configuration.restored():
            run(folder, "timed", more)
    run(folder, "timed", more)
    with open(folder / "timed" / "metrics.csv", newline="") as file:
        first, second = csv.DictReader(file)
    assert 1000 < float(first["seconds"]) < 1200
    assert float(second["seconds"]) < 200


def test_averaged_weights_go_on_as_they_were(folder, monkeypatch):
    """`fit` ends with the averages, with which no step must begin."""
    averaged = (
        "train.optimizer = @AdamW",
        "AdamW.use_ema = True",
        "AdamW.ema_momentum = 0.9",
    )
    with configuration.restored():
        run(folder, "averaged", *averaged)
    with monkeypatch.context() as patch:
        stop_at(patch, 3)
        with pytest.raises(Terminated), configuration.restored():
            run(folder, "averaged-asked", *averaged)
    run(folder, "averaged-asked", *averaged)
    assert_same(folder / "averaged", folder / "averaged-asked")


def test_a_kill_during_an_evaluation_costs_no_step(
    folder, whole, monkeypatch, capsys
):
    """After a long epoch. It is only evaluated when the run goes on."""

    class Killed(BaseException):
        pass

    def killed(self, epoch, logs=None):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(within_epoch, "_BEFORE_EVALUATION_S", 0.0)
        patch.setattr(fitting.Recorder, "on_epoch_end", killed)
        with pytest.raises(Killed):
            run(folder, "evaluated")
    steps = []
    original = SaveWithin.on_train_batch_end

    def counted(self, batch, logs=None):
        steps.append(batch)
        original(self, batch, logs)

    capsys.readouterr()
    monkeypatch.setattr(SaveWithin, "on_train_batch_end", counted)
    run(folder, "evaluated")
    assert f"in epoch 1 of {folder / 'evaluated'}, after step {STEPS}\n" in (
        capsys.readouterr().out
    )
    assert len(steps) == (EPOCHS - 1) * STEPS
    assert_same(whole, folder / "evaluated")
    assert not list((folder / "evaluated").glob("state_within*"))


def test_ctrl_c_ends_the_run_after_its_step(folder, whole, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        stop_at(patch, 3, signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            run(folder, "interrupted")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    told = capsys.readouterr()
    assert "all is saved, and the same command goes on" in told.out
    assert "Ctrl-C again ends at once" in told.err
    run(folder, "interrupted")
    assert "in epoch 1 of" in capsys.readouterr().out
    assert_same(whole, folder / "interrupted")


def test_a_second_ctrl_c_ends_the_run_at_once(folder, monkeypatch, capsys):
    original = SaveWithin.on_train_batch_end

    def pressed_twice(self, batch, logs=None):
        for _ in range(2):
            signal.raise_signal(signal.SIGINT)
        original(self, batch, logs)

    monkeypatch.setattr(SaveWithin, "on_train_batch_end", pressed_twice)
    with pytest.raises(KeyboardInterrupt):
        run(folder, "at-once")
    assert "all is saved" not in capsys.readouterr().out
    assert not (folder / "at-once" / "state_within.npz").exists()


class Broken(io.StringIO):
    """Where a program has read that has ended by the same signal."""

    def write(self, text):
        raise BrokenPipeError


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_reader_that_has_ended_by_ctrl_c_costs_nothing(
    folder, monkeypatch, stream
):
    """As `tee` does in `python -m example.main ... 2>&1 | tee log`."""
    name = f"without-{stream}"
    discarded = []
    original = SaveWithin.on_train_batch_end
    seen = []

    def interrupted(self, batch, logs=None):
        seen.append(batch)
        if len(seen) == 3:
            monkeypatch.setattr(sys, stream, Broken())
            signal.raise_signal(signal.SIGINT)
        original(self, batch, logs)

    monkeypatch.setattr(SaveWithin, "on_train_batch_end", interrupted)
    monkeypatch.setattr(output, "discard", discarded.append)
    with pytest.raises(Interrupted):
        run(folder, name)
    assert (folder / name / "state_within.npz").exists()
    assert discarded == ([1] if stream == "stdout" else [])


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows has none")
def test_the_end_of_a_terminal_ends_the_run_after_its_step(
    folder, monkeypatch, capsys, request
):
    # nohup has the tests ignore it.
    usual = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    request.addfinalizer(lambda: signal.signal(signal.SIGHUP, usual))
    discarded = []
    monkeypatch.setattr(os, "isatty", lambda descriptor: descriptor == 2)
    monkeypatch.setattr(output, "discard", discarded.append)
    with monkeypatch.context() as patch:
        stop_at(patch, 3, signal.SIGHUP)
        with pytest.raises(Terminated):
            run(folder, "hung-up")
    assert "ended by the system (SIGHUP)" in capsys.readouterr().out
    assert discarded == [2]
    assert (folder / "hung-up" / "state_within.npz").exists()
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_DFL


def test_a_program_that_ignores_signals_goes_on_doing_so(monkeypatch):
    heard = signals._handlers
    assert signal.SIGINT in heard()
    usual = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert signal.SIGINT not in heard()
    finally:
        signal.signal(signal.SIGINT, usual)
    # Of a program that Python is a part of.
    monkeypatch.setattr(signal, "getsignal", lambda number: None)
    assert heard() == {}


def test_other_settings_in_the_first_epoch_are_refused(folder, monkeypatch):
    with monkeypatch.context() as patch:
        stop_at(patch, 3)
        with pytest.raises(Terminated):
            run(folder, "changed")
    state = folder / "changed" / "state_within.npz"
    before = state.read_bytes()
    was = (
        r"after step 3 of epoch 1, .* train.learning_rate \(was 0.01, is 0.5\)"
    )
    with pytest.raises(ValueError, match=was):
        run(folder, "changed", "train.learning_rate = 0.5")
    assert state.read_bytes() == before


@pytest.mark.slow
@pytest.mark.parametrize("is_damaged", [False, True])
def test_it_is_saved_after_some_time(
    folder, whole, monkeypatch, capsys, is_damaged
):
    """A process that is killed has lost the steps since then.

    If the newest state is damaged, it has lost those since the one before.
    """

    class Killed(BaseException):
        pass

    original = SaveWithin.on_train_batch_end
    seen = []

    def killed(self, batch, logs=None):
        original(self, batch, logs)
        seen.append(batch)
        if len(seen) == STEPS + 5:
            raise Killed

    name = f"killed-{is_damaged}"
    with monkeypatch.context() as patch:
        patch.setattr(SaveWithin, "on_train_batch_end", killed)
        with pytest.raises(Killed):
            run(folder, name, "train.checkpoint_minutes = 1e-9")
    file = folder / name / "state_within.npz"
    with np.load(file) as arrays:
        within = json.loads(str(arrays["progress"]))
    assert (within["epochs"], within["steps"]) == (1, 5)
    if is_damaged:
        file.write_bytes(file.read_bytes()[:-100])
    capsys.readouterr()
    run(folder, name)
    told = capsys.readouterr().out
    assert ("is damaged" in told) == is_damaged
    assert f"in epoch 2, after step {4 if is_damaged else 5}\n" in told
    assert_same(whole, folder / name)
    # Nothing is left that only an interrupted epoch needs.
    assert not list((folder / name).glob("state_within*"))


@pytest.fixture
def saved(tmp_path):
    """The file of a state within an epoch, and how to read it."""
    progress = Progress({"a": "b"})
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    made = Within(0, 3, 8, 0, within_epoch.settings_of(progress))
    path = tmp_path / "state_within.npz"
    within_epoch.write(path, made, model, {"variable_0": np.arange(3.0)})

    def read(progress=progress, steps=8):
        return within_epoch.read(path, progress, steps)

    assert read()[0] == made
    return path, read


def test_a_state_of_something_else_is_refused(saved):
    path, read = saved
    for other, differing in (
        ({"steps": 7}, r"steps in an epoch \(was 8, is 7\)"),
        ({"progress": Progress({"a": "c"})}, r"a \(was b, is c\)"),
    ):
        with pytest.raises(ValueError, match=f"state_within.npz.*{differing}"):
            read(**other)
    # A rate that falls until the last epoch would fall in another way.
    falling = Progress({"a": "b"})
    falling.begin_schedule(5, moves=True)
    with pytest.raises(ValueError, match="num_epochs .was not set, is 5"):
        read(progress=falling)
    assert read(progress=Progress({"a": "b"}, [{"epoch": 1}])) is None
    moved = Progress({"a": "b", "train.workdir": "elsewhere"})
    assert read(progress=moved) is not None
    path.unlink()
    assert read() is None


def test_a_damaged_state_is_of_no_use(saved):
    """The epoch begins again then."""
    path, read = saved
    whole = path.read_bytes()
    for content in (b"", whole[:-100]):
        path.write_bytes(content)
        with pytest.raises(Damaged, match="state_within.npz is damaged"):
            read()
    path.write_bytes(whole)
    good = read()[0]
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    for wrong in ({"run": "0123456789abcdef"}, {"steps": 0}, {"steps": 9}):
        content = dataclasses.replace(good, **wrong)
        within_epoch.write(path, content, model, {"variable_0": np.zeros(3)})
        within_epoch.before(path).unlink()
        with pytest.raises(Damaged, match="state_within.npz is damaged"):
            read()
    rng = np.random.default_rng(0)
    for position in rng.integers(len(whole), size=200):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        with contextlib.suppress(Damaged):
            found = read()
            np.testing.assert_array_equal(found[1]["variable_0"], [0, 1, 2])


def test_the_state_before_takes_the_place_of_a_damaged_one(saved, capsys):
    path, read = saved
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")

    def write(steps):
        made = dataclasses.replace(read()[0], steps=steps)
        within_epoch.write(path, made, model, {"variable_0": np.zeros(3)})

    def damage(file):
        file.write_bytes(file.read_bytes()[:-100])

    write(4)
    damage(path)
    found, arrays = read()
    assert found.steps == 3
    np.testing.assert_array_equal(arrays["variable_0"], [0, 1, 2])
    (told,) = capsys.readouterr().out.splitlines()
    assert told.endswith("is damaged: the state before takes its place")
    # The good one is kept at the next saving, and not the damaged one.
    write(5)
    damage(path)
    assert read()[0].steps == 3
    write(6)
    damage(path)
    damage(within_epoch.before(path))
    with pytest.raises(Damaged, match="state_within_before.npz is damaged"):
        read()
    within_epoch.remove(path)
    assert read() is None


@pytest.mark.slow
@pytest.mark.parametrize("number", range(10))
def test_a_run_survives_kills_at_any_moment(folder, whole, number):
    """As `kill -9` does, at a random moment, again and again."""
    name = f"killed-{number}"
    flags = main_flags(
        settings(folder, name, "train.checkpoint_minutes = 1e-9")
    )
    rng = np.random.default_rng(number)
    for _ in range(50):
        process = subprocess.Popen(
            [sys.executable, "-m", "example.main", *flags],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        state = folder / name / "state_within.npz"
        deadline = time.monotonic() + 100
        before = state.stat().st_mtime_ns if state.exists() else None
        while process.poll() is None and time.monotonic() < deadline:
            if state.exists() and state.stat().st_mtime_ns != before:
                break
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.5))
        process.kill()
        _, err = process.communicate()
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, err
    assert_same(whole, folder / name)
