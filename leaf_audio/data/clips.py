"""Clips on disk, any of them at hand without reading the others.

Every source of audio (a TFDS set, a folder) is prepared once into one folder:

    <data_dir>/leaf_audio/<name>-<settings>/<fingerprint>/
        info.json            what it holds and what it was made from
        <split>/<number>     samples of some clips, one after the other
        <split>.npz          where each clip starts and ends, and its label

The first hash in the path stands for the settings and the second for the state
of the source as well, so that a source that changed finds no folder and is
prepared again. Samples are raw little-endian int16 or float32. The numbered
files are small enough to be read whole for the sake of one clip, hence data
sets larger than memory can be shuffled fully, and a run can go on at any step
at once.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import re
import shutil
import time
import uuid
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import rich.console
import rich.progress
import tensorflow as tf

SPLITS = ("train", "validation", "test")
FORMAT = 1
INT16_MAX = 32767
# A living process writes every few seconds, so a half-written folder that
# nobody has touched for an hour belongs to one that was killed.
_ABANDONED_S = 3600
# A run may go on for days, reading from a state of the source that has become
# outdated meanwhile.
_UNUSED_S = 14 * 24 * 3600
# Reading this much costs hardly more than reading one short clip from it, and
# a large data set does not come to millions of files.
_FILE_BYTES = 2**18
_T = TypeVar("_T")


@contextlib.contextmanager
def progress(
    items: Iterable[_T], total: int, description: str, transient: bool = False
) -> Iterator[Iterable[_T]]:
    """Gives `items`, to be iterated over under a progress bar on stderr.

    Args:
        items: what is worked on.
        total: how many there are.
        description: what is done with them.
        transient: whether the bar is for a terminal alone and disappears
            from it at the end.
    """
    console = rich.console.Console(stderr=True)
    with rich.progress.Progress(
        console=console,
        transient=transient,
        disable=transient and not console.is_terminal,
    ) as bar:
        tracked = bar.track(items, total=total, description=description)
        # It has a thread, which the garbage collector must not be left to join.
        with contextlib.closing(tracked):
            yield tracked


class Clips:
    """The clips of one split.

    Args:
        directory: holds the numbered files.
        dtype: of a sample, little-endian int16 or float32.
        offsets: `len(self) + 1` positions in samples; in all files taken
            together, clip i lies between positions i and i + 1.
        files: for each clip the number of its file.
        labels: for each clip the index of its class.
    """

    def __init__(
        self,
        directory: pathlib.Path,
        dtype: str,
        offsets: np.ndarray,
        files: np.ndarray,
        labels: np.ndarray,
    ):
        self.directory = directory
        self.dtype = np.dtype(dtype)
        self.offsets = offsets
        self.files = files
        self.labels = labels

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def nbytes(self) -> int:
        return int(self.offsets[-1]) * self.dtype.itemsize

    @property
    def length(self) -> int | None:
        """Samples per clip where all clips are equally long, else None."""
        lengths = np.diff(self.offsets)
        return int(lengths[0]) if (lengths == lengths[0]).all() else None

    def check(self) -> None:
        """Raises ValueError where bytes are missing."""
        with os.scandir(self.directory) as entries:
            nbytes = sum(entry.stat().st_size for entry in entries)
        if nbytes != self.nbytes:
            raise ValueError(f"{self.directory} is not complete")

    def reader(
        self, in_memory: bool = False
    ) -> Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]:
        """A function from an index to samples and label, for tf.data.

        It consists of TensorFlow's own operations: a Python function in a
        pipeline that still runs ahead when the program ends can hang it.

        Args:
            in_memory: whether to hold all clips in memory.
        """
        _, first_clips = np.unique(self.files, return_index=True)
        with tf.device("CPU:0"):
            offsets = tf.constant(self.offsets, tf.int64)
            file_offsets = tf.constant(self.offsets[first_clips], tf.int64)
            files = tf.constant(self.files, tf.int64)
            labels = tf.constant(self.labels, tf.int32)
            samples = tf.constant(self._samples()) if in_memory else None

        def read(index):
            start, stop = offsets[index], offsets[index + 1]
            if in_memory:
                audio = samples[start:stop]
            else:
                name = tf.strings.as_string(files[index])
                path = tf.strings.join([str(self.directory), name], "/")
                audio = tf.io.decode_raw(tf.io.read_file(path), self.dtype)
                begin = file_offsets[files[index]]
                audio = audio[start - begin : stop - begin]
            audio.set_shape([self.length])
            return audio, labels[index]

        return read

    def dataset(self) -> tf.data.Dataset:
        return tf.data.Dataset.range(len(self)).map(self.reader())

    def _samples(self) -> np.ndarray:
        samples = np.empty(self.offsets[-1], self.dtype)
        position = 0
        for number in range(self.files[-1] + 1):
            some = np.fromfile(self.directory / str(number), self.dtype)
            samples[position : position + len(some)] = some
            position += len(some)
        return samples


@dataclasses.dataclass(frozen=True)
class AudioData:
    """A prepared data set.

    Attributes:
        name: the name it was loaded by.
        label_names: one name per class; a label is a position in it.
        sample_rate: in Hz; None where the source declares none.
        clips: the clips of every split that exists.
        skipped: file to reason, for the files that were left out.
        fingerprint: a hash of the source's state and of the settings.
        path: the folder that holds the prepared clips.
    """

    name: str
    label_names: tuple[str, ...]
    sample_rate: int | None
    clips: dict[str, Clips]
    skipped: dict[str, str]
    fingerprint: str
    path: str

    @property
    def counts(self) -> dict[str, int]:
        """Examples per split."""
        return {split: len(clips) for split, clips in self.clips.items()}

    @property
    def used_labels(self) -> dict[str, set[str]]:
        """The names of the labels that clips have, per split."""
        return {
            split: {self.label_names[label] for label in np.unique(some.labels)}
            for split, some in self.clips.items()
        }

    def relabelled(self, label_names: Sequence[str]) -> "AudioData":
        """The same clips, with labels that are positions in `label_names`.

        Args:
            label_names: those that a model was trained for.

        Raises:
            ValueError: the label of a clip is not among these names.
        """
        new = {name: i for i, name in enumerate(label_names)}
        unknown = set().union(*self.used_labels.values()) - set(new)
        if unknown:
            raise ValueError(
                "`dataset` must have labels that the model was trained for, "
                f"{list(new)}. Received: dataset={self.name!r} with "
                f"{sorted(unknown)} too."
            )
        # Those without a place have no clips.
        positions = np.array([new.get(name, -1) for name in self.label_names])
        clips = {
            split: Clips(
                some.directory,
                some.dtype,
                some.offsets,
                some.files,
                positions[some.labels],
            )
            for split, some in self.clips.items()
        }
        return dataclasses.replace(self, label_names=tuple(new), clips=clips)

    @property
    def splits(self) -> dict[str, tf.data.Dataset]:
        """Unbatched (audio, label) per split, always in the same order."""
        return {s: clips.dataset() for s, clips in self.clips.items()}


class ClipWriter:
    """Writes clips one by one; only labels and lengths stay in memory."""

    def __init__(self, directory: pathlib.Path, dtype: str):
        self._directory = directory
        self._dtype = np.dtype(dtype).newbyteorder("<")
        self._splits: dict[str, _SplitWriter] = {}

    @property
    def labels(self) -> dict[str, list[int]]:
        return {name: split.labels for name, split in self._splits.items()}

    def add(self, split: str, samples: np.ndarray, label: int) -> None:
        if split not in self._splits:
            self._splits[split] = _SplitWriter(self._directory / split)
        self._splits[split].add(samples.astype(self._dtype), label)

    def close(self) -> None:
        for split in self._splits.values():
            split.file.close()

    def finish(self, info: dict[str, Any]) -> None:
        """Writes the indices and `info`."""
        self.close()
        for name, split in self._splits.items():
            np.savez(
                self._directory / f"{name}.npz",
                offsets=np.cumsum([0, *split.lengths], dtype=np.int64),
                files=np.array(split.files, np.int64),
                labels=np.array(split.labels, np.int64),
            )
        splits = [split for split in SPLITS if split in self._splits]
        info = info | {"dtype": self._dtype.str, "splits": splits}
        with open(self._directory / "info.json", "w", encoding="utf-8") as file:
            json.dump(info, file, indent=1)


class _SplitWriter:
    def __init__(self, directory: pathlib.Path):
        self._directory = directory
        directory.mkdir()
        self._number = 0
        self.file = open(directory / "0", "wb")
        self.lengths: list[int] = []
        self.files: list[int] = []
        self.labels: list[int] = []

    def add(self, samples: np.ndarray, label: int) -> None:
        written = self.file.tell()
        if written and written + samples.nbytes > _FILE_BYTES:
            self.file.close()
            self._number += 1
            self.file = open(self._directory / str(self._number), "wb")
        self.file.write(samples.tobytes())
        self.lengths.append(len(samples))
        self.files.append(self._number)
        self.labels.append(label)


def default_data_dir() -> str:
    """TFDS's own default: $TFDS_DATA_DIR, or else ~/tensorflow_datasets."""
    return os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"


