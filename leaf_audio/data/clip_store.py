"""Stores the clips of a data set on disk once, and finds them again.

Every source of audio (a TFDS set, a folder) is prepared into one folder:

    <data_dir>/leaf_audio/<name>-<settings>/<state>/
        clips-<split>.array_record-<number>     a shard: FLAC files and labels
        <split>.npz                             an index of the clips of a split
        info.json                               what the folder holds
        dataset_info.json, features.json, ...   what TFDS needs to read it

`<settings>` is a hash of the settings. `<state>` is a hash of the settings and
of the state of the source, such as the times of its files. If the source
changes, the state changes, no folder of that name exists, and the source is
prepared again. What the clips are then decides their fingerprint: it is a hash
of all samples and labels. So a copy of the recordings is the same data set.

A folder has this name only when it is complete. Until then, it is called
`<state>.partial`. After an interruption, the next process goes on in it. See
`leaf_audio.data.split_writer` for that, and `leaf_audio.data.records` for what
a shard holds.
"""

import contextlib
import dataclasses
import hashlib
import io
import json
import os
import pathlib
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import filelock
import numpy as np

from leaf_audio.common import files
from leaf_audio.common.listing import listed
from leaf_audio.common.plain import for_json
from leaf_audio.data import records
from leaf_audio.data.clips import SPLITS, AudioData, Clips
from leaf_audio.data.split_writer import (
    PART_SAMPLES,
    Clip,
    Source,
    Written,
    remove_leftovers,
    remove_summaries,
    write_split,
)

__all__ = ["Clip", "Source", "Stored", "prepare_once"]

FORMAT = 2
# Fingerprints of other formats are not comparable.
FINGERPRINT_PREFIX = f"v{FORMAT}-"
# A training run may last for days and still read clips that have become
# outdated since it began. A preparation that was interrupted may be continued.
_UNUSED_S = 14 * 24 * 3600
# How many clips a warning names.
_MAX_NAMED_CLIPS = 3


@dataclasses.dataclass(frozen=True)
class Stored:
    """What was stored.

    Attributes:
        labels: The label of each clip, by split.
        skipped: The reason for each clip that was skipped, by its name.
        remarked: The names of the clips with a remark.
    """

    labels: dict[str, list[int | list[int]]]
    skipped: dict[str, str]
    remarked: list[str]


def default_data_dir() -> str:
    """Returns TFDS's default: $TFDS_DATA_DIR or else ~/tensorflow_datasets."""
    return os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"


def folder_of(data_dir: str | None) -> pathlib.Path:
    """Returns the folder of all prepared clips.

    Args:
        data_dir: str or None. The folder that holds all data sets. None is
            TFDS's default.

    Raises:
        ValueError: It is the address of a folder in a cloud.
    """
    root = data_dir or default_data_dir()
    if "://" in str(root):
        named = "data_dir" if data_dir else "$TFDS_DATA_DIR"
        raise ValueError(
            "`data_dir`, or $TFDS_DATA_DIR without it, must be a folder of "
            f"this machine or one that is mounted. Received: {named}={root!r}."
        )
    return pathlib.Path(root).expanduser().resolve() / "leaf_audio"


