"""Records of prepared clips: examples of TensorFlow, in files of ArrayRecord.

A record is a `tf.train.Example` in the encoding of TensorFlow Datasets (TFDS).
TFDS therefore reads a folder of prepared clips as a data set; see `describe`.
Neither TensorFlow nor TFDS is needed to read or write a record.
"""

import contextlib
import dataclasses
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

# The name that TFDS has for a folder of prepared clips.
DATASET = "clips"
# The features of a record.
AUDIO, SCALE, FULL_SCALE, SHA256 = "audio", "scale", "full_scale", "sha256"
FILE, START, GROUP = "file", "start", "group"
LABEL, LABELS = "label", "labels"
_DESCRIPTION = (
    "Clips that leaf_audio has prepared. `audio` is a FLAC file with one "
    "channel. The samples are those of the file, from -1 to 1, times `scale`; "
    "or its integers divided by `full_scale`, without rounding. A clip of more "
    "than {part_samples} samples is divided into several examples, and "
    "`start` is the position of an example in its clip, in samples. `file` is "
    "the name of the clip in its source, `group` a number that clips share "
    "which belong together, or -1. `sha256` is a hash of the samples."
)


@dataclasses.dataclass(frozen=True)
class Shard:
    """A file of records.

    Attributes:
        file: Its name.
        records: The number of records in it.
        nbytes: Its size.
    """

    file: str
    records: int
    nbytes: int

    def is_whole(self, directory: pathlib.Path) -> bool:
        """Returns whether the file is in a folder and has its size."""
        try:
            return (directory / self.file).stat().st_size == self.nbytes
        except OSError:
            return False


def shard_name(split: str, number: int) -> str:
    """Returns the name of a shard of a split."""
    return f"{DATASET}-{split}.array_record-{number:05d}"


def serialized(features: Mapping[str, Any]) -> bytes:
    """Returns a record.

    Args:
        features: The value of each feature: bytes, a str, an int, a float or a
            sequence of int.

    Returns:
        A serialized `tf.train.Example`.
    """
    from tensorflow_datasets.proto import tf_example_pb2

    example = tf_example_pb2.Example()
    for name, value in features.items():
        feature = example.features.feature[name]
        if isinstance(value, str):
            # A file name need not be valid UTF-8.
            value = value.encode("utf-8", "surrogateescape")
        if isinstance(value, bytes):
            feature.bytes_list.value.append(value)
        elif isinstance(value, float):
            feature.float_list.value.append(value)
        elif isinstance(value, Sequence):
            feature.int64_list.value.extend(value)
        else:
            feature.int64_list.value.append(value)
    return example.SerializeToString()


def features_of(record: bytes) -> Any:
    """Returns the features of a serialized `tf.train.Example`, by name.

    Args:
        record: The example.

    Raises:
        google.protobuf.message.DecodeError: The record is something else.
    """
    from tensorflow_datasets.proto import tf_example_pb2

    return tf_example_pb2.Example.FromString(record).features.feature


def audio_of(record: bytes) -> tuple[bytes, float, bytes]:
    """Returns the FLAC file of a record, its full scale, and its hash."""
    features = features_of(record)
    return (
        features[AUDIO].bytes_list.value[0],
        features[FULL_SCALE].float_list.value[0],
        features[SHA256].bytes_list.value[0],
    )


def file_of(record: bytes) -> str:
    """Returns the name of the clip of a record in its source, or ""."""
    (name,) = features_of(record)[FILE].bytes_list.value
    return name.decode("utf-8", "surrogateescape")


def hold(
    directory: pathlib.Path, shard: Shard, hashes: Sequence[bytes]
) -> bool:
    """Returns whether a shard can be read, and has records of these hashes.

    Args:
        directory: The folder of the shard.
        shard: The shard.
        hashes: The hash of each of its records.
    """
    if not shard.is_whole(directory) or shard.records != len(hashes):
        return False
    source = open_shards(directory, [shard])
    # Each error of ArrayRecord has a type of its own.
    try:
        return all(
            audio_of(source[i])[2] == expected
            for i, expected in enumerate(hashes)
        )
    except Exception:
        return False


class ShardWriter:
    """Writes records to a file, in their order.

    Args:
        path: The file to write.
    """

    def __init__(self, path: pathlib.Path):
        _, module = _array_record()
        # A group of one record, so that each is read by itself. The records
        # are compressed already.
        self._writer = module.ArrayRecordWriter(
            str(path), "group_size:1,uncompressed"
        )
        self._path = path
        self.records = 0
        self.nbytes = 0

    def write(self, record: bytes) -> None:
        """Writes one record."""
        with self._naming_errors():
            self._writer.write(record)
        self.records += 1
        self.nbytes += len(record)

    def close(self) -> None:
        """Completes the file. It can be called several times."""
        if self._writer.is_open():
            with self._naming_errors():
                self._writer.close()

    @contextlib.contextmanager
    def _naming_errors(self) -> Iterator[None]:
        """Raises what ArrayRecord reports, such as a full disk, as OSError."""
        try:
            yield
        except RuntimeError as error:
            reason = str(error).split(";")[0]
            raise OSError(
                f"{self._path} cannot be written: {reason}"
            ) from error


