"""Takes labels, splits and folds from the names of folders.

Three layouts are understood:

    <label>/**/*            labels only
    <split>/<label>/**/*    splits are called train, validation and test
    <fold>/<label>/**/*     only if the caller says that there are folds

A top-level folder `train` beside folders of other names is a label if audio
files lie directly in it. Names that look like folds or like misnamed splits,
where labels are expected, are an error. They would otherwise be learned as
classes.
"""

import collections
import pathlib
import re
import unicodedata
from collections.abc import Iterable, Iterator

from leaf_audio.common.listing import listed
from leaf_audio.data.clips import SPLITS
from leaf_audio.data.entries import Entry

INDEX = "index.csv"
# Names under which splits are also known. If all top-level folders have such
# names, they are more likely misnamed splits than labels.
_SPLIT_NAMES = {
    *("train", "training"),
    *("validation", "valid", "val", "dev", "development"),
    *("test", "testing", "eval", "evaluation"),
}
# A name of one of these words and a number is that of a fold.
_FOLD_WORDS = {"fold", "folds", "kfold", "cv", "xval", "crossval"}
# The same for parts of a data set. Below a label, such names are usual for
# folders that only keep the number of files in each small.
_PART_WORDS = {
    *("part", "partition", "split", "set", "subset", "dataset"),
    *("chunk", "batch", "shard", "section", "portion"),
}
# The same, but also a likely label. Only where all folders have such names, and
# digits for numbers, they are taken for folds.
_GROUP_WORDS = {"group", "groups"}
# What may stand beside them, as in "fold 1 of 10", "k-fold-1" and "1st_fold".
_FILLERS = {"of", "k", "st", "nd", "rd", "th", "no", "nr", "num"}
_NUMBER_WORDS = {
    *("one", "two", "three", "four", "five"),
    *("six", "seven", "eight", "nine", "ten"),
    *("first", "second", "third", "fourth", "fifth"),
    *("sixth", "seventh", "eighth", "ninth", "tenth"),
}
# A digit, a letter or a Roman number up to 39.
_NUMBER = re.compile(r"\d+|[^\W\d_]|x{0,3}(ix|iv|v?i{1,3}|v|x)")
_MAX_NAMED = 10
# What to know about a setting that does not fit the folder.
FROM_THE_RUN = (
    "(An evaluation takes audio_folder.validation_folds and "
    "audio_folder.test_folds from the run, unless they are bound to None.)"
)


def list_tree(
    folder: pathlib.Path, files: Iterable[str], has_folds: bool
) -> list[Entry]:
    """Lists the recordings of a folder without an index.

    Args:
        folder: pathlib.Path. The folder.
        files: Iterable of str. Its audio files, relative to it.
        has_folds: bool. Whether the top-level folders are folds.

    Returns:
        A list of `Entry`. All of them have a split, or all have a fold, or none
        has either.

    Raises:
        ValueError: The layout cannot be meant.
    """
    by_top = collections.defaultdict(list)
    for file in files:
        if "/" not in file:
            raise ValueError(
                "`audio_folder.path` must hold audio files in folders named "
                f"by label. Received: file={file!r}, in no such folder. "
                "Recordings without labels, for `train.pretraining`, need "
                "audio_folder.index = @unlabelled_index and "
                "audio_folder.allow_unlabelled = True."
            )
        by_top[file.split("/")[0]].append(file)
    if has_folds:
        return list(_list_fold_folders(by_top))
    if _holds_splits(by_top):
        entries = list(_list_split_folders(folder, by_top))
        _check_not_folds({entry.labels[0] for entry in entries}, entries)
        return entries
    _check_not_splits(by_top)
    entries = [
        Entry(file, (normalized(top),))
        for top, below in by_top.items()
        for file in below
    ]
    _check_not_folds(by_top, entries)
    _check_nothing_below_labels(by_top)
    return entries


def describe_empty(folder: pathlib.Path, entries: Iterable[Entry]) -> list[str]:
    """Says which folders would be those of labels if they held anything.

    Args:
        folder: pathlib.Path. The folder.
        entries: What `list_tree` found in it.

    Returns:
        A list of one str. Or an empty list if there are no such folders.
    """
    # The folders of labels lie directly in these.
    above: set[str] = set()
    labels: set[str] = set()
    for entry in entries:
        is_in_part = entry.split is not None or entry.fold is not None
        above.add(entry.file.split("/")[0] if is_in_part else "")
        labels.update(entry.labels)
    empty = {
        one.name
        for top in above
        for one in (folder / top).iterdir()
        if one.name[0] != "."
        and normalized(one.name) not in labels
        and one.is_dir()
        # A Mac puts hidden files into any folder.
        and not any(p.is_file() for p in one.rglob("*") if p.name[0] != ".")
    }
    if not empty:
        return []
    return [
        "Folders without any file are no labels: "
        f"{listed(map(repr, sorted(empty)), _MAX_NAMED)}."
    ]


def normalized(text: str) -> str:
    """Returns text in which each accented letter has one fixed encoding.

    macOS and Linux encode the same accented letter in different bytes.
    """
    return unicodedata.normalize("NFC", text)


