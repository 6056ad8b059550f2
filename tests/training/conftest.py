"""A folder of tones, and a finished run on them."""

import gin
import pytest
from tones import write_tones
from training_runs import Loaded, train_with

from leaf_audio.app import train


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("training")
    write_tones(path / "tones")
    return path


@pytest.fixture(scope="session")
def finished(folder, tmp_path_factory):
    """A run of two epochs."""
    workdir = tmp_path_factory.mktemp("finished") / "run"
    results = train_with(
        folder, workdir, "train.num_epochs = 2", "train.learning_rate = 0.01"
    )
    gin.clear_config()
    return workdir, results


@pytest.fixture
def no_data(monkeypatch):
    """Stops a run where it would load data."""

    def load(*args, **kwargs):
        raise Loaded

    monkeypatch.setattr(train, "load", load)
