"""Reads a folder of the user's own recordings as a data set.

The folder holds audio files: wav, flac, ogg or mp3, at any sample rate, with
any number of channels. `leaf_audio.data.folder_layout` and
`leaf_audio.data.index_csv` describe how the files are laid out, and
`leaf_audio.data.splits` how they get their splits. `leaf_audio.data.published`
reads the tables of published data sets. A file that cannot be decoded is an
error, or is skipped if the caller asks for that.
"""

import contextlib
import dataclasses
import os
import pathlib
import warnings
from collections.abc import Generator, Iterator, Sequence
from typing import Any

import numpy as np

from leaf_audio.common.checks import (
    check_bool,
    check_path,
    check_share,
    check_text,
    check_unless_none,
)
from leaf_audio.common.listing import listed
from leaf_audio.data import (
    clip_store,
    decoding,
    lost_labels,
    recordings,
    splits,
)
from leaf_audio.data.channels import ChannelMixer
from leaf_audio.data.clips import AudioData, DataWarning
from leaf_audio.data.decoding import UnusableFileError
from leaf_audio.data.entries import Recording
from leaf_audio.data.index_csv import DEFAULT_SEPARATOR
from leaf_audio.data.parallel import decode_in_parallel
from leaf_audio.data.progress import progress

DEFAULT_SAMPLE_RATE = 16000
# How many unusable files an error message names.
_MAX_NAMED_FILES = 5
# A recording to decode, and what averages its channels.
_Job = tuple[Recording, ChannelMixer]
# The samples, or the reason why there are none.
_Result = np.ndarray | UnusableFileError


