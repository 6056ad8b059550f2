"""Lets layers compute in a form that other runtimes can take over.

A model that is exported runs outside Keras, in runtimes that lack some
operations: Fourier transforms of any length, branches, operations on complex
numbers. Its weights are constants there. Within `portable_operations`, layers
avoid these operations. What they compute stays the same up to rounding.
"""

import contextlib
import contextvars
from collections.abc import Iterator

_PORTABLE = contextvars.ContextVar("portable", default=False)


@contextlib.contextmanager
def portable_operations() -> Iterator[None]:
    """Makes layers that are called in this context compute portably."""
    token = _PORTABLE.set(True)
    try:
        yield
    finally:
        _PORTABLE.reset(token)


def is_portable() -> bool:
    """Returns whether layers are to compute in the portable form."""
    return _PORTABLE.get()
