"""Prepared clips: one split (`Clips`), and a data set of splits (`AudioData`).

The samples stay on disk, and each clip can be read without the others.
`leaf_audio.data.clip_store` writes them and describes the files.

TensorFlow is imported by the methods that need it.
"""

import dataclasses
import hashlib
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import tensorflow as tf

SPLITS = ("train", "validation", "test")
INT16_MAX = 32767


class DataWarning(UserWarning):
    """Recordings are used, but probably not as the user means."""


class Clips:
    """The clips of one split.

    Args:
        directory: pathlib.Path. The folder that holds the numbered files.
        dtype: str. The type of a sample: "<i2" (int16) or "<f4" (float32),
            both little-endian.
        offsets: Integer array of shape (number of clips + 1,). Positions in
            samples, counted through all files: clip i lies between
            `offsets[i]` and `offsets[i + 1]`.
        files: Integer array of shape (number of clips,). The number of the file
            that holds each clip.
        labels: Integer array of shape (number of clips,), the index of the
            label of each clip. Or, where a clip may have several labels, a bool
            array of shape (number of clips, number of labels).
        groups: Integer array of shape (number of clips,), or None. Clips of the
            same number belong together, such as those of one speaker. None if
            each clip stands alone. Default: None.
        sha256: str or None. The hash of all samples, in hexadecimal digits. It
            is compared when they are all read. Default: None.
    """

    def __init__(
        self,
        directory: pathlib.Path,
        dtype: str | np.dtype,
        offsets: np.ndarray,
        files: np.ndarray,
        labels: np.ndarray,
        groups: np.ndarray | None = None,
        sha256: str | None = None,
    ):
        self.directory = directory
        self.dtype = np.dtype(dtype)
        self.offsets = offsets
        self.files = files
        self.labels = labels
        self.groups = groups
        self.sha256 = sha256

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def is_multilabel(self) -> bool:
        """Whether a clip may have several labels."""
        return self.labels.ndim == 2

    def count_labels(self, num_labels: int) -> np.ndarray:
        """Returns the number of clips of each label.

        Args:
            num_labels: int. The number of labels of the data set.

        Returns:
            An integer array of shape (num_labels,).
        """
        if self.is_multilabel:
            return self.labels.sum(axis=0)
        return np.bincount(self.labels, minlength=num_labels)

    @property
    def nbytes(self) -> int:
        """The size of all samples in bytes."""
        return int(self.offsets[-1]) * self.dtype.itemsize

    @property
    def length(self) -> int | None:
        """The number of samples in a clip; None if clips differ in length."""
        lengths = np.diff(self.offsets)
        return int(lengths[0]) if (lengths == lengths[0]).all() else None

    def check(self) -> None:
        """Raises ValueError if the files do not have the expected size."""
        with os.scandir(self.directory) as entries:
            nbytes = sum(entry.stat().st_size for entry in entries)
        if nbytes != self.nbytes:
            raise ValueError(f"{self.directory} is not complete")

    def reader(
        self, in_memory: bool = False
    ) -> Callable[..., tuple[np.ndarray, np.int32 | np.ndarray]]:
        """Returns a function that reads one clip, or a part of it.

        Several threads may call the function at the same time.

        Args:
            in_memory: bool. Whether to load all clips into memory now, instead
                of reading from disk for each clip. Default: False.

        Returns:
            A function from the index of a clip to its samples, a read-only
            array of shape (time,), and its label: an int32, or where it may
            have several, a float32 array of shape (number of labels,) that is
            1 for each of them and 0 for the others. Two further arguments are
            the positions, in samples, where the part to read begins and ends.
            By default they are those of the whole clip.
        """
        _, first_clips = np.unique(self.files, return_index=True)
        file_offsets = self.offsets[first_clips]
        dtype = np.float32 if self.is_multilabel else np.int32
        samples = self._samples() if in_memory else None

        def read(
            index: int, begin: int = 0, end: int | None = None
        ) -> tuple[np.ndarray, np.int32 | np.ndarray]:
            first, stop = self.offsets[index], self.offsets[index + 1]
            start = min(first + begin, stop)
            if end is not None:
                stop = min(first + end, stop)
            if samples is not None:
                audio = samples[start:stop]
            else:
                file = self.files[index]
                audio = self._from_file(
                    file, start - file_offsets[file], stop - start
                )
            audio.flags.writeable = False
            # Not all at once: as float32, many labels of many clips are large.
            return audio, self.labels[index].astype(dtype)

        return read

    def dataset(self) -> "tf.data.Dataset":
        """Returns all pairs of samples and label, in stored order."""
        import tensorflow as tf

        read = self.reader()
        dtype = tf.float32 if self.is_multilabel else tf.int32
        data = tf.data.Dataset.from_generator(
            lambda: (read(index) for index in range(len(self))),
            output_signature=(
                tf.TensorSpec([self.length], self.dtype),
                tf.TensorSpec(self.labels.shape[1:], dtype),
            ),
        )
        count = tf.data.experimental.assert_cardinality(len(self))
        return data.apply(count)

    def _from_file(self, file: int, start: int, count: int) -> np.ndarray:
        path = self.directory / str(file)
        offset = start * self.dtype.itemsize
        audio = np.fromfile(path, self.dtype, count=count, offset=offset)
        if len(audio) < count:
            raise OSError(f"{path} was cut off while it was in use.")
        return audio

    def _samples(self) -> np.ndarray:
        samples = np.empty(self.offsets[-1], self.dtype)
        position = 0
        digest = hashlib.sha256()
        remedy = (
            f"Remove the folder {self.directory.parent}, and the audio is "
            "prepared anew."
        )
        for number in range(self.files[-1] + 1):
            some = np.fromfile(self.directory / str(number), self.dtype)
            if not np.isfinite(some).all():
                raise ValueError(
                    "Prepared clips must be finite. Received: NaN or infinity "
                    f"in {self.directory / str(number)}. {remedy}"
                )
            digest.update(some.data)
            samples[position : position + len(some)] = some
            position += len(some)
        if self.sha256 not in (None, digest.hexdigest()):
            raise ValueError(
                "Prepared clips must be as they were written. Received: other "
                f"samples in {self.directory}. {remedy}"
            )
        return samples


