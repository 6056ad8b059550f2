"""Decides which split each recording belongs to.

A folder that names its splits decides itself. If it has folds, the caller says
which of them are for validation and for testing. In all other cases the splits
are drawn.

A drawn split depends on a hash of the path of the file, or of the name of the
speaker where the folder knows the speakers. All segments of a file, and all
recordings of a speaker, fall into one split. A file of several speakers joins
them, with all of their recordings, under the first of their names.

Adding or removing files moves no other file, with two exceptions: a new file
may join speakers, and `stratified` moves files and speakers so that each split
has about its share of each label.
"""

import collections
from collections.abc import Mapping, Sequence
from typing import Any

from leaf_audio.common.listing import listed
from leaf_audio.data.entries import Entry, Recording
from leaf_audio.data.folder_layout import FROM_THE_RUN, normalized
from leaf_audio.data.stratified import Unit, draw_number, stratify

DEFAULT_FRACTION = 0.1
# No label has this name.
_NO_LABEL = ""


def assign_splits(
    entries: Sequence[Entry],
    fractions: Mapping[str, Any],
    folds: Mapping[str, Any],
) -> list[Recording]:
    """Gives each recording its split.

    Args:
        entries: Sequence of `Entry`. It is not empty.
        fractions: Mapping from "validation" and "test" to the fraction of the
            files to draw, a number from 0 to 1, or None.
        folds: Mapping from "validation" and "test" to what `check_fold_names`
            takes.

    Returns:
        A list of `Recording`, in the same order.

    Raises:
        ValueError: A fraction or a fold is not valid, or cannot be used with
            this folder.
    """
    has_splits = entries[0].split is not None
    has_folds = entries[0].fold is not None
    if has_splits or has_folds:
        _check_none("fraction", fractions, "brings its own splits or folds")
    if has_splits or not has_folds:
        _check_none(
            "folds",
            folds,
            "has no folds (<fold>/<label>/*, or "
            "index.csv with a column `fold` and without `split`)",
        )
    if has_splits:
        splits = [entry.split or "" for entry in entries]
    elif has_folds:
        splits = _splits_of_folds(
            [entry.fold or "" for entry in entries], folds
        )
    else:
        splits = _draw(entries, choose_fractions(fractions))
    groups: Sequence[str | None] = _keys(entries)
    if len(set(groups)) == len(entries):
        groups = [None] * len(entries)
    return [
        Recording(
            file=entry.file,
            labels=entry.labels,
            split=split,
            group=group,
            start=entry.start,
            end=entry.end,
        )
        for entry, split, group in zip(entries, splits, groups, strict=True)
    ]


def check_drawn(
    fractions: Mapping[str, Any],
    entries: Sequence[Entry],
    recordings: Sequence[Recording],
) -> None:
    """Raises ValueError if a split that was to be drawn is empty."""
    drawn = {recording.split for recording in recordings}
    together = len(set(_keys(entries)))
    of_what = f"{len(entries)} files"
    if together < len(entries):
        of_what = (
            f"{len(entries)} recordings (those that share a file or a speaker "
            f"stay together: groups={together})"
        )
    for split, fraction in choose_fractions(fractions).items():
        if fraction and split not in drawn:
            raise ValueError(
                f"`audio_folder.{split}_fraction` must leave a clip for "
                f"{split!r}, or be 0. Received: {split}_fraction={fraction} "
                f"of {of_what}, for which it may be too small."
            )


def describe_torn_speakers(
    entries: Sequence[Entry], recordings: Sequence[Recording]
) -> list[str]:
    """Says which speakers are in several splits.

    Args:
        entries: The recordings as the folder describes them.
        recordings: The same recordings with their splits, in the same order.

    Returns:
        A list of one str. Or an empty list if each speaker is in one split.
    """
    found = collections.defaultdict(set)
    for entry, recording in zip(entries, recordings, strict=True):
        if entry.speaker:
            found[entry.speaker].add(recording.split)
    torn = sorted(name for name, some in found.items() if len(some) > 1)
    if not torn:
        return []
    return [
        f"Speakers are in several splits: {listed(map(repr, torn), 3)}. "
        "The metrics of validation and test then say little about speakers "
        "that are new to the model. Without the columns split and fold, the "
        "splits are drawn so that each speaker is in one."
    ]


