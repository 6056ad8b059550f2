"""What follows a filterbank: compression, normalisation and augmentation."""

from leaf_audio.augmentation import SpecAugment
from leaf_audio.compression import (
    ExponentialMovingAverage,
    PCENLayer,
    exponential_moving_average,
    log_compression,
    smoothing_coefficient,
)
from leaf_audio.lingvo_augmentation import LingvoSpecAugment
from leaf_audio.logtbn import Log1p, LogTBN
from leaf_audio.normalization import (
    TemporalBatchNormalization,
    TemporalMedianSubtraction,
)

__all__ = [
    "ExponentialMovingAverage",
    "LingvoSpecAugment",
    "Log1p",
    "LogTBN",
    "PCENLayer",
    "SpecAugment",
    "TemporalBatchNormalization",
    "TemporalMedianSubtraction",
    "exponential_moving_average",
    "log_compression",
    "smoothing_coefficient",
]
