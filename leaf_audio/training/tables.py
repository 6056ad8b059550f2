"""Tables of a split for people to read: by label, and confusions of labels.

The confusion matrix is drawn by matplotlib, which comes with the extra `plot`.
"""

import math
import pathlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from leaf_audio.common import files
from leaf_audio.common.run_folders import table_names
from leaf_audio.training import metrics
from leaf_audio.training.scoring import Outcome

# With more labels, numbers in the cells of the figure could not be read.
_MAX_NUMBERED = 60
# In inches. Few programs show a larger figure.
_MAX_SIZE = 40.0
# Of the name of a label in the figure.
_MAX_CHARACTERS = 60


def write(
    folder: pathlib.Path,
    label_names: Sequence[str],
    outcomes: Mapping[str, Outcome],
    tell: Callable[[str], None],
    thresholds: Sequence[float] | None = None,
) -> None:
    """Writes the tables of each split.

    Where clips have several labels each, there is no confusion matrix.

    Args:
        folder: The folder to write to. Files with the `table_names` of a split
            are replaced.
        label_names: The labels of the model.
        outcomes: What `score_splits` returned.
        tell: Is called with a line if there is no figure.
        thresholds: See `leaf_audio.training.metrics.by_label`. Defaults to
            None.
    """
    is_told = False
    for split, outcome in outcomes.items():
        classes, confusion, picture = table_names(split)
        # A label is the name of a folder, which need not be valid UTF-8.
        files.write_csv_rows(
            folder / classes, class_table(label_names, outcome, thresholds)
        )
        if metrics.has_several_labels(outcome.labels):
            continue
        counts = metrics.confusion(outcome.labels, outcome.logits)
        # The first cell says what rows and columns are.
        rows_of_counts = [
            [name, *row]
            for name, row in zip(label_names, counts.tolist(), strict=True)
        ]
        files.write_csv_rows(
            folder / confusion,
            [["label \\ predicted", *label_names], *rows_of_counts],
        )
        try:
            drawn = draw(counts, label_names, f"{split}: clips")
        except ImportError:
            # It would be of an evaluation before.
            (folder / picture).unlink(missing_ok=True)
            if not is_told:
                is_told = True
                tell(
                    "no figure of the confusion matrix: it needs matplotlib, "
                    "pip install -e '.[plot]'"
                )
        else:
            _save(drawn, folder / picture)


def class_table(
    label_names: Sequence[str],
    outcome: Outcome,
    thresholds: Sequence[float] | None = None,
) -> list[list[str | int]]:
    """Returns a table with a row for each label of the model.

    Args:
        label_names: The labels of the model.
        outcome: The targets of a split and the logits of a model for it.
        thresholds: See `leaf_audio.training.metrics.by_label`. Defaults to
            None.

    Returns:
        The headings, then the rows: "label", "clips", and the other values of
        `leaf_audio.training.metrics.by_label` with four digits. A value that is
        not defined is an empty text.
    """
    columns = metrics.by_label(outcome.labels, outcome.logits, thresholds)
    clips = columns.pop("clips").tolist()
    rows: list[list[str | int]] = [["label", "clips", *columns]]
    for i, name in enumerate(label_names):
        values = [float(column[i]) for column in columns.values()]
        cells = ["" if math.isnan(one) else f"{one:.4f}" for one in values]
        rows.append([name, clips[i], *cells])
    return rows


def draw(
    counts: np.ndarray, label_names: Sequence[str], title: str = ""
) -> Any:
    """Draws a confusion matrix.

    The colour of a cell is its share of the row; the number in it is the count
    of clips. Labels that neither occur nor are predicted are left out.

    Args:
        counts: Integers of shape (labels, labels), a row for each label that
            clips have.
        label_names: The labels.
        title: A title. Defaults to none.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    from matplotlib.figure import Figure

    kept = np.flatnonzero(counts.sum(axis=0) + counts.sum(axis=1))
    counts = counts[np.ix_(kept, kept)]
    names = [_short(label_names[i]) for i in kept.tolist()]
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    size = min(0.28 * len(kept) + 1.2, _MAX_SIZE)
    margin = 0.08 * max(map(len, names))
    figure = Figure(
        figsize=(max(size + margin, 4), max(size + margin, 3.2)),
        layout="constrained",
    )
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    # A name may hold a dollar sign, which would begin a formula.
    text: dict[str, Any] = {"fontsize": 8, "parse_math": False}
    axes.set_xticks(range(len(kept)), names, rotation=90, **text)
    axes.set_yticks(range(len(kept)), names, **text)
    axes.set_xlabel("predicted label")
    axes.set_ylabel("label")
    axes.set_title(title, fontsize=10)
    # Thin lines lead the eye from a cell to its names.
    edges = np.arange(len(kept) - 1) + 0.5
    axes.set_xticks(edges, minor=True)
    axes.set_yticks(edges, minor=True)
    axes.grid(which="minor", color="0.9", linewidth=0.5)
    axes.tick_params(which="minor", length=0)
    if len(kept) <= _MAX_NUMBERED:
        for row, column in zip(*np.nonzero(counts), strict=True):
            is_dark = shares[row, column] > 0.5
            axes.text(
                column,
                row,
                f"{counts[row, column]}",
                ha="center",
                va="center",
                fontsize=7,
                color="white" if is_dark else "black",
            )
    return figure


def _short(name: str) -> str:
    """Cuts a name that would leave no room for the figure."""
    rest = len(name) - _MAX_CHARACTERS
    return name if rest <= 0 else f"{name[: _MAX_CHARACTERS - 1]}…"


def _save(figure: Any, path: pathlib.Path) -> None:
    with files.replacing(path) as partial, warnings.catch_warnings():
        # The font may lack a letter of a label.
        warnings.filterwarnings("ignore", "Glyph", UserWarning)
        figure.savefig(partial, dpi=150)
