"""From the name of a data set to batches.

`load` finds the audio and prepares it once on disk; `prepare` turns it into
endless training batches and finite evaluation batches. Where no other rate is
asked for, audio keeps its own; samples are float32, integers divided by 32767.

Randomness is stateless: pass p over the training split is shuffled by (seed,
p), and the example at position i of it is transformed by (seed, p, i). The
batch at a given step is therefore the same in every run, whether that run
began at the first step or goes on from there.
"""

import inspect
import numbers
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gin
import numpy as np
import tensorflow as tf

from leaf_audio.data import tfds_audio
from leaf_audio.data.audio_folder import audio_folder
from leaf_audio.data.clips import INT16_MAX, AudioData

__all__ = [
    "CONFIGURABLES",
    "AudioData",
    "Batches",
    "align",
    "example_shape",
    "load",
    "loudness_normalization",
    "prepare",
    "time_shift",
    "transform",
]

Transform = Callable[..., tf.Tensor]
# AutoGraph would rewrite gin's wrappers too, and hide the type of errors.
_untouched = tf.autograph.experimental.do_not_convert
_MAX_CACHE_BYTES = 2**31
# What gets its bindings when data is loaded, and not before.
CONFIGURABLES = ("data.load", "data.prepare", "audio_folder")


@gin.configurable(module="data", denylist=["for_training"])
def load(
    dataset: str = "speech_commands",
    data_dir: str | None = None,
    sample_rate: int | None = None,
    audio_key: str = "audio",
    label_key: str = "label",
    source_sample_rate: int | None = None,
    split_names: Mapping[str, str] | None = None,
    for_training: bool = True,
) -> AudioData:
    """Finds a data set, prepares it where that has not been done, opens it.

    Audio of several channels is mixed to one.

    Args:
        dataset: "audio_folder" for the recordings that `audio_folder.path`
            names, "synthetic_vowels" for the embedded set, or the name of any
            TensorFlow Datasets set ("speech_commands", "crema_d", "nsynth",
            "spoken_digit", ...) with its audio and one label per clip.
        data_dir: where TFDS keeps its data sets, and where the prepared clips
            go (below `leaf_audio`). None is TFDS's default, $TFDS_DATA_DIR or
            else ~/tensorflow_datasets.
        sample_rate: in Hz; audio at another rate is resampled. None keeps the
            rate of a TFDS set, and means 16000 for "audio_folder".
        audio_key: the TFDS set's feature that holds the audio; "a/b" is the
            feature b in the feature a.
        label_key: the same for the label, for instance "pitch" or
            "instrument/family" in nsynth.
        source_sample_rate: in Hz, the rate of a TFDS set that declares none.
        split_names: the TFDS split to use as "train", "validation" and
            "test", slices such as "train[:90%]" included. None takes the
            splits of these names.
        for_training: whether the data must be such that a model can be
            trained on it, with a split "train".

    Raises:
        ValueError: where an argument or the data is not as it must be.
    """
    if not isinstance(dataset, str):
        raise ValueError(
            f"`dataset` must be a name. Received: dataset={dataset!r}."
        )
    if sample_rate is not None and not (
        isinstance(sample_rate, numbers.Real) and sample_rate >= 1
    ):
        raise ValueError(
            "`sample_rate` must be a positive number of Hz or None. "
            f"Received: sample_rate={sample_rate!r}."
        )
    if dataset != "audio_folder":
        return tfds_audio.tfds_audio(
            dataset,
            data_dir,
            sample_rate,
            source_sample_rate,
            audio_key,
            label_key,
            split_names,
            for_training,
        )

    for name, value, default in (
        ("audio_key", audio_key, "audio"),
        ("label_key", label_key, "label"),
        ("source_sample_rate", source_sample_rate, None),
        ("split_names", split_names, None),
    ):
        if value != default:
            raise ValueError(
                f"`{name}` must be {default!r} for 'audio_folder', which has "
                f"settings of its own. Received: {name}={value!r}."
            )
    if sample_rate is None:
        return audio_folder(data_dir=data_dir, for_training=for_training)
    audio_data = audio_folder(
        data_dir=data_dir,
        fallback_sample_rate=sample_rate,
        for_training=for_training,
    )
    if audio_data.sample_rate != sample_rate:
        raise ValueError(
            "`audio_folder.sample_rate` must be None or agree with "
            "`data.load.sample_rate`. Received: "
            f"audio_folder.sample_rate={audio_data.sample_rate}, "
            f"data.load.sample_rate={sample_rate}."
        )
    return audio_data


