"""Makes classes and functions configurable by gin without changing them.

Keras 3 does not let gin wrap the class of a layer: `Layer.__new__` inspects the
constructor, and fails on gin's wrapper. Therefore gin is given a `Factory`
under the name of the class. The factory has the signature of the constructor,
so that gin rejects a misspelt parameter when it reads a config. It returns an
instance of the original class, so that `keras.saving` can load a saved model
without gin.
"""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np

from leaf_audio.app import keras_parts


class Factory:
    """Calls a class or a function, in a form that gin can configure.

    A config may refer to a factory in two ways:

    - `@MaxPooling1D()` calls it and passes the instance.
    - `@MaxPooling1D` passes the class itself, or a `functools.partial` of the
      class if the config binds some of its parameters.

    Args:
        target: The class or function to call.
        fixed: Arguments that every call gets, by name. gin cannot bind them.
            Names that `target` does not take are left out. Default: none.
    """

    def __init__(
        self, target: Callable, fixed: Mapping[str, Any] | None = None
    ):
        self.target = target
        self.__name__ = self.__qualname__ = target.__name__
        self.__doc__ = target.__doc__
        parameters = _signature(target).parameters
        self._fixed = {
            name: value
            for name, value in (fixed or {}).items()
            if name in parameters
        }
        self.__signature__ = inspect.Signature(
            [p for k, p in parameters.items() if k not in self._fixed]
        )

    def __call__(
        self, *args: Any, as_partial: bool = False, **kwargs: Any
    ) -> Any:
        """Calls the target.

        Args:
            *args: Positional arguments of the target.
            as_partial: If True, the target is not called. Default: False.
            **kwargs: Keyword arguments of the target.

        Returns:
            What the target returns. With `as_partial`, the target with these
            arguments bound, or the target itself if there are none.

        Raises:
            ValueError: A required argument is missing, or Keras does not take
                an argument.
        """
        kwargs = {name: without_gin(value) for name, value in kwargs.items()}
        bound = self.__signature__.bind_partial(*args, **kwargs)
        arguments = {**bound.arguments, **self._fixed}
        is_of_keras = keras_parts.is_of_keras(self.target)
        if is_of_keras:
            keras_parts.check(bound.arguments, self.__signature__.parameters)
        if as_partial:
            arguments = self._not_default(arguments)
            if not arguments:
                return self.target
            return functools.partial(self.target, **arguments)
        for name, parameter in self.__signature__.parameters.items():
            is_required = parameter.default is parameter.empty
            if is_required and name not in (*_OF_ALL_LAYERS, *arguments):
                raise ValueError(
                    f"`{name}` of {self.__name__} must be given. "
                    f"Received: {', '.join(arguments) or 'nothing'}."
                )
        if is_of_keras:
            return keras_parts.call(self.target, arguments)
        return self.target(**arguments)

    def _not_default(self, arguments: dict[str, Any]) -> dict[str, Any]:
        # The config that a run records states the defaults too. Bound to a
        # class, they would replace what the caller of the class passes.
        known = self.__signature__.parameters
        return {
            name: value
            for name, value in arguments.items()
            if name in self._fixed or not _equal(value, known[name].default)
        }

    def __repr__(self) -> str:
        return f"{self.target.__module__}.{self.__name__}"


def _equal(value: Any, default: Any) -> bool:
    if value is default:
        return True
    return type(value) is type(default) and bool(np.all(value == default))


def without_gin(value: Any) -> Any:
    """Returns what a reference without parentheses stands for.

    Args:
        value: Any argument of a configurable.

    Returns:
        For gin's wrapper of a `Factory`, the factory's target or a
        `functools.partial` of it. Any other value unchanged.
    """
    if callable(value) and isinstance(inspect.unwrap(value), Factory):
        return value(as_partial=True)
    return value


# Every layer takes them, most through **kwargs.
_OF_ALL_LAYERS = ("name", "dtype", "trainable")


def _signature(target: Callable) -> inspect.Signature:
    """Returns a signature without `*args` and `**kwargs`."""
    if not inspect.isclass(target):
        return inspect.signature(target)
    parameters = _constructor_parameters(target)
    # A variant of Leaf fixes some of Leaf's arguments, and takes the others as
    # **kwargs.
    settled = getattr(target, "_settled", ())
    if settled:
        parameters = {**_constructor_parameters(target.__base__), **parameters}
        parameters = {k: p for k, p in parameters.items() if k not in settled}
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    named = [p for p in parameters.values() if p.kind not in variable]
    if len(named) < len(parameters) and issubclass(target, keras.layers.Layer):
        # They get no default here, because gin would write it to config.gin.
        named += [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY)
            for name in _OF_ALL_LAYERS
            if name not in parameters
        ]
    return inspect.Signature(named)


def _constructor_parameters(cls: type) -> dict[str, inspect.Parameter]:
    # Not the signature of the class, which is that of `Layer.__new__`: it takes
    # any arguments.
    constructor = getattr(cls, "__init__")  # noqa: B009
    _, *parameters = inspect.signature(constructor).parameters.values()
    return {p.name: p for p in parameters}
