"""The table and the figure of a study.

The first variant of a study is its baseline. The others are compared with it,
seed by seed.
"""

import pathlib
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from leaf_audio.common import files
from leaf_audio.training import run_files
from leaf_audio.training.study import FIGURES, Study
from leaf_audio.training.workdir import Workdir

# The headings of the table, the most important ones first.
COLUMNS = (
    "variant",
    "test accuracy",
    "difference in points",
    "an epoch",
    "validation accuracy",
    "parameters",
    "of the frontend",
    "filters moved by",
)
# What is read of the results of a run.
_REQUIRED = ("metrics", "parameters.frontend", "parameters.trainable")


def collect(study: Study) -> list[dict[str, Any]]:
    """Reads the results of all finished runs.

    Args:
        study: The study.

    Returns:
        A row for each variant that has a finished run. It holds the "name" of
        the variant, the numbers of "parameters" and "frontend_parameters" that
        are learned, the name of the main "metric" ("accuracy", or "map" where
        clips have several labels), and lists with a value for each finished
        seed: this metric on "test" and "validation" (from 0 to 1), the median
        duration of an epoch "epoch_seconds", and the mean drift of the filters'
        centre frequencies "drift_hz". A seed without a value is left out of the
        list. In "differences" are, by seed, those of the metric on "test" to
        the first variant of the study, for the seeds that both have.
        "epoch_ratio" is how many times as long as that of the first variant an
        epoch took, by the medians. For the first variant, if it has no
        finished run, and if it has another metric, there are no differences
        and the ratio is None.
    """
    runs = {
        name: {
            seed: study.run_folder(name, seed)
            for seed in study.seeds
            if (study.run_folder(name, seed) / "results.json").exists()
        }
        for name in study.variants
    }
    results = {name: _results(some) for name, some in runs.items() if some}
    baseline, *_ = study.variants
    return [
        {
            "name": name,
            **row,
            **_compared(
                row, None if name == baseline else results.get(baseline)
            ),
            # The values by seed are for the comparison only.
            "test": list(row["test"].values()),
        }
        for name, row in results.items()
    ]


def other_runs(study: Study) -> list[str]:
    """Lists finished runs in the folder of a study that are not of the study.

    Args:
        study: The study.

    Returns:
        Their folders, relative to that of the study. They are of seeds or
        variants that the study had before.
    """
    own = {
        study.run_folder(name, seed)
        for name in study.variants
        for seed in study.seeds
    }
    found = {file.parent for file in study.folder.glob("*/*/results.json")}
    return sorted(
        one.relative_to(study.folder).as_posix() for one in found - own
    )


def _results(folders: Mapping[int, pathlib.Path]) -> dict[str, Any]:
    results = {
        seed: Workdir(folder).read_summary(*_REQUIRED)
        for seed, folder in folders.items()
    }
    metrics = {seed: one["metrics"] for seed, one in results.items()}
    found = {
        name
        for one in metrics.values()
        for split in one.values()
        for name in split
    }
    main = "map" if "map" in found else "accuracy"
    test, validation = (
        {
            seed: one[split][main]
            for seed, one in metrics.items()
            if main in one.get(split, {})
        }
        for split in ("test", "validation")
    )
    drifts = [
        _drift(folders[seed], one.get("kept_epoch"))
        for seed, one in results.items()
    ]
    parameters = next(iter(results.values()))["parameters"]
    return {
        "metric": main,
        "test": test,
        "validation": list(validation.values()),
        "epoch_seconds": list(map(_median_epoch, folders.values())),
        "parameters": parameters["trainable"],
        "frontend_parameters": parameters["frontend"],
        "drift_hz": [drift for drift in drifts if drift is not None],
    }