def looks_like_fold(name: str, words: set[str]) -> bool:
    """Returns whether a name consists of one of the words and a number.

    Args:
        name: str. The name of a folder.
        words: set of str. The words, such as "fold".

    Returns:
        True for names such as "fold1", "Fold_03", "cv-2", "part_a", "1st fold",
        "fold_II", "fold two" and "Fold 1 (train)".
    """
    tokens = _tokens(name)
    ignored = words | _FILLERS | _SPLIT_NAMES
    rest = [token for token in tokens if token not in ignored]
    return (
        not words.isdisjoint(tokens)
        and len(rest) > 0
        and all(
            token in _NUMBER_WORDS or _NUMBER.fullmatch(token) for token in rest
        )
    )


def _tokens(name: str) -> list[str]:
    """Returns the words and the numbers of a name, in lower case.

    A capital after a small letter begins a word, as in "foldA".
    """
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    return re.findall(r"[^\W\d_]+|\d+", apart.lower())


def _list_fold_folders(by_top: dict[str, list[str]]) -> Iterator[Entry]:
    for top, files in by_top.items():
        for file in files:
            parts = file.split("/")
            if len(parts) < 3:
                raise ValueError(
                    "`audio_folder.path` must hold folders named by fold, and "
                    f"in them folders named by label. Received: file={file!r}, "
                    f"directly in the folder of a fold. {INDEX} with the "
                    "columns file, label and fold can name the labels. "
                    f"{FROM_THE_RUN}"
                )
            yield Entry(file, (normalized(parts[1]),), fold=normalized(top))


def _list_split_folders(
    folder: pathlib.Path, by_top: dict[str, list[str]]
) -> Iterator[Entry]:
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
                    f"the folder of a split. {INDEX} with the columns file, "
                    "label and split can name the labels."
                )
            yield Entry(file, (normalized(parts[1]),), split=top)


def _holds_splits(by_top: dict[str, list[str]]) -> bool:
    """Returns whether the top-level folders are splits and not labels."""
    if set(by_top) <= set(SPLITS):
        # Several folders with the names of splits are splits even if a file
        # lies directly in one of them. That file is reported later.
        return len(by_top) > 1 or all(_are_nested(by_top.values()))
    return "train" in by_top and all(_are_nested([by_top["train"]]))


def _check_not_splits(by_top: dict[str, list[str]]) -> None:
    """Raises ValueError if the top-level folders look like misnamed splits.

    Where no folders of labels are in them, a name such as "train horn" is that
    of a label. But several names that are nothing else than those of splits,
    such as "Train" and "Test" or "train1" and "train2", are not.
    """
    words = [_tokens(top) for top in by_top]
    are_nested = any(_are_nested(by_top.values()))
    are_bare = len(by_top) > 1 and all(
        word in _SPLIT_NAMES or word.isdigit()
        for name in words
        for word in name
    )
    if all(map(_SPLIT_NAMES.intersection, words)) and (are_nested or are_bare):
        raise ValueError(
            "`audio_folder.path` must name its splits "
            f"{', '.join(SPLITS)}, with folders named by label in each. "
            f"Received: folders={sorted(by_top)}. If these are labels, or if "
            f"no folders tell the labels, name them in {INDEX}, with the "
            "columns file, label and, unless it is to be drawn, split."
        )


def _check_not_folds(labels: Iterable[str], entries: list[Entry]) -> None:
    """Raises ValueError if folders in the place of labels look like folds."""
    labels = sorted(labels)
    words = _FOLD_WORDS | _PART_WORDS
    folds = [label for label in labels if looks_like_fold(label, words)]
    if all(
        looks_like_fold(label, _GROUP_WORDS) and label[-1].isdigit()
        for label in labels
    ):
        folds = labels
    if len(folds) < 2:
        return
    remedy = (
        f"Name the labels in {INDEX}, with the columns file, label and fold "
        "(or split)."
    )
    files = [entry.file for entry in entries if entry.labels[0] in folds]
    if entries[0].split is None and all(file.count("/") > 1 for file in files):
        remedy = (
            "If there are labels below, choose the folds of each split by "
            f"audio_folder.validation_folds = [{folds[-2]!r}] and "
            f"audio_folder.test_folds = [{folds[-1]!r}]. If not, name the "
            f"labels in {INDEX}, with the columns file, label and fold."
        )
    named = listed(map(repr, folds), _MAX_NAMED)
    raise ValueError(
        "`audio_folder.path` must hold audio files in folders named by label. "
        f"Received: folders=[{named}], which look like folds. {remedy}"
    )


def _check_nothing_below_labels(by_top: dict[str, list[str]]) -> None:
    """Raises ValueError if each label has folders that look like splits.

    The files of `<label>/train` and `<label>/test` would otherwise be mixed,
    and splits would be drawn from them.
    """
    below = {
        file.split("/")[1]
        for files in by_top.values()
        for file in files
        if file.count("/") > 1
    }
    if len(below) > 1 and all(
        name.lower() in _SPLIT_NAMES or looks_like_fold(name, _FOLD_WORDS)
        for name in below
    ):
        named = listed(map(repr, sorted(below)), _MAX_NAMED)
        raise ValueError(
            "`audio_folder.path` must hold folders of splits above those of "
            "labels, such as train/<label>, and not below. Received: "
            f"folders=[{named}] in folders of labels. "
            f"{INDEX} with the columns file, label and split (or fold) can "
            "also tell them."
        )


def _are_nested(groups: Iterable[Iterable[str]]) -> Iterator[bool]:
    """Yields, for each file, whether it lies in a subfolder of a top folder."""
    return (file.count("/") >= 2 for group in groups for file in group)
