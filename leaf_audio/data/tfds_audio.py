"""Any audio classification set that TensorFlow Datasets knows by name.

The splits `train`, `validation` and `test` of the set are used under these
names (`valid`, `val` and `dev` stand for `validation`). Of a set that comes
with nothing but `train`, every ninth of ten examples in stored order is taken
for validation and every tenth for testing; TFDS stores examples in the order
of a hash, so this is a random draw that stays the same.
"""

import contextlib
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import requests
import soxr
import tensorflow_datasets as tfds
from tensorflow_datasets.core.download import downloader

from leaf_audio.data import clips, synthetic_vowels

# TFDS itself retries for more than three minutes where there is no network,
# this often for six seconds; it has no argument for that.
_MAX_RETRIES = 5
_NAMES = {
    "train": ("train",),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test",),
}


def tfds_audio(
    name: str,
    data_dir: str | None,
    sample_rate: int | None,
    source_sample_rate: int | None,
    audio_key: str,
    label_key: str,
    split_names: Mapping[str, str] | None,
    for_training: bool,
) -> clips.AudioData:
    """Prepares a TFDS set; the arguments are those of `data.load`."""
    builder = _builder(name, data_dir)
    audio = _feature(builder, audio_key, "audio_key", _is_audio)
    label = _feature(builder, label_key, "label_key", _is_label)
    source_rate = _source_rate(audio, name, sample_rate, source_sample_rate)
    rate = sample_rate or source_rate
    # Integers of other widths may go beyond 16 bits, and mixing and resampling
    # lead between them.
    is_verbatim = (
        np.dtype(audio.np_dtype) == np.int16
        and len(audio.shape) == 1
        and rate == source_rate
    )
    _download_and_prepare(builder)
    splits = _choose_splits(builder, split_names, for_training)
    is_drawn = split_names is None and list(splits) == ["train"]

    def write(writer: clips.ClipWriter) -> dict[str, Any]:
        examples = _examples(builder, splits, is_drawn)
        # Closed on an error too, which ends the progress bar.
        with contextlib.closing(examples):
            for split, i, example in examples:
                samples = _descend(example, audio_key)
                if not is_verbatim:
                    samples = _to_float_mono(samples)
                    if rate != source_rate:
                        samples = soxr.resample(samples, source_rate, rate)
                index = int(_descend(example, label_key))
                _check_example(name, split, i, samples, index)
                writer.add(split, samples, index)
        return {
            "label_names": _label_names(label, writer.labels),
            "sample_rate": rate,
            "skipped": {},
        }

    return clips.prepare_once(
        name=name,
        data_dir=data_dir,
        settings={
            "full_name": builder.info.full_name,
            "sample_rate": rate,
            "source_sample_rate": source_rate,
            "audio_key": audio_key,
            "label_key": label_key,
            "splits": splits,
            "is_drawn": is_drawn,
        },
        state=_state(builder),
        dtype="int16" if is_verbatim else "float32",
        write=write,
    )


def _builder(name: str, data_dir: str | None) -> tfds.core.DatasetBuilder:
    if data_dir is not None:
        data_dir = os.path.expanduser(data_dir)
    if name == synthetic_vowels.SyntheticVowels.name:
        return synthetic_vowels.SyntheticVowels(data_dir=data_dir)
    try:
        return tfds.builder(name, data_dir=data_dir)
    except tfds.core.registered.DatasetNotFoundError as error:
        raise ValueError(
            "`dataset` must be 'audio_folder', 'synthetic_vowels' or the name "
            "of a TensorFlow Datasets set "
            "(https://www.tensorflow.org/datasets/catalog). "
            f"Received: dataset={name!r}."
        ) from error


def _download_and_prepare(builder: tfds.core.DatasetBuilder) -> None:
    downloader.MAX_RETRIES = _MAX_RETRIES
    try:
        builder.download_and_prepare()
    except (
        requests.RequestException,
        tfds.download.DownloadError,
        ImportError,
        AssertionError,  # what was to be downloaded by hand is not there
    ) as error:
        raise ValueError(
            "`dataset` must be one that TensorFlow Datasets can download and "
            "prepare here, or has prepared before. Received: "
            f"dataset={builder.name!r}: {_reason(error)}. 'synthetic_vowels' "
            "and 'audio_folder' need no network."
        ) from error


def _reason(error: Exception) -> str:
    """What failed, without the wrappings of requests around it."""
    inner = error.args[0] if error.args else error
    return str(getattr(inner, "reason", error)).strip().rstrip(".")


def _descend(tree: Any, key: str) -> Any:
    """The entry `key`; "a/b" is the entry b of a unless there is an "a/b"."""
    if key in tree:
        return tree[key]
    for part in key.split("/"):
        tree = tree[part]
    return tree


