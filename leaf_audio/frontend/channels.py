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


def is_one_channel(shape: Shape) -> bool:
    """Returns whether waveforms have one channel, or an unknown number.

    `keras.utils.audio_dataset_from_directory` yields waveforms whose number of
    channels is unknown until they are read. `one_channel` then checks it.

    Args:
      shape: `(batch, time)` or `(batch, time, channels)`.
    """
    return num_channels(shape) in (1, None)


def one_channel(audio: Tensor) -> Tensor:
    """Declares that an axis of channels of unknown length has length 1.

    Args:
      audio: Waveforms `(batch, time)` or `(batch, time, channels)`, for which
        `is_one_channel` is True.

    Returns:
      Waveforms of shape `(batch, time, 1)`. A compiled function that is given
      several channels fails here: the backend reports that the axis has not
      the size 1.
    """
    if len(audio.shape) == 2:
        return audio[..., None]
    if audio.shape[2] == 1:
        return audio
    # Not `reshape`: TensorFlow may take a reshape to the shape that it expects
    # for one that does nothing, and leave it and its check out.
    (waveform,) = ops.unstack(audio, num=1, axis=2)
    return waveform[..., None]


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
