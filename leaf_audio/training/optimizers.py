"""Weight decay, the frontend's learning rate, and averaged weights.

For all optimizers of Keras but Nadam and Ftrl, which give no weights a learning
rate of their own.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from leaf_audio.convolution import SincConv1D
from leaf_audio.frontend.layer_calls import find_layers
from leaf_audio.training.replaced_methods import replaced


def spare_from_decay(
    optimizer: Any, model: keras.Model, spares_encoder: bool = False
) -> None:
    """Excludes weights from weight decay that decay would harm.

    These are biases, scales and offsets of normalizations, and all weights of
    the frontend: a filter that decays moves towards 0 Hz.

    Args:
        optimizer: An optimizer of Keras that is not built yet.
        model: A model that is built.
        spares_encoder: Whether all weights of the encoder are spared too.
            Defaults to False.
    """
    optimizer = _innermost(optimizer)
    # Muon has another one, for the weights that it gives to AdamW.
    decays = ("weight_decay", "adam_weight_decay")
    if not any(getattr(optimizer, name, None) for name in decays):
        return
    others = encoder_variables(model) if spares_encoder else []
    whole = {id(variable) for variable in (*frontend_variables(model), *others)}
    spared = [
        variable
        for variable in model.trainable_variables
        if len(variable.shape) < 2 or id(variable) in whole
    ]
    optimizer.exclude_from_weight_decay(var_list=spared)


def frontend_variables(model: keras.Model) -> list[keras.Variable]:
    """Returns the trainable variables of a model's frontend, if it has one."""
    frontend = getattr(model, "frontend", None)
    return [] if frontend is None else frontend.trainable_variables


def encoder_variables(model: keras.Model) -> list[keras.Variable]:
    """Returns the trainable variables between frontend and dense layer."""
    classifier = getattr(model, "classifier", model)
    outside = {id(variable) for variable in frontend_variables(model)}
    head = getattr(classifier, "head", None)
    if head is not None:
        outside |= {id(variable) for variable in head.trainable_variables}
    return [
        variable
        for variable in classifier.trainable_variables
        if id(variable) not in outside
    ]


def freeze(model: keras.Model, frontend: bool, encoder: bool) -> None:
    """Takes parts of a model out of training.

    Their weights get no gradients, so a clipping by the norm of all gradients
    does not count them. A model that is saved within `saved_unfrozen` does not
    tell.

    Args:
        model: A model that is built, and whose optimizer is not.
        frontend: Whether to freeze the frontend.
        encoder: Whether to freeze what lies between frontend and dense layer.
    """
    frozen = frontend_variables(model) if frontend else []
    frozen += encoder_variables(model) if encoder else []
    for variable in frozen:
        variable.trainable = False
        variable.is_frozen_in_run = True


@contextlib.contextmanager
def saved_unfrozen(model: keras.Model) -> Iterator[None]:
    """Within the `with` block, a model can be saved that has frozen parts.

    The file has no optimizer and no loss then: Keras would load the optimizer
    for all weights of the model, and it has the state for a part of them.

    Args:
        model: The model, built.
    """
    if not any(hasattr(one, "is_frozen_in_run") for one in model.variables):
        yield
        return
    kept = {name: getattr(model, name) for name in ("optimizer", "compiled")}
    # Keras would track what is assigned in the usual way.
    object.__setattr__(model, "optimizer", None)
    object.__setattr__(model, "compiled", False)
    try:
        yield
    finally:
        for name, value in kept.items():
            object.__setattr__(model, name, value)


def _scales(model: keras.Model, encoder_factor: float = 1) -> dict[int, float]:
    """Returns what multiplies the rate of some weights, by their `id`.

    These are weights in Hz, and those of the encoder.
    """
    scales = {
        id(variable): encoder_factor
        for variable in encoder_variables(model)
        if encoder_factor != 1
    }
    return scales | {
        id(layer.kernel): layer.sample_rate / (2 * math.pi)
        for layer in find_layers(model, SincConv1D)
        if layer.trainable
    }


