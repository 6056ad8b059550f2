"""Random changes of a waveform, which make training data more varied.

This is the place for a new augmentation. Write a function of the samples of one
clip, a float32 tensor of shape (time,), that returns such a tensor. It takes an
argument `seed` and gets

- in training, a seed that differs for each clip and each pass over the data.
  Pass it to TensorFlow's stateless random functions
  (`tf.random.stateless_uniform`, ...), so that a run can be reproduced.
- in evaluation, None. Return the samples unchanged.

Add the function to the `transform_fns` of `prepare`. The docstring of `prepare`
lists what a transform must observe besides.
"""

import tensorflow as tf

from leaf_audio.common.checks import check_count
from leaf_audio.data.transforms import MAX_CLIP_SAMPLES


def time_shift(
    samples: tf.Tensor, max_shift: int = 1600, seed: tf.Tensor | None = None
) -> tf.Tensor:
    """Shifts a clip in time by a random number of samples.

    The shift is drawn uniformly from -`max_shift` to `max_shift`. Samples that
    leave the clip at one end are lost, and zeros fill the other end. In
    evaluation the clip is not changed.

    Args:
        samples: float32 tensor of shape (time,).
        max_shift: int, in samples. The largest shift. Default: 1600.
        seed: Integer tensor of shape (2,) in training, None in evaluation.
            Default: None.

    Returns:
        A tensor of the same shape as `samples`.

    Raises:
        ValueError: `max_shift` is not an integer from 0 to 2**28.
    """
    max_shift = check_count(
        "time_shift.max_shift", max_shift, at_most=MAX_CLIP_SAMPLES
    )
    if seed is None:
        return samples
    start = tf.random.stateless_uniform(
        [], seed, 0, 2 * max_shift + 1, tf.int32
    )
    padded = tf.pad(samples, [[max_shift, max_shift]])
    shifted = padded[start : start + tf.shape(samples)[0]]
    shifted.set_shape(samples.shape)
    return shifted
