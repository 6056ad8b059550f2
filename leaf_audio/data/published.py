"""Reads the tables of data sets as their owners publish them.

Each function here is an `index` of `data.audio_folder`: it gets the folder of
the data set, and returns a row for each recording, with the columns of
index.csv. Recordings that a table names and whose files are missing are left
out, with a `DataWarning` that counts them. Many clips of AudioSet are no longer
available.

To add a data set, write another such function, and register it in
`leaf_audio.app.data_configurables`.
"""

import csv
import io
import os
import pathlib
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from leaf_audio.common.checks import check_path
from leaf_audio.data.clips import DataWarning
from leaf_audio.data.extensions import EXTENSIONS
from leaf_audio.data.recordings import audio_files

Row = dict[str, Any]
# The names that the file of a recording may have, and its row without the file.
_Clip = tuple[Iterable[str], Row]
# All files of a folder, by a name. Several may have the same.
_Files = dict[str, list[str]]

# The lists of AudioSet, and the split of each.
_AUDIOSET_SPLITS = {
    "balanced_train_segments.csv": "train",
    "unbalanced_train_segments.csv": "train",
    "eval_segments.csv": "test",
}


def audioset_index(folder: str | os.PathLike) -> list[Row]:
    """Lists AudioSet: ten-second clips with several labels each.

    The folder holds `class_labels_indices.csv`, and those of the lists
    `balanced_train_segments.csv`, `unbalanced_train_segments.csv` and
    `eval_segments.csv` that are to be used. The two lists for training make the
    split "train", and the third makes "test". The audio lies anywhere below the
    folder. The name of a file is the identifier of its video, such as
    `-0RWZT-miFs.wav`. It may have a `Y` before it. Behind it may stand `_` and
    the start of the segment, in seconds or milliseconds, as in
    `-0RWZT-miFs_420.000.wav` and `-0RWZT-miFs_420000.wav`, and then `_` and its
    end. Each file holds no more than its segment. Labels have their display
    names. (Gemmeke et al., "Audio Set", ICASSP 2017.)

    Args:
        folder: str or path. The folder of the data set.

    Returns:
        Rows with the columns file, labels and split.

    Raises:
        ValueError: A table is missing or not as published, or there is no
            audio file for any of its clips.
    """
    folder = pathlib.Path(check_path("folder", folder))
    names = {
        row["mid"]: row["display_name"]
        for row in _read_csv(
            folder, "class_labels_indices.csv", ("mid", "display_name")
        )
    }
    lists = [name for name in _AUDIOSET_SPLITS if (folder / name).is_file()]
    if not lists:
        raise ValueError(
            "`audio_folder.path` must hold lists of AudioSet: "
            f"{', '.join(_AUDIOSET_SPLITS)}. Received: path={str(folder)!r}, "
            "without any of them."
        )
    files = _files_by_stem(folder)
    rows: list[Row] = []
    seen: dict[str, str] = {}
    for name in lists:
        clips = _read_segments(folder, name, names)
        found = _with_files(folder / name, files, clips, _AUDIOSET_SPLITS[name])
        for row in found:
            file = row["file"]
            if file in seen:
                raise ValueError(
                    "The lists of AudioSet must name each clip once. Received: "
                    f"file={file!r}, named by {seen[file]} and {name} in "
                    f"{folder}."
                )
            seen[file] = name
        rows += found
    return rows


def birdclef2021_index(folder: str | os.PathLike) -> list[Row]:
    """Lists the short recordings of BirdCLEF 2021: 397 species of birds.

    The folder holds `train_metadata.csv` and
    `train_short_audio/<primary_label>/<filename>`, as on Kaggle. A recording
    has its primary label. The column `speaker` holds the author, so that drawn
    splits share no author, as in EfficientLEAF (arXiv:2207.05508).

    Args:
        folder: str or path. The folder of the data set.

    Returns:
        Rows with the columns file, label and speaker.

    Raises:
        ValueError: The table is missing or not as published, or there is no
            audio file for any of its recordings.
    """
    folder = pathlib.Path(check_path("folder", folder))
    table = "train_metadata.csv"
    columns = ("primary_label", "author", "filename")
    clips = []
    for row in _read_csv(folder, table, columns):
        label = row["primary_label"]
        file = f"train_short_audio/{label}/{row['filename']}"
        clips.append(([file], {"label": label, "speaker": row["author"]}))
    return _with_files(folder / table, _files_by_path(folder), clips)


