"""Cuts clips into chunks of one length, for evaluation and prediction.

A clip that is longer than the input of a model has several chunks, which may
overlap. Together they cover the whole clip: the last one ends where the clip
ends, and overlaps the one before it as far as it has to. A clip that is not
longer has one chunk, which is the whole clip.
"""

import numpy as np

from leaf_audio.common.checks import check_positive_int


def cut(
    lengths: np.ndarray, length: int, hop: int
) -> tuple[np.ndarray, np.ndarray]:
    """Computes where the chunks of clips begin.

    Args:
        lengths: Integers of shape (clips,), in samples. The lengths of the
            clips.
        length: int, in samples. The length of a chunk.
        hop: int, in samples, from 1 to `length`, which is not checked. The
            distance from the beginning of a chunk to that of the next.

    Returns:
        Two arrays of integers of shape (chunks,), in the order of the clips:
        the index of the clip of each chunk, and the position in samples where
        the chunk begins in the clip.
    """
    surplus = np.maximum(np.asarray(lengths, np.int64) - length, 0)
    counts = 1 + -(-surplus // hop)
    clips = np.repeat(np.arange(len(counts)), counts)
    number = np.arange(len(clips)) - np.repeat(
        np.cumsum(counts) - counts, counts
    )
    return clips, np.minimum(number * hop, surplus[clips])


def check_hop(hop: int, length: int) -> None:
    """Raises a ValueError unless a hop is from 1 to the length of a chunk."""
    check_positive_int("evaluation_hop", hop)
    if hop > length:
        raise ValueError(
            "`evaluation_hop` must be at most the length of a clip of the "
            f"model, {length} samples, so that no part is left out. "
            f"Received: evaluation_hop={hop}."
        )
