"""Blocks and frames of a signal, against plain indexing."""

import keras
import numpy as np
import pytest
from keras import ops

from leaf_audio.common.blocks import cut_into_blocks, frames_of_blocks


def plain_blocks(x, length, count, start):
    padded = np.pad(x, ((0, 0), (50, 50), (0, 0)))
    begin = 50 + start
    return padded[:, begin : begin + count * length].reshape(
        (len(x), count, length, x.shape[2])
    )


@pytest.mark.parametrize(
    "length, count, start", [(4, 3, 0), (4, 5, -3), (3, 4, 2), (7, 0, 0)]
)
@pytest.mark.parametrize("known", [True, False])
def test_blocks_follow_one_another_with_zeros_outside(
    known, length, count, start
):
    x = np.arange(26.0).reshape(2, 13, 1).astype("float32")

    def cut(x):
        return cut_into_blocks(x, length, count, start, max_padding=(8, 30))

    if known:
        blocks = cut(ops.convert_to_tensor(x))
    elif keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        spec = tf.TensorSpec((None, None, 1))
        blocks = tf.function(cut, input_signature=[spec])(x)
    else:
        pytest.skip("other backends know all lengths")
    np.testing.assert_array_equal(
        ops.convert_to_numpy(blocks), plain_blocks(x, length, count, start)
    )


@pytest.mark.parametrize("begin, end", [(0, 4), (2, 11), (5, 6)])
def test_frames_reach_over_the_blocks_that_follow(begin, end):
    x = np.arange(40.0).reshape(2, 20).astype("float32")
    blocks = cut_into_blocks(ops.convert_to_tensor(x), 4, 5)
    frames = ops.concatenate(frames_of_blocks(blocks, 3, begin, end), axis=2)
    expected = np.stack(
        [x[:, 4 * i + begin : 4 * i + end] for i in range(3)], axis=1
    )
    np.testing.assert_array_equal(ops.convert_to_numpy(frames), expected)
