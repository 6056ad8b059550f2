"""The trained models that come with the package."""

import pathlib

_FOLDER = pathlib.Path(__file__).parents[1] / "pretrained"


def included() -> dict[str, pathlib.Path]:
    """Returns the `.keras` file of each model, by its name."""
    return {file.stem: file for file in sorted(_FOLDER.glob("*.keras"))}
