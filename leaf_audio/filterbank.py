"""LEAF's filterbank: Gabor filters, energies and lowpass pooled as one.

The three layers say what is computed. Here it is computed by a plan, at a
fraction of the cost, as long as the learned parameters are where the plan
holds; elsewhere the layers themselves compute it, sample by sample.
"""

import concurrent.futures
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from leaf_audio import decimation, planning
from leaf_audio.convolution import GaborConv1D, gabor_energies
from leaf_audio.pooling import GaussianLowpass

Tensor = Any


def can_be_planned(convolve: Any, pool: Any) -> bool:
    """Tells whether a convolution and a pooling are what plans are for."""
    return (
        type(convolve) is GaborConv1D
        and type(pool) is GaussianLowpass
        and convolve.strides == 1
        and convolve.padding == "same"
        and not convolve.use_bias
        and not pool.use_bias
    )


class PlannedFilterbank:
    """Computes pooled energies by a plan where that holds, exactly elsewhere.

    Args:
      convolve: a GaborConv1D that `can_be_planned`.
      pool: a GaussianLowpass, likewise.
      tolerance: see `planning.make_plan`.
    """

    def __init__(
        self, convolve: GaborConv1D, pool: GaussianLowpass, tolerance: float
    ):
        self._convolve = convolve
        self._pool = pool
        self._tolerance = tolerance
        self._geometry = planning.Geometry(
            convolve.kernel_size, pool.kernel_size, pool.strides
        )
        self._plan: planning.Plan | None = None
        self._awaits_weights = False

    @property
    def plan(self) -> planning.Plan | None:
        """The plan that is followed; None before weights were known."""
        return self._plan

    def parameters(self) -> np.ndarray | None:
        """Returns what plans are made for, None while weights are symbolic.

        Returns:
          An array `(filters, 2)`: standard deviations in samples and pooling
          widths as a share of half the window, both as the layers use them.
        """
        try:
            return ops.convert_to_numpy(self._parameters())
        except (NotImplementedError, TypeError):
            # In a graph, a weight has no value.
            return None

    def _parameters(self) -> Tensor:
        sigma = self._convolve.constrained_kernel()[:, 1]
        return ops.stack([sigma, self._pool.widths()], axis=-1)

    def plan_initial_weights(self) -> None:
        """Makes the first plan, for layers that were just built.

        `fit` and `tf.function` build a model inside a graph. What they compile
        right after keeps to the plan of then, so it cannot wait for weights to
        have values; but those that the initializers give are known.
        """
        if not self.replan():
            self.make_plan(_outside_graph(self._initial_parameters))

    def _initial_parameters(self) -> np.ndarray:
        initial = []
        for layer in (self._convolve, self._pool):
            kernel = layer.kernel
            value = layer.kernel_initializer(kernel.shape, dtype=kernel.dtype)
            initial.append((kernel, value))
        with keras.StatelessScope(state_mapping=initial):
            return ops.convert_to_numpy(self._parameters())

    def replan(self, if_needed: bool = False) -> bool:
        """Makes a plan for the present weights; see `Leaf.replan`."""
        parameters = self.parameters()
        return parameters is not None and self._follow(parameters, if_needed)

    def _follow(self, parameters: np.ndarray, if_needed: bool) -> bool:
        before = self._plan
        if if_needed and before is not None and before.has_room(parameters):
            return False
        self.make_plan(parameters)
        return self._plan is not before

    def expect_weights(self) -> None:
        """Has the next call plan for the weights of then, where it can.

        JAX's `fit` and `predict` leave no weights to look at while they
        compile, and keep to the plan before.
        """
        self._awaits_weights = True

    def make_plan(self, parameters: np.ndarray) -> None:
        """Follows a new plan; none where parameters are not finite."""
        self._plan = None
        self._awaits_weights = False
        if np.all(np.isfinite(parameters)):
            self._plan = planning.make_plan(
                parameters.astype("float64"), self._geometry, self._tolerance
            )

    def __call__(self, audio: Tensor) -> Tensor:
        """Computes `(batch, frames, filters)` from `(batch, time, 1)`."""
        parameters = self.parameters()
        if parameters is not None:
            # Nothing was compiled that would keep to the plan before.
            self._follow(parameters, if_needed=not self._awaits_weights)
        elif self._awaits_weights:
            loaded = _outside_graph(self.parameters)
            if loaded is not None:
                self.make_plan(loaded)
        filters = self._convolve.impulse_responses()
        windows = self._pool.window()
        plan = self._plan
        if plan is None:
            return self._exact(audio, *filters, windows)

        def planned():
            return decimation.pooled_energies(
                audio[..., 0],
                filters,
                windows,
                plan,
                self._geometry,
                self._pool.padding,
            )

        def exact():
            # Of two branches a compiler keeps what both would need for the
            # gradient; full-rate energies are the largest thing there is.
            return keras.remat(self._exact)(audio, *filters, windows)

        if parameters is not None:
            return planned()
        parameters = self._parameters()
        lowest = ops.cast(plan.lowest, parameters.dtype)
        highest = ops.cast(plan.highest, parameters.dtype)
        inside = ops.logical_and(parameters >= lowest, parameters <= highest)
        return ops.cond(ops.all(inside), planned, exact)

    def _exact(
        self, audio: Tensor, real: Tensor, imag: Tensor, windows: Tensor
    ) -> Tensor:
        return self._pool.pool(gabor_energies(audio, real, imag), windows)


def _outside_graph(function: Callable) -> Any:
    # A graph is its thread's own: in another, operations give values.
    with concurrent.futures.ThreadPoolExecutor(1) as executor:
        return executor.submit(function).result()
