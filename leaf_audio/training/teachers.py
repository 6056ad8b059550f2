"""What a run learns from besides labels: the outputs of another model.

A teacher says something of each training recording as a whole: logits of the
labels, or an embedding. This is computed or read once, before training. All
crops and augmented versions of a recording have the same target.
"""

from __future__ import annotations

import abc
import collections
import hashlib
import os
import pathlib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from leaf_audio.common.checks import (
    check_choice,
    check_path,
    check_positive,
)
from leaf_audio.common.listing import listed
from leaf_audio.common.tracing import in_own_thread
from leaf_audio.training.metrics import log_probabilities
from leaf_audio.training.thresholds import sigmoid

if TYPE_CHECKING:
    from leaf_audio.data import AudioData

OUTPUTS = ("logits", "embeddings")
_DISTANCES = ("squared", "cosine")
_TEMPERATURE = 2.0


class Teacher(abc.ABC):
    """The base class of teachers.

    A subclass writes `check`, `file` and `outputs_of`.

    Args:
        path: str or path. Where the outputs come from.
        outputs: `"logits"` or `"embeddings"`. What the student learns to
            predict. Defaults to "logits".
        weight: float, above 0 and at most 1. The share of the teacher in the
            loss. The labels have the rest. Defaults to 0.5.
        temperature: float above 0, or None. Divides the logits of teacher and
            student. Must be None with embeddings. None stands for 2 with
            logits. Defaults to None.
        distance: `"squared"`, `"cosine"` or None. How embeddings are compared.
            Must be None with logits. None stands for "squared" with
            embeddings. Defaults to None.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        outputs: str = "logits",
        weight: float = 0.5,
        temperature: float | None = None,
        distance: str | None = None,
    ):
        self.path = check_path("path", path)
        self.outputs = check_choice("outputs", outputs, OUTPUTS)
        self.weight = check_positive("weight", weight)
        if weight > 1:
            raise ValueError(
                "`weight` must be a number above 0 and at most 1. "
                f"Received: weight={weight!r}."
            )
        if temperature is not None:
            check_positive("temperature", temperature)
            self._check_none("temperature", temperature, "logits")
        elif self.outputs == "logits":
            temperature = _TEMPERATURE
        self.temperature = temperature
        if distance is not None:
            distance = check_choice("distance", distance, _DISTANCES)
            self._check_none("distance", distance, "embeddings")
        elif self.outputs == "embeddings":
            distance = "squared"
        self.distance = distance

    def _check_none(self, name: str, value: Any, needed: str) -> None:
        if self.outputs != needed:
            raise ValueError(
                f"`{name}` must be None unless outputs={needed!r}. Received: "
                f"{name}={value!r}, outputs={self.outputs!r}."
            )

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments by which two runs are compared.

        The path is none of them: `fingerprint` tells whether it is the same
        teacher, which may have been moved.
        """
        names = ("outputs", "weight", "temperature", "distance")
        return {name: getattr(self, name) for name in names}

    @abc.abstractmethod
    def check(self) -> None:
        """Raises a ValueError if there is no such teacher."""

    @property
    @abc.abstractmethod
    def file(self) -> pathlib.Path:
        """The file that decides what the teacher says."""

    @abc.abstractmethod
    def outputs_of(self, audio_data: AudioData) -> np.ndarray:
        """Returns what the teacher says of the training clips.

        Args:
            audio_data: The data set.

        Returns:
            A float array of shape (training clips, size): logits in the order
            of the labels, or embeddings.

        Raises:
            ValueError: If it says nothing of a clip, or of a label.
        """

    def fingerprint(self) -> str:
        """Returns a hash of what the teacher is."""
        return hashlib.sha256(self.file.read_bytes()).hexdigest()[:16]

    def targets(self, audio_data: AudioData) -> np.ndarray:
        """Returns what the student is to learn of each training clip.

        These are probabilities at the temperature, or embeddings whose channels
        have a mean of 0 and a standard deviation of 1. Embeddings of any scale
        then give a loss of about 1 at the beginning.

        Args:
            audio_data: The data set.

        Returns:
            A float32 array of shape (training clips, size).

        Raises:
            ValueError: If the teacher does not fit the data.
        """
        # So that a model that is loaded does not change how Keras names the
        # layers of the student, nor is it distributed.
        said = np.asarray(in_own_thread(self.outputs_of, audio_data), "float64")
        if not np.isfinite(said).all():
            raise ValueError(
                f"`teacher` must say what is finite. Received: {self.path}, "
                f"whose {self.outputs} are not."
            )
        if self.temperature is None:
            spread = said.std(axis=0)
            # Sums of equal numbers are rounded.
            spread[spread <= 1e-9 * np.abs(said).max(axis=0)] = 1
            return ((said - said.mean(axis=0)) / spread).astype(np.float32)
        logits = said / self.temperature
        if audio_data.is_multilabel:
            return sigmoid(logits).astype(np.float32)
        return np.exp(log_probabilities(logits)).astype(np.float32)


