"""Tracing of functions: what it is for, and how to call one outside of it."""

import concurrent.futures
from collections.abc import Callable
from typing import Any

Tensor = Any


def is_traced_for_xla(inputs: Tensor) -> bool:
    """Returns whether TensorFlow is tracing a function for XLA.

    TensorFlow's public interface has no way to ask this, so private attributes
    of its graphs are used.

    Args:
      inputs: Tensor, an input of the function or computed from one.

    Returns:
      True if XLA will compile the function; always False on other backends.
    """
    graph = getattr(inputs, "graph", None)
    while graph is not None:
        context = graph._get_control_flow_context()
        if context is not None and context.IsXLAContext():
            return True
        graph = getattr(graph, "outer_graph", None)
    return False


def in_own_thread(function: Callable, *arguments: Any) -> Any:
    """Calls a function in a thread of its own, and returns what it returns.

    Each thread has a graph of its own: in a new one nothing is traced, and
    operations return values. It also has counts of its own, by which Keras
    names layers: models that the function makes leave those of the caller as
    they are.
    """
    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        return thread.submit(function, *arguments).result()
