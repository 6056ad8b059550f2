"""Checks that data, model and devices fit each other."""

from __future__ import annotations

import os

import keras

from leaf_audio import data
from leaf_audio.models.contrastive import Contrastive


def check_evaluation_split(audio_data: data.AudioData) -> None:
    """Raises a ValueError if a data set has only a training split."""
    splits = list(audio_data.clips)
    if splits == ["train"]:
        raise ValueError(
            "`dataset` must have a split 'validation' or 'test'. "
            f"Received: dataset={audio_data.name!r} with {splits}."
        )


def check_training_split(audio_data: data.AudioData) -> None:
    """Raises a ValueError if a data set has no training split."""
    if "train" not in audio_data.clips:
        raise ValueError(
            "`dataset` must have a split 'train'. Received: "
            f"dataset={audio_data.name!r} with {list(audio_data.clips)}."
        )


def check_batch_of_pairs(audio_data: data.AudioData, batch_size: int) -> None:
    """Raises a ValueError if a batch has too few recordings, or the same twice.

    Args:
        audio_data: A data set with a training split.
        batch_size: The number of clips in a batch.
    """
    count = audio_data.counts["train"]
    if not 2 <= batch_size <= count:
        raise ValueError(
            f"`batch_size` must be from 2 to {count} with `pretraining`: "
            "different recordings of a batch are compared with each other, and "
            f"there are {count} for training. Received: "
            f"batch_size={batch_size}."
        )


def check_labels(audio_data: data.AudioData) -> None:
    """Raises a ValueError if a data set has fewer than two labels.

    One label that clips have or lack is enough.
    """
    if len(audio_data.label_names) < 2 and not audio_data.is_multilabel:
        raise ValueError(
            "`dataset` must have at least two labels. Received: dataset="
            f"{audio_data.name!r} with {list(audio_data.label_names)}."
        )


def check_one_task(audio_data: data.AudioData) -> None:
    """Raises a ValueError if a data set was joined from several."""
    if audio_data.tasks:
        raise ValueError(
            "`dataset` must be that of one task to evaluate a model. Received: "
            f"dataset={audio_data.name!r}, of several. A finished run has a "
            "folder for each."
        )


def check_is_classifier(model: keras.Model, workdir: str | os.PathLike) -> None:
    """Raises a ValueError if a model was trained without labels."""
    if isinstance(model, Contrastive):
        raise ValueError(
            "`workdir` must hold a classifier, whose labels can be evaluated. "
            f"Received: workdir={str(workdir)!r}, whose {type(model).__name__} "
            "was trained without labels."
        )


def check_sample_rate(model: keras.Model, data_rate: float | None) -> None:
    """Raises a ValueError if a frontend is for another sample rate.

    Args:
        model: A model with or without a `frontend`.
        data_rate: The sample rate of the data, in Hz. None if it is unknown,
            which is not an error.
    """
    rate = getattr(getattr(model, "frontend", None), "sample_rate", None)
    if None not in (rate, data_rate) and rate != data_rate:
        raise ValueError(
            "`sample_rate` of the frontend must be that of the data, "
            f"{data_rate}. Received: sample_rate={rate}. (In a config, the "
            "macro `sample_rate` sets both.)"
        )


def check_batch_divides(batch_size: int, num_devices: int) -> None:
    """Raises a ValueError if devices cannot share a batch equally."""
    if batch_size % num_devices:
        raise ValueError(
            "`batch_size` must be a multiple of the number of devices, "
            f"{num_devices}. Received: batch_size={batch_size}."
        )