class NpzTeacher(Teacher):
    """A teacher whose outputs are in a file of NumPy, by names of recordings.

    `example.embed` writes such a file of embeddings. Its arrays are `files`,
    the names of the recordings; `logits` or `embeddings`, of shape
    (recordings, size); and with logits optionally `labels`, the name of each
    column. Without `labels`, the columns are in the order of the data set's
    labels. Names are relative to the folder of recordings, or have all the
    same folder in front. The part of a file that an `index.csv` lists is called
    as in messages: "a.wav, 1.5 s to 3 s".

    Args:
        path: str or path. The `.npz` file.
        outputs: `"logits"` or `"embeddings"`; see `Teacher`. Defaults to
            "logits".
        weight: float, above 0 and at most 1; see `Teacher`. Defaults to 0.5.
        temperature: float above 0, or None; see `Teacher`. Defaults to None,
            which stands for 2 with logits.
        distance: `"squared"`, `"cosine"` or None; see `Teacher`. Defaults to
            None, which stands for "squared" with embeddings.

    Raises:
        ValueError: If an argument is out of range.

    Example:

    ```python
    teacher = training.NpzTeacher("embeddings.npz", outputs="embeddings")
    config = training.TrainingConfig("runs/student", teacher=teacher)
    ```
    """

    # The fingerprint of the file, and what was read of it.
    _known: tuple[str | None, Any] | None = None

    @property
    def file(self) -> pathlib.Path:
        """The `.npz` file."""
        return pathlib.Path(self.path).expanduser()

    def check(self) -> None:
        """Raises a ValueError if the file lacks an array."""
        _ = self._arrays

    def outputs_of(self, audio_data: AudioData) -> np.ndarray:
        """Returns the rows of the training clips; see `Teacher`."""
        files, rows, labels = self._arrays
        if labels is not None:
            rows = rows[:, columns(labels, audio_data, self.path)]
        num_labels = len(audio_data.label_names)
        if self.outputs == "logits" and rows.shape[1] != num_labels:
            raise ValueError(
                f"`teacher` must have logits of the {num_labels} labels of the "
                f"data, in their order, or name them by an array `labels`. "
                f"Received: {self.path} with {rows.shape[1]} columns."
            )
        names = audio_data.clips["train"].names
        if names is None:
            raise ValueError(
                "`dataset` must have recordings with names for a teacher in a "
                "file, as an audio_folder has. Received: dataset="
                f"{audio_data.name!r}."
            )
        place = {name: i for i, name in enumerate(files)}
        fronts = _fronts(files, names)
        if len(fronts) > 1:
            raise ValueError(
                "`teacher` must name each recording once. Received: "
                f"{self.path}, which has recordings of these names in "
                f"{listed(map(repr, fronts), 3)}."
            )
        front = fronts[0]
        missing = [name for name in names if front + name not in place]
        if missing:
            raise ValueError(
                f"`teacher` must say something of all {len(names)} training "
                f"recordings. Received: {self.path}, which lacks "
                f"{len(missing)}: {listed(map(repr, missing), 3)}. Its names "
                f"are such as {files[0]!r}."
            )
        return rows[[place[front + name] for name in names]]

    @property
    def _arrays(self) -> tuple[list[str], np.ndarray, list[str] | None]:
        """The names, the outputs, and the names of their columns.

        They are read once for each content of the file.
        """
        content = self.fingerprint() if self.file.is_file() else None
        if self._known is None or content != self._known[0]:
            self._known = content, self._read()
        return self._known[1]

    def _read(self) -> tuple[list[str], np.ndarray, list[str] | None]:
        try:
            with np.load(self.file, allow_pickle=False) as archive:
                found = dict(archive)
        except MemoryError:
            raise
        # Any byte may be damaged, and what reads it raises an error of any
        # kind.
        except Exception as error:
            raise self._error(f"which cannot be read: {error}") from error
        for name in ("files", self.outputs):
            if name not in found:
                raise self._error(f"with the arrays {sorted(found)}")
        rows, files = found[self.outputs], found["files"]
        if (
            rows.ndim != 2
            or files.shape != rows.shape[:1]
            or not rows.size
            or rows.dtype.kind not in "fiu"
            or files.dtype.kind != "U"
        ):
            raise self._error(
                f"with `files` of shape {files.shape} and {files.dtype}, and "
                f"`{self.outputs}` of {rows.shape} and {rows.dtype}"
            )
        names = [os.path.normpath(one).replace(os.sep, "/") for one in files]
        if twice := _twice(names):
            raise self._error(f"which names {twice[0]!r} twice")
        labels = None
        if self.outputs == "logits" and "labels" in found:
            labels = found["labels"].tolist()
            if found["labels"].shape != rows.shape[1:]:
                raise self._error(
                    f"with `labels` of shape {found['labels'].shape} and "
                    f"`logits` of {rows.shape}"
                )
            if twice := _twice(labels):
                raise self._error(f"whose `labels` have {twice[0]!r} twice")
        return names, rows, labels

    def _error(self, problem: str) -> ValueError:
        return ValueError(
            "`path` of a NpzTeacher must be a .npz file with the names of "
            f"recordings as `files` and a row of numbers for each as "
            f"`{self.outputs}`. Received: path={str(self.path)!r}, {problem}."
        )


