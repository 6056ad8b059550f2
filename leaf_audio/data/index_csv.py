"""Reads index.csv, the table that tells what a folder of recordings holds.

The same table may come from a function instead (`index_of_rows`). One line
describes one recording. The columns are:

    file     path of the audio file, relative to the folder
    label    name of the class
    labels   names of any number of labels, with a separator between two
    split    train, validation or test
    fold     name of a fold, where folds are given to splits by the caller
    speaker  who or what is recorded, where splits are drawn
    start    where the recording begins in the file, in seconds
    end      where it ends, in seconds

`file` must be there, and either `label` or `labels`. With `labels`, a recording
may have several labels, and the data counts as such even if each has one.

`start` and `end` come together. A file may have several lines with different
segments. An empty `start` is the start of the file, and an empty `end` is its
end.
"""

import csv
import dataclasses
import difflib
import functools
import math
import numbers
import os
import pathlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from typing import Any

from leaf_audio.data.clips import SPLITS
from leaf_audio.data.entries import Entry
from leaf_audio.data.file_names import FileNames
from leaf_audio.data.folder_layout import INDEX, normalized

COLUMNS = (
    *("file", "label", "labels", "split", "fold", "speaker"),
    *("start", "end"),
)
DEFAULT_SEPARATOR = ";"
USUAL_SEPARATORS = (";", "|", ",", "/", "+")
# A line of the table: values by the names of columns. Those of index.csv are
# text. `index_of_rows` says what those of a function may be.
Row = Mapping[str, Any]
# What a message calls the table that a function has made.
_OF_FUNCTION = "`audio_folder.index`"
# What other programs call these columns.
_OTHER_NAMES = {
    "file": "filename filepath path audio wav recording slice_file_name",
    "label": "class category target annotation",
    "labels": "classes categories targets annotations tags events",
    "split": "subset partition set",
    "fold": "cv cv_fold",
    "speaker": "speaker_id subject patient",
    "start": "onset begin offset from start_time t_start begin_time xmin tmin "
    "t_min t0 t1",
    "end": "offset stop to end_time t_end finish xmax tmax t_max t1 t2",
}
_DURATIONS = {"duration", "dur", "length"}
# A unit at the end of the name of a column.
_UNIT = re.compile(
    r"_?[(\[]?(?<![a-z])"
    r"(s|ms|secs?|seconds?|milliseconds?|samples?|frames?)[)\]]?$"
)
_CLOSENESS = 0.75


@dataclasses.dataclass(frozen=True)
class Index:
    """What index.csv holds.

    Attributes:
        entries: The recordings, in the order of the lines.
        unused_columns: The names of the columns that are not understood.
        is_multilabel: Whether a recording may have several labels.
    """

    entries: list[Entry]
    unused_columns: list[str]
    is_multilabel: bool = False


def read_index(
    folder: pathlib.Path,
    label_separator: str = DEFAULT_SEPARATOR,
    allow_unlabelled: bool = False,
    files: Iterable[str] = (),
) -> Index:
    """Reads the index of a folder.

    Args:
        folder: pathlib.Path. The folder that holds index.csv.
        label_separator: str. What stands between two names in the column
            `labels`. Default: ";".
        allow_unlabelled: bool. Whether a place in the column `labels` may be
            empty. Default: False.
        files: Iterable of str. The audio files below the folder, relative to
            it. What the index names by another spelling gets these names.
            Default: none.

    Returns:
        An `Index`.

    Raises:
        ValueError: The file cannot be read, or a column or a line is not valid.
    """
    path = folder / INDEX
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            reader.fieldnames = [
                name.strip() for name in reader.fieldnames or []
            ]
            return _read_table(
                f"`{INDEX}`",
                reader.fieldnames,
                ((row, f"line {reader.line_num} of {path}") for row in reader),
                FileNames(folder, files),
                label_separator,
                allow_unlabelled,
            )
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(
            f"`{INDEX}` must be comma-separated text in UTF-8. "
            f"Received: {path} ({error})."
        ) from error


