"""Reads the files that a run has written, and checks what they hold.

A file may have been cut off, edited, or replaced by that of another program.
Each function raises a ValueError then: one line with the name of the file, what
it must hold, and what it holds.
"""

import csv
import json
import math
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from leaf_audio.data.decoding import is_sample_rate

# Of what a file holds, messages show no more than this many characters.
_MAX_SHOWN = 200
# More cannot be drawn, and no run has as many clips or weights.
_MAX_COUNT = 2**53


class _Kind(NamedTuple):
    """What an entry of `results.json` must be: in words, and as a test."""

    words: str
    holds: Callable[[Any], bool]


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < _MAX_COUNT


def _is_number(value: Any) -> bool:
    return type(value) is float or (
        type(value) is int and abs(value) < _MAX_COUNT
    )


def _is_list_of_text(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(v, str) for v in value)


def _is_object(value: Any, of: Callable[[Any], bool] = lambda _: True) -> bool:
    return isinstance(value, dict) and all(map(of, value.values()))


_TEXT = _Kind("a text", lambda value: isinstance(value, str))
_TEXTS = _Kind("a list of texts", _is_list_of_text)
_FLAG = _Kind("true or false", lambda value: isinstance(value, bool))
_COUNT = _Kind("a count", _is_count)
_NUMBER = _Kind("a number", _is_number)
_OBJECT = _Kind("an object", _is_object)
_REASONS = _Kind(
    "an object of texts",
    lambda value: _is_object(value, lambda one: isinstance(one, str)),
)
_COUNTS = _Kind("an object of counts", lambda v: _is_object(v, _is_count))

# The entries of `results.json` that are read. A run of an earlier version may
# lack some of them.
_SUMMARY = {
    "data": _OBJECT,
    "data.name": _TEXT,
    "data.labels": _TEXTS,
    "data.counts": _COUNTS,
    "data.is_multilabel": _FLAG,
    "data.sample_rate": _Kind(
        "a rate in Hz, or null", lambda v: v is None or is_sample_rate(v)
    ),
    "data.fingerprint": _TEXT,
    "data.skipped": _REASONS,
    "data.warnings": _TEXTS,
    "kept_epoch": _COUNT,
    "metrics": _Kind(
        "an object with an object of numbers for each split",
        lambda v: _is_object(v, lambda one: _is_object(one, _is_number)),
    ),
    "parameters": _COUNTS,
    "parameters.frontend": _COUNT,
    "parameters.trainable": _COUNT,
    "tasks": _OBJECT,
    "thresholds": _OBJECT,
    "timings": _OBJECT,
    "timings.epochs": _COUNT,
    "timings.seconds": _NUMBER,
    "versions": _OBJECT,
}


def read_summary(
    path: pathlib.Path, required: Sequence[str] = ()
) -> dict[str, Any]:
    """Reads `results.json`, the summary of a finished run.

    Args:
        path: The file.
        required: Names of entries that must be there, such as "data.name".
            Defaults to none: those that are there are checked.

    Returns:
        What it holds.

    Raises:
        ValueError: If an entry is missing or of another type.
        OSError: If the file cannot be read.
    """
    must_be = f"{path} must be the summary of a run"
    summary = _read_object(path, must_be)
    for name, kind in _SUMMARY.items():
        found, value = _entry(summary, name)
        if found and not kind.holds(value):
            raise ValueError(
                f"{must_be}, with {kind.words} as {name}. "
                f"Received: {name}={_shown(value)}."
            )
        if not found and name in required:
            raise ValueError(
                f"{must_be}, with {kind.words} as {name}. Received: none."
            )
    return summary


def _entry(summary: Mapping[str, Any], name: str) -> tuple[bool, Any]:
    """Returns whether there is an entry such as "data.name", and its value."""
    value: Any = summary
    for part in name.split("."):
        if not isinstance(value, dict) or part not in value:
            return False, None
        value = value[part]
    return True, value


