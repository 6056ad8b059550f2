"""Converts a model on TensorFlow to ONNX."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from leaf_audio.common.export_formats import METADATA
from leaf_audio.common.reasons import first_line

# The oldest version of ONNX's operations that has all that are needed. The
# older it is, the more runtimes read the file.
_OPSET = 17


def convert(
    serve: Callable,
    shape: tuple[int | None, int | None],
    described: Mapping[str, Any],
) -> bytes:
    """Converts a function of TensorFlow to the content of an `.onnx` file.

    Args:
        serve: Function from samples to probabilities. It may use variables,
            which become constants.
        shape: The shape of the samples, (batch, time); None is for any size.
        described: Plain data, which the metadata of the file take as JSON.

    Returns:
        The content of the file. Its input is `samples`, its output
        `probabilities`.

    Raises:
        ImportError: If tf2onnx is not installed.
        ValueError: If ONNX lacks an operation that the function needs.
    """
    onnx, tf2onnx = _converter()
    import tensorflow as tf

    signature = tf.TensorSpec(shape, tf.float32, name="samples")
    function = tf.function(
        lambda samples: {"probabilities": serve(samples)},
        input_signature=[signature],
    )
    try:
        model, _ = tf2onnx.convert.from_function(
            function,
            input_signature=[signature],
            opset=_OPSET,
            custom_op_handlers={"Log1p": (_log1p, []), "Expm1": (_expm1, [])},
        )
        onnx.checker.check_model(model)
    # The converter raises errors of many types.
    except Exception as error:
        raise ValueError(
            "`classifier` must be a model that ONNX can compute. "
            f"Received: {first_line(error)}"
        ) from error
    for values, sizes in (
        (model.graph.input, ("batch", "time")),
        (model.graph.output, ("batch", "labels")),
    ):
        shape_of_value = values[0].type.tensor_type.shape.dim
        for size, name in zip(shape_of_value, sizes, strict=True):
            if not size.dim_value:
                size.dim_param = name
    onnx.helper.set_model_props(model, {METADATA: json.dumps(described)})
    return model.SerializeToString()


def _converter() -> tuple[Any, Any]:
    try:
        import onnx
        import tf2onnx
    except ImportError as error:
        raise ImportError(
            "`format` onnx needs tf2onnx, which is not installed: "
            "pip install 'leaf_audio[onnx]'."
        ) from error
    return onnx, tf2onnx


# What tf2onnx calls for operations that ONNX lacks. The arguments are its graph
# and the node to replace.
def _log1p(graph: Any, node: Any, *_: Any) -> None:
    one = graph.make_const(f"{node.name}_one", np.float32(1)).output[0]
    graph.insert_new_node_on_input(node, "Add", [node.input[0], one])
    node.type = "Log"


def _expm1(graph: Any, node: Any, *_: Any) -> None:
    one = graph.make_const(f"{node.name}_one", np.float32(1)).output[0]
    node.type = "Exp"
    output = node.output[0]
    graph.insert_new_node_on_output("Sub", output, inputs=[output, one])
