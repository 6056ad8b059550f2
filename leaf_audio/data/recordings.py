"""Lists the recordings in a folder, with the label and the split of each.

`leaf_audio.data.folder_layout` describes which folders are understood. A folder
with an index.csv is described by `leaf_audio.data.index_csv` instead, or by a
function that makes such a table. Which split a recording belongs to is decided
in `leaf_audio.data.splits`.

Hidden files and files of other kinds are ignored. Audio files that the table
does not list are left out with a warning.
"""

import collections
import dataclasses
import functools
import itertools
import os
import pathlib
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence

from leaf_audio.common.listing import listed
from leaf_audio.data import folder_layout, index_csv, splits
from leaf_audio.data.clips import DataWarning
from leaf_audio.data.entries import Entry, Recording
from leaf_audio.data.extensions import EXTENSIONS, is_recording
from leaf_audio.data.folder_layout import INDEX

# Makes the table of a folder.
IndexFunction = Callable[[pathlib.Path], Iterable[index_csv.Row]]
# How many files a warning names.
_MAX_NAMED_FILES = 3


@dataclasses.dataclass(frozen=True)
class Listing:
    """What a folder holds.

    Attributes:
        recordings: The recordings, sorted by file.
        warnings: What the folder holds that is not used, in sentences.
        is_drawn: Whether the splits were drawn.
        is_multilabel: Whether a recording may have several labels.
    """

    recordings: list[Recording]
    warnings: list[str]
    is_drawn: bool
    is_multilabel: bool


def list_recordings(
    folder: pathlib.Path,
    validation_fraction: float | None = None,
    test_fraction: float | None = None,
    validation_folds: Sequence[str | int] | None = None,
    test_folds: Sequence[str | int] | None = None,
    label_separator: str = index_csv.DEFAULT_SEPARATOR,
    allow_unlabelled: bool = False,
    index: IndexFunction | None = None,
    for_training: bool = True,
) -> Listing:
    """Lists all recordings of a folder.

    Args:
        folder: pathlib.Path. The folder.
        validation_fraction: float from 0 to 1, or None. The fraction of the
            files of each label to draw for validation. Must be None for a
            folder that has splits or folds. None stands for 0.1, or for what
            `test_fraction` leaves if that is less. Default: None.
        test_fraction: float from 0 to 1, or None. The same for testing.
            Default: None.
        validation_folds: Sequence of names, or None. The folds to use for
            validation. Must be None for a folder without folds. Default: None.
        test_folds: Sequence of names, or None. The same for testing.
            Default: None.
        label_separator: str. What stands between two names in the column
            `labels` of the table. Must be the default for a folder without
            this column. Default: ";".
        allow_unlabelled: bool. Whether this column may be empty. Must be False
            for a folder without it. Default: False.
        index: Callable or None. It gets the folder and returns the table, as
            rows for `index_csv.index_of_rows`. A `DataWarning` that it issues
            is one of the `warnings`. None reads index.csv, or else the layout
            of the folder. Default: None.
        for_training: bool. Whether to require what training needs: at least
            two labels, and at least one file in each split that is drawn with
            a fraction above 0. Default: True.

    Returns:
        A `Listing`.

    Raises:
        ValueError: The layout of the folder, the index or a setting is not
            valid, or the folder holds no audio files.
    """
    fractions = {"validation": validation_fraction, "test": test_fraction}
    folds = {"validation": validation_folds, "test": test_folds}
    has_folds = any(names is not None for names in folds.values())
    entries, messages, is_multilabel = _list_entries(
        folder, has_folds, label_separator, allow_unlabelled, index
    )
    if not entries:
        if index is None and (folder / INDEX).is_file():
            raise ValueError(
                f"`{INDEX}` must have a line for each recording. "
                f"Received: {folder / INDEX} without one."
            )
        raise ValueError(
            "`audio_folder.path` must hold audio files "
            f"({', '.join(EXTENSIONS)}) in folders named by label. "
            f"Received: path={str(folder)!r}."
        )
    recordings = splits.assign_splits(entries, fractions, folds)
    messages += splits.describe_torn_speakers(entries, recordings)
    recordings.sort(key=lambda r: (r.file, r.start or 0.0, r.end or 0.0))
    is_drawn = entries[0].split is None and entries[0].fold is None
    if for_training:
        _check_labels(folder, recordings)
        if is_drawn:
            splits.check_drawn(fractions, entries, recordings)
    return Listing(recordings, messages, is_drawn, is_multilabel)


