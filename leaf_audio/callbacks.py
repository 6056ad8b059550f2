"""Callbacks for `keras.Model.fit`: new plans, and logs of the filters."""

import csv
import os
import pathlib
import warnings
from typing import Any

import keras
import numpy as np

from leaf_audio import diagnostics
from leaf_audio.common import files
from leaf_audio.common.checks import (
    check_bool,
    check_count,
    check_path,
    check_positive_int,
    check_unless_none,
)
from leaf_audio.frontend.layer_calls import find_layers
from leaf_audio.frontend.planned import PlannedFrontend


class Replan(keras.callbacks.Callback):
    """Makes new plans for the frontends of a model while `fit` trains it.

    Before training and after each epoch, a frontend gets a new plan if its
    filters have left the range of the present one. The model is then compiled
    again at its next step. Without this callback, a Leaf computes such filters
    exactly, which is slow, and an EfficientLeaf keeps its lengths and hops
    until the model is loaded anew.

    Place it before callbacks that save the model, so that they save the new
    plan.

    Args:
      check_freq: Positive integer. Number of steps between checks within an
        epoch. Only Leaf needs them: its steps can become slow before an
        epoch ends. Defaults to 20.
      steps_before: Integer, 0 or above. Number of steps of the first epoch
        that were done before, in a process that was interrupted. Checks
        then come at the steps where they would have come without the
        interruption, and none comes before training. Defaults to 0.

    Raises:
      ValueError: If an argument is not such an integer.

    Example:

    ```python
    model.fit(data, epochs=10, callbacks=[callbacks.Replan()])
    ```
    """

    def __init__(self, check_freq: int = 20, steps_before: int = 0):
        super().__init__()
        self.check_freq = check_positive_int("check_freq", check_freq)
        self.steps_before = check_count("steps_before", steps_before)
        self._done = self.steps_before

    def on_train_begin(self, logs: Any = None) -> None:
        if not self._done:
            self._replan(built_leafs(self.model))

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        checks = max(-(-self._done // self.check_freq), 1)
        self._next_check = checks * self.check_freq - self._done
        self._done = 0

    # Keras would wait for the logs of each step before it calls a hook at the
    # end of the step.
    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        if batch < self._next_check:
            return
        self._next_check = batch + self.check_freq
        leafs = built_leafs(self.model)
        leafs = [leaf for leaf in leafs if leaf.exact_outside_plan]
        if leafs and keras.backend.backend() == "jax":
            # Within an epoch, `fit` on JAX does not update the variables.
            self.model.jax_state_sync()
        self._replan(leafs)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._replan(built_leafs(self.model))

    def _replan(self, leafs: list[PlannedFrontend]) -> None:
        model = self.model
        changed = [leaf.replan(if_needed=True) for leaf in leafs]
        if any(changed):
            model.train_function = None
            model.test_function = None
            model.predict_function = None
            model.make_train_function()


class LogFilters(keras.callbacks.Callback):
    """Logs the filters of a frontend after each epoch.

    For each value that `diagnostics.filters` returns, the mean distance of the
    filters from where they were before training is added to the logs of the
    epoch, as `drift_centre_hz` and so on. `fit` returns these logs, and
    callbacks that come later, such as `keras.callbacks.TensorBoard` and
    `CSVLogger`, log them.

    Args:
      path: Path of a CSV file, or None for no file. The file has one row for
        each epoch and filter, with the values of `diagnostics.filters` and
        `diagnostics.pcen`. Epoch 0 is the state before training; its PCEN
        parameters are missing if `fit` builds the model. An existing file is
        replaced. If `fit` starts at a later epoch, the rows of the epochs
        before it are kept. Defaults to None.
      goes_on: Boolean. Whether the first epoch of `fit` has had steps before,
        such as in a process that was interrupted. The weights are then not
        those from before the epoch, which the file has. Defaults to False.

    Raises:
      ValueError: If `goes_on` is not a bool. In `fit`, if the model does not
        have exactly one frontend with learnable filters.

    Example:

    ```python
    log = callbacks.LogFilters("filters.csv")
    model.fit(data, callbacks=[log, keras.callbacks.TensorBoard("logs")])
    ```
    """

    def __init__(
        self, path: str | os.PathLike | None = None, goes_on: bool = False
    ):
        super().__init__()
        check_unless_none(check_path, path=path)
        self.path = None if path is None else pathlib.Path(path)
        self.goes_on = check_bool("goes_on", goes_on)

    def on_train_begin(self, logs: Any = None) -> None:
        self._rows: list[dict[str, Any]] | None = None
        found = diagnostics.learned_frontends(self.model)
        if len(found) != 1:
            raise ValueError(
                "LogFilters needs a model with one frontend that has filters "
                f"to learn. Received: model={self.model.name!r} with "
                f"{[frontend.name for frontend in found]}."
            )
        (self._frontend,) = found

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if self._rows is not None:
            return
        keeps = epoch > 0 or self.goes_on
        rows = []
        if keeps and self.path is not None and self.path.exists():
            rows = self._read_rows(epoch)
        self._rows = [row for row in rows if int(row["epoch"]) < epoch]
        # On TensorFlow, `fit` builds a model in its first step, after this
        # method was called.
        self._waits_for_build = not self._frontend.built
        if self.goes_on and len(self._rows) < len(rows):
            self._rows = rows
        elif self.goes_on and epoch == 0:
            self._add_initial(epoch)
        elif not self._waits_for_build:
            self._add(epoch, self._parameters())
        self._write()

    def _read_rows(self, before: int) -> list[dict[str, Any]]:
        """Reads the rows of the epochs up to the beginning of one."""
        try:
            with open(self.path, encoding="utf-8", newline="") as file:
                rows = list(csv.DictReader(file))
            if any(None in row or None in row.values() for row in rows):
                raise ValueError("rows differ in length")
            return [row for row in rows if int(row["epoch"]) <= before]
        except (csv.Error, KeyError, TypeError, ValueError) as error:
            warnings.warn(
                f"{self.path} is no log of filters and will be replaced: the "
                f"rows of the epochs before {before + 1} are lost "
                f"({type(error).__name__}: {error}).",
                stacklevel=2,
            )
            return []

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if self._waits_for_build:
            self._waits_for_build = False
            self._add_initial(epoch)
        for name, moved in self._drift().items():
            logs[f"drift_{name}"] = float(np.abs(moved).mean())
        self._add(epoch + 1, self._parameters())
        self._write()

    def _drift(self) -> dict[str, np.ndarray]:
        """Returns how far the filters have moved since before the training.

        They may have begun elsewhere than where the initializer puts them, such
        as at the weights of another run.
        """
        present = diagnostics.filters(self._frontend)
        # Rows that were read may lack columns.
        first = [
            row
            for row in self._rows or []
            if int(row["epoch"]) == 0 and present.keys() <= row.keys()
        ]
        if len(first) != self._frontend.n_filters:
            return diagnostics.drift(self._frontend)
        return {
            name: values - np.array([float(row[name]) for row in first])
            for name, values in present.items()
        }

    def _add_initial(self, epoch: int) -> None:
        """Adds the filters before training, without PCEN's parameters."""
        self._add(epoch, diagnostics.filters(self._frontend, initial=True))

    def _parameters(self) -> dict[str, np.ndarray]:
        return {
            **diagnostics.filters(self._frontend),
            **diagnostics.pcen(self._frontend),
        }

    def _add(self, epoch: int, columns: dict[str, np.ndarray]) -> None:
        for n, values in enumerate(zip(*columns.values(), strict=True)):
            row = dict(zip(columns, map(float, values), strict=True))
            self._rows.append({"epoch": epoch, "filter": n, **row})

    def _write(self) -> None:
        if self.path is None or not self._rows:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # Rows that were read may have other columns.
        columns = dict.fromkeys(
            name for row in reversed(self._rows) for name in row
        )
        files.write_csv(self.path, list(columns), self._rows)


def built_leafs(layer: keras.layers.Layer) -> list[PlannedFrontend]:
    """Finds the frontends within a model that are built and may have a plan.

    Args:
      layer: Layer or model. It may be a frontend itself.

    Returns:
      The frontends, each once.
    """
    return [one for one in find_layers(layer, PlannedFrontend) if one.built]
