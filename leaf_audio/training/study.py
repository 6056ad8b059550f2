"""Trains a grid of configs and seeds, and writes a table and a figure of it.

python -m example.study --gin_config=example/configs/study_frontends.gin \
    --gin_bindings="audio_folder.path = '/path/to/recordings'"

Each run is one of `example.main`, in a folder of its own, so that a study that
was interrupted goes on where it stopped when the same command is given again.
Bindings of anything but `Study` are handed to all runs.
"""

import csv
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import gin
import numpy as np
import rich.box
import rich.console
import rich.progress
import rich.table
from absl import app, flags

from leaf_audio.app.startup import without_startup_messages

_GIN_CONFIG = flags.DEFINE_multi_string(
    "gin_config", [], "A gin config of a study; may be repeated."
)
_GIN_BINDINGS = flags.DEFINE_multi_string(
    "gin_bindings",
    [],
    "A binding, such as 'Study.seeds = [0]', or one for all runs.",
)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Where the study is kept. Overrides Study.workdir."
)
_DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "Where data is prepared; see example.main."
)

_COLUMNS = (
    "frontend",
    "test accuracy",
    "validation accuracy",
    "an epoch",
    "parameters",
    "of the frontend",
    "filters moved by",
)


@gin.configurable(module="study")
class Study:
    """A grid of runs.

    Args:
        variants: by name, the configs and bindings of `example.main` that make
            a variant; what ends in `.gin` is a config.
        configs: of all variants, after their own.
        seeds: one run for each, of every variant.
        workdir: where runs, table and figure are kept.

    Raises:
        ValueError: there is nothing to run, or an argument is not as it must
            be.
    """

    def __init__(
        self,
        variants: Mapping[str, Sequence[str]] | None = None,
        configs: Sequence[str] = (),
        seeds: Sequence[int] = (0, 1, 2),
        workdir: str = "runs/study",
    ):
        if (
            not isinstance(variants, Mapping)
            or not variants
            or not all(isinstance(name, str) for name in variants)
            or not all(map(_is_list_of_text, variants.values()))
        ):
            raise ValueError(
                "`variants` must be a dictionary of lists of configs and "
                f"bindings, all of them text. Received: variants={variants!r}."
            )
        if (
            not isinstance(seeds, (list, tuple))
            or not seeds
            or not all(type(seed) is int and seed >= 0 for seed in seeds)
            or len(set(seeds)) < len(seeds)
        ):
            raise ValueError(
                "`seeds` must be a list of different integers, 0 or more, one "
                f"at least. Received: seeds={seeds!r}."
            )
        if not _is_list_of_text(configs):
            raise ValueError(
                "`configs` must be a list of configs and bindings, all of them "
                f"text. Received: configs={configs!r}."
            )
        folders = [_folder_name(name) for name in variants]
        if not all(folders) or len(set(folders)) < len(folders):
            raise ValueError(
                "Names in `variants` must have letters or digits, and differ "
                f"in these. Received: {list(variants)}."
            )
        if not isinstance(workdir, (str, os.PathLike)):
            raise ValueError(
                f"`workdir` must name a folder. Received: workdir={workdir!r}."
            )
        self.variants = variants
        self.configs = configs
        self.seeds = seeds
        self.folder = pathlib.Path(workdir).expanduser()

    def run_folder(self, name: str, seed: int) -> pathlib.Path:
        """Where the run of a variant and a seed is kept."""
        return self.folder / _folder_name(name) / str(seed)

    def settings(
        self, name: str, bindings: Sequence[str]
    ) -> tuple[list[str], list[str]]:
        """Returns the configs of a variant, and its bindings."""
        parts = [*self.variants[name], *self.configs]
        files = [part for part in parts if part.endswith(".gin")]
        bound = [part for part in parts if not part.endswith(".gin")]
        return files, [*bound, *bindings]

    def command(
        self, name: str, seed: int, bindings: Sequence[str]
    ) -> list[str]:
        """Returns what Python is told to do for a run."""
        files, bound = self.settings(name, bindings)
        return [
            *("-m", "example.main", f"--seed={seed}"),
            f"--workdir={self.run_folder(name, seed)}",
            *(f"--gin_config={file}" for file in files),
            *(f"--gin_bindings={one}" for one in bound),
        ]


