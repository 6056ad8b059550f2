"""Learnable audio frontends for Keras: LEAF, SincNet, mel and their parts.

The modules listed below and the frontends are imported when they are first
used. `leaf_audio.Leaf` is the same as `leaf_audio.frontend.Leaf`. `load` and
`import_frontend` are those of `leaf_audio.serving`.
"""

import importlib
from typing import Any

from leaf_audio.common import commands, moved
from leaf_audio.version import __version__

_ROOMS = (
    "callbacks",
    "convolution",
    "diagnostics",
    "frontend",
    "initializers",
    "models",
    "pooling",
    "postprocessing",
)
_FRONTENDS = (
    "EfficientLeaf",
    "Leaf",
    "MelFilterbanks",
    "SincNet",
    "SincNetPlus",
    "Spectrogram",
    "TimeDomainFilterbanks",
)

# They need more than Keras: soundfile, TensorFlow Datasets and the like.
_ON_DEMAND = ("data", "figures", "serving", "training")

_OF_SERVING = ("import_frontend", "load")

__all__ = ["__version__", *_OF_SERVING, *_FRONTENDS, *_ON_DEMAND, *_ROOMS]


def __getattr__(name: str) -> Any:
    """Imports a module or a frontend when it is first used."""
    if name in _FRONTENDS:
        return getattr(importlib.import_module("leaf_audio.frontend"), name)
    if name in _OF_SERVING:
        return getattr(importlib.import_module("leaf_audio.serving"), name)
    if name in __all__:
        return importlib.import_module(f"leaf_audio.{name}")
    raise AttributeError(f"module 'leaf_audio' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)


moved.install()
# `keras.models.load_model` finds the classes of a saved model only if their
# modules have been imported, so `import leaf_audio` imports them. A command
# does not need it here: it imports them after it has read its flags, and after
# it has silenced TensorFlow's start-up messages.
if not commands.is_running():
    for _room in _ROOMS:
        importlib.import_module(f"leaf_audio.{_room}")
