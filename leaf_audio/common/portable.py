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
_KEEPS_PLANS = contextvars.ContextVar("keeps_plans", default=False)


@contextlib.contextmanager
def portable_operations(keep_plans: bool = False) -> Iterator[None]:
    """Makes layers that are called in this context compute portably.

    Args:
      keep_plans: Whether frontends compute by their plans, which must hold for
        their weights. Otherwise they compute exactly. Defaults to False.
    """
    tokens = _PORTABLE.set(True), _KEEPS_PLANS.set(keep_plans)
    try:
        yield
    finally:
        _PORTABLE.reset(tokens[0])
        _KEEPS_PLANS.reset(tokens[1])


def is_portable() -> bool:
    """Returns whether layers are to compute in the portable form."""
    return _PORTABLE.get()


def keeps_plans() -> bool:
    """Returns whether the portable form of a frontend follows its plan."""
    return _KEEPS_PLANS.get()
