"""Reads a folder of the user's own recordings as a data set.

The folder holds audio files: wav, flac, ogg or mp3, at any sample rate, with
any number of channels. `leaf_audio.data.recordings` describes how the files
are laid out, and how they get their labels and splits. A file that cannot be
decoded is an error, or is skipped if the caller asks for that.
"""

import concurrent.futures
import contextlib
import dataclasses
import os
import pathlib
from collections.abc import Callable, Generator
from typing import Any

import numpy as np

from leaf_audio.common.checks import (
    check_bool,
    check_path,
    check_share,
    check_unless_none,
)
from leaf_audio.data import clip_store, decoding, recordings
from leaf_audio.data.clips import SPLITS, AudioData
from leaf_audio.data.decoding import UnusableFileError
from leaf_audio.data.progress import progress
from leaf_audio.data.recordings import Recording

DEFAULT_SAMPLE_RATE = 16000
# How many unusable files an error message names.
_MAX_NAMED_FILES = 5
# Each recording with its samples, or with the reason why there are none.
_Decoded = Generator[
    tuple[Recording, np.ndarray | UnusableFileError], None, None
]


def audio_folder(
    path: str | None = None,
    sample_rate: int | None = None,
    source_sample_rate: int | None = None,
    on_error: str = "raise",
    validation_fraction: float | None = None,
    test_fraction: float | None = None,
    data_dir: str | None = None,
    fallback_sample_rate: int = DEFAULT_SAMPLE_RATE,
    for_training: bool = True,
) -> AudioData:
    """Prepares the recordings in a folder.

    A file counts as changed if its relative path, its size, or one of the times
    of its last change of content and of metadata is another. Contents are not
    hashed, because that would take too long for a large collection at every
    start. Programs cannot set the metadata time. It therefore also reveals a
    file that was replaced by one with the same modification time.

    Args:
        path: str. The folder. Must be given.
        sample_rate: int, in Hz, or None. Every file is resampled to this rate.
            None takes `fallback_sample_rate`. Default: None.
        source_sample_rate: int, in Hz, or None. The sample rate that every file
            must have. None accepts any rate. Default: None.
        on_error: str. What to do with a file that cannot be used: "raise"
            raises an error that names it; "skip" leaves it out and lists it in
            the result's `skipped`. Default: "raise".
        validation_fraction: float from 0 to 1, or None. The fraction of the
            files to draw for validation. Only for folders that do not define
            their own splits. None stands for 0.1, or for what `test_fraction`
            leaves if that is less. Default: None.
        test_fraction: float from 0 to 1, or None. The same for testing. Use 1
            to evaluate a trained model on all files. Default: None.
        data_dir: str or None. The folder that holds all data sets; the prepared
            clips go there. None is TFDS's default. Default: None.
        fallback_sample_rate: int, in Hz. The rate that the caller of `load`
            asked for. Default: 16000.
        for_training: bool. Whether to require what training needs: at least two
            labels, and clips of each label in the split "train".
            Default: True.

    Returns:
        An `AudioData`.

    Raises:
        ValueError: An argument, the layout of the folder or a file is not
            valid.
    """
    folder = _check_folder(path)
    check_unless_none(
        _check_sample_rate,
        sample_rate=sample_rate,
        source_sample_rate=source_sample_rate,
    )
    _check_sample_rate("fallback_sample_rate", fallback_sample_rate)
    check_unless_none(check_path, data_dir=data_dir)
    check_unless_none(
        check_share,
        **{
            "audio_folder.validation_fraction": validation_fraction,
            "audio_folder.test_fraction": test_fraction,
        },
    )
    check_bool("for_training", for_training)
    if sample_rate is None:
        sample_rate = fallback_sample_rate
    if on_error not in ("raise", "skip"):
        raise ValueError(
            "`audio_folder.on_error` must be 'raise' or 'skip'. "
            f"Received: on_error={on_error!r}."
        )
    found = recordings.list_recordings(
        folder, validation_fraction, test_fraction, for_training
    )
    wanted = recordings.labels_by_split(found)
    _check_splits(folder, wanted, wanted, for_training)

    def decode_file(file: str) -> np.ndarray:
        return decoding.decode(folder / file, sample_rate, source_sample_rate)

    def write(writer: clip_store.ClipWriter) -> dict[str, Any]:
        decoded = _decode_in_parallel(found, decode_file)
        label_names = sorted({recording.label for recording in found})
        skipped = _write_clips(
            writer=writer,
            decoded=decoded,
            total=len(found),
            label_names=label_names,
            description=f"Preparing {folder.name}",
            on_error=on_error,
        )
        return {
            "label_names": label_names,
            "sample_rate": sample_rate,
            "skipped": skipped,
        }

    audio_data = clip_store.prepare_once(
        name="audio_folder",
        data_dir=data_dir,
        settings={
            "path": str(folder),
            "sample_rate": sample_rate,
            "source_sample_rate": source_sample_rate,
            "on_error": on_error,
            "validation_fraction": validation_fraction,
            "test_fraction": test_fraction,
        },
        state=[
            [*dataclasses.astuple(recording), *_file_state(folder, recording)]
            for recording in found
        ],
        dtype="float32",
        write=write,
    )
    _check_splits(folder, wanted, audio_data.used_labels, for_training)
    return audio_data


