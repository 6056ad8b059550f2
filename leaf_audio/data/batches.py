"""Turns a prepared data set into batches of float32 audio and int32 labels.

Training batches are endless, evaluation batches are finite.

All randomness is stateless. Pass p over the training split is shuffled with
the seed (seed, p). The example at position i of that pass is transformed with a
seed that depends on (seed, p, i) only. The batch of a given step is therefore
the same in every run, whether the run began at step 0 or was resumed later.
"""

from collections.abc import Callable, Sequence

import tensorflow as tf

from leaf_audio.common.checks import (
    check_count,
    check_is,
    check_not_negative,
    check_positive_int,
    check_seed,
)
from leaf_audio.data.clips import AudioData
from leaf_audio.data.transforms import (
    Transform,
    align,
    apply,
    check_transforms,
    loudness_normalization,
)

DEFAULT_TRANSFORMS = (align, loudness_normalization)
DEFAULT_MAX_CACHE_BYTES = 2**31
# AutoGraph would also rewrite the wrappers that decorators put around
# transforms, and would change the type of the errors that these raise.
_without_autograph = tf.autograph.experimental.do_not_convert


def prepare(
    audio_data: AudioData,
    transform_fns: Sequence[Transform] = DEFAULT_TRANSFORMS,
    batch_size: int = 64,
    seed: int = 0,
    max_cache_bytes: int = DEFAULT_MAX_CACHE_BYTES,
) -> "Batches":
    """Makes batches of a prepared data set.

    Args:
        audio_data: AudioData. What `load` returned.
        transform_fns: Sequence of functions. They are applied in order to the
            samples of each clip, a float32 tensor of shape (time,). A function
            with an argument `seed` gets a seed for TensorFlow's stateless
            random functions in training, and None in evaluation. Each function
            must accept an unknown number of samples when it is traced, and the
            result of all must have a fixed shape. They are traced without
            AutoGraph: decorate a function with `tf.function` if it uses a
            Python `if` or `for` on tensors.
            Default: `align`, then `loudness_normalization`.
        batch_size: int. The number of clips in a batch. The last evaluation
            batch may be smaller. Default: 64.
        seed: int, from 0 to less than 2**32. Determines the order of the
            training clips and what the transforms draw. Default: 0.
        max_cache_bytes: int, in bytes, 0 or more. If all splits together fit
            into this, they are held in memory. Otherwise clips are read from
            disk when they are needed. Default: 2**31.

    Returns:
        A `Batches`.

    Raises:
        ValueError: An argument is not valid, or the transforms do not lead to
            one fixed shape.
    """
    return Batches(audio_data, transform_fns, batch_size, seed, max_cache_bytes)


class Batches:
    """Batches of (audio float32, label int32).

    See `prepare` for the arguments.

    Attributes:
        batch_size: The number of clips in a batch.
        steps_per_epoch: The number of batches that cover the training split
            once; 0 if there is no training split. One pass follows the other
            without a gap, so that a batch may hold the last clips of one pass
            and the first clips of the next.
        evaluation: A dict with finite batches of "validation" and "test", for
            the splits that exist. Their order is always the same.
        example_shape: The shape of one transformed clip.
    """

    def __init__(
        self,
        audio_data: AudioData,
        transform_fns: Sequence[Transform],
        batch_size: int,
        seed: int,
        max_cache_bytes: int,
    ):
        check_is(
            "audio_data", audio_data, AudioData, "what `data.load` returned"
        )
        check_transforms(transform_fns)
        batch_size = check_positive_int("batch_size", batch_size)
        seed = check_seed("seed", seed)
        check_not_negative("max_cache_bytes", max_cache_bytes)
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
        self.evaluation: dict[str, tf.data.Dataset] = {
            split: self._evaluation(
                len(clips[split]), clips[split].reader(in_memory)
            )
            for split in ("validation", "test")
            if split in clips
        }
        self.example_shape = self._check_shape()

    def train(self, first_step: int = 0) -> tf.data.Dataset:
        """Returns endless training batches.

        Args:
            first_step: int. The step, counted from the start of training, whose
                batch comes first. Default: 0.

        Returns:
            A tf.data.Dataset of (audio, label).

        Raises:
            ValueError: There is no training split, or `first_step` is negative.
        """
        if not self._count:
            raise ValueError(
                "`audio_data` must have clips to train on. Received: "
                f"splits={list(self.evaluation)}."
            )
        check_count("first_step", first_step)
        first_pass, first_position = divmod(
            first_step * self.batch_size, self._count
        )

        def shuffled(pass_number: tf.Tensor) -> tf.data.Dataset:
            order = tf.random.experimental.stateless_shuffle(
                tf.range(self._count, dtype=tf.int64), [self._seed, pass_number]
            )
            positions = tf.data.Dataset.from_tensor_slices(order).enumerate()
            return positions.map(lambda i, index: (pass_number, i, index))

        def example(
            pass_number: tf.Tensor, position: tf.Tensor, index: tf.Tensor
        ) -> tuple[tf.Tensor, tf.Tensor]:
            audio, label = self._read_train(index)
            seed = tf.random.fold_in([self._seed, pass_number], position)
            return apply(self._transform_fns, audio, seed), label

        data = tf.data.Dataset.counter(first_pass).flat_map(shuffled)
        data = data.skip(first_position)
        data = data.map(
            _without_autograph(example), tf.data.AUTOTUNE, deterministic=True
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
        def example(index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            audio, label = read(index)
            return apply(self._transform_fns, audio, None), label

        data = tf.data.Dataset.range(count)
        data = data.map(
            _without_autograph(example), tf.data.AUTOTUNE, deterministic=True
        )
        data = data.batch(self.batch_size)
        return data.prefetch(tf.data.AUTOTUNE)

    def _check_shape(self) -> tuple[int, ...]:
        """Returns the shape that all splits share, or raises ValueError."""
        batches = self.evaluation.copy()
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