def index_of_rows(
    rows: Iterable[Row],
    folder: pathlib.Path,
    label_separator: str = DEFAULT_SEPARATOR,
    allow_unlabelled: bool = False,
    files: Iterable[str] = (),
) -> Index:
    """Reads an index that a function has made, `audio_folder.index`.

    Args:
        rows: Iterable of dictionaries from the names of columns to values: text
            or numbers, a path for `file`, for `labels` also a list of names.
            All rows have the same columns. None and NaN stand for an empty
            place.
        folder: pathlib.Path. The folder. A `file` is relative to it, or lies
            below it.
        label_separator: str. As in `read_index`. It is for `labels` as text.
        allow_unlabelled: bool. As in `read_index`.
        files: Iterable of str. As in `read_index`.

    Returns:
        An `Index`.

    Raises:
        ValueError: A column or a row is not valid, or there are no rows.
    """
    rows = list(rows)
    if not rows:
        raise ValueError(
            f"{_OF_FUNCTION} must return a row for each recording. "
            "Received: no rows."
        )
    columns: list[str] = []
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, Mapping) or not all(
            isinstance(name, str) for name in row
        ):
            raise ValueError(
                f"{_OF_FUNCTION} must return rows: dictionaries from names of "
                "columns to values, such as {'file': 'a.wav', 'label': 'cat'}. "
                f"Received: {row!r} as row {number}."
            )
        columns = columns or list(row)
        if row.keys() != rows[0].keys():
            raise ValueError(
                f"{_OF_FUNCTION} must return rows with the same columns. "
                f"Received: {columns} in the first row, {list(row)} in row "
                f"{number}."
            )
    folder = folder.absolute()
    return _read_table(
        _OF_FUNCTION,
        columns,
        (
            (_as_csv(row, folder, where), where)
            for number, row in enumerate(rows, start=1)
            for where in [f"row {number} of {_OF_FUNCTION}"]
        ),
        FileNames(folder, files),
        label_separator,
        allow_unlabelled,
    )


def _as_csv(row: Row, folder: pathlib.Path, where: str) -> dict[str, Any]:
    """Returns a row with values as `csv` gives them, or lists of labels."""
    return {
        name: _labels_of(value, where)
        if name == "labels" and not isinstance(value, str | float | None)
        else _as_text(name, value, folder, where)
        for name, value in row.items()
    }


def _labels_of(value: Any, where: str) -> list[str]:
    if not isinstance(value, Iterable) or isinstance(value, bytes):
        raise _wrong_value("labels", "a text or a list of texts", value, where)
    labels = list(value)
    if not all(isinstance(one, str) for one in labels):
        raise _wrong_value("labels", "a text or a list of texts", value, where)
    # The order of a set differs from one run of Python to the next.
    return sorted(labels) if isinstance(value, Set) else labels


def _as_text(name: str, value: Any, folder: pathlib.Path, where: str) -> str:
    # An empty cell of pandas is NaN.
    is_number = isinstance(value, numbers.Real)
    if value is None or (is_number and str(value) == "nan"):
        return ""
    if name == "file" and isinstance(value, str | os.PathLike):
        return _relative(pathlib.Path(value), folder, where)
    if not isinstance(value, str | numbers.Real):
        raise _wrong_value(name, "a text or a number", value, where)
    return str(value)


def _relative(file: pathlib.Path, folder: pathlib.Path, where: str) -> str:
    if file.is_absolute():
        if folder not in file.parents:
            raise _wrong_value("file", f"below {folder}", str(file), where)
        file = file.relative_to(folder)
    return file.as_posix()


def _name_of(file: str, names: FileNames, where: str) -> str:
    if "\0" in file:
        raise _wrong_value("file", "a name without a null byte", file, where)
    return names.of(file)


def _wrong_value(name: str, what: str, value: Any, where: str) -> ValueError:
    return ValueError(
        f"`{name}` must be {what} in {where}. Received: {name}={value!r}."
    )