def _compared(
    row: Mapping[str, Any], first: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Compares what `_results` returned with that of the first variant."""
    if first is None or row["metric"] != first["metric"]:
        return {"differences": {}, "epoch_ratio": None}
    seconds = statistics.median(first["epoch_seconds"])
    return {
        "differences": {
            seed: value - first["test"][seed]
            for seed, value in row["test"].items()
            if seed in first["test"]
        },
        # Epochs of a test may take no time.
        "epoch_ratio": statistics.median(row["epoch_seconds"]) / seconds
        if seconds
        else None,
    }


def headings(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns `COLUMNS` with the name of the metric that some rows have.

    Args:
        rows: What `collect` returned.
    """
    name = _name_of_metric(rows)
    return [one.replace("accuracy", name) for one in COLUMNS]


def cells(row: Mapping[str, Any]) -> list[str]:
    """Formats a row of `collect` as cells of a table.

    Args:
        row: The row.

    Returns:
        A text for each of `COLUMNS`: the name, the numbers, and for each list
        its mean ± standard deviation. The mean difference has its 95 % interval
        behind it, by the t-distribution, in points. An empty list gives a dash.
    """
    test, validation = (
        _spread([100 * one for one in row[split]], "{:.1f} %")
        for split in ("test", "validation")
    )
    epoch = f"{statistics.median(row['epoch_seconds']):.1f} s"
    if row["epoch_ratio"] is not None:
        epoch += f" ({row['epoch_ratio']:.2f} ×)"
    return [
        row["name"],
        test,
        _interval([100 * one for one in row["differences"].values()]),
        epoch,
        validation,
        f"{row['parameters']:,}",
        f"{row['frontend_parameters']:,}",
        _spread(row["drift_hz"], "{:.2f} Hz"),
    ]


def write(study: Study, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes the results to the folder of a study.

    `results.md` is a table, `results.json` holds the rows. `results.png` and
    `results.svg` are a figure, which needs matplotlib.

    Args:
        study: The study.
        rows: What `collect` returned.
    """
    lines = [headings(rows), ["---"] * len(COLUMNS), *map(cells, rows)]
    files.write_text(
        study.folder / "results.md", "".join(map(_markdown_row, lines))
    )
    files.write_json(study.folder / "results.json", list(rows))
    try:
        from matplotlib.figure import Figure
    except ImportError:
        for suffix in FIGURES:
            # It would be of the results before.
            (study.folder / f"results.{suffix}").unlink(missing_ok=True)
        print("no figure: it needs matplotlib, pip install -e '.[plot]'")
        return
    figure = Figure(figsize=(6.4, 0.8 + 0.4 * len(rows)), layout="constrained")
    _draw(figure.subplots(), rows)
    for suffix in FIGURES:
        with files.replacing(study.folder / f"results.{suffix}") as partial:
            figure.savefig(partial, dpi=150)


def _markdown_row(line: Sequence[str]) -> str:
    # A bar in a name would begin a cell.
    escaped = [cell.replace("|", "\\|") for cell in line]
    return f"| {' | '.join(escaped)} |\n"


def _draw(axes: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    # The colours are from the palette of Okabe and Ito, which colour-blind
    # readers can tell apart.
    for y, row in enumerate(rows):
        if not row["test"]:
            continue
        test = 100 * np.array(row["test"])
        spread = test.std(ddof=1) if len(test) > 1 else 0.0
        axes.errorbar(
            test.mean(), y, xerr=spread, fmt="D", color="#0072B2", capsize=4
        )
        axes.scatter(test, [y] * len(test), s=14, color="#D55E00", zorder=3)
    names = [row["name"] for row in rows]
    axes.set_yticks(range(len(rows)), names, parse_math=False)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    name = _name_of_metric(rows)
    axes.set_xlabel(f"test {name} (%): runs, mean and standard deviation")
    axes.grid(axis="x", alpha=0.3)


def _name_of_metric(rows: Sequence[Mapping[str, Any]]) -> str:
    several_labels = any(row.get("metric") == "map" for row in rows)
    return "mAP" if several_labels else "accuracy"


def _epochs(folder: pathlib.Path) -> dict[str, np.ndarray]:
    return run_files.read_metrics(Workdir(folder).metrics, required=["seconds"])


def _median_epoch(folder: pathlib.Path) -> float:
    seconds = _epochs(folder)["seconds"].tolist()
    # The first epoch includes compilation. The median of the others hardly
    # changes if other work slowed down a few of them.
    return statistics.median(seconds[1:] or seconds)


def _drift(folder: pathlib.Path, kept_epoch: int | None) -> float | None:
    """Returns how far the filters of the kept model have moved, or None."""
    epochs = _epochs(folder)
    if "drift_centre_hz" not in epochs:
        return None
    if kept_epoch is None:
        kept_epoch = epochs["epoch"][-1]
    found = epochs["drift_centre_hz"][epochs["epoch"] == kept_epoch]
    return float(found[0]) if len(found) and not np.isnan(found[0]) else None


def _interval(differences: Sequence[float]) -> str:
    """Formats a mean with its 95 % interval, if differences have a spread."""
    if not differences:
        return "–"
    mean = np.mean(differences)
    # Differences that agree to the last digit, as with a few test clips, tell
    # nothing about their spread.
    if np.ptp(differences) < 1e-9:
        return f"{mean:+.1f}"
    error = np.std(differences, ddof=1) / np.sqrt(len(differences))
    half = stats.t.ppf(0.975, len(differences) - 1) * error
    return f"{mean:+.1f} ({mean - half:+.1f} to {mean + half:+.1f})"


def _spread(values: Sequence[float], form: str) -> str:
    if not values:
        return "–"
    mean = form.format(np.mean(values))
    if len(values) < 2:
        return mean
    number, _, unit = form.partition("}")
    spread = (number + "}").format(np.std(values, ddof=1))
    return f"{mean.removesuffix(unit)} ± {spread}{unit}"
