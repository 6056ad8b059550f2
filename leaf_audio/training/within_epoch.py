"""Saves the state of a run within an epoch, and goes on from there.

An epoch of a large data set takes hours. Its state is saved from time to time,
and when the process is asked to end: by the system (SIGTERM), as schedulers of
clusters do, by the end of a terminal (SIGHUP), or by the user (SIGINT, Ctrl-C).
`state_within.npz` holds it: the number of steps and all variables, also those
of the metrics. The batches of a step do not depend on interruptions, so that
the position in the data is the number of the step. The state that it replaces
is kept, as `state_within_before.npz`, in case the newer is damaged.

The evaluation of an epoch may take long. So the state after its last step is
saved too, and a run that goes on from there only evaluates.

Several processes save, and end, after the same step; see `agreement`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import numpy as np

from leaf_audio.common import files, output
from leaf_audio.training import finite, signals
from leaf_audio.training.agreement import Agreement
from leaf_audio.training.processes import Interrupted, Terminated
from leaf_audio.training.progress import (
    Progress,
    check_same_settings,
    same_run,
)
from leaf_audio.training.state import load_archive, save_archive

# A run saves before the evaluation of an epoch if it would lose more than this.
_BEFORE_EVALUATION_S = 60.0


@dataclasses.dataclass
class Within:
    """How far an epoch has come.

    Attributes:
        epochs: The number of epochs that are done.
        steps: The number of steps of the next one that are done.
        steps_per_epoch: The number of steps of an epoch.
        slow: How many of them were computed outside a plan of LEAF.
        run: The settings and the data of the run, by name.
        seconds: How long they took.
    """

    epochs: int = 0
    steps: int = 0
    steps_per_epoch: int = 0
    slow: int = 0
    run: dict[str, str] = dataclasses.field(default_factory=dict)
    seconds: float = 0.0


def write(
    path: pathlib.Path,
    within: Within,
    model: keras.Model,
    arrays: Mapping[str, Any],
) -> None:
    """Writes the state within an epoch, in one step, and keeps the one before.

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
    with files.replacing(path, before=before(path)) as partial:
        with open(partial, "wb") as file:
            save_archive(
                file, dataclasses.asdict(within), {**metrics, **arrays}
            )


def before(path: pathlib.Path) -> pathlib.Path:
    """Returns the file that keeps the state before the one in a file."""
    return path.with_stem(f"{path.stem}_before")


def read(
    path: pathlib.Path,
    progress: Progress,
    steps_per_epoch: int,
    defaults: Mapping[str, str] | None = None,
    tell: Callable[[str], None] = print,
) -> tuple[Within, dict[str, np.ndarray]] | None:
    """Reads the state within an epoch, if it is that of the next epoch.

    If the newest state is damaged, the one before takes its place.

    Args:
        path: The file.
        progress: The epochs that are done.
        steps_per_epoch: The number of steps of an epoch.
        defaults: See `check_same_run`. Defaults to none.
        tell: Is called with a line if the newest state is damaged. Defaults to
            `print`.

    Returns:
        How far the epoch has come, and the arrays. None if there is no such
        file, or it is of an epoch before.

    Raises:
        Damaged: If all files are damaged.
        ValueError: If a file was written with other settings or data.
        OSError: If a file cannot be read.
    """
    try:
        return _read(path, progress, steps_per_epoch, defaults)
    except Damaged as error:
        found = _read(before(path), progress, steps_per_epoch, defaults)
        if found is None:
            raise
        # It must not take the place of the good one at the next saving.
        before(path).replace(path)
        tell(f"{error}: the state before takes its place")
    return found