def bird_detection_index(folder: str | os.PathLike) -> list[Row]:
    """Lists the bird audio detection sets of DCASE 2018, task 3.

    The folder holds the tables of one or several of the sets freefield1010,
    warblrb10k and BirdVox-DCASE-20k: csv files with the columns `itemid` and
    `hasbird`. The audio lies anywhere below the folder, as `<itemid>.wav`. The
    labels are "bird" and "no bird". There are no published splits.

    Args:
        folder: str or path. The folder of the data set.

    Returns:
        Rows with the columns file and label.

    Raises:
        ValueError: There is no such table, or there is no audio file for any
            of its recordings.
    """
    folder = pathlib.Path(check_path("folder", folder))
    columns = ("itemid", "hasbird")
    tables = [
        path
        for path in sorted(folder.glob("*.csv"))
        if path.is_file() and set(columns) <= set(_header(path))
    ]
    if not tables:
        raise ValueError(
            "`audio_folder.path` must hold csv files with the columns itemid "
            f"and hasbird. Received: path={str(folder)!r}, without any."
        )
    labels = {"0": "no bird", "1": "bird"}
    files = _files_by_stem(folder)
    rows = []
    for path in tables:
        clips = []
        for row in _read_csv(folder, path.name, columns):
            if row["hasbird"] not in labels:
                raise ValueError(
                    f"The column hasbird of {path} must hold 0 or 1. Received: "
                    f"hasbird={row['hasbird']!r} for itemid={row['itemid']!r}."
                )
            clips.append(([row["itemid"]], {"label": labels[row["hasbird"]]}))
        rows += _with_files(path, files, clips)
    return rows


def speech_commands_index(folder: str | os.PathLike) -> list[Row]:
    """Lists all words of Speech Commands: 35 in version 0.02.

    The folder holds `<word>/<speaker>_nohash_<number>.wav`,
    `validation_list.txt` and `testing_list.txt`, as in the published archive.
    What neither list names is for training. Folders whose names begin with `_`,
    such as `_background_noise_`, are left out. (Warden, arXiv:1804.03209.)

    Args:
        folder: str or path. The folder of the data set.

    Returns:
        Rows with the columns file, label, split and speaker.

    Raises:
        ValueError: A list is missing, or there are no recordings.
    """
    folder = pathlib.Path(check_path("folder", folder))
    splits: dict[str, str] = {}
    for name, split in (
        ("validation_list.txt", "validation"),
        ("testing_list.txt", "test"),
    ):
        for line in _read_text(folder, name).split():
            if splits.setdefault(line, split) != split:
                raise ValueError(
                    "validation_list.txt and testing_list.txt must share no "
                    f"recording. Received: {line!r} in both, in {folder}."
                )
    files = [file for file in audio_files(folder) if file.count("/") == 1]
    rows = [
        {
            "file": file,
            "label": file.split("/")[0],
            "split": splits.get(file, "train"),
            "speaker": pathlib.PurePath(file).stem.split("_nohash_")[0],
        }
        for file in files
        if not file.startswith("_")
    ]
    if not rows:
        raise ValueError(
            "`audio_folder.path` must hold folders named by word. "
            f"Received: path={str(folder)!r}, without recordings in any."
        )
    missing = len(splits.keys() - {row["file"] for row in rows})
    if missing == len(splits):
        raise ValueError(
            "validation_list.txt and testing_list.txt must name recordings "
            f"such as yes/0a7c2a8d_nohash_0.wav. Received: {folder}, with no "
            f"recording that they name, such as {next(iter(splits), '')!r}."
        )
    _warn_of_missing(missing, len(splits), "the lists")
    return rows


def tut2018_index(folder: str | os.PathLike) -> list[Row]:
    """Lists TUT Urban Acoustic Scenes 2018, the development set.

    The folder holds `audio/`, and in `evaluation_setup/` the lists
    `fold1_train.txt` and `fold1_evaluate.txt`, which make the splits "train"
    and "test". Their columns are separated by tabs. The column `speaker` holds
    the place of a recording, such as "barcelona-12". (Mesaros et al.,
    arXiv:1807.09840.)

    Args:
        folder: str or path. The folder of the data set.

    Returns:
        Rows with the columns file, label, split and speaker.

    Raises:
        ValueError: A list is missing or not as published, or there is no audio
            file for any of its recordings.
    """
    folder = pathlib.Path(check_path("folder", folder))
    files = _files_by_path(folder)
    rows = []
    for name, split in (("train", "train"), ("evaluate", "test")):
        table = f"evaluation_setup/fold1_{name}.txt"
        clips = []
        for line in _read_text(folder, table).split("\n"):
            cells = line.strip().split("\t")
            if cells[0] in ("", "filename"):
                continue
            if len(cells) != 2:
                raise ValueError(
                    f"A line of {folder / table} must hold a file and a scene, "
                    f"separated by a tab. Received: {line!r}."
                )
            file, label = cells
            clips.append(([file], {"label": label, "speaker": _place(file)}))
        rows += _with_files(folder / table, files, clips, split)
    return rows


def _place(file: str) -> str:
    """Returns the place in a name: audio/airport-barcelona-12-345-a.wav."""
    _, *parts = pathlib.PurePath(file).stem.split("-")
    return "-".join(parts[:2])


