"""The reader of a set of TensorFlow Datasets (TFDS), as one of several tasks.

`load` takes a set of TFDS by its name, with settings of its own. Of several
tasks, each needs settings: two may even be two labels of one set.
"""

from collections.abc import Mapping
from typing import Any

from leaf_audio.common.checks import (
    check_bool,
    check_path,
    check_text,
    check_unless_none,
)
from leaf_audio.data import decoding
from leaf_audio.data.clips import AudioData
from leaf_audio.data.tfds_audio import tfds_audio


def tfds_set(
    name: str | None = None,
    audio_key: str = "audio",
    label_key: str = "label",
    source_sample_rate: int | None = None,
    split_names: Mapping[str, str] | None = None,
    data_dir: str | None = None,
    fallback_sample_rate: int = 16000,
    for_training: bool = True,
) -> AudioData:
    """Opens a TFDS set, with settings of its own as one of several tasks.

    Args:
        name: str. The name of the set in TFDS or in
            `tfds_audio.BUILDERS`. Must be given.
        audio_key: str. The feature that holds the audio; see `load`, as for the
            arguments below. Default: "audio".
        label_key: str. The feature that holds the label. Default: "label".
        source_sample_rate: int, in Hz, or None. The rate of a set that does not
            declare one. Default: None.
        split_names: Mapping or None. The TFDS split to use as each split.
            Default: None.
        data_dir: str or None. The folder for data sets and prepared clips.
            Default: None.
        fallback_sample_rate: int, in Hz. The rate that the audio is brought to.
            Default: 16000.
        for_training: bool. Whether there must be a split "train".
            Default: True.

    Returns:
        An `AudioData`.

    Raises:
        ValueError: An argument or an example is not valid, or the set cannot be
            downloaded and prepared.
    """
    check_text("tfds_set.audio_key", audio_key)
    check_text("tfds_set.label_key", label_key)
    check_bool("for_training", for_training)
    check_unless_none(check_path, data_dir=data_dir)
    check_unless_none(
        decoding.check_sample_rate,
        **{"tfds_set.source_sample_rate": source_sample_rate},
    )
    decoding.check_sample_rate(
        "tfds_set.fallback_sample_rate", fallback_sample_rate
    )
    check_split_names("tfds_set.split_names", split_names)
    check_text("tfds_set.name", name)
    return tfds_audio(
        name=name,
        data_dir=data_dir,
        sample_rate=int(fallback_sample_rate),
        source_sample_rate=source_sample_rate,
        audio_key=audio_key,
        label_key=label_key,
        split_names=split_names,
        for_training=for_training,
    )


def check_split_names(name: str, value: Any) -> None:
    """Raises a ValueError unless splits are named as `load` takes them."""
    if value is not None and not (
        isinstance(value, Mapping)
        and all(isinstance(one, str) for one in (*value, *value.values()))
    ):
        raise ValueError(
            f"`{name}` must be a dictionary from names to names of TFDS "
            f"splits, or None. Received: {name}={value!r}."
        )
