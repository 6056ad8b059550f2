"""Finds a data set by name: `load`, and the readers that it can use.

To add a source of data:

1. Write a file in this folder with a function that is a `Reader`. It lists what
   it finds, and calls `clip_store.prepare_once` to store the clips.
   `audio_folder.py` is an example.
2. Add the function to `READERS`.

A source that is a TensorFlow Datasets builder needs no reader. Add the builder
to `tfds_audio.BUILDERS`. `synthetic_vowels.py` is an example.
"""

from collections.abc import Mapping
from typing import Any, Protocol

from leaf_audio.common.checks import (
    check_bool,
    check_path,
    check_text,
    check_unless_none,
)
from leaf_audio.data import decoding, user_files
from leaf_audio.data.audio_folder import audio_folder
from leaf_audio.data.clips import AudioData
from leaf_audio.data.tasks import tasks
from leaf_audio.data.tfds_audio import tfds_audio
from leaf_audio.data.tfds_reader import check_split_names, tfds_set
from leaf_audio.data.tfrecords import tfrecords


class Reader(Protocol):
    """What `load` calls for the name of a data set in `READERS`.

    A reader may have further arguments with defaults. These are its own
    settings, such as the path of a folder, and `load` does not pass them.
    """

    def __call__(
        self,
        *,
        data_dir: str | None = None,
        fallback_sample_rate: int = ...,
        for_training: bool = True,
    ) -> AudioData:
        """Prepares the data set where that has not been done, and opens it.

        Args:
            data_dir: str or None. The folder that holds all data sets, to be
                passed to `clip_store.prepare_once`.
            fallback_sample_rate: int, in Hz. The sample rate of the result,
                unless the reader's own settings give another one. Omitted if
                the caller of `load` does not ask for a rate.
            for_training: bool. Whether a model is to be trained on the data.
                The reader must then raise a ValueError unless there is a split
                "train" with clips of at least two labels.

        Returns:
            An `AudioData`. Its `clips` have names of `clips.SPLITS`.

        Raises:
            ValueError: A setting or the data is not valid.
        """


READERS: dict[str, Reader] = {
    "audio_folder": audio_folder,
    "tasks": tasks,
    "tfds_set": tfds_set,
    "tfrecords": tfrecords,
}


def load(
    dataset: str = "speech_commands",
    data_dir: str | None = None,
    sample_rate: int | None = None,
    audio_key: str = "audio",
    label_key: str = "label",
    source_sample_rate: int | None = None,
    split_names: Mapping[str, str] | None = None,
    for_training: bool = True,
    readers: Mapping[str, Reader] | None = None,
) -> AudioData:
    """Opens a data set; downloads and prepares it first if necessary.

    Several channels are averaged to one.

    Args:
        dataset: str. The name of a reader: "audio_folder" for a folder of
            recordings, "tfrecords" for TFRecord files, "tasks" for several data
            sets. Or "synthetic_vowels" for a set that needs no download. Or the
            name of any TensorFlow Datasets (TFDS) set with audio and one label
            or several for each clip, such as "speech_commands", "crema_d",
            "nsynth" or "spoken_digit". Default: "speech_commands".
        data_dir: str or None. The folder where TFDS keeps its data sets. The
            prepared clips go to the folder `leaf_audio` in it. None is TFDS's
            default: $TFDS_DATA_DIR or else ~/tensorflow_datasets.
            Default: None.
        sample_rate: int, in Hz, or None. Audio at another rate is resampled.
            None keeps the rate of a TFDS set, and stands for 16000 with
            a reader. Default: None.
        audio_key: str. The feature of the TFDS set that holds the audio. "a/b"
            is the feature b inside the feature a. Default: "audio".
        label_key: str. The feature of the TFDS set that holds the label, for
            instance "pitch" or "instrument/family" for nsynth. A sequence of
            labels or a multi-hot vector makes a data set with several labels
            for each clip, or none. Default: "label".
        source_sample_rate: int, in Hz, or None. The sample rate of a TFDS set
            that does not declare one. Default: None.
        split_names: Mapping or None. The TFDS split to use as "train",
            "validation" and "test"; slices such as "train[:90%]" are allowed.
            None uses the splits of these names. Default: None.
        for_training: bool. Whether to require what training needs, such as a
            split "train". Default: True.
        readers: Mapping from names to readers, or None. They are used besides
            those in `READERS`, and instead of those of the same name. Use it to
            pass a reader with settings of its own, for instance
            `{"audio_folder": functools.partial(audio_folder, path="clips")}`.
            Default: None.

    Returns:
        An `AudioData`. Samples are float32.

    Raises:
        ValueError: An argument or the data is not valid, or the data cannot be
            downloaded.
    """
    check_text("dataset", dataset)
    check_text("audio_key", audio_key)
    check_text("label_key", label_key)
    check_bool("for_training", for_training)
    check_unless_none(check_path, data_dir=data_dir)
    check_unless_none(
        decoding.check_sample_rate,
        sample_rate=sample_rate,
        source_sample_rate=source_sample_rate,
    )
    check_split_names("split_names", split_names)
    _check_readers(readers)
    reader = {**READERS, **(readers or {})}.get(dataset)
    if reader is None:
        return tfds_audio(
            name=dataset,
            data_dir=data_dir,
            sample_rate=sample_rate,
            source_sample_rate=source_sample_rate,
            audio_key=audio_key,
            label_key=label_key,
            split_names=split_names,
            for_training=for_training,
        )
    _check_unset(dataset, "audio_key", audio_key, "audio")
    _check_unset(dataset, "label_key", label_key, "label")
    _check_unset(dataset, "source_sample_rate", source_sample_rate, None)
    _check_unset(dataset, "split_names", split_names, None)
    return _read(dataset, reader, data_dir, sample_rate, for_training)


def _check_readers(readers: Any) -> None:
    if readers is not None and not (
        isinstance(readers, Mapping)
        and all(isinstance(name, str) for name in readers)
        and all(map(callable, readers.values()))
    ):
        raise ValueError(
            "`readers` must be a dictionary from names to readers, or None. "
            f"Received: readers={readers!r}."
        )


def _check_unset(dataset: str, name: str, value: Any, default: Any) -> None:
    if value != default:
        raise ValueError(
            f"`{name}` must be {default!r} for {dataset!r}. It applies only to "
            f"TensorFlow Datasets. Received: {name}={value!r}."
        )


def _read(
    dataset: str,
    reader: Reader,
    data_dir: str | None,
    sample_rate: int | None,
    for_training: bool,
) -> AudioData:
    if sample_rate is None:
        return reader(data_dir=data_dir, for_training=for_training)
    audio_data = reader(
        data_dir=data_dir,
        fallback_sample_rate=sample_rate,
        for_training=for_training,
    )
    user_files.check_rates_agree(dataset, audio_data.sample_rate, sample_rate)
    return audio_data
