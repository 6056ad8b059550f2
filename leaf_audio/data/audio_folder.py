"""Recordings in a folder of one's own as a data set.

The folder holds audio files (wav, flac, ogg or mp3; any rate, any number of
channels), in one of three ways:

    <label>/**/*            split by a hash of each file's relative path
    <split>/<label>/**/*    where folders are called `train`, `validation` and
                            `test`; to train it takes the first and one other
    index.csv               columns `file` (relative to the folder), `label`
                            and, unless the split is to be drawn, `split`

A folder `train` beside folders of other names is a label where audio lies
directly in it. Hidden files and files of other kinds are ignored, as is audio
that index.csv does not list; audio of kinds that cannot be read is an error.
The drawn split depends on nothing but a file's own path: adding or removing
files moves no other.
"""

import collections
import concurrent.futures
import contextlib
import csv
import dataclasses
import hashlib
import numbers
import os
import pathlib
import posixpath
import re
import struct
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import gin
import numpy as np
import soundfile
import soxr

from leaf_audio.data import clips

EXTENSIONS = (".wav", ".flac", ".ogg", ".mp3")
# Decoders may not read these, which must not be left out without a word.
_OTHER_AUDIO = (
    *(".aac", ".aif", ".aifc", ".aiff", ".amr", ".ape", ".au", ".caf", ".m4a"),
    *(".mka", ".mp2", ".oga", ".opus", ".w64", ".wave", ".wma", ".wv"),
)
INDEX = "index.csv"
DEFAULT_SAMPLE_RATE = 16000
DEFAULT_FRACTION = 0.1
# No recorder works outside this range; a header that says so is damaged.
_SAMPLE_RATES = (1000, 768000)
# Unusable files that an error names.
_MOST_NAMED = 5
# What else splits are called. Among nothing but these a folder is no label.
_SPLIT_NAMES = {
    *("train", "training"),
    *("validation", "valid", "val", "dev", "development"),
    *("test", "testing", "eval", "evaluation"),
}


class UnusableFileError(ValueError):
    """An audio file that cannot take part; the message is the reason alone."""


@dataclasses.dataclass(frozen=True)
class _Recording:
    file: str
    label: str
    split: str


@gin.configurable(denylist=["data_dir", "fallback_sample_rate", "for_training"])
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
) -> clips.AudioData:
    """Prepares the recordings below `path`.

    Files are told apart by relative path, size and the times of their last
    change of content and of metadata, not by a hash of their contents: hashing
    a large collection at every start would take longer than training a step,
    and the metadata time, which programs cannot set, gives away even a file
    that was replaced under its old modification time.

    Args:
        path: the folder.
        sample_rate: in Hz, what every file is resampled to; None for
            `fallback_sample_rate`.
        source_sample_rate: in Hz; a file at another rate is an error. None
            takes files at any rate.
        on_error: "raise" stops at a file that cannot be used and names it;
            "skip" leaves such files out and lists them in `skipped`.
        validation_fraction: share of the files drawn for validation; 0.1, or
            what the other leaves, unless given. For folders that bring no
            split of their own.
        test_fraction: the same for testing; 1 takes all files for it, to
            evaluate a model that was trained on others.
        data_dir: where the prepared clips go; None for TFDS's default.
        fallback_sample_rate: what `data.load` was asked for.
        for_training: whether the folder must hold what training needs: two
            labels, and clips of each of them in the split "train".

    Raises:
        ValueError: where an argument or a file is not as it must be.
    """
    folder = _check_folder(path)
    if sample_rate is None:
        sample_rate = fallback_sample_rate
    for name, value in (
        ("sample_rate", sample_rate),
        ("source_sample_rate", source_sample_rate),
    ):
        if value is not None and not _is_rate(value):
            raise ValueError(
                f"`audio_folder.{name}` must be a rate in Hz from "
                f"{_SAMPLE_RATES[0]} to {_SAMPLE_RATES[1]}. "
                f"Received: {name}={value!r}."
            )
    if on_error not in ("raise", "skip"):
        raise ValueError(
            "`audio_folder.on_error` must be 'raise' or 'skip'. "
            f"Received: on_error={on_error!r}."
        )
    recordings = _list(folder, validation_fraction, test_fraction, for_training)
    wanted = _labels_by_split(recordings)
    _check_splits(folder, wanted, wanted, for_training)

    def write(writer: clips.ClipWriter) -> dict:
        label_names, skipped = _write_clips(
            writer,
            folder,
            recordings,
            lambda file: decode(folder / file, sample_rate, source_sample_rate),
            on_error,
        )
        return {
            "label_names": label_names,
            "sample_rate": sample_rate,
            "skipped": skipped,
        }

    audio_data = clips.prepare_once(
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
            for recording in recordings
        ],
        dtype="float32",
        write=write,
    )
    _check_splits(folder, wanted, audio_data.used_labels, for_training)
    return audio_data


