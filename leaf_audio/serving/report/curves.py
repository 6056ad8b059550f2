"""Figures of how a training went, drawn by matplotlib."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from leaf_audio.diagnostics.figures import label_in_full

Figure = Any

# Columns of metrics.csv that tell nothing of how well the model learns.
_NOT_DRAWN = ("epoch", "seconds", "slow_steps")
_UNITS = {"hz": "Hz", "ms": "ms"}
_PREFIX = "val_"
_MAX_PAIRS = 10
# What people call a column, where it is not its name without underscores.
_TITLES = {
    "auc": "AUC",
    "chance": "accuracy of guessing",
    "d_prime": "d′",
    "drift_bandwidth": "movement of the bandwidths",
    "drift_centre": "movement of the centre frequencies",
    "drift_pooling": "movement of the pooling widths",
    "f1": "F1",
    "macro_f1": "macro F1",
    "map": "mAP",
    "top5_accuracy": "top-5 accuracy",
}
# Colours of Okabe and Ito, which colour-blind people can tell apart.
_TRAIN, _VALIDATION, _GREY = "#0072B2", "#D55E00", "#777777"


def draw_curves(
    table: Mapping[str, np.ndarray], kept_epoch: int | None = None
) -> dict[str, Figure]:
    """Draws each metric over the epochs, of all splits that have it.

    Args:
        table: The columns of `metrics.csv`.
        kept_epoch: int or None. The epoch whose model was kept, to be marked.
            Defaults to None.

    Returns:
        A figure for each metric, by its name.
    """
    named = [name for name in table if name not in _NOT_DRAWN]
    metrics = dict.fromkeys(name.removeprefix(_PREFIX) for name in named)
    drawn = {}
    for metric in metrics:
        figure = _figure()
        axes = figure.subplots()
        is_drift = metric.startswith("drift_")
        own = "mean over the filters" if is_drift else "training"
        for name, label, color in (
            (metric, own, _TRAIN),
            (f"{_PREFIX}{metric}", "validation", _VALIDATION),
        ):
            if name in table:
                _draw_line(axes, table, name, label, color)
        if kept_epoch is not None:
            label = f"kept: epoch {kept_epoch}"
            axes.axvline(kept_epoch, color=_GREY, ls=":", label=label)
        words, unit = title_of(metric)
        axes.set_title(words, parse_math=False)
        axes.set_ylabel(unit or words, parse_math=False)
        axes.legend(fontsize="small")
        drawn[words] = figure
    return drawn


def _draw_line(
    axes: Any,
    table: Mapping[str, np.ndarray],
    name: str,
    label: str,
    color: str,
) -> None:
    epochs = table["epoch"]
    marker = "o" if len(epochs) < 3 else None
    axes.plot(epochs, table[name], color=color, label=label, marker=marker)
    axes.set_xlabel("epoch")
    axes.locator_params(axis="x", integer=True)
    axes.grid(color="0.9", linewidth=0.5)


def title_of(metric: str) -> tuple[str, str]:
    """Returns the name of a column for people, and its unit or "".

    Args:
        metric: str, such as "drift_centre_hz".

    Returns:
        Such as ("movement of the centre frequencies", "Hz").
    """
    name, _, last = metric.rpartition("_")
    unit = _UNITS.get(last, "")
    if not unit:
        name = metric
    return _TITLES.get(name, name.replace("_", " ")), unit


def draw_paths(filters: Mapping[str, np.ndarray]) -> dict[str, Figure]:
    """Draws the centre frequency and the bandwidth of filters over the epochs.

    The colours go from the filter that was lowest in epoch 0 to the highest.

    Args:
        filters: The columns of `filters.csv`.

    Returns:
        Figures by their names.
    """
    from matplotlib import colormaps

    drawn = {}
    begins = filters["centre_hz"][filters["epoch"] == 0]
    # Without the last part, which is too light to be seen on white.
    rank = np.argsort(np.argsort(begins)) / max(len(begins) - 1, 1)
    colors = colormaps["viridis"](0.85 * rank)
    for name in ("centre_hz", "bandwidth_hz"):
        figure = _figure()
        axes = figure.subplots()
        for number, color in zip(
            np.unique(filters["filter"]), colors, strict=True
        ):
            rows = filters["filter"] == number
            axes.plot(
                filters["epoch"][rows], filters[name][rows], lw=0.8, color=color
            )
        words, unit = title_of(name)
        axes.set_title(f"{words} of each filter")
        axes.set(xlabel="epoch", ylabel=unit, yscale="log")
        axes.locator_params(axis="x", integer=True)
        label_in_full(axes.yaxis)
        drawn[f"{words} of each filter"] = figure
    return drawn


def most_confused(
    counts: np.ndarray, labels: Sequence[str]
) -> list[tuple[str, str, int, float]]:
    """Returns the pairs of labels that are confused most often.

    Args:
        counts: Integers of shape (labels, labels), a row for each label that
            clips have.
        labels: The labels.

    Returns:
        Ten pairs at most. For each, the label, the predicted label, the number
        of clips, and their share of the clips of the label.
    """
    wrong = counts * (1 - np.eye(len(counts), dtype=int))
    order = np.argsort(-wrong, axis=None, kind="stable")[:_MAX_PAIRS]
    pairs = zip(*np.unravel_index(order, wrong.shape), strict=True)
    return [
        (
            labels[row],
            labels[column],
            int(wrong[row, column]),
            float(wrong[row, column] / counts[row].sum()),
        )
        for row, column in pairs
        if wrong[row, column]
    ]


def _figure() -> Figure:
    from matplotlib.figure import Figure as MatplotlibFigure

    return MatplotlibFigure(figsize=(4.6, 3), layout="constrained")
