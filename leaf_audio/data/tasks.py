"""Joins several data sets into one, for a model with a task for each.

The labels of all tasks stand in one list, such as "commands/yes" and
"sounds/dog", those of a task next to each other. So a label says to which task
a clip belongs, and no other part of the data has to know of tasks.

`TaskOrder` mixes the tasks in training. Which clip is at which position depends
on the seed only, so that a run can go on from any step.
"""

import fractions
import functools
import hashlib
import inspect
import math
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from leaf_audio.common.checks import (
    check_bool,
    check_path,
    check_positive,
    check_unless_none,
)
from leaf_audio.data import clip_store, decoding, shared_audio
from leaf_audio.data.balance import BalancedOrder
from leaf_audio.data.clips import (
    SPLITS,
    AudioData,
    Clips,
    DataWarning,
    Task,
)
from leaf_audio.data.passes import Passes
from leaf_audio.data.random_keys import generator
from leaf_audio.data.user_files import DEFAULT_SAMPLE_RATE

_NAME = re.compile(r"\w[\w-]*", re.ASCII)


def tasks(
    sets: Mapping[str, Any] | None = None,
    weights: Mapping[str, float] | None = None,
    data_dir: str | None = None,
    fallback_sample_rate: int = DEFAULT_SAMPLE_RATE,
    for_training: bool = True,
) -> AudioData:
    """Prepares several data sets, and joins them.

    Args:
        sets: Mapping from the name of each task to its data set: the name of a
            TensorFlow Datasets set, or a reader such as
            `functools.partial(audio_folder, path="clips")`, in gin
            `@commands/audio_folder`, without parentheses. A name consists of
            letters, digits, "_" and "-". Tasks come in the order of their
            names. Must be given.
        weights: Mapping from the name of each task to a number above 0, or
            None. The numbers of training clips of two tasks are in proportion
            to their weights, whatever the sizes of the data sets. None stands
            for equal weights. Default: None.
        data_dir: str or None. The folder that holds all data sets.
            Default: None.
        fallback_sample_rate: int, in Hz. The rate that the caller of `load`
            asked for. Default: 16000.
        for_training: bool. Whether to require what training needs of each data
            set. Default: True.

    Returns:
        An `AudioData` with `tasks`. Its labels are named `task/label`.

    Raises:
        ValueError: An argument or a data set is not valid, or the data sets do
            not fit each other: they must have one sample rate, the same splits
            but for validation, and one label for each clip.
    """
    check_unless_none(check_path, data_dir=data_dir)
    check_bool("for_training", for_training)
    given = _check_sets(sets)
    shares = _check_weights(weights, list(given))
    decoding.check_sample_rate(
        "tasks.fallback_sample_rate", fallback_sample_rate
    )
    found = {
        name: _read(one, data_dir, fallback_sample_rate, for_training)
        for name, one in given.items()
    }
    _check_fit(given, found)
    splits = [
        split
        for split in SPLITS
        if any(split in one.clips for one in found.values())
    ]
    sizes = [len(one.label_names) for one in found.values()]
    firsts = dict(zip(found, np.cumsum([0, *sizes]).tolist(), strict=False))
    joined: dict[str, Clips] = {
        split: JoinedClips(
            {
                firsts[name]: one.clips[split]
                for name, one in found.items()
                if split in one.clips
            }
        )
        for split in splits
    }
    of_tasks = tuple(
        Task(name, one.name, one.label_names, shares[name])
        for name, one in found.items()
    )
    shared = _describe_shared(of_tasks, joined)
    for sentence in shared:
        warnings.warn(sentence, DataWarning, stacklevel=2)
    return AudioData(
        name="tasks",
        label_names=tuple(
            f"{name}/{label}"
            for name, one in found.items()
            for label in one.label_names
        ),
        sample_rate=next(iter(found.values())).sample_rate,
        clips=joined,
        skipped={
            f"{name}: {file}": reason
            for name, one in found.items()
            for file, reason in one.skipped.items()
        },
        fingerprint=_fingerprint(found),
        path=", ".join(one.path for one in found.values()),
        warnings=(
            *(
                f"{name}: {sentence}"
                for name, one in found.items()
                for sentence in (*one.warnings, *_without_split(one, splits))
            ),
            *shared,
        ),
        tasks=of_tasks,
    )


