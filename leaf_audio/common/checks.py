"""Checks of arguments.

A check takes the name and the value of an argument and returns the value. If
the value is not allowed, the check raises a ValueError that names the argument,
says which values are allowed, and shows the value received.
"""

import functools
import math
import numbers
from collections.abc import Callable, Iterable, Sequence
from typing import Any


def check_positive_int(name: str, value: Any) -> int:
    """Returns an integer above 0, or raises a ValueError.

    NumPy's integers are allowed, Booleans are not.
    """
    is_int = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not is_int or value <= 0:
        raise _error(name, value, "a positive integer")
    return int(value)


def check_positive(name: str, value: Any) -> float:
    """Returns a finite number above 0, or raises a ValueError."""
    if not _is_finite(value) or value <= 0:
        raise _error(name, value, "a positive number")
    return value


def check_not_negative(name: str, value: Any) -> float:
    """Returns a finite number that is 0 or above, or raises a ValueError."""
    if not _is_finite(value) or value < 0:
        raise _error(name, value, "a number that is not negative")
    return value


def check_finite(name: str, value: Any) -> float:
    """Returns a finite number, or raises a ValueError."""
    if not _is_finite(value):
        raise _error(name, value, "a finite number")
    return value


def check_bool(name: str, value: Any) -> bool:
    """Returns True or False, or raises a ValueError for any other value."""
    if not isinstance(value, bool):
        raise _error(name, value, "True or False")
    return value


def check_choice(name: str, value: Any, choices: Sequence[str]) -> str:
    """Returns one of several strings in lower case, or raises a ValueError.

    Args:
      name: Name of the argument.
      value: Value of the argument. Upper and lower case are the same.
      choices: The allowed strings, in lower case.

    Returns:
      The value in lower case.

    Raises:
      ValueError: The value is not among the choices.
    """
    lowered = value.lower() if isinstance(value, str) else value
    if lowered not in choices:
        raise _error(name, value, f"one of {tuple(choices)}")
    return lowered


def check_unless_none(
    check: Callable[[str, Any], Any], **arguments: Any
) -> None:
    """Applies a check to several arguments, except to those that are None.

    Args:
      check: One of the checks of this module, such as `check_positive`.
      **arguments: Values by the name of the argument.

    Raises:
      ValueError: A value is neither None nor allowed by the check.
    """
    for name, value in arguments.items():
        if value is not None:
            check(name, value)


def check_unbound(name: str, value: Any, settings: Iterable[str]) -> None:
    """Raises a ValueError if a partial binds what the model passes itself.

    Some arguments of a model are classes from which the model creates a layer.
    A user can set the arguments of that layer with
    `functools.partial(layer_class, ...)`, or with bindings in a gin config. But
    the model itself passes some arguments to the layer, such as a kernel size
    that follows from its sample rate. If both set the same argument, the user's
    value would be silently ignored.

    Args:
      name: Name of the argument that takes the class.
      value: Value of that argument: a class, a function or a
        `functools.partial`.
      settings: Names of the layer's arguments that the model passes.

    Raises:
      ValueError: The partial sets one of these arguments.
    """
    if not isinstance(value, functools.partial):
        return
    bound = sorted(set(value.keywords) & set(settings))
    if bound:
        names = ", ".join(bound)
        raise ValueError(
            f"`{name}` must not bind {names}, which the model itself passes to "
            f"the layer. Remove {names} from the functools.partial, or from "
            f"the bindings of the config. Received: {name}={value!r}."
        )


def _is_finite(value: Any) -> bool:
    # True and False are integers in Python, but not numbers to a user.
    is_real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    return is_real and -math.inf < value < math.inf


def _error(name: str, value: Any, allowed: str) -> ValueError:
    return ValueError(
        f"`{name}` must be {allowed}. Received: {name}={value!r}."
    )
