"""The epochs of a run, each evaluated and saved."""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import math
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import keras

from leaf_audio import data
from leaf_audio.callbacks import LogFilters, Replan
from leaf_audio.diagnostics import learned_frontends
from leaf_audio.training import processes
from leaf_audio.training.feeding import feed, own_errors
from leaf_audio.training.finite import TrainingStopped, check_weights
from leaf_audio.training.optimizers import (
    averaged_weights,
    without_final_averages,
)
from leaf_audio.training.progress import Progress
from leaf_audio.training.random_states import KeepRandomStates, kept
from leaf_audio.training.schedules import ReduceOnPlateau, Scaled
from leaf_audio.training.scorers import scorer_of
from leaf_audio.training.step_watch import (
    OUTSIDE_PLAN,
    exact_outside_plan,
    watched_steps,
)
from leaf_audio.training.tensorboard import TensorBoardLog
from leaf_audio.training.within_epoch import Damaged, SaveWithin
from leaf_audio.training.workdir import Workdir

__all__ = [
    "Recorder",
    "StopIfNotFinite",
    "TrainingStopped",
    "fit",
]


def fit(
    model: keras.Model,
    folder: Workdir,
    progress: Progress,
    batches: data.Batches,
    steps: int,
    num_epochs: int,
    lower: LowerRate | None = None,
    tell: Callable[[str], None] = print,
    share: tuple[int, int] = (0, 1),
    checkpoint_minutes: float = 10.0,
    defaults: Mapping[str, str] | None = None,
) -> None:
    """Trains the epochs that are left, and saves within and after each of them.

    Args:
        model: The model, built and compiled, in the state of `progress`.
        folder: The folder of the run.
        progress: The epochs that are done. New ones are added to it.
        batches: The batches for training and evaluation.
        steps: The number of batches in an epoch.
        num_epochs: The number of epochs in total.
        lower: Lowers the learning rate. Defaults to None, for a rate that
            depends on nothing but the step.
        tell: Is called with a line after each epoch. Defaults to `print`.
        share: Which part of each batch this process trains on; see
            `data.Batches.train`. Defaults to all of it.
        checkpoint_minutes: The time between two savings within an epoch.
            Defaults to 10.
        defaults: See `check_same_run`. Defaults to none.

    Raises:
        TrainingStopped: If a loss, a gradient or a weight is not finite.
        ValueError: If the state within an epoch is that of another run.
        processes.Terminated: If the system has asked the process to end.
        processes.Interrupted: If the user has pressed Ctrl-C.
    """
    # TensorFlow's iterator is in a cycle, which Python would collect when its
    # threads cannot run any more. It would wait for one of them for ever.
    atexit.unregister(gc.collect)
    atexit.register(gc.collect)
    done = len(progress.history)
    is_complete = done == num_epochs or (lower and lower.has_ended)
    begun = None
    try:
        if not is_complete:
            begun = folder.restore_within(
                model, progress, steps, defaults, tell
            )
    except Damaged as error:
        tell(f"{error}: epoch {done + 1} begins again")
    first_step = begun[0].steps if begun else 0
    if begun:
        where = f"in epoch {done + 1} of {folder.path}, after step {first_step}"
        tell(f"going on {where}")
    elif done:
        tell(f"going on after epoch {done} of {folder.path}")
    if is_complete:
        return
    processes.check_equal(
        "the same state within an epoch in all processes",
        f"that after step {first_step}",
    )
    # The check comes first: neither a plan nor a drift can be computed from
    # weights that are not finite. The recorder comes last. It saves the plan
    # that Replan makes for the next epoch, and logs the drift that LogFilters
    # measures.
    callbacks: list[keras.callbacks.Callback] = [
        KeepRandomStates(),
        StopIfNotFinite(folder, progress, first_step),
        Replan(steps_before=first_step),
    ]
    is_terminal = sys.stdout.isatty() and share[0] == 0
    if is_terminal:
        # Before the callbacks that add metrics, for which its line is too
        # short.
        callbacks.append(keras.callbacks.ProgbarLogger())
    if len(learned_frontends(model)) == 1:
        callbacks.append(LogFilters(folder.filters, goes_on=bool(begun)))
    counter = CountSlowSteps() if exact_outside_plan(model) else None
    if counter:
        callbacks.insert(0, counter)
    callbacks.append(
        Recorder(
            folder,
            progress,
            batches,
            num_epochs,
            tell,
            counter,
            seconds_before=begun[0].seconds if begun else 0.0,
        )
    )
    if lower:
        callbacks.append(lower)
    with contextlib.ExitStack() as stack:
        saver = SaveWithin(
            save=functools.partial(folder.save_within, model),
            path=folder.within,
            progress=progress,
            steps_per_epoch=steps,
            minutes=checkpoint_minutes,
            tell=tell,
            counter=counter,
            begun=begun,
        )
        callbacks.append(saver)
        stack.enter_context(saver.listening())
        stack.enter_context(watched_steps(model))
        stack.enter_context(without_final_averages(model))

        def train(first_epoch: int, epochs: int, first_step: int) -> None:
            position = first_epoch * steps + first_step
            made = batches.train(first_step=position, share=share)
            with own_errors(made) as own:
                model.fit(
                    feed(own),
                    initial_epoch=first_epoch,
                    epochs=epochs,
                    steps_per_epoch=steps - first_step,
                    callbacks=callbacks,
                    shuffle=False,
                    verbose=1 if is_terminal else 0,
                )

        if begun:
            if first_step < steps:
                train(done, done + 1, first_step)
            else:
                end_epoch(model, callbacks, done)
            done += 1
        if done < num_epochs and not (lower and lower.has_ended):
            train(done, num_epochs, 0)


