"""The folder of a run: its model, its state, its logs.

Every file is written beside its place, forced to disk and moved there, so that
a run that is killed leaves complete files, each old or new. `state.npz` alone
decides how far a run has come: all other files are made to agree with it when
the run goes on.
"""

import contextlib
import csv
import dataclasses
import fcntl
import json
import os
import pathlib
import shutil
import zipfile
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from leaf_audio.callbacks import built_leafs


@dataclasses.dataclass
class Progress:
    """How far a run has come.

    Attributes:
        identity: what makes it this run, as `configuration.operative` has it.
        history: a row of metrics for each completed epoch.
    """

    identity: dict[str, str]
    history: list[dict[str, float]] = dataclasses.field(default_factory=list)

    @property
    def best_epoch(self) -> int:
        """The epoch, from 1, of highest accuracy, then of lowest loss."""

        def rank(row):
            return row["val_accuracy"], -row["val_loss"], -row["epoch"]

        return int(max(self.history, key=rank)["epoch"])


class Workdir:
    """Reads and writes the files of a run.

    Args:
        path: a local folder, made where it does not exist.
    """

    def __init__(self, path: str | os.PathLike):
        if "://" in str(path) or not str(path):
            raise ValueError(
                "`workdir` must be a local folder. "
                f"Received: workdir={str(path)!r}."
            )
        self.path = pathlib.Path(path).expanduser()
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(
                "`workdir` must be a folder. "
                f"Received: workdir={str(path)!r}, a file."
            )
        self.best = self.path / "best.keras"
        self.state = self.path / "state.npz"
        self.config = self.path / "config.gin"
        self.metrics = self.path / "metrics.csv"
        self.filters = self.path / "filters.csv"
        self.tensorboard = self.path / "tensorboard"
        self.results = self.path / "results.json"
        self.evaluation = self.path / "evaluation.json"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps a second process from writing here at the same time.

        What this made is removed again if nothing else has been written.
        """
        path = self.path / ".lock"
        made = [p for p in (path, *path.parents) if not p.exists()]
        self.path.mkdir(parents=True, exist_ok=True)
        # The system releases the lock of a process that is killed.
        with open(path, "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ValueError(
                    "`workdir` must not be in use by another process. "
                    f"Received: workdir={str(self.path)!r}."
                ) from None
            try:
                yield
            finally:
                if made and list(self.path.iterdir()) == [path]:
                    path.unlink()
                    with contextlib.suppress(OSError):
                        for parent in made[1:]:
                            parent.rmdir()

    def read_progress(self) -> Progress | None:
        """Returns how far the run here has come; None for no run."""
        if not self.state.exists():
            for file in (self.best, self.results):
                if file.exists():
                    raise ValueError(
                        "`workdir` must be new or hold the state of a run. "
                        f"Received: workdir={str(self.path)!r}, which holds "
                        f"{file.name} but no {self.state.name}."
                    )
            return None
        with self._open_state() as arrays:
            return Progress(**json.loads(str(arrays["progress"])))

    def read_data(self) -> dict[str, Any]:
        """Returns what a finished run tells of its data, else nothing."""
        if not self.results.exists():
            return {}
        return json.loads(self.results.read_text("utf-8"))["data"]

    def save(self, model: keras.Model, progress: Progress) -> None:
        """Writes the state after an epoch, then all that follows from it."""
        arrays = {
            f"variable_{i}": _to_array(variable)
            for i, variable in enumerate(_variables(model))
        }
        for i, leaf in enumerate(built_leafs(model)):
            if leaf.planned_for is not None:
                arrays[f"planned_for_{i}"] = leaf.planned_for
        progress_json = json.dumps(dataclasses.asdict(progress))
        with _replacing(self.state) as path, open(path, "wb") as file:
            np.savez(file, progress=np.array(progress_json), **arrays)
        self.agree(model, progress)

    def restore(self, model: keras.Model, progress: Progress) -> None:
        """Loads the state into a model that is built and compiled."""
        variables = _variables(model)
        with self._open_state() as arrays:
            saved = sum(name.startswith("variable_") for name in arrays.files)
            if saved != len(variables):
                raise ValueError(
                    f"`workdir` must hold the state of this model, of "
                    f"{len(variables)} variables. Received: {self.state} with "
                    f"{saved}."
                )
            for i, variable in enumerate(variables):
                variable.assign(arrays[f"variable_{i}"])
            for i, leaf in enumerate(built_leafs(model)):
                # By another plan the run would go on slightly differently.
                if f"planned_for_{i}" in arrays.files:
                    leaf.restore_plan(arrays[f"planned_for_{i}"])
        self.agree(model, progress)

    def agree(self, model: keras.Model, progress: Progress) -> None:
        """Brings the best model and metrics.csv up to the state."""
        # The best model is that of the last epoch: its weights are the state's.
        # A kill may have come between writing one and the other.
        if progress.best_epoch == len(progress.history):
            with _replacing(self.best) as path:
                model.save(path)
        with _replacing(self.metrics) as path, open(path, "w") as file:
            columns = progress.history[0]
            writer = csv.DictWriter(file, columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(progress.history)

    def write_json(self, path: pathlib.Path, content: Any) -> None:
        """Writes a JSON file."""
        text = json.dumps(content, indent=2, ensure_ascii=False)
        self.write_text(path, text + "\n")

    def write_text(self, path: pathlib.Path, text: str) -> None:
        """Writes a text file."""
        with _replacing(path) as partial:
            # A file name's bytes that are no UTF-8 become \udcXX, which both
            # JSON and gin read back.
            partial.write_text(text, "utf-8", "backslashreplace")

    @contextlib.contextmanager
    def _open_state(self) -> Iterator[Any]:
        with open(self.state, "rb") as file:
            try:
                arrays = np.load(file)
            except (zipfile.BadZipFile, EOFError, ValueError) as error:
                raise ValueError(
                    "`workdir` must hold a readable state. Received: "
                    f"{self.state}, which is damaged ({error})."
                ) from error
            yield arrays


class TensorBoardLog:
    """Scalars of each epoch, for TensorBoard.

    How far filters have moved is among those of training.

    Args:
        folder: emptied first, since an epoch that a killed run logged but did
            not complete would otherwise appear twice.
        history: the epochs to begin with.
    """

    def __init__(self, folder: pathlib.Path, history: list[dict[str, float]]):
        shutil.rmtree(folder, ignore_errors=True)
        self._writers = {
            prefix: tf.summary.create_file_writer(str(folder / name))
            for prefix, name in (("", "train"), ("val_", "validation"))
        }
        for row in history:
            self.add(row)

    def add(self, row: dict[str, float]) -> None:
        """Logs an epoch."""
        for prefix, writer in self._writers.items():
            with writer.as_default(step=int(row["epoch"])):
                for name in ("loss", "accuracy"):
                    tf.summary.scalar(name, row[prefix + name])
                for name in row:
                    if name.startswith("drift_") and not prefix:
                        tf.summary.scalar(name, row[name])
            writer.flush()


def _variables(model: keras.Model) -> list[keras.Variable]:
    """All that a step depends on: seeds and moving averages included."""
    return [*model.variables, *model.optimizer.variables]


def _to_array(variable: keras.Variable) -> np.ndarray:
    array = keras.ops.convert_to_numpy(variable)
    # NumPy's format has no bfloat16; float32 holds all of its values.
    return array.astype("float32") if array.dtype.name == "bfloat16" else array


@contextlib.contextmanager
def _replacing(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Gives a path to write to, and moves what is there to `path`."""
    partial = path.with_name(f".partial-{path.name}")
    yield partial
    _sync(partial)
    os.replace(partial, path)
    _sync(path.parent)


def _sync(path: pathlib.Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
