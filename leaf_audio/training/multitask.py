"""Several tasks in one run: their loss, their metrics, and a model for each.

The labels of all tasks, and the outputs of the model for them, stand in one
list (`leaf_audio.data.tasks`). The outputs of a task are a block of it. A clip
belongs to the task of its label, and only the outputs of this task count for
it.
"""

from __future__ import annotations

import dataclasses
import functools
import shutil
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import ops

from leaf_audio.common import files
from leaf_audio.common.checks import check_rate
from leaf_audio.data.tasks import task_numbers
from leaf_audio.models import AudioClassifier, MultitaskClassifier
from leaf_audio.training import about, metrics, scoring, tables
from leaf_audio.training.losses import flat_labels
from leaf_audio.training.observer import Observer
from leaf_audio.training.workdir import Workdir

if TYPE_CHECKING:
    from leaf_audio import data
    from leaf_audio.data.clips import Task
    from leaf_audio.training.config import TrainingConfig

# What excludes an output. Infinity would give gradients that are not finite.
_EXCLUDED = -1e9


@keras.saving.register_keras_serializable("leaf_audio")
class TaskCrossentropy(keras.losses.Loss):
    """Computes the cross-entropy of each clip over the labels of its task.

    The targets are labels, integers of shape (batch,) or (batch, 1). The
    outputs are logits of shape (batch, labels). With one task, it is the
    cross-entropy of all logits.

    Args:
        sizes: Sequence of int. The number of labels of each task.
        label_smoothing: float, from 0 to below 1. This share of each target is
            spread evenly over all labels of the task. Defaults to 0.
        name: str. The name of the loss. Defaults to "task_crossentropy".
        **kwargs: Arguments of `keras.losses.Loss`, such as `reduction`.

    Raises:
        ValueError: If `label_smoothing` is out of range.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        label_smoothing: float = 0.0,
        name: str = "task_crossentropy",
        **kwargs: Any,
    ):
        super().__init__(name=name, **kwargs)
        self.sizes = list(sizes)
        self.label_smoothing = check_rate("label_smoothing", label_smoothing)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        labels = flat_labels(y_true)
        own = _own_outputs(labels, self.sizes)
        logarithms = ops.log_softmax(_without_others(y_pred, own))
        own = ops.cast(own, y_pred.dtype)
        targets = ops.one_hot(labels, sum(self.sizes), dtype=y_pred.dtype)
        spread = own / ops.sum(own, axis=-1, keepdims=True)
        share = self.label_smoothing
        targets = (1 - share) * targets + share * spread
        return -ops.sum(targets * logarithms, axis=-1)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "sizes": self.sizes,
            "label_smoothing": self.label_smoothing,
        }


@keras.saving.register_keras_serializable("leaf_audio")
def task_accuracy(targets: Any, logits: Any, sizes: Sequence[int]) -> Any:
    """Tells for each clip whether its label has the highest logit of its task.

    Args:
        targets: Integer tensor of shape (batch,) or (batch, 1).
        logits: Tensor of shape (batch, labels).
        sizes: The number of labels of each task.

    Returns:
        A float tensor of shape (batch,), of zeros and ones.
    """
    labels = flat_labels(targets)
    found = ops.argmax(
        _without_others(logits, _own_outputs(labels, sizes)), axis=-1
    )
    return ops.cast(ops.equal(ops.cast(found, "int32"), labels), "float32")


def _own_outputs(labels: Any, sizes: Sequence[int]) -> Any:
    """Returns which outputs are those of the task of each label.

    Returns:
        A bool tensor of shape (batch, labels).
    """
    blocks = ops.convert_to_tensor(
        np.repeat(np.arange(len(sizes)), sizes), dtype="int32"
    )
    return ops.equal(ops.take(blocks, labels)[:, None], blocks[None])


def _without_others(logits: Any, own: Any) -> Any:
    return ops.where(own, logits, ops.cast(_EXCLUDED, logits.dtype))


def check(config: TrainingConfig, tasks: Sequence[Task]) -> None:
    """Raises a ValueError if settings do not go with the tasks of the data.

    Args:
        config: The settings of training.
        tasks: The tasks of the data; none for one data set.
    """
    if tasks and config.loss is not None:
        raise ValueError(
            "`loss` must be None with several tasks, whose loss is a "
            f"cross-entropy. Received: loss={config.loss!r}."
        )
    if tasks and config.teacher is not None:
        raise ValueError(
            "`teacher` must be None with several tasks. "
            f"Received: teacher={config.teacher!r}."
        )
    if config.separate_encoders and not tasks:
        raise ValueError(
            "`separate_encoders` must be False unless the data has several "
            "tasks, as dataset='tasks' has. Received: separate_encoders=True, "
            f"dataset={config.dataset!r}."
        )


def make_model(
    make_one: Callable[..., keras.Model],
    sizes: Sequence[int],
    separate_encoders: bool,
) -> keras.Model:
    """Makes a model of several tasks.

    Args:
        make_one: Makes an `AudioClassifier` from the keyword argument
            `num_outputs`.
        sizes: The number of labels of each task.
        separate_encoders: Whether each task has an encoder of its own.

    Returns:
        A model with the outputs of all tasks.

    Raises:
        ValueError: If `make_one` makes something else, or the model to have
            several encoders has no frontend.
    """
    if not separate_encoders:
        made = [make_one(num_outputs=sum(sizes))]
    else:
        made = [make_one(num_outputs=size) for size in sizes]
    if not isinstance(made[0], AudioClassifier):
        raise ValueError(
            "`make_model` must make a models.AudioClassifier for several "
            f"tasks. Received: a {type(made[0]).__name__}."
        )
    if not separate_encoders:
        return made[0]
    return MultitaskClassifier.of_classifiers(made)


def sizes_of(tasks: Sequence[Task]) -> list[int]:
    """Returns the number of labels of each task."""
    return [len(one.label_names) for one in tasks]


@dataclasses.dataclass(frozen=True)
class TaskOutcomes:
    """The outcomes of the tasks on a split.

    Args:
        parts: The outcome of each task that has clips there, by its name.
    """

    parts: Mapping[str, scoring.Outcome]

    @functools.cached_property
    def metrics(self) -> dict[str, float]:
        """The means of "accuracy" and "loss" over tasks, and those of each.

        The latter have the name of the task in front, such as
        "sounds_accuracy".
        """
        return joined({n: one.metrics for n, one in self.parts.items()})

    @property
    def num_groups(self) -> int:
        """The number of groups of clips of all tasks."""
        return sum(one.num_groups for one in self.parts.values())


def joined(of_tasks: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Joins the metrics of tasks, as `TaskOutcomes.metrics` has them.

    Args:
        of_tasks: The metrics of each task, by its name.
    """
    means = {
        name: statistics.fmean(one[name] for one in of_tasks.values())
        for name in ("accuracy", "loss")
        if all(name in one for one in of_tasks.values())
    }
    return means | {
        f"{task}_{name}": value
        for task, values in of_tasks.items()
        for name, value in values.items()
    }


