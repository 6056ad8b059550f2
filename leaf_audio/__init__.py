"""Learnable audio frontends for Keras: LEAF, SincNet, mel and their parts."""

from leaf_audio import (
    callbacks,
    convolution,
    diagnostics,
    figures,
    frontend,
    initializers,
    models,
    pooling,
    postprocessing,
)
from leaf_audio.version import __version__

__all__ = [
    "__version__",
    "callbacks",
    "convolution",
    "diagnostics",
    "figures",
    "frontend",
    "initializers",
    "models",
    "pooling",
    "postprocessing",
]