def _check_sets(sets: Any) -> Mapping[str, Any]:
    if isinstance(sets, Mapping):
        for name, one in sets.items():
            if isinstance(one, AudioData):
                raise ValueError(
                    "`sets` must have readers, in gin references without "
                    "parentheses such as @commands/audio_folder. Received: "
                    f"sets with what a reader returned for {name!r}."
                )
    is_right = (
        isinstance(sets, Mapping)
        and len(sets) > 0
        and all(isinstance(n, str) and _NAME.fullmatch(n) for n in sets)
        and all(isinstance(one, str) or callable(one) for one in sets.values())
    )
    if not is_right:
        raise ValueError(
            "`sets` must be a dictionary from names of tasks, of letters, "
            "digits, '_' and '-', to names of TensorFlow Datasets or readers, "
            "in gin @commands/audio_folder without parentheses. Received: "
            f"sets={sets!r}."
        )
    for name in sets:
        for other in sets:
            # Metrics are named <task>_<metric>.
            if other.startswith(f"{name}_"):
                raise ValueError(
                    "`sets` must have names of which none begins with another "
                    "one and '_', since metrics are named so. Received: "
                    f"{name!r} and {other!r}."
                )
    # A config that gin has written has them in this order.
    return dict(sorted(sets.items()))


def _check_weights(weights: Any, names: Sequence[str]) -> dict[str, float]:
    if weights is None:
        return dict.fromkeys(names, 1.0)
    if not isinstance(weights, Mapping) or set(weights) != set(names):
        raise ValueError(
            "`weights` must be a dictionary with a number for each of the "
            f"tasks {list(names)}, or None. Received: weights={weights!r}."
        )
    return {
        name: float(check_positive(f"weights[{name!r}]", weights[name]))
        for name in names
    }


def _read(
    one: str | Callable[..., AudioData],
    data_dir: str | None,
    sample_rate: int,
    for_training: bool,
) -> AudioData:
    if not isinstance(one, str):
        _check_reader(one)
        return one(
            data_dir=data_dir,
            fallback_sample_rate=sample_rate,
            for_training=for_training,
        )
    from leaf_audio.data.tfds_reader import tfds_set

    return tfds_set(
        name=one,
        data_dir=data_dir,
        fallback_sample_rate=sample_rate,
        for_training=for_training,
    )


def _check_reader(reader: Callable) -> None:
    try:
        inspect.signature(reader).bind(
            data_dir=None, fallback_sample_rate=1, for_training=True
        )
    except (TypeError, ValueError) as error:
        raise ValueError(
            "`tasks.sets` must hold names of TFDS sets, or readers that take "
            "data_dir, fallback_sample_rate and for_training by name. "
            f"Received: {reader!r}, which fails for these: {error}."
        ) from error


def _check_fit(sets: Mapping[str, Any], found: Mapping[str, AudioData]) -> None:
    for name, one in found.items():
        if not isinstance(one, AudioData) or one.tasks:
            raise ValueError(
                "`sets` must have readers that return a data set each. "
                f"Received: sets={sets!r}, where that of {name!r} does not."
            )
    several = [name for name, one in found.items() if one.is_multilabel]
    if several:
        raise ValueError(
            "`sets` must have one label for each clip. Received: "
            f"{', '.join(several)}, whose clips may have several."
        )
    splits = {
        name: sorted(set(one.clips) - {"validation"})
        for name, one in found.items()
    }
    for what, values in (
        ("the same splits, but for validation", splits),
        ("one sample rate", {n: one.sample_rate for n, one in found.items()}),
    ):
        if len(set(map(str, values.values()))) > 1:
            listed = ", ".join(f"{n} with {v}" for n, v in values.items())
            raise ValueError(f"`sets` must have {what}. Received: {listed}.")


