"""Keeps the weights of a frontend as they are where others get fewer bits.

With weights of 8 bits, LiteRT also rounds what they are multiplied by to 8
bits, one scale for the whole array. The activations of a classifier allow that.
Samples, spectra and energies do not: most of them are far below their peak.
"""

from __future__ import annotations

import pathlib
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tensorflow as tf

# The operations whose weights LiteRT rounds.
_PRODUCTS = {
    *("Conv2D", "DepthwiseConv2dNative", "MatMul"),
    *("BatchMatMul", "BatchMatMulV2", "BatchMatMulV3", "Einsum"),
}


def keep(folder: pathlib.Path, layer: str, target: pathlib.Path) -> None:
    """Writes a SavedModel again, so that LiteRT leaves weights as they are.

    It rounds constants alone. The weights of a layer become sums with a number
    that is always 0, which LiteRT cannot know.

    Args:
        folder: A SavedModel. Its default signature has one input and one
            output.
        layer: The name of the layer.
        target: The folder to write to.
    """
    import tensorflow as tf
    from tensorflow.python.framework import convert_to_constants

    loaded = tf.saved_model.load(str(folder))
    signature = loaded.signatures["serving_default"]
    ((argument, spec),) = signature.structured_input_signature[1].items()
    ((result, _),) = signature.structured_outputs.items()
    frozen = convert_to_constants.convert_variables_to_constants_v2(
        # The loops of recurrent layers stay as they are.
        signature,
        lower_control_flow=False,
    )
    (samples_of_graph,), (found_of_graph,) = frozen.inputs, frozen.outputs
    graph = frozen.graph.as_graph_def()
    _add_to_weights(graph, layer, "always_zero")

    def serve(samples: tf.Tensor) -> dict[str, tf.Tensor]:
        (found,) = tf.graph_util.import_graph_def(
            graph,
            input_map={
                samples_of_graph.name: samples,
                "always_zero:0": tf.minimum(tf.reduce_max(samples**2), 0.0),
            },
            return_elements=[found_of_graph.name],
        )
        return {result: found}

    spec = tf.TensorSpec(spec.shape, spec.dtype, name=argument)
    tf.saved_model.save(
        tf.Module(),
        str(target),
        tf.function(serve, [spec]).get_concrete_function(),
        tf.saved_model.SaveOptions(experimental_custom_gradients=False),
    )


def _add_to_weights(
    graph: tf.compat.v1.GraphDef, layer: str, number: str
) -> None:
    """Adds a number to all that a layer multiplies data by.

    Args:
        graph: The graph, which is changed.
        layer: The name of the layer.
        number: The name of the number, a new placeholder.
    """
    import tensorflow as tf

    dtype = tf.float32.as_datatype_enum
    of_data = _depending_on_data(graph)
    # Keras adds a number to a name that is in use.
    scope = re.compile(rf"{re.escape(layer)}(_\d+)?")
    for node in list(graph.node):
        is_within = any(map(scope.fullmatch, node.name.split("/")))
        if node.op not in _PRODUCTS or not is_within:
            continue
        for i, source in enumerate(node.input):
            if _node_of(source) not in of_data:
                added = graph.node.add(
                    op="AddV2",
                    name=f"{node.name}/added_{i}",
                    input=[source, number],
                )
                added.attr["T"].type = dtype
                node.input[i] = added.name
    graph.node.add(op="Placeholder", name=number).attr["dtype"].type = dtype


def _depending_on_data(graph: tf.compat.v1.GraphDef) -> set[str]:
    """Returns the names of the nodes that depend on the input of the graph."""
    found = {node.name for node in graph.node if node.op == "Placeholder"}
    count = 0
    # A node may come before those that it depends on.
    while count < len(found):
        count = len(found)
        for node in graph.node:
            if any(_node_of(source) in found for source in node.input):
                found.add(node.name)
    return found


def _node_of(source: str) -> str:
    """Returns the node of an input, such as "a" of "a:0" or "^a"."""
    return source.removeprefix("^").partition(":")[0]