def choose_fractions(fractions: Mapping[str, Any]) -> dict[str, float]:
    """Checks fractions, and replaces None by a default.

    Args:
        fractions: Mapping from "validation" and "test" to a number from 0 to 1
            or None.

    Returns:
        The same with numbers only.

    Raises:
        ValueError: Together, they are more than 1.
    """
    given = {k: v for k, v in fractions.items() if v is not None}
    if sum(given.values()) > 1:
        received = [f"{k}_fraction={v!r}" for k, v in given.items()]
        raise ValueError(
            "`audio_folder.validation_fraction` and "
            "`audio_folder.test_fraction` must not be more than 1 together. "
            f"Received: {', '.join(received)}."
        )
    default = min(DEFAULT_FRACTION, 1 - sum(given.values()))
    return dict.fromkeys(fractions, default) | given


def _check_none(what: str, arguments: Mapping[str, Any], because: str) -> None:
    for split, value in arguments.items():
        if value is not None:
            raise ValueError(
                f"`audio_folder.{split}_{what}` must be None for a folder "
                f"that {because}. Received: {split}_{what}={value!r}. (An "
                "evaluation takes it from the run, unless it is bound to "
                "None.)"
            )


def _splits_of_folds(
    folds: Sequence[str], wanted: Mapping[str, Any]
) -> list[str]:
    """Returns the split of each recording, by the name of its fold."""
    known = sorted(set(folds))
    split_of = {}
    for split, names in wanted.items():
        _check_folds(split, names, known)
        for name in map(_fold_name, names or ()):
            if name in split_of:
                raise ValueError(
                    "`audio_folder.validation_folds` and "
                    "`audio_folder.test_folds` must name each fold once. "
                    f"Received: {split}_folds={names!r}, with {name!r} twice."
                )
            split_of[name] = split
    if all(names is None for names in wanted.values()):
        raise ValueError(
            "`audio_folder.validation_folds` and `audio_folder.test_folds` "
            "must say which folds are for validation and for testing, such as "
            f"audio_folder.test_folds = [{known[-1]!r}]. Received: neither, "
            f"for folds={known}."
        )
    return [split_of.get(fold, "train") for fold in folds]


def check_fold_names(split: str, names: Any) -> None:
    """Raises a ValueError unless a setting is a list of names of folds or None.

    Args:
        split: "validation" or "test".
        names: Value of the setting.
    """
    if names is None:
        return
    if not isinstance(names, (list, tuple)) or not all(
        isinstance(name, (str, int)) and not isinstance(name, bool)
        for name in names
    ):
        raise ValueError(
            f"`audio_folder.{split}_folds` must be a list of names of folds or "
            f"None. Received: {split}_folds={names!r}."
        )


def _check_folds(split: str, names: Any, known: Sequence[str]) -> None:
    unknown = [n for n in names or () if _fold_name(n) not in known]
    if unknown:
        raise ValueError(
            f"`audio_folder.{split}_folds` must name folds of the folder, "
            f"{list(known)}. Received: {split}_folds={names!r}, with the "
            f"unknown {unknown}. {FROM_THE_RUN}"
        )


def _fold_name(name: str | int) -> str:
    return normalized(str(name))


def _keys(entries: Sequence[Entry]) -> list[str]:
    """Returns a key of each recording. Those with one key stay in one split.

    It is the first name of all speakers who are joined by files, or the path of
    the file where no speaker is known.
    """
    # Files and speakers, each with a nearer one to the root of its group. A
    # speaker sorts before a file, and so becomes the root.
    parents: dict[tuple[int, str], tuple[int, str]] = {}

    def root(node: tuple[int, str]) -> tuple[int, str]:
        while parents.setdefault(node, node) != node:
            parents[node] = parents[parents[node]]
            node = parents[node]
        return node

    files = [(1, normalized(entry.file)) for entry in entries]
    for file, entry in zip(files, entries, strict=True):
        if entry.speaker:
            first, second = sorted([root(file), root((0, entry.speaker))])
            parents[second] = first
    return [root(file)[1] for file in files]


def _draw(
    entries: Sequence[Entry], fractions: Mapping[str, float]
) -> list[str]:
    """Draws the split of each recording, stratified by label."""
    units: dict[str, Unit] = {}
    keys = _keys(entries)
    for key, entry in zip(keys, entries, strict=True):
        if key not in units:
            units[key] = Unit(key, draw_number(key))
        # Recordings without any label are spread as if this were one.
        units[key].labels.update(entry.labels or (_NO_LABEL,))
    stratify(list(units.values()), fractions)
    return [units[key].split for key in keys]
