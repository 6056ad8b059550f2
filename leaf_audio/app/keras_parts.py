"""Checks what a config binds to the parts that come from Keras.

Keras accepts some mistakes in silence, such as a momentum of 2 in a
BatchNormalization, and answers others with errors that name no argument.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from leaf_audio.common.checks import (
    check_bool,
    check_finite,
    check_not_negative,
    check_rate,
    check_share,
)

# Ranges that Keras does not check everywhere, by the name of the argument.
_RANGES: dict[str, Callable[[str, Any], Any]] = {
    "beta_1": check_rate,
    "beta_2": check_rate,
    "epsilon": check_not_negative,
    "label_smoothing": check_rate,
    "momentum": check_share,
    "rate": check_share,
    "rho": check_rate,
}


def is_of_keras(target: Callable) -> bool:
    """Returns whether a class or function comes from Keras."""
    return target.__module__.partition(".")[0] == "keras"


def check(
    arguments: Mapping[str, Any], parameters: Mapping[str, inspect.Parameter]
) -> None:
    """Checks arguments of a class or function of Keras.

    The type of an argument is taken from its default: bool, number or str. An
    argument without such a default is left to Keras.

    Args:
      arguments: The arguments that are given, by name.
      parameters: The parameters of the class or function, by name.

    Raises:
      ValueError: An argument is of another type, or out of its range.
    """
    for name, value in arguments.items():
        default = parameters[name].default
        if value is None or value is default or _is_object(value):
            continue
        if isinstance(default, bool):
            check_bool(name, value)
        elif isinstance(default, float):
            check_finite(name, value)
        elif isinstance(default, (int, str)):
            _check_like(name, value, default)
        if name in _RANGES:
            _RANGES[name](name, value)


def call(target: Callable, arguments: Mapping[str, Any]) -> Any:
    """Calls a class or function of Keras.

    Args:
      target: The class or function.
      arguments: Its arguments, by name.

    Returns:
      What it returns.

    Raises:
      ValueError: The call fails. The message shows the arguments.
    """
    try:
        return target(**arguments)
    except (AttributeError, OverflowError, TypeError, ValueError) as error:
        received = ", ".join(f"{k}={v!r}" for k, v in arguments.items())
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ValueError(
            f"{target.__name__} must get arguments that Keras takes. "
            f"Received: {received} ({' '.join(lines).rstrip('.')})."
        ) from error


def _is_object(value: Any) -> bool:
    """Returns whether a value is a function, or an object of Keras."""
    return callable(value) or hasattr(value, "get_config")


def _check_like(name: str, value: Any, default: int | str) -> None:
    """Checks what takes an integer, or several, or what takes a text."""
    if isinstance(default, str):
        # Keras takes the config of an object instead of its name.
        is_right, allowed = isinstance(value, (str, dict)), "a text"
    else:
        several = value if isinstance(value, (list, tuple)) else [value]
        is_right = bool(several) and all(type(one) is int for one in several)
        allowed = "an integer"
    if not is_right:
        raise ValueError(
            f"`{name}` must be {allowed}. Received: {name}={value!r}."
        )
