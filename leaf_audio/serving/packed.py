"""A model in one `.keras` file, together with what is needed to use it.

A `.keras` file is a zip archive. A further member of it, `leaf_audio.json`,
holds the labels, the sample rate, the thresholds, the preparation of a clip and
a card. Keras ignores this member, so it can load the model alone. It holds
plain data: nothing in it is executed.
"""

import io
import json
import os
import pathlib
import tempfile
import zipfile
from collections.abc import Mapping
from typing import Any

import h5py
import keras
import numpy as np

from leaf_audio.common import files
from leaf_audio.common.checks import check_bool, check_path
from leaf_audio.common.export_formats import MEMBER
from leaf_audio.common.plain import for_json
from leaf_audio.common.run_folders import check_not_of_run
from leaf_audio.common.serialization import load_model
from leaf_audio.serving import preparation

_FORMAT = 1
_WEIGHTS = "model.weights.h5"
# Of the 24 significant bits of a float32, these many are rounded off.
_ROUNDED_BITS = 13


def write(
    path: str | os.PathLike,
    model: keras.Model,
    described: Mapping[str, Any],
    compact: bool,
) -> None:
    """Writes a model and its description, in one step.

    Args:
        path: Name of the file, ending in `.keras`.
        model: The model. Its optimizer is left out.
        described: The fields of a `TrainedClassifier` besides the model.
        compact: Whether the weights are rounded and compressed.

    Raises:
        ValueError: If `path` does not end in `.keras`, its folder does not
            exist, or it is a file of a run.
    """
    path = pathlib.Path(check_path("path", path)).expanduser()
    check_bool("compact", compact)
    if path.suffix != ".keras" or not path.parent.is_dir():
        raise ValueError(
            "`path` must be a file that ends in .keras, in a folder that "
            f"exists. Received: path={str(path)!r}."
            f"{files.remedy_of_folder(path)}"
        )
    check_not_of_run("path", path)
    fields = dict(described)
    fields["preparation"] = preparation.to_config(fields.pop("transform_fns"))
    fields = {"format": _FORMAT, **fields}
    text = json.dumps(fields, indent=2, default=for_json)
    with tempfile.TemporaryDirectory() as folder:
        plain = pathlib.Path(folder) / "model.keras"
        model.save(plain, include_optimizer=False)
        with files.replacing(path) as partial:
            _copy(plain, partial, compact, text)


def _copy(
    source: pathlib.Path, target: pathlib.Path, compact: bool, text: str
) -> None:
    """Copies a `.keras` file and adds the description."""
    kind = zipfile.ZIP_DEFLATED if compact else zipfile.ZIP_STORED
    with (
        zipfile.ZipFile(source) as given,
        zipfile.ZipFile(target, "w", kind, compresslevel=9) as made,
    ):
        for name in given.namelist():
            content = given.read(name)
            if compact and name == _WEIGHTS:
                content = _rounded(content)
            made.writestr(name, content)
        made.writestr(MEMBER, text)


def _rounded(content: bytes) -> bytes:
    """Rounds all float32 weights of an HDF5 file to few significant bits."""
    buffer = io.BytesIO(content)

    def round_one(_: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.dtype == np.float32:
            bits = np.asarray(item).view(np.uint32).astype(np.uint64)
            half = 1 << (_ROUNDED_BITS - 1)
            rounded = (bits + half) >> _ROUNDED_BITS << _ROUNDED_BITS
            item[...] = rounded.astype(np.uint32).view(np.float32)

    with h5py.File(buffer, "r+") as file:
        file.visititems(round_one)
    return buffer.getvalue()


def read(path: str | os.PathLike) -> tuple[keras.Model, dict[str, Any]]:
    """Reads a model and its description.

    Args:
        path: Name of the file.

    Returns:
        The model, without an optimizer, and the other fields of a
        `TrainedClassifier`.

    Raises:
        ValueError: If the file cannot be read, holds a model alone, or a
            description that is not valid. The message names the file.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            found = MEMBER in archive.namelist()
            text = archive.read(MEMBER) if found else b""
    except FileNotFoundError as error:
        raise ValueError(
            f"`path` must be a file. Received: path={str(path)!r}, which does "
            "not exist."
        ) from error
    # A damaged archive raises about any error.
    except Exception as error:
        raise ValueError(
            f"{str(path)!r} must be a .keras file. Received: {error}."
        ) from error
    if not found:
        raise ValueError(
            f"{str(path)!r} must be a classifier that TrainedClassifier.save "
            "has written. Received: a model without labels and sample rate. "
            "keras.models.load_model loads it."
        )
    try:
        described = _checked(json.loads(text))
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{str(path)!r} must have a valid description in its {MEMBER}. "
            f"{error}"
        ) from error
    return load_model(path), described


def _checked(described: Any) -> dict[str, Any]:
    """Returns the fields of a `TrainedClassifier`, which checks the others."""
    if not isinstance(described, dict):
        raise ValueError(f"Received: a {type(described).__name__}.")
    if described.get("format") != _FORMAT:
        raise ValueError(
            f"This version of leaf_audio reads format {_FORMAT}. "
            f"Received: format={described.get('format')!r}."
        )
    card = described.get("card", {})
    if not isinstance(card, dict):
        raise ValueError(f"`card` must be an object. Received: card={card!r}.")
    names = ("labels", "sample_rate", "thresholds", "evaluation_hop")
    return {
        **{name: described.get(name) for name in names},
        "transform_fns": preparation.from_config(described.get("preparation")),
        "card": card,
    }
