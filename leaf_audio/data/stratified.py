"""Draws splits that hold about their share of each label.

What is drawn are units: files, or speakers with all of their recordings. The
hash of its name gives each unit a number from 0 to 1, and so a split. Some of
them are then moved. There are bounds for how many units of a label a split
holds, from 0.5 to 1.5 times its share, and at least one if its share comes to
half a unit or more. The same bounds, times the recordings that a unit of the
label has on average, hold for recordings. A unit is moved if it brings the
numbers nearer to their bounds: large units first, then the nearest in hash. It
may move again when units are added.

A unit with several labels counts for each of them. Units of very different
sizes need not fit into the bounds. They are then as near to them as such moves
bring them.
"""

import collections
import dataclasses
import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence

from leaf_audio.data.clips import SPLITS
from leaf_audio.data.folder_layout import normalized

# Metrics are means over recordings, whose numbers matter more than those of
# units.
_WEIGHT_OF_RECORDINGS = 2
# A move must bring the numbers nearer to their bounds by more than rounding.
_LEAST_GAIN = 1e-9


@dataclasses.dataclass
class Unit:
    """Recordings that stay together in one split.

    Attributes:
        key: The name of their first speaker, or the path of their file.
        draw: A number from 0 to 1.
        labels: For each label, how many of the recordings have it.
        split: The name of a split.
    """

    key: str
    draw: float
    labels: collections.Counter[str] = dataclasses.field(
        default_factory=collections.Counter
    )
    split: str = "train"


def draw_number(key: str) -> float:
    """Returns a number from 0 to 1 that depends on a text alone."""
    name = normalized(key).encode("utf-8", "surrogateescape")
    return int.from_bytes(hashlib.sha256(name).digest()[:8], "big") / 2**64


def stratify(units: Sequence[Unit], fractions: Mapping[str, float]) -> None:
    """Gives each unit its split.

    Args:
        units: The units.
        fractions: The share of "validation" and of "test".
    """
    test, held_out = fractions["test"], sum(fractions.values())
    intervals = {
        "test": (0.0, test),
        "validation": (test, held_out),
        "train": (held_out, 1.0),
    }
    for unit in units:
        unit.split = next(
            (s for s, (_, end) in intervals.items() if unit.draw < end), "train"
        )
    _Stratifier(units, intervals).run()


@dataclasses.dataclass
class _Cell:
    """How much of a label a split holds, and may hold.

    There are two cells for each label and split, for units and for recordings.

    Attributes:
        share: The amount that would be exact.
        least: The least amount.
        most: The largest amount.
        most_of_one: The largest amount of a unit.
        weight: How much the amounts matter.
        count: The amount that the split holds.
    """

    share: float
    least: float
    most: float
    most_of_one: float
    weight: float
    count: float = 0

    def lacks(self, added: float = 0) -> float:
        """Returns how far the amount is from its bounds, with its weight."""
        count = self.count + added
        lacking = max(self.least - count, count - self.most, 0.0)
        return self.weight * lacking


class _Stratifier:
    """Moves units so that no split has too little or too much of a label.

    Args:
        units: The units, with the splits that were drawn.
        intervals: For each split, the drawn numbers that belong to it.
    """

    def __init__(
        self,
        units: Sequence[Unit],
        intervals: Mapping[str, tuple[float, float]],
    ):
        self._intervals = intervals
        self._by_label = collections.defaultdict(list)
        for unit in units:
            for label in unit.labels:
                self._by_label[label].append(unit)
        self._cells = {
            (label, split): _cells([u.labels[label] for u in some], end - start)
            for label, some in self._by_label.items()
            for split, (start, end) in intervals.items()
        }
        for unit in units:
            self._add(unit, 1)

    def run(self) -> None:
        """Moves units as long as one can be moved for the better."""
        # A large unit first, so that small ones need not make up for it.
        for (label, split), (_, of_recordings) in sorted(self._cells.items()):
            if of_recordings.most_of_one > of_recordings.most:
                self._empty(label, split, of_recordings, 1)
        moved = True
        while moved:
            moved = False
            for (label, split), cells in sorted(self._cells.items()):
                for kind, cell in enumerate(cells):
                    moved |= self._fill(label, split, cell)
                    moved |= self._empty(label, split, cell, kind)

    def _fill(self, label: str, split: str, cell: _Cell) -> bool:
        moved = False
        if cell.count < cell.least:
            for unit in self._nearest_first(self._by_label[label], split):
                if self._may_move(unit, split):
                    self._move(unit, split)
                    moved = True
                    if cell.count >= cell.least:
                        break
        return moved

    def _empty(self, label: str, split: str, cell: _Cell, kind: int) -> bool:
        moved = False
        ways: dict[str, Iterator[Unit]] = {}
        while cell.count > cell.most:
            to = self._emptiest(label, kind)
            if to not in ways:
                here = [u for u in self._by_label[label] if u.split == split]
                ways[to] = iter(self._nearest_first(here, to))
            movable = (u for u in ways[to] if u.split == split)
            unit = next((u for u in movable if self._may_move(u, to)), None)
            if unit is None:
                break
            self._move(unit, to)
            moved = True
        return moved

    def _nearest_first(self, units: Sequence[Unit], split: str) -> list[Unit]:
        """Sorts units by how near their numbers are to those of a split."""
        start, end = self._intervals[split]
        return sorted(
            units, key=lambda u: (max(start - u.draw, u.draw - end), u.key)
        )

    def _emptiest(self, label: str, kind: int) -> str:
        """Returns the split that lacks most of its share of a label."""

        def excess(split: str) -> float:
            cell = self._cells[label, split][kind]
            return cell.count - cell.share

        return min(SPLITS, key=excess)

    def _move(self, unit: Unit, split: str) -> None:
        self._add(unit, -1)
        unit.split = split
        self._add(unit, 1)

    def _add(self, unit: Unit, sign: int) -> None:
        for cell, amount in self._amounts(unit, unit.split):
            cell.count += sign * amount

    def _amounts(self, unit: Unit, split: str) -> Iterator[tuple[_Cell, int]]:
        """Yields the cells of a split, and what a unit adds to each."""
        for label, recordings in unit.labels.items():
            of_units, of_recordings = self._cells[label, split]
            yield of_units, 1
            yield of_recordings, recordings

    def _may_move(self, unit: Unit, split: str) -> bool:
        """Returns whether a move makes all splits lack less than before."""
        if unit.split == split:
            return False
        gain = 0.0
        for sign, where in ((-1, unit.split), (1, split)):
            for cell, amount in self._amounts(unit, where):
                gain += cell.lacks() - cell.lacks(sign * amount)
        return gain > _LEAST_GAIN


def _cells(recordings: Sequence[int], fraction: float) -> tuple[_Cell, _Cell]:
    """Returns the cells of a label and a split, for units and recordings.

    Args:
        recordings: How many recordings of the label each of its units has.
        fraction: The share of the split.
    """
    units, total = len(recordings), sum(recordings)
    share = units * fraction
    # The tolerance is for products such as 5 * 0.1.
    least = max(math.floor(share / 2 + 1e-9), int(share + 1e-9 >= 0.5))
    most = math.ceil(1.5 * share - 1e-9)
    mean = total / units
    return (
        _Cell(share, least, most, 1, 1 / units),
        _Cell(
            share * mean,
            least * mean,
            most * mean,
            max(recordings),
            _WEIGHT_OF_RECORDINGS / total,
        ),
    )
