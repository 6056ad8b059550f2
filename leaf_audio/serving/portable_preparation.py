"""Prepares clips by operations of Keras, inside an exported model.

The functions here compute what those of `leaf_audio.data` compute in an
evaluation, for a batch of clips of the same length. Other runtimes have no
NumPy, but they have these operations.
"""

from collections.abc import Callable, Sequence
from typing import Any

from keras import ops

from leaf_audio.serving import preparation

Tensor = Any
Step = dict[str, Any]


def split(
    transform_fns: Sequence[Callable], has_one_length: bool
) -> tuple[list[Step], list[Step]]:
    """Tells which functions an exported model calls itself.

    These are the last ones. A function that is not of `leaf_audio.data` must be
    called before the model, and so must all functions that come before it.

    Args:
        transform_fns: The functions that prepare a clip, in their order.
        has_one_length: Whether the model takes clips of one length only. Then
            `align` must be called before it, too.

    Returns:
        The steps before and those inside the model. Each is a dictionary: the
        name of a function, and all of its arguments. The name of a function
        that is not of `leaf_audio.data` begins with its module, and the
        arguments are left out.
    """
    steps: list[Step] = []
    for one in transform_fns:
        try:
            config = preparation.to_config([one])
            steps.extend(map(preparation.with_defaults, config))
        except ValueError:
            steps.append({"name": _full_name(one)})
    inside = set(_FUNCTIONS) - ({"align"} if has_one_length else set())
    before = 0
    for count, step in enumerate(steps, start=1):
        if step["name"] not in inside:
            before = count
    return steps[:before], steps[before:]


def _full_name(function: Any) -> str:
    function = getattr(function, "func", function)
    if not hasattr(function, "__qualname__"):
        function = type(function)
    return f"{function.__module__}.{function.__qualname__}"


def prepare(clips: Tensor, steps: Sequence[Step]) -> Tensor:
    """Prepares clips.

    Args:
        clips: Float32 tensor of shape (batch, time). `time` may be unknown.
        steps: The second part of what `split` returns.

    Returns:
        A float32 tensor of shape (batch, new_time).
    """
    for step in steps:
        arguments = dict(step)
        clips = _FUNCTIONS[arguments.pop("name")](clips, **arguments)
    return clips


def cut(samples: Tensor, length: int, hop: int) -> Tensor:
    """Cuts recordings into windows.

    Args:
        samples: Tensor of shape (batch, time). `time` may be unknown.
        length: int, in samples. The length of a window.
        hop: int, in samples, from 1 to `length`. The distance between the
            beginnings of windows.

    Returns:
        A tensor of shape (batch, windows, min(time, length)). The last window
        ends where the recording ends.
    """
    time = ops.shape(samples)[1]
    surplus = ops.maximum(time - length, 0)
    count = 1 + (surplus + hop - 1) // hop
    starts = ops.minimum(ops.arange(count) * hop, surplus)
    offsets = ops.arange(ops.minimum(time, length))
    return ops.take(samples, starts[:, None] + offsets, axis=1)


def _align(clips: Tensor, seq_len: int, padding: str) -> Tensor:
    time = ops.shape(clips)[1]
    start = ops.maximum(time - seq_len, 0) // 2
    if padding == "wrap":
        positions = start + ops.arange(seq_len)
        return ops.take(clips, positions % time, axis=1)
    clips = ops.pad(clips, [[0, 0], [0, seq_len]])
    # The length is known only after `reshape`.
    return ops.reshape(clips[:, start : start + seq_len], (-1, seq_len))


def _loudness_normalization(
    clips: Tensor, target_db: float, max_gain_db: float
) -> Tensor:
    # In two steps: a mean of squares would lose the digits of a small
    # deviation from a large mean.
    deviation = clips - ops.mean(clips, axis=1, keepdims=True)
    variance = ops.mean(ops.square(deviation), axis=1, keepdims=True)
    return _to_level(clips, ops.sqrt(variance), target_db, max_gain_db)


def _peak_normalization(
    clips: Tensor, target_db: float, max_gain_db: float
) -> Tensor:
    peak = ops.max(ops.abs(clips), axis=1, keepdims=True)
    return _to_level(clips, peak, target_db, max_gain_db)


def _to_level(
    clips: Tensor, level: Tensor, target_db: float, max_gain_db: float
) -> Tensor:
    target = 10 ** (target_db / 20)
    # Below this level the gain is `max_gain_db`.
    lowest = 10 ** ((target_db - max_gain_db) / 20)
    return clips * (target / ops.maximum(level, lowest))


_FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "align": _align,
    "loudness_normalization": _loudness_normalization,
    "peak_normalization": _peak_normalization,
}
