"""Reads audio from TFRecord files of other programs, such as those of audax.

A record is a `tf.train.Example` with the bytes of an audio file and with the
indices of labels. The files lie in folders that have the names of splits:
`<split>/<any name>`. They may be compressed, by GZIP or ZLIB.
"""

import json
import os
import pathlib
import re
import tempfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from leaf_audio.common.checks import (
    check_bool,
    check_path,
    check_text,
    check_unless_none,
)
from leaf_audio.common.listing import listed
from leaf_audio.data import (
    clip_store,
    decoding,
    records,
    shared_audio,
    user_files,
)
from leaf_audio.data.clips import AudioData

# For each split, the names that its folder may have.
_FOLDERS = {
    "train": ("train",),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "eval"),
}
_MAX_NAMED_FOLDERS = 5
# Without names, there is a label for each index.
_MAX_LABELS = 10**5
# A record has its length before it and two checksums.
_RECORD_OVERHEAD = 16
# With this, zlib finds out whether bytes are in the format of GZIP or of ZLIB.
_ANY_FORMAT = zlib.MAX_WBITS | 32


def tfrecords(
    path: str | None = None,
    label_names: str | Sequence[str] | None = None,
    several_labels: bool = False,
    audio_key: str = "audio",
    label_key: str = "label",
    sample_rate: int | None = None,
    on_error: str = "raise",
    data_dir: str | None = None,
    fallback_sample_rate: int | None = None,
    for_training: bool = True,
) -> AudioData:
    """Prepares audio that another program has written to TFRecord files.

    Several channels are averaged. To count the records, all files are read once
    more, before the first is stored.

    A `DataWarning` is issued if clips are silent, and if the same audio is in
    several splits or has several labels. The result's `warnings` holds the same
    sentences.

    Args:
        path: str. The folder that holds the folders `train`, `validation` and
            `test`, or some of them. `valid`, `val` and `dev` also mean
            validation, and `eval` also means test. Must be given.
        label_names: str, or sequence of str, or None. The names of the labels,
            in the order of their indices. Or the path of a JSON file that maps
            names to indices, such as audax's label map. None uses the indices
            as names, up to the largest that occurs. Default: None.
        several_labels: bool. Whether a record may have any number of labels.
            If not, each must have exactly one. Default: False.
        audio_key: str. The feature with the bytes of an audio file, such as
            FLAC or wav. Default: "audio".
        label_key: str. The feature with the indices, integers.
            Default: "label".
        sample_rate: int, in Hz, or None. Audio at another rate is resampled.
            None takes `fallback_sample_rate`. Default: None.
        on_error: str. What to do with a record whose audio cannot be decoded:
            "raise" raises an error that names it; "skip" leaves it out and
            lists it in the result's `skipped`. Default: "raise".
        data_dir: str or None. The folder that holds all data sets; the prepared
            clips go there. None is TFDS's default. Default: None.
        fallback_sample_rate: int, in Hz, or None. The rate that the caller of
            `load` asked for, with which `sample_rate` must agree. None stands
            for 16000. Default: None.
        for_training: bool. Whether there must be a folder `train`.
            Default: True.

    Returns:
        An `AudioData`.

    Raises:
        ValueError: An argument, a file or a record is not valid.
    """
    check_text("tfrecords.audio_key", audio_key)
    check_text("tfrecords.label_key", label_key)
    check_bool("tfrecords.several_labels", several_labels)
    check_bool("for_training", for_training)
    check_unless_none(check_path, data_dir=data_dir)
    user_files.check_on_error("tfrecords", on_error)
    rate = user_files.chosen_rate(
        "tfrecords", sample_rate, fallback_sample_rate
    )
    names = _read_names(label_names)
    folder = user_files.check_folder(
        "tfrecords", path, "a folder that holds folders of TFRecord files"
    )
    by_split = _find_files(folder, for_training)
    parse = _Parser(audio_key, label_key, several_labels, names, rate)

    def describe(stored: clip_store.Stored) -> dict[str, Any]:
        return {"label_names": names or _indices_as_names(stored.labels)}

    audio_data = clip_store.prepare_once(
        name="tfrecords",
        data_dir=data_dir,
        settings={
            "path": str(folder),
            "label_names": names,
            "several_labels": several_labels,
            "audio_key": audio_key,
            "label_key": label_key,
        },
        state=[
            [split, str(file), *user_files.file_state(file)]
            for split, files in by_split.items()
            for file in files
        ],
        sample_rate=rate,
        sources=lambda: {
            split: _source(folder, files, parse)
            for split, files in by_split.items()
        },
        describe=describe,
        title=folder.name,
    )
    user_files.check_all_used("tfrecords", audio_data.skipped, on_error)
    if not any(audio_data.used_labels.values()) or (
        for_training and "train" not in audio_data.clips
    ):
        raise ValueError(
            "`tfrecords.path` must hold usable records with labels"
            f"{' in train' if for_training else ''}. Received: "
            f"path={str(folder)!r}, with {audio_data.counts or 'none'}."
        )
    return shared_audio.warned(audio_data)