def decode(
    path: pathlib.Path,
    sample_rate: int,
    source_sample_rate: int | None = None,
) -> np.ndarray:
    """Reads a file as float32 mono at `sample_rate`.

    Args:
        path: where the file lies.
        sample_rate: in Hz, of the result.
        source_sample_rate: in Hz, what the file must have; None for any.

    Raises:
        UnusableFileError: saying what is wrong with it.
    """
    try:
        samples, rate = _read(path, source_sample_rate)
        if not len(samples):
            raise UnusableFileError("it holds no samples")
        samples = samples.mean(axis=1)
        if not np.isfinite(samples).all():
            raise UnusableFileError("it holds samples that are not finite")
        if rate != sample_rate:
            samples = soxr.resample(samples, rate, sample_rate)
        if not len(samples):
            raise UnusableFileError(f"it is empty at {sample_rate} Hz")
    except soundfile.LibsndfileError as error:
        reason = error.error_string.rstrip(".")
        if path.suffix.lower() in _OTHER_AUDIO:
            reason = f"{path.suffix} must be converted, such as to wav or flac"
        elif reason.startswith("File does not exist") and path.is_file():
            # What libsndfile says of an mp3 that is none.
            reason = "format not recognised"
        raise UnusableFileError(reason) from error
    except (OSError, soundfile.SoundFileError) as error:
        raise UnusableFileError(str(error)) from error
    return samples.astype(np.float32)


def read_recording(recording: str, sample_rate: int) -> np.ndarray:
    """Reads a recording that somebody has named, as `decode` does.

    Raises:
        ValueError: naming the recording, and what is wrong with it.
    """
    try:
        return decode(pathlib.Path(recording), sample_rate)
    except UnusableFileError as error:
        raise ValueError(
            "`recording` must be a recording that can be read. "
            f"Received: recording={recording!r}: {error}."
        ) from error


def _read(
    path: pathlib.Path, source_sample_rate: int | None
) -> tuple[np.ndarray, int]:
    _check_size(path)
    # As bytes, since a name need not be UTF-8.
    with soundfile.SoundFile(os.fsencode(path)) as file:
        rate = file.samplerate
        if not _is_rate(rate):
            raise UnusableFileError(f"it claims a sample rate of {rate} Hz")
        if source_sample_rate not in (None, rate):
            raise UnusableFileError(
                f"its sample rate is {rate} Hz, not the "
                f"`audio_folder.source_sample_rate` of {source_sample_rate} Hz"
            )
        samples = file.read(dtype="float32", always_2d=True)
        # An mp3 without a length in its header only lets this be estimated.
        if file.format != "MP3" and len(samples) < file.frames:
            raise UnusableFileError(
                f"it is cut off: {len(samples)} of {file.frames} samples"
            )
    return samples, rate


