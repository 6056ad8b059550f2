"""Initial values of filters, windows and other weights.

Conventions of this package: arguments give frequencies in Hz and lengths of
windows in milliseconds. The weight of Gabor filters has the shape
`(n_filters, 2)` and holds centre frequencies in rad/sample and standard
deviations in samples. The weight of sinc filters holds Hz.

An initializer takes `sample_rate` and `window_len` from the frontend that it is
given to if they are None. In a layer outside a frontend, GaborInit and SincInit
use LEAF's settings instead: 16 kHz and a window of 25 ms.
"""

from leaf_audio.initializers.base import FrontendInitializer
from leaf_audio.initializers.gabor import GaborInit
from leaf_audio.initializers.given import ArrayInit, from_trained
from leaf_audio.initializers.sinc import SincInit
from leaf_audio.initializers.windows import LowpassInit, PreempInit

__all__ = [
    "ArrayInit",
    "FrontendInitializer",
    "GaborInit",
    "LowpassInit",
    "PreempInit",
    "SincInit",
    "from_trained",
]
