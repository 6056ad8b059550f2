"""A classifier from a few labelled recordings, on the embeddings of another.

The encoder of a trained classifier stays as it is. A logistic regression on its
embeddings takes the place of its last layer, which takes seconds. It learns
from the windows of a recording, since it will judge windows: the probabilities
of a recording are the means over them.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import pathlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from sklearn import linear_model, model_selection, neighbors, pipeline
from sklearn.preprocessing import StandardScaler

from leaf_audio import models
from leaf_audio.common.checks import (
    check_choice,
    check_positive,
    check_seed,
    check_share,
)
from leaf_audio.common.threads import one_thread
from leaf_audio.data.recordings import list_labelled
from leaf_audio.models.contrastive import Contrastive
from leaf_audio.serving.embeddings import embed
from leaf_audio.serving.trained import TrainedClassifier
from leaf_audio.training import intervals

METHODS = ("logistic", "knn")
# The most parts for cross-validation.
_FOLDS = 5
_NEIGHBOURS = 5
# The tried strengths of the L2 penalty, as their inverses.
_INVERSE_PENALTIES = np.logspace(-4, 2, 13)
# So that one recording does not decide about the strength.
_LEAST_PROBABILITY = 1e-4


@dataclasses.dataclass(frozen=True)
class Labelled:
    """The embeddings of labelled recordings.

    Attributes:
        files: Their names.
        windows: For each recording, the embeddings of its windows, a float32
            array of shape (windows, channels).
        targets: Integers of shape (recordings,), positions in `labels`.
        labels: The names of the labels, sorted.
        groups: Integers of shape (recordings,). Recordings that belong
            together, such as those of one speaker, have the same.
        is_test: Booleans of shape (recordings,). Which recordings are of the
            folder's own test split; none if it has no splits.
        remarks: What the folder holds that is not used, in sentences.
    """

    files: list[str]
    windows: Sequence[np.ndarray]
    targets: np.ndarray
    labels: list[str]
    groups: np.ndarray
    is_test: np.ndarray
    remarks: Sequence[str] = ()

    @property
    def means(self) -> np.ndarray:
        """The mean embedding of each recording, (recordings, channels)."""
        return np.stack([rows.mean(axis=0) for rows in self.windows])


@dataclasses.dataclass(frozen=True)
class Scores:
    """How often a classifier is right, with 95 % intervals of Wilson.

    Attributes:
        how: str. What was scored, such as "cross-validation, 5 parts".
        accuracy: The share of right answers, and the ends of its interval.
        precision: For each label, of the recordings that were given it the
            share that has it, with its interval. NaN where none was.
        recall: For each label, of the recordings that have it the share that
            was given it, with its interval.
        counts: For each label, the number of scored recordings that have it.
    """

    how: str
    accuracy: tuple[float, float, float]
    precision: dict[str, tuple[float, float, float]]
    recall: dict[str, tuple[float, float, float]]
    counts: dict[str, int]


def read_labelled(
    classifier: TrainedClassifier,
    folder: str,
    on_unusable: Callable[[str, ValueError], None] | None = None,
) -> Labelled:
    """Embeds the labelled recordings of a folder.

    Args:
        classifier: The classifier that embeds them.
        folder: A folder such as `audio_folder.path`: `<label>/*`,
            `<split>/<label>/*`, or with an index.csv.
        on_unusable: Function that is called with the name of a recording that
            cannot be read and the error. None raises the error. Defaults to
            None.

    Returns:
        The `Labelled` recordings that can be read.

    Raises:
        ValueError: If the folder cannot be understood, has fewer than two
            labels, recordings with several labels, or parts of files.
    """
    folder = os.path.expanduser(folder)
    listing = list_labelled(folder)
    known = {
        str(pathlib.Path(folder, one.file)): one for one in listing.recordings
    }
    found = list(embed(classifier, list(known), on_unusable=on_unusable))
    entries = [known[one.recording] for one in found]
    names = [entry.labels[0] for entry in entries]
    labels, targets = np.unique(names, return_inverse=True)
    if len(labels) < 2:
        raise ValueError(
            "`recordings` must have at least two labels of which a recording "
            f"can be read. Received: recordings={folder!r} with "
            f"{list(map(str, labels))}."
        )
    own = [entry.group or entry.file for entry in entries]
    files = [one.recording for one in found]
    return Labelled(
        files=files,
        windows=[one.rows for one in found],
        targets=targets,
        labels=[str(label) for label in labels],
        groups=np.unique(own, return_inverse=True)[1],
        is_test=np.array(
            [one.split == "test" and not listing.is_drawn for one in entries]
        ),
        remarks=(
            *listing.warnings,
            *_describe_copies(files, targets),
        ),
    )


def _describe_copies(files: Sequence[str], targets: np.ndarray) -> list[str]:
    """Says which recordings are copies of others."""
    first: dict[bytes, int] = {}
    copies = []
    for i, file in enumerate(files):
        content = hashlib.sha256(pathlib.Path(file).read_bytes()).digest()
        if first.setdefault(content, i) != i:
            copies.append((i, first[content]))
    if not copies:
        return []
    differing = [(i, j) for i, j in copies if targets[i] != targets[j]]
    # A second label is the worse fault, so that it is the example.
    i, j = (differing or copies)[0]
    count = (
        "1 recording is a copy"
        if len(copies) == 1
        else (f"{len(copies)} recordings are copies")
    )
    return [
        f"{count} of another one, {len(differing)} with another label, such as "
        f"{files[i]!r} (first {files[j]!r}). Remove copies: with them, scores "
        "are too good, or too bad where labels differ."
    ]


def make_estimator(
    targets: np.ndarray,
    groups: np.ndarray,
    method: str,
    seed: int,
) -> Any:
    """Makes an untrained classifier of embeddings, of scikit-learn.

    Args:
        targets: The labels that it will be trained with, as integers.
        groups: Integers. Recordings that belong together have the same.
        method: "logistic" for a logistic regression with an L2 penalty, whose
            strength is chosen by cross-validation over groups, or "knn" for
            the five nearest neighbours by cosine distance.
        seed: int. Decides which recordings are validated together.

    Raises:
        ValueError: If `method` is unknown.
    """
    if check_choice("method", method, METHODS) == "knn":
        count = min(_NEIGHBOURS, len(targets))
        nearest = neighbors.KNeighborsClassifier(count, metric="cosine")
        return pipeline.make_pipeline(StandardScaler(), nearest)
    parts = _parts(targets, groups, seed)
    if parts:
        logistic = model_selection.GridSearchCV(
            linear_model.LogisticRegression(max_iter=2000),
            {"C": _INVERSE_PENALTIES},
            scoring=_mean_log_probability,
            cv=parts,
        )
    else:
        # No strength can be chosen by what is left out.
        logistic = linear_model.LogisticRegression(C=0.1, max_iter=2000)
    return pipeline.make_pipeline(StandardScaler(), logistic)


def _parts(
    targets: np.ndarray, groups: np.ndarray, seed: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Cuts recordings into training and validation, several times.

    Recordings of one group stay together. A cut that leaves only one label for
    training is left out.
    """
    folds = min(_FOLDS, max(_groups_of_each(targets, groups).values()))
    if folds < 2:
        return []
    return [
        (train, test)
        for train, test in _split(targets, groups, folds, seed)
        if len(test) and len(np.unique(targets[train])) > 1
    ]


