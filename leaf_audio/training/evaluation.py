"""Measuring a classifier's accuracy and cross-entropy."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

import keras
import numpy as np

from leaf_audio import data
from leaf_audio.common import files
from leaf_audio.common.checks import (
    check_path,
    check_positive_int,
    check_text,
    check_unless_none,
)
from leaf_audio.training import checks
from leaf_audio.training.feeding import feed
from leaf_audio.training.observer import Observer
from leaf_audio.training.workdir import Workdir

if TYPE_CHECKING:
    import grain


class Scorer:
    """Computes a classifier's accuracy and cross-entropy on a split.

    Keras' own metrics are not used, for two reasons. Several devices and a
    compiler need batches of one size, so the last batch must be filled up. And
    each clip must count exactly once.

    Args:
        batches: grain.IterDataset of (audio, label), as `Batches.evaluation`
            has them. The last batch may be smaller than the others.
        batch_size: int. The number of clips in a full batch.
    """

    def __init__(self, batches: grain.IterDataset, batch_size: int):
        self.labels = np.concatenate([label for _, label in batches])

        def fill_up(batch: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
            audio, _ = batch
            missing = batch_size - len(audio)
            return np.pad(audio, [(0, missing)] + [(0, 0)] * (audio.ndim - 1))

        self._audio = batches.map(fill_up)
        # Keras would warn of data that ends before it was told to.
        self._steps = -(-len(self.labels) // batch_size)

    def __call__(
        self, model: keras.Model, verbose: int = 0
    ) -> dict[str, float]:
        """Evaluates a model.

        Args:
            model: A classifier that returns logits.
            verbose: See `keras.Model.predict`. Defaults to 0.

        Returns:
            "accuracy", from 0 to 1, and "loss", the mean cross-entropy in
            nats. Where a clip may have several labels, both are means over all
            clips and labels.
        """
        logits = self.logits(model, verbose)
        if self.labels.ndim == 2:
            loss = np.logaddexp(0, logits) - self.labels * logits
            right = (logits > 0) == (self.labels > 0)
            return {
                "accuracy": float(right.mean()),
                "loss": float(loss.mean()),
            }
        right = logits.argmax(axis=-1) == self.labels
        highest = logits.max(axis=-1, keepdims=True)
        log_sum = np.log(np.exp(logits - highest).sum(axis=-1)) + highest[:, 0]
        own = np.take_along_axis(logits, self.labels[:, None], axis=-1)[:, 0]
        return {
            "accuracy": float(right.mean()),
            "loss": float((log_sum - own).mean()),
        }

    def logits(self, model: keras.Model, verbose: int = 0) -> np.ndarray:
        """Returns the outputs of a model, float64 of shape (clips, labels)."""
        logits = model.predict(
            feed(self._audio), steps=self._steps, verbose=verbose
        )
        return logits[: len(self.labels)].astype("float64")


def score_splits(
    model: keras.Model, batches: data.Batches
) -> dict[str, dict[str, float]]:
    """Computes accuracy and loss on each evaluation split.

    Args:
        model: A classifier that returns logits.
        batches: The batches.

    Returns:
        By name of the split, what `Scorer` returns.

    Raises:
        ValueError: If a loss is not finite.
    """
    metrics = {
        split: Scorer(some, batches.batch_size)(model)
        for split, some in batches.evaluation.items()
    }
    for split, values in metrics.items():
        if not math.isfinite(values["loss"]):
            raise ValueError(
                "The clips and the outputs of the model must be finite. "
                f"Received: a loss of {values['loss']} on {split!r}."
            )
    return metrics


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
    """Evaluates the best model of a run, and writes `evaluation.json`.

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
        For each split, "accuracy" and "loss".

    Raises:
        ValueError: If there is no model, or it does not fit the data.
    """
    observer = observer or Observer()
    check_positive_int("batch_size", batch_size)
    check_text("dataset", dataset)
    check_unless_none(check_path, data_dir=data_dir)
    folder = Workdir(workdir)
    _check_replaceable(folder)
    # Before the data is loaded, which may take hours.
    model = folder.load_best()
    audio_data = load(dataset, data_dir=data_dir, for_training=False)
    checks.check_evaluation_split(audio_data)
    audio_data = _with_labels_of_model(audio_data, model, folder)
    checks.check_sample_rate(model, audio_data.sample_rate)
    evaluated = dataclasses.replace(
        audio_data,
        clips={k: v for k, v in audio_data.clips.items() if k != "train"},
    )
    batches = prepare(evaluated, batch_size=batch_size)
    observer.data_loaded(evaluated, batches, folder.evaluation)
    if "train" in audio_data.counts:
        observer.tell(f"not evaluated: train {audio_data.counts['train']}")
    metrics = score_splits(model, batches)
    content = {
        "config": observer.shared_values() | observer.settings(),
        "data": {
            "name": audio_data.name,
            "counts": dict(audio_data.counts),
            "skipped": dict(audio_data.skipped),
            "warnings": list(audio_data.warnings),
            "fingerprint": audio_data.fingerprint,
        },
        "metrics": metrics,
    }
    files.write_json(folder.evaluation, content)
    return metrics


def _check_replaceable(folder: Workdir) -> None:
    """Raises a ValueError if `evaluation.json` is not one of this package."""
    if not folder.evaluation.exists():
        return
    try:
        content = json.loads(folder.evaluation.read_text("utf-8"))
    except (OSError, ValueError):
        content = None
    if not isinstance(content, dict) or "metrics" not in content:
        raise ValueError(
            f"`workdir` must not hold another {folder.evaluation.name} than "
            f"that of an evaluation. Received: {folder.evaluation}, which an "
            "evaluation would replace."
        )


def _with_labels_of_model(
    audio_data: data.AudioData, model: keras.Model, folder: Workdir
) -> data.AudioData:
    """Numbers the labels as they were when the model was trained."""
    trained = folder.read_data()
    if trained:
        return audio_data.relabelled(
            trained["labels"],
            is_multilabel=trained.get("is_multilabel", False),
        )
    # An unfinished run has not recorded its labels yet.
    num_labels = len(audio_data.label_names)
    if model.num_outputs != num_labels:
        raise ValueError(
            f"`dataset` must have the {model.num_outputs} labels that the "
            "model was trained for. Received: "
            f"dataset={audio_data.name!r} with {num_labels}."
        )
    return audio_data
