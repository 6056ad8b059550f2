"""Stops a run whose numbers are no longer finite.

A loss that is finite proves little. ReLU and max-pooling turn NaN into a number
on some devices, so a model of NaN weights may have a finite loss. Therefore the
gradients of every step are watched, and the weights are checked before they are
saved.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Iterable, Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from leaf_audio.common.listing import listed


class TrainingStopped(RuntimeError):
    """Training was stopped because its numbers are not finite.

    These are a loss, the gradients of a step, or the weights.
    """


def to_array(variable: keras.Variable) -> np.ndarray:
    """Returns the values of a variable, in a type that NumPy can store."""
    array = ops.convert_to_numpy(variable)
    # NumPy's file format has no bfloat16. All of its values fit in float32.
    return array.astype("float32") if array.dtype.name == "bfloat16" else array


def not_finite(variables: Iterable[keras.Variable]) -> list[str]:
    """Returns the paths of the variables that hold NaN or infinity."""
    return [
        variable.path
        for variable in variables
        if not np.isfinite(to_array(variable)).all()
    ]


def saved_variables(model: keras.Model) -> list[keras.Variable]:
    """Returns all variables that a training step reads or changes.

    The states of random generators and moving averages are among them.
    """
    return [*model.variables, *model.optimizer.variables]


def check_weights(model: keras.Model, epoch: int) -> None:
    """Raises TrainingStopped if the weights after an epoch are not finite.

    Args:
        model: The model, compiled. The state of its optimizer is checked too.
        epoch: The number of the epoch, from 1.
    """
    found = not_finite(saved_variables(model))
    if found:
        raise TrainingStopped(
            f"The weights are not finite after epoch {epoch}: training was "
            "stopped, and this epoch is not saved. Not finite: "
            f"{listed(found, 3)}. A lower train.learning_rate may help."
        )


@contextlib.contextmanager
def watched_gradients(model: keras.Model) -> Iterator[None]:
    """Within the `with` block, `fit` reports gradients that are not finite.

    After a step whose gradients are not finite, `on_train_batch_end` receives a
    loss of NaN. The sum of all gradients is computed within the step, on its
    device, so no further transfer is needed. NaN and infinity survive a sum.

    An optimizer with a loss scale skips a step whose gradients overflow, and
    halves its scale. Such a step is reported only if the scale is 1 or less:
    then it was not the scale that made them overflow.

    Args:
        model: The model, compiled and built.
    """
    optimizer = model.optimizer
    # JAX passes the state of the optimizer before the gradients.
    is_jax = keras.backend.backend() == "jax"
    method = "stateless_apply" if is_jax else "apply"
    apply, compute_metrics = getattr(optimizer, method), model.compute_metrics
    # tf.distribute runs the step of each device in a thread of its own.
    step = threading.local()

    def apply_watched(*args: Any, **kwargs: Any) -> Any:
        gradients = args[1] if is_jax else args[0]
        step.is_finite = _all_finite(gradients)
        if hasattr(optimizer, "dynamic_scale"):
            state = args[0] if is_jax else optimizer.variables
            scale = _value_of(optimizer.dynamic_scale, optimizer, state)
            step.is_finite = ops.logical_or(step.is_finite, scale > 1)
        return apply(*args, **kwargs)

    def compute_metrics_watched(*args: Any, **kwargs: Any) -> dict[str, Any]:
        logs = compute_metrics(*args, **kwargs)
        is_finite = step.__dict__.pop("is_finite", None)
        if is_finite is None:
            return logs
        loss = ops.convert_to_tensor(logs["loss"])
        return {**logs, "loss": ops.where(is_finite, loss, math.nan)}

    # Keras would track what is assigned in the usual way.
    object.__setattr__(optimizer, method, apply_watched)
    object.__setattr__(model, "compute_metrics", compute_metrics_watched)
    try:
        yield
    finally:
        object.__delattr__(optimizer, method)
        object.__delattr__(model, "compute_metrics")


def _all_finite(gradients: Iterable[Any]) -> Any:
    # In float32, which float16 gradients cannot overflow.
    sums = [
        ops.sum(ops.cast(ops.convert_to_tensor(gradient), "float32"))
        for gradient in gradients
        if gradient is not None
    ]
    return ops.isfinite(sum(sums))


def _value_of(variable: Any, optimizer: Any, state: Iterable[Any]) -> Any:
    """Finds the value of a variable of an optimizer in the optimizer's state.

    Within a step, JAX keeps the values apart from the variables.
    """
    for one, value in zip(optimizer.variables, state, strict=True):
        if one is variable:
            return ops.convert_to_tensor(value)
    raise AssertionError("The variable belongs to the optimizer.")