def audio_folder(
    path: str | None = None,
    sample_rate: int | None = None,
    source_sample_rate: int | None = None,
    on_error: str = "raise",
    validation_fraction: float | None = None,
    test_fraction: float | None = None,
    validation_folds: Sequence[str | int] | None = None,
    test_folds: Sequence[str | int] | None = None,
    label_separator: str = DEFAULT_SEPARATOR,
    allow_unlabelled: bool = False,
    index: recordings.IndexFunction | None = None,
    data_dir: str | None = None,
    fallback_sample_rate: int = DEFAULT_SAMPLE_RATE,
    for_training: bool = True,
) -> AudioData:
    """Prepares the recordings in a folder.

    A recording has one label, unless the folder has an index.csv, or a function
    that makes one, with the column `labels`. Then it may have several, or, if
    the caller allows that, none.

    A `DataWarning` is issued for each of these: audio files and columns that
    index.csv makes no use of, what a function that makes it warns of, channels
    that cancel each other when they are averaged, and labels that are missing
    in validation or testing. The result's `warnings` holds the same sentences.

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
            files of each label to draw for validation. Only for folders that
            have neither splits nor folds. None stands for 0.1, or for what
            `test_fraction` leaves if that is less. Default: None.
        test_fraction: float from 0 to 1, or None. The same for testing. Use 1
            to evaluate a trained model on all files. Default: None.
        validation_folds: Sequence of names, or None. The folds to use for
            validation. Only for folders with folds, which are folders
            `<fold>/<label>/*` or the column `fold` of index.csv. All folds
            that are not named are used for training. Default: None.
        test_folds: Sequence of names, or None. The same for testing.
            Default: None.
        label_separator: str. What stands between two names in the column
            `labels` of index.csv. It applies only to this column. Default: ";".
        allow_unlabelled: bool. Whether a recording may have no label, which is
            an empty place in the column `labels`. It applies only to this
            column. Default: False.
        index: Callable or None. A function that gets the folder, a
            `pathlib.Path`, and returns what would be the lines of index.csv:
            dictionaries from the names of columns to values. `file` is relative
            to the folder or lies below it, and `labels` may be a list of names.
            None and NaN stand for an empty place. `data.audioset_index` and the
            like read the tables of published data sets. None reads index.csv if
            there is one. Default: None.
        data_dir: str or None. The folder that holds all data sets; the prepared
            clips go there. None is TFDS's default. Default: None.
        fallback_sample_rate: int, in Hz. The rate that the caller of `load`
            asked for. Default: 16000.
        for_training: bool. Whether to require what training needs: at least two
            labels, and clips of each label in the split "train". With the
            column `labels`, one label is enough if some recordings lack it.
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
    check_text("audio_folder.label_separator", label_separator)
    check_bool("audio_folder.allow_unlabelled", allow_unlabelled)
    if index is not None and not callable(index):
        raise ValueError(
            "`audio_folder.index` must be a function of the folder, such as "
            f"@audioset_index, or None. Received: index={index!r}."
        )
    if sample_rate is None:
        sample_rate = fallback_sample_rate
    if on_error not in ("raise", "skip"):
        raise ValueError(
            "`audio_folder.on_error` must be 'raise' or 'skip'. "
            f"Received: on_error={on_error!r}."
        )
    splits.check_fold_names("validation", validation_folds)
    splits.check_fold_names("test", test_folds)
    folds = {"validation_folds": validation_folds, "test_folds": test_folds}
    listing = recordings.list_recordings(
        folder=folder,
        validation_fraction=validation_fraction,
        test_fraction=test_fraction,
        label_separator=label_separator,
        allow_unlabelled=allow_unlabelled,
        index=index,
        for_training=for_training,
        **folds,
    )
    found = listing.recordings
    wanted = lost_labels.labels_by_split(found)
    lost_labels.check_splits(folder, wanted, wanted, for_training)

    def decode_blocks(job: _Job) -> Iterator[np.ndarray]:
        recording, mixer = job
        return decoding.decode_blocks(
            path=folder / recording.file,
            sample_rate=sample_rate,
            source_sample_rate=source_sample_rate,
            start=recording.start,
            end=recording.end,
            mixer=mixer,
        )

    def write(writer: clip_store.ClipWriter) -> dict[str, Any]:
        jobs = ((recording, ChannelMixer()) for recording in found)
        decoded = decode_in_parallel(jobs, decode_blocks)
        label_names = sorted({label for one in found for label in one.labels})
        skipped, cancelled = _write_clips(
            writer=writer,
            decoded=decoded,
            total=len(found),
            label_names=label_names,
            is_multilabel=listing.is_multilabel,
            description=f"Preparing {folder.name}",
            on_error=on_error,
        )
        return {
            "label_names": label_names,
            "sample_rate": sample_rate,
            "skipped": skipped,
            "warnings": _describe_cancelled(cancelled),
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
            # Settings without folds keep what earlier versions prepared.
            **{name: names for name, names in folds.items() if names},
        },
        state=[
            [
                *_identity(recording, listing.is_multilabel),
                *_file_state(folder, recording),
            ]
            for recording in found
        ],
        dtype="float32",
        write=write,
    )
    kept = audio_data.used_labels
    lost_labels.check_splits(folder, wanted, kept, for_training)
    audio_data = dataclasses.replace(
        audio_data, warnings=(*listing.warnings, *audio_data.warnings)
    )
    if for_training:
        lost = lost_labels.describe(kept, listing.is_drawn)
        audio_data = dataclasses.replace(
            audio_data, warnings=(*audio_data.warnings, *lost)
        )
    for sentence in audio_data.warnings:
        warnings.warn(sentence, DataWarning, stacklevel=2)
    return audio_data


def _write_clips(
    writer: clip_store.ClipWriter,
    decoded: Generator[tuple[_Job, _Result], None, None],
    total: int,
    label_names: list[str],
    is_multilabel: bool,
    description: str,
    on_error: str,
) -> tuple[dict[str, str], list[str]]:
    """Writes all clips.

    Returns:
        The reason for each recording that was skipped, and the names of those
        whose channels cancel each other.
    """
    skipped = {}
    cancelled = []
    positions = {label: i for i, label in enumerate(label_names)}
    numbers: dict[str, int] = {}
    # An unfinished generator that is left to the garbage collector would join
    # its decoder threads at an arbitrary point of the program, for instance
    # while another thread starts. Both generators are therefore closed here.
    with (
        contextlib.closing(decoded),
        progress(decoded, total, description) as results,
    ):
        for (recording, mixer), result in results:
            if isinstance(result, UnusableFileError):
                skipped[recording.name] = str(result)
                continue
            if mixer.cancels:
                cancelled.append(recording.name)
            if not skipped or on_error == "skip":
                labels = [positions[label] for label in recording.labels]
                group = None
                if recording.group is not None:
                    group = numbers.setdefault(recording.group, len(numbers))
                writer.add(
                    recording.split,
                    result,
                    labels if is_multilabel else labels[0],
                    group,
                )
    if skipped and on_error == "raise":
        raise ValueError(
            "`audio_folder.path` must hold usable audio files. "
            f"Received: {_describe_unusable(skipped)}. "
            "audio_folder.on_error = 'skip' leaves such files out."
        )
    return skipped, cancelled


def _describe_cancelled(cancelled: list[str]) -> list[str]:
    if not cancelled:
        return []
    return [
        f"The channels of {recordings.count_files(cancelled)} cancel each "
        "other: their mean, which is used, is close to silence. Convert such "
        "files to one of their channels."
    ]


def _describe_unusable(skipped: dict[str, str]) -> str:
    named = [f"file={file!r}: {why}" for file, why in skipped.items()]
    return listed(named, _MAX_NAMED_FILES, separator="; ")


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


def _identity(recording: Recording, is_multilabel: bool) -> list[Any]:
    """Returns what a recording is, apart from the contents of its file."""
    # Folders with one label, and without segments and groups, keep what was
    # prepared by earlier versions.
    labels: Any = list(recording.labels)
    if not is_multilabel:
        (labels,) = recording.labels
    identity = [recording.file, labels, recording.split]
    if recording.group is not None:
        identity += [recording.group]
    if recording.is_segment:
        return [*identity, recording.start, recording.end]
    return identity


def _file_state(folder: pathlib.Path, recording: Recording) -> list[int]:
    """Returns what reveals that a file has changed."""
    try:
        stat = os.stat(folder / recording.file)
    except OSError:
        # The file cannot be opened. Decoding it raises an error with a reason.
        return []
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]
