"""Checks and tells which labels a split lacks."""

import collections
import pathlib
from collections.abc import Iterable, Mapping

from leaf_audio.data.clips import SPLITS
from leaf_audio.data.entries import Recording

# How many labels a warning names.
_MAX_NAMED_LABELS = 5


def labels_by_split(recordings: Iterable[Recording]) -> dict[str, set[str]]:
    """Returns the names of the labels that occur in each split."""
    labels = collections.defaultdict(set)
    for recording in recordings:
        labels[recording.split].add(recording.label)
    return dict(labels)


def check_splits(
    folder: pathlib.Path,
    wanted: dict[str, set[str]],
    kept: dict[str, set[str]],
    for_training: bool,
) -> None:
    """Checks that no split or label is lost.

    Args:
        folder: The folder, for the message.
        wanted: By split, the labels of the files that were found.
        kept: By split, the labels of the files that can be used.
        for_training: Whether there must be training clips of every label.

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
        )


def describe(kept: Mapping[str, set[str]], is_drawn: bool) -> list[str]:
    """Returns a sentence for each split that lacks labels.

    Args:
        kept: By split, the labels of the recordings that can be used.
        is_drawn: Whether the splits were drawn.

    Returns:
        A list of str. Each names the labels, and what to do about it.
    """
    labels = set().union(*kept.values())
    sentences = []
    for split in SPLITS:
        lost = sorted(labels - kept.get(split, labels))
        if not lost:
            continue
        named = ", ".join(map(repr, lost[:_MAX_NAMED_LABELS]))
        if len(lost) > _MAX_NAMED_LABELS:
            named += f" and {len(lost) - _MAX_NAMED_LABELS} more"
        remedy = (
            f"Add recordings of them, raise audio_folder.{split}_fraction, or "
            "choose the split of each file by folders or by index.csv."
            if is_drawn
            else f"Add recordings of them to {split!r}, or move some there."
        )
        sentences.append(
            f"The split {split!r} has no recordings of the labels {named}, so "
            f"that its metrics do not tell how well they are recognised. "
            f"{remedy}"
        )
    return sentences
