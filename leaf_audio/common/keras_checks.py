"""Checks of arguments that are Keras objects, and of those of every layer.

Keras accepts several forms of an initializer, a regularizer or a constraint,
and its errors do not say which argument was wrong. A check takes the name and
the value of an argument, and returns what Keras would have made of the value.
"""

import functools
import inspect
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import keras
import numpy as np

from leaf_audio.common.checks import check_bool
from leaf_audio.common.reasons import first_line


def check_initializer(name: str, value: Any) -> Any:
    """Returns an initializer, or raises a ValueError.

    Args:
      name: Name of the argument.
      value: An initializer, a class or a `functools.partial` that makes one,
        its name or config, an array of values, a function of shape and dtype,
        or None.

    Returns:
      The initializer, or None.

    Raises:
      ValueError: The value is none of these.
    """
    if keras.ops.is_tensor(value) or isinstance(value, np.ndarray):
        return keras.initializers.get(value)
    return _keras_object(
        name,
        value,
        module=keras.initializers,
        base=keras.initializers.Initializer,
        allowed="an initializer, its name or None",
    )


def check_regularizer(name: str, value: Any) -> Any:
    """Returns a regularizer or None, or raises a ValueError."""
    return _keras_object(
        name,
        value,
        module=keras.regularizers,
        base=keras.regularizers.Regularizer,
        allowed="a regularizer, its name or None",
    )


def check_constraint(name: str, value: Any) -> Any:
    """Returns a constraint or None, or raises a ValueError."""
    return _keras_object(
        name,
        value,
        module=keras.constraints,
        base=keras.constraints.Constraint,
        allowed="a constraint, its name or None",
    )


def _keras_object(
    name: str, value: Any, module: ModuleType, base: type, allowed: str
) -> Any:
    if value is None or isinstance(value, base):
        return value
    try:
        made = value() if _makes(value, base) else module.get(value)
    except (TypeError, ValueError) as error:
        raise _error(name, value, allowed, error) from error
    if not isinstance(made, base) and not is_function(made):
        raise _error(name, value, allowed)
    return made


def check_activation(name: str, value: Any) -> Any:
    """Returns a layer, a function, a function's name or None unchanged.

    Args:
      name: Name of the argument.
      value: Value of the argument.

    Raises:
      ValueError: The value is something else, such as the class of a layer.
    """
    if isinstance(value, (str, dict)):
        try:
            keras.activations.get(value)
        except (TypeError, ValueError) as error:
            raise _error(name, value, _ACTIVATION) from error
    elif not (
        value is None
        or isinstance(value, keras.layers.Layer)
        or is_function(value)
    ):
        raise _error(name, value, _ACTIVATION)
    return value


_ACTIVATION = "a function of keras.activations or its name, a layer, or None"


def is_function(value: Any) -> bool:
    """Returns whether a value is called with tensors, and needs no weights.

    A class is not: its call would take a tensor for a constructor's argument.
    """
    called = getattr(value, "func", value)
    return (
        callable(value)
        and not inspect.isclass(called)
        and not isinstance(value, keras.layers.Layer)
    )


def check_layer(name: str, value: Any) -> keras.layers.Layer:
    """Returns a layer or a model, or raises a ValueError."""
    if not isinstance(value, keras.layers.Layer):
        raise _error(name, value, "a Keras layer or model")
    return value


def check_dtype(name: str, value: Any) -> Any:
    """Returns a dtype policy of floating-point numbers, its name or None.

    Args:
      name: Name of the argument.
      value: Value of the argument, as `keras.layers.Layer` takes it.

    Raises:
      ValueError: Keras does not know the policy, or it computes integers.
    """
    allowed = (
        "a floating-point dtype policy such as 'float32' or 'mixed_bfloat16', "
        "or None"
    )
    if isinstance(value, bool):
        raise _error(name, value, allowed)
    try:
        policy = keras.dtype_policies.get(value)
    except (AttributeError, TypeError, ValueError) as error:
        raise _error(name, value, allowed) from error
    if not keras.backend.is_float_dtype(policy.compute_dtype):
        raise _error(name, value, allowed)
    return value


def check_layer_arguments(arguments: dict[str, Any]) -> dict[str, Any]:
    """Checks the arguments that every layer passes on to Keras.

    Args:
      arguments: Keyword arguments of `keras.layers.Layer` or `keras.Model`.

    Returns:
      The arguments, unchanged.

    Raises:
      ValueError: `name`, `dtype` or `trainable` is not allowed.
    """
    name = arguments.get("name")
    if name is not None and (
        not isinstance(name, str) or not name or "/" in name
    ):
        raise _error("name", name, "a text without '/', or None")
    check_dtype("dtype", arguments.get("dtype"))
    if "trainable" in arguments:
        check_bool("trainable", arguments["trainable"])
    return arguments


def check_maker(name: str, value: Any, base: type, allowed: str) -> Any:
    """Returns a class or a function that makes an object, or None.

    Args:
      name: Name of the argument.
      value: A class, a function, a `functools.partial` of one of these, or
        None.
      base: What a class must derive from.
      allowed: What the value must be, in words.

    Raises:
      ValueError: The value is something else.
    """
    made = getattr(value, "func", value)
    is_other_class = inspect.isclass(made) and not issubclass(made, base)
    if value is not None and (not callable(value) or is_other_class):
        raise _error(name, value, allowed)
    return value


def make_layer(
    name: str, factory: Callable, settings: Mapping[str, Any]
) -> keras.layers.Layer:
    """Makes a layer with a class or a function that a user has passed.

    Args:
      name: Name of the argument that holds the class or the function.
      factory: The class or the function.
      settings: Arguments to call it with.

    Returns:
      The layer.

    Raises:
      ValueError: The call fails, or returns no layer.
    """
    given = f" from the arguments {', '.join(settings)}" if settings else ""
    try:
        made = factory(**settings)
        problem = f"which made {made!r}"
    except (TypeError, ValueError) as error:
        made, problem = error, f"which failed: {str(error).rstrip('.')}"
    if not isinstance(made, keras.layers.Layer):
        cause = made if isinstance(made, Exception) else None
        raise ValueError(
            f"`{name}` must make a Keras layer{given}. "
            f"Received: {name}={factory!r}, {problem}."
        ) from cause
    return made


def _makes(value: Any, base: type) -> bool:
    """Returns whether a value is a class, or a partial of it, with a base."""
    called = value.func if isinstance(value, functools.partial) else value
    return inspect.isclass(called) and issubclass(called, base)


def _error(
    name: str, value: Any, allowed: str, reason: Exception | None = None
) -> ValueError:
    why = ""
    if reason is not None:
        why = f" ({first_line(reason).rstrip('.')})"
    return ValueError(
        f"`{name}` must be {allowed}. Received: {name}={value!r}{why}."
    )
