"""What a finished run has recorded."""

import json
import os
from typing import Any

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
            f"workdir={str(workdir)!r}, without {folder.results.name}."
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
        settings = json.loads(folder.settings.read_text("utf-8"))
    except FileNotFoundError as error:
        raise ValueError(
            "`workdir` must hold a run that has recorded its settings. "
            f"Received: workdir={str(folder.path)!r} without "
            f"{folder.settings.name}, as training without gin leaves it. Give "
            "`transform_fns` to TrainedClassifier.from_run."
        ) from error
    except ValueError as error:
        raise ValueError(
            f"{folder.settings} must be JSON. Received: {error}."
        ) from error
    is_text = isinstance(settings, dict) and all(
        isinstance(value, str) for value in settings.values()
    )
    if not is_text:
        raise ValueError(
            f"{folder.settings} must hold a text for each setting. "
            f"Received: {str(settings)[:200]}."
        )
    return settings


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
        "data": trained_on["name"],
        "clips": trained_on.get("counts", {}),
        **{
            name: summary[name]
            for name in ("metrics", "parameters", "versions")
            if name in summary
        },
    }
