"""The forms in which a trained classifier is written for other runtimes.

What can be wrong with a request is checked here, without TensorFlow, so that a
command can tell it before it loads a model.
"""

from __future__ import annotations

import os
import pathlib

from leaf_audio.common import files
from leaf_audio.common.checks import (
    check_bool,
    check_choice,
    check_path,
    check_positive_int,
    check_unless_none,
)
from leaf_audio.common.run_folders import check_not_of_run

# For each, what the name of its file ends in; "" stands for a folder.
SUFFIXES = {
    "litert": ".tflite",
    "onnx": ".onnx",
    "savedmodel": "",
    "keras": ".keras",
}
QUANTIZATIONS = ("float16", "int8")
# Where the description is: a member of a `.keras` file and a file in a
# SavedModel, an entry of the metadata of an ONNX file. Only what has it is
# replaced.
MEMBER = "leaf_audio.json"
METADATA = "leaf_audio"
# What the description of an ONNX file has, and names in a model have not.
_IN_METADATA = '"included": {"window": '
# What a SavedModel is made of.
_IN_SAVED_MODEL = frozenset(
    ("assets", "assets.extra", "fingerprint.pb", "saved_model.pb", "variables")
)


def check_request(
    path: str | os.PathLike,
    format: str,
    quantize: str | None = None,
    window: int | None = None,
    keep_plan: bool = False,
    name: str = "path",
) -> pathlib.Path:
    """Checks all of an export that does not depend on the classifier.

    Args:
        path: What to write; see `leaf_audio.serving.export.export`.
        format: A key of `SUFFIXES`.
        quantize: One of `QUANTIZATIONS`, or None.
        window: int, in samples, or None.
        keep_plan: bool.
        name: What messages call `path`.

    Returns:
        The path.

    Raises:
        ValueError: If an argument is out of range, or a file would be replaced
            that no export has written, or that is one of a run.
    """
    path = pathlib.Path(check_path(name, path)).expanduser()
    format = check_choice("format", format, tuple(SUFFIXES))
    check_unless_none(check_positive_int, window=window)
    check_bool("keep_plan", keep_plan)
    if quantize is not None:
        check_choice("quantize", quantize, QUANTIZATIONS)
    if format != "litert" and (quantize is not None or window is not None):
        raise ValueError(
            "`format` must be litert with `quantize` or `window`. Received: "
            f"format={format}, quantize={quantize}, window={window}."
        )
    suffix = SUFFIXES[format]
    if path.suffix != suffix:
        raise ValueError(
            f"`{name}` must end in {suffix or 'no suffix'} with "
            f"format={format}. Received: {name}={str(path)!r}."
        )
    what = "folder" if format == "savedmodel" else "file"
    if not path.parent.is_dir() or (what == "file" and path.is_dir()):
        raise ValueError(
            f"`{name}` must be a {what} in a folder that exists. Received: "
            f"{name}={str(path)!r}.{files.remedy_of_folder(path)}"
        )
    written = [path, beside(path)] if format == "litert" else [path]
    for one in written:
        check_not_of_run(name, one)
    _check_replaceable(path, format, name)
    if keep_plan and format == "keras":
        raise ValueError(
            "`keep_plan` must be False with format=keras, which keeps a plan "
            "anyway. Received: keep_plan=True."
        )
    return path


def _check_replaceable(path: pathlib.Path, format: str, name: str) -> None:
    """Raises a ValueError if a file exists that no export has written."""
    found: list[pathlib.Path] = []
    if format == "litert":
        about = beside(path)
        if not _is_description(about):
            found = [one for one in (path, about) if os.path.lexists(one)]
    elif format == "savedmodel":
        if path.exists() and not _is_description(inside(path)):
            found = [path]
        elif path.exists():
            found = _others_inside(path)
    else:
        mark = {"onnx": _IN_METADATA, "keras": MEMBER}[format]
        found = files.without_mark([path], mark)
    if found:
        raise ValueError(
            f"`{name}` must be new, or what an export has written before. "
            f"Received: {name}={str(path)!r}, and "
            f"{' and '.join(map(str, found))} would be replaced."
        )


def beside(path: pathlib.Path) -> pathlib.Path:
    """Returns the file that describes a `.tflite` file."""
    return path.with_suffix(".json")


def inside(path: pathlib.Path) -> pathlib.Path:
    """Returns the file that describes a SavedModel."""
    return path / "assets.extra" / MEMBER


def _others_inside(path: pathlib.Path) -> list[pathlib.Path]:
    """Returns what is in the folder of a SavedModel and is not of an export."""
    found = [one for one in path.iterdir() if one.name not in _IN_SAVED_MODEL]
    about = inside(path)
    return found + [one for one in about.parent.iterdir() if one != about]


def _is_description(path: pathlib.Path) -> bool:
    """Returns whether a file is a description that `export` has written."""
    content = files.read_json_object(path) or {}
    # Those of earlier versions have these keys too.
    return {"labels", "sample_rate", "window", "preparation"} <= content.keys()
