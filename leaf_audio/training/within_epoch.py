"""Saves the state of a run within an epoch, and goes on from there.

An epoch of a large data set takes hours. Its state is saved from time to time,
and when the system asks the process to end (SIGTERM), as schedulers of clusters
do. `state_within.npz` holds it: all variables, with those of the metrics, and
the number of steps. The batches of a step do not depend on interruptions, so
that the position in the data is the number of the step.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import pathlib
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import numpy as np

from leaf_audio.common import files
from leaf_audio.training import finite
from leaf_audio.training.progress import Progress, same_run
from leaf_audio.training.state import load_archive, save_archive


class Terminated(SystemExit):
    """The system has asked the process to end, by SIGTERM. The state is saved.

    If nothing catches it, the process ends with the code 143, which schedulers
    do not take for a failure of the program.
    """

    def __init__(self) -> None:
        super().__init__(128 + signal.SIGTERM)


@dataclasses.dataclass
class Within:
    """How far an epoch has come.

    Attributes:
        epochs: The number of epochs that are done.
        steps: The number of steps of the next one that are done.
        steps_per_epoch: The number of steps of an epoch.
        slow: How many of them were computed outside a plan of LEAF.
        run: A hash of the settings and the data of the run.
    """

    epochs: int = 0
    steps: int = 0
    steps_per_epoch: int = 0
    slow: int = 0
    run: str = ""


def write(
    path: pathlib.Path,
    within: Within,
    model: keras.Model,
    arrays: Mapping[str, Any],
) -> None:
    """Writes the state within an epoch, in one step.

    Args:
        path: The file.
        within: How far the epoch has come.
        model: The model, for the variables of its metrics.
        arrays: The values of all other variables, by name.
    """
    metrics: dict[str, Any] = {
        f"metric_{i}": finite.to_array(variable)
        for i, variable in enumerate(model.metrics_variables)
    }
    with files.replacing(path) as partial, open(partial, "wb") as file:
        save_archive(file, dataclasses.asdict(within), {**metrics, **arrays})


def read(
    path: pathlib.Path, progress: Progress, steps_per_epoch: int
) -> tuple[Within, dict[str, np.ndarray]] | None:
    """Reads the state within an epoch, if it is that of the next epoch.

    Args:
        path: The file.
        progress: The epochs that are done.
        steps_per_epoch: The number of steps of an epoch.

    Returns:
        How far the epoch has come, and the arrays. None if there is no such
        file, or it is of an epoch before.

    Raises:
        Unusable: If the file is damaged, or was written with other settings.
        OSError: If it cannot be read.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        fields, arrays = load_archive(content)
        within = Within(**fields)
    except MemoryError:
        raise
    # Any byte of the file may be damaged.
    except Exception:
        raise Unusable(f"{path} is damaged") from None
    if within.epochs != len(progress.history):
        return None
    is_same = (
        within.steps_per_epoch == steps_per_epoch
        and 0 < within.steps < steps_per_epoch
        and within.run == run_hash(progress)
    )
    if not is_same:
        raise Unusable(f"{path} was written with other settings")
    return within, arrays


class Unusable(Exception):
    """The state within an epoch cannot be used: the epoch begins again."""


def run_hash(progress: Progress) -> str:
    """Returns a hash of what makes a run this one and no other."""
    known: Any = same_run(progress.identity)
    if progress.moves:
        known = [known, progress.ends]
    text = json.dumps(known, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


class SaveWithin(keras.callbacks.Callback):
    """Saves the state within epochs, and ends the run when it is asked to.

    It comes last of all callbacks.

    Args:
        save: Is called with a `Within`, to save the state.
        path: The file that `save` writes.
        progress: The epochs that are done.
        steps_per_epoch: The number of steps of an epoch.
        minutes: The time between two savings.
        tell: Is called with a line when the run is asked to end.
        counter: An object whose attribute `slow` counts slow steps, or None.
        begun: How far the first epoch has come already, with the values of the
            metrics; or None.

    Raises:
        Terminated: In `fit`, after SIGTERM.
    """

    def __init__(
        self,
        save: Callable[[Within], None],
        path: pathlib.Path,
        progress: Progress,
        steps_per_epoch: int,
        minutes: float,
        tell: Callable[[str], None] = print,
        counter: Any = None,
        begun: tuple[Within, Mapping[str, np.ndarray]] | None = None,
    ):
        super().__init__()
        self._save = save
        self._path = path
        self._progress = progress
        self._steps_per_epoch = steps_per_epoch
        self._seconds = 60 * minutes
        self._tell = tell
        self._counter = counter
        self._begun = begun
        self._steps = 0
        self._saved = time.monotonic()
        self._is_asked = threading.Event()

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Within the `with` block, SIGTERM ends the run after its step."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(
            signal.SIGTERM, lambda number, frame: self._is_asked.set()
        )
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._steps = 0
        if self._begun is None:
            self._path.unlink(missing_ok=True)
            return
        within, arrays = self._begun
        self._begun = None
        self._steps = within.steps
        if self._counter is not None:
            self._counter.steps += within.steps
            self._counter.slow += within.slow
        # Keras has just set them to zero.
        for i, variable in enumerate(self.model.metrics_variables):
            variable.assign(arrays[f"metric_{i}"])

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._steps += 1
        is_due = time.monotonic() - self._saved > self._seconds
        # After the last step, the epoch itself is saved.
        if self._steps == self._steps_per_epoch or not (
            is_due or self._is_asked.is_set()
        ):
            return
        if keras.backend.backend() == "jax":
            # Within an epoch, `fit` on JAX does not update the variables.
            self.model.jax_state_sync()
        self._save(
            Within(
                epochs=len(self._progress.history),
                steps=self._steps,
                steps_per_epoch=self._steps_per_epoch,
                slow=self._counter.slow if self._counter else 0,
                run=run_hash(self._progress),
            )
        )
        self._saved = time.monotonic()
        self._end_if_asked()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._saved = time.monotonic()
        self._end_if_asked()

    def _end_if_asked(self) -> None:
        if self._is_asked.is_set():
            self._tell(
                "ended by the system (SIGTERM); all is saved, and the same "
                "command goes on"
            )
            raise Terminated
