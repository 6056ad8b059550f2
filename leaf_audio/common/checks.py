"""Checks of arguments.

A check takes the name and the value of an argument and returns the value. If
the value is not allowed, the check raises a ValueError that names the argument,
says which values are allowed, and shows the value received.
"""

import functools
import math
import numbers
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

# The largest length of a window, hop or FFT in samples, and the largest number
# of filters or units. A window of so many samples lasts 65 s at 16 kHz. A
# larger number is a mistake, such as Hz in place of ms, and its arrays would
# fill the memory before anything else tells of it.
MAX_SIZE = 2**20


def check_positive_int(
    name: str, value: Any, at_most: int | None = None
) -> int:
    """Returns an integer above 0, or raises a ValueError.

    NumPy's integers are allowed, Booleans are not.

    Args:
      name: Name of the argument.
      value: Value of the argument.
      at_most: The largest allowed value. Defaults to None for no limit.
    """
    if not _is_int(value) or value <= 0:
        raise _error(name, value, "a positive integer")
    if at_most is not None and value > at_most:
        raise _error(name, value, f"an integer from 1 to {at_most}")
    return int(value)


def check_size(name: str, value: Any) -> int:
    """Returns an integer from 1 to `MAX_SIZE`, or raises a ValueError."""
    return check_positive_int(name, value, at_most=MAX_SIZE)


def check_count(name: str, value: Any, at_most: int | None = None) -> int:
    """Returns an integer that is 0 or above, or raises a ValueError.

    Args:
      name: Name of the argument.
      value: Value of the argument.
      at_most: The largest allowed value. Defaults to None for no limit.
    """
    if not _is_int(value) or value < 0:
        raise _error(name, value, "a non-negative integer")
    if at_most is not None and value > at_most:
        raise _error(name, value, f"an integer from 0 to {at_most}")
    return int(value)


def check_seed(name: str, value: Any) -> int:
    """Returns an integer from 0 to less than 2**32, or raises a ValueError."""
    if not _is_int(value) or not 0 <= value < 2**32:
        raise _error(name, value, "an integer from 0 to less than 2**32")
    return int(value)


def check_share(name: str, value: Any) -> float:
    """Returns a number in [0, 1], or raises a ValueError."""
    if not _is_finite(value) or not 0 <= value <= 1:
        raise _error(name, value, "a number in [0, 1]")
    return float(value)


def check_rate(name: str, value: Any) -> float:
    """Returns a number in [0, 1), or raises a ValueError."""
    if not _is_finite(value) or not 0 <= value < 1:
        raise _error(name, value, "a number in [0, 1)")
    return value


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
    lowered = value.lower() if isinstance(value, str) else None
    if lowered not in choices:
        raise _error(name, value, f"one of {tuple(choices)}")
    return lowered


def check_text(name: str, value: Any) -> str:
    """Returns a string that is not empty, or raises a ValueError."""
    if not isinstance(value, str) or not value:
        raise _error(name, value, "a text that is not empty")
    return value


def check_path(name: str, value: Any) -> str | os.PathLike:
    """Returns a path, or raises a ValueError.

    Args:
      name: Name of the argument.
      value: A string that is not empty, or a `pathlib.Path`.
    """
    if not isinstance(value, (str, os.PathLike)) or not str(value):
        raise _error(name, value, "a path, as a text that is not empty")
    return value


def check_numbers(name: str, value: Any) -> list[float]:
    """Returns a list of one finite number or more, or raises a ValueError.

    Args:
      name: Name of the argument.
      value: A list, a tuple or an array with one axis.
    """
    is_list = isinstance(value, (list, tuple, np.ndarray))
    values = np.asarray(value, "object").tolist() if is_list else None
    if not values or not all(map(_is_finite, values)):
        raise _error(name, value, "a list of finite numbers")
    return values


def check_list_of(name: str, value: Any, kind: type, what: str) -> list[Any]:
    """Returns a list of values of one kind, or raises a ValueError.

    Args:
      name: Name of the argument.
      value: A list, a tuple or an array with one axis; may be empty.
      kind: Class of the values.
      what: What the values are, for the message, such as "names".
    """
    is_list = isinstance(value, (list, tuple, np.ndarray))
    values = list(value) if is_list else []
    if not is_list or not all(isinstance(one, kind) for one in values):
        raise _error(name, value, f"a list of {what}")
    return values


def check_sizes(name: str, value: Any) -> list[int]:
    """Returns a list of one integer or more from 1 to `MAX_SIZE`.

    Args:
      name: Name of the argument.
      value: A list or a tuple.

    Raises:
      ValueError: The value is something else.
    """
    is_list = isinstance(value, Sequence) and not isinstance(value, str)
    if (
        not is_list
        or not value
        or not all(_is_int(one) and 1 <= one <= MAX_SIZE for one in value)
    ):
        raise _error(name, value, f"a list of integers from 1 to {MAX_SIZE}")
    return [int(one) for one in value]


def check_is(name: str, value: Any, kind: type, allowed: str) -> Any:
    """Returns an instance of a class, or raises a ValueError.

    Args:
      name: Name of the argument.
      value: Value of the argument.
      kind: The class.
      allowed: What the value must be, in words.
    """
    if not isinstance(value, kind):
        raise _error(name, value, allowed)
    return value


def check_callable(name: str, value: Any) -> Callable:
    """Returns a function or a class, or raises a ValueError."""
    if not callable(value):
        raise _error(name, value, "a function")
    return value


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


def _is_int(value: Any) -> bool:
    # True and False are integers in Python, but not numbers to a user.
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def _is_finite(value: Any) -> bool:
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # It is an integer that no float can hold.
        return False


def _error(name: str, value: Any, allowed: str) -> ValueError:
    return ValueError(
        f"`{name}` must be {allowed}. Received: {name}={value!r}."
    )