def prepare_once(
    name: str,
    data_dir: str | None,
    settings: dict[str, Any],
    state: Any,
    dtype: str,
    write: Callable[[ClipWriter], dict[str, Any]],
) -> AudioData:
    """Reads the prepared clips, after writing them where they do not exist.

    Processes that prepare the same clips at once do so in folders of their
    own; a finished folder gets its name in one step, so that one killed on
    the way leaves nothing that could be taken for a result.

    Args:
        name: the data set's name.
        data_dir: the folder that holds all data sets; None for the default.
        settings: everything but the source's state that the clips depend on.
        state: the source's state, JSON-serialisable.
        dtype: "int16" or "float32".
        write: adds all clips and returns `label_names`, `sample_rate` and
            `skipped`.
    """
    settings_hash = _digest([FORMAT, settings])
    fingerprint = _digest([FORMAT, settings, dtype, state])
    root = pathlib.Path(data_dir or default_data_dir()).expanduser().resolve()
    safe_name = re.sub(r"[^\w.-]", "-", name)
    home = root / "leaf_audio" / f"{safe_name}-{settings_hash[:8]}"
    final = home / fingerprint
    found = _read(name, final, fingerprint)
    if found is not None:
        return found

    home.mkdir(parents=True, exist_ok=True)
    partial = home / f"{fingerprint}.{uuid.uuid4().hex}.partial"
    partial.mkdir()
    writer = ClipWriter(partial, dtype)
    try:
        info = write(writer)
        writer.finish(info | {"settings": settings})
        found = _publish(
            partial, final, lambda: _read(name, final, fingerprint)
        )
    finally:
        writer.close()
        shutil.rmtree(partial, ignore_errors=True)
    _remove_outdated(home, final)
    return found


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _publish(
    partial: pathlib.Path,
    final: pathlib.Path,
    read: Callable[[], AudioData | None],
) -> AudioData:
    try:
        partial.rename(final)
    except OSError:
        # Either another process was faster, and its result is as good as this
        # one, or the folder there is damaged.
        if read() is None:
            shutil.rmtree(final)
            partial.rename(final)
    found = read()
    if found is None:
        raise OSError(f"{final} was removed or damaged right after writing it.")
    return found


