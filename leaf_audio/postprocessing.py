"""What follows a filterbank: compression and augmentation."""

from leaf_audio.augmentation import SpecAugment
from leaf_audio.compression import (
    ExponentialMovingAverage,
    PCENLayer,
    exponential_moving_average,
    log_compression,
    smoothing_coefficient,
)
from leaf_audio.lingvo_augmentation import LingvoSpecAugment

__all__ = [
    "ExponentialMovingAverage",
    "LingvoSpecAugment",
    "PCENLayer",
    "SpecAugment",
    "exponential_moving_average",
    "log_compression",
    "smoothing_coefficient",
]
