"""The folder of a run: its model, its state, its logs.

A run that begins replaces nothing that it finds. See `Workdir.read_progress`.

Every file is written in one step (`leaf_audio.common.files`), so a run that is
killed leaves complete files, each of them old or new. The state alone decides
how far a run has come. When a run goes on, the other files are made to agree
with it, with one exception: where a finished run is trained further and the
last model is to be kept, `best.keras` stays until the run has ended again.
`results.json`, tables and `tasks/` describe `best.keras`, or are not there.
"""

import contextlib
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np

from leaf_audio.common import files
from leaf_audio.common.checks import check_path, check_share
from leaf_audio.common.listing import listed
from leaf_audio.common.run_folders import TABLES
from leaf_audio.common.serialization import load_model
from leaf_audio.data.recordings import walk_audio_files
from leaf_audio.models.student import kept_part
from leaf_audio.training import finite, run_files
from leaf_audio.training.batch_statistics import not_synchronized
from leaf_audio.training.claim import Claim
from leaf_audio.training.optimizers import averaged_weights, saved_unfrozen
from leaf_audio.training.progress import Progress
from leaf_audio.training.state import (
    SavedState,
    arrays_of,
    assign,
    mark_epoch,
    read_epoch,
)
from leaf_audio.training.within_epoch import Within
from leaf_audio.training.within_epoch import read as read_within
from leaf_audio.training.within_epoch import write as write_within