def _read_table(
    what: str,
    columns: list[str],
    rows: Iterable[tuple[dict[Any, Any], str]],
    names: FileNames,
    label_separator: str,
    allow_unlabelled: bool,
) -> Index:
    """Reads rows, each with the place where it stands."""
    unused = _check_columns(what, columns)
    read_labels = functools.partial(
        _read_labels,
        separator=label_separator,
        allow_unlabelled=allow_unlabelled,
    )
    entries = list(_read_rows(rows, names, read_labels))
    return Index(entries, unused, is_multilabel="labels" in columns)


def _check_columns(what: str, columns: list[str]) -> list[str]:
    """Checks the names of the columns; returns those without a meaning."""
    unknown = [name for name in columns if name not in COLUMNS]
    absent = set(COLUMNS) - set(columns)
    if not {"label", "labels"} <= absent:
        # One of them is there, and the other is not missed.
        absent -= {"label", "labels"}
    if not {"split", "fold"} <= absent:
        # Splits are known. Nothing else that could make them is missed.
        absent -= {"split", "fold", "speaker"}
    for name in unknown:
        meant = [known for known in _meant(name) if known in absent]
        if meant:
            in_seconds = ""
            if not {"start", "end"}.isdisjoint(meant):
                in_seconds = ", in seconds"
            raise ValueError(
                f"{what} must have columns of these names: "
                f"{', '.join(COLUMNS)}. Received: columns={columns}, with "
                f"the unknown {name!r}. Did you mean "
                f"{' or '.join(map(repr, meant))}{in_seconds}? If not, "
                "rename or remove the column."
            )
    if {"label", "labels"} <= set(columns):
        raise ValueError(
            f"{what} must have one of the columns label, for one label a "
            f"line, and labels, for several. Received: columns={columns}, with "
            "both."
        )
    if "file" not in columns or {"label", "labels"}.isdisjoint(columns):
        separated = " be comma-separated, with" if INDEX in what else " have"
        raise ValueError(
            f"{what} must{separated} the columns file and label (or labels) "
            "and, unless the split is to be drawn, split. "
            f"Received: columns={columns}."
        )
    if ("start" in columns) != ("end" in columns):
        remedy = "Where a value is not known, leave its place empty."
        if not _DURATIONS.isdisjoint(map(_bare, unknown)):
            remedy = "`end` is `start` and the duration together, in seconds."
        raise ValueError(
            f"{what} must have both columns, start and end, or neither. "
            f"Received: columns={columns}. {remedy}"
        )
    twice = sorted({name for name in columns if columns.count(name) > 1})
    if twice:
        raise ValueError(
            f"{what} must have each column once. Received: columns "
            f"{twice} more than once."
        )
    return unknown


def _meant(name: str) -> list[str]:
    """Returns the known columns that an unknown name may stand for."""
    bare = _bare(name)
    meant = [
        known
        for known, others in _OTHER_NAMES.items()
        if bare == known or bare in others.split()
    ]
    return meant or difflib.get_close_matches(
        bare, COLUMNS, n=1, cutoff=_CLOSENESS
    )


def _bare(name: str) -> str:
    """Returns the name of a column in lower case and without a unit."""
    return _UNIT.sub("", "_".join(name.lower().split()))


def _read_rows(
    rows: Iterable[tuple[dict[Any, Any], str]],
    names: FileNames,
    read_labels: Callable[[dict[str, Any], str], tuple[str, ...]],
) -> Iterator[Entry]:
    seen = set()
    for row, where in rows:
        entry = _read_row(row, names, where, read_labels)
        key = (entry.file, entry.start or 0.0, entry.end)
        if key in seen:
            what, so = "`file`", ""
            if "start" in row:
                what, so = "A segment of a `file`", f" with {_segment(entry)}"
            remedy = ""
            if "label" in row:
                remedy = (
                    " If it has several labels, name them all in one line, in "
                    "a column labels instead of label."
                )
            raise ValueError(
                f"{what} must not be listed twice, as in {where}. "
                f"Received: file={entry.file!r}{so}.{remedy}"
            )
        seen.add(key)
        yield entry


