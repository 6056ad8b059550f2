"""Initial values of filters, windows and other weights.

Centre frequencies are in rad/sample inside weights and in Hz in arguments;
bandwidths inside weights are deviations in samples.
"""

from leaf_audio.initializers.gabor import (
    ArrayInit,
    GaborInit,
    LowpassInit,
    PreempInit,
    SincInit,
    from_trained,
)

__all__ = [
    "ArrayInit",
    "GaborInit",
    "LowpassInit",
    "PreempInit",
    "SincInit",
    "from_trained",
]