def check_frontend_rate(
    model: keras.Model,
    factor: float,
    frozen_epochs: float,
    encoder_factor: float = 1,
) -> None:
    """Checks that the frontend of a model can have a learning rate of its own.

    Args:
        model: The model, compiled and built.
        factor: Multiplies the learning rate of the frontend.
        frozen_epochs: In how many first epochs the frontend does not learn.
        encoder_factor: Multiplies the learning rate of the encoder. Defaults
            to 1.

    Raises:
        ValueError: If such a rate is asked for and the frontend learns nothing,
            or the optimizer cannot give weights different rates.
    """
    asked = [
        f"{name}={value}"
        for name, value, default in (
            ("frontend_learning_rate_factor", factor, 1),
            ("frozen_frontend_epochs", frozen_epochs, 0),
        )
        if value != default
    ]
    # What learns nothing is frozen already.
    is_frozen = factor == 0 and getattr(model, "frontend", None) is not None
    if asked and not is_frozen and not frontend_variables(model):
        raise ValueError(
            f"`{asked[0].partition('=')[0]}` must be left at its default for a "
            "model without a `frontend`, or whose frontend learns nothing. "
            f"Received: {', '.join(asked)}."
        )
    if encoder_factor != 1:
        asked.append(f"encoder_learning_rate_factor={encoder_factor}")
        if not encoder_variables(model):
            raise ValueError(
                "`encoder_learning_rate_factor` must be 1 for a model without "
                f"an encoder that learns. Received: {asked[-1]}."
            )
    optimizer = _innermost(model.optimizer)
    # Nadam has one momentum for all weights, and Ftrl divides by the rate.
    if isinstance(
        optimizer, (keras.optimizers.Nadam, keras.optimizers.Ftrl)
    ) and (asked or _scales(model)):
        raise ValueError(
            f"`optimizer` must not be {type(optimizer).__name__}, which cannot "
            "give some weights a learning rate of their own, as "
            "frontend_learning_rate_factor, frozen_frontend_epochs and "
            "encoder_learning_rate_factor do, and "
            "as the cutoff frequencies of SincConv1D have. Received: "
            f"{', '.join(asked) or 'a model with SincConv1D'}."
        )


@contextlib.contextmanager
def frontend_rate(
    model: keras.Model,
    factor: float,
    frozen_steps: int,
    encoder_factor: float = 1,
) -> Iterator[None]:
    """Within the `with` block, frontend and encoder have rates of their own.

    Cutoff frequencies of sinc filters, which are weights in Hz, learn at
    `sample_rate / (2π)` times the rate of other weights. With Adam and its
    kin, whose steps do not depend on the scale of gradients, they then move as
    fast as the centre frequencies of Gabor filters, which are weights in
    radians per sample.

    Args:
        model: The model, compiled and built.
        factor: At least 0. Multiplies the learning rate of the weights of the
            frontend.
        frozen_steps: At least 0. The number of first steps of a run in which
            the frontend does not learn.
        encoder_factor: At least 0. Multiplies the learning rate of the weights
            of the encoder. Defaults to 1.
    """
    own = {id(variable) for variable in frontend_variables(model)}
    scales = _scales(model, encoder_factor)
    is_plain = factor == 1 and not frozen_steps
    if is_plain and not scales:
        yield
        return
    optimizer = _innermost(model.optimizer)
    update = optimizer._backend_update_step

    def update_in_groups(
        gradients: list, variables: list, learning_rate: Any
    ) -> None:
        own_rate = learning_rate * factor
        if frozen_steps:
            # Keras counts the steps that update weights.
            steps_per_update = optimizer.gradient_accumulation_steps or 1
            learns = optimizer.iterations * steps_per_update >= frozen_steps
            own_rate = own_rate * ops.cast(learns, own_rate.dtype)
        groups: dict[tuple[bool, float], list] = {}
        for pair in zip(gradients, variables, strict=True):
            name = id(pair[1])
            kind = (name in own, scales.get(name, 1.0))
            groups.setdefault(kind, []).append(pair)
        for (is_own, scale), pairs in groups.items():
            rate = own_rate if is_own else learning_rate
            update(*map(list, zip(*pairs, strict=True)), rate * scale)

    # A step that was compiled before would not know.
    model.train_function = None
    try:
        # There is no public way to give variables a rate of their own.
        with replaced(optimizer, "_backend_update_step", update_in_groups):
            yield
    finally:
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
    own = [_copy_of(variable) for variable in model.trainable_variables]
    # There is no public way to them.
    averages = optimizer._model_variables_moving_average
    for variable, average in zip(
        optimizer._trainable_variables, averages, strict=True
    ):
        variable.assign(_copy_of(average))
    try:
        yield
    finally:
        for variable, value in zip(model.trainable_variables, own, strict=True):
            variable.assign(value)


def without_final_averages(
    model: keras.Model,
) -> contextlib.AbstractContextManager[None]:
    """Within the `with` block, `fit` ends with the weights of its last step.

    With an optimizer made with `use_ema=True`, `fit` would replace them by
    their averages, and another `fit` would go on from these.

    Args:
        model: The model, compiled.
    """
    name = "finalize_variable_values"
    return replaced(model.optimizer, name, lambda variables: None)


def _copy_of(variable: keras.Variable) -> np.ndarray:
    """Returns the values of a variable, in memory of their own.

    JAX would have two variables share them, and PyTorch an array and a
    variable: what a step does to one of them would befall the other.
    """
    return np.array(ops.convert_to_numpy(variable))


def _innermost(optimizer: Any) -> Any:
    """Returns the optimizer that updates, without its loss scale."""
    return getattr(optimizer, "inner_optimizer", optimizer)