def _check_size(path: pathlib.Path) -> None:
    """Finds empty files and wav files cut off, which libsndfile may read."""
    with open(path, "rb") as file:
        header = file.read(8)
    if not header:
        raise UnusableFileError("the file is empty")
    if len(header) < 8 or header[:4] != b"RIFF":
        return
    (declared,) = struct.unpack("<I", header[4:])
    # Programs that write to a pipe cannot know the size and put one of these.
    if declared in (0, 0xFFFFFFFF):
        return
    # The byte that pads an odd size is often left out.
    missing = declared + 8 - path.stat().st_size
    if missing > 1:
        raise UnusableFileError(f"it is cut off: {missing} bytes are missing")


def _write_clips(
    writer: clips.ClipWriter,
    folder: pathlib.Path,
    recordings: list[_Recording],
    decode_file: Callable[[str], np.ndarray],
    on_error: str,
) -> tuple[list[str], dict[str, str]]:
    label_names = sorted({recording.label for recording in recordings})
    skipped = {}
    # Left to the garbage collector, an unfinished generator would join its
    # threads wherever that runs, even where another thread starts.
    with (
        contextlib.closing(
            _decode_in_parallel(recordings, decode_file)
        ) as results,
        clips.progress(
            results, len(recordings), f"Preparing {folder.name}"
        ) as decoded,
    ):
        for recording, result in decoded:
            if isinstance(result, UnusableFileError):
                skipped[recording.file] = str(result)
            elif not skipped or on_error == "skip":
                label = label_names.index(recording.label)
                writer.add(recording.split, result, label)
    if skipped and on_error == "raise":
        named = [f"file={file!r}: {why}" for file, why in skipped.items()]
        if len(named) > _MOST_NAMED:
            named[_MOST_NAMED:] = [f"and {len(named) - _MOST_NAMED} more"]
        raise ValueError(
            "`audio_folder.path` must hold usable audio files. "
            f"Received: {'; '.join(named)}. "
            "audio_folder.on_error = 'skip' leaves such files out."
        )
    return label_names, skipped


def _decode_in_parallel(
    recordings: list[_Recording], decode_file: Callable[[str], np.ndarray]
) -> Iterator[tuple[_Recording, np.ndarray | UnusableFileError]]:
    def attempt(recording):
        try:
            return decode_file(recording.file)
        except UnusableFileError as error:
            return error

    # Decoders and resampler release the GIL. A bounded number of files at a
    # time keeps the memory bounded.
    workers = os.cpu_count() or 1
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        for start in range(0, len(recordings), 4 * workers):
            some = recordings[start : start + 4 * workers]
            yield from zip(some, pool.map(attempt, some), strict=True)


def _labels_by_split(recordings: list[_Recording]) -> dict[str, set[str]]:
    labels = collections.defaultdict(set)
    for recording in recordings:
        labels[recording.split].add(recording.label)
    return labels


def _check_splits(
    folder: pathlib.Path,
    wanted: dict[str, set[str]],
    kept: dict[str, set[str]],
    for_training: bool,
) -> None:
    """Checks which labels splits hold, of those that files are there for."""
    needed = {*wanted, "train"} if for_training else {*wanted} - {"train"}
    for split in [one for one in clips.SPLITS if one in needed]:
        if split not in kept:
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
    folder = pathlib.Path(path or "").expanduser()
    if not path or not folder.is_dir():
        what = ""
        if path:
            what = ", a file" if folder.exists() else ", which is not there"
        raise ValueError(
            "`audio_folder.path` must be a folder of recordings, set by "
            "--gin_bindings=\"audio_folder.path = '/path/to/recordings'\" or "
            f"in a config. Received: path={path!r}{what}."
        )
    return folder.resolve()


def _is_rate(value: Any) -> bool:
    low, high = _SAMPLE_RATES
    return isinstance(value, numbers.Real) and low <= value <= high


def _file_state(folder: pathlib.Path, recording: _Recording) -> list[int]:
    try:
        stat = os.stat(folder / recording.file)
    except OSError:
        return []  # decoding it says what is wrong
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]


