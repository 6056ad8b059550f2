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
from leaf_audio.training.replaced_methods import replaced

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
    """Adds to the logs of each step of `fit`, within the `with` block.

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
    # JAX passes the state of the optimizer before the gradients, and the values
    # of the trainable variables after them. A variable itself has no value in a
    # step.
    is_jax = keras.backend.backend() == "jax"
    method = "stateless_apply" if is_jax else "apply"
    apply, compute_metrics = getattr(optimizer, method), model.compute_metrics
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
            values = (args[2], step.__dict__.pop("others")) if is_jax else None
            # After the forward pass: without a graph, it makes a new plan for
            # weights that have left theirs.
            step.outside = _is_outside(leafs, model, values)
        return apply(*args, **kwargs)

    def compute_loss_watched(*args: Any, **kwargs: Any) -> Any:
        step.others = args[1]
        return compute_loss(*args, **kwargs)

    def compute_metrics_watched(*args: Any, **kwargs: Any) -> dict[str, Any]:
        logs = compute_metrics(*args, **kwargs)
        is_finite = step.__dict__.pop("is_finite", None)
        if is_finite is None:
            return logs
        loss = ops.convert_to_tensor(logs["loss"])
        logs = {**logs, "loss": ops.where(is_finite, loss, math.nan)}
        if leafs:
            logs[OUTSIDE_PLAN] = step.__dict__.pop("outside")
        return logs

    # Not `train_step`, which JAX compiles anew only if it is another function
    # than before.
    with contextlib.ExitStack() as stack:
        stack.enter_context(replaced(optimizer, method, apply_watched))
        name = "compute_metrics"
        stack.enter_context(replaced(model, name, compute_metrics_watched))
        if is_jax and leafs:
            name = "compute_loss_and_updates"
            compute_loss = getattr(model, name)
            stack.enter_context(replaced(model, name, compute_loss_watched))
        yield


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
    values: tuple[Sequence[Any], Sequence[Any]] | None,
) -> Any:
    """Returns 1 if a frontend's weights lie outside its plan, or else 0.

    Args:
        leafs: The frontends.
        model: The model that they belong to.
        values: The values of the model's trainable variables, and those of its
            other ones. None reads them from the variables, before the step
            changes them.
    """
    scope: Any = contextlib.nullcontext()
    if values is not None:
        variables = (model.trainable_variables, model.non_trainable_variables)
        pairs = [
            pair
            for some, own in zip(variables, values, strict=True)
            for pair in zip(some, own, strict=True)
        ]
        scope = keras.StatelessScope(state_mapping=pairs)
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
