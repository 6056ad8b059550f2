"""Cuts signals into blocks of equal length.

Convolutions, poolings and recurrences over time are computed block by block:
the samples of a block become channels, or are worked on for all blocks at once.
"""

from collections.abc import Sequence
from typing import Any

from keras import ops

Tensor = Any


def cut_into_blocks(
    x: Tensor,
    length: int,
    count: Any,
    start: Any = 0,
    max_padding: tuple[int, int] = (0, 0),
) -> Tensor:
    """Cuts a signal into blocks that follow one another.

    Block i holds the samples from `start + i * length` on. Samples outside the
    signal count as 0. Nothing is copied where the signal needs no padding.

    Args:
      x: Array `(batch, time, ...)`; `time` may be unknown.
      length: Length of a block, in samples.
      count: Number of blocks, an integer; may be a tensor if `time` is unknown.
      start: First sample of the first block, an integer, negative to begin with
        zeros; may be a tensor if `time` is unknown.
      max_padding: Greatest number of zeros needed before and after the signal.
        Used only if `time` is unknown, where the amount must be fixed.

    Returns:
      An array `(batch, count, length, ...)`.
    """
    total = count * length
    time = x.shape[1]
    if time is None:
        x = _pad_time(x, *max_padding)
        begin = start + max_padding[0]
        x = x[:, begin : begin + total]
    else:
        x = _pad_time(x, max(-start, 0), max(start + total - time, 0))
        begin = max(start, 0)
        if (begin, total) != (0, x.shape[1]):
            x = x[:, begin : begin + total]
    return reshape_each(x, (count, length, *x.shape[2:]))


def reshape_each(x: Tensor, shape: Sequence[Any]) -> Tensor:
    """Reshapes each example of a batch.

    Args:
      x: Array `(batch, ...)`.
      shape: The shape of an example; sizes may be tensors.

    Returns:
      An array `(batch, *shape)`.
    """
    batch = x.shape[0]
    if batch is None:
        # To ask for the size takes several operations of a graph. It can be
        # left out unless an example may be empty.
        is_there = all(isinstance(size, int) and size > 0 for size in shape)
        batch = -1 if is_there else ops.shape(x)[0]
    return ops.reshape(x, (batch, *shape))


def frames_of_blocks(
    blocks: Tensor, count: Any, begin: int, end: int
) -> list[Tensor]:
    """Lays out frames that overlap, one for each of the first blocks.

    Frame i holds the samples from `begin` to `end - 1`, counted from the start
    of block i. Blocks after it supply what block i itself does not hold.

    Args:
      blocks: Array `(batch, blocks, length, ...)`; see `cut_into_blocks`.
      count: Number of frames.
      begin: First sample of a frame.
      end: One more than its last sample.

    Returns:
      Pieces of the frames, each `(batch, count, samples, ...)`. They make up
      the frames when they are concatenated along axis 2.
    """
    length = blocks.shape[2]
    pieces = []
    while begin < end:
        block, first = divmod(begin, length)
        size = min(length - first, end - begin)
        pieces.append(blocks[:, block : block + count, first : first + size])
        begin += size
    return pieces


def _pad_time(x: Tensor, before: int, after: int) -> Tensor:
    if not before and not after:
        return x
    rest = [[0, 0]] * (len(x.shape) - 2)
    return ops.pad(x, [[0, 0], [before, after], *rest])