def _remove_outdated(home: pathlib.Path, final: pathlib.Path) -> None:
    """Removes what no source can lead to any more.

    Everything in `home` comes from one source under the same settings, so that
    all but the newest state is out of date.
    """
    for other in home.iterdir():
        if other != final and not _is_in_use(other):
            shutil.rmtree(other, ignore_errors=True)


def _is_in_use(directory: pathlib.Path) -> bool:
    try:
        newest = max(
            p.stat().st_mtime for p in (directory, *directory.iterdir())
        )
    except OSError:
        return True  # its owner is renaming or removing it
    is_partial = directory.suffix == ".partial"
    limit = _ABANDONED_S if is_partial else _UNUSED_S
    return newest > time.time() - limit


def _read(
    name: str, directory: pathlib.Path, fingerprint: str
) -> AudioData | None:
    """The prepared clips, or None where they are missing or damaged."""
    try:
        info = json.loads((directory / "info.json").read_text("utf-8"))
        clips = {
            split: _read_clips(directory, split, info["dtype"])
            for split in info["splits"]
        }
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return None
    with contextlib.suppress(OSError):  # a shared folder may be read-only
        os.utime(directory)
    return AudioData(
        name=name,
        label_names=tuple(info["label_names"]),
        sample_rate=info["sample_rate"],
        clips=clips,
        skipped=info["skipped"],
        fingerprint=fingerprint,
        path=str(directory),
    )


def _read_clips(directory: pathlib.Path, split: str, dtype: str) -> Clips:
    # NumPy itself would not close a damaged file.
    with open(directory / f"{split}.npz", "rb") as file:
        with np.load(file) as index:
            clips = Clips(directory / split, dtype, **index)
    clips.check()
    return clips