@dataclasses.dataclass(frozen=True)
class AudioData:
    """A prepared data set.

    Attributes:
        name: The name by which the data set was loaded.
        label_names: The name of each class. A label is an index into this
            tuple. Where a clip may have several labels, they are the axis of
            its targets.
        sample_rate: The sample rate in Hz; None if the source does not declare
            one.
        clips: The clips of each split that exists.
        skipped: For each file that was left out, the reason.
        fingerprint: A hash of all samples and labels. Copies of the same
            recordings have the same.
        path: The folder that holds the prepared clips.
        warnings: Sentences about recordings that are probably not used as the
            user means.
    """

    name: str
    label_names: tuple[str, ...]
    sample_rate: int | None
    clips: dict[str, Clips]
    skipped: dict[str, str]
    fingerprint: str
    path: str
    warnings: tuple[str, ...] = ()

    @property
    def is_multilabel(self) -> bool:
        """Whether a clip may have several labels, or none."""
        return any(clips.is_multilabel for clips in self.clips.values())

    @property
    def counts(self) -> dict[str, int]:
        """The number of clips in each split."""
        return {split: len(clips) for split, clips in self.clips.items()}

    @property
    def used_labels(self) -> dict[str, set[str]]:
        """The names of the labels that occur in each split."""
        return {
            split: {
                self.label_names[label]
                for label in np.flatnonzero(
                    some.count_labels(len(self.label_names))
                )
            }
            for split, some in self.clips.items()
        }

    @property
    def splits(self) -> dict[str, "tf.data.Dataset"]:
        """Unbatched pairs (audio, label) of each split, in stored order."""
        return {s: clips.dataset() for s, clips in self.clips.items()}

    def relabelled(
        self, label_names: Sequence[str], is_multilabel: bool | None = None
    ) -> "AudioData":
        """Returns the same clips with the labels of another label list.

        Use it to evaluate a model on a data set whose labels are a subset of
        those that the model was trained for.

        Args:
            label_names: Sequence of str. The labels of the model. The new
                labels are indices into it.
            is_multilabel: bool or None. Whether the model is for clips of
                several labels. The one label of each clip is then turned into
                targets for all labels. None is for a model of the same kind as
                the data. Default: None.

        Returns:
            A new `AudioData`.

        Raises:
            ValueError: A clip has a label that is not in `label_names`, or may
                have several and the model is for one.
        """
        if is_multilabel is None:
            is_multilabel = self.is_multilabel
        if self.is_multilabel and not is_multilabel:
            raise ValueError(
                "`dataset` must have one label for each clip, as the data that "
                "the model was trained on. Received: "
                f"dataset={self.name!r}, whose clips may have several."
            )
        new = {name: i for i, name in enumerate(label_names)}
        unknown = set().union(*self.used_labels.values()) - set(new)
        if unknown:
            raise ValueError(
                "`dataset` must have labels that the model was trained for, "
                f"{list(new)}. Received: dataset={self.name!r} with "
                f"{sorted(unknown)} too."
            )
        # Names that are not in `label_names` have no clips, so that their -1
        # is never used.
        positions = np.array([new.get(name, -1) for name in self.label_names])

        def renumbered(labels: np.ndarray) -> np.ndarray:
            if not is_multilabel:
                return positions[labels]
            multi_hot = np.zeros((len(labels), len(new)), bool)
            if self.is_multilabel:
                clip, label = np.nonzero(labels)
            else:
                clip, label = np.arange(len(labels)), labels
            multi_hot[clip, positions[label]] = True
            return multi_hot

        clips = {
            split: Clips(
                some.directory,
                some.dtype,
                some.offsets,
                some.files,
                renumbered(some.labels),
                some.groups,
                some.sha256,
            )
            for split, some in self.clips.items()
        }
        return dataclasses.replace(self, label_names=tuple(new), clips=clips)
