"""How `predict` writes what it has found: as text, tables and annotations.

Each function takes predictions one after the other and yields lines, so that a
result is told as soon as it is there.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import os
import pathlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from leaf_audio.common.listing import as_item

if TYPE_CHECKING:
    from leaf_audio.serving import Prediction

# Formats with a file for each recording, and all formats.
ANNOTATIONS = ("audacity", "raven")
FORMATS = ("text", "csv", "jsonl", *ANNOTATIONS)

# The labels that are named for a recording, unless the user says how many.
_TOP = 3

# The ends of windows that are shorter, in seconds, are told by more digits.
_SHORT = 0.05


class Choice(NamedTuple):
    """Which labels are told.

    Attributes:
        thresholds: None if a recording has one label. Otherwise the probability
            from which on it has each label.
        top: The number of labels to tell, or None if the user has not said it.
        threshold: The probability from which on a label is told, or None if
            the user has not said it.
    """

    thresholds: Sequence[float] | None
    top: int | None = None
    threshold: float | None = None

    def labels(
        self, probabilities: Mapping[str, float], of_window: bool = False
    ) -> list[str]:
        """Returns the labels that are told.

        They are in order of falling probability. For a recording that may have
        several labels, those that reach their thresholds come first.

        Args:
            probabilities: The probability of each label.
            of_window: Whether this is one window of a timeline. There, only
                what is found is told: labels that reach their thresholds, or
                the most likely label.
        """
        falling = sorted(
            probabilities, key=probabilities.__getitem__, reverse=True
        )
        if self.threshold is None and self.thresholds is None:
            return falling[: self.top or (1 if of_window else _TOP)]
        reached = self.reached(probabilities)
        if self.threshold is not None or of_window:
            return reached[: self.top]
        others = [label for label in falling if label not in reached]
        return (reached + others)[: self.top or max(_TOP, len(reached))]

    def reached(self, probabilities: Mapping[str, float]) -> list[str]:
        """Returns the labels that reach their thresholds, or that of the user.

        Args:
            probabilities: The probability of each label.
        """
        # It imports Keras, which a command imports after it has read its flags.
        from leaf_audio.serving import given_labels

        if self.threshold is None:
            return given_labels(probabilities, self.thresholds or ())
        return given_labels(
            probabilities, [self.threshold] * len(probabilities)
        )


def text(
    predictions: Iterable[Prediction], choice: Choice, timeline: bool
) -> Iterator[str]:
    """Yields a line for each recording, or for each window of a timeline."""
    for one in predictions:
        if not timeline:
            told = _described(one.probabilities, choice)
            yield f"{printable(one.recording)}: {told}"
            continue
        for start, end, probabilities in one.timeline():
            labels = choice.labels(probabilities, of_window=True)
            if labels:
                told = named(labels, probabilities)
                name = printable(one.recording)
                yield f"{name} {times(start, end)}: {told}"


def times(start: float, end: float) -> str:
    """Returns where a window begins and ends, as text.

    Args:
        start: float, in seconds.
        end: float, in seconds.
    """
    digits = 2 if end - start >= _SHORT else 6
    return f"{start:.{digits}f}-{end:.{digits}f} s"


def _described(probabilities: Mapping[str, float], choice: Choice) -> str:
    """Names labels, and if there are thresholds, which of them reach theirs.

    The text is such as "dog 0.912, rain 0.071". With thresholds, labels that do
    not reach theirs come after those that do, as in "dog 0.912, rain 0.640;
    below threshold: siren 0.210 (0.450)", with the threshold in brackets. If
    none does, "no label" comes first.
    """
    labels = choice.labels(probabilities)
    if choice.threshold is None and choice.thresholds is None:
        return named(labels, probabilities)
    reached = choice.reached(probabilities)
    above = [label for label in labels if label in reached]
    below = [label for label in labels if label not in reached]
    told = named(above, probabilities) or "no label"
    if not below:
        return told
    thresholds = dict(zip(probabilities, choice.thresholds or (), strict=True))
    rest = ", ".join(
        f"{named([one], probabilities)} ({thresholds[one]:.3f})"
        for one in below
    )
    return f"{told}; below threshold: {rest}"


def named(labels: Sequence[str], probabilities: Mapping[str, float]) -> str:
    """Returns labels with their probabilities, such as "dog 0.912, rain 0.071".

    Args:
        labels: The labels, in the order in which they are told.
        probabilities: The probability of each label.
    """
    return ", ".join(
        f"{as_item(one)} {probabilities[one]:.3f}" for one in labels
    )


def table(
    predictions: Iterable[Prediction], choice: Choice, timeline: bool
) -> Iterator[str]:
    """Yields the lines of a CSV table: a label of a recording or a window.

    The columns are file, start and end in seconds (of a timeline), label and
    score, which is the probability. Where a recording may have several labels,
    `reached` follows: 1 if the score reaches the label's threshold, and else 0.
    A timeline does not have it, since it tells no other labels.
    """
    if timeline:
        columns = ["file", "start", "end", "label", "score"]
    elif choice.thresholds is None:
        columns = ["file", "label", "score"]
    else:
        columns = ["file", "label", "score", "reached"]
    yield _csv_line(columns)
    for one in predictions:
        if timeline:
            for row in _found(one, choice):
                yield _csv_line([one.recording, *row])
            continue
        shares = one.probabilities
        reached = [] if choice.thresholds is None else choice.reached(shares)
        for label in choice.labels(shares):
            cells = [one.recording, label, f"{shares[label]:.6f}"]
            if choice.thresholds is not None:
                cells.append(str(int(label in reached)))
            yield _csv_line(cells)


def json_lines(
    predictions: Iterable[Prediction], choice: Choice, timeline: bool
) -> Iterator[str]:
    """Yields an object of JSON for each recording, or each window.

    Its `scores` are the probabilities of labels. Where a recording may have
    several labels, `labels` has those of them that reach their threshold.
    """
    for one in predictions:
        if not timeline:
            yield _json_line(one.recording, one.probabilities, choice)
            continue
        for start, end, probabilities in one.timeline():
            yield _json_line(
                one.recording, probabilities, choice, start=start, end=end
            )


def _json_line(
    recording: str,
    probabilities: Mapping[str, float],
    choice: Choice,
    **times: float,
) -> str:
    labels = choice.labels(probabilities, of_window=bool(times))
    scores = {label: round(probabilities[label], 6) for label in labels}
    times = {name: round(time, 6) for name, time in times.items()}
    content: dict[str, Any] = {"file": recording, **times, "scores": scores}
    if choice.thresholds is not None and not times:
        reached = choice.reached(probabilities)
        content["labels"] = [label for label in labels if label in reached]
    return json.dumps(content, ensure_ascii=False)


def audacity(prediction: Prediction, choice: Choice) -> Iterator[str]:
    """Yields a recording's lines of a label track of Audacity."""
    for row in _found(prediction, choice):
        label = f"{row.label} {float(row.score):.3f}"
        yield "\t".join((row.start, row.end, _one_cell(label)))


