"""Checks and tells which labels a split lacks."""

import collections
import pathlib
from collections.abc import Iterable, Mapping

from leaf_audio.common.listing import listed
from leaf_audio.data.clips import SPLITS
from leaf_audio.data.entries import Recording
from leaf_audio.data.index_csv import USUAL_SEPARATORS

# How many labels a warning names.
_MAX_NAMED_LABELS = 5


def labels_by_split(recordings: Iterable[Recording]) -> dict[str, set[str]]:
    """Returns the names of the labels that occur in each split."""
    labels: dict[str, set[str]] = collections.defaultdict(set)
    for recording in recordings:
        labels[recording.split].update(recording.labels)
    return dict(labels)


def check_splits(
    folder: pathlib.Path,
    wanted: dict[str, set[str]],
    kept: dict[str, set[str]],
    for_training: bool,
    is_multilabel: bool,
) -> None:
    """Checks that no split or label is lost.

    Args:
        folder: The folder, for the message.
        wanted: By split, the labels of the files that were found.
        kept: By split, the labels of the files that can be used.
        for_training: Whether there must be training clips of every label.
        is_multilabel: Whether labels were separated from each other.

    Raises:
        ValueError: A split that has files is empty, or a label has no training
            clips.
    """
    needed = {*wanted, "train"} if for_training else {*wanted} - {"train"}
    for split in SPLITS:
        if split in needed and split not in kept:
            raise ValueError(
                "`audio_folder.path` must hold usable clips for every split. "
                f"Received: path={str(folder)!r}, without any for {split!r}."
            )
    missing = set().union(*wanted.values()) - kept.get("train", set())
    if for_training and missing:
        raise ValueError(
            "`audio_folder.path` must hold training clips for every label. "
            f"Received: path={str(folder)!r}, without any for "
            f"{sorted(missing)}. Move or add recordings of these labels to the "
            "training data, or remove the labels."
            f"{_remedy_of_separator(missing) if is_multilabel else ''}"
        )


def _remedy_of_separator(labels: Iterable[str]) -> str:
    """Says what to bind if labels hold what may stand between two labels."""
    text = "".join(labels)
    held = [one for one in USUAL_SEPARATORS if one in text]
    if not held:
        return ""
    return (
        f" If {held[0]!r} stands between two labels, bind "
        f"audio_folder.label_separator = {held[0]!r}."
    )


def describe(kept: Mapping[str, set[str]], is_drawn: bool) -> list[str]:
    """Says which splits lack labels.

    Args:
        kept: By split, the labels of the recordings that can be used.
        is_drawn: Whether the splits were drawn.

    Returns:
        A list of one str that names the splits, the labels, and what to do.
        Or an empty list if no split lacks a label.
    """
    labels = set().union(*kept.values())
    lacking = {
        split: sorted(labels - kept[split])
        for split in SPLITS
        if split in kept and labels - kept[split]
    }
    if not lacking:
        return []
    named = "; ".join(
        f"{split} lacks {listed(map(repr, lost), _MAX_NAMED_LABELS)}"
        for split, lost in lacking.items()
    )
    remedy = "Add recordings of them to these splits, or move some there."
    if is_drawn:
        fractions = [f"audio_folder.{split}_fraction" for split in lacking]
        remedy = (
            f"Add recordings of them, raise {' and '.join(fractions)}, or "
            "choose the split of each file by folders or by index.csv."
        )
    return [
        "Some splits lack labels, so that their metrics say nothing about "
        f"these: {named}. {remedy}"
    ]