def _groups_of_each(targets: np.ndarray, groups: np.ndarray) -> dict[int, int]:
    """Returns for each label how many groups have it."""
    return {
        int(label): len(np.unique(groups[targets == label]))
        for label in np.unique(targets)
    }


def _split(
    targets: np.ndarray, groups: np.ndarray, folds: int, seed: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Cuts recordings for a cross-validation, in which groups stay together."""
    splitter = model_selection.StratifiedGroupKFold(
        folds, shuffle=True, random_state=seed
    )
    with warnings.catch_warnings():
        # Of a label with fewer groups than parts.
        warnings.simplefilter("ignore", UserWarning)
        return list(splitter.split(targets, targets, groups))


def _mean_log_probability(
    estimator: Any, embeddings: np.ndarray, targets: np.ndarray
) -> float:
    """Scores an estimator, also on labels that it has not been trained with."""
    shares = estimator.predict_proba(embeddings)
    known = {label: k for k, label in enumerate(estimator.classes_)}
    right = [
        row[known[target]] if target in known else 0.0
        for row, target in zip(shares, targets, strict=True)
    ]
    return float(np.log(np.maximum(right, _LEAST_PROBABILITY)).mean())


def score(
    labelled: Labelled,
    method: str = "logistic",
    fraction: float = 1.0,
    seed: int = 0,
) -> Scores:
    """Scores a classifier of embeddings on recordings that it has not seen.

    If the folder has a test split, the others train and the test split is
    scored. Otherwise it is a cross-validation, in which recordings of one group
    stay together.

    Args:
        labelled: The recordings.
        method: "logistic" or "knn"; see `make_estimator`. Defaults to
            "logistic".
        fraction: float, above 0 to 1. The share of the training recordings of
            each label that is used, at least one. Needs a test split if it is
            below 1. Defaults to 1.
        seed: int. Decides which recordings are used, and the parts of a
            cross-validation. Defaults to 0.

    Returns:
        The `Scores`.

    Raises:
        ValueError: If an argument is out of range, a label has only one group
            of recordings, or groups share labels in such a way that a part of
            the cross-validation has all recordings of a label.
    """
    method = check_choice("method", method, METHODS)
    check_seed("seed", seed)
    check_share("fraction", check_positive("fraction", fraction))
    y = labelled.targets
    if labelled.is_test.any():
        train = np.flatnonzero(~labelled.is_test)
        train = _some_of_each(train, y[train], fraction, seed)
        parts = [(train, np.flatnonzero(labelled.is_test))]
        how = f"test split, {len(train)} training recordings"
    elif fraction != 1:
        raise ValueError(
            "`fraction` must be 1 unless the folder has a test split. "
            f"Received: fraction={fraction!r}."
        )
    else:
        folds = min(_FOLDS, _fewest_groups(labelled))
        parts = _split(y, labelled.groups, folds, seed)
        how = f"cross-validation, {folds} parts"
    given = np.empty_like(y)
    for train, test in parts:
        _check_all_labels(labelled, train, how)
        estimator = _fit(labelled, train, method, seed)
        given[test] = _labels_given(estimator, labelled, test, method)
    scored = np.sort(np.concatenate([test for _, test in parts]))
    return _scores(how, labelled.labels, y[scored], given[scored])


def _check_all_labels(labelled: Labelled, train: np.ndarray, how: str) -> None:
    """Raises a ValueError if the recordings that train lack a label."""
    targets = labelled.targets[train]
    missing = set(labelled.targets.tolist()) - set(targets.tolist())
    if missing:
        names = [labelled.labels[one] for one in sorted(missing)]
        raise ValueError(
            "`recordings` must have recordings of each label to train with, "
            "also when those of some groups, such as speakers, are left out "
            f"for scores. Received: none left of {names} ({how}). More groups "
            "or another `seed` may help."
        )


def _fit(
    labelled: Labelled, train: np.ndarray, method: str, seed: int
) -> pipeline.Pipeline:
    """Trains a classifier on some of the recordings.

    The strength of the penalty is chosen on the mean embeddings, which are
    fewer. A logistic regression with it is then trained on the windows. Each
    recording has the same weight, whatever its length.
    """
    targets = labelled.targets[train]
    estimator = make_estimator(targets, labelled.groups[train], method, seed)
    with one_thread():
        estimator.fit(labelled.means[train], targets)
        if method == "knn":
            return estimator
        chosen = getattr(estimator[-1], "best_estimator_", estimator[-1])
        logistic = linear_model.LogisticRegression(C=chosen.C, max_iter=2000)
        counts = [len(labelled.windows[one]) for one in train]
        weights = np.repeat(1 / np.array(counts), counts)
        return pipeline.make_pipeline(StandardScaler(), logistic).fit(
            _rows(labelled, train),
            np.repeat(targets, counts),
            standardscaler__sample_weight=weights,
            logisticregression__sample_weight=weights,
        )


def _labels_given(
    estimator: pipeline.Pipeline,
    labelled: Labelled,
    test: np.ndarray,
    method: str,
) -> np.ndarray:
    """Returns the label that a classifier gives each of some recordings."""
    if method == "knn":
        return estimator.predict(labelled.means[test])
    shares = estimator.predict_proba(_rows(labelled, test))
    ends = np.cumsum([len(labelled.windows[one]) for one in test])
    means = [part.mean(axis=0) for part in np.split(shares, ends[:-1])]
    return estimator.classes_[np.argmax(means, axis=1)]


def _rows(labelled: Labelled, chosen: np.ndarray) -> np.ndarray:
    """Returns the windows of some recordings, one recording after the other."""
    return np.concatenate([labelled.windows[one] for one in chosen])


def _fewest_groups(labelled: Labelled) -> int:
    """Returns how many groups the label with the fewest has, at least 2."""
    numbers = _groups_of_each(labelled.targets, labelled.groups)
    fewest = min(numbers, key=numbers.__getitem__)
    if numbers[fewest] < 2:
        raise ValueError(
            "`recordings` must have two recordings of each label, which do not "
            "belong together, for scores. Received: one of "
            f"{labelled.labels[fewest]!r}."
        )
    return numbers[fewest]


def _some_of_each(
    train: np.ndarray, targets: np.ndarray, fraction: float, seed: int
) -> np.ndarray:
    """Draws a share of the recordings of each label."""
    rng = np.random.default_rng(seed)
    chosen = []
    for target in np.unique(targets):
        own = rng.permutation(train[targets == target])
        chosen.append(own[: max(1, round(fraction * len(own)))])
    return np.sort(np.concatenate(chosen))


def _scores(
    how: str, labels: Sequence[str], targets: np.ndarray, given: np.ndarray
) -> Scores:
    right = targets == given
    precision, recall, counts = {}, {}, {}
    for k, label in enumerate(labels):
        hits = int((right & (targets == k)).sum())
        precision[label] = _share(hits, int((given == k).sum()))
        counts[label] = int((targets == k).sum())
        recall[label] = _share(hits, counts[label])
    accuracy = _share(int(right.sum()), len(right))
    return Scores(how, accuracy, precision, recall, counts)


def _share(hits: int, count: int) -> tuple[float, float, float]:
    """Returns a share and the ends of its 95 % interval."""
    if not count:
        return (np.nan, np.nan, np.nan)
    return hits / count, *intervals.of_share(hits, count)


def with_labels(
    classifier: TrainedClassifier, labelled: Labelled, seed: int = 0
) -> TrainedClassifier:
    """Gives a classifier other labels, by a logistic regression.

    Args:
        classifier: The classifier whose embeddings `labelled` has. It stays as
            it is.
        labelled: The recordings. All of them train.
        seed: int; see `make_estimator`. Defaults to 0.

    Returns:
        A new `TrainedClassifier`, with the same frontend and encoder.

    Raises:
        ValueError: If the model is no `models.AudioClassifier`.
    """
    if not isinstance(classifier.model, (models.AudioClassifier, Contrastive)):
        raise ValueError(
            "`model` must be a models.AudioClassifier to get other labels. "
            f"Received: {type(classifier.model).__name__}."
        )
    everything = np.arange(len(labelled.targets))
    scaler, logistic = _fit(labelled, everything, "logistic", seed)
    weights, bias = logistic.coef_, logistic.intercept_
    if len(labelled.labels) == 2:
        # scikit-learn has one logit for two labels, and Keras two.
        weights = np.concatenate([-weights, weights]) / 2
        bias = np.concatenate([-bias, bias]) / 2
    kernel = (weights / scaler.scale_).T
    bias = bias - scaler.mean_ @ kernel
    counts = np.bincount(labelled.targets).tolist()
    clips: Mapping[str, int] = dict(zip(labelled.labels, counts, strict=True))
    return dataclasses.replace(
        classifier,
        model=classifier.model.with_head(kernel, bias),
        labels=labelled.labels,
        thresholds=None,
        card={"encoder of": dict(classifier.card), "clips": clips},
    )
