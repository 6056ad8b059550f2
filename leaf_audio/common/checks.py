"""Checks of constructor arguments; their errors name the argument."""

import functools
import math
import numbers
from collections.abc import Iterable, Sequence
from typing import Any


def check_positive_int(name: str, value: Any) -> int:
    """Returns `value`, or raises a ValueError that names the argument."""
    is_int = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not is_int or value <= 0:
        raise ValueError(
            f"`{name}` must be a positive integer. Received: {name}={value!r}."
        )
    return int(value)


def check_positive(name: str, value: Any) -> float:
    """Returns `value`, or raises a ValueError that names the argument."""
    is_real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not is_real or not 0 < value < float("inf"):
        raise ValueError(
            f"`{name}` must be a positive number. Received: {name}={value!r}."
        )
    return value


def check_not_negative(name: str, value: Any) -> float:
    """Returns `value`, or raises a ValueError that names the argument."""
    is_real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not is_real or not 0 <= value < float("inf"):
        raise ValueError(
            f"`{name}` must be a number that is not negative. "
            f"Received: {name}={value!r}."
        )
    return value


def check_finite(name: str, value: Any) -> float:
    """Returns `value`, or raises a ValueError that names the argument."""
    is_real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not is_real or not math.isfinite(value):
        raise ValueError(
            f"`{name}` must be a finite number. Received: {name}={value!r}."
        )
    return value


def check_bool(name: str, value: Any) -> bool:
    """Returns `value`, or raises a ValueError that names the argument."""
    if not isinstance(value, bool):
        raise ValueError(
            f"`{name}` must be True or False. Received: {name}={value!r}."
        )
    return value


def check_choice(name: str, value: Any, choices: Sequence[str]) -> str:
    """Returns `value` in lower case, or raises a ValueError."""
    lowered = value.lower() if isinstance(value, str) else value
    if lowered not in choices:
        raise ValueError(
            f"`{name}` must be one of {tuple(choices)}. "
            f"Received: {name}={value!r}."
        )
    return lowered


def check_unbound(name: str, value: Any, settings: Iterable[str]) -> None:
    """Raises a ValueError if a functools.partial binds what its caller sets."""
    if isinstance(value, functools.partial):
        bound = sorted(set(value.keywords) & set(settings))
        if bound:
            raise ValueError(
                f"`{name}` must not bind {', '.join(bound)}, which what calls "
                f"it sets. Received: {name}={value!r}."
            )
