"""Reads a folder of the user's own recordings as a data set.

The folder holds audio files: wav, flac, ogg or mp3, at any sample rate, with
any number of channels. `leaf_audio.data.folder_layout` and
`leaf_audio.data.index_csv` describe how the files are laid out, and
`leaf_audio.data.splits` how they get their splits. `leaf_audio.data.published`
reads the tables of published data sets. A file that cannot be decoded is an
error, or is skipped if the caller asks for that.
"""

import dataclasses
import functools
import pathlib
import warnings
from collections.abc import Sequence
from typing import Any

from leaf_audio.common.checks import (
    check_bool,
    check_path,
    check_share,
    check_text,
    check_unless_none,
)
from leaf_audio.data import (
    clip_store,
    decoding,
    lost_labels,
    recordings,
    shared_audio,
    splits,
    user_files,
)
from leaf_audio.data.channels import ChannelMixer
from leaf_audio.data.clips import SPLITS, AudioData, DataWarning
from leaf_audio.data.entries import Recording
from leaf_audio.data.index_csv import DEFAULT_SEPARATOR


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
    fallback_sample_rate: int | None = None,
    for_training: bool = True,
) -> AudioData:
    """Prepares the recordings in a folder.

    A recording has one label, unless the folder has an index.csv, or a function
    that makes one, with the column `labels`. Then it may have several, or, if
    the caller allows that, none.

    A `DataWarning` is issued for each of these: audio files and columns that
    index.csv makes no use of, what a function that makes it warns of, channels
    that cancel each other when they are averaged, silent recordings, the same
    audio in several splits, and labels that are missing in validation or
    testing. The result's `warnings` holds the same sentences.

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
        fallback_sample_rate: int, in Hz, or None. The rate that the caller of
            `load` asked for, with which `sample_rate` must agree. None stands
            for 16000. Default: None.
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
    folder = user_files.check_folder(
        "audio_folder", path, "a folder of recordings"
    )
    sample_rate = user_files.chosen_rate(
        "audio_folder", sample_rate, fallback_sample_rate
    )
    check_unless_none(
        decoding.check_sample_rate,
        **{"audio_folder.source_sample_rate": source_sample_rate},
    )
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
    user_files.check_on_error("audio_folder", on_error)
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
    check_splits = functools.partial(
        lost_labels.check_splits,
        folder=folder,
        wanted=wanted,
        for_training=for_training,
        is_multilabel=listing.is_multilabel,
    )
    check_splits(kept=wanted)

    clips = _Clips(
        folder, found, sample_rate, source_sample_rate, listing.is_multilabel
    )

    def describe(stored: clip_store.Stored) -> dict[str, Any]:
        return {
            "label_names": clips.label_names,
            "warnings": _describe_cancelled(stored.remarked),
        }

    audio_data = clip_store.prepare_once(
        name="audio_folder",
        data_dir=data_dir,
        settings={
            "path": str(folder),
            "sample_rate": sample_rate,
            "source_sample_rate": source_sample_rate,
            "is_multilabel": listing.is_multilabel,
            "validation_fraction": validation_fraction,
            "test_fraction": test_fraction,
            **folds,
        },
        state=[
            [
                *_identity(recording),
                *user_files.file_state(folder / recording.file),
            ]
            for recording in found
        ],
        sample_rate=sample_rate,
        sources=lambda: {split: clips.of(split) for split in SPLITS},
        describe=describe,
        title=folder.name,
    )
    user_files.check_all_used("audio_folder", audio_data.skipped, on_error)
    kept = audio_data.used_labels
    check_splits(kept=kept)
    usable = {
        split: [
            one
            for one in found
            if one.split == split and one.name not in audio_data.skipped
        ]
        for split in audio_data.clips
    }
    shared = shared_audio.describe(
        audio_data.clips,
        lambda split, i: usable[split][i].name,
        overlapping=shared_audio.by_interval(folder, usable),
    )
    audio_data = dataclasses.replace(
        audio_data,
        clips={
            split: some.with_names([one.name for one in usable[split]])
            for split, some in audio_data.clips.items()
        },
        warnings=(*listing.warnings, *audio_data.warnings, *shared),
    )
    if for_training:
        lost = lost_labels.describe(kept, listing.is_drawn)
        audio_data = dataclasses.replace(
            audio_data, warnings=(*audio_data.warnings, *lost)
        )
    for sentence in audio_data.warnings:
        warnings.warn(sentence, DataWarning, stacklevel=2)
    return audio_data


class _Clips:
    """Makes the clips to store out of recordings."""

    def __init__(
        self,
        folder: pathlib.Path,
        found: Sequence[Recording],
        sample_rate: int,
        source_sample_rate: int | None,
        is_multilabel: bool,
    ):
        self._folder = folder
        self._found = found
        self._sample_rate = sample_rate
        self._source_sample_rate = source_sample_rate
        self._is_multilabel = is_multilabel
        self.label_names = sorted(
            {name for one in found for name in one.labels}
        )
        self._positions = {name: i for i, name in enumerate(self.label_names)}
        groups = dict.fromkeys(one.group for one in found)
        self._groups = {group: i for i, group in enumerate(groups)}

    def of(self, split: str) -> clip_store.Source:
        """Returns the clips of a split."""
        some = [one for one in self._found if one.split == split]
        return clip_store.Source(
            len(some), lambda first: map(self._clip, some[first:])
        )

    def _clip(self, recording: Recording) -> clip_store.Clip:
        path = self._folder / recording.file
        mixer = ChannelMixer()
        labels = [self._positions[label] for label in recording.labels]
        group = recording.group
        return clip_store.Clip(
            samples=lambda: decoding.decode_blocks(
                path=path,
                sample_rate=self._sample_rate,
                source_sample_rate=self._source_sample_rate,
                start=recording.start,
                end=recording.end,
                mixer=mixer,
            ),
            label=labels if self._is_multilabel else labels[0],
            name=recording.name,
            group=None if group is None else self._groups[group],
            bits=lambda: decoding.stored_bits(
                path, self._sample_rate, self._source_sample_rate
            ),
            remark=lambda: mixer.cancels,
        )


def _describe_cancelled(cancelled: list[str]) -> list[str]:
    if not cancelled:
        return []
    return [
        f"The channels of {recordings.count_files(cancelled)} cancel each "
        "other: their mean, which is used, is close to silence. Convert such "
        "files to one of their channels."
    ]


def _identity(recording: Recording) -> list[Any]:
    """Returns what a recording is, apart from the contents of its file."""
    return [
        recording.file,
        list(recording.labels),
        recording.split,
        recording.group,
        recording.start,
        recording.end,
    ]