def _without_split(one: AudioData, splits: Iterable[str]) -> list[str]:
    """Says which splits of the other tasks a data set lacks."""
    return [
        f"There are no clips for {split}, so the choice of the best epoch does "
        "not depend on this task."
        for split in splits
        if split not in one.clips
    ]


def _describe_shared(
    of_tasks: Sequence[Task], joined: Mapping[str, Clips]
) -> list[str]:
    """Says which clips of a task are in another split of another task."""

    def task_of(split: str, i: int) -> int:
        return int(task_numbers(of_tasks, joined[split].labels[i]))

    def name_of(split: str, i: int) -> str:
        name = of_tasks[task_of(split, i)].name
        return f"{name}: {joined[split].source_of(i)}"

    return shared_audio.describe_between_sets(joined, task_of, name_of)


def _fingerprint(found: Mapping[str, AudioData]) -> str:
    lines = [f"{name} {one.fingerprint}" for name, one in found.items()]
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    return clip_store.FINGERPRINT_PREFIX + digest


def check_mixup(joined: Sequence[Task], mixup_alpha: float) -> None:
    """Raises a ValueError if clips of several tasks would be mixed."""
    if joined and mixup_alpha:
        raise ValueError(
            "`mixup_alpha` must be 0 with several tasks, whose clips have no "
            f"labels in common. Received: mixup_alpha={mixup_alpha!r}."
        )


def task_numbers(joined: Sequence[Task], labels: np.ndarray) -> np.ndarray:
    """Returns the number of the task that each label belongs to.

    Args:
        joined: Sequence of `Task`, as `AudioData.tasks`.
        labels: Integer array of shape (clips,).

    Returns:
        An integer array of shape (clips,).
    """
    ends = np.cumsum([len(one.label_names) for one in joined])
    return np.searchsorted(ends, labels, side="right")


def training_order(
    audio_data: AudioData, balance: bool, seed: int
) -> "BalancedOrder | TaskOrder | None":
    """Returns the order of the training clips.

    Args:
        audio_data: The data set, with a training split.
        balance: Whether labels come equally often; with several tasks, the
            labels of each task.
        seed: Determines the order.

    Returns:
        A function from a position to the index of a clip. Or None for each clip
        once in a pass.
    """
    labels = audio_data.clips["train"].labels
    joined = audio_data.tasks
    if not joined:
        return BalancedOrder(labels, seed) if balance else None
    numbers = task_numbers(joined, labels)
    of_tasks = [labels[numbers == i] for i in range(len(joined))]
    return TaskOrder(
        orders=[
            BalancedOrder(own, seed)
            if balance
            else ShuffledOrder(len(own), seed)
            for own in of_tasks
        ],
        counts=[len(own) for own in of_tasks],
        weights=[one.weight for one in joined],
        seed=seed,
    )


class JoinedClips(Clips):
    """The clips of one split of several data sets, one set after the other.

    Args:
        of_labels: Mapping from the first label of a data set, in the list of
            all, to its `Clips`, with one label for each clip.
    """

    def __init__(self, of_labels: Mapping[int, Clips]):
        parts = self.joined = list(of_labels.values())
        ends = np.cumsum([0, *(part.offsets[-1] for part in parts)])
        starts = [
            part.offsets[:-1] + end
            for part, end in zip(parts, ends, strict=False)
        ]
        super().__init__(
            directory=parts[0].directory,
            shards=[shard for part in parts for shard in part.shards],
            part_samples=parts[0].part_samples,
            offsets=np.concatenate([*starts, ends[-1:]]),
            labels=np.concatenate(
                [part.labels + first for first, part in of_labels.items()]
            ),
            groups=_joined_groups(parts),
        )
        self._first_clips = np.cumsum([0, *map(len, parts)])

    @property
    def content(self) -> np.ndarray:
        """A hash of the samples of each clip; see `Clips.content`."""
        return np.concatenate([part.content for part in self.joined])

    @property
    def nbytes(self) -> int:
        """The size in bytes that all clips take in memory."""
        return sum(part.nbytes for part in self.joined)

    def source_of(self, index: int) -> str:
        """Returns where a clip comes from; see `Clips.source_of`."""
        number, own = self._place_of(index)
        return self.joined[number].source_of(own)

    def reader(
        self, in_memory: bool = False
    ) -> Callable[..., tuple[np.ndarray, np.int32 | np.ndarray]]:
        """Returns a function that reads one clip; see `Clips.reader`."""
        readers = [part.reader(in_memory) for part in self.joined]
        return functools.partial(self._read, readers)

    def _read(
        self,
        readers: Sequence[Callable],
        index: int,
        begin: int = 0,
        end: int | None = None,
    ) -> tuple[np.ndarray, np.int32]:
        number, own = self._place_of(index)
        audio, _ = readers[number](own, begin, end)
        return audio, np.int32(self.labels[index])

    def _place_of(self, index: int) -> tuple[int, int]:
        """Returns the data set of a clip, and the number of the clip in it."""
        firsts = self._first_clips
        number = int(np.searchsorted(firsts, index, side="right")) - 1
        return number, index - int(firsts[number])


