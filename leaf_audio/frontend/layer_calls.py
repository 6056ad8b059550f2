"""Calls, builds and finds layers that a frontend was given.

What a frontend was given may be a Keras layer, a function or None.
"""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import keras

from leaf_audio.common.keras_checks import is_function
from leaf_audio.common.serialization import clone_layer

Tensor = Any
Shape = tuple[int | None, ...]


def call_layer(
    layer: Callable,
    inputs: Tensor,
    mask: Tensor | None,
    training: bool | None = None,
) -> Tensor:
    """Calls a layer with the mask and `training`, where its `call` has them.

    Args:
      layer: Layer or function. A function receives the inputs only.
      inputs: Tensor for the layer.
      mask: Boolean tensor, or None for no mask.
      training: Whether the call is for training, or None to leave it to Keras.

    Returns:
      The output of the layer.
    """
    if not isinstance(layer, keras.layers.Layer):
        return layer(inputs)
    given = {"mask": mask, "training": training}
    return layer(
        inputs,
        **{
            name: value
            for name, value in given.items()
            if value is not None and call_accepts(layer, name)
        },
    )


def call_accepts(layer: keras.layers.Layer, argument: str) -> bool:
    """Returns whether `layer.call` has an argument of this name."""
    return argument in inspect.signature(layer.call).parameters


def build_chain(layers: Sequence[Callable | None], shape: Shape) -> None:
    """Builds layers, each for the output shape of the one before it.

    Args:
      layers: Layers in the order in which they are applied. Functions and None
        may be among them.
      shape: Input shape of the first layer.
    """
    for layer in layers:
        if isinstance(layer, keras.layers.Layer) and not layer.built:
            # Unlike `build`, a call also builds the layers within a layer that
            # does not define `build`.
            layer(keras.KerasTensor(shape))
        shape = output_shape_of(layer, shape)


def output_shape_of(layer: Callable | None, shape: Shape) -> Shape:
    """Computes the output shape of a layer or a function.

    Args:
      layer: Layer or function; None is the identity.
      shape: Input shape.

    Returns:
      The output shape.

    Raises:
      ValueError: If a function cannot be called with a tensor of the shape.
    """
    if layer is None:
        return shape
    if not isinstance(layer, keras.layers.Layer):
        return _output_shape_of_function(layer, shape)
    try:
        return tuple(layer.compute_output_shape(shape))
    except NotImplementedError:
        # A layer need not define `compute_output_shape`. A call on a symbolic
        # tensor returns the shape, but builds the layer: call a copy.
        called = layer if layer.built else clone_layer(layer)
        return tuple(called(keras.KerasTensor(shape)).shape)


def _output_shape_of_function(function: Callable, shape: Shape) -> Shape:
    try:
        return tuple(keras.layers.Lambda(function).compute_output_shape(shape))
    except NotImplementedError as error:
        # Keras tells nothing of the error that the function has raised.
        reason = error.__context__ or error
    raise ValueError(
        "A function in place of a layer must take a tensor and return one. "
        f"Received: {function!r}, for inputs of shape {tuple(shape)}: {reason}"
    ) from reason


def find_layers(
    model: keras.layers.Layer, cls: type[keras.layers.Layer]
) -> list[Any]:
    """Finds the layers of a class within a layer or model.

    Args:
      model: Layer or model. It is among the results if it is of the class.
      cls: Class of the layers; instances of subclasses count.

    Returns:
      The layers, each once.
    """
    # The public attribute `layers` leaves out the layers that wrappers and
    # other layers hold.
    found = model._flatten_layers()
    return [layer for layer in found if isinstance(layer, cls)]


def copy_if_layer(argument: str, value: Any) -> Callable | None:
    """Copies a layer, and returns a function or None unchanged.

    Args:
      argument: Name of the argument, for the error message.
      value: Layer, function or None.

    Returns:
      A copy of the layer with weights of its own, or `value`.

    Raises:
      ValueError: If `value` is something else, such as a class.
    """
    if isinstance(value, keras.layers.Layer):
        return clone_layer(value)
    if value is None or is_function(value):
        return value
    raise ValueError(
        f"`{argument}` must be a layer, a function or None. "
        f"Received: {argument}={value!r}."
    )


def check_mask(name: str, shape: Sequence, mask_shape: Sequence) -> None:
    """Raises a ValueError unless a mask has an entry for each sample.

    Args:
      name: Name of the frontend, for the error message.
      shape: Shape of the waveforms. Sizes may be unknown.
      mask_shape: Shape of the mask.
    """
    fits = len(mask_shape) == 2 and all(
        None in (size, entries) or size == entries
        for size, entries in zip(shape[:2], mask_shape, strict=True)
    )
    if not fits:
        raise ValueError(
            f"`mask` of {name} must have the shape (batch, time) of the "
            f"waveforms. Received: mask of shape {tuple(mask_shape)} for "
            f"waveforms of shape {tuple(shape)}."
        )


def check_keeps_frames(
    compression: Any, before: Sequence, after: Sequence
) -> None:
    """Raises a ValueError if a compression changes the number of frames.

    Args:
      compression: Layer, function or None.
      before: Shape of the energies. Sizes may be unknown.
      after: Shape of the features.
    """
    if None not in (before[1], after[1]) and before[1] != after[1]:
        raise ValueError(
            "`compression_fn` must keep the number of frames. Received: "
            f"compression_fn={compression!r}, which makes {after[1]} frames of "
            f"{before[1]}. Put such a layer after the frontend."
        )
