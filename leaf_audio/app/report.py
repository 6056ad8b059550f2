"""What a run tells the person who started it, on stdout."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import rich.console
import rich.table

from leaf_audio.common.listing import as_item, listed
from leaf_audio.data.batches import Batches
from leaf_audio.data.clips import AudioData
from leaf_audio.data.tasks import task_numbers

if TYPE_CHECKING:
    from leaf_audio.training import TrainingConfig

_MAX_LABELS = 20
_MAX_SKIPPED = 3
_FEW_CLIPS = 10
# Clips shorter than this share of what the model gets are mostly padding.
_MUCH_PADDING = 0.7
# The columns of the table of metrics, by the names of the metrics.
_OF_ONE_LABEL = {
    "accuracy": "accuracy",
    "interval": "95 % interval",
    "macro_f1": "macro F1",
    "loss": "loss",
}
# Of a run without labels.
_OF_PAIRS = {
    "accuracy": "accuracy",
    "chance": "by guessing",
    "top5_accuracy": "top 5",
    "loss": "loss",
}
_OF_SEVERAL_LABELS = {
    "map": "mAP",
    "interval": "95 % interval",
    "auc": "ROC AUC",
    "loss": "loss",
}


def print_data(
    audio_data: AudioData, results: os.PathLike, uses_labels: bool = True
) -> None:
    """Says what a data set holds and what was left out of it.

    Args:
        audio_data: the data set.
        results: the file that will name all that was left out.
        uses_labels: whether labels are used. Defaults to True.
    """
    counts = [f"{split} {n}" for split, n in audio_data.counts.items()]
    lines = [
        f"data: {audio_data.name}, {_describe_labels(audio_data, uses_labels)}",
        f"clips: {', '.join(counts)}",
    ]
    lines += _describe_tasks(audio_data)
    if uses_labels:
        lines += _describe_use_of_labels(audio_data)
    skipped = audio_data.skipped
    if skipped:
        files = "1 file" if len(skipped) == 1 else f"{len(skipped)} files"
        lines.append(f"skipped: {files} that cannot be used")
        some = list(skipped.items())[:_MAX_SKIPPED]
        lines += [f"  {file}: {reason}" for file, reason in some]
        if len(skipped) > len(some):
            rest = len(skipped) - len(some)
            lines.append(f"  and {rest} more; all of them: {results}")
    lines += [f"warning: {sentence}" for sentence in audio_data.warnings]
    print_lines(*lines)


def _describe_labels(audio_data: AudioData, are_used: bool) -> str:
    names = audio_data.label_names
    if not names:
        return "without labels"
    if not are_used:
        return f"{len(names)} labels, which are not used"
    return f"{len(names)} labels ({_listed(names)})"


def _describe_use_of_labels(audio_data: AudioData) -> list[str]:
    names = audio_data.label_names
    lines = []
    if audio_data.is_multilabel and names:
        lines.append(_describe_several(audio_data))
    for split, used in audio_data.used_labels.items():
        absent = [name for name in names if name not in used]
        if absent:
            lines.append(f"  {split} has none of: {_listed(absent)}")
    return lines


def _describe_several(audio_data: AudioData) -> str:
    numbers = np.concatenate(
        [clips.labels.sum(axis=1) for clips in audio_data.clips.values()]
    )
    return (
        f"labels of a clip: {numbers.min()} to {numbers.max()}, "
        f"{numbers.mean():.2f} on average"
    )


def _describe_tasks(audio_data: AudioData) -> list[str]:
    numbers = {
        split: task_numbers(audio_data.tasks, clips.labels).tolist()
        for split, clips in audio_data.clips.items()
    }
    lines = []
    for i, one in enumerate(audio_data.tasks):
        counts = [f"{split} {n.count(i)}" for split, n in numbers.items()]
        lines.append(
            f"  {one.name}: {one.dataset}, {len(one.label_names)} labels, "
            f"weight {one.weight:g}, {', '.join(counts)}"
        )
    return lines


def _listed(labels: Iterable[str]) -> str:
    return listed(map(as_item, labels), _MAX_LABELS)


def print_lengths_of_recordings(audio_data: AudioData) -> None:
    """Says how long recordings are."""
    rate = audio_data.sample_rate
    if rate is not None:
        print_lines(_describe_lengths(_samples_of_clips(audio_data), rate))


def _samples_of_clips(audio_data: AudioData) -> np.ndarray:
    return np.concatenate(
        [np.diff(clips.offsets) for clips in audio_data.clips.values()]
    )


def _describe_lengths(samples: np.ndarray, rate: int) -> str:
    return f"length: {samples.min() / rate:.2f} to {samples.max() / rate:.2f} s"


def print_lengths(audio_data: AudioData, batches: Batches) -> None:
    """Says how long recordings are, and what a model gets of them."""
    rate = audio_data.sample_rate
    shape = batches.example_shape
    if rate is None or len(shape) != 1:
        return
    samples = _samples_of_clips(audio_data)
    print_lines(
        f"{_describe_lengths(samples, rate)}; the model gets "
        f"{shape[0] / rate:.2f} s, {shape[0]} samples at {rate:g} Hz"
    )
    hop = batches.evaluation_hop
    if samples.max() < _MUCH_PADDING * shape[0]:
        print_lines(
            "  all clips are padded, by much: align.seq_len sets the length "
            "that the model gets"
        )
    if samples.max() > shape[0]:
        # What training takes of them is for its transforms to say.
        evaluated = (
            f"in chunks, one every {hop / rate:.2f} s"
            if hop
            else "at their centre, or by data.prepare.evaluation_hop"
        )
        print_lines(f"  longer clips are evaluated {evaluated}")


def print_few(audio_data: AudioData) -> None:
    """Says so if there are few clips of most labels to learn from.

    Args:
        audio_data: The data set, with labels and clips for training.
    """
    if audio_data.is_multilabel or audio_data.tasks:
        # `classify_embeddings` takes one set with one label for each clip.
        return
    counts = audio_data.clips["train"].count_labels(len(audio_data.label_names))
    least, most = counts.min(), counts.max()
    if np.median(counts) < _FEW_CLIPS:
        number = f"{least}" if least == most else f"{least} to {most}"
        print_lines(
            f"few: {number} clips of a label to train on; "
            "`classify_embeddings` can do with fewer"
        )


def print_storage(audio_data: AudioData) -> None:
    """Says how much audio a data set has, and where it lies."""
    some = audio_data.clips.values()
    samples = sum(int(clips.offsets[-1]) for clips in some)
    nbytes = sum(shard.nbytes for clips in some for shard in clips.shards)
    how_long = f"{samples} samples"
    if audio_data.sample_rate:
        hours = samples / audio_data.sample_rate / 3600
        how_long = f"{hours:.2f} hours at {audio_data.sample_rate:g} Hz"
    print_lines(
        f"audio: {how_long}, {nbytes / 1e6:.1f} MB",
        f"prepared: {audio_data.path}",
    )


def print_metrics(
    title: str, metrics: Mapping[str, Mapping[str, float]]
) -> None:
    """Prints a table with a row for each split.

    It has the main metric with its interval, and two more. `results.json` and
    `evaluation.json` have all.

    Args:
        title: The line above the table.
        metrics: The metrics of each split; see
            `leaf_audio.training.scoring.Outcome`.
    """
    print_lines("", title)
    columns = _columns(metrics)
    main = next(iter(columns))
    table = rich.table.Table()
    table.add_column("split")
    for heading in columns.values():
        table.add_column(heading, justify="right")
    for split, values in metrics.items():
        cells = [
            f"{values[name]:.4f}" if name in values else "–" for name in columns
        ]
        if f"{main}_low" in values:
            low, high = values[f"{main}_low"], values[f"{main}_high"]
            cells[1] = f"{low:.3f} to {high:.3f}"
        table.add_row(split, *cells)
    rich.console.Console().print(table)


def _columns(metrics: Mapping[str, Mapping[str, float]]) -> dict[str, str]:
    known = {name for one in metrics.values() for name in one}
    if "chance" in known:
        return {k: v for k, v in _OF_PAIRS.items() if k in known}
    return _OF_ONE_LABEL if "accuracy" in known else _OF_SEVERAL_LABELS


def by_task(
    metrics: Mapping[str, Mapping[str, float]], tasks: Iterable[str]
) -> dict[str, dict[str, float]]:
    """Separates the metrics of several tasks, for `print_metrics`.

    Args:
        metrics: The metrics of each split; see
            `leaf_audio.training.multitask.TaskOutcomes`.
        tasks: The names of the tasks. With none, the metrics stay.

    Returns:
        Metrics by "split, task", and their means by "split, mean of tasks".
    """
    names = list(tasks)
    if not names:
        return {split: dict(values) for split, values in metrics.items()}
    rows = {}
    for split, values in metrics.items():
        for name in names:
            own = {
                key.removeprefix(f"{name}_"): value
                for key, value in values.items()
                if key.startswith(f"{name}_")
            }
            # A task may have no clips for validation.
            if own:
                rows[f"{split}, {name}"] = own
        # No task can have this name.
        rows[f"{split}, mean of tasks"] = {
            key: values[key] for key in ("accuracy", "loss")
        }
    return rows


def print_sources(config: TrainingConfig) -> None:
    """Says what else than the data a run begins with or learns from.

    Args:
        config: The settings of the run.
    """
    factors = {
        "frontend": config.frontend_learning_rate_factor,
        "encoder": config.encoder_learning_rate_factor,
    }
    if config.init_from is not None:
        print_lines(f"initial weights: those of {config.init_from}")
    for part, factor in factors.items():
        if factor == 0:
            print_lines(f"{part}: frozen")
        elif factor != 1:
            print_lines(f"{part}: {factor:g} times the learning rate")
    teacher = config.teacher
    if teacher is not None:
        print_lines(
            f"teacher: {teacher.path}, its {teacher.outputs} are "
            f"{100 * teacher.weight:g} % of the training loss; validation has "
            "the labels alone"
        )


def print_lines(*lines: str) -> None:
    """Prints lines as they are."""
    for line in lines:
        # Not by rich, which would break a path that is longer than the line.
        print(line, flush=True)
