"""Lists the recordings in a folder, with the label and the split of each.

Three layouts are understood:

    <label>/**/*            labels only; splits are drawn
    <split>/<label>/**/*    splits are called train, validation and test
    index.csv               columns `file` (relative to the folder), `label`
                            and optionally `split`; without it, splits are drawn

The split of a file is drawn from a hash of its relative path. Adding or
removing files therefore never moves another file to another split.

A top-level folder `train` beside folders of other names is a label if audio
files lie directly in it. Hidden files and files of other kinds are ignored. So
are audio files that index.csv does not list.
"""

import collections
import csv
import dataclasses
import hashlib
import numbers
import os
import pathlib
import posixpath
import re
import unicodedata
from collections.abc import Iterable, Iterator
from typing import Any

from leaf_audio.data.clips import SPLITS
from leaf_audio.data.decoding import EXTENSIONS, OTHER_EXTENSIONS

INDEX = "index.csv"
DEFAULT_FRACTION = 0.1
# Names under which splits are also known. If all top-level folders have such
# names, they are more likely misnamed splits than labels.
_SPLIT_NAMES = {
    *("train", "training"),
    *("validation", "valid", "val", "dev", "development"),
    *("test", "testing", "eval", "evaluation"),
}
# A file relative to the folder, its label, and its split; None if the split is
# still to be drawn.
_Row = tuple[str, str, str | None]


@dataclasses.dataclass(frozen=True)
class Recording:
    """One audio file of a folder.

    Attributes:
        file: The path relative to the folder, with "/" as separator.
        label: The name of the class.
        split: "train", "validation" or "test".
    """

    file: str
    label: str
    split: str


def list_recordings(
    folder: pathlib.Path,
    validation_fraction: float | None = None,
    test_fraction: float | None = None,
    for_training: bool = True,
) -> list[Recording]:
    """Lists all recordings of a folder, sorted by path.

    Args:
        folder: pathlib.Path. The folder; see the module's docstring for how it
            may be laid out.
        validation_fraction: float from 0 to 1, or None. The probability with
            which a file is drawn for validation. Must be None for a folder
            that defines its own splits. None stands for 0.1, or for what
            `test_fraction` leaves if that is less. Default: None.
        test_fraction: float from 0 to 1, or None. The same for testing.
            Default: None.
        for_training: bool. Whether to require what training needs: at least
            two labels, and at least one file in each split that is drawn with
            a fraction above 0. Default: True.

    Returns:
        A list of `Recording`.

    Raises:
        ValueError: The layout of the folder, the index or a fraction is not
            valid, or the folder holds no audio files.
    """
    rows = _read_rows(folder)
    if not rows:
        raise ValueError(
            "`audio_folder.path` must hold audio files "
            f"({', '.join(EXTENSIONS)}) in folders named by label. "
            f"Received: path={str(folder)!r}."
        )
    has_splits = rows[0][2] is not None
    fractions = _choose_fractions(
        {"validation": validation_fraction, "test": test_fraction}, has_splits
    )
    recordings = [
        Recording(file, label, split or draw_split(file, **fractions))
        for file, label, split in rows
    ]
    recordings.sort(key=lambda recording: recording.file)
    if for_training:
        _check_labels(folder, recordings)
        _check_drawn_splits(fractions, recordings)
    return recordings


def draw_split(file: str, validation: float, test: float) -> str:
    """Draws the split of a file from a hash of its path.

    Args:
        file: str. The path relative to the folder.
        validation: float from 0 to 1. The probability of "validation".
        test: float from 0 to 1. The probability of "test".

    Returns:
        "train", "validation" or "test".
    """
    # macOS and Linux encode the same accented letter in different bytes.
    name = _normalized(file).encode("utf-8", "surrogateescape")
    draw = int.from_bytes(hashlib.sha256(name).digest()[:8], "big") / 2**64
    if draw < test:
        return "test"
    return "validation" if draw < test + validation else "train"


def labels_by_split(recordings: Iterable[Recording]) -> dict[str, set[str]]:
    """Returns the names of the labels that occur in each split."""
    labels = collections.defaultdict(set)
    for recording in recordings:
        labels[recording.split].add(recording.label)
    return dict(labels)


def _read_rows(folder: pathlib.Path) -> list[_Row]:
    if not (folder / INDEX).is_file():
        return _list_tree(folder, sorted(_walk(folder)))
    try:
        return list(_read_index(folder))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(
            f"`{INDEX}` must be comma-separated text in UTF-8. "
            f"Received: {folder / INDEX} ({error})."
        ) from error


def _choose_fractions(
    fractions: dict[str, float | None], has_splits: bool
) -> dict[str, float]:
    """Replaces None by a default; returns nothing if no split is drawn."""
    given = {k: v for k, v in fractions.items() if v is not None}
    if has_splits:
        for name, fraction in given.items():
            raise ValueError(
                f"`audio_folder.{name}_fraction` must be None for a folder "
                "that brings its own splits. Received: "
                f"{name}_fraction={fraction!r}. (An evaluation takes it from "
                "the run, unless you bind it to None.)"
            )
        return {}
    _check_fractions(given)
    default = min(DEFAULT_FRACTION, 1 - sum(given.values()))
    return dict.fromkeys(fractions, default) | given


