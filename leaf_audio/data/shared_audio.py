"""Finds and tells which audio is in several splits, or has different labels.

A model that has learned a clip knows it in the test, so that the metrics are
too good. The same samples may come from a link or from a copy. Segments of one
file may overlap. Digital silence is the same in all clips, and is not told.
"""

import bisect
import collections
import dataclasses
import itertools
import math
import os
import pathlib
import warnings
from collections.abc import Callable, Hashable, Mapping, Sequence

import numpy as np

from leaf_audio.data.clips import SPLITS, AudioData, Clips, DataWarning
from leaf_audio.data.entries import Recording

# Of two splits, by their names: for clips of the second one, the clip of the
# first one that holds the same audio. Clips are numbers in their split.
Pairs = dict[tuple[str, str], dict[int, int]]
# A split, and the number of a clip in it.
Place = tuple[str, int]


def by_content(clips: Mapping[str, Clips]) -> Pairs:
    """Finds clips whose samples are the same.

    Args:
        clips: The clips of each split.
    """
    contents = _contents(clips)
    found: Pairs = {}
    for one, other in itertools.combinations(contents, 2):
        known, first = np.unique(contents[one], return_index=True)
        places = np.searchsorted(known, contents[other])
        places = np.minimum(places, len(known) - 1)
        same = np.flatnonzero(known[places] == contents[other])
        silent = _silent(clips[other], contents[other], same)
        found[one, other] = {
            int(i): int(first[places[i]])
            for i in same
            if contents[other][i].tobytes() not in silent
        }
    return found


def _contents(clips: Mapping[str, Clips]) -> dict[str, np.ndarray]:
    """Returns the hashes of the clips of each split, as one value each."""
    return {
        split: np.ascontiguousarray(clips[split].content).view("V16").ravel()
        for split in SPLITS
        if split in clips
    }


def with_other_labels(clips: Mapping[str, Clips]) -> list[tuple[Place, Place]]:
    """Finds clips whose samples are those of a clip with other labels.

    Args:
        clips: The clips of each split.

    Returns:
        For each such clip, its place and that of the first clip with its
        samples.
    """
    contents = _contents(clips)
    places = [(split, len(some)) for split, some in contents.items()]
    ends = np.cumsum([0, *(count for _, count in places)])

    def place(number: np.integer) -> Place:
        k = int(np.searchsorted(ends, number, side="right")) - 1
        return places[k][0], int(number - ends[k])

    _, first, group = np.unique(
        np.concatenate(list(contents.values())),
        return_index=True,
        return_inverse=True,
    )
    first_of = first[group]
    found = []
    for number in np.flatnonzero(first_of != np.arange(len(group))):
        (split, i), (other, j) = place(number), place(first_of[number])
        if np.any(clips[split].labels[i] != clips[other].labels[j]):
            found.append(((split, i), (other, j)))
    silent = {
        split: _silent(
            clips[split],
            some,
            np.array([i for (own, i), _ in found if own == split], int),
        )
        for split, some in contents.items()
    }
    return [
        ((split, i), other)
        for (split, i), other in found
        if contents[split][i].tobytes() not in silent[split]
    ]


def _silent(
    clips: Clips, contents: np.ndarray, numbers: np.ndarray
) -> set[bytes]:
    """Returns the contents of the clips that hold one value throughout."""
    different, places = np.unique(contents[numbers], return_index=True)
    if not len(different):
        return set()
    read = clips.reader(in_memory=False)
    return {
        content.tobytes()
        for content, place in zip(different, places, strict=True)
        if np.ptp(read(int(numbers[place]))[0]) == 0
    }


def by_interval(
    folder: pathlib.Path, recordings: Mapping[str, Sequence[Recording]]
) -> Pairs:
    """Finds segments of one file that overlap.

    Args:
        folder: The folder of the files.
        recordings: The recordings of each split. If all of them are whole
            files, nothing is found.
    """
    if not any(one.is_segment for some in recordings.values() for one in some):
        return {}
    files = {one.file for some in recordings.values() for one in some}
    identities = {file: _identity(folder / file) for file in files}
    found: Pairs = {}
    splits = [split for split in SPLITS if split in recordings]
    for one, other in itertools.combinations(splits, 2):
        segments: dict[Hashable, list[tuple[float, float, int]]]
        segments = collections.defaultdict(list)
        for i, recording in enumerate(recordings[one]):
            identity = identities[recording.file]
            segments[identity].append((*_interval(recording), i))
        covers = {key: _Cover(some) for key, some in segments.items()}
        found[one, other] = {
            i: overlapping
            for i, recording in enumerate(recordings[other])
            if (cover := covers.get(identities[recording.file])) is not None
            and (overlapping := cover.find(*_interval(recording))) is not None
        }
    return found


