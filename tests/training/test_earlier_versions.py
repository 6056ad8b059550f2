"""Unfinished runs that an earlier version of the package has begun."""

import os
import signal

import pytest
from training_runs import (
    changed_archive,
    interrupted_after,
    rows,
    train_with,
)

from leaf_audio.training.processes import Terminated
from leaf_audio.training.within_epoch import SaveWithin

pytestmark = [pytest.mark.any_backend, pytest.mark.usefixtures("fresh_gin")]

LINES = ("train.num_epochs = 2", "train.learning_rate = 0.01")
# An argument of training, one of preparing the data, and one of a layer.
NEW = (
    "train.init_from",
    "train.encoder_learning_rate_factor",
    "prepare.balance",
    "MelFilterbanks.min_freq",
)


def begin_without(names, folder, workdir, monkeypatch):
    """Trains for an epoch, as a version that had no such settings."""
    with interrupted_after(1, monkeypatch):
        train_with(folder, workdir, *LINES)
    with changed_archive(workdir / "state.npz") as about:
        for name in names:
            del about["identity"][name]


def test_a_run_goes_on_whose_record_lacks_settings_that_are_new(
    folder, tmp_path, monkeypatch
):
    whole = train_with(folder, tmp_path / "whole", *LINES)
    begin_without(NEW, folder, tmp_path / "resumed", monkeypatch)
    resumed = train_with(folder, tmp_path / "resumed", *LINES)
    assert rows(tmp_path / "resumed") == rows(tmp_path / "whole")
    assert resumed["metrics"] == whole["metrics"]


def test_a_first_epoch_goes_on_whose_record_lacks_settings_that_are_new(
    folder, tmp_path, monkeypatch, capsys
):
    after_step = SaveWithin.on_train_batch_end

    def asked(self, batch, logs=None):
        os.kill(os.getpid(), signal.SIGTERM)
        after_step(self, batch, logs)

    with monkeypatch.context() as patch, pytest.raises(Terminated):
        patch.setattr(SaveWithin, "on_train_batch_end", asked)
        train_with(folder, tmp_path, *LINES)
    with changed_archive(tmp_path / "state_within.npz") as about:
        for name in NEW:
            del about["run"][name]
    train_with(folder, tmp_path, *LINES)
    assert "after step 1\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    "line, message",
    [
        ("data.prepare.balance = True", "prepare.balance .was False, is True"),
        ("MelFilterbanks.min_freq = 70.0", r"min_freq .was 60\.0, is 70"),
    ],
)
def test_a_new_setting_other_than_its_default_is_refused(
    line, message, folder, tmp_path, monkeypatch
):
    begin_without(NEW, folder, tmp_path, monkeypatch)
    with pytest.raises(ValueError, match=message):
        train_with(folder, tmp_path, *LINES, line)


def test_a_setting_without_a_default_may_not_be_missing(
    folder, tmp_path, monkeypatch
):
    begin_without(["KERAS_BACKEND"], folder, tmp_path, monkeypatch)
    with pytest.raises(ValueError, match="KERAS_BACKEND .was not set"):
        train_with(folder, tmp_path, *LINES)
