"""Evaluation of the model of a run, also on other data."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
from collections.abc import Callable
from typing import Any

import keras

from leaf_audio import data
from leaf_audio.common import files
from leaf_audio.common.checks import (
    check_path,
    check_positive_int,
    check_text,
    check_unless_none,
)
from leaf_audio.common.run_folders import TABLES
from leaf_audio.training import checks, tables
from leaf_audio.training.observer import Observer
from leaf_audio.training.scoring import describe_data, metrics_of, score_splits
from leaf_audio.training.state import SavedState
from leaf_audio.training.workdir import Workdir


class NotWritten(OSError):
    """The results of an evaluation could not be written.

    Args:
        folder: The folder that they were to be written to.
        reason: What the system says.
        metrics: The metrics of each split, as `evaluate` returns them.

    Attributes:
        metrics: See above.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        reason: Exception,
        metrics: dict[str, dict[str, float]],
    ):
        super().__init__(
            f"the results could not be written to {folder} ({reason})"
        )
        self.metrics = metrics


def evaluate(
    workdir: str | os.PathLike,
    dataset: str,
    data_dir: str | None = None,
    batch_size: int = 64,
    *,
    load: Callable[..., data.AudioData],
    prepare: Callable[..., data.Batches],
    observer: Observer | None = None,
) -> dict[str, dict[str, float]]:
    """Evaluates the model of a run, and writes what it has found.

    `evaluation.json` and the tables by label go to a folder of their own for
    each data set; see `Workdir.evaluation`. An evaluation on the same data
    replaces the one before.

    Args:
        workdir: str or path. The folder of the run.
        dataset: str. The name of the data set. It needs no training split, and
            may have only some of the labels.
        data_dir: str or None. The folder for data sets and prepared clips.
            Defaults to None; see `leaf_audio.data.load`.
        batch_size: int, at least 1. The number of clips in a batch. Defaults
            to 64.
        load: `leaf_audio.data.load`, or a function that takes the same
            arguments.
        prepare: `leaf_audio.data.prepare`, or a function that takes the same
            arguments.
        observer: Follows the evaluation. Defaults to None for a plain
            `Observer`.

    Returns:
        For each split, the metrics; see `leaf_audio.training.scoring.Outcome`.

    Raises:
        ValueError: If there is no model, or it does not fit the data, or there
            are several tasks, or `results.json` is damaged, or a file that is
            no evaluation would be replaced.
        NotWritten: If the metrics are known, and cannot be written.
    """
    observer = observer or Observer()
    check_positive_int("batch_size", batch_size)
    check_text("dataset", dataset)
    check_unless_none(check_path, data_dir=data_dir)
    folder = Workdir(workdir)
    # Before the data is loaded, which may take hours.
    folder.check_one_task()
    model = folder.load_best()
    checks.check_is_classifier(model, workdir)
    thresholds = folder.read_thresholds()
    audio_data = load(dataset, data_dir=data_dir, for_training=False)
    checks.check_one_task(audio_data)
    checks.check_evaluation_split(audio_data)
    audio_data = _with_labels_of_model(audio_data, model, folder)
    checks.check_sample_rate(model, audio_data.sample_rate)
    evaluated = dataclasses.replace(
        audio_data,
        clips={k: v for k, v in audio_data.clips.items() if k != "train"},
    )
    batches = prepare(evaluated, batch_size=batch_size)
    file = folder.evaluation(audio_data.name, audio_data.fingerprint)
    _check_replaceable(file)
    observer.data_loaded(evaluated, batches, file)
    if "train" in audio_data.counts:
        observer.tell(f"not evaluated: train {audio_data.counts['train']}")
    outcomes = score_splits(model, batches)
    metrics = metrics_of(outcomes)
    content = {
        "config": observer.shared_values() | observer.settings(),
        # Whose model it is. None if the run has not ended: its model will be
        # another one.
        "epoch": folder.read_kept_epoch(),
        "data": describe_data(audio_data, outcomes),
        "metrics": metrics,
    }
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        # It must not stay beside tables that are those of another evaluation.
        file.unlink(missing_ok=True)
        tables.write(
            file.parent,
            audio_data.label_names,
            outcomes,
            observer.tell,
            thresholds,
        )
        files.write_json(file, content)
    except OSError as error:
        # Minutes of work must not be lost with them.
        raise NotWritten(file.parent, error, metrics) from error
    return metrics


def _data_of_unfinished(folder: Workdir) -> dict[str, Any]:
    """Returns the labels that the state of a run has recorded, or nothing."""
    # Without a state, or beside a damaged one, the model can be evaluated.
    with contextlib.suppress(OSError, ValueError):
        return SavedState(folder.path).read()[0].data
    return {}


def _check_replaceable(file: pathlib.Path) -> None:
    """Raises a ValueError if a folder holds files, but no evaluation."""
    if not file.parent.is_dir():
        return
    # A process that was killed may have left tables alone.
    if all(
        one.name in TABLES or files.is_partial(one.name)
        for one in file.parent.iterdir()
    ):
        return
    if "metrics" not in (files.read_json_object(file) or {}):
        raise ValueError(
            f"{file.parent} must be new or hold an evaluation. Received: files "
            f"without the {file.name} of one, which an evaluation would "
            "replace."
        )


def _with_labels_of_model(
    audio_data: data.AudioData, model: keras.Model, folder: Workdir
) -> data.AudioData:
    """Numbers the labels as they were when the model was trained."""
    trained = folder.read_data() or _data_of_unfinished(folder)
    if trained:
        return audio_data.relabelled(
            trained["labels"],
            is_multilabel=trained.get("is_multilabel", False),
        )
    # A run of an earlier version that is unfinished has not recorded them.
    num_labels = len(audio_data.label_names)
    if model.num_outputs != num_labels:
        raise ValueError(
            f"`dataset` must have the {model.num_outputs} labels that the "
            "model was trained for. Received: "
            f"dataset={audio_data.name!r} with {num_labels}."
        )
    return audio_data
