"""Waveforms of several channels, each taken for a waveform of its own.

Channels go to the batch axis and, when each has its features, come back as the
last axis, where 2-D convolutions look for them. What is shared between the
examples of a batch is thus shared between channels.
"""

from typing import Any

from keras import ops

Tensor = Any
Shape = tuple[int | None, ...]


def num_channels(shape: Shape) -> int | None:
    """Tells how many channels `(batch, time[, channels])` has."""
    return shape[2] if len(shape) == 3 else 1


def fold_channels(audio: Tensor) -> Tensor:
    """Takes `(batch, time, channels)` to `(batch * channels, time, 1)`."""
    batch, time, channels = ops.shape(audio)
    return ops.reshape(
        ops.transpose(audio, (0, 2, 1)), (batch * channels, time, 1)
    )


def unfold_channels(features: Tensor, audio: Tensor) -> Tensor:
    """Gives features of folded channels an axis of channels.

    Args:
      features: `(batch * channels, frames, bins)`, or with an axis more for
        what each channel has several of.
      audio: what was folded, `(batch, time, channels)`.

    Returns:
      `(batch, frames, bins, channels)`. Where there are several to a channel,
      they lie next to one another.
    """
    batch, _, channels = ops.shape(audio)
    if len(features.shape) == 3:
        features = features[..., None]
    _, frames, bins, own = ops.shape(features)
    features = ops.reshape(features, (batch, channels, frames, bins, own))
    return ops.reshape(
        ops.transpose(features, (0, 2, 3, 1, 4)),
        (batch, frames, bins, channels * own),
    )


def folded_shape(shape: Shape) -> Shape:
    """Computes the shape that `fold_channels` makes."""
    return (_product(shape[0], num_channels(shape)), shape[1], 1)


def unfolded_shape(features: Shape, audio: Shape) -> Shape:
    """Computes the shape that `unfold_channels` makes."""
    own = features[3] if len(features) == 4 else 1
    return (audio[0], *features[1:3], _product(num_channels(audio), own))


def _product(a: int | None, b: int | None) -> int | None:
    return None if a is None or b is None else a * b
