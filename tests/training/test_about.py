"""What a run records of its software and its folder."""

import importlib.metadata
import os

import keras
import pytest

from leaf_audio.training import Workdir, about


def test_a_package_by_another_name_has_its_version(monkeypatch):
    """As tensorflow-cpu has, which no record names tensorflow."""
    version = importlib.metadata.version

    def without_keras(name):
        if name == "keras":
            raise importlib.metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(importlib.metadata, "version", without_keras)
    assert about.versions()["keras"] == keras.__version__
    monkeypatch.delattr(keras, "__version__")
    assert about.versions()["keras"] == "unknown"


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path):
    # A folder takes the place of the file, since rights do not bind root.
    os.mkdir(tmp_path / ".lock")
    with pytest.raises(ValueError, match="`workdir` must be .*/.lock cannot"):
        with Workdir(tmp_path).locked():
            pass
    os.rmdir(tmp_path / ".lock")
    # Nothing depends on the name of the process that has locked it.
    os.mkdir(tmp_path / ".lock_holder")
    with Workdir(tmp_path).locked():
        pass