def end_epoch(
    model: keras.Model, callbacks: list[keras.callbacks.Callback], epoch: int
) -> None:
    """Does what `fit` does after the last step of an epoch.

    Args:
        model: The model, built and compiled.
        callbacks: Are called as for an epoch without a step.
        epoch: The number of the epoch, from 0.
    """
    together = keras.callbacks.CallbackList(
        callbacks, model=model, verbose=0, epochs=epoch + 1, steps=0
    )
    together.on_train_begin()
    together.on_epoch_begin(epoch)
    together.on_epoch_end(epoch, _metrics_of(model))
    together.on_train_end()


def _metrics_of(model: keras.Model) -> dict[str, float]:
    metrics = model.get_metrics_result()
    return {name: float(value) for name, value in metrics.items()}


class StopIfNotFinite(keras.callbacks.Callback):
    """Stops training if a loss, a gradient or a weight is not finite.

    Loss and gradients are checked after each step, the weights after each
    epoch. `fit` must run within `watched_steps`.

    Args:
        folder: The folder of the run, for the message.
        progress: The epochs that are done.
        steps_before: The number of steps of the first epoch that were done
            before `fit`. Defaults to 0.

    Raises:
        TrainingStopped: In `fit`.
    """

    def __init__(
        self, folder: Workdir, progress: Progress, steps_before: int = 0
    ):
        super().__init__()
        self._folder = folder
        self._progress = progress
        self._steps_before = steps_before

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if math.isfinite(logs["loss"]):
            return
        if keras.backend.backend() == "jax":
            # Within an epoch, `fit` on JAX does not update the variables.
            self.model.jax_state_sync()
        loss = float(self.model.get_metrics_result()["loss"])
        what = (
            "The gradients are not finite"
            if math.isfinite(loss)
            else f"The loss is {loss}"
        )
        epoch = len(self._progress.history) + 1
        step = self._steps_before + batch + 1
        raise stopped(
            f"{what} at step {step} of epoch {epoch}", self._folder, epoch
        )

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._steps_before = 0
        check_weights(self.model, f"after epoch {epoch + 1}")


class CountSlowSteps(keras.callbacks.Callback):
    """Counts the steps of an epoch that a frontend computed outside its plan.

    It comes first, and takes `OUTSIDE_PLAN` out of the logs, which are for
    metrics. `fit` must run within `watched_steps`.

    Attributes:
        steps: The number of steps of the epoch.
        slow: The number of those that were computed outside a plan.
    """

    def __init__(self) -> None:
        super().__init__()
        self.steps = self.slow = 0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.steps = self.slow = 0

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.steps += 1
        self.slow += int(logs.pop(OUTSIDE_PLAN))

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        # Keras takes the logs of the last step for those of the epoch if they
        # hold more than metrics.
        logs.pop(OUTSIDE_PLAN, None)
        logs.update(_metrics_of(self.model))


def stopped(reason: str, folder: Workdir, epoch: int) -> TrainingStopped:
    """Returns the error that ends a run.

    Args:
        reason: What is not finite, and when.
        folder: The folder of the run.
        epoch: The number, from 1, of the epoch that was not completed.
    """
    return TrainingStopped(
        f"{reason}: training was stopped. A lower train.learning_rate may "
        f"help; workdir {str(folder.path)!r} holds the {epoch - 1} epochs "
        "before."
    )


