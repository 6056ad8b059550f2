"""BCResNet: the published sizes, its normalization, and other bins."""

import numpy as np
import pytest
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
