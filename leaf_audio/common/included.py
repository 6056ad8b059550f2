"""The trained models that come with the package."""

import os
import pathlib

from leaf_audio.common.run_folders import holds_run

_FOLDER = pathlib.Path(__file__).parents[1] / "pretrained"


def included() -> dict[str, pathlib.Path]:
    """Returns the `.keras` file of each model, by its name."""
    return {file.stem: file for file in sorted(_FOLDER.glob("*.keras"))}


def located(path: str | os.PathLike) -> pathlib.Path:
    """Returns the folder or file that a user means, if there is one.

    Args:
        path: A folder, a file, or the name of a model that comes with the
            package. `~` is expanded.

    Returns:
        The path, or that of the model with this name. A folder of this name is
        taken only if it holds a run, since recordings often lie in a folder
        with the name of a data set.
    """
    where = pathlib.Path(path).expanduser()
    file = included().get(str(path))
    if file is None or holds_run(where):
        return where
    return file