def _read_segments(
    folder: pathlib.Path, name: str, labels_by_mid: dict[str, str]
) -> Iterator[_Clip]:
    """Yields the clips of a list of AudioSet."""
    for line in _lines(folder, name, skipinitialspace=True):
        if not line or line[0].startswith("# "):
            continue
        try:
            video, start, end, mids = line
            labels = [labels_by_mid[mid] for mid in mids.split(",")]
            times = (float(start), float(end))
        except (ValueError, KeyError) as error:
            raise ValueError(
                f"A line of {folder / name} must hold the identifier of a "
                "video, two times, and labels of class_labels_indices.csv. "
                f"Received: {line} ({error})."
            ) from error
        names = _audioset_names(video, (start, end), times)
        yield names, {"labels": labels}


def _audioset_names(
    video: str, texts: Sequence[str], times: Sequence[float]
) -> Iterator[str]:
    """Yields the names that downloaders give the file of a clip."""
    prefixes = (video, f"Y{video}")
    yield from prefixes
    for start, end in (
        texts,
        [f"{time:g}" for time in times],
        [f"{time:.1f}" for time in times],
        [f"{1000 * time:.0f}" for time in times],
    ):
        for prefix in prefixes:
            yield f"{prefix}_{start}"
            yield f"{prefix}_{start}_{end}"


def _lines(
    folder: pathlib.Path, name: str, **options: Any
) -> Iterator[list[str]]:
    """Yields the lines of a csv file. Quotes that do not end are an error."""
    text = io.StringIO(_read_text(folder, name), newline="")
    reader = csv.reader(text, strict=True, **options)
    try:
        yield from reader
    except csv.Error as error:
        raise ValueError(
            f"{folder / name} must be comma-separated text. Received: {error}, "
            f"at line {reader.line_num}."
        ) from error


def _read_csv(
    folder: pathlib.Path, name: str, columns: Sequence[str]
) -> list[dict[str, str]]:
    lines = [line for line in _lines(folder, name) if line]
    header = lines[0] if lines else []
    missing = set(columns) - set(header)
    if missing:
        raise ValueError(
            f"{folder / name} must have the columns {', '.join(columns)}. "
            f"Received: columns={header}."
        )
    wrong = next((one for one in lines if len(one) != len(header)), None)
    if wrong is not None:
        raise ValueError(
            f"Each line of {folder / name} must have a value for each of its "
            f"{len(header)} columns. Received: {wrong}."
        )
    return [dict(zip(header, one, strict=True)) for one in lines[1:]]


def _header(path: pathlib.Path) -> list[str]:
    try:
        return next(_lines(path.parent, path.name), [])
    except ValueError:
        return []


def _read_text(folder: pathlib.Path, name: str) -> str:
    try:
        return (folder / name).read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise ValueError(
            f"`audio_folder.path` must hold {name}, as the owners of the data "
            f"set publish it. Received: path={str(folder)!r}, without it."
        ) from error
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{folder / name} must be text in UTF-8. Received: {error}."
        ) from error


def _files_by_stem(folder: pathlib.Path) -> _Files:
    files: _Files = {}
    for file in audio_files(folder):
        files.setdefault(pathlib.PurePath(file).stem, []).append(file)
    return files


def _files_by_path(folder: pathlib.Path) -> _Files:
    return {file: [file] for file in audio_files(folder)}


def _with_files(
    table: pathlib.Path,
    files: _Files,
    clips: Iterable[_Clip],
    split: str | None = None,
) -> list[Row]:
    """Returns the rows of the clips of a table whose files exist."""
    rows = []
    count = 0
    wanted = None
    for names, row in clips:
        names = iter(names)
        first = next(names)
        count += 1
        wanted = wanted or first
        name = next((one for one in (first, *names) if one in files), None)
        if name is None:
            continue
        rows.append({"file": _only_file(files[name], table), **row})
        if split:
            rows[-1]["split"] = split
    if not rows:
        raise ValueError(
            f"`audio_folder.path` must hold the recordings that {table} names. "
            f"Received: a folder without any of these {count}, such as "
            f"{wanted!r}."
        )
    _warn_of_missing(count - len(rows), count, table.name)
    return rows


def _only_file(found: Sequence[str], table: pathlib.Path) -> str:
    """Chooses audio where a video of the same name lies beside it."""
    audio = [
        file
        for file in found
        if pathlib.PurePath(file).suffix.lower() in EXTENSIONS
    ]
    if len(audio) > 1:
        raise ValueError(
            f"A recording that {table} names must have one file. Received: "
            f"{', '.join(map(repr, audio))}."
        )
    return (audio or found)[0]


def _warn_of_missing(missing: int, count: int, table: str) -> None:
    if missing:
        warnings.warn(
            f"{missing} of the {count} recordings in {table} have no audio "
            "file. They are left out.",
            DataWarning,
            stacklevel=3,
        )
