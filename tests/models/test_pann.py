"""PANN and WaveGram: the sizes of the published networks."""

import numpy as np
import pytest
from keras import layers
from model_makers import noise, numpy

from leaf_audio.models import (
    PANN,
    PANNConvBlock,
    PANNWavBlock,
    WaveGram,
)


@pytest.mark.any_backend
def test_pann_of_depth_four_has_the_originals_shape_and_size():
    model = PANN(depth=4)
    model.build((1, 100, 40, 1))
    assert model.count_params() == 4_690_144
    assert model.compute_output_shape((1, 100, 40, 1)) == (1, 7, 3, 512)


def block_size(channels: int, filters: int) -> int:
    """Two 3×3 kernels without bias, two batch norms of four numbers each."""
    return 9 * channels * filters + 9 * filters**2 + 8 * filters


@pytest.mark.any_backend
@pytest.mark.parametrize("channels,filters", [(1, 8), (8, 12)])
def test_pann_block_has_the_size_that_the_next_test_adds_up(channels, filters):
    block = PANNConvBlock(filters)
    block.build((None, None, 4, channels))
    assert block.count_params() == block_size(channels, filters)


@pytest.mark.parametrize(
    "depth,size,shape",
    [
        (4, 4_690_144, (1, 7, 3, 512)),
        (6, 75_493_600, (1, 4, 2, 2048)),
        (7, 151_007_456, (1, 4, 2, 2048)),
    ],
)
def test_deep_pann_has_the_originals_size(depth, size, shape):
    """Added up, for the weights themselves would take 600 MB."""
    model = PANN(depth=depth)
    total, channels = 4 * 40, 1
    for block in model.chain:
        if isinstance(block, PANNConvBlock):
            total += block_size(channels, block.filters)
            channels = block.filters
    assert total == size
    assert model.compute_output_shape((1, 100, 40, 1)) == shape


def test_pann_normalises_each_bin():
    model = PANN(depth=1)
    model.build((None, None, 5, 1))
    assert model.chain[0].gamma.shape == (5,)


def test_wavegram_has_the_originals_shape_and_size():
    model = WaveGram()
    outputs = model(noise(1, 16000))
    assert tuple(outputs.shape) == (1, 25, 64, 1)
    assert model.count_params() == 311_232


def test_wavegram_takes_waveforms_with_and_without_channel_axis():
    model, audio = WaveGram(), noise(2, 1300)
    np.testing.assert_allclose(
        numpy(model(audio[..., None])), numpy(model(audio)), rtol=1e-6
    )


def test_wavegrams_second_convolution_is_dilated():
    """An impulse reaches 1 tap by the first, 2 more by the second."""
    block = PANNWavBlock(1, pool_size=1)
    block.build((None, 21, 1))
    for layer in block.chain:
        if isinstance(layer, layers.Conv1D):
            layer.kernel.assign(np.ones(layer.kernel.shape))
    impulse = np.zeros((1, 21, 1), "float32")
    impulse[0, 10] = 1
    reached = np.flatnonzero(numpy(block(impulse))[0, :, 0] > 1e-3)
    np.testing.assert_array_equal(reached, np.arange(7, 14))
