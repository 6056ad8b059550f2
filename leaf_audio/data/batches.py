"""Turns a prepared data set into batches of float32 audio and labels.

A label is an int32 index. Where clips may have several labels, a batch holds
float32 targets of shape (batch, number of labels) instead, of zeros and ones.

Training batches are endless, evaluation batches are finite. Both are datasets
of Grain, which Keras' `fit` and `predict` take on TensorFlow, JAX and PyTorch.
A loop over them gives pairs of NumPy arrays.

Each pass over the training split has an order of its own. With balanced
sampling, some clips come several times in a pass, and others not at all. The
clip at position i of pass p is transformed with a generator that depends on
(seed, p, i) only. The batch of a given step is therefore the same in every run,
whether the run began at step 0 or was resumed later.
"""

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from leaf_audio.common.checks import (
    check_bool,
    check_count,
    check_is,
    check_not_negative,
    check_positive_int,
    check_seed,
    check_unless_none,
)
from leaf_audio.data import chunks
from leaf_audio.data.balance import BalancedOrder
from leaf_audio.data.batch_checks import check_views, checked_targets
from leaf_audio.data.clips import SPLITS, AudioData, Clips
from leaf_audio.data.mixup import mixup, one_hot
from leaf_audio.data.quiet_grain import grain
from leaf_audio.data.random_keys import generator
from leaf_audio.data.reading_ahead import read_ahead
from leaf_audio.data.shares import Share
from leaf_audio.data.tasks import TaskOrder, check_mixup, training_order
from leaf_audio.data.transforms import (
    Chain,
    Transform,
    align,
    loudness_normalization,
)

DEFAULT_TRANSFORMS = (align, loudness_normalization)
DEFAULT_MAX_CACHE_BYTES = 2**31
# Of a longer clip, training reads a random part of this many examples. A
# recording of an hour is thus not decoded for an example of a second.
_EXCERPT_EXAMPLES = 8
# How many samples of the longest clip are transformed to find the shape of an
# example: a minute at 16 kHz.
_TRIED_SAMPLES = 2**20


def prepare(
    audio_data: AudioData,
    transform_fns: Sequence[Transform] = DEFAULT_TRANSFORMS,
    batch_size: int = 64,
    seed: int = 0,
    max_cache_bytes: int = DEFAULT_MAX_CACHE_BYTES,
    mixup_alpha: float = 0.0,
    evaluation_hop: int | None = None,
    balance: bool = False,
    views: int = 1,
    more_targets: np.ndarray | None = None,
    worker_processes: int = 0,
) -> "Batches":
    """Makes batches of a prepared data set.

    Args:
        audio_data: AudioData. What `load` returned.
        transform_fns: Sequence of functions. They are applied in order to the
            samples of each clip, a float32 array of shape (time,), and return
            such an array. A function with an argument `rng` gets a
            numpy.random.Generator in training, and None in evaluation. The
            result of all must have a fixed shape. In training, several threads
            call the functions.
            Default: `align`, then `loudness_normalization`.
        batch_size: int. The number of clips in a batch. The last evaluation
            batch may be smaller. Default: 64.
        seed: int, from 0 to less than 2**32. Determines the order of the
            training clips and what the transforms draw. Default: 0.
        max_cache_bytes: int, in bytes, 0 or more. If all splits together fit
            into this, they are held in memory. Otherwise clips are read from
            disk when they are needed. Default: 2**31.
        mixup_alpha: float, 0 or more. Above 0, a training batch holds weighted
            sums of two clips, with weights from Beta(mixup_alpha, mixup_alpha);
            see `leaf_audio.data.mixup`. Its labels are then float32 targets of
            shape (batch, number of labels), for a loss such as
            `keras.losses.CategoricalCrossentropy`. 0 is for no mixup.
            Default: 0.
        evaluation_hop: int, in samples, or None. Evaluation of a finished run
            cuts a clip that is longer than the result of the transforms into
            chunks of that length, with this distance from one to the next, and
            averages the probabilities of the chunks; see
            `leaf_audio.data.chunks`. Each chunk is transformed as a clip. The
            hop is at most the length of a chunk. None evaluates each clip once,
            as the transforms crop it; `align` takes its centre.
            Default: None.
        balance: bool. Whether training clips are drawn so that each label comes
            equally often, instead of each clip once in a pass. A clip with
            several labels is drawn as often as its rarest label asks for. See
            `leaf_audio.data.balance`. Default: False.
        views: int, 1 or 2. With 2, an example holds two views of a clip: the
            transforms are applied twice, with other random numbers, also in
            evaluation. The audio of a batch then has the shape
            (batch, 2, time), and a label is the number of the clip in its
            split. Mixup and `evaluation_hop` are not possible then. Default: 1.
        more_targets: float array of shape (training clips, size), or None. What
            is to be learned of each training clip besides its labels. The
            targets of a training batch then have the shape
            (batch, number of labels + size), and mixup mixes all of them.
            Default: None.
        worker_processes: int from 0 to 1000. 0 makes training batches in
            threads of this process. Above, so many processes make the same
            batches, and read the clips from disk. That is for transforms that
            compute in Python, which hold up one another in threads. The main
            module of the program must do nothing when it is imported, as
            Python's `multiprocessing` asks for. Default: 0.

    Returns:
        A `Batches`. If `align` is among the transforms, training reads a random
        part of a clip that is longer than eight examples. The part is as long
        as eight examples.

    Raises:
        ValueError: An argument is not valid, or the transforms do not lead to
            one fixed shape.
    """
    return Batches(
        audio_data,
        transform_fns,
        batch_size=batch_size,
        seed=seed,
        max_cache_bytes=max_cache_bytes,
        mixup_alpha=mixup_alpha,
        evaluation_hop=evaluation_hop,
        balance=balance,
        views=views,
        more_targets=more_targets,
        worker_processes=worker_processes,
    )