def _list(
    folder: pathlib.Path,
    validation_fraction: float | None,
    test_fraction: float | None,
    for_training: bool,
) -> list[_Recording]:
    """All recordings in the order of their paths, with label and split."""
    if (folder / INDEX).is_file():
        try:
            rows = list(_list_index(folder))
        except (UnicodeDecodeError, csv.Error) as error:
            raise ValueError(
                f"`{INDEX}` must be comma-separated text in UTF-8. "
                f"Received: {folder / INDEX} ({error})."
            ) from error
    else:
        rows = _list_tree(folder, sorted(_walk(folder)))
    if not rows:
        raise ValueError(
            "`audio_folder.path` must hold audio files "
            f"({', '.join(EXTENSIONS)}) in folders named by label. "
            f"Received: path={str(folder)!r}."
        )

    fractions = {"validation": validation_fraction, "test": test_fraction}
    has_splits = rows[0][2] is not None
    given = {k: v for k, v in fractions.items() if v is not None}
    if has_splits and given:
        name, fraction = next(iter(given.items()))
        raise ValueError(
            f"`audio_folder.{name}_fraction` must be None for a folder that "
            f"brings its own splits. Received: {name}_fraction={fraction!r}. "
            "(An evaluation takes it from the run, unless it is bound to None.)"
        )
    if not has_splits:
        _check_fractions(given)
        default = min(DEFAULT_FRACTION, 1 - sum(given.values()))
        fractions = dict.fromkeys(fractions, default) | given
        rows = [
            (file, label, _draw_split(file, **fractions))
            for file, label, _ in rows
        ]
    recordings = sorted(
        (_Recording(*row) for row in rows), key=lambda row: row.file
    )
    if not for_training:
        return recordings

    labels = {recording.label for recording in recordings}
    if len(labels) < 2:
        raise ValueError(
            "`audio_folder.path` must hold at least two labels. "
            f"Received: path={str(folder)!r}, with {sorted(labels)}."
        )
    if not has_splits:
        for split, fraction in fractions.items():
            if fraction and split not in {r.split for r in recordings}:
                raise ValueError(
                    f"`audio_folder.{split}_fraction` must leave a clip for "
                    f"{split!r}, or be 0. Received: "
                    f"{split}_fraction={fraction} of {len(recordings)} files, "
                    "for which it may be too small."
                )
    return recordings


def _check_fractions(given: dict[str, Any]) -> None:
    fractions = given.values()
    # NaN is not within 0 and 1.
    are_shares = all(
        isinstance(v, numbers.Real) and 0 <= v <= 1 for v in fractions
    )
    if not are_shares or sum(fractions) > 1:
        received = [f"{k}_fraction={v!r}" for k, v in given.items()]
        raise ValueError(
            "`audio_folder.validation_fraction` and "
            "`audio_folder.test_fraction` must be numbers that are not "
            "negative, nor more than 1 together. Received: "
            f"{', '.join(received)}."
        )


def _draw_split(file: str, validation: float, test: float) -> str:
    # macOS and Linux spell the same accented name in different bytes.
    name = _name(file).encode("utf-8", "surrogateescape")
    draw = int.from_bytes(hashlib.sha256(name).digest()[:8], "big") / 2**64
    if draw < test:
        return "test"
    return "validation" if draw < test + validation else "train"


def _walk(folder: pathlib.Path) -> Iterator[str]:
    """Audio files below `folder`, relative to it, through symbolic links."""
    seen = set()
    for root, directories, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(root)
        if real in seen:
            directories.clear()  # a link that leads back up
            continue
        seen.add(real)
        directories[:] = sorted(d for d in directories if d[0] != ".")
        for file in files:
            if file[0] != "." and file.lower().endswith(
                EXTENSIONS + _OTHER_AUDIO
            ):
                relative = os.path.relpath(os.path.join(root, file), folder)
                yield relative.replace(os.sep, "/")


