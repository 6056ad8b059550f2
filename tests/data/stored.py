"""Stores clips that a test has made."""

import os
import pathlib

import numpy as np

from leaf_audio.data import clip_store
from leaf_audio.data.clip_store import Clip, Source


def store(data_dir, splits, label_names, sample_rate=8000, **changes):
    """Prepares clips: a list of `Clip`, or a `Source`, for each split."""
    arguments = {
        "name": "set",
        "settings": {"a": 1},
        "state": ["x"],
        "describe": lambda stored: {"label_names": list(label_names)},
    }
    return clip_store.prepare_once(
        data_dir=str(data_dir),
        sample_rate=sample_rate,
        sources=lambda: {
            split: clips if isinstance(clips, Source) else Source.of(clips)
            for split, clips in splits.items()
        },
        **(arguments | changes),
    )


def tone(i):
    time = np.arange(20000 + i, dtype=np.float32)
    return 0.3 * np.sin(time * 0.01 * (i + 1), dtype=np.float32)


def clips(first, last):
    return [Clip(tone(i), i % 3, f"clip {i}") for i in range(first, last)]


CLIPS = {"train": clips(0, 9), "test": clips(9, 12)}


def prepare(data_dir, splits=CLIPS, label_names="abc", **changes):
    return store(data_dir, splits, label_names, **changes)


def refuse(first):
    raise AssertionError("prepared again without need")


REFUSED = {"train": Source(9, refuse), "test": Source(3, refuse)}


def shards(audio_data, split="train"):
    folder = pathlib.Path(audio_data.path)
    return sorted(folder.glob(f"clips-{split}.array_record-*"))


def partial_folders(data_dir):
    return list(pathlib.Path(data_dir).glob("leaf_audio/*/*.partial"))


def age(directory):
    directory = pathlib.Path(directory)
    for path in [*directory.iterdir(), directory]:
        os.utime(path, (0, 0))