@gin.configurable(module="data", denylist=["samples", "seed"])
def align(
    samples: tf.Tensor, seq_len: int = 16000, seed: tf.Tensor | None = None
) -> tf.Tensor:
    """Brings a clip to `seq_len` samples.

    A shorter clip gets zeros at its end. Of a longer one, a random stretch is
    kept in training, that is where `seed` is given, and the middle otherwise.
    """
    if not isinstance(seq_len, int) or seq_len < 1:
        raise ValueError(
            "`align.seq_len` must be a positive number of samples. "
            f"Received: seq_len={seq_len!r}."
        )
    surplus = tf.shape(samples)[0] - seq_len
    samples = tf.pad(samples, [[0, tf.maximum(-surplus, 0)]])
    surplus = tf.maximum(surplus, 0)
    if seed is None:
        start = surplus // 2
    else:
        start = tf.random.stateless_uniform([], seed, 0, surplus + 1, tf.int32)
    samples = samples[start : start + seq_len]
    samples.set_shape([seq_len])
    return samples


@gin.configurable(module="data", denylist=["samples", "seed"])
def time_shift(
    samples: tf.Tensor, max_shift: int = 1600, seed: tf.Tensor | None = None
) -> tf.Tensor:
    """Moves a clip by up to `max_shift` samples either way, in training only.

    What moves past an end is lost, zeros follow at the other.
    """
    if not isinstance(max_shift, int) or max_shift < 0:
        raise ValueError(
            "`time_shift.max_shift` must be a number of samples, 0 or more. "
            f"Received: max_shift={max_shift!r}."
        )
    if seed is None:
        return samples
    start = tf.random.stateless_uniform(
        [], seed, 0, 2 * max_shift + 1, tf.int32
    )
    padded = tf.pad(samples, [[max_shift, max_shift]])
    shifted = padded[start : start + tf.shape(samples)[0]]
    shifted.set_shape(samples.shape)
    return shifted


@gin.configurable(module="data", denylist=["samples"])
def loudness_normalization(
    samples: tf.Tensor, target_db: float = 15.0, max_gain_db: float = 30.0
) -> tf.Tensor:
    """Scales a clip to a standard deviation of `target_db` over 1.

    The gain stays below `max_gain_db`, so that silence is not blown up.
    """
    for name, value in (
        ("target_db", target_db),
        ("max_gain_db", max_gain_db),
    ):
        if not isinstance(value, numbers.Real):
            raise ValueError(
                f"`{name}` must be a number of decibels. "
                f"Received: {name}={value!r}."
            )
    target = 10 ** (target_db / 20)
    max_gain = 10 ** (max_gain_db / 20)
    # Silence divides to infinity, which leaves the largest gain.
    return samples * tf.minimum(max_gain, target / tf.math.reduce_std(samples))


_TRANSFORM_FNS = (align, loudness_normalization)


def example_shape() -> tuple[int, ...] | None:
    """Applies the transforms that `prepare` is bound to, before there is data.

    Returns:
        The shape they lead to; None where that depends on the data.
    """
    transform_fns = _bound_transforms()

    def transform_example(samples, seed):
        return _transform(transform_fns, samples, seed)

    traced = tf.function(
        transform_example, autograph=False
    ).get_concrete_function(
        tf.TensorSpec([None], tf.float32), tf.TensorSpec([2], tf.int64)
    )
    shape = traced.output_shapes
    return tuple(shape) if shape.is_fully_defined() else None


def transform(samples: np.ndarray) -> tf.Tensor:
    """Applies the transforms that `prepare` is bound to, as in evaluation.

    Args:
        samples: of one clip, float32 of shape (time,), at the sample rate that
            the model was trained for.
    """
    return _transform(_bound_transforms(), tf.constant(samples), None)


def _bound_transforms() -> Sequence[Transform]:
    bindings = gin.get_bindings("data.prepare")
    transform_fns = bindings.get("transform_fns", _TRANSFORM_FNS)
    _check_transforms(transform_fns)
    return transform_fns


@gin.configurable(module="data", denylist=["audio_data"])
def prepare(
    audio_data: AudioData,
    transform_fns: Sequence[Transform] = _TRANSFORM_FNS,
    batch_size: int = 64,
    seed: int = 0,
    max_cache_bytes: int = _MAX_CACHE_BYTES,
) -> "Batches":
    """Makes batches.

    Args:
        audio_data: what `load` returned.
        transform_fns: applied in order to the samples of each clip, float32 of
            shape (time,). One that takes an argument `seed` gets a seed for
            TensorFlow's stateless random functions in training, None in
            evaluation. Each must take samples whose number is unknown while
            it is traced, and together they must lead to a fixed shape. They
            are traced without AutoGraph; decorate one whose Python `if` or
            `for` looks at tensors with `tf.function`.
        batch_size: clips per batch; the last evaluation batch may be smaller.
        seed: decides on shuffling and on what the transforms draw.
        max_cache_bytes: the splits are held in memory if all of them fit into
            this, and are otherwise read from disk as needed.

    Raises:
        ValueError: where an argument is not as it must be.
    """
    return Batches(audio_data, transform_fns, batch_size, seed, max_cache_bytes)