def read_settings(path: pathlib.Path) -> dict[str, str]:
    """Reads `settings.json`, the settings of a run as plain data.

    Args:
        path: The file.

    Returns:
        Values as text in gin's syntax, by names such as `align.seq_len`.

    Raises:
        ValueError: If it holds something else.
        OSError: If the file cannot be read.
    """
    must_be = f"{path} must hold a text for each setting of a run"
    settings = _read_object(path, must_be)
    for name, value in settings.items():
        if not isinstance(value, str):
            raise ValueError(
                f"{must_be}. Received: {_shown(name)}: {_shown(value)}."
            )
    return settings


def _read_object(path: pathlib.Path, must_be: str) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text("utf-8"))
    # Lists within lists within lists end in a RecursionError.
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{must_be}. Received: a file that is no JSON "
            f"({type(error).__name__}: {error})."
        ) from error
    if not isinstance(content, dict):
        raise ValueError(f"{must_be}. Received: {_shown(content)}.")
    return content


def read_metrics(
    path: pathlib.Path,
    kept_epoch: int | None = None,
    required: Sequence[str] = (),
) -> dict[str, np.ndarray]:
    """Reads `metrics.csv`, which has a row for each epoch.

    Args:
        path: The file.
        kept_epoch: int or None. An epoch that must be among the rows. Defaults
            to None.
        required: Columns that must be there besides "epoch". Defaults to none.

    Returns:
        A float array for each column. A value that is missing is NaN.

    Raises:
        ValueError: If it holds something else.
        OSError: If the file cannot be read.
    """
    table = _read_numbers(path, ["epoch", *required])
    _check_counts(path, table, "epoch")
    _check_epochs(path, table, [] if kept_epoch is None else [kept_epoch])
    return table


def read_filters(
    path: pathlib.Path, kept_epoch: int | None = None
) -> dict[str, np.ndarray]:
    """Reads `filters.csv`, which has a row for each filter in each epoch.

    Args:
        path: The file.
        kept_epoch: int or None. An epoch that must be among the rows, besides
            epoch 0, which is before the training. Defaults to None.

    Returns:
        A float array for each column, of rows that are in the same order of
        filters in each epoch. A value that is missing is NaN.

    Raises:
        ValueError: If it holds something else.
        OSError: If the file cannot be read.
    """
    columns = ["epoch", "filter", "centre_hz", "bandwidth_hz"]
    table = _read_numbers(path, columns)
    for name in columns[:2]:
        _check_counts(path, table, name)
    _check_epochs(path, table, [0] if kept_epoch is None else [0, kept_epoch])
    epochs = table["epoch"]
    own = table["filter"][epochs == 0]
    for epoch in np.unique(epochs):
        others = table["filter"][epochs == epoch]
        if len(np.unique(own)) < len(own) or not np.array_equal(own, others):
            raise ValueError(
                f"{path} must have a row for each filter in each epoch, in "
                f"one order. Received: {len(own)} rows of epoch 0, "
                f"{len(others)} of epoch {epoch:.0f}."
            )
    return table


