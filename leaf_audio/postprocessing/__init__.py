"""What follows a filterbank: compression, normalization and augmentation.

The inputs are the energies of a filterbank, `(batch, frames, channels)`. One
file holds one subject: `pcen`, the `moving_average` that it uses, `logarithms`,
`logtbn` (EfficientLEAF's compression), `normalization`, `spec_augment`, and
`lingvo`, which runs the original's code for SpecAugment.
"""

from leaf_audio.postprocessing.lingvo import LingvoSpecAugment
from leaf_audio.postprocessing.logarithms import (
    Log1p,
    db_compression,
    log_compression,
)
from leaf_audio.postprocessing.logtbn import LogTBN
from leaf_audio.postprocessing.moving_average import (
    ExponentialMovingAverage,
    exponential_moving_average,
    smoothing_coefficient,
)
from leaf_audio.postprocessing.normalization import (
    InstanceNormalization,
    TemporalBatchNormalization,
    TemporalMedianSubtraction,
)
from leaf_audio.postprocessing.pcen import PCENLayer
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
