"""Waveforms of several channels, each transformed like one of its own.

The channels are moved to the batch axis ("folded"). Once each channel has its
features, they become the last axis ("unfolded"), where 2-D convolutions expect
them. So what the examples of a batch share, such as batch statistics, is also
shared by the channels.
"""

from typing import Any

from keras import ops

Tensor = Any
Shape = tuple[int | None, ...]


def num_channels(shape: Shape) -> int | None:
    """Returns the number of channels of waveforms.

    Args:
      shape: `(batch, time)` or `(batch, time, channels)`.

    Returns:
      The number of channels, 1 if there is no axis of channels, or None if it
      is unknown.
    """
    return shape[2] if len(shape) == 3 else 1


def fold_channels(audio: Tensor) -> Tensor:
    """Reshapes `(batch, time, channels)` to `(batch * channels, time, 1)`."""
    batch, time, channels = ops.shape(audio)
    return ops.reshape(
        ops.transpose(audio, (0, 2, 1)), (batch * channels, time, 1)
    )


def unfold_channels(features: Tensor, audio: Tensor) -> Tensor:
    """Moves the channels of features from the batch axis to the last axis.

    Args:
      features: Features of folded waveforms. Their shape is
        `(batch * channels, frames, bins)`, or
        `(batch * channels, frames, bins, k)` if there are k feature maps for
        each channel.
      audio: The waveforms before folding, `(batch, time, channels)`.

    Returns:
      Features of shape `(batch, frames, bins, channels * k)`, with k = 1 for
      the former shape. The k maps of a channel are neighbours.
    """
    batch, _, channels = ops.shape(audio)
    if len(features.shape) == 3:
        features = features[..., None]
    _, frames, bins, maps = ops.shape(features)
    features = ops.reshape(features, (batch, channels, frames, bins, maps))
    return ops.reshape(
        ops.transpose(features, (0, 2, 3, 1, 4)),
        (batch, frames, bins, channels * maps),
    )


def folded_shape(shape: Shape) -> Shape:
    """Computes the shape that `fold_channels` returns.

    Args:
      shape: Shape of the waveforms, with or without an axis of channels.

    Returns:
      `(batch * channels, time, 1)`, with None for what is unknown.
    """
    return (_product(shape[0], num_channels(shape)), shape[1], 1)


def unfolded_shape(features: Shape, audio: Shape) -> Shape:
    """Computes the shape that `unfold_channels` returns.

    Args:
      features: Shape of the features of folded waveforms.
      audio: Shape of the waveforms before folding.

    Returns:
      `(batch, frames, bins, channels * k)`, with None for what is unknown.
    """
    maps = features[3] if len(features) == 4 else 1
    return (audio[0], *features[1:3], _product(num_channels(audio), maps))


def _product(a: int | None, b: int | None) -> int | None:
    return None if a is None or b is None else a * b