def first_filters(table: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns what the filters were before the training.

    Args:
        table: What `read_filters` returned.

    Returns:
        A float array for each column but "epoch" and "filter".
    """
    first = table["epoch"] == 0
    return {
        name: values[first]
        for name, values in table.items()
        if name not in ("epoch", "filter")
    }


def _check_counts(
    path: pathlib.Path, table: Mapping[str, np.ndarray], name: str
) -> None:
    """Raises a ValueError unless a column holds whole numbers from 0 on."""
    for value in table[name].tolist():
        if not (0 <= value < _MAX_COUNT and value == math.floor(value)):
            raise ValueError(
                f"{path} must hold whole numbers from 0 on in the column "
                f"{name}. Received: {value}."
            )


def _check_epochs(
    path: pathlib.Path,
    table: Mapping[str, np.ndarray],
    epochs: Sequence[int],
) -> None:
    for epoch in epochs:
        if epoch not in table["epoch"]:
            found = table["epoch"]
            raise ValueError(
                f"{path} must have rows of epoch {epoch}. Received: rows of "
                f"epochs {found.min():.0f} to {found.max():.0f}."
            )


def _read_numbers(
    path: pathlib.Path, required: Sequence[str]
) -> dict[str, np.ndarray]:
    """Reads a table of numbers; a cell that is empty is NaN."""
    heading, *rows = _read_rows(path, required)
    columns = {}
    for name, *cells in zip(heading, *rows, strict=True):
        try:
            columns[name] = np.array([float(one or "nan") for one in cells])
        except ValueError as error:
            raise ValueError(
                f"{path} must hold numbers in the column {name}. "
                f"Received: {error}."
            ) from error
    return columns


def read_classes(path: pathlib.Path, num_labels: int) -> list[list[str]]:
    """Reads a table with a row for each label, such as `classes_test.csv`.

    Args:
        path: The file.
        num_labels: The number of labels of the model.

    Returns:
        The headings, then the rows.

    Raises:
        ValueError: If it holds something else.
        OSError: If the file cannot be read.
    """
    rows = _read_rows(path, ["label", "clips"])
    if len(rows) - 1 != num_labels:
        raise ValueError(
            f"{path} must have a row for each of the {num_labels} labels. "
            f"Received: {len(rows) - 1} rows."
        )
    return rows


def read_confusion(
    path: pathlib.Path, num_labels: int
) -> tuple[list[str], np.ndarray]:
    """Reads a confusion matrix, such as `confusion_test.csv`.

    Args:
        path: The file.
        num_labels: The number of labels of the model.

    Returns:
        The labels, and integers of shape (labels, labels): a row for each label
        that clips have, a column for each predicted one.

    Raises:
        ValueError: If it holds something else.
        OSError: If the file cannot be read.
    """
    (_, *labels), *rows = _read_rows(path, [])
    if len(labels) != num_labels or [row[0] for row in rows] != labels:
        raise ValueError(
            f"{path} must have a row and a column for each of the {num_labels} "
            f"labels, in one order. Received: {len(labels)} columns and "
            f"{len(rows)} rows."
        )
    counts = []
    for row in rows:
        if not all(one.isdecimal() and len(one) <= 15 for one in row[1:]):
            raise ValueError(
                f"{path} must hold counts of clips. "
                f"Received: {_shown(row[1:])} of {_shown(row[0])}."
            )
        counts.append(list(map(int, row[1:])))
    return labels, np.array(counts, int)


def _read_rows(path: pathlib.Path, required: Sequence[str]) -> list[list[str]]:
    """Reads a CSV file with columns of the given names, and one row at least.

    Returns:
        The headings and the rows, all of one length.
    """
    try:
        with open(path, newline="", encoding="utf-8") as file:
            heading, *rows = [row for row in csv.reader(file) if row]
    # Bytes that are no text raise a ValueError, and so does an empty file.
    except (csv.Error, ValueError) as error:
        raise ValueError(
            f"{path} must be a table of a run, as CSV. Received: a file that "
            f"is none or empty ({type(error).__name__}: {error})."
        ) from error
    missing = [name for name in required if name not in heading]
    if missing or len(set(heading)) < len(heading):
        needed = ", ".join(required) or "different labels"
        raise ValueError(
            f"{path} must have a column for each of: {needed}. "
            f"Received: {_shown(heading)}."
        )
    if not rows:
        raise ValueError(f"{path} must have rows. Received: headings alone.")
    for row in rows:
        if len(row) != len(heading):
            raise ValueError(
                f"{path} must have {len(heading)} cells in each row. "
                f"Received: {_shown(row)}."
            )
    return [heading, *rows]


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]} ..."