def _decode_in_parallel(
    found: list[Recording], decode_file: Callable[[str], np.ndarray]
) -> _Decoded:
    """Yields every recording with its samples, or why there are none."""

    def attempt(recording: Recording) -> np.ndarray | UnusableFileError:
        try:
            return decode_file(recording.file)
        except UnusableFileError as error:
            return error

    # Threads suffice, because the decoders and the resampler release the GIL.
    # Few files are decoded ahead, which limits the memory that is used.
    workers = os.cpu_count() or 1
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        for start in range(0, len(found), 4 * workers):
            some = found[start : start + 4 * workers]
            yield from zip(some, pool.map(attempt, some), strict=True)


def _write_clips(
    writer: clip_store.ClipWriter,
    decoded: _Decoded,
    total: int,
    label_names: list[str],
    description: str,
    on_error: str,
) -> dict[str, str]:
    """Writes all clips; returns the reason for each file that was skipped."""
    skipped = {}
    # An unfinished generator that is left to the garbage collector would join
    # its decoder threads at an arbitrary point of the program, for instance
    # while another thread starts. Both generators are therefore closed here.
    with (
        contextlib.closing(decoded),
        progress(decoded, total, description) as results,
    ):
        for recording, result in results:
            if isinstance(result, UnusableFileError):
                skipped[recording.file] = str(result)
            elif not skipped or on_error == "skip":
                label = label_names.index(recording.label)
                writer.add(recording.split, result, label)
    if skipped and on_error == "raise":
        raise ValueError(
            "`audio_folder.path` must hold usable audio files. "
            f"Received: {_describe_unusable(skipped)}. "
            "audio_folder.on_error = 'skip' leaves such files out."
        )
    return skipped


def _describe_unusable(skipped: dict[str, str]) -> str:
    named = [f"file={file!r}: {why}" for file, why in skipped.items()]
    if len(named) > _MAX_NAMED_FILES:
        named[_MAX_NAMED_FILES:] = [f"and {len(named) - _MAX_NAMED_FILES} more"]
    return "; ".join(named)


def _check_splits(
    folder: pathlib.Path,
    wanted: dict[str, set[str]],
    kept: dict[str, set[str]],
    for_training: bool,
) -> None:
    """Checks that no split or label is lost.

    Args:
        folder: The folder, for the message.
        wanted: By split, the labels of the files that were found.
        kept: By split, the labels of the files that can be used.
        for_training: Whether there must be training clips of every label.

    Raises:
        ValueError: A split that has files is empty, or a label has no training
            clips.
    """
    needed = {*wanted, "train"} if for_training else {*wanted} - {"train"}
    for split in SPLITS:
        if split in needed and split not in kept:
            raise ValueError(
                "`audio_folder.path` must hold usable clips for every split. "
                f"Received: path={str(folder)!r}, without any for {split!r}."
            )
    missing = set().union(*wanted.values()) - kept.get("train", set())
    if for_training and missing:
        raise ValueError(
            "`audio_folder.path` must hold training clips for every label. "
            f"Received: path={str(folder)!r}, without any for "
            f"{sorted(missing)}."
        )


def _check_folder(path: str | None) -> pathlib.Path:
    is_path = isinstance(path, (str, os.PathLike)) and str(path)
    folder = pathlib.Path(path if is_path else "").expanduser()
    if not is_path or not folder.is_dir():
        what = ""
        if is_path:
            what = ", a file" if folder.exists() else ", which is not there"
        raise ValueError(
            "`audio_folder.path` must be a folder of recordings, set by "
            "--gin_bindings=\"audio_folder.path = '/path/to/recordings'\" or "
            f"in a config. Received: path={path!r}{what}."
        )
    return folder.resolve()


def _check_sample_rate(name: str, value: Any) -> None:
    if not decoding.is_sample_rate(value):
        raise ValueError(
            f"`audio_folder.{name}` must be a rate in Hz from "
            f"{decoding.MIN_SAMPLE_RATE} to {decoding.MAX_SAMPLE_RATE}. "
            f"Received: {name}={value!r}."
        )


def _file_state(folder: pathlib.Path, recording: Recording) -> list[int]:
    """Returns what reveals that a file has changed."""
    try:
        stat = os.stat(folder / recording.file)
    except OSError:
        # The file cannot be opened. Decoding it raises an error with a reason.
        return []
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]
