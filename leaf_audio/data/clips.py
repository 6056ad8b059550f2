"""Prepared clips: one split (`Clips`), and a data set of splits (`AudioData`).

The samples stay on disk, and each clip can be read without the others.
`leaf_audio.data.clip_store` writes them and describes the files.

TensorFlow is imported by the methods that need it.
"""

import concurrent.futures
import contextlib
import copy
import dataclasses
import functools
import hashlib
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from leaf_audio.common.reasons import first_line
from leaf_audio.data import flac, records

# `example.clips`, the old name of this module, had it.
from leaf_audio.data.flac import INT16_MAX  # noqa: F401
from leaf_audio.data.progress import progress

if TYPE_CHECKING:
    import tensorflow as tf

SPLITS = ("train", "validation", "test")


class DataWarning(UserWarning):
    """Recordings are used, but probably not as the user means."""


class Clips:
    """The clips of one split.

    Args:
        directory: pathlib.Path. The folder that holds the shards.
        shards: Sequence of `records.Shard`, in the order of the clips.
        part_samples: int. A clip is stored in as many records as needed, so
            that each holds this many samples, and the last one the rest.
        offsets: Integer array of shape (number of clips + 1,). Positions in
            samples, counted through all clips: clip i lies between
            `offsets[i]` and `offsets[i + 1]`.
        labels: Integer array of shape (number of clips,), the index of the
            label of each clip. Or, where a clip may have several labels, a bool
            array of shape (number of clips, number of labels).
        groups: Integer array of shape (number of clips,), or None. Clips of the
            same number belong together, such as those of one speaker. None if
            each clip stands alone. Default: None.
        hashes: uint8 array of shape (number of records, 16), or None. The hash
            that each record must have. Default: None.
        full_scale: float or None. If all clips are integers of 16 bits that are
            divided by the same number, this number. They then take half as much
            memory. Default: None.
        names: Sequence of str, or None. What each clip is called in the source,
            such as the path of its file relative to the folder. Default: None.
    """

    def __init__(
        self,
        directory: pathlib.Path,
        shards: Sequence[records.Shard],
        part_samples: int,
        offsets: np.ndarray,
        labels: np.ndarray,
        groups: np.ndarray | None = None,
        hashes: np.ndarray | None = None,
        full_scale: float | None = None,
        names: Sequence[str] | None = None,
    ):
        self.directory = directory
        self.shards = shards
        self.part_samples = part_samples
        self.offsets = offsets
        self.labels = labels
        self.groups = groups
        self.hashes = hashes
        self.full_scale = full_scale
        self.names = names

    def __len__(self) -> int:
        return len(self.labels)

    def with_labels(self, labels: np.ndarray) -> "Clips":
        """Returns the same clips with other labels.

        Args:
            labels: As for `Clips`.

        Returns:
            New `Clips`.
        """
        other = copy.copy(self)
        other.labels = labels
        return other

    def with_names(self, names: Sequence[str]) -> "Clips":
        """Returns the same clips with names.

        Args:
            names: As for `Clips`.

        Returns:
            New `Clips`.
        """
        other = copy.copy(self)
        other.names = names
        return other

    @property
    def content(self) -> np.ndarray:
        """A hash of the samples of each clip, uint8 of shape (clips, 16)."""
        firsts = self._first_records
        found = self.hashes[firsts[:-1]]
        for i in np.flatnonzero(np.diff(firsts) > 1):
            several = self.hashes[firsts[i] : firsts[i + 1]].tobytes()
            digest = hashlib.sha256(several).digest()[:16]
            found[i] = np.frombuffer(digest, np.uint8)
        return found

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
        """The size in bytes that all clips take in memory."""
        size = 4 if self.full_scale is None else 2
        return int(self.offsets[-1]) * size

    @property
    def length(self) -> int | None:
        """The number of samples in a clip; None if clips differ in length."""
        lengths = np.diff(self.offsets)
        return int(lengths[0]) if (lengths == lengths[0]).all() else None

    def check(self) -> None:
        """Raises ValueError if the files do not have the expected sizes."""
        count = sum(shard.records for shard in self.shards)
        if count != self._first_records[-1]:
            raise ValueError(f"{self.directory} has an index of other clips")
        for shard in self.shards:
            if not shard.is_whole(self.directory):
                raise ValueError(f"{self.directory} is not complete")

    def reader(
        self, in_memory: bool = False
    ) -> Callable[..., tuple[np.ndarray, np.int32 | np.ndarray]]:
        """Returns a function that reads one clip, or a part of it.

        Several threads may call the function at the same time.

        Args:
            in_memory: bool. Whether to decode all clips into memory now,
                instead of reading from disk for each clip. Default: False.

        Returns:
            A function from the index of a clip to its samples, a float32 array
            of shape (time,), and its label: an int32, or where it may have
            several, a float32 array of shape (number of labels,) that is 1 for
            each of them and 0 for the others. Two further arguments are the
            positions, in samples, where the part to read begins and ends. By
            default they are those of the whole clip.
        """
        return _Reader(self, self._all_samples() if in_memory else None)

    def source_of(self, index: int) -> str:
        """Returns where a clip comes from.

        Args:
            index: int. The index of the clip.

        Returns:
            Such as the path of a recording in its folder, with the segment if
            it is a part of the file. "" if the source has no names.
        """
        record = int(self._first_records[index])
        with self._naming_damage(record):
            return records.file_of(self._source[record])

    def dataset(self) -> "tf.data.Dataset":
        """Returns all pairs of samples and label, in stored order."""
        import tensorflow as tf

        read = self.reader()
        dtype = tf.float32 if self.is_multilabel else tf.int32
        data = tf.data.Dataset.from_generator(
            lambda: (read(index) for index in range(len(self))),
            output_signature=(
                tf.TensorSpec([self.length], tf.float32),
                tf.TensorSpec(self.labels.shape[1:], dtype),
            ),
        )
        count = tf.data.experimental.assert_cardinality(len(self))
        return data.apply(count)

    def __getstate__(self) -> dict[str, Any]:
        # Another process opens the files itself.
        return {k: v for k, v in vars(self).items() if k != "_source"}

    @functools.cached_property
    def _first_records(self) -> np.ndarray:
        """The number of the first record of each clip, and of all records."""
        counts = -(-np.diff(self.offsets) // self.part_samples)
        return np.concatenate([[0], np.cumsum(counts)])

    @functools.cached_property
    def _source(self) -> Any:
        return records.open_shards(self.directory, self.shards)

    def from_disk(self, index: int, begin: int, end: int) -> np.ndarray:
        """Decodes a clip from one position to another, in samples."""
        parts = [
            _scaled(integers, full_scale)
            for _, integers, full_scale in self._parts(index, begin, end)
        ]
        return np.concatenate(parts) if parts else np.zeros(0, np.float32)

    def _parts(
        self, index: int, begin: int, end: int
    ) -> Iterator[tuple[int, np.ndarray, float]]:
        """Decodes a clip from one position to another, record by record.

        Yields:
            Where a part begins in the clip, its integers, and their full scale.
        """
        first = int(self._first_records[index])
        for number in range(
            begin // self.part_samples, -(-end // self.part_samples)
        ):
            start = number * self.part_samples
            position = max(begin, start)
            integers, full_scale = self._decoded(
                first + number,
                position - start,
                min(end - start, self.part_samples),
            )
            yield position, integers, full_scale

    def _decoded(
        self, record: int, start: int, stop: int
    ) -> tuple[np.ndarray, float]:
        """Returns the integers of a part of a record, and their full scale."""
        with self._naming_damage(record):
            content, full_scale, sha256 = records.audio_of(self._source[record])
            if (
                self.hashes is not None
                and sha256 != self.hashes[record].tobytes()
            ):
                raise ValueError("it is another clip")
            integers = flac.decode(content, start, stop)
            if len(integers) != stop - start:
                raise ValueError(f"{len(integers)} of {stop - start} samples")
        return integers, full_scale

    @contextlib.contextmanager
    def _naming_damage(self, record: int) -> Iterator[None]:
        """Raises errors in reading a record as one that names its file."""
        # A damaged shard is noticed by ArrayRecord, which compares hashes, or
        # by libsndfile. Their errors are of many types.
        try:
            yield
        except MemoryError:
            raise
        except Exception as error:
            if getattr(error, "errno", None):
                # Such as too many open files: the clips may be whole.
                raise
            raise ValueError(
                "Prepared clips must be as they were written. Received: damage "
                f"of {self._file_of(record)} ({first_line(error)}). Remove its "
                "folder, and the audio is prepared anew."
            ) from error

    def _file_of(self, record: int) -> pathlib.Path:
        """Returns the shard that holds a record."""
        ends = np.cumsum([shard.records for shard in self.shards])
        number = int(np.searchsorted(ends, record, side="right"))
        return self.directory / self.shards[number].file

    def _all_samples(self) -> np.ndarray:
        """Decodes all clips, in threads."""
        dtype = np.float32 if self.full_scale is None else np.int16
        samples = np.empty(self.offsets[-1], dtype)

        def fill(index: int) -> None:
            first, stop = map(int, self.offsets[index : index + 2])
            parts = self._parts(index, 0, stop - first)
            for position, integers, full_scale in parts:
                if self.full_scale is None:
                    integers = _scaled(integers, full_scale)
                start = first + position
                samples[start : start + len(integers)] = integers

        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            try:
                done = pool.map(fill, range(len(self)))
                with progress(
                    done, len(self), "Decoding clips", transient=True
                ) as bar:
                    for _ in bar:
                        pass
            finally:
                pool.shutdown(wait=False, cancel_futures=True)
        return samples


class _Reader:
    """Reads one clip, or a part of it; see `Clips.reader`.

    Another process that is given a reader reads from disk.
    """

    def __init__(self, clips: Clips, samples: np.ndarray | None):
        self._clips = clips
        self._samples = samples

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_samples": None}

    def __call__(
        self, index: int, begin: int = 0, end: int | None = None
    ) -> tuple[np.ndarray, np.int32 | np.ndarray]:
        clips = self._clips
        first = int(clips.offsets[index])
        length = int(clips.offsets[index + 1]) - first
        end = length if end is None else min(end, length)
        begin = min(begin, end)
        if self._samples is None:
            audio = clips.from_disk(index, begin, end)
        else:
            audio = self._samples[first + begin : first + end]
            if clips.full_scale is not None:
                audio = _scaled(audio, clips.full_scale)
            else:
                # All threads share it.
                audio.flags.writeable = False
        # Not all at once: as float32, many labels of many clips are large.
        dtype = np.float32 if clips.is_multilabel else np.int32
        return audio, clips.labels[index].astype(dtype)


def _scaled(integers: np.ndarray, full_scale: float) -> np.ndarray:
    # Integers of 24 bits are exact as float32.
    return integers.astype(np.float32) / np.float32(full_scale)


@dataclasses.dataclass(frozen=True)
class Task:
    """One of several data sets that were joined; see `leaf_audio.data.tasks`.

    Attributes:
        name: The name of the task.
        dataset: The name by which its data set was loaded.
        label_names: The name of each class of the task.
        weight: What its share of the training clips is in proportion to.
    """

    name: str
    dataset: str
    label_names: tuple[str, ...]
    weight: float


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
        tasks: The data sets that this one was joined from. Their labels, and in
            each split their clips, follow each other in this order. Empty for
            one data set.
    """

    name: str
    label_names: tuple[str, ...]
    sample_rate: int | None
    clips: dict[str, Clips]
    skipped: dict[str, str]
    fingerprint: str
    path: str
    warnings: tuple[str, ...] = ()
    tasks: tuple[Task, ...] = ()

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
            split: some.with_labels(renumbered(some.labels))
            for split, some in self.clips.items()
        }
        return dataclasses.replace(self, label_names=tuple(new), clips=clips)