def raven(
    prediction: Prediction, choice: Choice, highest_hz: float
) -> Iterator[str]:
    """Yields a recording's lines of a selection table of Raven.

    All selections have one band of frequencies, which is what the model hears.
    It does not say where in this band a sound is.

    Args:
        prediction: What was found in the recording.
        choice: Which labels are told.
        highest_hz: float, in Hz. The upper end of the selections' band: half of
            the sample rate of the model, and not of the recording.
    """
    yield "\t".join(
        (
            *("Selection", "View", "Channel", "Begin Time (s)"),
            *("End Time (s)", "Low Freq (Hz)", "High Freq (Hz)"),
            *("Label", "Score"),
        )
    )
    for number, row in enumerate(_found(prediction, choice), 1):
        yield "\t".join(
            (
                *(str(number), "Spectrogram 1", "1", row.start, row.end),
                *("0", f"{highest_hz:g}", _one_cell(row.label), row.score),
            )
        )


class _Found(NamedTuple):
    """A label in a window: times in seconds and a probability, as text."""

    start: str
    end: str
    label: str
    score: str


def _found(prediction: Prediction, choice: Choice) -> Iterator[_Found]:
    for start, end, probabilities in prediction.timeline():
        for label in choice.labels(probabilities, of_window=True):
            score = f"{probabilities[label]:.6f}"
            yield _Found(f"{start:.6f}", f"{end:.6f}", label, score)


def _csv_line(cells: Sequence[Any]) -> str:
    line = io.StringIO()
    # Python 3.11 quotes only those ends of lines that it writes itself.
    csv.writer(line, lineterminator="\r\n").writerow(cells)
    return line.getvalue().removesuffix("\r\n")


def printable(name: str) -> str:
    """Returns a name with escapes for what a terminal would not print."""
    return "".join(
        one if one.isprintable() else ascii(one)[1:-1] for one in name
    )


def _one_cell(text: str) -> str:
    """Returns a text that a table of tabs and lines can hold as one cell."""
    return " ".join(text.split())


def free_name(recording: str, suffix: str, taken: Collection[str]) -> str:
    """Names the file of a recording.

    It is the recording's name, unless a recording of another folder has the
    same. Then it is the name with its folders, and at last with a number.

    Args:
        recording: The name of the recording.
        suffix: What the name ends in.
        taken: The names of other files, in lower case: not every file system
            tells `A` from `a`.
    """
    parts = pathlib.Path(os.path.normpath(recording)).parts
    own, full = parts[-1], "-".join(part.strip(os.sep) for part in parts)
    stems = itertools.chain(
        [own, full], (f"{full}-{number}" for number in itertools.count(2))
    )
    names = (f"{_short(stem)}{suffix}" for stem in stems)
    return next(name for name in names if name.casefold() not in taken)


def _short(stem: str) -> str:
    """Returns a visible name, its end if it is long."""
    # File systems take 255 bytes at most, some of which are for suffixes.
    shown = "".join(one if one.isprintable() else "-" for one in stem)
    content = shown.lstrip(".-").encode("utf-8", "surrogateescape")
    return content[-200:].decode("utf-8", "ignore") or "recording"