def prepare_once(
    name: str,
    data_dir: str | None,
    settings: dict[str, Any],
    state: Any,
    sample_rate: int | None,
    sources: Callable[[], Mapping[str, Source]],
    describe: Callable[[Stored], dict[str, Any]],
    title: str | None = None,
) -> AudioData:
    """Opens the prepared clips; stores them first if they do not exist.

    A process that is killed leaves complete shards, which the next one does not
    write again. Where several processes want the same clips, one prepares them,
    and the others wait.

    Args:
        name: str. The name of the data set.
        data_dir: str or None. The folder that holds all data sets. None is
            TFDS's default.
        settings: dict that JSON can represent. Everything that the clips depend
            on, except the source's state.
        state: Value that JSON can represent. The state of the source, such as
            the sizes and times of its files.
        sample_rate: int, in Hz, or None if it is unknown.
        sources: Function without arguments that returns the clips: a mapping
            from names of splits, "train", "validation" and "test", to a
            `Source`. It is not called if the clips are stored already.
        describe: Function of what was stored. It returns a dict with
            `label_names` and optionally `warnings`, as `AudioData` holds them.
            A warning of silent clips is added to these.
        title: str or None. What the progress bar calls the data set. None is
            `name`. Default: None.

    Returns:
        An `AudioData`.

    Raises:
        ValueError: A clip cannot be stored; see `split_writer.write_split`. Or
            `data_dir` cannot be made.
    """
    settings_hash = _digest([FORMAT, settings])
    source_state = _digest([FORMAT, settings, sample_rate, state])
    root = folder_of(data_dir)
    home = root / f"{files.safe_name(name)}-{settings_hash[:8]}"
    final = home / source_state
    found = _read(name, final)
    if found is not None:
        return found
    files.make_folder(home, "data_dir", data_dir)
    with one_at_a_time(home / f"{source_state}.lock"):
        # Another process may have prepared them meanwhile.
        found = _read(name, final)
        if found is None:
            partial = home / f"{source_state}.partial"
            partial.mkdir(exist_ok=True)
            try:
                if _read(name, partial) is None:
                    remove_leftovers(partial)
                    by_split = sources()
                    written = {
                        split: write_split(
                            directory=partial,
                            split=split,
                            source=by_split[split],
                            sample_rate=sample_rate,
                            description=f"Preparing {title or name} {split}",
                        )
                        for split in SPLITS
                        if split in by_split
                    }
                    _complete(partial, settings, sample_rate, written, describe)
            finally:
                # It stays if it holds something.
                with contextlib.suppress(OSError):
                    partial.rmdir()
            found = _publish(name, partial, final)
    _remove_unused(root, home, final)
    return found


@contextlib.contextmanager
def one_at_a_time(path: pathlib.Path) -> Iterator[None]:
    """Lets one process at a time enter the `with` block.

    The lock of a killed process ends with it.

    Args:
        path: pathlib.Path. A file in an existing folder, to lock.
    """
    lock = filelock.FileLock(path)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        print(
            "waiting for another process, which prepares the same data",
            file=sys.stderr,
            flush=True,
        )
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _complete(
    directory: pathlib.Path,
    settings: dict[str, Any],
    sample_rate: int | None,
    written: dict[str, Written],
    describe: Callable[[Stored], dict[str, Any]],
) -> None:
    """Writes what is needed to read the shards of a folder."""
    total = Written()
    for some in written.values():
        total.extend(some)
    skipped = total.skipped
    written = {split: some for split, some in written.items() if some.lengths}
    labels = {split: some.labels for split, some in written.items()}
    info = describe(Stored(labels, skipped, total.remarked))
    info["warnings"] = [
        *info.get("warnings", ()),
        *_describe_silent(total.silent),
    ]
    label_names = info["label_names"]
    is_multilabel = False
    for split, some in written.items():
        is_multilabel = is_multilabel or isinstance(some.labels[0], list)
        arrays: dict[str, Any] = {
            "offsets": np.cumsum([0, *some.lengths], dtype=np.int64),
            "hashes": np.array(
                [[*bytes.fromhex(h)] for h in some.hashes], "u1"
            ),
            **_stored_labels(some.labels, len(label_names)),
        }
        if None not in some.groups:
            arrays["groups"] = np.array(some.groups, np.int64)
        np.savez(directory / f"{split}.npz", **arrays)
    shards = {split: some.shards for split, some in written.items()}
    if written:
        records.describe(
            directory, shards, label_names, is_multilabel, PART_SAMPLES
        )
    info |= {
        "sample_rate": sample_rate,
        "skipped": skipped,
        "settings": settings,
        "splits": list(written),
        "part_samples": PART_SAMPLES,
        "full_scales": {
            split: some.full_scales[0]
            for split, some in written.items()
            if some.bits == [16] and len(some.full_scales) == 1
        },
        "shards": {
            split: [dataclasses.asdict(shard) for shard in some]
            for split, some in shards.items()
        },
        "fingerprint": _fingerprint(label_names, sample_rate, written),
    }
    path = directory / "info.json"
    files.write_json(path, info | {"checksum": _digest(info)})
    remove_summaries(directory)


