"""Frontends: Keras models from waveforms to features."""

from leaf_audio.frontend.efficient_leaf import EfficientLeaf
from leaf_audio.frontend.leaf import (
    Leaf,
    SincNet,
    SincNetPlus,
    SquaredModulus,
    TimeDomainFilterbanks,
)
from leaf_audio.frontend.spectrogram import MelFilterbanks, Spectrogram
from leaf_audio.postprocessing import db_compression, log_compression

__all__ = [
    "EfficientLeaf",
    "Leaf",
    "MelFilterbanks",
    "SincNet",
    "SincNetPlus",
    "Spectrogram",
    "SquaredModulus",
    "TimeDomainFilterbanks",
    "db_compression",
    "log_compression",
]
