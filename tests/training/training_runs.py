"""Short runs on the tones, for tests of training."""

import contextlib
import csv
import functools
import json
import pathlib
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tones import bindings

from leaf_audio import data, frontend, models, training
from leaf_audio.app import configuration, train
from leaf_audio.training import Workdir
from leaf_audio.training.state import load_archive, save_archive


class Loaded(Exception):
    """Data was asked for."""


def train_with(
    folder: pathlib.Path, workdir: pathlib.Path, *more: str, **parts: Any
) -> dict[str, Any]:
    """Trains on the tones of `folder`; see `tones.bindings`."""
    workdir = f"train.workdir = '{workdir}'"
    configuration.parse([], bindings(folder, workdir, *more, **parts))
    return train.train()


def train_without_gin(
    folder: pathlib.Path,
    workdir: pathlib.Path,
    align: Callable,
    **settings: Any,
) -> dict[str, Any]:
    """Trains on the tones of `folder` as a program of one's own does.

    Args:
        folder: The folder of the tones.
        workdir: The folder of the run.
        align: What brings the clips to one length.
        **settings: Further arguments of `TrainingConfig`.
    """
    reader = functools.partial(data.audio_folder, path=str(folder / "tones"))
    return training.train(
        training.TrainingConfig(
            str(workdir),
            dataset="audio_folder",
            data_dir=str(folder / "prepared"),
            batch_size=6,
            **settings,
        ),
        make_model=lambda num_outputs: models.AudioClassifier(
            num_outputs,
            frontend=frontend.MelFilterbanks(n_filters=8, sample_rate=4000),
            encoder=models.ConvNet([4]),
        ),
        load=functools.partial(
            data.load, sample_rate=4000, readers={"audio_folder": reader}
        ),
        prepare=functools.partial(data.prepare, transform_fns=[align]),
    )


@contextlib.contextmanager
def interrupted_after(
    epochs: int, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Interrupts the training in a `with` block once epochs are saved."""
    save = Workdir.save

    def interrupted(self, model, progress):
        save(self, model, progress)
        if len(progress.history) == epochs:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Workdir, "save", interrupted)
        with pytest.raises(KeyboardInterrupt):
            yield


@contextlib.contextmanager
def changed_archive(path: pathlib.Path) -> Iterator[dict[str, Any]]:
    """Yields what a state tells beside its arrays, and saves what is changed.

    Unlike `SavedState`, it can take out what an earlier version did not write.
    """
    about, arrays = load_archive(path.read_bytes())
    yield about
    with open(path, "wb") as file:
        save_archive(file, about, arrays)


def rows(workdir: pathlib.Path) -> list[dict[str, str]]:
    """Returns metrics.csv without the seconds, which differ between runs."""
    with open(workdir / "metrics.csv", newline="") as file:
        return [
            {k: v for k, v in row.items() if k != "seconds"}
            for row in csv.DictReader(file)
        ]


def evaluation_of(workdir: pathlib.Path) -> dict[str, Any]:
    """Returns the only evaluation in the folder of a run, and removes it."""
    (file,) = workdir.glob("evaluations/*/evaluation.json")
    content = json.loads(file.read_text("utf-8"))
    shutil.rmtree(workdir / "evaluations")
    return content