def _feature(builder, key, argument, is_suitable):
    try:
        feature = _descend(builder.info.features, key)
    except (KeyError, TypeError):
        feature = None
    if feature is None or not is_suitable(feature):
        kind = {
            "audio_key": "audio, numbers of shape (time,) or (time, channels)",
            "label_key": "a class label or a single integer",
        }[argument]
        raise ValueError(
            f"`{argument}` must name a feature of {builder.name} that is "
            f"{kind}. Received: {argument}={key!r}, where the features are "
            f"{_describe(builder.info.features)}."
        )
    return feature


def _describe(features: Any) -> str:
    return ", ".join(
        f"{key}: {type(feature).__name__}" for key, feature in features.items()
    )


def _is_audio(feature: tfds.features.FeatureConnector) -> bool:
    if not isinstance(feature, tfds.features.Tensor):
        return False
    is_scalar_or_image = len(feature.shape) not in (1, 2)
    return not is_scalar_or_image and np.dtype(feature.np_dtype).kind in "if"


def _is_label(feature: tfds.features.FeatureConnector) -> bool:
    if not isinstance(feature, tfds.features.Tensor):
        return False
    return feature.shape == () and np.dtype(feature.np_dtype).kind in "iu"


def _source_rate(
    audio: Any,
    name: str,
    sample_rate: int | None,
    source_sample_rate: int | None,
) -> int | None:
    declared = getattr(audio, "sample_rate", None) or None
    if declared and source_sample_rate not in (None, declared):
        raise ValueError(
            f"`source_sample_rate` must be None for {name}, which declares "
            f"{declared} Hz. Received: source_sample_rate={source_sample_rate}."
        )
    rate = declared or source_sample_rate
    if rate is None and sample_rate is not None:
        raise ValueError(
            f"`source_sample_rate` must be given for {name}, which declares no "
            "rate, before its audio can be brought to another. Received: "
            f"source_sample_rate=None, sample_rate={sample_rate}."
        )
    return rate


def _choose_splits(
    builder: tfds.core.DatasetBuilder,
    split_names: Mapping[str, str] | None,
    for_training: bool,
) -> dict[str, str]:
    """From this program's split names to TFDS's."""
    if split_names is not None:
        unknown = sorted(set(split_names) - set(clips.SPLITS))
        is_short = for_training and "train" not in split_names
        if unknown or is_short or not split_names:
            least = " (train at least)" if for_training else ""
            raise ValueError(
                f"`split_names` must map {', '.join(clips.SPLITS)}{least} to "
                f"splits of {builder.name}. "
                f"Received: split_names={dict(split_names)}."
            )
        return dict(split_names)
    available = list(builder.info.splits)
    splits = {}
    for split, names in _NAMES.items():
        found = [name for name in names if name in available]
        if found:
            splits[split] = found[0]
    if not splits or (for_training and "train" not in splits):
        raise ValueError(
            f"`split_names` must say which splits of {builder.name} to use, "
            f"which has no 'train'. Received: split_names=None, where the "
            f"splits are {available}."
        )
    return splits


def _examples(
    builder: tfds.core.DatasetBuilder,
    splits: dict[str, str],
    is_drawn: bool,
) -> Iterator[tuple[str, int, Mapping[str, Any]]]:
    """Every example with its split and position, always in the same order."""
    for split, source in splits.items():
        data = builder.as_dataset(split=source, shuffle_files=False)
        description = f"Preparing {builder.name} {source}"
        with clips.progress(
            tfds.as_numpy(data), len(data), description
        ) as examples:
            for i, example in enumerate(examples):
                drawn = {8: "validation", 9: "test"}.get(i % 10, "train")
                yield (drawn if is_drawn else split), i, example


def _to_float_mono(samples: np.ndarray) -> np.ndarray:
    if samples.dtype.kind in "iu":
        samples = samples.astype(np.float32) / clips.INT16_MAX
    if samples.ndim == 2:
        samples = samples.mean(axis=1)
    return samples.astype(np.float32)


def _check_example(
    name: str, split: str, i: int, samples: np.ndarray, label: int
) -> None:
    problem = None
    if not len(samples):
        problem = "no samples"
    elif not np.isfinite(samples).all():
        problem = "samples that are not finite"
    elif label < 0:
        problem = f"the label {label}"
    if problem:
        raise ValueError(
            "`dataset` must hold audio with a label in every example. "
            f"Received: dataset={name!r}, with {problem} in example {i} of "
            f"{split!r}."
        )


def _label_names(label: Any, labels: dict[str, list[int]]) -> list[str]:
    """The declared names, or the integers themselves where there are none."""
    if isinstance(label, tfds.features.ClassLabel):
        return list(label.names)
    return [
        str(i) for i in range(1 + max(max(some) for some in labels.values()))
    ]


def _state(builder: tfds.core.DatasetBuilder) -> list[list[Any]]:
    """The files that TFDS prepared: a set built anew is not the same set."""
    directory = pathlib.Path(builder.data_dir)
    if not directory.is_dir():
        return []  # in a bucket, where a version never changes
    entries = sorted(os.scandir(directory), key=lambda entry: entry.name)
    stats = [(entry.name, entry.stat()) for entry in entries]
    return [[name, stat.st_size, stat.st_mtime_ns] for name, stat in stats]
