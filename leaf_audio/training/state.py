"""The state of a run on disk, and the mark of the epoch in its model."""

from __future__ import annotations

import dataclasses
import io
import json
import pathlib
import zipfile
from collections.abc import Mapping
from typing import Any, BinaryIO

import keras
import numpy as np

from leaf_audio.callbacks import built_leafs
from leaf_audio.common import files
from leaf_audio.common.listing import listed
from leaf_audio.training import finite, random_states
from leaf_audio.training.progress import Progress

# Under this name, an archive lists its arrays.
_NAMES = "arrays"
_FIELDS = {field.name for field in dataclasses.fields(Progress)}


class SavedState:
    """Writes the state of a run, and reads the newest that is not damaged.

    A state is written in one step, and the one that it replaces is kept. Disks
    and copies damage files all the same. If the newest state cannot be read,
    the run goes on from the one before.

    Args:
        folder: pathlib.Path. The folder of the run.

    Attributes:
        newest: `state.npz`.
        before: `state_before.npz`.
        source: The one that was read; `newest` before.
        damage: What `read` found damaged, as a sentence to tell; or None.
    """

    def __init__(self, folder: pathlib.Path):
        self.newest = self.source = folder / "state.npz"
        self.before = folder / "state_before.npz"
        self.damage: str | None = None

    def exists(self) -> bool:
        """Returns whether there is a state, damaged or not."""
        return self.newest.exists() or self.before.exists()

    def write(self, progress: Progress, arrays: dict[str, Any]) -> None:
        """Writes a state, and keeps the one before.

        Args:
            progress: The progress of the run.
            arrays: The values of all variables, by name.
        """
        # A damaged state must not take the place of a good one.
        keep = None if self.damage else self.before
        with files.replacing(self.newest, before=keep) as path:
            with open(path, "wb") as file:
                save_archive(file, dataclasses.asdict(progress), arrays)
        self.damage = None

    def read(self) -> tuple[Progress, dict[str, np.ndarray]]:
        """Reads the newest state that is not damaged.

        Returns:
            The progress and the arrays that `write` was given.

        Raises:
            ValueError: If no state can be read, or the newest is of a later
                version of the package.
            OSError: If a file is there and cannot be opened.
        """
        problems = []
        for path in (self.newest, self.before):
            try:
                content = path.read_bytes()
            except FileNotFoundError:
                continue
            try:
                fields, arrays = load_archive(content)
                if not fields["history"]:
                    raise ValueError("it has no epoch")
                known = {k: v for k, v in fields.items() if k in _FIELDS}
                progress = Progress(**known)
            except MemoryError:
                raise
            # Any byte of the file may be damaged, and what reads it raises an
            # error of any kind.
            except Exception as error:
                problems.append(f"{path}, which is damaged ({error})")
                continue
            unknown = sorted(fields.keys() - known)
            if unknown:
                raise ValueError(
                    "`workdir` must hold a run of this version of leaf_audio, "
                    f"or of an earlier one. Received: {path} with {unknown}."
                )
            self.source = path
            if problems:
                self.damage = (
                    f"instead of {problems[0]}, the run goes on from "
                    f"{path.name}, after epoch {len(progress.history)}"
                )
            return progress, arrays
        raise ValueError(
            "`workdir` must hold a readable state. Received: "
            f"{'; '.join(problems)}. This run cannot go on: choose another "
            "workdir. Its best.keras can be used if it is whole."
        )


def save_archive(
    file: BinaryIO, about: Mapping[str, Any], arrays: Mapping[str, Any]
) -> None:
    """Writes arrays, and what is known about them, as an archive of NumPy.

    Args:
        file: The file to write to.
        about: What JSON can represent, by name.
        arrays: The arrays, by name.
    """
    # The archive has sums of the arrays, but not of their names.
    text = json.dumps({**about, _NAMES: sorted(arrays)})
    np.savez(file, progress=np.array(text), **arrays)


def load_archive(
    content: bytes,
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Reads what `save_archive` has written.

    Args:
        content: The content of the file.

    Returns:
        What is known about the arrays, and the arrays.

    Raises:
        Exception: If the content is damaged, an error of any kind.
    """
    with np.load(io.BytesIO(content)) as archive:
        # Reading an array checks the sum that the archive keeps of it.
        arrays = dict(archive)
    about = json.loads(str(arrays.pop("progress")))
    # Earlier versions did not record the names.
    if about.pop(_NAMES, None) not in (None, sorted(arrays)):
        raise ValueError("its arrays have other names")
    return about, arrays


def mark_epoch(model: pathlib.Path, epoch: int) -> None:
    """Writes into the file of a model of which epoch it is.

    Args:
        model: A `.keras` file, which is a zip archive.
        epoch: The number of the epoch, from 1.
    """
    with zipfile.ZipFile(model, "a") as archive:
        archive.comment = f"epoch {epoch}".encode()


def read_epoch(model: pathlib.Path, default: int) -> int | None:
    """Reads of which epoch the model in a file is.

    Args:
        model: A `.keras` file.
        default: What to return for a file without a mark, as earlier versions
            wrote them.

    Returns:
        The number of the epoch, or None if the file is missing or damaged.

    Raises:
        OSError: If the file is there and cannot be opened.
    """
    try:
        content = model.read_bytes()
    except FileNotFoundError:
        return None
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if archive.testzip() is not None:
                return None
            comment = archive.comment.decode()
            return int(comment.split()[1]) if comment else default
    except MemoryError:
        raise
    # See `SavedState.read`.
    except Exception:
        return None


def arrays_of(model: keras.Model) -> dict[str, Any]:
    """Returns all that the state of a model holds, by name.

    Args:
        model: The model, built and compiled.
    """
    arrays: dict[str, Any] = {
        f"variable_{i}": finite.to_array(variable)
        for i, variable in enumerate(finite.saved_variables(model))
    }
    for i, leaf in enumerate(built_leafs(model)):
        if leaf.planned_for is not None:
            arrays[f"planned_for_{i}"] = leaf.planned_for
    return arrays | random_states.read()


def assign(
    model: keras.Model,
    arrays: dict[str, np.ndarray],
    source: pathlib.Path,
) -> None:
    """Gives the values of a state to the variables of a model.

    Args:
        model: A model of the same configuration, built and compiled.
        arrays: What `arrays_of` returned.
        source: The file that holds them, for messages.

    Raises:
        ValueError: If there is another number of variables, or one that is not
            finite.
    """
    variables = finite.saved_variables(model)
    saved = sum(name.startswith("variable_") for name in arrays)
    if saved != len(variables):
        raise ValueError(
            f"`workdir` must hold the state of this model, of "
            f"{len(variables)} variables. Received: {source} with "
            f"{saved}."
        )
    for i, variable in enumerate(variables):
        variable.assign(arrays[f"variable_{i}"])
    found = finite.not_finite(variables)
    if found:
        raise ValueError(
            "`workdir` must hold a state that is finite. Received: "
            f"{source}, where these variables are not: "
            f"{listed(found, 3)}. The run must be repeated in another "
            "workdir."
        )
    for i, leaf in enumerate(built_leafs(model)):
        # A plan that is made anew from the present weights may differ
        # from the one that was in use, and outputs with it.
        if f"planned_for_{i}" in arrays:
            leaf.restore_plan(arrays[f"planned_for_{i}"])
    random_states.restore(arrays)
