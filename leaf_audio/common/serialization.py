"""What a frontend is given to build itself from, to and from a config."""

import functools
from typing import Any

import keras

_PARTIAL = "functools.partial"


def clone_layer(layer: keras.layers.Layer) -> keras.layers.Layer:
    """Copies a layer with its weights, so that no two models share them."""
    copy = type(layer).from_config(layer.get_config())
    if layer.built and layer.variables:
        copy.build_from_config(layer.get_build_config())
        copy.set_weights(layer.get_weights())
    return copy


def serialize(value: Any) -> Any:
    """Turns a layer, an initializer, a function or a partial into a config.

    Names, numbers and None stay what they are.

    Args:
      value: what a constructor was given.

    Returns:
      What `deserialize` makes an equal one from.
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
    """Turns a config that `serialize` made back into what it was."""
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
