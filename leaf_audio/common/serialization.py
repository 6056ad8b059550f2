"""Saves and restores the arguments that a frontend or a model was built from.

Such an argument may be a layer, an initializer, a function, or a
`functools.partial` of a function. Keras can save all of them except partials.

A saved model may come from a stranger, and its config may have been written by
hand. What is restored here must therefore not run code that the file chooses.
Keras' safe mode sees to it for layers: it refuses a Lambda with Python code, a
TFSMLayer and the like. It does not know of partials. A partial of a class would
call the class with arguments from the file, which may be the name of another
file to run. So in safe mode a partial may hold functions of this package only,
with plain arguments, and no argument may be a class.
"""

import contextvars
import functools
import inspect
import os
import types
from typing import Any

import keras
import numpy as np

_PARTIAL = "functools.partial"
_IS_LOADING = contextvars.ContextVar("is_loading", default=False)

# Functions of Keras that compute something from a tensor and do nothing else.
_KERAS_FUNCTIONS = ("keras.src.activations.activations", "keras.src.ops")
# What else is in the modules above: functions that make or call others.
_NO_ACTIVATIONS = frozenset(
    (
        *(
            "get",
            "serialize",
            "deserialize",
            "custom_gradient",
            "vectorized_map",
        ),
        *("map", "scan", "cond", "while_loop", "fori_loop", "switch"),
        *("associative_scan", "vectorize"),
    )
)


def load_model(path: str | os.PathLike) -> keras.Model:
    """Loads a saved layer or model for use, not for further training.

    Keras' safe mode is on: a file that holds code is refused.

    Args:
      path: Name of a `.keras` file.

    Returns:
      The model, without its optimizer.

    Raises:
      ValueError: The file cannot be loaded. The message names it, and says what
        Keras found wrong.
    """
    token = _IS_LOADING.set(True)
    try:
        return keras.models.load_model(path, compile=False)
    # A file that was damaged or made up can raise about any error in Keras.
    except Exception as error:
        # For each layer on the way, Keras puts its whole config before that.
        reason = str(error).rpartition("Exception encountered: ")[2]
        raise ValueError(
            f"{str(path)!r} must be a model that can be loaded. Received: "
            f"{reason}"
        ) from error
    finally:
        _IS_LOADING.reset(token)


def is_loading() -> bool:
    """Returns whether `load_model` builds layers, whose weights it reads next.

    What is made for the values of weights need not be made for initial ones
    then.
    """
    return _IS_LOADING.get()


def clone_layer(layer: keras.layers.Layer) -> keras.layers.Layer:
    """Copies a layer together with the values of its weights.

    The copy has weights of its own, so two models that are given the same layer
    do not share any.

    Args:
      layer: Layer to copy. It may be built or not.

    Returns:
      A new layer with the same config. It is built, with the same values, if
      the given layer is built and has weights. A Lambda, which has no weights,
      is returned itself.
    """
    if isinstance(layer, keras.layers.Lambda):
        # A config holds the code of a Python function, but not the variables
        # outside it that the function reads.
        return layer
    if isinstance(layer, keras.Sequential):
        # For the sake of the Lambdas inside it.
        copy = keras.models.clone_model(layer, clone_function=clone_layer)
    else:
        copy = type(layer).from_config(layer.get_config())
    if layer.built and layer.variables:
        copy.build_from_config(layer.get_build_config())
        copy.set_weights(layer.get_weights())
    return copy