def list_labelled(folder: str) -> Listing:
    """Lists the recordings of a folder of whole files with one label each.

    Args:
        folder: str. The folder: `<label>/*`, `<split>/<label>/*`, or with an
            index.csv.

    Returns:
        A `Listing`.

    Raises:
        ValueError: The folder is not one of these, or has fewer than two
            labels, recordings with several labels, or parts of files. The
            message calls it `recordings`.
    """
    path = pathlib.Path(folder).expanduser()
    if not path.is_dir():
        raise ValueError(
            "`recordings` must be a folder of labelled recordings. "
            f"Received: recordings={folder!r}."
        )
    without_label = [file for file in audio_files(path) if "/" not in file]
    if without_label and not (path / INDEX).is_file():
        raise ValueError(
            "`recordings` must hold audio files in folders named by label, or "
            f"an {INDEX} that names the labels. Received: "
            f"recordings={folder!r} with {count_files(without_label)} in no "
            "such folder."
        )
    try:
        if (path / INDEX).is_file():
            # First, since no setting of training would help.
            table = index_csv.read_index(path, allow_unlabelled=True)
            _check_whole_files(folder, table)
        listing = list_recordings(path, for_training=False)
    except ValueError as error:
        # What is a setting of training there is an argument here.
        text = str(error).replace("`audio_folder.path`", "`recordings`")
        raise ValueError(text) from error
    labels = {one.labels[0] for one in listing.recordings}
    if len(labels) < 2:
        raise ValueError(
            "`recordings` must have at least two labels. Received: "
            f"recordings={folder!r} with {sorted(labels)}."
        )
    return listing


def _check_whole_files(folder: str, table: index_csv.Index) -> None:
    parts = any(
        one.start is not None or one.end is not None for one in table.entries
    )
    if parts or table.is_multilabel:
        raise ValueError(
            "`recordings` must be whole files with one label each. Received: "
            f"recordings={folder!r}, whose {INDEX} has "
            f"{'parts of files' if parts else 'the column labels'}."
        )


def _list_entries(
    folder: pathlib.Path,
    has_folds: bool,
    label_separator: str,
    allow_unlabelled: bool,
    index: IndexFunction | None,
) -> tuple[list[Entry], list[str], bool]:
    """Returns the entries, warnings, and whether there are several labels."""
    files = audio_files(folder)
    messages: list[str] = []
    if index is not None:
        what = "audio_folder.index"
        rows, messages = _call_index(index, folder)
        table = index_csv.index_of_rows(
            rows, folder, label_separator, allow_unlabelled, files
        )
    elif (folder / INDEX).is_file():
        what = INDEX
        table = index_csv.read_index(
            folder, label_separator, allow_unlabelled, files
        )
    else:
        _check_one_label(folder, label_separator, allow_unlabelled)
        entries = folder_layout.list_tree(folder, files, has_folds)
        return entries, folder_layout.describe_empty(folder, entries), False
    if not table.is_multilabel:
        _check_one_label(folder, label_separator, allow_unlabelled)
        messages += _describe_joined_labels(
            what, table.entries, label_separator
        )
    else:
        messages += _describe_other_separators(
            what, table.entries, label_separator
        )
    if table.unused_columns:
        messages.append(
            f"{what} has columns that are not used: "
            f"{', '.join(map(repr, table.unused_columns))}. Those that are: "
            f"{', '.join(index_csv.COLUMNS)}."
        )
    rest = set(files) - {entry.file for entry in table.entries}
    if rest:
        messages.append(
            f"{what} does not list all recordings below the folder. "
            f"Left out: {count_files(sorted(rest))}."
        )
    return table.entries, messages, table.is_multilabel


