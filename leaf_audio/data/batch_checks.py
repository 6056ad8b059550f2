"""Checks of what batches are asked for."""

from typing import Any

import numpy as np

from leaf_audio.common.checks import check_positive_int


def check_views(
    views: int,
    mixup_alpha: float,
    evaluation_hop: int | None,
    more_targets: np.ndarray | None,
) -> None:
    """Raises a ValueError if two views are asked for with what excludes them.

    See `leaf_audio.data.prepare` for the arguments.
    """
    check_positive_int("views", views, at_most=2)
    for name, value, needed in (
        ("mixup_alpha", mixup_alpha, 0),
        ("evaluation_hop", evaluation_hop, None),
    ):
        if views > 1 and value != needed:
            raise ValueError(
                f"`{name}` must be {needed} with two views of each clip, as "
                f"pretraining needs them. Received: {name}={value!r}."
            )
    if views > 1 and more_targets is not None:
        raise ValueError(
            "`more_targets` must be None with two views of each clip. "
            f"Received: more_targets of shape {np.shape(more_targets)}."
        )


def checked_targets(more_targets: Any, clips: int) -> np.ndarray | None:
    """Returns targets as float32, or raises a ValueError.

    Args:
        more_targets: An array of shape (clips, size), or None.
        clips: The number of training clips.

    Returns:
        An array of the same shape, or None.
    """
    if more_targets is None:
        return None
    is_array = isinstance(more_targets, np.ndarray)
    if (
        is_array
        and more_targets.ndim == 2
        and len(more_targets) == clips
        and more_targets.dtype.kind == "f"
        and more_targets.shape[1]
        and np.isfinite(more_targets).all()
    ):
        return more_targets.astype(np.float32, copy=False)
    received = (
        f"more_targets of shape {more_targets.shape} and {more_targets.dtype}"
        if is_array
        else f"more_targets={more_targets!r}"
    )
    raise ValueError(
        "`more_targets` must be an array of finite floats of shape "
        f"({clips}, size), a row for each training clip, or None. "
        f"Received: {received}."
    )
