"""Reads any audio classification set that TensorFlow Datasets (TFDS) offers.

The splits `train`, `validation` and `test` of the set keep their names. The
names `valid`, `val` and `dev` also mean `validation`. If a set has no split but
`train`, the examples are divided by their position in stored order: of every
ten, the ninth goes to validation, the tenth to testing. TFDS stores examples in
the order of a hash, so that this is a random draw that never changes.

The feature that holds the label may be

- a class label or another integer: each clip has one label;
- a sequence of such integers: each clip has any number of labels;
- a vector of fixed length, of booleans or of zeros and ones (multi-hot): as
  above, with the positions of the ones as labels.
"""

import os
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import requests
import soxr
import tensorflow_datasets as tfds
from tensorflow_datasets.core.download import downloader

from leaf_audio.common import files
from leaf_audio.data import clip_store, shared_audio
from leaf_audio.data.clips import SPLITS, AudioData
from leaf_audio.data.flac import INT16_MAX
from leaf_audio.data.synthetic_vowels import SyntheticVowels

# Builders of this package, which are not registered with TFDS.
BUILDERS: dict[str, type[tfds.core.DatasetBuilder]] = {
    SyntheticVowels.name: SyntheticVowels,
}
# Without a network, TFDS retries for more than three minutes by default, and
# with this number for six seconds. TFDS has no argument for it.
_MAX_RETRIES = 5
# For each split of the result, the names of the TFDS splits that can become it.
_SPLIT_NAMES = {
    "train": ("train",),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test",),
}
# Which positions each split gets of a set that has only one.
_DRAWN: dict[str, Callable[[Any], Any]] = {
    "train": lambda i: i % 10 < 8,
    "validation": lambda i: i % 10 == 8,
    "test": lambda i: i % 10 == 9,
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
) -> AudioData:
    """Downloads and prepares a TFDS set, and opens it.

    A `DataWarning` is issued if clips are silent, and if the same audio is in
    several splits or has several labels. The result's `warnings` holds the same
    sentences.

    Args:
        name: str. The name of the set in TFDS or in `BUILDERS`.
        data_dir: See `load`, as for all arguments below.
        sample_rate: int, in Hz, or None.
        source_sample_rate: int, in Hz, or None.
        audio_key: str.
        label_key: str.
        split_names: Mapping or None.
        for_training: bool.

    Returns:
        An `AudioData`. Integers are divided by 32767 when they are read. Those
        of 16 bits are stored as they are, unless several channels are averaged
        or the sample rate changes.

    Raises:
        ValueError: An argument or an example is not valid, or the set cannot be
            downloaded and prepared.
    """
    # An address in a cloud is refused before TFDS asks there.
    clip_store.folder_of(data_dir)
    builder = _builder(name, data_dir)
    audio = _feature(builder, audio_key, "audio_key", _is_audio)
    label = _feature(builder, label_key, "label_key", _label_kind)
    kind = _label_kind(label)
    source_rate = _source_rate(audio, name, sample_rate, source_sample_rate)
    rate = sample_rate or source_rate
    builder = _downloaded_and_prepared(builder, name, data_dir)
    splits = _choose_splits(builder, split_names, for_training)
    is_drawn = split_names is None and list(splits) == ["train"]

    def clip(split: str, i: int, example: Mapping[str, Any]) -> clip_store.Clip:
        samples = _descend(example, audio_key)
        values = np.asarray(_descend(example, label_key))
        _check_example(name, split, i, samples, values, kind)
        return clip_store.Clip(
            **_stored_form(samples, source_rate, rate, f"{split} {i}"),
            label=_to_label(values, kind),
            name=f"{split} {i}",
        )

    def describe(stored: clip_store.Stored) -> dict[str, Any]:
        return {"label_names": _label_names(name, label, stored.labels)}

    audio_data = clip_store.prepare_once(
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
        sample_rate=rate,
        sources=lambda: _sources(builder, splits, is_drawn, clip),
        describe=describe,
    )
    return shared_audio.warned(audio_data)


def _builder(name: str, data_dir: str | None) -> tfds.core.DatasetBuilder:
    if data_dir is not None:
        data_dir = os.path.expanduser(data_dir)
    if name in BUILDERS:
        return BUILDERS[name](data_dir=data_dir)
    try:
        return tfds.builder(name, data_dir=data_dir)
    except tfds.core.registered.DatasetNotFoundError as error:
        raise ValueError(
            "`dataset` must be 'audio_folder', 'tfrecords', "
            "'synthetic_vowels' or the name of a TensorFlow Datasets set "
            "(https://www.tensorflow.org/datasets/catalog). "
            f"Received: dataset={name!r}."
        ) from error
    # Such as for a version that there is not, for a prefix of its name that
    # needs a package, or for a setting that it does not have.
    except (AssertionError, ImportError, TypeError) as error:
        raise ValueError(
            "`dataset` must name a TensorFlow Datasets set that can be opened "
            f"here. Received: dataset={name!r}: {_reason(error)}."
        ) from error