def _joined_groups(parts: Sequence[Clips]) -> np.ndarray | None:
    if all(part.groups is None for part in parts):
        return None
    groups, first = [], 0
    for part in parts:
        own = np.arange(len(part)) if part.groups is None else part.groups
        _, numbers = np.unique(own, return_inverse=True)
        groups.append(numbers + first)
        first += numbers.max() + 1
    return np.concatenate(groups)


class ShuffledOrder(Passes):
    """All clips once in each pass, in an order of its own.

    Args:
        count: int. The number of clips.
        seed: int. With the number of the pass, it determines the order.
    """

    def __init__(self, count: int, seed: int):
        self._seed = seed
        super().__init__(count)

    def draw(self, number: int) -> np.ndarray:
        """Returns the indices of the clips of a pass; see `Passes`."""
        return _generator(self._seed, 0, number).permutation(self._length)


class TaskOrder(Passes):
    """The clips of several tasks, mixed by weights.

    A pass has about as many positions as there are clips. Of the positions of
    all passes up to any one, each task has its share of the weights, to the
    next whole clip. So a task of a low weight may be absent from a pass. The
    positions of a pass are shuffled. A task that has more positions than clips
    comes several times in a pass; of one that has fewer, the next pass takes
    further clips.

    Args:
        orders: Sequence of functions. For each task, the order of its clips:
            from a position to the index of a clip among those of the task.
        counts: Sequence of int. The number of clips of each task. Those of the
            first task come first, then those of the next.
        weights: Sequence of float. The weight of each task.
        seed: int. With the number of the pass, it determines the order.
    """

    def __init__(
        self,
        orders: Sequence[Callable[[int], int]],
        counts: Sequence[int],
        weights: Sequence[float],
        seed: int,
    ):
        self._orders = orders
        self._firsts = np.cumsum([0, *counts]).tolist()
        self._seed = seed
        # As fractions, so that no pass, however late, is off by rounding.
        exact = [fractions.Fraction(weight) for weight in weights]
        shares = [sum(counts) * one / sum(exact) for one in exact]
        self._unit = math.lcm(*(one.denominator for one in shares))
        self._shares = [int(one * self._unit) for one in shares]
        super().__init__(sum(counts))

    def begin(self, number: int) -> int:
        """Returns the position at which a pass begins; see `Passes`."""
        return sum(self._starts(number))

    def _starts(self, number: int) -> list[int]:
        """Returns how many clips of each task come before a pass."""
        unit = self._unit
        return [
            (2 * number * share + unit) // (2 * unit) for share in self._shares
        ]

    def draw(self, number: int) -> np.ndarray:
        """Returns the indices of the clips of a pass; see `Passes`."""
        indices = [
            first + order(position)
            for order, first, begin, end in zip(
                self._orders,
                self._firsts,
                self._starts(number),
                self._starts(number + 1),
                strict=False,
            )
            for position in range(begin, end)
        ]
        return _generator(self._seed, 1, number).permutation(indices)


def _generator(seed: int, kind: int, number: int) -> np.random.Generator:
    return generator(seed, kind, number, 0, 0, 0, 0)
