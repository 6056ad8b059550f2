"""Recordings: where they come from, how they are stored, how they are batched.

`load` finds a data set by name and prepares it once on disk, with a reader
from `READERS` or with TensorFlow Datasets. `prepare` turns it into batches. On
the way, transforms bring each clip to one length and level, and augmentations
change it at random.

Where to add what: a source of data in `sources.py`, the table of a published
data set in `published.py`, an augmentation in `augmentation.py`, another
transform in `transforms.py`.

Only `audio_folder`, `tasks` and `tfrecords` are imported with this package. The
other names are imported when they are first used, because some need large
libraries.
"""

from typing import TYPE_CHECKING

from leaf_audio.common import on_demand

# Not imported on demand: the submodules have the same names, and would
# otherwise take their places in this namespace.
from leaf_audio.data.audio_folder import audio_folder
from leaf_audio.data.tasks import tasks
from leaf_audio.data.tfrecords import tfrecords

if TYPE_CHECKING:
    from leaf_audio.data.audiomentation import Audiomentation
    from leaf_audio.data.augmentation import (
        circular_shift,
        colored_noise,
        gain,
        polarity_inversion,
        speed_change,
        time_mask,
        time_shift,
        white_noise,
    )
    from leaf_audio.data.background import background_noise
    from leaf_audio.data.batches import Batches, prepare
    from leaf_audio.data.clips import AudioData, DataWarning
    from leaf_audio.data.decoding import UnusableFileError, read_recording
    from leaf_audio.data.published import (
        audioset_index,
        bird_detection_index,
        birdclef2021_index,
        speech_commands_index,
        tut2018_index,
    )
    from leaf_audio.data.sources import READERS, Reader, load
    from leaf_audio.data.tfds_reader import tfds_set
    from leaf_audio.data.transforms import (
        align,
        example_shape,
        loudness_normalization,
        peak_normalization,
        transform,
    )
    from leaf_audio.data.unlabelled import unlabelled_index

__all__ = [
    "READERS",
    "AudioData",
    "Audiomentation",
    "Batches",
    "DataWarning",
    "Reader",
    "UnusableFileError",
    "align",
    "audio_folder",
    "audioset_index",
    "background_noise",
    "bird_detection_index",
    "birdclef2021_index",
    "circular_shift",
    "colored_noise",
    "example_shape",
    "gain",
    "load",
    "loudness_normalization",
    "peak_normalization",
    "polarity_inversion",
    "prepare",
    "read_recording",
    "speech_commands_index",
    "speed_change",
    "tasks",
    "tfds_set",
    "tfrecords",
    "time_mask",
    "time_shift",
    "transform",
    "tut2018_index",
    "unlabelled_index",
    "white_noise",
]

_MODULES = {
    "READERS": "sources",
    "AudioData": "clips",
    "Audiomentation": "audiomentation",
    "Batches": "batches",
    "DataWarning": "clips",
    "Reader": "sources",
    "UnusableFileError": "decoding",
    "align": "transforms",
    "audioset_index": "published",
    "background_noise": "background",
    "bird_detection_index": "published",
    "birdclef2021_index": "published",
    "circular_shift": "augmentation",
    "colored_noise": "augmentation",
    "example_shape": "transforms",
    "gain": "augmentation",
    "load": "sources",
    "loudness_normalization": "transforms",
    "peak_normalization": "transforms",
    "polarity_inversion": "augmentation",
    "prepare": "batches",
    "read_recording": "decoding",
    "speech_commands_index": "published",
    "speed_change": "augmentation",
    "tfds_set": "tfds_reader",
    "time_mask": "augmentation",
    "time_shift": "augmentation",
    "transform": "transforms",
    "tut2018_index": "published",
    "unlabelled_index": "unlabelled",
    "white_noise": "augmentation",
}

__getattr__, __dir__ = on_demand.attributes(__name__, _MODULES, __all__)
