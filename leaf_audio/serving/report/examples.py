"""Chooses clips that a classifier gets right, and clips that it gets wrong."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from leaf_audio import data
from leaf_audio.serving.batching import in_batches
from leaf_audio.serving.trained import TrainedClassifier
from leaf_audio.training.checks import check_sample_rate

# The number of clips of which examples are chosen. With ten thousand, it would
# take minutes, and the examples would be much the same.
_MAX_JUDGED = 2000
# Of labels that an example neither has nor gets, only the likeliest are told.
_NUM_LIKELIEST = 3


class Share(NamedTuple):
    """What a classifier says of one label of a clip.

    Attributes:
        label: str.
        probability: float.
        is_true: bool. Whether the clip has the label.
        is_given: bool. Whether the classifier gives it the label.
    """

    label: str
    probability: float
    is_true: bool
    is_given: bool


@dataclasses.dataclass(frozen=True)
class Example:
    """A clip, and what a classifier says of it.

    Attributes:
        name: str. Where the clip comes from, such as the name of its file, or
            "clip 17 of test" if the data set has no names.
        clip: float32 array, what the model gets. Of a long recording, the
            window that decides most.
        shares: What it says of the labels, the likeliest first.
    """

    name: str
    clip: np.ndarray
    shares: tuple[Share, ...]


@dataclasses.dataclass(frozen=True)
class Examples:
    """Examples of what a classifier gets right and wrong.

    Attributes:
        split: str. The split that they are from.
        right: The examples whose labels are right.
        wrong: The examples with a wrong label.
        num_right: int. How many of the clips that were judged are right.
        num_judged: int. The number of clips that were judged.
        num_clips: int. The number of clips in the split.
        remark: str. What else is to be known of the clips, or "".
    """

    split: str
    right: tuple[Example, ...]
    wrong: tuple[Example, ...]
    num_right: int
    num_judged: int
    num_clips: int
    remark: str = ""


def choose(
    classifier: TrainedClassifier,
    audio_data: data.AudioData,
    count: int = 4,
) -> Examples:
    """Chooses examples from the test split, or else from the validation split.

    Clips are judged as the evaluation judges them. Of those that are right,
    the ones with the smallest error are chosen, and of those that are wrong,
    the ones with the largest, each with other labels as far as possible. The
    error is the largest difference between a probability and 1 or 0.

    Args:
        classifier: The classifier.
        audio_data: The data set. Its labels must be those of the classifier.
        count: int. How many examples of each kind are chosen at most. Defaults
            to 4.

    Returns:
        The examples.

    Raises:
        ValueError: If there is no such split, or the labels or the sample rate
            are not those of the classifier.
    """
    check_sample_rate(classifier.model, audio_data.sample_rate)
    audio_data = audio_data.relabelled(
        classifier.labels, is_multilabel=classifier.thresholds is not None
    )
    split = next(
        (s for s in ("test", "validation") if s in audio_data.clips), ""
    )
    if not split:
        raise ValueError(
            "`audio_data` must have a split test or validation. Received: "
            f"{list(audio_data.clips)}."
        )
    clips = audio_data.clips[split]
    read = clips.reader()
    # The first clips of a split often have one label.
    rng = np.random.default_rng(0)
    judged = rng.permutation(len(clips))[:_MAX_JUDGED]
    probabilities = np.stack(
        list(_probabilities(classifier, (read(i)[0] for i in judged.tolist())))
    )
    true = _true_labels(clips.labels[judged], len(classifier.labels))
    given = _given_labels(classifier, probabilities)
    error = np.abs(probabilities - true).max(axis=1)
    is_right = (true == given).all(axis=1)

    def example(row: int) -> Example:
        index = int(judged[row])
        return Example(
            name=clips.source_of(index) or f"clip {index} of {split}",
            clip=_deciding_clip(classifier, read(index)[0], given[row]),
            shares=_shares(
                classifier.labels, probabilities[row], true[row], given[row]
            ),
        )

    by_error = np.argsort(error, kind="stable")
    right = [i for i in by_error.tolist() if is_right[i]]
    wrong = [i for i in by_error[::-1].tolist() if not is_right[i]]
    return Examples(
        split=split,
        right=tuple(map(example, _of_other_labels(right, true, count))),
        wrong=tuple(map(example, _of_other_labels(wrong, true, count))),
        num_right=int(is_right.sum()),
        num_judged=len(judged),
        num_clips=len(clips),
    )


def _evaluated(
    classifier: TrainedClassifier, samples: np.ndarray
) -> list[np.ndarray]:
    """Returns the clips that the evaluation makes of a recording."""
    if classifier.evaluation_hop is None:
        return [data.transform(samples, classifier.transform_fns)]
    return [window.clip for window in classifier.windows(samples)]


def _probabilities(
    classifier: TrainedClassifier, recordings: Iterator[np.ndarray]
) -> Iterator[np.ndarray]:
    """Yields the probabilities of each recording."""
    clips = (
        (number, clip)
        for number, samples in enumerate(recordings)
        for clip in _evaluated(classifier, samples)
    )
    rows = in_batches(classifier.probabilities, clips)
    for _, group in itertools.groupby(rows, lambda one: one[0]):
        yield np.mean([row for _, row in group], axis=0)


def _true_labels(labels: np.ndarray, num_labels: int) -> np.ndarray:
    """Returns whether each clip has each label: (clips, labels)."""
    if labels.ndim == 2:
        return labels.astype(bool)
    return labels[:, None] == np.arange(num_labels)


def _given_labels(
    classifier: TrainedClassifier, probabilities: np.ndarray
) -> np.ndarray:
    """Returns whether each clip is given each label: (clips, labels)."""
    if classifier.thresholds is not None:
        return probabilities >= np.asarray(classifier.thresholds)
    likeliest = probabilities.argmax(axis=1)
    return likeliest[:, None] == np.arange(probabilities.shape[1])


def _deciding_clip(
    classifier: TrainedClassifier, samples: np.ndarray, given: np.ndarray
) -> np.ndarray:
    """Returns the clip in which the given labels are likeliest."""
    clips = _evaluated(classifier, samples)
    if len(clips) == 1:
        return clips[0]
    rows = in_batches(classifier.probabilities, ((None, one) for one in clips))
    found = np.stack([row for _, row in rows])
    which = found[:, given] if given.any() else found
    return clips[which.max(axis=1).argmax()]


def _shares(
    labels: Sequence[str],
    probabilities: np.ndarray,
    true: np.ndarray,
    given: np.ndarray,
) -> tuple[Share, ...]:
    order = np.argsort(-probabilities, kind="stable")
    told = true | given
    told[order[:_NUM_LIKELIEST]] = True
    return tuple(
        Share(labels[i], float(probabilities[i]), bool(true[i]), bool(given[i]))
        for i in order.tolist()
        if told[i]
    )


def _of_other_labels(
    rows: list[int], true: np.ndarray, count: int
) -> list[int]:
    """Returns the first rows, those of labels that are not there yet first."""
    seen: set[bytes] = set()
    first: list[int] = []
    rest: list[int] = []
    for row in rows:
        labels = true[row].tobytes()
        (rest if labels in seen else first).append(row)
        seen.add(labels)
    return [*first, *rest][:count]
