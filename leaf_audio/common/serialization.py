"""Saves and restores the arguments that a frontend or a model was built from.

Such an argument may be a layer, an initializer, a function, a class, or a
`functools.partial` of one of these. Keras can save all of them except partials.
"""

import functools
from typing import Any

import keras

_PARTIAL = "functools.partial"


def clone_layer(layer: keras.layers.Layer) -> keras.layers.Layer:
    """Copies a layer together with the values of its weights.

    The copy has weights of its own, so two models that are given the same layer
    do not share any.

    Args:
      layer: Layer to copy. It may be built or not.

    Returns:
      A new layer with the same config. It is built, with the same values, if
      the given layer is built and has weights.
    """
    copy = type(layer).from_config(layer.get_config())
    if layer.built and layer.variables:
        copy.build_from_config(layer.get_build_config())
        copy.set_weights(layer.get_weights())
    return copy


def serialize(value: Any) -> Any:
    """Converts a constructor's argument to a form that JSON can hold.

    A layer's `get_config` uses this function for arguments that are not plain
    values, such as `functools.partial(PCENLayer, alpha=0.9)`. The function
    works like `keras.saving.serialize_keras_object` and can also save partials.

    Args:
      value: A layer, an initializer, a function, a class, or a partial of one
        of these. Strings, numbers and None are returned unchanged.

    Returns:
      A nested dictionary of plain Python values. `deserialize` restores the
      argument from it.
    """
    if isinstance(value, functools.partial):
        return {
            "class_name": _PARTIAL,
            "config": {
                "function": serialize(value.func),
                "args": [serialize(arg) for arg in value.args],
                "keywords": {
                    name: serialize(arg) for name, arg in value.keywords.items()
                },
            },
        }
    return keras.saving.serialize_keras_object(value)


def deserialize(config: Any) -> Any:
    """Restores an argument from the form that `serialize` gave it.

    Args:
      config: Result of `serialize`. Values other than dictionaries are returned
        unchanged.

    Returns:
      A new object with the same config, or the same function or class.
    """
    if isinstance(config, dict) and config.get("class_name") == _PARTIAL:
        parts = config["config"]
        return functools.partial(
            deserialize(parts["function"]),
            *[deserialize(arg) for arg in parts["args"]],
            **{
                name: deserialize(arg)
                for name, arg in parts["keywords"].items()
            },
        )
    if isinstance(config, dict):
        return keras.saving.deserialize_keras_object(config)
    return config
