"""Looks into the steps of `fit`, on the device that computes them.

Two things are watched: whether the gradients of a step are finite, and whether
a frontend has computed it at the full rate, outside its plan. Both are numbers
in the logs of a step, so no further transfer is needed.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import keras
from keras import ops

from leaf_audio.callbacks import built_leafs
from leaf_audio.frontend.planned import PlannedFrontend

# In the logs of a step: 1 if it was computed outside a plan, or else 0.
OUTSIDE_PLAN = "outside_plan"


def exact_outside_plan(model: keras.Model) -> list[PlannedFrontend]:
    """Finds the frontends of a model that are exact, and slow, outside a plan.

    Args:
        model: The model, built.
    """
    return [
        leaf
        for leaf in built_leafs(model)
        if leaf.exact_outside_plan and leaf.plan is not None
    ]


@contextlib.contextmanager
def watched_steps(model: keras.Model) -> Iterator[None]:
    """Within the `with` block, the logs of a step of `fit` tell more.

    After a step whose gradients are not finite, `on_train_batch_end` receives a
    loss of NaN. The sum of all gradients is computed within the step. NaN and
    infinity survive a sum.

    An optimizer with a loss scale skips a step whose gradients overflow, and
    halves its scale. Such a step is reported only if the scale is 1 or less:
    then it was not the scale that made them overflow.

    If the model has a frontend that is exact outside its plan, the logs also
    have `OUTSIDE_PLAN`.

    Args:
        model: The model, compiled and built.
    """
    optimizer = model.optimizer
    leafs = exact_outside_plan(model)
    # JAX passes the values of all variables to a step, and the state of the
    # optimizer before the gradients.
    is_jax = keras.backend.backend() == "jax"
    method = "stateless_apply" if is_jax else "apply"
    apply, train_step = getattr(optimizer, method), model.train_step
    # tf.distribute runs the step of each device in a thread of its own.
    step = threading.local()

    def apply_watched(*args: Any, **kwargs: Any) -> Any:
        gradients = args[1] if is_jax else args[0]
        step.is_finite = _all_finite(gradients)
        if hasattr(optimizer, "dynamic_scale"):
            state = args[0] if is_jax else optimizer.variables
            scale = _value_of(optimizer.dynamic_scale, optimizer, state)
            step.is_finite = ops.logical_or(step.is_finite, scale > 1)
        if leafs:
            # Only now: without a graph, a forward pass plans anew if it must.
            step.outside = _is_outside(leafs, model, step.state)
        return apply(*args, **kwargs)

    def train_step_watched(*args: Any) -> Any:
        step.state = args[0] if is_jax else None
        result = train_step(*args)
        step.state = None
        logs = result[0] if is_jax else result
        is_finite = step.__dict__.pop("is_finite", None)
        if is_finite is None:
            return result
        loss = ops.convert_to_tensor(logs["loss"])
        logs = {**logs, "loss": ops.where(is_finite, loss, math.nan)}
        if leafs:
            logs[OUTSIDE_PLAN] = step.__dict__.pop("outside")
        return (logs, result[1]) if is_jax else logs

    # Keras would track what is assigned in the usual way.
    object.__setattr__(optimizer, method, apply_watched)
    object.__setattr__(model, "train_step", train_step_watched)
    try:
        yield
    finally:
        object.__delattr__(optimizer, method)
        object.__delattr__(model, "train_step")


def _all_finite(gradients: Iterable[Any]) -> Any:
    # In float32, which float16 gradients cannot overflow.
    sums = [
        ops.sum(ops.cast(ops.convert_to_tensor(gradient), "float32"))
        for gradient in gradients
        if gradient is not None
    ]
    return ops.isfinite(sum(sums))


def _is_outside(
    leafs: Sequence[PlannedFrontend],
    model: keras.Model,
    state: Sequence[Sequence[Any]] | None,
) -> Any:
    """Returns 1 if a frontend's weights lie outside its plan, or else 0.

    Args:
        leafs: The frontends.
        model: The model that they belong to.
        state: The values of the model's trainable weights and of its other
            ones, as JAX passes them to a step. None reads them from the
            weights.
    """
    scope: Any = contextlib.nullcontext()
    if state is not None:
        trainable, others = state[:2]
        scope = keras.StatelessScope(
            state_mapping=[
                *zip(model.trainable_variables, trainable, strict=True),
                *zip(model.non_trainable_variables, others, strict=True),
            ]
        )
    with scope:
        outside = [ops.cast(leaf.has_left_plan(), "float32") for leaf in leafs]
    return ops.max(ops.stack(outside))


def _value_of(variable: Any, optimizer: Any, state: Iterable[Any]) -> Any:
    """Finds the value of a variable of an optimizer in the optimizer's state.

    Within a step, JAX keeps the values apart from the variables.
    """
    for one, value in zip(optimizer.variables, state, strict=True):
        if one is variable:
            return ops.convert_to_tensor(value)
    raise AssertionError("The variable belongs to the optimizer.")