def columns(
    given: Sequence[str], audio_data: AudioData, path: str | os.PathLike
) -> list[int]:
    """Returns where the labels of a data set are among those of a teacher.

    Args:
        given: The labels of the teacher. It may have more.
        audio_data: The data set.
        path: What to call the teacher.

    Raises:
        ValueError: If the teacher lacks a label.
    """
    lacking = [one for one in audio_data.label_names if one not in given]
    if lacking:
        raise ValueError(
            f"`teacher` must know all {len(audio_data.label_names)} labels of "
            f"the data. Received: {path}, which lacks {len(lacking)}: "
            f"{listed(map(repr, lacking), 3)}. With outputs='embeddings', "
            "labels may be others."
        )
    return [list(given).index(one) for one in audio_data.label_names]


def _twice(names: Iterable[str]) -> list[str]:
    """Returns the names that occur more than once."""
    return [k for k, n in collections.Counter(names).items() if n > 1]


def _fronts(files: Sequence[str], names: Sequence[str]) -> list[str]:
    """Finds what names in a file have in front of those of recordings.

    Several fronts are found where each goes with as many recordings.
    """
    wanted = set(names)
    found: collections.Counter[str] = collections.Counter()
    for file in files:
        start = 0
        while True:
            if file[start:] in wanted:
                found[file[:start]] += 1
            start = file.find("/", start) + 1
            if not start:
                break
    most = max(found.values(), default=0)
    return [front for front, n in found.items() if n == most] or [""]