class Batches:
    """Batches of (audio float32, label int32 or targets float32).

    See `prepare` for the arguments.

    Attributes:
        batch_size: The number of clips in a batch.
        steps_per_epoch: The number of batches that cover the training split
            once; 0 if there is no training split. One pass follows the other
            without a gap, so that a batch may hold the last clips of one pass
            and the first clips of the next.
        evaluation: A dict with finite batches of "validation" and "test", for
            the splits that exist. Each is a grain.IterDataset with one example
            for each clip, in the order in which the clips are stored.
        labels: A dict with the labels of these clips, arrays whose first axis
            is the clips.
        groups: A dict with the groups of these clips, as `Clips.groups`.
        example_shape: The shape of one transformed clip.
        num_labels: The number of labels of the data set.
        is_multilabel: Whether a clip may have several labels. If so, all
            batches have float targets of shape (batch, number of labels). False
            with two views.
        mixup_alpha: The argument. If it is above 0, training batches have
            float targets.
        evaluation_hop: The argument.
        views: The argument.
        num_more_targets: The size of `more_targets`; 0 without.
        tasks: The tasks of the data set. Empty with two views.
    """

    def __init__(
        self,
        audio_data: AudioData,
        transform_fns: Sequence[Transform],
        batch_size: int,
        seed: int,
        max_cache_bytes: int,
        mixup_alpha: float = 0.0,
        evaluation_hop: int | None = None,
        balance: bool = False,
        views: int = 1,
        more_targets: np.ndarray | None = None,
        worker_processes: int = 0,
    ):
        check_is(
            "audio_data", audio_data, AudioData, "what `data.load` returned"
        )
        self._transform = Chain(transform_fns)
        batch_size = check_positive_int("batch_size", batch_size)
        seed = check_seed("seed", seed)
        check_not_negative("max_cache_bytes", max_cache_bytes)
        check_not_negative("mixup_alpha", mixup_alpha)
        check_unless_none(check_positive_int, evaluation_hop=evaluation_hop)
        check_bool("balance", balance)
        check_count("worker_processes", worker_processes, at_most=1000)
        check_views(views, mixup_alpha, evaluation_hop, more_targets)
        clips = audio_data.clips
        nbytes = sum(some.nbytes for some in clips.values())
        in_memory = nbytes <= max_cache_bytes
        self.batch_size = batch_size
        self.mixup_alpha = mixup_alpha
        self.views = views
        self.num_labels = len(audio_data.label_names)
        self.is_multilabel = audio_data.is_multilabel and views == 1
        self._seed = seed
        self._workers = worker_processes
        self._count = len(clips.get("train", ()))
        self._more = checked_targets(more_targets, self._count)
        self.num_more_targets = 0 if self._more is None else self._more.shape[1]
        self.tasks = audio_data.tasks if views == 1 else ()
        check_mixup(self.tasks, mixup_alpha)
        self._order: BalancedOrder | TaskOrder | None = None
        if self._count:
            self._order = training_order(audio_data, balance, seed)
        self.steps_per_epoch = -(-self._count // batch_size)
        self._readers = {
            split: some.reader(in_memory) for split, some in clips.items()
        }
        self.example_shape = self._find_shape(clips)
        self._train_lengths = self._lengths_in_training(clips)
        self.evaluation_hop = evaluation_hop
        if evaluation_hop is not None:
            self._check_hop(evaluation_hop)
        evaluated = [s for s in SPLITS if s != "train" and s in clips]
        self.labels = {split: clips[split].labels for split in evaluated}
        self.groups = {split: clips[split].groups for split in evaluated}
        self._lengths = {s: np.diff(clips[s].offsets) for s in evaluated}
        self.evaluation: dict[str, grain.IterDataset] = {
            split: self._evaluation(split, len(clips[split]))
            for split in evaluated
        }

    def train(
        self, first_step: int = 0, share: tuple[int, int] = (0, 1)
    ) -> grain.IterDataset:
        """Returns endless training batches.

        Args:
            first_step: int. The step, counted from the start of training, whose
                batch comes first. Default: 0.
            share: Pair of int. With (i, n), each batch is divided into n equal
                parts, and only part i is made. This is for n processes that
                train together. Clips are mixed within a part. Default: (0, 1).

        Returns:
            A grain.IterDataset of (audio, label), or of (audio, targets) with
            mixup or several labels. All batches have the same shape.

        Raises:
            ValueError: There is no training split, `first_step` is negative, or
                a batch cannot be divided into `n` parts.
        """
        if not self._count:
            raise ValueError(
                "`audio_data` must have clips to train on. Received: "
                f"splits={list(self.evaluation)}."
            )
        check_count("first_step", first_step)
        part, parts = share
        if not 0 <= part < parts or self.batch_size % parts:
            raise ValueError(
                f"`share` must be (i, n) with i from 0 to n - 1, and n must "
                f"divide the batch size {self.batch_size}. "
                f"Received: share={share}."
            )
        part_size = self.batch_size // parts
        order = np.random.SeedSequence(self._seed).generate_state(1)[0]
        data = grain.MapDataset.range(self._count)
        if self._order is None:
            data = data.shuffle(seed=int(order))
        data = data.repeat()
        data = data.map_with_index(self._training_example)
        if parts > 1:
            data = grain.MapDataset.source(
                Share(data, self.batch_size, part * part_size, part_size)
            )
        data = data.batch(part_size, drop_remainder=True)
        if self.mixup_alpha:
            data = data.map_with_index(functools.partial(self._mixed, part))
        return read_ahead(data[first_step:], self._workers)

    def __getstate__(self) -> dict[str, Any]:
        # What a process that makes training batches needs.
        return {k: v for k, v in vars(self).items() if k != "evaluation"}

    def chunks(self, split: str) -> tuple[grain.IterDataset, np.ndarray]:
        """Returns the batches that an evaluation of a finished run takes.

        Args:
            split: str. "validation" or "test".

        Returns:
            Finite batches of (audio, label), and an integer array with the
            index of the clip of each example, in rising order. With an
            `evaluation_hop`, a clip has an example for each of its chunks.
            Otherwise, the batches are those of `evaluation`.
        """
        lengths = self._lengths[split]
        if self.evaluation_hop is None:
            return self.evaluation[split], np.arange(len(lengths))
        (length,) = self.example_shape
        clips, starts = chunks.cut(lengths, length, self.evaluation_hop)

        def example(number: int) -> tuple[np.ndarray, np.int32 | np.ndarray]:
            start = int(starts[number])
            part = (start, start + length)
            return self._example(split, int(clips[number]), part=part)

        data = grain.MapDataset.range(len(clips)).map(example)
        return read_ahead(data.batch(self.batch_size)), clips

    def _check_hop(self, hop: int) -> None:
        if len(self.example_shape) != 1:
            raise ValueError(
                "`evaluation_hop` must be None unless the transforms give "
                f"waveforms. Received: evaluation_hop={hop}, with "
                f"{self._transform.names}, which lead to arrays of shape "
                f"{self.example_shape}."
            )
        chunks.check_hop(hop, *self.example_shape)

    def _training_example(
        self, position: int, index: int
    ) -> tuple[np.ndarray, np.int32 | np.ndarray]:
        rng = self._generator(*divmod(position, self._count))
        if self._order is not None:
            index = self._order(position)
        audio, label = self._example(
            "train", index, rng, self._excerpt(index, rng)
        )
        if self._more is None:
            return audio, label
        (targets,) = one_hot(np.asarray([label]), self.num_labels)
        return audio, np.concatenate([targets, self._more[index]])

    def _excerpt(
        self, index: int, rng: np.random.Generator
    ) -> tuple[int, int | None]:
        """Draws the part of a clip that training reads."""
        if self._train_lengths is None:
            return 0, None
        length = _EXCERPT_EXAMPLES * self.example_shape[0]
        surplus = int(self._train_lengths[index]) - length
        if surplus <= 0:
            return 0, None
        start = int(rng.integers(surplus + 1))
        return start, start + length

    def _mixed(
        self, part: int, step: int, batch: tuple[np.ndarray, np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        audio, labels = batch
        targets = one_hot(labels, self.num_labels)
        # No two parts draw the same, nor as an example, whose key has two
        # numbers.
        key = (step, part, 0) if part else (step,)
        return mixup(audio, targets, self.mixup_alpha, self._generator(*key))

    def _generator(self, *key: int) -> np.random.Generator:
        return generator(self._seed, *key)

    def _evaluation(self, split: str, count: int) -> grain.IterDataset:
        data = grain.MapDataset.range(count)
        number = SPLITS.index(split)

        def example(index: int) -> tuple[np.ndarray, np.int32 | np.ndarray]:
            # Two views without random numbers would be the same. The key has
            # four numbers, as no other.
            several = self.views > 1
            rng = self._generator(number, index, 0, 0) if several else None
            return self._example(split, index, rng)

        data = data.map(example)
        return read_ahead(data.batch(self.batch_size))

    def _example(
        self,
        split: str,
        index: int,
        rng: np.random.Generator | None = None,
        part: tuple[int, int | None] = (0, None),
    ) -> tuple[np.ndarray, np.int32 | np.ndarray]:
        samples, label = self._readers[split](index, *part)
        if self.views == 1:
            return self._transformed(samples, rng, split, index), label
        views = [
            self._transformed(samples, rng, split, index)
            for _ in range(self.views)
        ]
        return np.stack(views), np.int32(index)

    def _transformed(
        self,
        samples: np.ndarray,
        rng: np.random.Generator | None,
        split: str,
        index: int,
    ) -> np.ndarray:
        audio = self._transform(samples, rng)
        if audio.shape != self.example_shape:
            raise ValueError(
                "`transform_fns` must bring all clips to one shape, as "
                f"`@data.align` does. Received: {self._transform.names}, which "
                f"leads to {audio.shape} for clip {index} of {split}, and to "
                f"{self.example_shape} for others."
            )
        return audio

    def _lengths_in_training(
        self, clips: dict[str, Clips]
    ) -> np.ndarray | None:
        """Returns the lengths of training clips if parts are to be read.

        With `align`, an example is as long as the part of a clip that it is
        cropped to. Other transforms may need all of it.
        """
        if "train" not in clips or "align" not in self._transform.names:
            return None
        lengths = np.diff(clips["train"].offsets)
        is_long = lengths.max() > _EXCERPT_EXAMPLES * self.example_shape[0]
        return lengths if is_long else None

    def _shape_of(
        self,
        split: str,
        index: int,
        length: int,
        rng: np.random.Generator | None,
    ) -> tuple[int, ...]:
        """Returns the shape of a transformed clip of some length.

        Of a long clip, only a part is read if the shape does not depend on the
        length of the part.
        """

        def shape(end: int | None) -> tuple[int, ...]:
            samples, _ = self._readers[split](index, 0, end)
            return self._transform(samples, rng).shape

        if length > _TRIED_SAMPLES:
            tried = shape(_TRIED_SAMPLES)
            if shape(_TRIED_SAMPLES // 2) == tried:
                return tried
        return shape(None)

    def _find_shape(self, clips: dict[str, Clips]) -> tuple[int, ...]:
        """Tries the shortest and the longest clip of each split."""
        shapes = {}
        for split, some in clips.items():
            lengths = np.diff(some.offsets)
            for index in map(int, (lengths.argmin(), lengths.argmax())):
                rng = self._generator(0) if split == "train" else None
                length = int(lengths[index])
                shape = self._shape_of(split, index, length, rng)
                shapes[f"{split}, {lengths[index]} samples"] = shape
        if len(set(shapes.values())) > 1:
            raise ValueError(
                "`transform_fns` must bring all clips to one shape, as "
                f"`@data.align` does. Received: {self._transform.names}, which "
                f"leads to {shapes}."
            )
        return shape
