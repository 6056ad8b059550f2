"""Adds background recordings to clips, such as noise of a street or a room."""

import functools
import os
import pathlib
import threading

import numpy as np

from leaf_audio.common.checks import (
    check_path,
    check_positive,
    check_share,
)
from leaf_audio.common.listing import listed
from leaf_audio.data.augmentation import add_at_snr, check_order, happens
from leaf_audio.data.decoding import read_recording
from leaf_audio.data.extensions import EXTENSIONS
from leaf_audio.data.recordings import audio_files
from leaf_audio.data.transforms import check_decibels

# Several threads augment at the same time. The first of them decodes a folder,
# the others wait for it.
_LOCK = threading.Lock()


def background_noise(
    samples: np.ndarray,
    folder: str | None = None,
    *,
    sample_rate: int,
    min_snr_db: float = 3.0,
    max_snr_db: float = 30.0,
    probability: float = 0.5,
    rng: np.random.Generator | None = None,
) -> np.ndarray:
    """Adds a random part of a random recording of a folder.

    A recording that is shorter than the clip is repeated. The ratio of the
    clip's standard deviation to that of the added part, in dB, is drawn
    uniformly.

    All recordings of the folder are decoded when the first clip is augmented,
    and held in memory. An hour at 16 kHz takes 230 MB.

    Args:
        samples: float32 array of shape (time,).
        folder: str. A folder with wav, flac, ogg or mp3 files, also in
            subfolders. Must be given.
        sample_rate: int, in Hz. The sample rate of the clips, to which the
            recordings are resampled. Must be given; by gin, the default is
            `data.load.sample_rate`.
        min_snr_db: float, in dB. The smallest ratio of signal to background.
            Default: 3.
        max_snr_db: float, in dB. The largest ratio of signal to background.
            Default: 30.
        probability: float from 0 to 1. The share of the clips that are changed.
            Default: 0.5.
        rng: numpy.random.Generator in training, None in evaluation.
            Default: None.

    Returns:
        An array of the same shape as `samples`.

    Raises:
        ValueError: The folder holds no audio files, or one that cannot be
            read, or two limits are not numbers in ascending order.
    """
    name = "background_noise"
    check_order(
        name, check_decibels, min_snr_db=min_snr_db, max_snr_db=max_snr_db
    )
    check_positive(f"{name}.sample_rate", sample_rate)
    check_share(f"{name}.probability", probability)
    if folder is not None:
        check_path(f"{name}.folder", folder)
    if rng is None:
        return samples
    # Before the draw, so that a folder that is not there is found at once.
    with _LOCK:
        recordings = _recordings(folder, sample_rate)
    if not happens(name, probability, rng):
        return samples
    recording = recordings[rng.integers(len(recordings))]
    count = len(samples)
    start = int(rng.integers(max(len(recording) - count, 0) + 1))
    part = np.resize(recording[start : start + count], count)
    return add_at_snr(samples, part, rng.uniform(min_snr_db, max_snr_db))


@functools.lru_cache(maxsize=8)
def _recordings(folder: str | None, sample_rate: int) -> list[np.ndarray]:
    """Decodes all recordings of a folder, sorted by path."""
    path = pathlib.Path(folder or "").expanduser()
    files = audio_files(path) if folder else []
    if not files:
        why = ""
        if folder and not path.is_dir():
            why = ", a file" if path.exists() else ", which is not there"
        raise ValueError(
            "`background_noise.folder` must be a folder with audio files "
            f"({', '.join(EXTENSIONS)}). Received: folder={folder!r}{why}."
        )
    found, unusable = [], []
    for file in files:
        try:
            found.append(read_recording(os.path.join(path, file), sample_rate))
        except ValueError as error:
            unusable.append(f"{file!r} ({error.__cause__})")
    if unusable:
        raise ValueError(
            "`background_noise.folder` must hold recordings that can be read. "
            f"Received: folder={folder!r} with {listed(unusable, 10)}. Remove "
            "or convert them."
        )
    return found
