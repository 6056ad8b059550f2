"""Files of a run that are damaged, lost or moved before it goes on."""

import contextlib
import csv
import errno
import json
import os
import shutil

import keras
import numpy as np
import pytest
from tones import bindings
from training_runs import rows, train_with

from leaf_audio import frontend
from leaf_audio.app import configuration, train
from leaf_audio.callbacks import LogFilters
from leaf_audio.common import files
from leaf_audio.training import fitting
from leaf_audio.training.progress import Progress
from leaf_audio.training.state import SavedState, mark_epoch, read_epoch
from leaf_audio.training.workdir import Workdir

pytestmark = pytest.mark.usefixtures("fresh_gin")


def write_states(folder, epochs):
    saved = SavedState(folder)
    for epoch in range(1, epochs + 1):
        history = [{"epoch": i} for i in range(1, epoch + 1)]
        arrays = {"variable_0": np.full(50, epoch, "float32")}
        saved.write(Progress({"seed": "0"}, history), arrays)
    return saved


def epoch_read(folder):
    """Reads a state, and returns its epoch and whether damage was told."""
    saved = SavedState(folder)
    progress, arrays = saved.read()
    epoch = len(progress.history)
    np.testing.assert_array_equal(arrays["variable_0"], np.full(50, epoch))
    return epoch, saved.damage is not None


@pytest.mark.any_backend
def test_any_flipped_bit_of_the_state_is_harmless_or_found(tmp_path):
    """The run then goes on from the state before."""
    state = write_states(tmp_path, 3).newest
    whole = state.read_bytes()
    rng = np.random.default_rng(0)
    found = 0
    for position in rng.integers(len(whole), size=400):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << rng.integers(8)
        state.write_bytes(damaged)
        epoch, is_told = epoch_read(tmp_path)
        assert (epoch, is_told) in [(3, False), (2, True)]
        found += is_told
    assert found > 100


@pytest.mark.any_backend
@pytest.mark.parametrize("size", [0, 1, 200, -1])
def test_a_state_that_was_cut_off_is_found(tmp_path, size):
    state = write_states(tmp_path, 2).newest
    state.write_bytes(state.read_bytes()[:size])
    assert epoch_read(tmp_path) == (1, True)


@pytest.mark.any_backend
def test_the_state_before_is_read_if_there_is_no_other(tmp_path):
    """A process was killed between two moves."""
    write_states(tmp_path, 2).newest.unlink()
    assert SavedState(tmp_path).exists()
    assert epoch_read(tmp_path) == (1, False)


@pytest.mark.any_backend
def test_a_damaged_state_does_not_take_the_place_of_a_good_one(tmp_path):
    saved = write_states(tmp_path, 2)
    saved.newest.write_bytes(b"")
    again = SavedState(tmp_path)
    progress, arrays = again.read()
    again.write(progress, arrays)
    again.newest.write_bytes(b"")
    assert epoch_read(tmp_path) == (1, True)


@pytest.mark.any_backend
def test_two_damaged_states_are_named(tmp_path):
    saved = write_states(tmp_path, 2)
    saved.newest.write_bytes(b"PK\x03\x04 and no more")
    saved.before.write_bytes(b"")
    with pytest.raises(ValueError, match="state.npz, .*; .*state_before.npz"):
        saved.read()


@pytest.mark.any_backend
def test_a_state_that_cannot_be_opened_is_not_damaged(tmp_path, monkeypatch):
    """Otherwise the one before would take its place."""
    saved = write_states(tmp_path, 2)

    def refuse(path):
        raise PermissionError(f"no right to read {path}")

    monkeypatch.setattr(type(tmp_path), "read_bytes", refuse)
    with pytest.raises(PermissionError, match="state.npz"):
        saved.read()
    with pytest.raises(PermissionError, match="best.keras"):
        read_epoch(tmp_path / "best.keras", default=1)


@pytest.mark.any_backend
def test_a_state_of_a_later_version_is_not_damaged(tmp_path):
    saved = write_states(tmp_path, 2)
    with np.load(saved.newest) as archive:
        arrays = dict(archive)
    fields = json.loads(str(arrays.pop("progress"))) | {"mood": "good"}
    np.savez(saved.newest, progress=np.array(json.dumps(fields)), **arrays)
    with pytest.raises(ValueError, match="or of an earlier .* with .'mood'"):
        saved.read()


@pytest.mark.any_backend
@pytest.mark.parametrize("is_full", [False, True])
def test_a_file_system_without_links_keeps_the_file_before(
    tmp_path, monkeypatch, is_full
):
    """Nor can a link lead to another file system."""

    def refuse(*paths):
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    def fill(source, target):
        target.write_text("t")
        raise OSError(errno.ENOSPC, "No space left on device", str(target))

    path, before = tmp_path / "file", tmp_path / "before"
    path.write_text("two")
    before.write_text("one")
    monkeypatch.setattr(os, "link", refuse)
    if is_full:
        monkeypatch.setattr(shutil, "copyfile", fill)
        expected = {"file": "two", "before": "one"}
        outcome = pytest.raises(OSError, match="No space left")
    else:
        expected = {"file": "three", "before": "two"}
        outcome = contextlib.nullcontext()
    with outcome, files.replacing(path, before=before) as partial:
        partial.write_text("three")
    found = {file.name: file.read_text() for file in tmp_path.iterdir()}
    assert found == expected


