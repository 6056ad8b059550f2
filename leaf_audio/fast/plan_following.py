"""Follows a static plan while weights are learned.

How a filterbank is best computed depends on its weights: the shapes and strides
of convolutions, and which filters are computed together. A compiled graph
cannot choose these while it runs. They are chosen in a plan, from weights that
have values, and kept while graphs are compiled and run.
"""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from leaf_audio.common.serialization import is_loading
from leaf_audio.common.tracing import in_own_thread

Tensor = Any


class PlanFollower:
    """Base class of filterbanks that compute by a plan.

    A plan has an attribute `parameters`, the parameters it was made for, and a
    method `has_room(parameters)`, which returns whether it can still be used
    for other parameters. A subclass defines `_parameters` and `_plan_for`.

    Args:
      layers: Layers whose weights `kernel` plans are made for.

    Attributes:
      num_parameters: Number of parameters of one filter in a plan.
    """

    num_parameters: int

    def __init__(self, layers: Sequence[keras.layers.Layer]):
        self._layers = layers
        self._plan: Any = None
        self._awaits_weights = False
        # Whether a graph was compiled since the last look, and whether a graph
        # still follows an earlier plan.
        self._compiled = False
        self._outdated = False

    def _parameters(self) -> Tensor:
        """Computes the parameters of plans from the weights.

        Returns:
          An array `(filters, num_parameters)`.
        """
        raise NotImplementedError

    def _plan_for(self, parameters: np.ndarray) -> Any:
        """Makes a plan, or returns None if the parameters allow none."""
        raise NotImplementedError

    @property
    def plan(self) -> Any:
        """The plan that is followed, or None before weights had values."""
        return self._plan

    def parameters(self) -> np.ndarray | None:
        """Returns the parameters of plans; None while weights are symbolic."""
        try:
            return ops.convert_to_numpy(self._parameters())
        except (NotImplementedError, TypeError):
            # While a graph is traced, a weight has no value.
            return None

    def plan_initial_weights(self) -> None:
        """Makes the first plan, for layers that were just built.

        `fit` and `tf.function` build a model while they trace a graph, where
        weights have no values yet. The graph follows the plan of that moment,
        so the plan cannot wait. It is made for the values that the initializers
        give. If a file with weights is being loaded, it waits for those.
        """
        if is_loading():
            self.expect_weights()
            return
        parameters = self.parameters()
        if parameters is None:
            parameters = in_own_thread(self._initial_parameters)
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
          if_needed: Whether to keep the plan if it has room for the weights.

        Returns:
          Whether there is a new plan. With `if_needed`, also True if a graph
          that was compiled since the last such call follows an earlier plan.
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
        """Lets the next call make a plan for the weights that it finds.

        While `fit` and `predict` compile on JAX, weights have no values even
        outside the graph. That call then follows the previous plan.
        """
        self._awaits_weights = True

    def make_plan(self, parameters: np.ndarray) -> None:
        """Makes a plan for parameters, and follows it from now on.

        Args:
          parameters: `(filters, num_parameters)`.
        """
        self._awaits_weights = False
        self._plan = self._plan_for(parameters.astype("float64"))
        self._outdated = self._compiled

    def _look_at_weights(self) -> bool:
        """Makes a new plan for a call if the weights have left the plan.

        Returns:
          Whether weights have values. The plan then holds for them. While a
          graph is traced they have none, and the graph must check by itself.
        """
        parameters = self.parameters()
        if parameters is not None:
            # No graph is being compiled, so a new plan takes effect at once.
            self._follow(parameters, if_needed=not self._awaits_weights)
            return True
        if self._awaits_weights:
            loaded = in_own_thread(self.parameters)
            if loaded is not None:
                self.make_plan(loaded)
        self._compiled = True
        return False
