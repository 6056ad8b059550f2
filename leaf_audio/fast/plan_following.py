"""Following a static plan for weights that are learned.

What a frontend computes may depend on its weights in ways that a graph cannot:
shapes, strides, which filters are computed together. Such choices are made in a
plan, from concrete weights, and kept while graphs are compiled and run.
"""

import concurrent.futures
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

Tensor = Any


class PlanFollower:
    """Base of filterbanks that compute by a plan.

    A plan has `parameters`, what it was made for, and `has_room(parameters)`,
    which tells whether it is good for others too.

    Args:
      layers: whose weights `kernel` plans are made for.

    Attributes:
      num_parameters: of a filter, that a plan is made for.
    """

    num_parameters: int

    def __init__(self, layers: Sequence[keras.layers.Layer]):
        self._layers = layers
        self._plan: Any = None
        self._awaits_weights = False
        # Whether something was compiled, and whether that was by another plan.
        self._compiled = False
        self._outdated = False

    def _parameters(self) -> Tensor:
        """Computes what plans are made for, of the weights.

        An array `(filters, num_parameters)`.
        """
        raise NotImplementedError

    def _plan_for(self, parameters: np.ndarray) -> Any:
        """Makes a plan; None where these parameters allow none."""
        raise NotImplementedError

    @property
    def plan(self) -> Any:
        """The plan that is followed; None before weights were known."""
        return self._plan

    def parameters(self) -> np.ndarray | None:
        """Returns what plans are made for, None while weights are symbolic."""
        try:
            return ops.convert_to_numpy(self._parameters())
        except (NotImplementedError, TypeError):
            # In a graph, a weight has no value.
            return None

    def plan_initial_weights(self) -> None:
        """Makes the first plan, for layers that were just built.

        `fit` and `tf.function` build a model inside a graph. What they compile
        right after keeps to the plan of then, so it cannot wait for weights to
        have values; but those that the initializers give are known.
        """
        parameters = self.parameters()
        if parameters is None:
            parameters = _outside_graph(self._initial_parameters)
        self.make_plan(parameters)

    def _initial_parameters(self) -> np.ndarray:
        initial = []
        for layer in self._layers:
            kernel = layer.kernel
            value = layer.kernel_initializer(kernel.shape, dtype=kernel.dtype)
            initial.append((kernel, value))
        with keras.StatelessScope(state_mapping=initial):
            return ops.convert_to_numpy(self._parameters())

    def replan(self, if_needed: bool = False) -> bool:
        """Makes a plan for the present weights.

        Args:
          if_needed: only if the plan has no room for them.

        Returns:
          Whether there is a new plan; with `if_needed`, also whether an earlier
          plan is still followed by what was compiled since the last such call.
        """
        parameters = self.parameters()
        if parameters is None:
            return False
        before = self._plan
        self._follow(parameters, if_needed)
        changed = self._plan is not before
        if if_needed:
            changed = changed or self._outdated
            self._compiled = self._compiled and not changed
            self._outdated = False
        return changed

    def _follow(self, parameters: np.ndarray, if_needed: bool) -> None:
        plan = self._plan
        if not (if_needed and plan is not None and plan.has_room(parameters)):
            self.make_plan(parameters)

    def expect_weights(self) -> None:
        """Has the next call plan for the weights of then, where it can.

        JAX's `fit` and `predict` leave no weights to look at while they
        compile, and keep to the plan before.
        """
        self._awaits_weights = True

    def make_plan(self, parameters: np.ndarray) -> None:
        """Follows a plan for these parameters."""
        self._awaits_weights = False
        self._plan = self._plan_for(parameters.astype("float64"))
        self._outdated = self._compiled

    def _look_at_weights(self) -> bool:
        """Plans anew for a call, if there is need and weights have values.

        Returns:
          Whether they have, so that the plan is good for them.
        """
        parameters = self.parameters()
        if parameters is not None:
            # Nothing is being compiled that would keep to the plan.
            self._follow(parameters, if_needed=not self._awaits_weights)
            return True
        if self._awaits_weights:
            loaded = _outside_graph(self.parameters)
            if loaded is not None:
                self.make_plan(loaded)
        self._compiled = True
        return False


def _outside_graph(function: Callable) -> Any:
    # A graph is its thread's own: in another, operations give values.
    with concurrent.futures.ThreadPoolExecutor(1) as executor:
        return executor.submit(function).result()