def open_shards(directory: pathlib.Path, shards: Sequence[Shard]) -> Any:
    """Returns a sequence of the records of some shards.

    Several threads may read from it. No file is opened before it is needed.

    Args:
        directory: The folder of the shards.
        shards: The shards, in their order.

    Returns:
        An `ArrayRecordDataSource`: a sequence of bytes.
    """
    module, _ = _array_record()
    return module.ArrayRecordDataSource(
        [
            _Instruction(
                str(directory / shard.file), 0, shard.records, shard.records
            )
            for shard in shards
        ]
    )


@dataclasses.dataclass(frozen=True)
class _Instruction:
    """What ArrayRecord asks for, to know a shard without opening it."""

    filename: str
    skip: int
    take: int
    examples_in_shard: int


def import_libraries() -> None:
    """Imports what reads and writes records.

    While these libraries are imported for the first time, they replace Python's
    function for imports, and other threads cannot import all that they need. So
    it must be done before threads start: those of a progress bar, too.
    """
    _array_record()
    from tensorflow_datasets.proto import tf_example_pb2  # noqa: F401


def _array_record() -> tuple[Any, Any]:
    """Imports the library that stores records.

    Returns:
        Its modules `array_record_data_source` and `array_record_module`.

    Raises:
        ImportError: If it is not installed.
    """
    try:
        from array_record.python import (
            array_record_data_source,
            array_record_module,
        )
    except ImportError as error:
        raise ImportError(
            "Prepared clips are stored with the package array_record, which "
            "cannot be imported here. It has no version for Windows: use the "
            "Windows Subsystem for Linux there."
        ) from error
    return array_record_data_source, array_record_module


def describe(
    directory: pathlib.Path,
    shards: Mapping[str, Sequence[Shard]],
    label_names: Sequence[str],
    is_multilabel: bool,
    part_samples: int,
) -> None:
    """Writes what TFDS needs to read a folder of shards.

    `tfds.builder_from_directory(directory).as_data_source("train")` is then a
    sequence of dictionaries.

    Args:
        directory: The folder of the shards.
        shards: The shards of each split.
        label_names: The name of each label.
        is_multilabel: Whether a clip may have several labels.
        part_samples: How many samples a record has at most.
    """
    import tensorflow_datasets as tfds

    names = list(map(_on_a_line, label_names))
    if len(set(names)) < len(names):
        names = [f"{i} {name}" for i, name in enumerate(names)]
    label = tfds.features.ClassLabel(names=names)
    features = tfds.features.FeaturesDict(
        {
            AUDIO: tfds.features.Tensor(shape=(), dtype=np.str_),
            SCALE: tfds.features.Scalar(np.float32),
            FULL_SCALE: tfds.features.Scalar(np.float32),
            SHA256: tfds.features.Tensor(shape=(), dtype=np.str_),
            FILE: tfds.features.Text(),
            START: tfds.features.Scalar(np.int64),
            GROUP: tfds.features.Scalar(np.int64),
            **(
                {LABELS: tfds.features.Sequence(label)}
                if is_multilabel
                else {LABEL: label}
            ),
        }
    )
    template = tfds.core.ShardedFileTemplate(
        data_dir=directory,
        dataset_name=DATASET,
        filetype_suffix="array_record",
        template="{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_INDEX}",
    )
    tfds.folder_dataset.write_metadata(
        data_dir=directory,
        features=features,
        split_infos=[
            tfds.core.SplitInfo(
                name=split,
                shard_lengths=[shard.records for shard in some],
                num_bytes=sum(shard.nbytes for shard in some),
                filename_template=template.replace(split=split),
            )
            for split, some in shards.items()
        ],
        filename_template=template,
        check_data=False,
        description=_DESCRIPTION.format(part_samples=part_samples),
    )


def _on_a_line(name: str) -> str:
    """Returns the name of a label as TFDS writes it: on a line of a file.

    A name need not be valid UTF-8. TFDS removes space at the ends.
    """
    valid = name.encode("utf-8", "backslashreplace").decode()
    if valid == valid.strip() and len(valid.splitlines()) <= 1:
        return valid
    return repr(valid)
