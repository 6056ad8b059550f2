"""What frontends share whose computation follows a plan."""

from typing import Any

import numpy as np

from leaf_audio.fast.plan_following import PlanFollower
from leaf_audio.frontend.base import Frontend

# Beside the weights in a file.
_PLANNED_FOR = "planned_for"
_WINDOW_AND_STRIDE = "window_and_stride"


class PlannedFrontend(Frontend):
    """Base of frontends that may compute by a plan for their filters.

    The plan is kept with the weights, and `callbacks.Replan` renews it. A
    subclass makes its `_filterbank`, and has it plan at the end of `build`.

    Args:
      *args: of Frontend.
      **kwargs: of Frontend.
    """

    # Whether filters that have left the plan are computed exactly by what was
    # compiled, which is slow; else that keeps to its plan.
    exact_outside_plan = False

    # None where nothing is planned.
    _filterbank: PlanFollower | None = None

    def replan(self, if_needed: bool = False) -> bool:
        """Plans the filterbank's computation anew, from its present weights.

        Functions that were compiled before keep to the plan before.

        Args:
          if_needed: only if the plan has no room left for the filters. Whoever
            asks so is taken to compile anew where the answer is True.

        Returns:
          Whether there is a new plan; with `if_needed`, also whether there has
          been one since the last time, for a call outside a graph.

        Raises:
          ValueError: there are no weights yet.
        """
        self._check_built()
        return self._filterbank is not None and self._filterbank.replan(
            if_needed
        )

    @property
    def plan(self) -> Any:
        """The plan that is followed; None before `build`, or where exact."""
        return self._filterbank and self._filterbank.plan

    @property
    def planned_for(self) -> np.ndarray | None:
        """What the plan was made for, if there is one; can be set.

        An array with a row for each filter, whose columns the frontend's own
        docstring explains. A frontend of the same settings and weights that is
        given it computes the same to the last bit.
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
        """Follows a plan that was saved with weights.

        Where none was, or the one of an earlier release, for fewer parameters
        of a filter, the next call plans for the weights of then.
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