class TaskScorer(scoring.Scorer):
    """Computes the metrics of a model of several tasks on a split.

    Args:
        tasks: The tasks of the data.
        *args: As for `leaf_audio.training.scoring.Scorer`.
    """

    def __init__(self, tasks: Sequence[Task], *args: Any):
        super().__init__(*args)
        self._tasks = tasks

    def __call__(
        self, model: keras.Model, verbose: int = 0
    ) -> dict[str, float]:
        """Evaluates a model, as `TaskOutcomes` does, but without intervals."""
        parts = self._outcome(model, None, verbose).parts
        return joined(
            {n: metrics.scores(p.labels, p.logits) for n, p in parts.items()}
        )

    def outcome(
        self, model: keras.Model, groups: np.ndarray | None = None
    ) -> TaskOutcomes:
        """Returns the `TaskOutcomes` of a model.

        Args:
            model: A model with the outputs of all tasks.
            groups: The groups of the clips. Defaults to None.
        """
        return self._outcome(model, groups, verbose=0)

    def _outcome(
        self, model: keras.Model, groups: np.ndarray | None, verbose: int
    ) -> TaskOutcomes:
        outputs = self.outputs(model, verbose)
        numbers = task_numbers(self._tasks, self.labels)
        parts, first = {}, 0
        for i, one in enumerate(self._tasks):
            own = numbers == i
            last = first + len(one.label_names)
            # A task may have no clips for validation.
            if own.any():
                logits = self.average(outputs[:, first:last])
                parts[one.name] = scoring.Outcome(
                    labels=self.labels[own] - first,
                    logits=logits[own],
                    groups=None if groups is None else groups[own],
                )
            first = last
        return TaskOutcomes(parts)