def _read_names(label_names: Any) -> list[str] | None:
    """Returns the names of the labels, in their order."""
    if label_names is None:
        return None
    names: Any = label_names
    if isinstance(label_names, (str, os.PathLike)):
        try:
            text = pathlib.Path(label_names).expanduser().read_text("utf-8")
            indices = json.loads(text)
            names = sorted(indices, key=indices.get)
            if sorted(indices.values()) != list(range(len(indices))):
                names = None
        except OSError as error:
            raise ValueError(
                "`tfrecords.label_names` must name a file that can be read. "
                f"Received: label_names={str(label_names)!r}: {error.strerror}."
            ) from error
        except (AttributeError, TypeError, ValueError):
            names = None
    is_list = isinstance(names, Sequence) and not isinstance(names, str)
    if (
        not is_list
        or not names
        or not all(isinstance(name, str) for name in names)
        or len(set(names)) < len(names)
    ):
        raise ValueError(
            "`tfrecords.label_names` must be a list of different names, or a "
            "JSON file that maps names to the indices 0, 1, 2 and so on. "
            f"Received: label_names={label_names!r}."
        )
    return list(names)


def _find_files(
    folder: pathlib.Path, for_training: bool
) -> dict[str, list[pathlib.Path]]:
    """Returns the files of each split, in their order."""
    found: dict[str, list[pathlib.Path]] = {}
    for split, names in _FOLDERS.items():
        folders = [folder / name for name in names if (folder / name).is_dir()]
        if len(folders) > 1:
            raise ValueError(
                f"`tfrecords.path` must hold one folder for {split}. Received: "
                f"{', '.join(one.name for one in folders)} in {folder}."
            )
        files = [
            file
            for one in folders
            for file in sorted(one.iterdir())
            if file.is_file() and not file.name.startswith(".")
        ]
        if files:
            found[split] = files
    if not found or (for_training and "train" not in found):
        holds = sorted(one.name for one in folder.iterdir() if one.is_dir())
        raise ValueError(
            "`tfrecords.path` must hold a folder train with TFRecord files. "
            f"Received: path={str(folder)!r}, with the folders "
            f"{listed(holds, _MAX_NAMED_FOLDERS) or 'none'}."
        )
    return found


def _indices_as_names(labels: dict[str, list[Any]]) -> list[str]:
    largest = max(
        (np.max(one, initial=-1) for some in labels.values() for one in some),
        default=-1,
    )
    return [str(i) for i in range(int(largest) + 1)]


def _source(
    folder: pathlib.Path,
    files: Sequence[pathlib.Path],
    parse: Callable[[str, bytes], clip_store.Clip],
) -> clip_store.Source:
    counts = [_count(file) for file in files]

    def clips(first: int) -> Iterator[clip_store.Clip]:
        for file, count in zip(files, counts, strict=True):
            if first >= count:
                first -= count
                continue
            name = file.relative_to(folder).as_posix()
            for i, record in enumerate(_records(file)):
                if i >= first:
                    yield parse(f"{name} {i}", record)
            first = 0

    return clip_store.Source(sum(counts), clips)


def _count(file: pathlib.Path) -> int:
    """Counts the records of a file, and checks that it ends with the last.

    TensorFlow takes up to eleven bytes after a record for the end of the file,
    and a file of so few bytes for one without records.
    """
    count = size = 0
    for record in _records(file):
        count += 1
        size += _RECORD_OVERHEAD + len(record)
    found = _uncompressed_size(file)
    if found is None:
        raise _damaged(file, "the compressed bytes do not end as they should")
    if found != size:
        reason = f"{count} records take {size} of {found} bytes"
        raise _damaged(file, reason)
    return count


def _records(file: pathlib.Path) -> Iterator[bytes]:
    import tensorflow as tf

    data = tf.data.TFRecordDataset(os.fsencode(file), _compression(file))
    try:
        yield from data.as_numpy_iterator()
    except tf.errors.OpError as error:
        reason = re.sub("{{.*?}} ?", "", error.message.splitlines()[0])
        raise _damaged(file, reason) from error