def _read_row(
    row: dict[Any, Any],
    names: FileNames,
    where: str,
    read_labels: Callable[[dict[str, Any], str], tuple[str, ...]],
) -> Entry:
    # `csv` puts what lies beyond the last column under the key None.
    surplus = [value for value in row.pop(None, []) if value]
    if surplus:
        raise ValueError(
            f"A line must have a value for each column, and no more, as in "
            f"{where}. Received: {surplus} after the last column. Put a value "
            'that holds a comma in quotes (").'
        )
    labels = read_labels(row, where)
    file = row["file"]
    split, fold = _text(row, "split"), _text(row, "fold")
    if "split" in row and split not in SPLITS:
        raise ValueError(
            f"`split` must be one of {', '.join(SPLITS)} in "
            f"{where}. Received: file={file!r}, split={row['split']!r}."
        )
    if "fold" in row and "split" not in row and not fold:
        raise ValueError(
            f"`fold` must be given in {where}. Received: file={file!r}, "
            f"fold={row['fold']!r}."
        )
    entry = Entry(
        file=_name_of(file, names, where),
        labels=labels,
        split=split,
        fold=None if split else fold,
        speaker=_text(row, "speaker"),
        start=_read_seconds(row, "start", where),
        end=_read_seconds(row, "end", where),
    )
    if entry.end is not None and entry.end <= (entry.start or 0):
        raise ValueError(
            f"`end` must be after `start` in {where}. "
            f"Received: file={file!r}, {_segment(entry)}."
        )
    return entry


def _read_labels(
    row: dict[str, Any], where: str, separator: str, allow_unlabelled: bool
) -> tuple[str, ...]:
    """Returns the label of a line, or its labels, in the order of the line."""
    file = row["file"]
    column = "labels" if "labels" in row else "label"
    labels = split_labels(
        row[column], separator if column == "labels" else None
    )
    received = f"Received: file={file!r}, {column}={row[column]!r}"
    is_unlabelled = column == "labels" and not labels
    if not file or (not labels and not (is_unlabelled and allow_unlabelled)):
        remedy = ""
        if file and is_unlabelled:
            remedy = (
                " Recordings without any label are taken with "
                "audio_folder.allow_unlabelled = True."
            )
        raise ValueError(
            f"`file` and `{column}` must be given in {where}. {received}."
            f"{remedy}"
        )
    if not all(labels):
        raise ValueError(
            f"`labels` must hold a name before and after each {separator!r} in "
            f"{where}. {received}, with an empty name."
        )
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if twice:
        raise ValueError(
            f"`labels` must name each label once in {where}. {received}, with "
            f"{', '.join(map(repr, twice))} more than once."
        )
    return labels


def split_labels(
    value: str | Iterable[str] | None, separator: str | None
) -> tuple[str, ...]:
    """Returns the labels that a place in the table holds.

    Args:
        value: The text of the place, a list of labels, or None.
        separator: What stands between two labels, or None if the text is one.
    """
    if value is None or isinstance(value, str):
        text = (value or "").strip()
        parts = text.split(separator) if separator else [text]
        value = parts if text else []
    return tuple(normalized(str(one).strip()) for one in value)


def _text(row: dict[str, Any], name: str) -> str | None:
    """Returns a value without white space around it, or None if none is left.

    A space after a comma, which cannot be seen, would make a label of its own.
    """
    return normalized((row.get(name) or "").strip()) or None


def _read_seconds(row: dict[str, Any], name: str, where: str) -> float | None:
    text = row.get(name) or ""
    if not text.strip():
        return None
    try:
        # Python would read 1_0 as 10.
        seconds = math.nan if "_" in text else float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise ValueError(
            f"`{name}` must be a number of seconds, such as 1.5, in {where}. "
            f"Received: file={row['file']!r}, {name}={text!r}."
        )
    return seconds


def _segment(entry: Entry) -> str:
    return f"start={entry.start}, end={entry.end}"
