"""What a recipe asks of any optimizer of Keras.

Which weights decay, how fast the frontend learns, and averaged weights.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
from keras import ops


def spare_from_decay(optimizer: Any, model: keras.Model) -> None:
    """Excludes weights from weight decay that decay would harm.

    These are biases, scales and offsets of normalizations, and all weights of
    the frontend: a filter that decays moves towards 0 Hz.

    Args:
        optimizer: An optimizer of Keras that is not built yet.
        model: A model that is built.
    """
    optimizer = _innermost(optimizer)
    if not optimizer.weight_decay:
        return
    frontend = {id(variable) for variable in frontend_variables(model)}
    spared = [
        variable
        for variable in model.trainable_variables
        if len(variable.shape) < 2 or id(variable) in frontend
    ]
    optimizer.exclude_from_weight_decay(var_list=spared)


def frontend_variables(model: keras.Model) -> list[keras.Variable]:
    """Returns the trainable variables of a model's frontend, if it has one."""
    frontend = getattr(model, "frontend", None)
    return [] if frontend is None else frontend.trainable_variables


@contextlib.contextmanager
def frontend_rate(
    model: keras.Model, factor: float, frozen_steps: int
) -> Iterator[None]:
    """Within the `with` block, the frontend learns at a rate of its own.

    Args:
        model: The model, compiled and built.
        factor: At least 0. Multiplies the learning rate of the weights of the
            frontend.
        frozen_steps: At least 0. The number of first steps of a run in which
            the frontend does not learn.

    Raises:
        ValueError: If the optimizer is Nadam.
    """
    own = {id(variable) for variable in frontend_variables(model)}
    if not own or (factor == 1 and not frozen_steps):
        yield
        return
    optimizer = _innermost(model.optimizer)
    if isinstance(optimizer, keras.optimizers.Nadam):
        raise ValueError(
            "`optimizer` must not be Nadam, whose momentum is shared by all "
            "weights, if the frontend has a learning rate of its own. Received:"
            f" frontend_learning_rate_factor={factor}, frozen_steps="
            f"{frozen_steps}."
        )
    update = optimizer._backend_update_step

    def update_in_groups(
        gradients: list, variables: list, learning_rate: Any
    ) -> None:
        pairs = list(zip(gradients, variables, strict=True))
        rate = learning_rate * factor
        if frozen_steps:
            learns = optimizer.iterations >= frozen_steps
            rate = rate * ops.cast(learns, rate.dtype)
        for is_own, group_rate in ((False, learning_rate), (True, rate)):
            group = [p for p in pairs if (id(p[1]) in own) == is_own]
            if group:
                update(*map(list, zip(*group, strict=True)), group_rate)

    # There is no public way to give variables a rate of their own. Keras would
    # track what is assigned in the usual way.
    object.__setattr__(optimizer, "_backend_update_step", update_in_groups)
    # A step that was compiled before would not know.
    model.train_function = None
    try:
        yield
    finally:
        object.__delattr__(optimizer, "_backend_update_step")
        model.train_function = None


@contextlib.contextmanager
def averaged_weights(model: keras.Model) -> Iterator[None]:
    """Within the `with` block, the model has the averages of its weights.

    The averages are those of an optimizer made with `use_ema=True`. Without it,
    nothing changes.

    Args:
        model: The model, compiled and built.
    """
    optimizer = _innermost(model.optimizer)
    # Before the first step there are no averages. Steps under mixed precision
    # whose gradients overflow do not count.
    if not optimizer.use_ema or not int(optimizer.iterations):
        yield
        return
    own = [ops.convert_to_numpy(v) for v in model.trainable_variables]
    # There is no public way to them.
    averages = optimizer._model_variables_moving_average
    for variable, average in zip(
        optimizer._trainable_variables, averages, strict=True
    ):
        variable.assign(average)
    try:
        yield
    finally:
        for variable, value in zip(model.trainable_variables, own, strict=True):
            variable.assign(value)


def _innermost(optimizer: Any) -> Any:
    """Returns the optimizer that updates, without its loss scale."""
    return getattr(optimizer, "inner_optimizer", optimizer)
