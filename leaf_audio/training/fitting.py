"""The epochs of a run, each evaluated and saved."""

from __future__ import annotations

import math
import sys
import time
from typing import Any

import keras

from leaf_audio import data
from leaf_audio.callbacks import LogFilters, Replan
from leaf_audio.diagnostics import learned_frontends
from leaf_audio.training.evaluation import Scorer
from leaf_audio.training.feeding import feed
from leaf_audio.training.progress import Progress
from leaf_audio.training.tensorboard import TensorBoardLog
from leaf_audio.training.workdir import Workdir


class TrainingStopped(RuntimeError):
    """Training was stopped because a loss is not a finite number."""


def fit(
    model: keras.Model,
    folder: Workdir,
    progress: Progress,
    batches: data.Batches,
    steps: int,
    num_epochs: int,
) -> None:
    """Trains the epochs that are left, and saves after each of them.

    Args:
        model: The model, built and compiled, in the state of `progress`.
        folder: The folder of the run.
        progress: The epochs that are done. New ones are added to it.
        batches: The batches for training and evaluation.
        steps: The number of batches in an epoch.
        num_epochs: The number of epochs in total.

    Raises:
        TrainingStopped: If a loss is not a finite number.
    """
    done = len(progress.history)
    if done == num_epochs:
        return
    # The recorder comes last. It saves the plan that Replan makes for the next
    # epoch, and logs the drift that LogFilters measures.
    callbacks: list[keras.callbacks.Callback] = [Replan()]
    if len(learned_frontends(model)) == 1:
        callbacks.append(LogFilters(folder.filters))
    callbacks.append(Recorder(folder, progress, batches))
    model.fit(
        feed(batches.train(first_step=done * steps)),
        initial_epoch=done,
        epochs=num_epochs,
        steps_per_epoch=steps,
        callbacks=callbacks,
        shuffle=False,
        # A terminal gets a progress bar, a file gets one line for each epoch.
        verbose=1 if sys.stdout.isatty() else 2,
    )


class Recorder(keras.callbacks.Callback):
    """Evaluates and saves the model after each epoch, and checks the losses.

    The model is evaluated on the first split of `batches.evaluation`, which is
    "validation" if there is one.

    Args:
        folder: The folder of the run.
        progress: The epochs that are done. Each new one is added to it.
        batches: The batches for evaluation.

    Raises:
        TrainingStopped: In `fit`, if a loss is not a finite number.
    """

    def __init__(
        self, folder: Workdir, progress: Progress, batches: data.Batches
    ):
        super().__init__()
        self._folder = folder
        self._progress = progress
        split = next(iter(batches.evaluation))
        self._score = Scorer(batches.evaluation[split], batches.batch_size)
        self._log = TensorBoardLog(folder.tensorboard, progress.history)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._start = time.monotonic()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._check_finite("loss", logs["loss"], f"step {batch + 1} of ")

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        metrics = self._score(self.model)
        self._check_finite("validation loss", metrics["loss"], "the end of ")
        logs.update({f"val_{name}": value for name, value in metrics.items()})
        row = {
            "epoch": epoch + 1,
            "loss": float(logs["loss"]),
            "accuracy": float(logs["accuracy"]),
            "val_loss": metrics["loss"],
            "val_accuracy": metrics["accuracy"],
            "seconds": round(time.monotonic() - self._start, 3),
            **{
                name: value
                for name, value in logs.items()
                if name.startswith("drift_")
            },
        }
        self._progress.history.append(row)
        self._folder.save(self.model, self._progress)
        self._log.add(row)

    def _check_finite(self, name: str, value: Any, when: str) -> None:
        if not math.isfinite(value):
            epoch = len(self._progress.history) + 1
            raise TrainingStopped(
                f"The {name} is {float(value)} at {when}epoch {epoch}: "
                "training was stopped. A lower train.learning_rate may help; "
                f"workdir {str(self._folder.path)!r} holds the "
                f"{epoch - 1} epochs before."
            )
