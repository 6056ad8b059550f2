"""Writes clips to disk once, and finds them again.

Every source of audio (a TFDS set, a folder) is prepared into one folder:

    <data_dir>/leaf_audio/<name>-<settings>/<state>/
        info.json            what the folder holds and was made from
        <split>/<number>     the samples of some clips, one after the other
        <split>.npz          where each clip starts and ends, its label (a bit
                             for each label where it may have several), and its
                             group if there are any

`<settings>` is a hash of the settings. `<state>` is a hash of the settings and
of the state of the source, such as the times of its files. If the source
changes, the state changes, no folder of that name exists, and the source is
prepared again. What the clips are then decides their fingerprint: it is a hash
of all samples and labels. So a copy of the recordings is the same data set.

Samples are raw little-endian int16 or float32. A numbered file is small enough
to be read whole for a single clip. Therefore a data set that is larger than
memory can be shuffled completely, and training can resume at any step without
delay.
"""

import contextlib
import hashlib
import json
import numbers
import os
import pathlib
import shutil
import time
import uuid
import zipfile
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from leaf_audio.common.files import safe_name
from leaf_audio.data.clips import SPLITS, AudioData, Clips

FORMAT = 1
# A process at work writes every few seconds. An unfinished folder that was not
# touched for this long belongs to a process that was killed.
_ABANDONED_S = 3600
# A training run may last for days and still read clips that have become
# outdated since it began.
_UNUSED_S = 14 * 24 * 3600
# Reading this much takes hardly longer than reading one short clip of it. A
# smaller size would split a large data set into millions of files.
_FILE_BYTES = 2**18


class ClipWriter:
    """Writes clips one after the other.

    Only the labels and lengths stay in memory.

    Args:
        directory: pathlib.Path. An empty folder to write to.
        dtype: str. The type of the samples on disk, "int16" or "float32".
    """

    def __init__(self, directory: pathlib.Path, dtype: str):
        self._directory = directory
        self._dtype = np.dtype(dtype).newbyteorder("<")
        self._splits: dict[str, _SplitWriter] = {}

    @property
    def labels(self) -> dict[str, list[int | Sequence[int]]]:
        """What `add` was given as label of each clip so far, by split."""
        return {name: split.labels for name, split in self._splits.items()}

    def add(
        self,
        split: str,
        samples: np.ndarray,
        label: int | Sequence[int],
        group: int | None = None,
    ) -> None:
        """Writes one clip.

        Args:
            split: str. "train", "validation" or "test".
            samples: Array of shape (time,).
            label: int, or list of int. The index of its label. Or, where a clip
                may have several, the indices of all of its labels. It must be
                of the same kind for all clips of a data set.
            group: int or None. A number that all clips have which belong
                together, such as those of one speaker. None for all clips of a
                split if each stands alone. Default: None.

        Raises:
            ValueError: A sample is not finite. Readers check their clips, and
                name the file; this holds for every reader to come.
        """
        if not np.isfinite(samples).all():
            raise ValueError(
                "`samples` must be finite. Received: NaN or infinity in clip "
                f"{len(self.labels.get(split, ()))} of {split!r}."
            )
        if split not in self._splits:
            self._splits[split] = _SplitWriter(self._directory / split)
        self._splits[split].add(
            samples.astype(self._dtype, copy=False), label, group
        )

    def close(self) -> None:
        """Closes all files."""
        for split in self._splits.values():
            split.file.close()

    def finish(self, info: dict[str, Any]) -> None:
        """Closes all files and writes the indices and info.json.

        Args:
            info: dict. What to write to info.json besides the type of the
                samples, the names of the splits and hashes of the clips.
                `label_names` and `sample_rate` must be among it.
        """
        self.close()
        for name, split in self._splits.items():
            arrays: dict[str, Any] = {
                "offsets": np.cumsum([0, *split.lengths], dtype=np.int64),
                "files": np.array(split.files, np.int64),
                **_stored_labels(split.labels, len(info["label_names"])),
            }
            if None not in split.groups:
                arrays["groups"] = np.array(split.groups, np.int64)
            np.savez(self._directory / f"{name}.npz", **arrays)
        splits = [split for split in SPLITS if split in self._splits]
        digests = {
            split: self._splits[split].digest.hexdigest() for split in splits
        }
        info = info | {
            "dtype": self._dtype.str,
            "splits": splits,
            "samples_sha256": digests,
            "fingerprint": self._fingerprint(info, digests),
        }
        with open(self._directory / "info.json", "w", encoding="utf-8") as file:
            json.dump(info, file, indent=1)

    def _fingerprint(self, info: dict[str, Any], digests: dict) -> str:
        """Returns a hash of what the clips are, wherever they came from."""
        of_splits = [
            [name, digest, split.lengths, split.labels, split.groups]
            for name, digest in digests.items()
            for split in (self._splits[name],)
        ]
        what = [info["label_names"], info["sample_rate"], self._dtype.str]
        return _digest([*what, of_splits])


def _stored_labels(labels: Sequence[Any], num_labels: int) -> dict[str, Any]:
    """Returns the labels of a split as arrays, for `_read_clips` to read."""
    if isinstance(labels[0], numbers.Integral):
        return {"labels": np.array(labels, np.int64)}
    multi_hot = np.zeros((len(labels), num_labels), bool)
    for row, some in zip(multi_hot, labels, strict=True):
        row[list(some)] = True
    return {"label_bits": np.packbits(multi_hot, axis=1)}


