"""Tells the files of a run, which nothing but the run may replace.

Neither Keras nor `leaf_audio.training` is imported, so that a command can check
its output before it loads a model.
"""

import os
import pathlib

from leaf_audio.common.checks import check_path


def table_names(split: str) -> tuple[str, str, str]:
    """Returns the names of the files that tell the results of a split.

    Args:
        split: The name of the split.

    Returns:
        The names of the table by label, the confusion matrix and its figure;
        see `leaf_audio.training.tables`.
    """
    return (
        f"classes_{split}.csv",
        f"confusion_{split}.csv",
        f"confusion_{split}.png",
    )


# Those of all splits.
TABLES = (*table_names("validation"), *table_names("test"))
# What `leaf_audio.training.Workdir` writes into the folder of a run.
FILES_OF_RUNS = (
    *("best.keras", "config.gin", "filters.csv", "metrics.csv"),
    *("results.json", "settings.json", "state.npz", "state_before.npz"),
    *("state_within.npz", "state_within_before.npz"),
    *TABLES,
)
# What it writes into a folder below `evaluations`.
_FILES_OF_EVALUATIONS = ("evaluation.json", *TABLES)


def holds_run(folder: pathlib.Path) -> bool:
    """Returns whether a folder holds the files of a run.

    A run marks its folder by `.run`. A copy of a run may lack hidden files, and
    so may a run of an earlier version.
    """
    if (folder / ".run").is_file():
        return True
    is_there = [
        (folder / name).is_file()
        for name in ("best.keras", "results.json", "state.npz")
    ]
    return is_there[0] and any(is_there[1:])


def check_not_of_run(name: str, path: str | os.PathLike) -> None:
    """Raises a ValueError if what is to be written is a file of a run.

    Args:
        name: The name of the argument, for the message.
        path: The file to write. `~` is expanded. It need not exist: a false
            `state.npz` does harm to a run too.
    """
    given = pathlib.Path(check_path(name, path)).expanduser().absolute()
    # Of a link, the file that it leads to is replaced.
    for one in (given, given.resolve()):
        folder = one.parent
        of_run = one.name in FILES_OF_RUNS and holds_run(folder)
        of_evaluation = (
            one.name in _FILES_OF_EVALUATIONS
            and folder.parent.name == "evaluations"
            and holds_run(folder.parent.parent)
        )
        if of_run or of_evaluation:
            raise ValueError(
                f"`{name}` must be another file than those of a run, since it "
                f"is replaced. Received: {name}={str(path)!r}."
            )
