"""Stops a run whose numbers are no longer finite.

A loss that is finite proves little. ReLU and max-pooling turn NaN into a number
on some devices, so a model of NaN weights may have a finite loss. Therefore the
gradients of every step are watched (`step_watch`), and the weights are checked
before they are saved.
"""

from __future__ import annotations

from collections.abc import Iterable

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


def check_weights(model: keras.Model, when: str) -> None:
    """Raises TrainingStopped if the weights are not finite.

    Args:
        model: The model, compiled. The state of its optimizer is checked too.
        when: The time, for the message, such as "after epoch 3".
    """
    found = not_finite(saved_variables(model))
    if found:
        raise TrainingStopped(
            f"The weights are not finite {when}: training was "
            "stopped, and this epoch is not saved. Not finite: "
            f"{listed(found, 3)}. A lower train.learning_rate may help."
        )
