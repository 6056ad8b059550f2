"""Convolution of one channel, with blocks of samples in place of channels."""

from typing import Any

from keras import ops

from leaf_audio.common.blocks import cut_into_blocks
from leaf_audio.common.conv1d import valid_conv1d
from leaf_audio.common.portable import is_portable

Tensor = Any

# Length of a block in samples, chosen by measuring. A stride of 3 makes it 6.
_BLOCK = 8


def conv1d_by_blocks(
    inputs: Tensor, kernel: Tensor, padding: str = "same", strides: int = 1
) -> Tensor:
    """Convolves one channel with several kernels, block by block.

    The output is that of a plain convolution. A plain convolution is slow with
    a single input channel, above all in the gradient of the kernel. This
    function reshapes the input: it cuts the samples into blocks and treats the
    samples of a block as channels. One kernel becomes several kernels, each
    shifted by one stride, which compute all outputs of a block at once. The
    length of a block is the largest multiple of the stride up to eight samples,
    or one stride where the stride is longer.

    Args:
      inputs: Tensor of shape `(batch, time, 1)`. `time` may be unknown.
      kernel: Tensor of shape `(kernel_size, 1, channels)` and of the same
        dtype.
      padding: `"same"` or `"valid"`. With `"valid"`, inputs must not be shorter
        than the kernel. Defaults to `"same"`.
      strides: Integer. Hop between outputs, in samples. With `"same"`, output i
        is centred on sample `i * strides`. TensorFlow places it elsewhere if
        `strides` is greater than 1. Defaults to 1.

    Returns:
      A tensor of shape `(batch, ceil(length / strides), channels)`, where
      `length` is `time` with `"same"` padding and `time - kernel_size + 1` with
      `"valid"` padding.
    """
    size, _, channels = kernel.shape
    batch, time = ops.shape(inputs)[0], ops.shape(inputs)[1]
    left = (size - 1) // 2
    if padding == "valid":
        left, time = 0, time - size + 1
    if is_portable():
        # Several shifted kernels would make the exported file several times as
        # large.
        ends = [left, size - 1 - left] if padding == "same" else [0, 0]
        return ops.conv(
            ops.pad(inputs, [[0, 0], ends, [0, 0]]),
            kernel,
            strides=strides,
            padding="valid",
            data_format="channels_last",
        )
    together = max(_BLOCK // strides, 1)
    block = together * strides
    num_outputs = (time + strides - 1) // strides
    num_blocks = (time + block - 1) // block
    reach = -(-(size + block - strides) // block)

    blocks = cut_into_blocks(
        inputs[..., 0],
        block,
        num_blocks + reach - 1,
        start=-left,
        max_padding=(left, (reach + 1) * block),
    )
    kernel = ops.pad(kernel[:, 0], [[0, reach * block - size], [0, 0]])
    shifted = ops.stack(
        [ops.roll(kernel, shift, axis=0) for shift in range(0, block, strides)],
        axis=1,
    )
    outputs = valid_conv1d(
        blocks, ops.reshape(shifted, (reach, block, together * channels))
    )
    outputs = ops.reshape(outputs, (batch, num_blocks * together, channels))
    return outputs[:, :num_outputs]
