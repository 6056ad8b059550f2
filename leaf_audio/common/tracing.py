"""What a function is traced for, where computations depend on it."""

from typing import Any

Tensor = Any


def is_traced_for_xla(inputs: Tensor) -> bool:
    """Tells whether TensorFlow is tracing a function for XLA.

    What it is asked is no part of TensorFlow's public interface, which has
    nothing for this.

    Args:
      inputs: of the function, or computed from them.
    """
    graph = getattr(inputs, "graph", None)
    while graph is not None:
        context = graph._get_control_flow_context()
        if context is not None and context.IsXLAContext():
            return True
        graph = getattr(graph, "outer_graph", None)
    return False