def read(configs: Sequence[str], bindings: Sequence[str]) -> Study:
    """Makes the study that configs and bindings describe.

    Raises:
        ValueError: they are no gin, or bind something else than `Study`.
    """
    # `train` registers all that runs can configure, which gin takes before it
    # has parsed anything.
    from leaf_audio.app import configuration  # noqa: F401
    from leaf_audio.training import train  # noqa: F401

    configuration.parse(configs, bindings)
    others = [
        key
        for key in configuration.bound()
        if "." in key and not key.startswith("Study.")
    ]
    if others:
        raise ValueError(
            "A study's config must bind Study alone; configs of example.main "
            "belong into Study.configs or Study.variants. "
            f"Received: {', '.join(others)}."
        )
    study = Study()
    configuration.check_all_used()
    return study


def check_settings(study: Study, bindings: Sequence[str]) -> None:
    """Looks for mistakes in the configs of all runs, before the first.

    No model is made: that would take the accelerator which runs are to use.

    Args:
        study: the grid.
        bindings: for all runs.

    Raises:
        ValueError: gin cannot read those of a variant.
    """
    from leaf_audio.app import configuration  # noqa: F401
    from leaf_audio.training import train  # noqa: F401

    for name in study.variants:
        try:
            configuration.parse(*study.settings(name, bindings))
            bound = configuration.bound()
            own = [key for key in bound if key.startswith("Study.")]
            if own:
                raise ValueError(
                    "A run must bind nothing of `Study`. "
                    f"Received: {', '.join(own)}."
                )
        except ValueError as error:
            raise ValueError(f"In the variant {name!r}: {error}") from error


