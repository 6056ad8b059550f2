"""Frontends: Keras models that turn waveforms into features.

All frontends keep one contract: waveforms of shape `(batch, time)` or
`(batch, time, 1)` become features of shape
`(batch, ceil(time / stride), n_filters)`. `base` states it in full, and says
what to write for a new frontend.

- `leaf`: `Leaf`, the learnable frontend. `squared_modulus`: its activation.
- `variants`: `SincNet`, `SincNetPlus` and `TimeDomainFilterbanks`, which change
  the parts of a `Leaf`.
- `efficient_leaf`: `EfficientLeaf`.
- `mel_filterbanks` and `spectrogram`: the fixed frontends on the STFT.
"""

from leaf_audio.frontend.efficient_leaf import EfficientLeaf
from leaf_audio.frontend.leaf import Leaf
from leaf_audio.frontend.mel_filterbanks import MelFilterbanks
from leaf_audio.frontend.spectrogram import Spectrogram
from leaf_audio.frontend.squared_modulus import SquaredModulus
from leaf_audio.frontend.variants import (
    SincNet,
    SincNetPlus,
    TimeDomainFilterbanks,
)
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
