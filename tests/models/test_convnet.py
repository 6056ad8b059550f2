"""ConvNet and ConvBlock: layers, sizes and arguments."""

import functools

import keras
import pytest
from keras import layers
from model_makers import (
    noise,
    numpy,
)

from leaf_audio.models import (
    ConvBlock,
    ConvNet,
)


@pytest.mark.any_backend
def test_convnet_has_the_originals_shape_and_size():
    model = ConvNet([64, 128, 256, 256, 512, 512])
    model.build((1, 100, 40, 1))
    assert model.count_params() == 3_544_128
    assert model.compute_output_shape((1, 100, 40, 1)) == (1, 6, 2, 512)


def test_conv_block_is_the_layers_of_its_definition_in_order():
    block = ConvBlock(4, dropout=0.5)
    assert [type(layer) for layer in block.chain] == [
        *2
        * [
            layers.Conv2D,
            layers.Activation,
            layers.BatchNormalization,
            layers.Dropout,
        ],
        layers.MaxPooling2D,
    ]
    assert block.chain[0].kernel_size == (3, 1)
    assert block.chain[4].kernel_size == (1, 3)


@pytest.mark.parametrize(
    "value,expected",
    [
        ("layer", layers.LayerNormalization),
        ("instance", layers.GroupNormalization),
        (layers.LayerNormalization, layers.LayerNormalization),
        (
            lambda: layers.GroupNormalization(groups=2),
            layers.GroupNormalization,
        ),
        (layers.LayerNormalization(epsilon=0.5), layers.LayerNormalization),
    ],
)
def test_normalization_layer_is_made_twice_and_survives_the_config(
    value, expected
):
    block = ConvBlock(4, normalization_layer=value)
    again = ConvBlock.from_config(block.get_config())
    for model in (block, again):
        made = [layer for layer in model.chain if isinstance(layer, expected)]
        assert len(made) == 2 and made[0] is not made[1]
        assert value not in made
    if isinstance(value, layers.Layer):
        assert again.chain[2].epsilon == 0.5


def test_no_normalization_and_no_dropout_leave_no_layer():
    block = ConvBlock(4, normalization_layer=None, max_pooling=False)
    assert [type(layer) for layer in block.chain] == 2 * [
        layers.Conv2D,
        layers.Activation,
    ]


def test_activation_is_applied():
    inputs = noise(1, 4, 4, 1)
    for activation in ("sigmoid", keras.activations.sigmoid, layers.Softmax()):
        block = ConvBlock(
            2, activation, normalization_layer=None, max_pooling=False
        )
        outputs = numpy(block(inputs))
        assert (outputs > 0).all() and (outputs < 1).all()


def test_blocks_share_no_layer_that_was_given():
    given = layers.LayerNormalization()
    net = ConvNet(
        [2, 3], functools.partial(ConvBlock, normalization_layer=given)
    )
    net.build((None, 8, 8, 1))
    assert not given.built
    assert len(net.trainable_weights) == 2 * 2 * 4


def test_convnet_pools_first_and_then_every_other_block():
    pools = [block.max_pooling for block in ConvNet([1] * 6).chain]
    assert pools == [True, True, False, True, False, True]


def test_block_callable_makes_the_blocks():
    calls = []

    def block(**kwargs):
        calls.append(kwargs)
        return layers.Conv2D(kwargs["num_filters"], 1)

    net = ConvNet([3, 5, 7], block)
    assert calls == [
        {"num_filters": 3, "max_pooling": True},
        {"num_filters": 5, "max_pooling": True},
        {"num_filters": 7, "max_pooling": False},
    ]
    assert tuple(net(noise(1, 8, 8, 1)).shape) == (1, 8, 8, 7)
    again = ConvNet.from_config(net.get_config())
    assert [layer.filters for layer in again.chain] == [3, 5, 7]


def test_input_that_becomes_too_short_is_an_error():
    model = ConvNet([2, 2])
    model(noise(1, 8, 8, 1))
    with pytest.raises(ValueError, match="needs at least 4 frames"):
        model(noise(1, 3, 8, 1))