def _list_tree(
    folder: pathlib.Path, files: Iterable[str]
) -> list[tuple[str, str, str | None]]:
    by_top = collections.defaultdict(list)
    for file in files:
        if "/" not in file:
            raise ValueError(
                "`audio_folder.path` must hold audio files in folders named "
                f"by label. Received: file={file!r}, in no such folder."
            )
        by_top[file.split("/")[0]].append(file)
    if not _holds_splits(by_top):
        _check_not_splits(by_top)
        return [
            (file, _name(top), None)
            for top, below in by_top.items()
            for file in below
        ]

    tops = set(by_top)
    # An empty folder for a split is a mistake to report, hence this second
    # look at the disk.
    tops |= {split for split in clips.SPLITS if (folder / split).is_dir()}
    rows = []
    for top in sorted(tops):
        if top not in clips.SPLITS:
            raise ValueError(
                "`audio_folder.path` must name its splits "
                f"{', '.join(clips.SPLITS)} beside a folder `train`. "
                f"Received: folder={top!r}."
            )
        if not by_top[top]:
            raise ValueError(
                "`audio_folder.path` must hold usable clips for every split. "
                f"Received: path={str(folder)!r}, without any for {top!r}."
            )
        for file in by_top[top]:
            parts = file.split("/")
            if len(parts) < 3:
                raise ValueError(
                    "`audio_folder.path` must hold audio files in folders "
                    f"named by label. Received: file={file!r}, directly in "
                    "the folder of a split."
                )
            rows.append((file, _name(parts[1]), top))
    return rows


def _holds_splits(by_top: dict[str, list[str]]) -> bool:
    if set(by_top) <= set(clips.SPLITS):
        # A stray file in one must not turn the splits into labels.
        return len(by_top) > 1 or all(_nested(by_top.values()))
    return "train" in by_top and all(_nested([by_top["train"]]))


def _check_not_splits(by_top: dict[str, list[str]]) -> None:
    """Refuses splits under other names, which would become labels."""
    words = [re.split(r"[\W\d_]+", top.lower()) for top in by_top]
    if all(map(_SPLIT_NAMES.intersection, words)) and any(
        _nested(by_top.values())
    ):
        raise ValueError(
            "`audio_folder.path` must name its splits "
            f"{', '.join(clips.SPLITS)}. Received: folders={sorted(by_top)}. "
            f"Where these are labels, {INDEX} can say so."
        )


def _nested(groups: Iterable[Iterable[str]]) -> Iterator[bool]:
    """Tells of each file whether it lies in a folder below a top one."""
    return (file.count("/") >= 2 for group in groups for file in group)


def _name(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def _list_index(
    folder: pathlib.Path,
) -> Iterator[tuple[str, str, str | None]]:
    seen = set()
    with open(folder / INDEX, encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        columns = reader.fieldnames or []
        if not {"file", "label"} <= set(columns):
            raise ValueError(
                f"`{INDEX}` must have the columns file, label and, unless the "
                f"split is to be drawn, split. Received: columns={columns}."
            )
        for row in reader:
            name, label = row["file"], row["label"]
            split = row["split"] if "split" in columns else None
            where = f"line {reader.line_num} of {folder / INDEX}"
            if not name or not label:
                raise ValueError(
                    f"`file` and `label` must be given in {where}. "
                    f"Received: file={name!r}, label={label!r}."
                )
            if "split" in columns and split not in clips.SPLITS:
                raise ValueError(
                    f"`split` must be one of {', '.join(clips.SPLITS)} in "
                    f"{where}. Received: file={name!r}, split={split!r}."
                )
            name = posixpath.normpath(name)
            if name in seen:
                raise ValueError(
                    f"`file` must not be listed twice, as in {where}. "
                    f"Received: file={name!r}."
                )
            seen.add(name)
            yield name, _name(label), split