class Recorder(keras.callbacks.Callback):
    """Evaluates and saves the model after each epoch, and tells so.

    The model is evaluated on the first split of `batches.evaluation`, which is
    "validation" if there is one. Each clip is evaluated once, as the transforms
    crop it: chunks would take too long after each epoch.

    Args:
        folder: The folder of the run.
        progress: The epochs that are done. Each new one is added to it.
        batches: The batches for evaluation.
        num_epochs: The number of epochs in total, for the line of an epoch.
        tell: Is called with a line after each epoch, and another if more than
            one step in a hundred was slow.
        counter: Counts the slow steps. Defaults to None, for a model that has
            none.
        seconds_before: How long the steps of the first epoch took that were
            done before `fit`. Defaults to 0.

    Raises:
        TrainingStopped: In `fit`, if the validation loss is not finite.
    """

    def __init__(
        self,
        folder: Workdir,
        progress: Progress,
        batches: data.Batches,
        num_epochs: int,
        tell: Callable[[str], None],
        counter: CountSlowSteps | None = None,
        seconds_before: float = 0.0,
    ):
        super().__init__()
        self._folder = folder
        self._progress = progress
        self._counter = counter
        self._seconds_before = seconds_before
        self._num_epochs = num_epochs
        self._tell = tell
        split, some = next(iter(batches.evaluation.items()))
        self._score = scorer_of(batches)(
            some, batches.labels[split], batches.batch_size
        )
        self._log = TensorBoardLog(folder.tensorboard, progress.history)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._start = time.monotonic() - self._seconds_before
        self._seconds_before = 0.0

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        with averaged_weights(self.model):
            with kept():
                metrics = self._score(self.model)
        if not math.isfinite(metrics["loss"]):
            raise stopped(
                f"The validation loss is {metrics['loss']} at the end of epoch "
                f"{epoch + 1}",
                self._folder,
                epoch + 1,
            )
        drifts = {k: v for k, v in logs.items() if k.startswith("drift_")}
        trained = {k: v for k, v in logs.items() if k not in drifts}
        validated = {f"val_{name}": value for name, value in metrics.items()}
        logs.update(validated)
        # Loss and main metric come first, of training and then of validation.
        row = {
            "epoch": epoch + 1,
            "loss": float(trained.pop("loss")),
            **{name: float(value) for name, value in trained.items()},
            "val_loss": validated.pop("val_loss"),
            **validated,
            "seconds": round(time.monotonic() - self._start, 3),
            **drifts,
        }
        counter = self._counter
        if counter:
            row["slow_steps"] = counter.slow
        self._progress.history.append(row)
        self._folder.save(self.model, self._progress)
        self._log.add(row)
        self._tell(epoch_line(row, self._num_epochs))
        if counter and counter.slow > 0.01 * counter.steps:
            self._tell(
                f"{counter.slow} of {counter.steps} steps were slow: the "
                "filters had left the plan of LEAF"
            )


class LowerRate(keras.callbacks.Callback):
    """Lowers the learning rate at a plateau, and ends training at the floor.

    Place it after the recorder.

    Args:
        plateau: What a plateau is.
        rate: The learning rate of the optimizer.
        highest: The rate before the first plateau.
        progress: The epochs that are done.
        tell: Is called with a line when the rate changes. Defaults to `print`.
    """

    def __init__(
        self,
        plateau: ReduceOnPlateau,
        rate: Scaled,
        highest: float,
        progress: Progress,
        tell: Callable[[str], None] = print,
    ):
        super().__init__()
        self._plateau = plateau
        self._rate = rate
        self._highest = highest
        self._progress = progress
        self._tell = tell
        rate.scale = self._scale()

    @property
    def has_ended(self) -> bool:
        """Whether the rate that is due is below the floor."""
        return self._plateau.is_below_floor(self._highest * self._scale())

    def _scale(self) -> float:
        losses = [row["val_loss"] for row in self._progress.history]
        return self._plateau.scale(losses)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        scale = self._scale()
        if scale == self._rate.scale:
            return
        self._rate.scale = scale
        if self.has_ended:
            self._tell("the learning rate has reached its floor: training ends")
            self.model.stop_training = True
            return
        self._tell(f"the learning rate falls to {self._highest * scale:.2g}")
        # The step is compiled again, for the new rate.
        self.model.train_function = None
        self.model.make_train_function()


def epoch_line(row: Mapping[str, float], num_epochs: int) -> str:
    """Describes an epoch in a line of at most 80 columns.

    Args:
        row: Its metrics, as in `Progress.history`.
        num_epochs: The number of epochs in total.

    Returns:
        A line with the loss, the main metric and the duration, such as
        "epoch 3/20: loss 0.413 (val 0.512), accuracy 0.851 (val 0.833), 12 s".
        Where clips have several labels, the main metric is there for validation
        only, as in "loss 0.213 (val 0.312), val mAP 0.651".
    """
    parts = []
    for name, title in (
        ("loss", "loss"),
        ("accuracy", "accuracy"),
        ("map", "mAP"),
    ):
        values = [row.get(name), row.get(f"val_{name}")]
        trained, validated = [
            None if value is None else _short(value) for value in values
        ]
        if validated is not None and trained is not None:
            parts.append(f"{title} {trained} (val {validated})")
        elif validated is not None:
            parts.append(f"val {title} {validated}")
    return (
        f"epoch {row['epoch']:.0f}/{num_epochs}: {', '.join(parts)}, "
        f"{row['seconds']:.0f} s"
    )


def _short(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 1000 else f"{value:.2e}"