def _downloaded_and_prepared(
    builder: tfds.core.DatasetBuilder, name: str, data_dir: str | None
) -> tfds.core.DatasetBuilder:
    """Has TFDS prepare a set where that was not done; returns its builder."""
    downloader.MAX_RETRIES = _MAX_RETRIES
    if os.path.exists(builder.data_dir):
        return builder
    folder = clip_store.folder_of(data_dir)
    folder.mkdir(parents=True, exist_ok=True)
    lock = folder / f"{files.safe_name(builder.info.full_name)}.lock"
    try:
        # TFDS fails where two processes prepare the same set.
        with clip_store.one_at_a_time(lock):
            if os.path.exists(builder.data_dir):
                # Another process has prepared it, which the builder ignores.
                return _builder(name, data_dir)
            builder.download_and_prepare()
            return builder
    except (
        requests.RequestException,
        tfds.download.DownloadError,
        ImportError,
        # TFDS raises it if a file that users must download themselves is
        # missing.
        AssertionError,
    ) as error:
        raise ValueError(
            "`dataset` must be one that TensorFlow Datasets can download and "
            "prepare here, or has prepared before. Received: "
            f"dataset={builder.name!r}: {_reason(error)}. 'synthetic_vowels' "
            "and 'audio_folder' need no network."
        ) from error


def _reason(error: Exception) -> str:
    """Returns the innermost reason of an error that `requests` has wrapped."""
    inner = error.args[0] if error.args else error
    return str(getattr(inner, "reason", error)).strip().rstrip(".")


def _descend(tree: Any, key: str) -> Any:
    """Returns the entry `key` of a tree of dictionaries.

    "a/b" is the entry "b" of the entry "a", unless there is an entry "a/b".
    """
    if key in tree:
        return tree[key]
    for part in key.split("/"):
        tree = tree[part]
    return tree


