"""Where frames lie, and where they lie for clips of different lengths.

Frame m is a window that begins `left` samples before sample `m * strides`. The
argument `padding` of the poolings says how many that is:

- `"same"`: `max((frames - 1) * strides + size - time, 0) // 2`, the padding of
  TensorFlow. It depends on the length: one more sample moves all frames.
- `"centred"`: `size // 2`. The middle of the window is sample `m * strides`.
- `"causal"`: `size - 1`. The last sample of the window is sample `m * strides`,
  as in `keras.layers.Conv1D`.
- `"valid"`: 0. There are only the frames whose window lies within the input,
  `ceil((time - size + 1) / strides)`. The others give `ceil(time / strides)`.

The examples of a batch have the same number of samples. A mask of shape
`(batch, time)` says where the clip of each example ends: its length is the
number of samples up to the last valid one. Samples before the last valid one
belong to the clip, whether they are valid or not.
"""

from typing import Any

from keras import ops

Tensor = Any

PADDINGS = ("same", "valid", "centred", "causal")

# With these there are as many frames as with "same", but the position of a
# frame does not depend on the length of the input.
FIXED_PADDINGS = ("centred", "causal")


def frame_layout(
    time: Any, size: int, strides: int, padding: str
) -> tuple[Any, Any]:
    """Returns the number of frames, and the padding before the first window.

    Args:
      time: Length of the input in samples, an integer; or a tensor of lengths,
        in which case the results are tensors, but for a padding that does not
        depend on the length.
      size: Length of the window in samples.
      strides: Distance between frames, in samples.
      padding: One of `PADDINGS`.
    """
    if padding == "valid":
        return at_least((time - size + strides) // strides, 0), 0
    frames = (time + strides - 1) // strides
    if padding == "centred":
        return frames, size // 2
    if padding == "causal":
        return frames, size - 1
    missing = (frames - 1) * strides + size - time
    return frames, at_least(missing, 0) // 2


def place_clips(
    audio: Tensor, lengths: Tensor | None, size: int, strides: int, padding: str
) -> tuple[Tensor, Tensor | None]:
    """Places clips so that each is pooled as if it were alone.

    "same" padding begins the first window a few samples before the clip; how
    many depends on the clip's length. Here the batch is extended to a multiple
    of the stride, for which they are fewest, and each clip is delayed by what
    its own length asks for in addition. The number of frames stays the same.

    Args:
      audio: `(batch, time, 1)`, with zeros after the end of each clip; `time`
        may be unknown.
      lengths: Int32 tensor of shape `(batch,)`, or None if all clips are as
        long as the batch.
      size: Length of the pooling window in samples.
      strides: Distance between frames, in samples.
      padding: Padding of the pooling, one of `PADDINGS`.

    Returns:
      The audio to filter, `(batch, time', 1)`, and a Boolean tensor
      `(batch, time', 1)`, which tells the samples that belong to the clips. The
      pooling must take the others as it takes samples outside its input. None
      if the frames of the clips do not reach any.
    """
    if lengths is None or padding in ("valid", "causal"):
        return audio, None
    time = ops.shape(audio)[1]
    begin = ops.zeros_like(lengths)
    if padding == "same":
        _, begin = frame_layout(lengths, size, strides, padding)
        time = (time + strides - 1) // strides * strides
        begin = begin - max(size - strides, 0) // 2
        audio = delayed(audio[..., 0], begin, time)[..., None]
    positions = ops.arange(time, dtype="int32")[None] - begin[:, None]
    inside = ops.logical_and(positions >= 0, positions < lengths[:, None])
    return audio, inside[..., None]


def at_least(value: Any, least: int) -> Any:
    """Returns the greater of `value`, an integer or a tensor, and `least`."""
    if isinstance(value, int):
        return max(value, least)
    return ops.maximum(value, least)


def clip_lengths(mask: Tensor) -> Tensor:
    """Computes the lengths of clips from their mask.

    Args:
      mask: Boolean tensor of shape `(batch, time)`.

    Returns:
      An int32 tensor of shape `(batch,)`: the number of steps up to the last
      True, and 0 where there is none.
    """
    steps = ops.arange(1, ops.shape(mask)[1] + 1, dtype="int32")
    counted = ops.where(mask, steps[None], ops.zeros_like(steps[None]))
    found = ops.max(counted, axis=1, initial=0)
    # For an empty batch, PyTorch's result is a single number.
    return ops.broadcast_to(found, ops.shape(mask)[:1])


def is_before(lengths: Tensor, count: Any, step: int = 1) -> Tensor:
    """Tells which of the times 0, `step`, `2 * step`, … lie within clips.

    Args:
      lengths: Int32 tensor of shape `(batch,)`.
      count: Number of times, an integer or a tensor.
      step: Distance between two times.

    Returns:
      A Boolean tensor of shape `(batch, count)`.
    """
    times = ops.arange(count, dtype="int32") * step
    return times[None] < lengths[:, None]


def take_rows(x: Tensor, positions: Tensor) -> Tensor:
    """Takes other positions on the time axis from each example.

    Args:
      x: Array `(batch, time, ...)`.
      positions: Int32 tensor of shape `(batch, ...)`. Positions outside the
        time axis count as the nearest one inside.

    Returns:
      An array `(batch, ..., ...)`: the axes of `positions`, then those of `x`
      after the first two.
    """
    batch, time = ops.shape(x)[0], ops.shape(x)[1]
    first = ops.arange(batch, dtype="int32") * time
    first = ops.reshape(first, (-1,) + (1,) * (len(positions.shape) - 1))
    flat = ops.reshape(x, (batch * time, *x.shape[2:]))
    return ops.take(flat, first + ops.clip(positions, 0, time - 1), axis=0)


def delayed(x: Tensor, delay: Tensor, count: Any) -> Tensor:
    """Delays each example by a time of its own.

    Args:
      x: Array `(batch, time)`.
      delay: Int32 tensor of shape `(batch,)`, in samples; may be negative.
      count: Number of samples of the result, an integer or a tensor.

    Returns:
      An array `(batch, count)`. Sample p of an example is its sample
      `p - delay`, or 0 if there is no such sample.
    """
    positions = ops.arange(count, dtype="int32")[None] - delay[:, None]
    exists = ops.logical_and(positions >= 0, positions < ops.shape(x)[1])
    return ops.where(exists, take_rows(x, positions), 0.0)


def zero_where_masked(x: Tensor, mask: Tensor) -> Tensor:
    """Sets `(batch, time, channels)` to 0 where `(batch, time)` is False."""
    return ops.where(mask[..., None], x, ops.zeros_like(x))