def run_all(study: Study, bindings: Sequence[str], *more: str) -> None:
    """Does the runs that are not done yet, seed by seed.

    Args:
        study: the grid.
        bindings: for all runs.
        *more: flags for all runs.

    Raises:
        RuntimeError: a run has failed; those before it are kept.
        ValueError: a run is finished that had another command.
    """
    runs = [(name, seed) for seed in study.seeds for name in study.variants]
    for name, seed in rich.progress.track(runs, "runs"):
        folder = study.run_folder(name, seed)
        command = [*study.command(name, seed, bindings), *more]
        told = folder.with_name(f"{seed}.json")
        if (folder / "results.json").exists():
            was = json.loads(told.read_text("utf-8"))
            if _without_places(was) != _without_places(command):
                raise ValueError(
                    f"The finished run of {name!r} with seed {seed} must have "
                    f"been one of this study. Received: {folder}, which came "
                    f"of {was}, not of {command}."
                )
            continue
        log = folder.with_name(f"{seed}.log")
        print(f"{name}, seed {seed}: {log}", flush=True)
        folder.mkdir(parents=True, exist_ok=True)
        told.write_text(json.dumps(command, indent=2) + "\n", "utf-8")
        with open(log, "w", encoding="utf-8") as file:
            done = subprocess.run(
                [sys.executable, *command],
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        if done.returncode:
            raise RuntimeError(
                f"The run of {name!r} with seed {seed} has failed: "
                f"{_reason(log.read_text('utf-8', 'replace'))} ({log})"
            )


def _without_places(command: Sequence[str]) -> list[str]:
    """A command without where it reads and writes: a study can be moved."""
    places = ("--workdir=", "--data_dir=")
    return [part for part in command if not part.startswith(places)]


def _reason(log: str) -> str:
    """Finds why a run has failed: its message, or an exception's last line."""
    _, is_told, message = f"\n{log}".rpartition("\nError: ")
    if is_told:
        return message.strip()
    lines = log.strip().splitlines()
    return lines[-1] if lines else "it printed nothing"


def collect(study: Study) -> list[dict[str, Any]]:
    """Reads what finished runs have come to, one row for each variant.

    Variants without a finished run have no row. Accuracies, median epochs in
    seconds and drifts are lists with an entry for each finished seed that has
    one.
    """
    rows = []
    for name in study.variants:
        folders = [study.run_folder(name, seed) for seed in study.seeds]
        done = [one for one in folders if (one / "results.json").exists()]
        if not done:
            continue
        results = [
            json.loads((folder / "results.json").read_text("utf-8"))
            for folder in done
        ]
        rows.append(
            {
                "name": name,
                **{
                    split: [
                        result["metrics"][split]["accuracy"]
                        for result in results
                        if split in result["metrics"]
                    ]
                    for split in ("test", "validation")
                },
                "epoch_seconds": list(map(_median_epoch, done)),
                "parameters": results[0]["parameters"]["trainable"],
                "frontend_parameters": results[0]["parameters"]["frontend"],
                "drift_hz": [
                    drift for drift in map(_drift, done) if drift is not None
                ],
            }
        )
    return rows


def cells(row: Mapping[str, Any]) -> list[str]:
    """Formats a row of `collect` under `_COLUMNS`: mean ± deviation.

    A dash stands where there is nothing, as without filters that are learned.
    """
    return [
        row["name"],
        *(
            _spread([100 * one for one in row[split]], "{:.1f} %")
            for split in ("test", "validation")
        ),
        _spread(row["epoch_seconds"], "{:.1f} s"),
        f"{row['parameters']:,}",
        f"{row['frontend_parameters']:,}",
        _spread(row["drift_hz"], "{:.2f} Hz"),
    ]


def write(study: Study, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes `results.md`, `results.json` and, with matplotlib, the figure."""
    lines = [_COLUMNS, ["---"] * len(_COLUMNS), *map(cells, rows)]
    text = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    for name, content in (
        ("results.md", text),
        ("results.json", json.dumps(list(rows), indent=2) + "\n"),
    ):
        partial = study.folder / f".partial-{name}"
        partial.write_text(content, "utf-8")
        os.replace(partial, study.folder / name)
    try:
        from matplotlib.figure import Figure
    except ImportError:
        print("no figure: it needs matplotlib, pip install -e '.[plot]'")
        return
    figure = Figure(figsize=(6.4, 0.8 + 0.4 * len(rows)), layout="constrained")
    _draw(figure.subplots(), rows)
    for suffix in ("png", "svg"):
        figure.savefig(study.folder / f"results.{suffix}", dpi=150)


def _draw(axes: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    # Okabe and Ito's, which colour-blind people can tell apart.
    for y, row in enumerate(rows):
        if not row["test"]:
            continue
        test = 100 * np.array(row["test"])
        spread = test.std(ddof=1) if len(test) > 1 else 0.0
        axes.errorbar(
            test.mean(), y, xerr=spread, fmt="D", color="#0072B2", capsize=4
        )
        axes.scatter(test, [y] * len(test), s=14, color="#D55E00", zorder=3)
    axes.set_yticks(range(len(rows)), [row["name"] for row in rows])
    axes.invert_yaxis()
    axes.set_xlabel("test accuracy (%): runs, mean and standard deviation")
    axes.grid(axis="x", alpha=0.3)


def _is_list_of_text(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(
        isinstance(one, str) for one in value
    )


def _folder_name(name: str) -> str:
    name = name.replace("+", " plus")
    return re.sub(r"[\W_]+", "_", name).strip("_").lower()


def _epochs(folder: pathlib.Path) -> list[dict[str, str]]:
    with open(folder / "metrics.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _median_epoch(folder: pathlib.Path) -> float:
    seconds = [float(row["seconds"]) for row in _epochs(folder)]
    # The first compiles. One that had to share the machine counts for little.
    return statistics.median(seconds[1:] or seconds)


def _drift(folder: pathlib.Path) -> float | None:
    drift = _epochs(folder)[-1].get("drift_centre_hz")
    return None if drift is None else float(drift)


def _spread(values: Sequence[float], form: str) -> str:
    if not values:
        return "–"
    mean = form.format(np.mean(values))
    if len(values) < 2:
        return mean
    number, _, unit = form.partition("}")
    spread = (number + "}").format(np.std(values, ddof=1))
    return f"{mean.removesuffix(unit)} ± {spread}{unit}"


def main(argv: list[str]) -> None:
    """Does what the flags ask for."""
    if len(argv) > 1:
        raise app.UsageError(f"Unexpected arguments: {argv[1:]}.")
    own, others = [], []
    for binding in _GIN_BINDINGS.value:
        is_own = binding.strip().startswith("Study.")
        (own if is_own else others).append(binding)
    if _WORKDIR.value is not None:
        own.append(f"Study.workdir = {_WORKDIR.value!r}")
    more = [] if _DATA_DIR.value is None else [f"--data_dir={_DATA_DIR.value}"]
    with without_startup_messages():
        from leaf_audio.app import configuration

    try:
        study = read(_GIN_CONFIG.value, own)
        check_settings(study, others)
        run_all(study, others, *more)
    except (ValueError, OSError, RuntimeError) as error:
        sys.exit(f"Error: {configuration.message(error)}")
    rows = collect(study)
    write(study, rows)
    # Narrow, so that headings are whole in the 80 columns of a terminal.
    table = rich.table.Table(
        box=rich.box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False
    )
    for heading in _COLUMNS:
        widest = max(map(len, heading.split()))
        table.add_column(heading, min_width=widest, overflow="fold")
    for row in rows:
        table.add_row(*cells(row))
    rich.console.Console().print(table)
    print(f"results: {study.folder / 'results.md'}")


def run() -> None:
    """Runs the command."""
    app.run(main)