def _check_fractions(given: dict[str, Any]) -> None:
    fractions = given.values()
    # The comparison is false for NaN, which is therefore refused.
    are_shares = all(
        isinstance(v, numbers.Real) and 0 <= float(v) <= 1 for v in fractions
    )
    if not are_shares or sum(fractions) > 1:
        received = [f"{k}_fraction={v!r}" for k, v in given.items()]
        raise ValueError(
            "`audio_folder.validation_fraction` and "
            "`audio_folder.test_fraction` must be numbers that are not "
            "negative, nor more than 1 together. Received: "
            f"{', '.join(received)}."
        )


def _check_labels(folder: pathlib.Path, recordings: list[Recording]) -> None:
    labels = {recording.label for recording in recordings}
    if len(labels) < 2:
        raise ValueError(
            "`audio_folder.path` must hold at least two labels. "
            f"Received: path={str(folder)!r}, with {sorted(labels)}."
        )


def _check_drawn_splits(
    fractions: dict[str, float], recordings: list[Recording]
) -> None:
    drawn = {recording.split for recording in recordings}
    for split, fraction in fractions.items():
        if fraction and split not in drawn:
            raise ValueError(
                f"`audio_folder.{split}_fraction` must leave a clip for "
                f"{split!r}, or be 0. Received: "
                f"{split}_fraction={fraction} of {len(recordings)} files, "
                "for which it may be too small."
            )


def _walk(folder: pathlib.Path) -> Iterator[str]:
    """Yields the audio files below a folder, relative to it.

    Symbolic links are followed.
    """
    seen = set()
    for root, directories, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(root)
        if real in seen:
            # A symbolic link leads back to a folder that was visited before.
            directories.clear()
            continue
        seen.add(real)
        directories[:] = sorted(d for d in directories if d[0] != ".")
        for file in files:
            if file[0] != "." and file.lower().endswith(
                EXTENSIONS + OTHER_EXTENSIONS
            ):
                relative = os.path.relpath(os.path.join(root, file), folder)
                yield relative.replace(os.sep, "/")


def _list_tree(folder: pathlib.Path, files: Iterable[str]) -> list[_Row]:
    """Takes labels, and splits if there are any, from folder names."""
    by_top = collections.defaultdict(list)
    for file in files:
        if "/" not in file:
            raise ValueError(
                "`audio_folder.path` must hold audio files in folders named "
                f"by label. Received: file={file!r}, in no such folder."
            )
        by_top[file.split("/")[0]].append(file)
    if _holds_splits(by_top):
        return list(_list_split_folders(folder, by_top))
    _check_not_splits(by_top)
    return [
        (file, _normalized(top), None)
        for top, below in by_top.items()
        for file in below
    ]


def _list_split_folders(
    folder: pathlib.Path, by_top: dict[str, list[str]]
) -> Iterator[_Row]:
    tops = set(by_top)
    # `by_top` lacks a split whose folder is empty, which is a mistake to
    # report. The disk is therefore looked at once more.
    tops |= {split for split in SPLITS if (folder / split).is_dir()}
    for top in sorted(tops):
        if top not in SPLITS:
            raise ValueError(
                "`audio_folder.path` must name its splits "
                f"{', '.join(SPLITS)} beside a folder `train`. "
                f"Received: folder={top!r}."
            )
        if not by_top.get(top):
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
            yield file, _normalized(parts[1]), top


def _holds_splits(by_top: dict[str, list[str]]) -> bool:
    """Returns whether the top-level folders are splits and not labels."""
    if set(by_top) <= set(SPLITS):
        # Several folders with the names of splits are splits even if a file
        # lies directly in one of them. That file is reported later.
        return len(by_top) > 1 or all(_are_nested(by_top.values()))
    return "train" in by_top and all(_are_nested([by_top["train"]]))


def _check_not_splits(by_top: dict[str, list[str]]) -> None:
    """Raises ValueError if the top-level folders look like misnamed splits."""
    words = [re.split(r"[\W\d_]+", top.lower()) for top in by_top]
    if all(map(_SPLIT_NAMES.intersection, words)) and any(
        _are_nested(by_top.values())
    ):
        raise ValueError(
            "`audio_folder.path` must name its splits "
            f"{', '.join(SPLITS)}. Received: folders={sorted(by_top)}. "
            f"Where these are labels, {INDEX} can say so."
        )


def _are_nested(groups: Iterable[Iterable[str]]) -> Iterator[bool]:
    """Yields, for each file, whether it lies in a subfolder of a top folder."""
    return (file.count("/") >= 2 for group in groups for file in group)


def _normalized(text: str) -> str:
    """Returns text in which each accented letter has one fixed encoding."""
    return unicodedata.normalize("NFC", text)


def _read_index(folder: pathlib.Path) -> Iterator[_Row]:
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
            where = f"line {reader.line_num} of {folder / INDEX}"
            name, label, split = _check_index_row(row, where)
            if name in seen:
                raise ValueError(
                    f"`file` must not be listed twice, as in {where}. "
                    f"Received: file={name!r}."
                )
            seen.add(name)
            yield name, label, split


def _check_index_row(row: dict[str, Any], where: str) -> _Row:
    name, label = row["file"], row["label"]
    if not name or not label:
        raise ValueError(
            f"`file` and `label` must be given in {where}. "
            f"Received: file={name!r}, label={label!r}."
        )
    split = row.get("split")
    if "split" in row and split not in SPLITS:
        raise ValueError(
            f"`split` must be one of {', '.join(SPLITS)} in "
            f"{where}. Received: file={name!r}, split={split!r}."
        )
    return posixpath.normpath(name), _normalized(label), split