def serialize(value: Any) -> Any:
    """Converts a constructor's argument to a form that JSON can hold.

    A layer's `get_config` uses this function for arguments that are not plain
    values, such as `functools.partial(log_compression, log_offset=1e-3)`. The
    function works like `keras.saving.serialize_keras_object` and can also save
    partials.

    Args:
      value: A layer, an initializer, a function, or a partial of a function.
        Strings, numbers and None are returned unchanged.

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
      A new object with the same config, or the same function.

    Raises:
      ValueError: The config asks for a class, for a function of Keras that is
        no activation and no operation, or for a partial that is not allowed.
        In Keras' safe mode, a partial must hold a function that this package
        has registered. With `safe_mode=False` it may hold any function.
      TypeError: Keras does not know a name in the config.
    """
    if not isinstance(config, dict):
        return config
    if config.get("class_name") == _PARTIAL:
        return _deserialize_partial(config)
    value = keras.saving.deserialize_keras_object(config)
    if inspect.isclass(value):
        raise ValueError(
            "A saved argument must be a layer, a function or a plain value, "
            f"not a class. Received: {config}."
        )
    if inspect.isroutine(value) and not _only_computes(value):
        raise ValueError(
            "A saved function must be registered by "
            "keras.saving.register_keras_serializable, or be one of "
            f"keras.activations or keras.ops. Received: {config}."
        )
    return value


def _only_computes(function: Any) -> bool:
    """Returns whether a function may be called on the features of a model."""
    module = getattr(function, "__module__", None) or ""
    is_keras = module.split(".")[0] == "keras"
    return not is_keras or (
        module.startswith(_KERAS_FUNCTIONS)
        and function.__name__ not in _NO_ACTIVATIONS
    )


def _deserialize_partial(config: dict[str, Any]) -> functools.partial:
    parts = config.get("config")
    if not (
        isinstance(parts, dict)
        and isinstance(parts.get("function"), dict)
        and isinstance(parts.get("args"), list)
        and isinstance(parts.get("keywords"), dict)
    ):
        raise ValueError(
            "A saved functools.partial must have a function, a list of args "
            f"and a dictionary of keywords. Received: {config}."
        )
    if parts["function"].get("class_name") not in ("function", _PARTIAL):
        raise ValueError(
            "A saved functools.partial must hold a function, not a class or an "
            f"instance of one. Received: {config}."
        )
    function = deserialize(parts["function"])
    _check_function_of_partial(function, config)
    args = [deserialize(arg) for arg in parts["args"]]
    keywords = {k: deserialize(v) for k, v in parts["keywords"].items()}
    for value in (*args, *keywords.values()):
        if not _is_plain(value):
            raise ValueError(
                "The arguments of a saved functools.partial must be plain "
                "values: numbers, strings, None, and lists or dictionaries of "
                f"them. Received: {value!r} in {config}."
            )
    return functools.partial(function, *args, **keywords)


def _check_function_of_partial(function: Any, config: dict[str, Any]) -> None:
    if isinstance(function, functools.partial):
        return  # It was checked when it was restored itself.
    name = keras.saving.get_registered_name(function)
    is_function = isinstance(function, types.FunctionType)
    # Configs bind arguments of activations. These compute and do nothing else.
    is_known = name.startswith("leaf_audio>") or _is_activation(function)
    if not (is_function and is_known) and _in_safe_mode():
        raise ValueError(
            "A saved functools.partial must hold a function of leaf_audio, "
            "such as log_compression, or an activation of Keras: others would "
            "run with arguments that the file chooses. If you trust the file, "
            f"load it with safe_mode=False. Received: {config}."
        )


def _is_activation(function: Any) -> bool:
    """Returns whether a function is an activation of Keras."""
    module = getattr(function, "__module__", None) or ""
    return (
        module == "keras.src.activations.activations"
        and function.__name__ not in _NO_ACTIVATIONS
    )


def _is_plain(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        # An object that is saved within a list or a dictionary stays a
        # dictionary, which no function expects.
        is_object = "class_name" in value
        return not is_object and all(map(_is_plain, (*value, *value.values())))
    plain = (str, int, float, bool, np.ndarray, np.generic)
    return value is None or isinstance(value, plain)


def _in_safe_mode() -> bool:
    """Returns whether Keras refuses to run code of the file that it loads."""
    # Keras offers no public function for this. A Lambda gives the answer.
    harmless = keras.layers.Lambda(lambda x: x).get_config()
    try:
        keras.layers.Lambda.from_config(harmless)
    except ValueError:
        return True
    return False