def describe(
    clips: Mapping[str, Clips],
    name_of: Callable[[str, int], str],
    overlapping: Pairs | None = None,
) -> list[str]:
    """Says which audio is in several splits, and which has different labels.

    Args:
        clips: The clips of each split.
        name_of: A function from a split and the number of a clip to its name.
        overlapping: What `by_interval` has found, or None.

    Returns:
        A list of sentences, empty if there are no such clips.
    """
    return [
        *_describe_splits([by_content(clips), overlapping or {}], name_of),
        *_describe_labels(with_other_labels(clips), name_of),
    ]


def describe_between_sets(
    clips: Mapping[str, Clips],
    set_of: Callable[[str, int], int],
    name_of: Callable[[str, int], str],
) -> list[str]:
    """Says which audio is in one split of a data set, and in one of another.

    Args:
        clips: The clips of each split, of all data sets.
        set_of: A function from a split and the number of a clip to the number
            of its data set.
        name_of: A function from a split and the number of a clip to its name.

    Returns:
        As `describe`.
    """
    found = {
        (one, other): {
            i: there
            for i, there in pairs.items()
            if set_of(other, i) != set_of(one, there)
        }
        for (one, other), pairs in by_content(clips).items()
    }
    return _describe_splits([found], name_of)


def _describe_splits(
    found: Sequence[Pairs], name_of: Callable[[str, int], str]
) -> list[str]:
    joined: Pairs = collections.defaultdict(dict)
    for pairs in found:
        for splits, some in pairs.items():
            joined[splits].update(some)
    parts = []
    for (one, other), some in joined.items():
        if some:
            i = min(some)
            count = "1 clip" if len(some) == 1 else f"{len(some)} clips"
            name, there = name_of(other, i), name_of(one, some[i])
            parts.append(
                f"{one} has {count} of {other}, such as {name!r} (there "
                f"{there!r})"
            )
    if not parts:
        return []
    return [
        "The same audio, or a part of it, is in several splits, so that their "
        f"metrics are too good: {'; '.join(parts)}. Keep each recording in one "
        "split."
    ]


def _describe_labels(
    found: Sequence[tuple[Place, Place]], name_of: Callable[[str, int], str]
) -> list[str]:
    if not found:
        return []
    one, other = found[0]
    have = "1 clip has" if len(found) == 1 else f"{len(found)} clips have"
    return [
        f"The same audio has different labels: {have} other labels than the "
        f"first clip with the same samples, such as {name_of(*one)!r} (first "
        f"{name_of(*other)!r}). Remove one of them, or correct its labels."
    ]


def warned(audio_data: AudioData) -> AudioData:
    """Adds what `describe` says to the data's warnings, and issues all of them.

    Args:
        audio_data: The data set, whose shards hold the names of the clips.

    Returns:
        An `AudioData`.
    """
    clips = audio_data.clips
    sentences = [
        *audio_data.warnings,
        *describe(clips, lambda split, i: clips[split].source_of(i)),
    ]
    for sentence in sentences:
        warnings.warn(sentence, DataWarning, stacklevel=3)
    return dataclasses.replace(audio_data, warnings=tuple(sentences))


class _Cover:
    """The segments of a file, to find one that overlaps with another.

    Args:
        segments: For each, its start, its end, and its number.
    """

    def __init__(self, segments: list[tuple[float, float, int]]):
        segments.sort()
        self._starts = [start for start, _, _ in segments]
        # Of the segments up to each one, that which ends last.
        self._last = list(itertools.accumulate(segments, _later))

    def find(self, start: float, end: float) -> int | None:
        """Returns the number of a segment that overlaps, or None."""
        count = bisect.bisect_left(self._starts, end)
        if not count:
            return None
        _, last_end, number = self._last[count - 1]
        return number if last_end > start else None


def _later(
    one: tuple[float, float, int], other: tuple[float, float, int]
) -> tuple[float, float, int]:
    """Returns the segment that ends later."""
    return max(one, other, key=lambda segment: segment[1])


def _interval(recording: Recording) -> tuple[float, float]:
    """Returns where a recording begins and ends in its file, in seconds."""
    end = math.inf if recording.end is None else recording.end
    return recording.start or 0.0, end


def _identity(path: pathlib.Path) -> Hashable:
    """Returns what names of one file have in common, such as of a link."""
    try:
        stat = os.stat(path)
    except OSError:
        return str(path)
    return stat.st_dev, stat.st_ino
