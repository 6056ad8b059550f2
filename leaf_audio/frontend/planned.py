"""Frontends whose computation follows a plan made for their filters.

A plan holds what a compiled graph cannot decide from its weights: which filters
are computed together, how long their kernels are, and at which hop their
energies are computed. It is made from the present weights, saved with them, and
renewed on request.
"""

from typing import Any

import keras
import numpy as np

from leaf_audio.frontend.base import Frontend

# Names of the entries that stand beside the weights in a file.
_PLANNED_FOR = "planned_for"
_WINDOW_AND_STRIDE = "window_and_stride"


class PlannedFrontend(Frontend):
    """Base class of frontends that may compute by a plan for their filters.

    A subclass has the arguments `learn_filters` and `learn_pooling`, and the
    layers `_complex_conv` and `_pooling`. It assigns its `_filterbank` in the
    constructor, or leaves it None to compute without a plan. At the end of
    `build` it calls `self._filterbank.plan_initial_weights()`.

    Args:
      *args: Arguments of `Frontend`.
      **kwargs: Arguments of `Frontend`.
    """

    # What a compiled function does with filters that have left the plan. True:
    # it computes them exactly, which is slow. False: it keeps to the plan.
    exact_outside_plan = False

    _filterbank: Any = None

    def _filter_layers(self) -> list[keras.layers.Layer]:
        """Returns the layers that `learn_filters` is about."""
        return [self._complex_conv]

    def _fixed_layers(self) -> list[keras.layers.Layer]:
        fixed = [] if self.learn_filters else self._filter_layers()
        return fixed if self.learn_pooling else [*fixed, self._pooling]

    def replan(self, if_needed: bool = False) -> bool:
        """Makes a new plan for the present values of the weights.

        A function that was compiled before, such as the steps of `fit` and
        `predict`, keeps following the old plan until it is compiled again.

        Args:
          if_needed: Boolean. If False, a new plan is made in any case. If True,
            a new plan is made only if the weights have left the range that the
            present plan is valid for; the caller must then compile again if the
            result is True. Defaults to False.

        Returns:
          True if there is a new plan. With `if_needed`, also True if an eager
          call has made a new plan since the last call of this method with
          `if_needed`, so that compiled functions follow an outdated one. False
          otherwise, and always if the frontend computes without a plan.

        Raises:
          ValueError: If the frontend is not built, so that there are no weights
            yet.
        """
        self._check_built()
        return self._filterbank is not None and self._filterbank.replan(
            if_needed
        )

    @property
    def plan(self) -> Any:
        """The plan that is followed at present.

        None if the frontend computes exactly, without a plan, or if it is not
        built yet.
        """
        return self._filterbank.plan if self._filterbank is not None else None

    @property
    def planned_for(self) -> np.ndarray | None:
        """The filter parameters that the plan was made for.

        An array with one row for each filter, or None without a plan. The
        docstring of the frontend explains the columns. The array determines the
        plan: if it is assigned to a frontend with the same settings and
        weights, both compute the same numbers to the last bit.
        """
        plan = self.plan
        return plan.parameters if plan else None

    @planned_for.setter
    def planned_for(self, parameters: np.ndarray) -> None:
        if self._filterbank is None:
            raise ValueError(
                f"{self.name} computes exactly and takes no plan. Received: a "
                f"plan for parameters of shape {np.shape(parameters)}."
            )
        self._check_built()
        shape = (self.n_filters, self._filterbank.num_parameters)
        if np.shape(parameters) != shape:
            raise ValueError(
                f"A plan for {self.name} must be for parameters of shape "
                f"{shape}. Received: {np.shape(parameters)}."
            )
        parameters = np.asarray(parameters)
        if not np.all(np.isfinite(parameters)):
            raise ValueError(
                f"A plan for {self.name} must be for finite parameters. "
                f"Received: {parameters.tolist()}."
            )
        self._filterbank.make_plan(parameters)

    def restore_plan(self, planned_for: np.ndarray | None) -> None:
        """Follows the plan that was saved with some weights.

        If no plan was saved, or if an earlier release saved it with fewer
        parameters for each filter, the next call makes a plan for the weights
        that it finds.

        Args:
          planned_for: Saved value of `planned_for`, or None.
        """
        columns = getattr(self._filterbank, "num_parameters", 0)
        if planned_for is None or np.shape(planned_for)[-1] < columns:
            self._filterbank.expect_weights()
        else:
            self.planned_for = np.array(planned_for)

    def save_own_variables(self, store: Any) -> None:
        super().save_own_variables(store)
        if self.planned_for is not None:
            store[_PLANNED_FOR] = self.planned_for
            store[_WINDOW_AND_STRIDE] = self._window_and_stride()

    def load_own_variables(self, store: Any) -> None:
        own = {name: store[name] for name in store.keys()}
        planned_for = own.pop(_PLANNED_FOR, None)
        saved = np.array(own.pop(_WINDOW_AND_STRIDE, self._window_and_stride()))
        if not np.array_equal(saved, self._window_and_stride()):
            raise ValueError(
                f"Weights for {self.name} must be those of a frontend with its "
                "window and stride, in samples: "
                f"{self._window_and_stride().tolist()}. Received: a file of "
                f"one with {saved.tolist()}."
            )
        super().load_own_variables(own)
        if self._filterbank is None:
            return
        self.restore_plan(planned_for)

    def _check_built(self) -> None:
        if not self.built:
            raise ValueError(
                f"{self.name} has no weights to plan for: call it, or `build`, "
                "first."
            )

    def _window_and_stride(self) -> np.ndarray:
        return np.array([self._window_size, self._stride])
