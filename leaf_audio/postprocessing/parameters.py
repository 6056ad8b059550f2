"""Parameters that PCEN and its moving average share: checks and initial values.

With linear parameters a weight holds a parameter itself. With log parameters
it holds the natural logarithm. The limits below apply to the parameter.
"""

import math
import reprlib
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from leaf_audio.common.checks import (
    check_not_negative,
    check_numbers,
    check_positive,
)
from leaf_audio.common.keras_checks import check_initializer
from leaf_audio.common.lean_ops import clip
from leaf_audio.initializers import ArrayInit

Tensor = Any

# What a parameter can start from. A dictionary is a serialized initializer.
InitialValue = (
    float
    | Sequence[float]
    | np.ndarray
    | keras.initializers.Initializer
    | dict[str, Any]
)

PARAMETRIZATIONS = ("linear", "log")

# PCEN uses its parameters clipped to this range. Closer to 0, the slope of
# δ^(1/r) would be so steep that a training step turns δ into NaN.
SMALLEST, LARGEST = 1e-6, 1e6


def check_initial_value(name: str, value: Any, positive: bool) -> Any:
    """Checks what a parameter starts from.

    Args:
      name: String. The argument's name, for the message.
      value: A number, a sequence or an array of numbers, an initializer or a
        serialized one.
      positive: Boolean. True rejects 0.

    Returns:
      A number, a list of numbers or an initializer.

    Raises:
      ValueError: If a number is out of range or of another type.
    """
    check = check_positive if positive else check_not_negative
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value.item()
    if isinstance(value, (dict, keras.initializers.Initializer)):
        return check_initializer(name, value)
    if isinstance(value, (list, tuple, np.ndarray)):
        return [check(name, number) for number in check_numbers(name, value)]
    return check(name, value)


def check_shared_value(
    name: str, value: Any, flag: str, per_channel: bool
) -> None:
    """Checks that channels which share a parameter get one value for it.

    Args:
      name: String. The argument's name, for the message.
      value: What `check_initial_value` returned.
      flag: String. The name of the argument `per_channel`, for the message.
      per_channel: Boolean. Whether each channel has its own parameter.

    Raises:
      ValueError: If there are several values and one parameter.
    """
    if not per_channel and isinstance(value, list) and len(value) > 1:
        raise ValueError(
            f"`{name}` must be one number unless `{flag}` is True. "
            f"Received: {name}={reprlib.repr(value)}."
        )


def check_value_for_each(name: str, value: Any, channels: int) -> None:
    """Checks that several values are as many as there are channels.

    Args:
      name: String. The argument's name, for the message.
      value: What `check_initial_value` returned.
      channels: Number of channels.

    Raises:
      ValueError: If there are several values, but not one for each channel.
    """
    if isinstance(value, list) and len(value) not in (1, channels):
        raise ValueError(
            f"`{name}` must be one number, or one for each of the {channels} "
            f"channels. Received: {name}={reprlib.repr(value)}."
        )


def check_initial_energy(value: Any) -> float | None:
    """Checks the moving average before the first frame; None is allowed."""
    if value is None:
        return None
    return check_not_negative("initial_energy", value)


def weight_initializer(value: Any, log: bool) -> Callable:
    """Makes the initializer of a weight.

    Args:
      value: What `check_initial_value` returned.
      log: Boolean. True returns an initializer of the logarithm. Values below
        1e-6 then become 1e-6.

    Returns:
      An initializer, or a function with the arguments of one.
    """
    if isinstance(value, list):
        value = ArrayInit(value)
    elif not isinstance(value, keras.initializers.Initializer):
        value = keras.initializers.Constant(value)
    if not log:
        return value

    def log_values(shape: tuple[int, ...], dtype: Any = None) -> Tensor:
        return ops.log(ops.maximum(value(shape, dtype=dtype), SMALLEST))

    return log_values


def exp_within_limits(log: Tensor) -> Tensor:
    """Computes a parameter from its logarithm, clipped to [1e-6, 1e6]."""
    return ops.exp(clip(log, math.log(SMALLEST), math.log(LARGEST)))