def _describe_silent(names: Sequence[str]) -> list[str]:
    if not names:
        return []
    are = "1 clip is" if len(names) == 1 else f"{len(names)} clips are"
    some = listed(map(repr, names), _MAX_NAMED_CLIPS)
    return [
        f"{are} silent, since the samples do not change: {some}. Check these, "
        "unless you want to learn silence."
    ]


def _fingerprint(
    label_names: Sequence[str],
    sample_rate: int | None,
    written: dict[str, Written],
) -> str:
    """Returns a hash of what the clips are, wherever they came from."""
    of_splits = [
        [split, some.hashes, some.lengths, some.labels, some.groups]
        for split, some in written.items()
    ]
    digest = _digest([list(label_names), sample_rate, of_splits])
    return FINGERPRINT_PREFIX + digest


def _stored_labels(labels: Sequence[Any], num_labels: int) -> dict[str, Any]:
    """Returns the labels of a split as arrays, for `_read_clips` to read."""
    if not isinstance(labels[0], list):
        return {"labels": np.array(labels, np.int64)}
    multi_hot = np.zeros((len(labels), num_labels), bool)
    for row, some in zip(multi_hot, labels, strict=True):
        row[list(some)] = True
    return {"label_bits": np.packbits(multi_hot, axis=1)}


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, default=for_json)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _publish(
    name: str, partial: pathlib.Path, final: pathlib.Path
) -> AudioData:
    """Gives a complete folder its final name, and opens it."""
    if final.exists():
        # It is damaged: otherwise it would have been opened.
        shutil.rmtree(final)
    partial.rename(final)
    found = _read(name, final)
    if found is None:
        raise OSError(f"{final} was removed or damaged right after writing it.")
    return found


def _remove_unused(
    root: pathlib.Path, home: pathlib.Path, final: pathlib.Path
) -> None:
    """Removes folders that have not been used for a long time.

    These are the earlier states of a source, and preparations of any source
    that were not completed. All folders in `home` come from one source with the
    same settings, so that all of them but `final` are outdated.
    """
    for other in {*home.iterdir(), *root.glob("*/*.partial")} - {final}:
        if other.is_dir() and not _is_in_use(other):
            shutil.rmtree(other, ignore_errors=True)


def _is_in_use(directory: pathlib.Path) -> bool:
    try:
        newest = max(
            p.stat().st_mtime for p in (directory, *directory.iterdir())
        )
    except OSError:
        # Another process is renaming or removing the folder at this moment.
        return True
    return newest > time.time() - _UNUSED_S


def _read(name: str, directory: pathlib.Path) -> AudioData | None:
    """Opens prepared clips; returns None if they are missing or damaged."""
    try:
        info = json.loads((directory / "info.json").read_text("utf-8"))
        if info.pop("checksum") != _digest(info):
            return None
        num_labels = len(info["label_names"])
        data = AudioData(
            name=name,
            label_names=tuple(info["label_names"]),
            sample_rate=info["sample_rate"],
            clips={
                split: _read_clips(directory, split, info, num_labels)
                for split in info["splits"]
            },
            skipped=info["skipped"],
            fingerprint=info["fingerprint"],
            path=str(directory),
            warnings=tuple(info.get("warnings", ())),
        )
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (MemoryError, OSError):
        # It is there, but cannot be read now.
        raise
    # Any byte may be damaged, and what reads it raises an error of any kind.
    except Exception:
        return None
    # `_is_in_use` takes this time for that of the last use. It cannot be set in
    # a shared folder that is read-only.
    with contextlib.suppress(OSError):
        os.utime(directory)
    return data


def _read_clips(
    directory: pathlib.Path, split: str, info: dict[str, Any], num_labels: int
) -> Clips:
    content = (directory / f"{split}.npz").read_bytes()
    try:
        with np.load(io.BytesIO(content)) as arrays:
            index = dict(arrays)
    except OSError as error:
        # Of a file in memory, it is damage.
        raise ValueError(f"{split}.npz is damaged") from error
    if "label_bits" in index:
        bits = index.pop("label_bits")
        index["labels"] = np.unpackbits(bits, axis=1, count=num_labels) > 0
    clips = Clips(
        directory,
        **index,
        shards=[records.Shard(**shard) for shard in info["shards"][split]],
        part_samples=info["part_samples"],
        full_scale=info["full_scales"].get(split),
    )
    clips.check()
    return clips
