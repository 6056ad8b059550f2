"""What a finished run has recorded."""

import ast
import os
import pathlib
from collections.abc import Callable
from typing import Any

from leaf_audio.serving import preparation
from leaf_audio.training import run_files
from leaf_audio.training.workdir import Workdir


def finished_run(workdir: str | os.PathLike) -> Workdir:
    """Returns the folder of a finished run.

    Args:
        workdir: The folder of the run.

    Raises:
        ValueError: If there is no run, or it is not finished, or it is one of
            several tasks.
    """
    folder = Workdir(workdir)
    if not (folder.best.exists() and folder.read_data()):
        raise ValueError(
            "`workdir` must hold a finished run. Received: "
            f"workdir={str(workdir)!r}, without {folder.results.name}. A run "
            "that was stopped goes on by the command that has begun it."
        )
    folder.check_one_task()
    return folder


def read_settings(folder: Workdir) -> dict[str, str]:
    """Reads the settings of a run, as plain data. Nothing is executed.

    Args:
        folder: The folder of the run.

    Returns:
        Values as text in gin's syntax, by names such as `align.seq_len`.

    Raises:
        ValueError: If there is no `settings.json`, or it cannot be read.
    """
    try:
        return run_files.read_settings(folder.settings)
    except FileNotFoundError as error:
        raise ValueError(
            "`workdir` must hold a run that has recorded its settings. "
            f"Received: workdir={str(folder.path)!r} without "
            f"{folder.settings.name}, as training without gin leaves it. Give "
            "`transform_fns` to TrainedClassifier.from_run."
        ) from error


def read_preparation(folder: Workdir) -> tuple[list[Callable], int | None]:
    """Reads how a run prepares its clips in an evaluation.

    Args:
        folder: The folder of the run.

    Returns:
        What `preparation.from_settings` returns.

    Raises:
        ValueError: If there is no `settings.json`, it cannot be read, or the
            run uses a function that is not one of `leaf_audio.data`.
    """
    settings = read_settings(folder)
    try:
        return preparation.from_settings(settings)
    except ValueError as error:
        raise ValueError(f"In {folder.settings}: {error}") from error


def read_data_name(folder: Workdir) -> str:
    """Reads what people call the data of a run.

    Args:
        folder: The folder of the run.

    Returns:
        For data that lies in a folder of the user, such as recordings, the
        name of this folder, without those above it. Otherwise the name by
        which the data was loaded, such as that of a TFDS set.

    Raises:
        ValueError: If `results.json` or `settings.json` is damaged.
    """
    # It takes both / and \, whatever system the run was made on.
    last = pathlib.PureWindowsPath(read_data_path(folder) or "").name
    return last or folder.read_data()["name"]


def read_data_path(folder: Workdir) -> str | None:
    """Reads where the data of a run was, if it lay in a folder of the user.

    Args:
        folder: The folder of the run.

    Returns:
        The path that the user has given, such as `audio_folder.path`; or None.

    Raises:
        ValueError: If `results.json` or `settings.json` is damaged.
    """
    text = _read_of_data(folder, "path")
    try:
        path = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    return path if isinstance(path, str) else None


def has_own_splits(folder: Workdir) -> bool:
    """Returns whether a run took the splits that the folder of its data has.

    An index that was made for the run, such as `@unlabelled_index`, has others.

    Args:
        folder: The folder of the run.

    Raises:
        ValueError: If `results.json` or `settings.json` is damaged.
    """
    return _read_of_data(folder, "index") == "None"


def _read_of_data(folder: Workdir, argument: str) -> str:
    """Reads a setting of the data of a run, as text in gin's syntax."""
    # Training without gin leaves no settings.
    if not folder.settings.exists():
        return "None"
    name = f"{folder.read_data()['name']}.{argument}"
    return run_files.read_settings(folder.settings).get(name, "None")


def read_card(folder: Workdir) -> dict[str, Any]:
    """Reads what a finished run tells about its model.

    Args:
        folder: The folder of the run.

    Returns:
        What it was trained on, its results, its size, and the versions of the
        libraries.

    Raises:
        ValueError: If `results.json` is damaged.
    """
    summary = folder.read_summary()
    trained_on = folder.read_data()
    return {
        "data": read_data_name(folder),
        "clips": trained_on.get("counts", {}),
        **{
            name: summary[name]
            for name in ("metrics", "parameters", "versions")
            if name in summary
        },
    }
