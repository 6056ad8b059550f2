"""What follows a filterbank: compression, normalisation and augmentation."""

from leaf_audio.postprocessing.lingvo import LingvoSpecAugment
from leaf_audio.postprocessing.logtbn import Log1p, LogTBN
from leaf_audio.postprocessing.normalization import (
    InstanceNormalization,
    TemporalBatchNormalization,
    TemporalMedianSubtraction,
)
from leaf_audio.postprocessing.pcen import (
    ExponentialMovingAverage,
    PCENLayer,
    db_compression,
    exponential_moving_average,
    log_compression,
    smoothing_coefficient,
)
from leaf_audio.postprocessing.spec_augment import SpecAugment

__all__ = [
    "ExponentialMovingAverage",
    "InstanceNormalization",
    "LingvoSpecAugment",
    "Log1p",
    "LogTBN",
    "PCENLayer",
    "SpecAugment",
    "TemporalBatchNormalization",
    "TemporalMedianSubtraction",
    "db_compression",
    "exponential_moving_average",
    "log_compression",
    "smoothing_coefficient",
]