def _call_index(
    index: IndexFunction, folder: pathlib.Path
) -> tuple[list[index_csv.Row], list[str]]:
    """Returns the rows of a function, and what it warns of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", DataWarning)
        # Any error: the function may be the user's own.
        try:
            # A generator runs now.
            rows = list(index(folder))
        except Exception as error:
            name = getattr(index, "__name__", repr(index))
            what = str(error) if isinstance(error, ValueError) else repr(error)
            raise ValueError(
                "`audio_folder.index` must be a function of the folder that "
                f"returns rows. Received: {name}, which failed for "
                f"{str(folder)!r}: {what} (An evaluation takes "
                "audio_folder.index from the run, unless it is bound to None.)"
            ) from error
    messages: list[str] = []
    for one in caught:
        if issubclass(one.category, DataWarning):
            messages.append(str(one.message))
        else:
            warnings.warn_explicit(
                one.message, one.category, one.filename, one.lineno
            )
    return rows, messages


def _check_one_label(
    folder: pathlib.Path, label_separator: str, allow_unlabelled: bool
) -> None:
    """Checks that nothing is asked for that only several labels can do."""
    for name, value, default in (
        ("label_separator", label_separator, index_csv.DEFAULT_SEPARATOR),
        ("allow_unlabelled", allow_unlabelled, False),
    ):
        if value != default:
            raise ValueError(
                f"`audio_folder.{name}` must be {default!r} for a folder "
                f"without an {INDEX} (or audio_folder.index) that has the "
                "column labels. Received: "
                f"{name}={value!r}, path={str(folder)!r}. (An evaluation takes "
                f"it from the run, unless it is bound to {default!r}.)"
            )


def _describe_joined_labels(
    what: str, entries: Sequence[Entry], separator: str
) -> list[str]:
    """Says which labels look as if several were meant."""
    joined = {
        label
        for entry in entries
        for label in entry.labels
        if separator in label
    }
    if not joined:
        return []
    named = listed(map(repr, sorted(joined)), _MAX_NAMED_FILES)
    return [
        f"{what} has labels that hold {separator!r}: {named}. Each of them is "
        "learned as one label. If several are meant, call the column labels "
        "instead of label."
    ]


def _describe_other_separators(
    what: str, entries: Sequence[Entry], separator: str
) -> list[str]:
    """Says which labels look as if another separator stood in them.

    Their parts are labels as well, which those of "rock/pop" seldom are.
    """
    labels = {label for entry in entries for label in entry.labels}
    messages = []
    for other in index_csv.USUAL_SEPARATORS:
        joined = [
            label
            for label in sorted(labels)
            if other in label
            and other != separator
            and labels.issuperset(index_csv.split_labels(label, other))
        ]
        if joined:
            named = listed(map(repr, joined), _MAX_NAMED_FILES)
            messages.append(
                f"{what} has labels that hold {other!r}, with parts that are "
                f"labels too: {named}. Each of them is learned as one label. "
                "If several are meant, bind audio_folder.label_separator = "
                f"{other!r}."
            )
    return messages


def count_files(files: Sequence[str]) -> str:
    """Returns how many files there are, with the names of the first."""
    count = "1 file" if len(files) == 1 else f"{len(files)} files"
    return f"{count} ({listed(map(repr, files), _MAX_NAMED_FILES)})"


def _check_labels(folder: pathlib.Path, recordings: list[Recording]) -> None:
    # With one label of several, there may be recordings without it.
    sets = {frozenset(recording.labels) for recording in recordings}
    if len(sets) < 2:
        raise ValueError(
            "`audio_folder.path` must hold at least two labels, which not all "
            f"recordings share. Received: path={str(folder)!r}, with "
            f"{sorted(*sets)}."
        )


def files_of(recordings: Sequence[str | os.PathLike]) -> list[str]:
    """Lists the files that names of files and folders stand for.

    Args:
        recordings: Names of audio files and folders.

    Returns:
        Each file once, by the first of the paths that lead to it. A folder
        stands for the audio files below it; one that holds none stays as it is.
        A link to a file is another file.
    """
    real = functools.cache(os.path.realpath)
    found: dict[tuple[str, str], str] = {}
    for file in itertools.chain(*map(_files, recordings)):
        folder, name = os.path.split(file)
        found.setdefault((real(folder), name), file)
    return list(found.values())


def _files(recording: str | os.PathLike) -> list[str]:
    name = os.path.expanduser(recording)
    if not os.path.isdir(name):
        return [name]
    found = [
        os.path.join(name, file) for file in audio_files(pathlib.Path(name))
    ]
    return found or [name]


def audio_files(folder: pathlib.Path) -> list[str]:
    """Lists what lies below a folder and has the name of an audio file.

    Symbolic links are followed. Hidden files and folders are left out.

    Args:
        folder: pathlib.Path. The folder.

    Returns:
        Paths relative to the folder, sorted, with "/" as separator. Some may be
        no files, such as a pipe, or a folder with the name of an audio file and
        nothing in it to decode. To decode them is an error that says so.
    """
    return sorted(walk_audio_files(folder))


def walk_audio_files(folder: pathlib.Path) -> Iterator[str]:
    """Yields what `audio_files` lists, in no particular order.

    Args:
        folder: pathlib.Path. The folder. If it does not exist, nothing is
            yielded.

    Raises:
        OSError: If a folder cannot be read. Its recordings would be missed.
    """
    seen: set[str] = set()
    links = collections.deque([str(folder)])
    while links:
        # Links come last: a folder that a link leads to keeps its own name.
        yield from _walk_without_links(links.popleft(), folder, seen, links)


def _walk_without_links(
    top: str,
    folder: pathlib.Path,
    seen: set[str],
    links: collections.deque[str],
) -> Iterator[str]:
    """Yields the audio files below a folder, and collects links to folders.

    Args:
        top: The folder, or a link to it.
        folder: The folder that the yielded paths are relative to.
        seen: The real paths of folders that were visited, which are left out.
            Those of this walk are added.
        links: The links that are found are added.
    """
    for root, directories, files in os.walk(top, onerror=_refuse_unreadable):
        real = os.path.realpath(root)
        if real in seen:
            directories.clear()
            continue
        seen.add(real)
        directories[:] = sorted(d for d in directories if d[0] != ".")
        below = (os.path.join(root, name) for name in directories)
        links.extend(path for path in below if os.path.islink(path))
        found = [f for f in files if f[0] != "." and is_recording(f)]
        paths = [os.path.join(root, file) for file in found]
        is_named_as_file = root != str(folder) and is_recording(root)
        if is_named_as_file and not directories and not found:
            paths.append(root)
        for path in paths:
            yield os.path.relpath(path, folder).replace(os.sep, "/")


def _refuse_unreadable(error: OSError) -> None:
    if not isinstance(error, (FileNotFoundError, NotADirectoryError)):
        raise error