@pytest.mark.any_backend
def test_a_kill_while_a_file_is_replaced_leaves_it(tmp_path, monkeypatch):
    path, before = tmp_path / "file", tmp_path / "before"

    def write(text):
        with files.replacing(path, before=before) as partial:
            partial.write_text(text)

    write("one")
    assert not before.exists()
    write("two")
    assert (path.read_text(), before.read_text()) == ("two", "one")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        move = os.replace

        def killed(source, target):
            if target == path:
                raise KeyboardInterrupt
            move(source, target)

        patch.setattr(os, "replace", killed)
        write("three")
    assert (path.read_text(), before.read_text()) == ("two", "two")
    write("four")
    assert (path.read_text(), before.read_text()) == ("four", "two")
    assert {file.name for file in tmp_path.iterdir()} == {"file", "before"}


SETTINGS = ("train.learning_rate = 0.01", "train.keep = 'best'")


def run(folder, workdir, epochs):
    num_epochs = f"train.num_epochs = {epochs}"
    return train_with(folder, workdir, num_epochs, *SETTINGS)


def unfinished(finished, path):
    """Copies a run of two epochs, as if it had not come to its end."""
    shutil.copytree(finished[0], path)
    (path / "results.json").unlink()
    return path


def test_a_state_whose_arrays_have_lost_their_names_is_damaged(
    finished, tmp_path
):
    """An archive has sums of its arrays, but not of their names."""
    workdir = unfinished(finished, tmp_path / "run")
    saved = SavedState(workdir)
    content = saved.newest.read_bytes()
    assert content.count(b"variable_1.npy") == 2
    saved.newest.write_bytes(content.replace(b"variable_1.", b"variabld_1."))
    progress, arrays = saved.read()
    assert len(progress.history) == 1
    assert "variable_1" in arrays
    assert "other names" in saved.damage


@contextlib.contextmanager
def changing(workdir):
    """Yields the progress of a run, and saves what the `with` block changes."""
    saved = SavedState(workdir)
    progress, arrays = saved.read()
    yield progress
    saved.write(progress, arrays)


def test_a_run_with_a_damaged_state_repeats_an_epoch(
    folder, finished, tmp_path, capsys
):
    workdir = unfinished(finished, tmp_path / "run")
    (workdir / "state.npz").write_bytes(b"")
    results = run(folder, workdir, 2)
    assert "state.npz, which is damaged" in capsys.readouterr().out
    assert results["kept_epoch"] == finished[1]["kept_epoch"]
    for row, before in zip(rows(workdir), rows(finished[0]), strict=True):
        for name, value in before.items():
            assert float(row[name]) == pytest.approx(float(value), rel=1e-5)


@pytest.mark.parametrize("is_there", [True, False])
def test_a_lost_model_is_told_at_the_start_and_replaced(
    folder, finished, tmp_path, capsys, is_there
):
    workdir = unfinished(finished, tmp_path / "run")
    with changing(workdir) as progress:
        # As if its first epoch had been the best.
        progress.history[0]["val_accuracy"] = 2.0
    best = workdir / "best.keras"
    if is_there:
        best.write_bytes(best.read_bytes()[:-200])
    else:
        best.unlink()
    results = run(folder, workdir, 3)
    out = capsys.readouterr().out
    assert "the model of epoch 1, is damaged or missing" in out
    assert out.index("is damaged or missing") < out.index("epoch 3/3")
    assert results["kept_epoch"] in (2, 3)
    assert Workdir(workdir).load_best().count_params() > 0


def test_the_lost_model_of_a_finished_run_is_replaced(
    folder, finished, tmp_path
):
    workdir = tmp_path / "run"
    shutil.copytree(finished[0], workdir)
    (workdir / "best.keras").write_bytes(b"")
    with changing(workdir) as progress:
        for row in progress.history:
            # No epoch to come is better.
            row["val_accuracy"] = row["epoch"] + 1.0
    results = run(folder, workdir, 3)
    assert results["kept_epoch"] == 2
    assert Workdir(workdir).load_best().count_params() > 0


def test_a_lost_model_stays_lost_until_a_state_says_so(
    folder, finished, tmp_path, monkeypatch
):
    """A run was killed after it had replaced the model."""
    workdir = unfinished(finished, tmp_path / "run")
    with changing(workdir) as progress:
        progress.history[0]["val_accuracy"] = 2.0
    (workdir / "best.keras").unlink()

    def killed(*args, **kwargs):
        raise KeyboardInterrupt

    for _ in range(2):
        with monkeypatch.context() as patch:
            patch.setattr(fitting, "fit", killed)
            with pytest.raises(KeyboardInterrupt):
                run(folder, workdir, 3)
        assert read_epoch(workdir / "best.keras", default=0) == 2
        assert Workdir(workdir).read_progress().kept_epoch == 2
    assert run(folder, workdir, 3)["kept_epoch"] in (2, 3)
    progress, _ = SavedState(workdir).read()
    assert progress.first_candidate == 2


