"""ResNet and ResidualBlock: sizes, strides, stochastic depth and arguments."""

import numpy as np
import pytest
from keras import layers, ops
from model_makers import noise, numpy

from leaf_audio.models import ResidualBlock, ResNet


@pytest.mark.any_backend
def test_resnet_has_the_number_of_weights_that_its_docstring_says():
    model = ResNet()
    model.build((None, None, 40, 1))
    total = model.count_params()
    statistics = sum(int(np.prod(w.shape)) for w in model.non_trainable_weights)
    assert f"{total:,} weights" in ResNet.__doc__
    assert f"{statistics:,} of which" in " ".join(ResNet.__doc__.split())


@pytest.mark.any_backend
@pytest.mark.parametrize(
    "settings, expected",
    [
        ({}, (None, 7, 3, 96)),
        ({"stem_strides": (4, 2)}, (None, 4, 3, 96)),
        ({"strides": [1, (2, 1), 1, 1]}, (None, 26, 20, 96)),
        ({"widths": [8], "blocks": [3]}, (None, 51, 20, 8)),
    ],
)
def test_strides_say_how_many_frames_and_bins_are_left(settings, expected):
    model = ResNet(**settings)
    assert model.compute_output_shape((None, 101, 40, 1)) == expected
    assert model(noise(1, 101, 40, 1)).shape[1:] == expected[1:]


@pytest.mark.any_backend
def test_a_block_without_change_of_shape_adds_its_input():
    block = ResidualBlock(3)
    inputs = abs(noise(2, 5, 4, 3))
    block.build(inputs.shape)
    assert not block.shortcut
    last = [one for one in block.branch if "normalization" in one.name][-1]
    last.gamma.assign(ops.zeros_like(last.gamma))
    np.testing.assert_allclose(numpy(block(inputs)), inputs)


@pytest.mark.any_backend
def test_drop_path_leaves_out_the_branch_of_whole_clips():
    block = ResidualBlock(3, drop_path=0.5)
    inputs = abs(noise(64, 5, 4, 3))
    outputs = numpy(block(inputs, training=True))
    same = np.isclose(outputs, inputs).reshape(64, -1).all(axis=1)
    assert 16 < same.sum() < 48
    assert (
        not np.isclose(numpy(block(inputs)), inputs).all(axis=(1, 2, 3)).any()
    )


@pytest.mark.any_backend
def test_drop_path_rises_from_block_to_block():
    model = ResNet([4, 6], blocks=2, drop_path=0.4)
    rates = [
        layer.rate
        for block in model.chain
        if isinstance(block, ResidualBlock)
        for layer in block.branch
        if isinstance(layer, layers.Dropout)
    ]
    assert rates == pytest.approx([0.1, 0.2, 0.3, 0.4])


@pytest.mark.any_backend
@pytest.mark.parametrize(
    "settings, message",
    [
        ({"widths": []}, "`widths` must be a list"),
        ({"widths": 24}, "`widths` must be a list"),
        ({"widths": [0]}, "`widths` must be a list"),
        ({"blocks": [1, 1]}, "`blocks` must have a value for each stage"),
        ({"blocks": 0}, "`blocks` must be"),
        ({"strides": [1, 2]}, "`strides` must have a value for each stage"),
        ({"strides": 2}, "`strides` must be a list"),
        ({"stem_strides": (1, 2, 3)}, "`stem_strides` must be an integer from"),
        ({"stem_strides": 0}, "`stem_strides` must be an integer from 1"),
        ({"drop_path": 1}, r"`drop_path` must be a number in \[0, 1\)"),
    ],
)
def test_wrong_arguments_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        ResNet(**settings)


def test_the_number_of_blocks_may_be_an_integer_of_numpy():
    one, other = (ResNet([4, 6], blocks) for blocks in (np.int64(2), 2))
    assert len(one.layers) == len(other.layers)