def _damaged(file: pathlib.Path, reason: str) -> ValueError:
    return ValueError(
        "`tfrecords.path` must hold TFRecord files. Received: "
        f"file={str(file)!r}, which is damaged, cut off or something else: "
        f"{reason}."
    )


def _uncompressed_size(file: pathlib.Path) -> int | None:
    """Returns the number of bytes of a file, once it is uncompressed.

    It is None if what is compressed is cut off, or something follows it.
    """
    if not _compression(file):
        return file.stat().st_size
    size = 0
    stream = None
    try:
        with open(file, "rb") as opened:
            while some := opened.read(2**16):
                while some:
                    # Several compressed streams may follow one another.
                    stream = stream or zlib.decompressobj(_ANY_FORMAT)
                    size += len(stream.decompress(some))
                    some = stream.unused_data
                    stream = None if stream.eof else stream
    except zlib.error:
        return None
    return size if stream is None else None


def _compression(file: pathlib.Path) -> str:
    """Returns what a file is compressed with, by TensorFlow's name for it."""
    with open(file, "rb") as opened:
        start = opened.read(2**10)
    try:
        zlib.decompressobj(_ANY_FORMAT).decompress(start)
    except zlib.error:
        return ""
    return "GZIP" if start.startswith(b"\x1f\x8b") else "ZLIB"


class _Parser:
    """Makes the clip of a record."""

    def __init__(
        self,
        audio_key: str,
        label_key: str,
        several_labels: bool,
        names: Sequence[str] | None,
        sample_rate: int,
    ):
        self._audio_key = audio_key
        self._label_key = label_key
        self._several = several_labels
        self._names = names
        self._rate = sample_rate

    def __call__(self, name: str, record: bytes) -> clip_store.Clip:
        from google.protobuf.message import DecodeError

        try:
            features = records.features_of(record)
        except DecodeError as error:
            raise ValueError(
                "`tfrecords.path` must hold records that are tf.train.Example. "
                f"Received: something else as {name!r}."
            ) from error
        audio = _values(features, self._audio_key, "bytes_list", name)
        labels = sorted(
            set(_values(features, self._label_key, "int64_list", name))
        )
        if len(audio) != 1:
            raise ValueError(
                "`tfrecords.audio_key` must name a feature with the bytes of "
                f"an audio file. Received: audio_key={self._audio_key!r}, "
                f"which has {len(audio)} values in {name!r}."
            )
        self._check(labels, name)
        sound = _Sound(audio[0], self._rate)
        return clip_store.Clip(
            samples=sound.blocks,
            label=labels if self._several else labels[0],
            name=name,
            bits=lambda: sound.bits,
        )

    def _check(self, labels: Sequence[int], name: str) -> None:
        if not self._several and len(labels) != 1:
            raise ValueError(
                "`tfrecords.several_labels` must be True unless each record "
                f"has one label, under tfrecords.label_key. Received: "
                f"{len(labels)} labels in {name!r}."
            )
        count = _MAX_LABELS if self._names is None else len(self._names)
        wrong = [one for one in labels if not 0 <= one < count]
        if wrong:
            raise ValueError(
                "`tfrecords.label_key` must name indices of labels, from 0 to "
                f"{count - 1}. Received: {wrong[0]} in {name!r}."
            )


def _values(features: Any, key: str, kind: str, name: str) -> list:
    """Returns the values of a feature, which must be of a kind."""
    if key not in features:
        raise ValueError(
            "`tfrecords.audio_key` and `tfrecords.label_key` must name "
            f"features of all records. Received: {key!r}, while {name!r} has "
            f"{', '.join(sorted(features)) or 'none'}."
        )
    found = features[key].WhichOneof("kind")
    if found not in (kind, None):
        raise ValueError(
            "`tfrecords.audio_key` must name a feature of bytes, and "
            "`tfrecords.label_key` one of integers. Received: "
            f"{key!r}, which is a {found} in {name!r}."
        )
    return list(getattr(features[key], kind).value)


class _Sound:
    """The bytes of an audio file.

    Attributes:
        bits: How many bits its samples need. Known once `blocks` has begun.
    """

    def __init__(self, content: bytes, sample_rate: int):
        self._content = content
        self._rate = sample_rate
        self.bits = 16

    def blocks(self) -> Iterator[np.ndarray]:
        """Yields the samples, as `decoding.decode_blocks` does."""
        # That function needs a file.
        with tempfile.NamedTemporaryFile(prefix="leaf_audio-") as file:
            file.write(self._content)
            file.flush()
            path = pathlib.Path(file.name)
            for number, block in enumerate(
                decoding.decode_blocks(path, self._rate)
            ):
                if not number:
                    self.bits = decoding.stored_bits(path, self._rate)
                yield block