def test_a_model_of_an_epoch_that_is_lost_is_not_taken_for_another(
    finished, tmp_path
):
    """The newest state is damaged; its epoch had been the best."""
    workdir = unfinished(finished, tmp_path / "run")
    saved = SavedState(workdir)
    progress, arrays = saved.read()
    row = progress.history[0]
    progress.history = [row | {"val_accuracy": 0.9, "epoch": 1}, row, row]
    saved.write(progress, arrays)
    saved.newest.unlink()
    progress.history = progress.history[:2]
    progress.history[1] = progress.history[1] | {"epoch": 2}
    saved.write(progress, arrays)
    mark_epoch(workdir / "best.keras", 3)
    read = Workdir(workdir)
    assert read.read_progress().kept_epoch == 2
    assert "the model of epoch 1, is damaged or missing" in read.damages[0]


def test_results_of_a_lost_epoch_do_not_count(folder, finished, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(finished[0], workdir)
    (workdir / "state.npz").write_bytes(b"")
    before = (workdir / "results.json").read_bytes()
    read = Workdir(workdir)
    assert len(read.read_progress().history) == 1
    assert read.finished_epochs() == 0
    assert (workdir / "results.json").read_bytes() == before
    results = run(folder, workdir, 2)
    assert results["timings"]["epochs"] == 2
    kept = results["kept_epoch"]
    assert read_epoch(workdir / "best.keras", default=0) == kept


def test_a_finished_run_whose_model_is_lost_gets_another(
    folder, finished, tmp_path, capsys
):
    workdir = tmp_path / "run"
    shutil.copytree(finished[0], workdir)
    (workdir / "best.keras").unlink()
    results = run(folder, workdir, 2)
    assert "that of epoch 2 takes its place" in capsys.readouterr().out
    assert results["kept_epoch"] == 2
    assert Workdir(workdir).load_best().count_params() > 0


def test_a_run_of_an_earlier_version_goes_on(
    folder, finished, tmp_path, capsys
):
    """It has recorded another fingerprint of its data."""
    workdir = unfinished(finished, tmp_path / "run")
    with changing(workdir) as progress:
        progress.identity["data set audio_folder"] = "0123456789abcdef"
    assert run(folder, workdir, 3)["timings"]["epochs"] == 3
    assert "an earlier version began this run" in capsys.readouterr().out


def test_a_log_of_filters_that_is_none_is_replaced(tmp_path):
    path = tmp_path / "filters.csv"
    model = keras.Sequential(
        [frontend.Leaf(n_filters=2), keras.layers.GlobalMaxPooling1D()]
    )
    model.compile("sgd", "mse")
    model.build((None, 400))
    x = np.random.default_rng(0).normal(size=(2, 400)).astype("float32")
    garbage = b"\xff\xfe\x00", b"a,b\n1,2\n", b"epoch\nx\n", b"epoch\n0,1\n"
    for content in garbage:
        path.write_bytes(content)
        with pytest.warns(UserWarning, match="is no log of filters"):
            model.fit(
                x,
                np.zeros((2, 2)),
                epochs=2,
                initial_epoch=1,
                callbacks=[LogFilters(path)],
                verbose=0,
            )
        assert path.read_text().startswith("epoch,")

    # Another version may have logged something else.
    path.write_text("epoch,filter,mood\n0,0,good\n")
    model.fit(
        x,
        np.zeros((2, 2)),
        epochs=2,
        initial_epoch=1,
        callbacks=[LogFilters(path)],
        verbose=0,
    )
    with open(path, newline="") as file:
        assert next(csv.DictReader(file))["mood"] == "good"


@pytest.mark.parametrize("content", ["{}", "[]", "nothing"])
def test_damaged_results_are_named(finished, tmp_path, content):
    (tmp_path / "results.json").write_text(content)
    folder = Workdir(tmp_path)
    for read in (folder.finished_epochs, folder.read_data):
        with pytest.raises(ValueError, match="results.json must be the summ"):
            read()


def test_a_run_goes_on_with_copies_of_its_recordings(
    folder, finished, tmp_path
):
    """Other times, rights and folders do not make other recordings."""
    workdir = unfinished(finished, tmp_path / "run")
    other = tmp_path / "elsewhere"
    shutil.copytree(folder / "tones", other / "tones")
    for file in other.rglob("*.wav"):
        os.chmod(file, 0o600)
        os.utime(file)
    configuration.parse(
        [],
        [
            *bindings(folder, f"train.workdir = '{workdir}'", *SETTINGS),
            "train.num_epochs = 3",
            f"audio_folder.path = '{other / 'tones'}'",
            f"train.data_dir = '{tmp_path / 'data'}'",
        ],
    )
    assert train.train()["timings"]["epochs"] == 3