def _read(
    path: pathlib.Path,
    progress: Progress,
    steps_per_epoch: int,
    defaults: Mapping[str, str] | None,
) -> tuple[Within, dict[str, np.ndarray]] | None:
    """Reads the state within an epoch from one file; see `read`."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        fields, arrays = load_archive(content)
        within = Within(**fields)
        # Earlier versions wrote a hash of the settings.
        if not isinstance(within.run, dict):
            raise ValueError("it does not name the settings of its run")
        if not 0 < within.steps <= within.steps_per_epoch:
            raise ValueError("it has a step that the epoch does not have")
    except MemoryError:
        raise
    # Any byte of the file may be damaged.
    except Exception:
        raise Damaged(f"{path} is damaged") from None
    if within.epochs != len(progress.history):
        return None
    check_same_settings(
        f"{path}, saved after step {within.steps} of epoch {within.epochs + 1}",
        {**within.run, "steps in an epoch": str(within.steps_per_epoch)},
        {**settings_of(progress), "steps in an epoch": str(steps_per_epoch)},
        defaults,
        otherwise=f", or remove {path.stem}*.npz there to begin the epoch "
        "again",
    )
    return within, arrays


def remove(path: pathlib.Path) -> None:
    """Removes the state within an epoch, and the one before."""
    path.unlink(missing_ok=True)
    before(path).unlink(missing_ok=True)


class Damaged(Exception):
    """The state within an epoch cannot be read: the epoch begins again."""


def settings_of(progress: Progress) -> dict[str, str]:
    """Returns what makes a run this one and no other, by name."""
    known = same_run(progress.identity)
    if progress.moves:
        known["train.num_epochs"] = " and ".join(map(str, progress.ends))
    return known


class SaveWithin(keras.callbacks.Callback):
    """Saves the state within epochs, and ends the run when it is asked to.

    It comes last of all callbacks. Several processes do all of this after the
    same steps.

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
        Terminated: In `fit`, after SIGTERM or SIGHUP, or if another process was
            asked.
        Interrupted: In `fit`, after SIGINT.
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
        self._agreement = Agreement()
        self._steps = 0
        self._saved = time.monotonic()
        self._began = self._saved
        # The signal that asked this process to end.
        self._asked_by: signal.Signals | None = None
        self._terminals: list[int] = []

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Within the `with` block, signals end the run after its step.

        These are SIGTERM, SIGHUP and SIGINT, of which a second one ends it at
        once; see `signals.handled`.
        """
        self._terminals = [one for one in (1, 2) if os.isatty(one)]
        try:
            with signals.handled(self._ask):
                yield
        except ChildProcessError:
            if self._asked_by is None:
                raise
            # The signal has reached workers that had just been started, too.
            raise self._end() from None
        # After the last look at what was asked.
        (is_asked,) = self._agreement.now(self._asked_by is not None)
        self._end_if(is_asked)

    def _ask(self, number: int, frame: Any) -> None:
        if self._asked_by is None:
            self._asked_by = signal.Signals(number)
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            # Not by `tell`: the signal may come while that writes.
            signals.say(
                "\nEnding after this step, or the evaluation that has begun, "
                "and saving. Ctrl-C again ends at once."
            )
        elif number != signal.SIGTERM:
            # The terminal is gone: what is written there would be an error.
            for one in self._terminals:
                output.discard(one)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._steps = 0
        self._began = time.monotonic()
        if self._begun is None:
            remove(self._path)
            return
        within, arrays = self._begun
        self._begun = None
        self._began -= within.seconds
        self._steps = within.steps
        if self._counter is not None:
            self._counter.steps += within.steps
            self._counter.slow += within.slow
        # Keras has just set them to zero.
        for i, variable in enumerate(self.model.metrics_variables):
            variable.assign(arrays[f"metric_{i}"])

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._steps += 1
        seconds, ask = self._seconds, self._agreement.after_step
        if self._steps == self._steps_per_epoch:
            # The evaluation is next. Processes do not ask each other in it.
            seconds = min(seconds, _BEFORE_EVALUATION_S)
            ask = self._agreement.now
        is_due, is_asked = ask(
            time.monotonic() - self._saved > seconds,
            self._asked_by is not None,
        )
        if not is_due and not is_asked:
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
                run=settings_of(self._progress),
                seconds=time.monotonic() - self._began,
            )
        )
        self._saved = time.monotonic()
        self._end_if(is_asked)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        # The recorder has saved the state after the epoch.
        remove(self._path)
        self._saved = time.monotonic()
        (is_asked,) = self._agreement.now(self._asked_by is not None)
        self._end_if(is_asked)

    def _end_if(self, is_asked: bool) -> None:
        if not is_asked:
            return
        if self._asked_by is None:
            who = "another process"
        elif self._asked_by == signal.SIGINT:
            who = "Ctrl-C"
        else:
            who = f"the system ({self._asked_by.name})"
        # The bar of a terminal has not ended its line.
        begin = "\n" if sys.stdout.isatty() else ""
        try:
            self._tell(
                f"{begin}ended by {who}; all is saved, and the same command "
                "goes on"
            )
            sys.stdout.flush()
        except OSError:
            # Whoever reads it has ended by the same signal.
            output.discard(1)
        raise self._end()

    def _end(self) -> BaseException:
        """Returns what ends the run."""
        by_user = self._asked_by == signal.SIGINT
        return Interrupted() if by_user else Terminated()