class Workdir:
    """Reads and writes the files of a run.

    Making the object touches no file.

    Args:
        path: str or path. The local folder of the run. `locked` creates it if
            it does not exist.

    Raises:
        ValueError: If `path` is a URL or a file.

    Attributes:
        path: The folder.
        best: `best.keras`, the model of the best epoch, or of the last one, as
            `Progress.keep` says.
        state: `state.npz`, the weights, the state of the optimizer and the
            progress after the last completed epoch. See
            `leaf_audio.training.state`.
        within: `state_within.npz`, the same within an epoch. The one before is
            kept beside it. See `leaf_audio.training.within_epoch`.
        config: `config.gin`, every setting that was in force.
        settings: `settings.json`, the same settings as plain data: a text for
            each, by its name.
        metrics: `metrics.csv`, a row for each epoch.
        filters: `filters.csv`, a row for each epoch and learned filter.
        tensorboard: `tensorboard`, a folder of logs.
        results: `results.json`, the summary of a finished run.
        tables: For each evaluation split, the files of
            `leaf_audio.training.tables`: `classes_test.csv`,
            `confusion_test.csv`, `confusion_test.png` and so on.
        evaluations: `evaluations`, a folder of evaluations on other data.
        tasks: `tasks`. With several tasks, a folder for each; see `of_task`.
        damages: What `read_progress` found damaged and the run makes up for, as
            sentences to tell.
    """

    def __init__(self, path: str | os.PathLike):
        check_path("workdir", path)
        if "://" in str(path):
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
        self._saved = SavedState(self.path)
        self.state = self._saved.newest
        self.within = self.path / "state_within.npz"
        self.damages: list[str] = []
        # The arrays of the state that `read_progress` read, for `restore`.
        self._arrays: dict[str, Any] | None = None
        self._results_are_void = False
        self.config = self.path / "config.gin"
        self.settings = self.path / "settings.json"
        self.metrics = self.path / "metrics.csv"
        self.filters = self.path / "filters.csv"
        self.tensorboard = self.path / "tensorboard"
        self.results = self.path / "results.json"
        self.tables = [self.path / name for name in TABLES]
        self.evaluations = self.path / "evaluations"
        self.tasks = self.path / "tasks"
        self._claim = Claim(self.path)

    def locked(self) -> contextlib.AbstractContextManager[None]:
        """Creates the folder, and locks it against other processes.

        If no run begins in the `with` block, what was created is removed again
        at its end.

        Raises:
            ValueError: If another process has locked the folder.
        """
        return self._claim.locked()

    def claim(self) -> None:
        """Marks the files of the folder as those of a run.

        Called within `locked`, before the first of them is written. A run that
        is killed in its first epoch leaves no state. By this mark it is known
        that its files may be replaced.
        """
        self._claim.mark()

    def read_progress(self) -> Progress | None:
        """Reads how far the run in this folder has come.

        Returns:
            The progress, or None if a new run may begin here.

        Raises:
            ValueError: If no state can be read, or there is none beside files
                that a new run would replace.
        """
        if not self._saved.exists():
            self._check_nothing_is_lost()
            return None
        progress, self._arrays = self._saved.read()
        if self._saved.damage:
            self.damages.append(self._saved.damage)
        done = len(progress.history)
        is_lost = self._model_is_lost(progress)
        if is_lost:
            self.damages.append(
                f"{self.best}, the model of epoch {progress.kept_epoch}, is "
                f"damaged or missing: that of epoch {done} takes its place"
            )
            progress.first_candidate = done
        self._results_are_void = is_lost or self.finished_epochs() > done
        return progress

    def _model_is_lost(self, progress: Progress) -> bool:
        """Returns whether a model that must be there is not.

        The model of the state's epoch need not be: it is written anew. A
        process may have been killed before it wrote that.
        """
        kept = progress.kept_epoch
        held = read_epoch(self.best, default=kept)
        if held is None and (self.best.exists() or self.results.exists()):
            return True
        return kept != len(progress.history) and held != kept

    def _check_nothing_is_lost(self) -> None:
        """Raises a ValueError if a new run would replace what is there."""
        kept = [self.best, self.results]
        is_marked = self._claim.is_marked()
        if not is_marked:
            kept = [
                self.config,
                self.settings,
                self.metrics,
                self.filters,
                self.tensorboard,
                self.evaluations,
                self.tasks,
                *self.tables,
                *kept,
            ]
        found = [file.name for file in kept if _holds_something(file)]
        if found:
            raise ValueError(
                "`workdir` must be new or hold the state of a run. "
                f"Received: workdir={str(self.path)!r}, which holds "
                f"{' and '.join(found)} but no {self.state.name}. A run would "
                "replace what is there: choose another workdir, or move it "
                "elsewhere."
            )
        if not is_marked:
            check_no_recordings(self.path)

    def of_task(self, name: str) -> "Workdir":
        """Returns the folder of a task, which a finished run has written.

        It is the folder of a finished run with the classifier of this task.

        Args:
            name: The name of the task.
        """
        return Workdir(self.tasks / name)

    def check_one_task(self) -> None:
        """Raises a ValueError if this is a finished run of several tasks."""
        if not self.results.exists():
            return
        tasks = self.read_summary().get("tasks")
        if tasks:
            runs = ", ".join(str(self.of_task(name).path) for name in tasks)
            raise ValueError(
                "`workdir` must hold a run of one task. Received: "
                f"workdir={str(self.path)!r}, a run of several. Each of them "
                f"has a folder to use instead: {runs}."
            )

    def evaluation(self, dataset: str, fingerprint: str) -> pathlib.Path:
        """Returns where the evaluation on a data set is written.

        Args:
            dataset: The name of the data set.
            fingerprint: Its fingerprint, which tells two states of it apart.

        Returns:
            A file such as
            `evaluations/audio_folder-v2-1a2b3c4d/evaluation.json`. The tables
            of the evaluation lie beside it.
        """
        folder = f"{files.safe_name(dataset)}-{fingerprint[:11]}"
        return self.evaluations / folder / "evaluation.json"

    def load_best(self) -> keras.Model:
        """Loads the model that is kept, for use and not for training.

        The optimizer is left out. Its class may belong to another backend than
        the present one.

        Returns:
            The model, not compiled.

        Raises:
            ValueError: If there is no model, or its weights are not finite.
        """
        if not self.best.exists():
            raise ValueError(
                "`workdir` must hold a run with one completed epoch at least. "
                f"Received: workdir={str(self.path)!r} without "
                f"{self.best.name}."
            )
        model = load_model(self.best)
        found = finite.not_finite(model.variables)
        if found:
            raise ValueError(
                "`workdir` must hold a model whose weights are finite. "
                f"Received: {self.best}, where these are not: "
                f"{listed(found, 3)}. The run must be repeated in another "
                "workdir."
            )
        return model

    def finished_epochs(self) -> int:
        """Returns after how many epochs the run was finished; 0 if never.

        The run may have been trained further since. Results count for nothing
        if `read_progress` finds their model or their state lost.

        Raises:
            ValueError: If `results.json` is damaged.
        """
        if self._results_are_void or not self.results.exists():
            return 0
        return self.read_summary("timings")["timings"].get("epochs", 0)

    def read_kept_epoch(self) -> int | None:
        """Reads of which epoch a finished run has kept the model.

        Returns:
            Its number, from 1. Or None if the run is unfinished, or of a
            version that did not record it.

        Raises:
            ValueError: If `results.json` is damaged.
        """
        if not self.results.exists():
            return None
        return self.read_summary().get("kept_epoch")

    def read_data(self) -> dict[str, Any]:
        """Reads what a finished run has recorded about its data.

        Returns:
            The entry "data" of `results.json`: among others "name", "labels",
            "is_multilabel" and "sample_rate". An empty dictionary if the run is
            unfinished.

        Raises:
            ValueError: If `results.json` is damaged.
        """
        if not self.results.exists():
            return {}
        return self.read_summary("data.labels", "data.name")["data"]

    def read_thresholds(self) -> list[float] | None:
        """Reads from which probability on a finished run gives each label.

        Returns:
            A number from 0 to 1 for each label, in the order of the labels. Or
            None if the run is for one label of each clip, or unfinished.

        Raises:
            ValueError: If `results.json` is damaged.
        """
        trained_on = self.read_data()
        if not trained_on.get("is_multilabel", False):
            return None
        recorded = self.read_summary("thresholds")["thresholds"]
        try:
            return [
                check_share(f"threshold of {label}", recorded.get(label))
                for label in trained_on["labels"]
            ]
        except ValueError as error:
            raise ValueError(
                f"{self.results} must hold a threshold for each label. {error}"
            ) from error

    def read_summary(self, *required: str) -> dict[str, Any]:
        """Reads what a finished run has recorded, all of `results.json`.

        Args:
            *required: Names of entries that must be there, such as "data.name".

        Raises:
            ValueError: If `results.json` is damaged, or lacks such an entry.
        """
        return run_files.read_summary(self.results, required)

    def save(self, model: keras.Model, progress: Progress) -> None:
        """Writes the state after an epoch, then the files that depend on it.

        Args:
            model: The model, built and compiled.
            progress: The progress, with the epoch that has just ended.

        Raises:
            TrainingStopped: If a weight is not finite. Nothing is written then,
                and the state before stays.
        """
        finite.check_weights(model, f"after epoch {len(progress.history)}")
        self._saved.write(progress, arrays_of(model))
        self.agree(model, progress)

    def save_within(self, model: keras.Model, within: Within) -> None:
        """Writes the state within an epoch.

        Args:
            model: The model, built and compiled.
            within: How far the epoch has come.

        Raises:
            TrainingStopped: If a weight is not finite. Nothing is written then,
                and the state before stays.
        """
        when = f"after step {within.steps} of epoch {within.epochs + 1}"
        finite.check_weights(model, when)
        write_within(self.within, within, model, arrays_of(model))

    def restore_within(
        self,
        model: keras.Model,
        progress: Progress,
        steps_per_epoch: int,
        defaults: Mapping[str, str] | None = None,
        tell: Callable[[str], None] = print,
    ) -> tuple[Within, dict[str, np.ndarray]] | None:
        """Loads the state within the next epoch into a model, if there is one.

        Args:
            model: A model of the same configuration, built and compiled.
            progress: The epochs that are done.
            steps_per_epoch: The number of steps of an epoch.
            defaults: See `check_same_run`. Defaults to none.
            tell: Is called with a line if the newest one is damaged. Defaults
                to `print`.

        Returns:
            How far the epoch has come, and the arrays of the file; or None.

        Raises:
            within_epoch.Damaged: If there is one that cannot be read.
            ValueError: If it was written with other settings or data.
        """
        found = read_within(
            self.within, progress, steps_per_epoch, defaults, tell
        )
        if found is None:
            return None
        within, arrays = found
        assign(model, arrays, self.within)
        return within, arrays

    def restore(self, model: keras.Model, progress: Progress) -> None:
        """Loads the state into a model.

        Args:
            model: A model of the same configuration, built and compiled.
            progress: The progress that `read_progress` returned.

        Raises:
            ValueError: If the state has another number of variables, or one
                that is not finite.
        """
        arrays, self._arrays = self._arrays, None
        if arrays is None:
            _, arrays = self._saved.read()
        assign(model, arrays, self._saved.source)
        if self._results_are_void:
            self._remove_results()
        self.agree(model, progress)

    def agree(self, model: keras.Model, progress: Progress) -> None:
        """Makes `metrics.csv` agree with the state, and mostly `best.keras`.

        A run that is trained further keeps the last model of before until it
        ends again; see `end`.

        Args:
            model: The model, with the weights of the state.
            progress: The progress of the state.
        """
        # A process may have been killed after it wrote the state and before it
        # wrote the model. If the model of the last epoch is to be kept, its
        # weights are those of the state, and it can be written now.
        if not self._waits_for_end(progress):
            self._keep(model, progress)
        # A metric may be undefined after some of the epochs.
        columns = dict.fromkeys(
            name for row in progress.history for name in row
        )
        files.write_csv(self.metrics, list(columns), progress.history)

    def end(self, model: keras.Model, progress: Progress) -> None:
        """Replaces the model of a run that was trained further.

        Args:
            model: The model, with the weights of the state.
            progress: The progress of the state, with all of its epochs.
        """
        if self._waits_for_end(progress):
            self._keep(model, progress)

    def _waits_for_end(self, progress: Progress) -> bool:
        return progress.keep == "last" and self.finished_epochs() > 0

    def _keep(self, model: keras.Model, progress: Progress) -> None:
        done = len(progress.history)
        if progress.kept_epoch != done or self.finished_epochs() == done:
            return
        with averaged_weights(model), files.replacing(self.best) as path:
            with not_synchronized(model), saved_unfrozen(model):
                kept_part(model).save(path)
            mark_epoch(path, done)
            self._remove_results()

    def _remove_results(self) -> None:
        """Removes what describes a model that is replaced, or is made of it."""
        # The results come first: without them, a folder counts as unfinished.
        for file in (self.results, *self.tables):
            file.unlink(missing_ok=True)
        tasks = filter(pathlib.Path.is_dir, self.tasks.glob("*"))
        for task in map(Workdir, tasks):
            logs = (task.metrics, task.filters)
            for file in (task.results, task.best, *logs, *task.tables):
                file.unlink(missing_ok=True)
        self._results_are_void = False


def check_no_recordings(workdir: pathlib.Path) -> None:
    """Raises a ValueError if a run would be written among recordings.

    Args:
        workdir: The folder for the run. It need not exist.
    """
    recording = next(walk_audio_files(workdir), None)
    if recording is not None:
        raise ValueError(
            "`workdir` must be new or hold a run. Received: "
            f"workdir={str(workdir)!r}, which holds a recording, {recording}. "
            "Choose a folder outside of the recordings."
        )


def _holds_something(path: pathlib.Path) -> bool:
    """Returns whether there is a file, or a folder that is not empty."""
    if path.is_dir():
        return any(path.iterdir())
    # A link to a file that is missing counts: writing would replace it.
    return os.path.lexists(path)
