"""The state of a run on disk: the newest one, and the one before."""

from __future__ import annotations

import json
import pathlib
import zipfile
from typing import Any

import numpy as np

from leaf_audio.common import files
from leaf_audio.training.progress import Progress


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
        damage: What `read` found damaged, as a sentence to tell; or None.
    """

    def __init__(self, folder: pathlib.Path):
        self.newest = folder / "state.npz"
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
                np.savez(file, progress=np.array(progress.to_json()), **arrays)
        self.damage = None

    def read(self) -> tuple[Progress, dict[str, np.ndarray]]:
        """Reads the newest state that is not damaged.

        Returns:
            The progress and the arrays that `write` was given.

        Raises:
            ValueError: If no state can be read.
        """
        problems = []
        for path in (self.newest, self.before):
            if not path.exists():
                continue
            try:
                state = _read(path)
            # Any byte of the file may be damaged, and what reads it raises an
            # error of any kind.
            except Exception as error:
                problems.append(f"{path}, which is damaged ({error})")
                continue
            if problems:
                self.damage = (
                    f"{problems[0]}: the run goes on from {path.name}, after "
                    f"epoch {len(state[0].history)}"
                )
            return state
        raise ValueError(
            "`workdir` must hold a readable state. Received: "
            f"{'; '.join(problems)}."
        )


def _read(path: pathlib.Path) -> tuple[Progress, dict[str, np.ndarray]]:
    with open(path, "rb") as file, np.load(file) as archive:
        # Reading an array checks the sum that the archive keeps of it.
        arrays = dict(archive)
    progress = Progress(**json.loads(str(arrays.pop("progress"))))
    if not progress.history:
        raise ValueError("it has no epoch")
    return progress, arrays


def is_whole_archive(path: pathlib.Path) -> bool:
    """Returns whether a file is a zip archive, as a `.keras` is, and whole."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    # See `SavedState.read`.
    except Exception:
        return False