class Batches:
    """Batches of (audio float32, label int32); see `prepare`.

    Attributes:
        batch_size: clips in a batch.
        steps_per_epoch: how many batches cover the training split once, 0
            where there is none. Passes follow each other without a gap, so a
            batch may hold the last clips of one pass and the first of the next.
        evaluation: finite batches of "validation" and "test", as far as these
            splits exist, always in the same order.
        example_shape: the shape of one transformed clip.
    """

    def __init__(
        self,
        audio_data: AudioData,
        transform_fns: Sequence[Transform],
        batch_size: int,
        seed: int,
        max_cache_bytes: int,
    ):
        if batch_size < 1:
            raise ValueError(
                "`batch_size` must be a positive number of clips. "
                f"Received: batch_size={batch_size}."
            )
        _check_transforms(transform_fns)
        clips = audio_data.clips
        nbytes = sum(some.nbytes for some in clips.values())
        in_memory = nbytes <= max_cache_bytes
        self._count = len(clips.get("train", ()))
        if self._count:
            self._read_train = clips["train"].reader(in_memory)
        self._transform_fns = tuple(transform_fns)
        self.batch_size = batch_size
        self._seed = seed
        self.steps_per_epoch = -(-self._count // batch_size)
        self.evaluation = {
            split: self._evaluation(
                len(clips[split]), clips[split].reader(in_memory)
            )
            for split in ("validation", "test")
            if split in clips
        }
        self.example_shape = self._check_shape()

    def train(self, first_step: int = 0) -> tf.data.Dataset:
        """Endless batches, from that of global step `first_step` on.

        Raises:
            ValueError: there is no training split, or `first_step` is negative.
        """
        if not self._count:
            raise ValueError(
                "`audio_data` must have clips to train on. Received: "
                f"splits={list(self.evaluation)}."
            )
        if first_step < 0:
            raise ValueError(
                "`first_step` must not be negative. "
                f"Received: first_step={first_step}."
            )
        first_pass, first_position = divmod(
            first_step * self.batch_size, self._count
        )

        def shuffled(pass_number):
            order = tf.random.experimental.stateless_shuffle(
                tf.range(self._count, dtype=tf.int64), [self._seed, pass_number]
            )
            positions = tf.data.Dataset.from_tensor_slices(order).enumerate()
            return positions.map(lambda i, index: (pass_number, i, index))

        def example(pass_number, position, index):
            audio, label = self._read_train(index)
            seed = tf.random.fold_in([self._seed, pass_number], position)
            return _transform(self._transform_fns, audio, seed), label

        data = tf.data.Dataset.counter(first_pass).flat_map(shuffled)
        data = data.skip(first_position)
        data = data.map(
            _untouched(example), tf.data.AUTOTUNE, deterministic=True
        )
        data = data.batch(self.batch_size, drop_remainder=True)
        data = data.apply(
            tf.data.experimental.assert_cardinality(
                tf.data.INFINITE_CARDINALITY
            )
        )
        return data.prefetch(tf.data.AUTOTUNE)

    def _evaluation(
        self, count: int, read: Callable[[tf.Tensor], tuple]
    ) -> tf.data.Dataset:
        def example(index):
            audio, label = read(index)
            return _transform(self._transform_fns, audio, None), label

        data = tf.data.Dataset.range(count)
        data = data.map(
            _untouched(example), tf.data.AUTOTUNE, deterministic=True
        )
        data = data.batch(self.batch_size)
        return data.prefetch(tf.data.AUTOTUNE)

    def _check_shape(self) -> tuple[int, ...]:
        batches = dict(self.evaluation)
        if self._count:
            batches["train"] = self.train()
        shapes = {
            split: data.element_spec[0].shape[1:]
            for split, data in batches.items()
        }
        first = next(iter(shapes.values()))
        if any(not s.is_fully_defined() or s != first for s in shapes.values()):
            names = [getattr(t, "__name__", t) for t in self._transform_fns]
            raise ValueError(
                "`transform_fns` must bring all clips to one shape, as "
                f"`@data.align` does. Received: transform_fns={names}, which "
                f"leads to { {k: str(s) for k, s in shapes.items()} }."
            )
        return tuple(first)


def _check_transforms(transform_fns: Any) -> None:
    if not isinstance(transform_fns, Sequence) or not all(
        map(callable, transform_fns)
    ):
        raise ValueError(
            "`transform_fns` must be a list of functions, such as "
            f"[@data.align]. Received: transform_fns={transform_fns!r}."
        )


def _transform(
    transform_fns: Sequence[Transform],
    samples: tf.Tensor,
    seed: tf.Tensor | None,
) -> tf.Tensor:
    if samples.dtype.is_integer:
        samples = tf.cast(samples, tf.float32) / INT16_MAX
    for i, transform in enumerate(transform_fns):
        if "seed" not in inspect.signature(transform).parameters:
            samples = transform(samples)
        elif seed is None:
            samples = transform(samples, seed=None)
        else:
            samples = transform(samples, seed=tf.random.fold_in(seed, i))
    return samples
