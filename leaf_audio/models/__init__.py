"""Classifiers: encoders for features, and the model around them."""

from leaf_audio.models.classifier import (
    PANN,
    AudioClassifier,
    ConvBlock,
    ConvNet,
    PANNConvBlock,
    PANNWavBlock,
    WaveGram,
)

__all__ = [
    "PANN",
    "AudioClassifier",
    "ConvBlock",
    "ConvNet",
    "PANNConvBlock",
    "PANNWavBlock",
    "WaveGram",
]
