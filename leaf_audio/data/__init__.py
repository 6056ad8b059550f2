"""Recordings: where they come from, how they are stored, how they are batched.

`load` finds a data set by name and prepares it once on disk, with a reader
from `READERS` or with TensorFlow Datasets. `prepare` turns it into batches. On
the way, transforms bring each clip to one length and level, and augmentations
change it at random.

Where to add what: a source of data in `sources.py`, an augmentation in
`augmentation.py`, another transform in `transforms.py`.

Only `audio_folder` is imported with this package. The other names are imported
when they are first used, because they need TensorFlow.
"""

import importlib
from typing import TYPE_CHECKING, Any

# Not imported on demand: the submodule has the same name, and would otherwise
# take its place in this namespace.
from leaf_audio.data.audio_folder import audio_folder

if TYPE_CHECKING:
    from leaf_audio.data.augmentation import time_shift
    from leaf_audio.data.batches import Batches, prepare
    from leaf_audio.data.clips import AudioData, DataWarning
    from leaf_audio.data.decoding import UnusableFileError, read_recording
    from leaf_audio.data.sources import READERS, Reader, load
    from leaf_audio.data.transforms import (
        align,
        example_shape,
        loudness_normalization,
        transform,
    )

__all__ = [
    "READERS",
    "AudioData",
    "Batches",
    "DataWarning",
    "Reader",
    "UnusableFileError",
    "align",
    "audio_folder",
    "example_shape",
    "load",
    "loudness_normalization",
    "prepare",
    "read_recording",
    "time_shift",
    "transform",
]

_MODULES = {
    "READERS": "sources",
    "AudioData": "clips",
    "Batches": "batches",
    "DataWarning": "clips",
    "Reader": "sources",
    "UnusableFileError": "decoding",
    "align": "transforms",
    "example_shape": "transforms",
    "load": "sources",
    "loudness_normalization": "transforms",
    "prepare": "batches",
    "read_recording": "decoding",
    "time_shift": "augmentation",
    "transform": "transforms",
}


def __getattr__(name: str) -> Any:
    """Imports a public name from its module when it is first used."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"{__name__}.{_MODULES[name]}")
    return getattr(module, name)


def __dir__() -> list[str]:
    return sorted(__all__)
