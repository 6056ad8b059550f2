"""Methods of Keras' objects that are others for a while."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any


@contextlib.contextmanager
def replaced(owner: Any, name: str, function: Callable) -> Iterator[None]:
    """Within the `with` block, an object has another method.

    A step that was compiled before calls the method of that time.

    Args:
        owner: A model or an optimizer, whose class has the method.
        name: The name of the method.
        function: Is called in its place, without the object as an argument.
    """
    # Keras would track what is assigned in the usual way.
    object.__setattr__(owner, name, function)
    try:
        yield
    finally:
        object.__delattr__(owner, name)