def describe(tasks: Sequence[Task]) -> dict[str, Any]:
    """Returns what is to be recorded of the tasks, by name."""
    return {
        one.name: {
            "dataset": one.dataset,
            "labels": list(one.label_names),
            "weight": one.weight,
        }
        for one in tasks
    }


def classifier(
    model: keras.Model, tasks: Sequence[Task], number: int
) -> AudioClassifier:
    """Makes a classifier of one task from the model of all.

    Args:
        model: The model, of `make_model`.
        tasks: All tasks.
        number: The index of the task.

    Returns:
        A new model. It shares no weights with the other.
    """
    if isinstance(model, MultitaskClassifier):
        return model.of_task(number)
    first = sum(sizes_of(tasks)[:number])
    block = slice(first, first + len(tasks[number].label_names))
    kernel, bias = model.head.get_weights()
    return model.with_head(kernel[:, block], bias[block])


def write_runs(
    folder: Workdir,
    summary: Mapping[str, Any],
    batches: data.Batches,
    outcomes: Mapping[str, TaskOutcomes],
    observer: Observer,
) -> None:
    """Writes for each task the folder of a run of this task alone.

    It holds what is needed to use the model, and no state.

    Args:
        folder: The folder of the run, with its model and its settings.
        summary: The content of its `results.json`.
        batches: The batches, with tasks.
        outcomes: What `scoring.score_splits` returned.
        observer: Follows the run.
    """
    model = folder.load_best()
    for number, one in enumerate(batches.tasks):
        run = folder.of_task(one.name)
        run.path.mkdir(parents=True, exist_ok=True)
        # It must not stay beside a model that is another.
        run.results.unlink(missing_ok=True)
        own = classifier(model, batches.tasks, number)
        with files.replacing(run.best) as path:
            own.save(path)
        if folder.settings.exists():
            files.write_json(
                run.settings,
                observer.settings_of_task(summary["config"], one.name),
            )
        found = {
            split: of_tasks.parts[one.name]
            for split, of_tasks in outcomes.items()
            if one.name in of_tasks.parts
        }
        tables.write(run.path, one.label_names, found, observer.tell)
        # They are those of all tasks.
        for log, copy in (
            (folder.metrics, run.metrics),
            (folder.filters, run.filters),
        ):
            if log.exists():
                with files.replacing(copy) as path:
                    shutil.copyfile(log, path)
        files.write_json(
            run.results,
            {
                **summary,
                "data": {
                    "name": one.dataset,
                    "counts": {
                        n: len(part.labels) for n, part in found.items()
                    },
                    "groups": {n: part.num_groups for n, part in found.items()},
                    "labels": list(one.label_names),
                    "is_multilabel": False,
                    "sample_rate": summary["data"]["sample_rate"],
                },
                "parameters": about.parameters(own),
                "metrics": scoring.metrics_of(found),
            },
        )