class _SplitWriter:
    def __init__(self, directory: pathlib.Path):
        self._directory = directory
        directory.mkdir()
        self._number = 0
        self.file = open(directory / "0", "wb")
        self.digest = hashlib.sha256()
        self.lengths: list[int] = []
        self.files: list[int] = []
        self.labels: list[int | Sequence[int]] = []
        self.groups: list[int | None] = []

    def add(
        self,
        samples: np.ndarray,
        label: int | Sequence[int],
        group: int | None,
    ) -> None:
        written = self.file.tell()
        if written and written + samples.nbytes > _FILE_BYTES:
            self.file.close()
            self._number += 1
            self.file = open(self._directory / str(self._number), "wb")
        # Without a copy, since a recording may be hours long.
        content = np.ascontiguousarray(samples).data
        self.file.write(content)
        self.digest.update(content)
        self.lengths.append(len(samples))
        self.files.append(self._number)
        self.labels.append(label)
        self.groups.append(group)


def default_data_dir() -> str:
    """Returns TFDS's default: $TFDS_DATA_DIR or else ~/tensorflow_datasets."""
    return os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"


def prepare_once(
    name: str,
    data_dir: str | None,
    settings: dict[str, Any],
    state: Any,
    dtype: str,
    write: Callable[[ClipWriter], dict[str, Any]],
) -> AudioData:
    """Opens the prepared clips; writes them first if they do not exist.

    Several processes may prepare the same clips at the same time. Each writes
    to a folder of its own, which gets its final name in one step when it is
    complete. A process that is killed therefore leaves nothing that could be
    taken for a complete result.

    Args:
        name: str. The name of the data set.
        data_dir: str or None. The folder that holds all data sets. None is
            TFDS's default.
        settings: dict that JSON can represent. Everything that the clips depend
            on, except the source's state.
        state: Value that JSON can represent. The state of the source, such as
            the sizes and times of its files.
        dtype: str. The type of the samples on disk, "int16" or "float32".
        write: Function that adds all clips to a `ClipWriter`. It returns a dict
            with `label_names`, `sample_rate`, `skipped` and optionally
            `warnings`, as `AudioData` holds them.

    Returns:
        An `AudioData`.
    """
    settings_hash = _digest([FORMAT, settings])
    source_state = _digest([FORMAT, settings, dtype, state])
    root = pathlib.Path(data_dir or default_data_dir()).expanduser().resolve()
    home = root / "leaf_audio" / f"{safe_name(name)}-{settings_hash[:8]}"
    final = home / source_state
    found = _read(name, final)
    if found is not None:
        return found

    home.mkdir(parents=True, exist_ok=True)
    partial = home / f"{source_state}.{uuid.uuid4().hex}.partial"
    partial.mkdir()
    writer = ClipWriter(partial, dtype)
    try:
        info = write(writer)
        writer.finish(info | {"settings": settings})
        found = _publish(partial, final, lambda: _read(name, final))
    finally:
        writer.close()
        shutil.rmtree(partial, ignore_errors=True)
    _remove_outdated(home, final)
    return found


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, default=_plain_integer)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _plain_integer(value: Any) -> int:
    # A reader may give labels as integers of NumPy.
    if isinstance(value, numbers.Integral):
        return int(value)
    raise TypeError(f"{value!r} is no value of JSON.")


def _publish(
    partial: pathlib.Path,
    final: pathlib.Path,
    read: Callable[[], AudioData | None],
) -> AudioData:
    """Gives a complete folder its final name, and opens it."""
    try:
        partial.rename(final)
    except OSError:
        # The folder `final` exists. Either another process was faster, and its
        # result is equally good, or the folder is damaged.
        if read() is None:
            shutil.rmtree(final)
            partial.rename(final)
    found = read()
    if found is None:
        raise OSError(f"{final} was removed or damaged right after writing it.")
    return found


def _remove_outdated(home: pathlib.Path, final: pathlib.Path) -> None:
    """Removes the folders of earlier states of the source.

    All folders in `home` come from one source with the same settings, so that
    all of them but `final` are outdated. Those that a process may still use are
    kept.
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
        # Another process is renaming or removing the folder at this moment.
        return True
    is_partial = directory.suffix == ".partial"
    limit = _ABANDONED_S if is_partial else _UNUSED_S
    return newest > time.time() - limit


def _read(name: str, directory: pathlib.Path) -> AudioData | None:
    """Opens prepared clips; returns None if they are missing or damaged."""
    try:
        info = json.loads((directory / "info.json").read_text("utf-8"))
        digests = info.get("samples_sha256", {})
        data = AudioData(
            name=name,
            label_names=tuple(info["label_names"]),
            sample_rate=info["sample_rate"],
            clips={
                split: _read_clips(
                    directory,
                    split,
                    info["dtype"],
                    len(info["label_names"]),
                    digests.get(split),
                )
                for split in info["splits"]
            },
            skipped=info["skipped"],
            # Earlier versions did not record it, and used the folder's name.
            fingerprint=info.get("fingerprint", directory.name),
            path=str(directory),
            warnings=tuple(info.get("warnings", ())),
        )
    except (
        AttributeError,
        EOFError,
        KeyError,
        OSError,
        TypeError,
        ValueError,
        zipfile.BadZipFile,
    ):
        return None
    # `_is_in_use` takes this time for that of the last use. It cannot be set in
    # a shared folder that is read-only.
    with contextlib.suppress(OSError):
        os.utime(directory)
    return data


def _read_clips(
    directory: pathlib.Path,
    split: str,
    dtype: str,
    num_labels: int,
    sha256: str | None,
) -> Clips:
    # NumPy does not close a damaged file that it has opened itself.
    with open(directory / f"{split}.npz", "rb") as file:
        with np.load(file) as arrays:
            index = dict(arrays)
    if "label_bits" in index:
        bits = index.pop("label_bits")
        index["labels"] = np.unpackbits(bits, axis=1, count=num_labels) > 0
    clips = Clips(directory / split, dtype, **index, sha256=sha256)
    clips.check()
    return clips
