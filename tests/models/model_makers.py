"""A small model of each class, and what the tests of models share."""

import functools

import numpy as np
import pytest
from keras import layers, ops

from leaf_audio import frontend
from leaf_audio.models import (
    PANN,
    AudioClassifier,
    BCResBlock,
    BCResNet,
    ConvBlock,
    ConvNet,
    PANNConvBlock,
    PANNWavBlock,
    ResidualBlock,
    ResNet,
    WaveGram,
)


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def numpy(tensor) -> np.ndarray:
    return ops.convert_to_numpy(ops.cast(tensor, "float32"))


def mel(**kwargs) -> frontend.MelFilterbanks:
    return frontend.MelFilterbanks(n_filters=8, n_fft=512, **kwargs)


def small_classifier(**kwargs) -> AudioClassifier:
    return AudioClassifier(3, mel(), ConvNet([4, 6]), **kwargs)


MODELS = {
    "ConvBlock": (
        lambda: ConvBlock(
            4,
            activation=layers.PReLU(shared_axes=[1, 2]),
            normalization_layer=layers.LayerNormalization,
            dropout=0.25,
            max_pooling=False,
            name="block",
        ),
        (2, 12, 8, 1),
    ),
    "ConvNet": (lambda: ConvNet([4, 6, 5]), (2, 12, 8, 1)),
    "ConvNet_block": (
        lambda: ConvNet(
            (4, 6),
            functools.partial(
                ConvBlock, activation="gelu", normalization_layer="instance"
            ),
        ),
        (2, 12, 8, 1),
    ),
    "PANN": (lambda: PANN(depth=1, dropout_rate=0.5), (2, 11, 8, 1)),
    "PANNConvBlock": (lambda: PANNConvBlock(3, (2, 1)), (2, 11, 8, 1)),
    "PANNWavBlock": (lambda: PANNWavBlock(3, 2), (2, 21, 2)),
    "WaveGram": (WaveGram, (2, 1300)),
    "BCResBlock": (
        lambda: BCResBlock(4, strides=2, dilation=2, sub_bands=2),
        (2, 9, 8, 3),
    ),
    "BCResNet": (lambda: BCResNet(0.5), (2, 9, 40, 1)),
    "ResidualBlock": (
        lambda: ResidualBlock(4, strides=(2, 1), drop_path=0.5),
        (2, 11, 8, 1),
    ),
    "ResNet": (
        lambda: ResNet([4, 6], blocks=[2, 1], drop_path=0.2),
        (2, 21, 9, 2),
    ),
    "AudioClassifier_recipe": (
        lambda: small_classifier(
            input_norm="batch", pooling="attention", dropout=0.2
        ),
        (2, 1600),
    ),
    "AudioClassifier": (small_classifier, (2, 1600)),
}


UNKNOWN_TIME = {
    name: (None, None, *shape[2:]) for name, (_, shape) in MODELS.items()
}


every_model = pytest.mark.parametrize("name", MODELS)
