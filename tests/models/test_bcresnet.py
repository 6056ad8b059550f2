"""BCResNet: the published sizes, its normalization, and other bins."""

import numpy as np
import pytest
from keras import layers
from model_makers import noise, numpy

from leaf_audio.models import AudioClassifier, BCResBlock, BCResNet
from leaf_audio.models.bcresnet import SubSpectralNormalization

# Thousands of weights, as table 1 of the paper rounds them.
PUBLISHED = {1: 9.2, 2: 27.3, 3: 54.2, 6: 188, 8: 321}


@pytest.mark.any_backend
@pytest.mark.parametrize("size", PUBLISHED)
def test_sizes_have_the_published_number_of_weights(size):
    model = AudioClassifier(12, None, BCResNet(size), pooling="average")
    model.build((None, None, 40, 1))
    count = sum(int(np.prod(w.shape)) for w in model.trainable_weights)
    digits = 1 if size < 6 else 0
    assert round(count / 1000, digits) == PUBLISHED[size]
    assert f" {count:,} " in BCResNet.__doc__


def test_groups_of_bins_have_statistics_of_their_own():
    inputs = noise(4, 9, 6, 2)
    inputs[:, :, :3] = 5 * inputs[:, :, :3] + 2
    outputs = numpy(SubSpectralNormalization(2)(inputs, training=True))
    for group in (outputs[:, :, :3], outputs[:, :, 3:]):
        np.testing.assert_allclose(group.mean(axis=(0, 1, 2)), 0, atol=1e-5)
        np.testing.assert_allclose(group.std(axis=(0, 1, 2)), 1, atol=0.02)
    # A group's bins share a scale, so their differences remain.
    one = SubSpectralNormalization(1)(inputs, training=True)
    assert numpy(one)[:, :, :3].std() > 1.3


@pytest.mark.any_backend
@pytest.mark.parametrize(
    "bins, sub_bands, left", [(40, 5, 1), (80, 5, 6), (64, 4, 4)]
)
def test_other_numbers_of_bins_work(bins, sub_bands, left):
    model = BCResNet(1, sub_bands=sub_bands)
    assert model.compute_output_shape((2, 17, bins, 1)) == (2, 17, left, 32)
    assert model(noise(2, 17, bins, 1)).shape == (2, 17, left, 32)


@pytest.mark.any_backend
@pytest.mark.parametrize("bins", [32, 64, 41, 5, None])
def test_bins_that_do_not_suit_are_an_error(bins):
    with pytest.raises(ValueError, match="`sub_bands` must divide"):
        BCResNet(1).build((None, None, bins, 1))


def normalized(x, layer):
    scale, offset, mean, variance = map(numpy, layer.weights)
    return (x - mean) / np.sqrt(variance + 1e-3) * scale + offset


def expected_block(block, x):
    """Computes `relu(x + f2(x) + f1(mean over bins of f2(x)))` in NumPy."""
    bands = x
    if block.transition:
        mix, norm, _ = block.transition
        bands = normalized(bands @ numpy(mix.kernel)[0, 0], norm)
        bands = np.maximum(bands, 0)
    over_bins, sub_spectral = (
        next(layer for layer in block.layers if isinstance(layer, cls))
        for cls in (layers.DepthwiseConv2D, SubSpectralNormalization)
    )
    bins = bands.shape[2]
    taps = numpy(over_bins.kernel)[0, :, :, 0]
    padded = np.pad(bands, [(0, 0), (0, 0), (1, 1), (0, 0)])
    bands = sum(taps[i] * padded[:, :, i : i + bins] for i in range(3))
    bands = bands[:, :, :: block.strides]
    # The statistics of a group of bins follow those of the group before it.
    statistics = [
        np.split(numpy(weight), block.sub_bands)
        for weight in sub_spectral.weights
    ]
    bands = np.concatenate(
        [
            (group - mean) / np.sqrt(variance + 1e-3) * scale + offset
            for group, scale, offset, mean, variance in zip(
                np.split(bands, block.sub_bands, axis=2),
                *statistics,
                strict=True,
            )
        ],
        axis=2,
    )
    over_time, norm, _, mix, _ = block.over_time
    taps, reach = numpy(over_time.kernel)[..., 0], block.dilation
    frames = bands.shape[1]
    padded = np.pad(bands.mean(axis=2), [(0, 0), (reach, reach), (0, 0)])
    mean = sum(
        taps[i] * padded[:, i * reach : i * reach + frames] for i in range(3)
    )
    mean = normalized(mean, norm)
    mean = mean / (1 + np.exp(-mean)) @ numpy(mix.kernel)[0]
    outputs = bands + mean[:, :, None]
    if not block.transition and block.strides == 1:
        outputs = outputs + x
    return np.maximum(outputs, 0)


@pytest.mark.parametrize("channels, strides", [(3, 1), (4, 1), (4, 2), (3, 2)])
def test_a_block_computes_the_formula(channels, strides):
    """With and without a new number of channels, and a stride."""
    block = BCResBlock(channels, strides=strides, dilation=2, sub_bands=2)
    x = noise(2, 11, 8, 3)
    block.build(x.shape)
    assert bool(block.transition) == (channels != 3)
    rng = np.random.default_rng(1)
    for weight in block.weights:
        weight.assign(rng.uniform(0.5, 1.5, weight.shape))
        if "variance" not in weight.path:
            weight.assign(rng.normal(size=weight.shape))
    outputs = numpy(block(x, training=False))
    assert 0.2 < (outputs > 0).mean() < 0.9
    np.testing.assert_allclose(outputs, expected_block(block, x), atol=1e-4)


def test_a_block_sees_the_frames_that_its_dilation_reaches():
    block = BCResBlock(3, dilation=4, sub_bands=1)
    inputs = noise(1, 20, 5, 3)
    outputs = numpy(block(inputs))
    inputs[:, 10] += 1
    changed = abs(numpy(block(inputs)) - outputs).max(axis=(0, 2, 3)) > 1e-6
    assert set(np.flatnonzero(changed)) <= {6, 10, 14}
    assert changed[10] and (changed[6] or changed[14])


@pytest.mark.any_backend
@pytest.mark.parametrize(
    "settings, message",
    [
        ({"size": 0}, "`size` must be a positive number"),
        ({"size": 0.05}, "`size` must be a number from 1/8"),
        ({"sub_bands": 2.5}, "`sub_bands` must be"),
        ({"dropout": -0.1}, "`dropout` must be a number"),
    ],
)
def test_wrong_arguments_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        BCResNet(**settings)