def _feature(
    builder: tfds.core.DatasetBuilder,
    key: str,
    argument: str,
    is_suitable: Callable[[Any], Any],
) -> Any:
    """Returns the feature `key`; raises ValueError if it is not suitable."""
    try:
        feature = _descend(builder.info.features, key)
    except (KeyError, TypeError):
        feature = None
    if feature is None or not is_suitable(feature):
        kind = {
            "audio_key": "audio, numbers of shape (time,) or (time, channels)",
            "label_key": "a class label, an integer, a sequence of these, or "
            "a multi-hot vector",
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


def _label_kind(feature: tfds.features.FeatureConnector) -> str | None:
    """Returns how a feature holds labels: "one", "several" or "multi-hot".

    It is None for a feature that holds none.
    """
    is_sequence = isinstance(feature, tfds.features.Sequence)
    is_tensor = isinstance(feature, tfds.features.Tensor)
    if isinstance(feature, tfds.features.Audio) or not (
        is_tensor or (is_sequence and isinstance(feature.shape, tuple))
    ):
        return None
    kind, shape = np.dtype(feature.np_dtype).kind, feature.shape
    if len(shape) == 1 and shape[0] is not None:
        if kind == "b" or (is_tensor and kind in "iuf"):
            return "multi-hot"
    if kind in "iu" and len(shape) < 2:
        return "several" if shape else "one"
    return None


def _source_rate(
    audio: Any,
    name: str,
    sample_rate: int | None,
    source_sample_rate: int | None,
) -> int | None:
    """Returns the sample rate of the source, in Hz, if it is known."""
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
    """Returns the TFDS split to use for each split of the result."""
    if split_names is not None:
        unknown = sorted(set(split_names) - set(SPLITS))
        is_short = for_training and "train" not in split_names
        if unknown or is_short or not split_names:
            least = " (train at least)" if for_training else ""
            raise ValueError(
                f"`split_names` must map {', '.join(SPLITS)}{least} to "
                f"splits of {builder.name}. "
                f"Received: split_names={dict(split_names)}."
            )
        return dict(split_names)
    available = list(builder.info.splits)
    splits = {}
    for split, names in _SPLIT_NAMES.items():
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


def _sources(
    builder: tfds.core.DatasetBuilder,
    splits: dict[str, str],
    is_drawn: bool,
    clip: Callable[[str, int, Mapping[str, Any]], clip_store.Clip],
) -> dict[str, clip_store.Source]:
    """Returns the clips of each split, whose order is always the same.

    Args:
        builder: The TFDS set.
        splits: The name of the TFDS split of each split.
        is_drawn: Whether there is one, which is divided by position.
        clip: Makes a clip of the name of a split, the position of an example in
            it, and the example.
    """
    if not is_drawn:
        return {
            split: _source(builder, source, split, clip)
            for split, source in splits.items()
        }
    (source,) = splits.values()
    return {
        split: _source(builder, source, split, clip, belongs)
        for split, belongs in _DRAWN.items()
    }


def _source(
    builder: tfds.core.DatasetBuilder,
    source: str,
    split: str,
    clip: Callable[[str, int, Mapping[str, Any]], clip_store.Clip],
    belongs: Callable[[Any], Any] | None = None,
) -> clip_store.Source:
    """Returns the examples of a TFDS split at positions that belong."""
    data = builder.as_dataset(split=source, shuffle_files=False)
    count = len(data)
    data = data.enumerate()
    if belongs is not None:
        count = sum(map(belongs, range(count)))
        data = data.filter(lambda i, _: belongs(i))

    def clips(first: int) -> Iterator[clip_store.Clip]:
        for i, example in tfds.as_numpy(data.skip(first)):
            yield clip(split, int(i), example)

    return clip_store.Source(count, clips)


def _stored_form(
    samples: np.ndarray,
    source_rate: int | None,
    rate: int | None,
    example: str,
) -> dict[str, Any]:
    """Returns the arguments of a `Clip` for the samples of an example."""
    int16 = np.iinfo(np.int16)
    has_16_bits = samples.dtype.kind in "iu" and (
        int16.min <= samples.min() <= samples.max() <= int16.max
    )
    if has_16_bits and samples.ndim == 1 and rate == source_rate:
        return {"samples": samples.astype(np.int16)}

    def converted() -> Iterator[np.ndarray]:
        mono = _to_float_mono(samples)
        if rate != source_rate:
            mono = soxr.resample(mono, source_rate, rate)
            if not len(mono):
                raise ValueError(
                    "`sample_rate` must leave samples in each example. "
                    f"Received: sample_rate={rate}, at which {example!r} is "
                    f"empty, of {len(samples)} samples at {source_rate} Hz."
                )
        yield mono

    # A higher rate needs more; see `decoding.stored_bits`.
    is_raised = source_rate is not None and (rate or 0) > source_rate
    bits = 16 if has_16_bits and not is_raised else 24
    return {"samples": converted, "bits": bits}


def _to_float_mono(samples: np.ndarray) -> np.ndarray:
    if samples.dtype.kind in "iu":
        samples = samples.astype(np.float32) / INT16_MAX
    if samples.ndim == 2:
        samples = samples.mean(axis=1)
    return samples.astype(np.float32)


def _check_example(
    name: str,
    split: str,
    i: int,
    samples: np.ndarray,
    label: np.ndarray,
    kind: str | None,
) -> None:
    problem = None
    if not len(samples):
        problem = "no samples"
    elif not np.isfinite(samples).all():
        problem = "samples that are not finite"
    elif kind == "multi-hot" and not np.isin(label, (0, 1)).all():
        problem = f"the label {label.tolist()}, not of zeros and ones,"
    elif (label < 0).any():
        problem = f"the label {label.tolist()}"
    if problem:
        raise ValueError(
            "`dataset` must hold audio with a label in every example. "
            f"Received: dataset={name!r}, with {problem} in example {i} of "
            f"{split!r}."
        )


def _to_label(values: np.ndarray, kind: str | None) -> int | list[int]:
    """Returns the index of the label, or those of several, for the store."""
    if kind == "one":
        return int(values)
    if kind == "multi-hot":
        values = np.flatnonzero(values)
    return np.unique(values).tolist()


def _label_names(
    name: str, feature: Any, labels: Mapping[str, Sequence[Any]]
) -> list[str]:
    """Returns the names of the classes; integers if the set has no names."""
    classes = getattr(feature, "feature", feature)
    if isinstance(classes, tfds.features.ClassLabel):
        return list(classes.names)
    largest = (
        int(np.max(one, initial=-1)) for some in labels.values() for one in some
    )
    count = 1 + max(largest, default=-1)
    if _label_kind(feature) == "multi-hot":
        count = feature.shape[0]
    if not count:
        raise ValueError(
            "`dataset` must hold audio with a label in some examples. "
            f"Received: dataset={name!r}, without any label."
        )
    return [str(i) for i in range(count)]


def _state(builder: tfds.core.DatasetBuilder) -> list[list[Any]]:
    """Returns the sizes and times of the files that TFDS has prepared.

    A set that TFDS has built anew therefore counts as changed.
    """
    directory = pathlib.Path(builder.data_dir)
    if not directory.is_dir():
        # The set lies in a cloud bucket, where a version never changes.
        return []
    entries = sorted(os.scandir(directory), key=lambda entry: entry.name)
    stats = [(entry.name, entry.stat()) for entry in entries]
    return [[name, stat.st_size, stat.st_mtime_ns] for name, stat in stats]
