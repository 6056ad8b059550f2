"""Finds out what a function is being traced for."""

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
