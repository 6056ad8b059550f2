"""Learnable audio frontends for Keras: LEAF, SincNet, mel and their parts."""

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

__all__ = ["__version__", "figures", *_ROOMS, *_FRONTENDS]


def __getattr__(name: str) -> Any:
    """Imports a room, or finds a frontend, when it is first asked for."""
    if name in _FRONTENDS:
        return getattr(importlib.import_module("leaf_audio.frontend"), name)
    if name in __all__:
        return importlib.import_module(f"leaf_audio.{name}")
    raise AttributeError(f"module 'leaf_audio' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)


moved.install()
# `keras.models.load_model` knows the classes of a file only once they have
# been imported. The commands import what they need after they have parsed
# their flags and silenced TensorFlow's start-up messages.
if not commands.is_running():
    for _room in _ROOMS:
        importlib.import_module(f"leaf_audio.{_room}")
