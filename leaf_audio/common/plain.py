"""Values of NumPy and paths as plain values of Python."""

import os
from typing import Any

import numpy as np


def plain(value: Any) -> Any:
    """Returns a number of NumPy as one of Python, and a path as text.

    Args:
      value: Any value.

    Returns:
      The number or the text. Any other value unchanged.
    """
    if isinstance(value, np.generic):
        return value.item()
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def for_json(value: Any) -> Any:
    """Returns what JSON can represent, for the `default` of `json.dumps`.

    Args:
      value: A value that JSON cannot represent.

    Raises:
      TypeError: If it has no plain form.
    """
    found = plain(value)
    if found is value:
        raise TypeError(
            f"{type(value).__name__} cannot be written as JSON. Received: "
            f"{value!r}."
        )
    return found
