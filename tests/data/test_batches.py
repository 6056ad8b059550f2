"""Batches: seeding, exact resumption, shapes, transforms."""

import functools
import itertools
import random

import numpy as np
import pytest
from stored import Clip, store

from leaf_audio import data
from leaf_audio.data.clips import Clips

pytestmark = pytest.mark.any_backend

COUNT = {"train": 11, "validation": 7, "test": 5}


def make(data_dir, lengths=range(40, 90, 5), dtype="float32", counts=COUNT):
    """Clip i of a split is i + 0.01, i + 0.02, ... with label i."""

    def clip(i):
        length = lengths[i % len(lengths)]
        return Clip((i + np.arange(length) / 100).astype(dtype), i)

    return store(
        data_dir,
        {split: [*map(clip, range(n))] for split, n in counts.items()},
        label_names=map(str, range(max(counts.values()))),
        settings={"s": [list(lengths), dtype, counts]},
    )


@pytest.fixture(scope="module")
def audio_data(tmp_path_factory):
    return make(tmp_path_factory.mktemp("data"))


crop = functools.partial(data.align, seq_len=30)
crop.__name__ = "crop"


def take(dataset, count):
    return list(itertools.islice(dataset, count))


def assert_equal_batches(first, second):
    assert len(first) == len(second)
    for (audio, label), (other_audio, other_label) in zip(
        first, second, strict=True
    ):
        np.testing.assert_array_equal(audio, other_audio)
        np.testing.assert_array_equal(label, other_label)


@pytest.mark.parametrize("max_cache_bytes", [0, 10**9])
@pytest.mark.parametrize("first_step", [1, 2, 3, 7, 11, 40])
def test_resuming_gives_exactly_the_batches_of_an_uninterrupted_run(
    audio_data, first_step, max_cache_bytes
):
    batches = data.prepare(audio_data, [crop], 4, 3, max_cache_bytes)
    whole = take(batches.train(), first_step + 9)
    again = data.prepare(audio_data, [crop], 4, 3, max_cache_bytes)
    assert_equal_batches(take(again.train(first_step), 9), whole[first_step:])


def test_batches_do_not_depend_on_caching(audio_data):
    cached = data.prepare(audio_data, [crop], 4)
    uncached = data.prepare(audio_data, [crop], 4, max_cache_bytes=0)
    assert_equal_batches(take(cached.train(), 6), take(uncached.train(), 6))
    for split in ("validation", "test"):
        assert_equal_batches(
            list(cached.evaluation[split]), list(uncached.evaluation[split])
        )


def test_batches_do_not_depend_on_global_seeds(audio_data):
    results = []
    for seed in (1, 2):
        random.seed(seed)
        np.random.seed(seed)
        batches = data.prepare(audio_data, [crop], 4)
        results.append(take(batches.train(), 6))
    assert_equal_batches(*results)


@pytest.mark.parametrize("batch_size", [1, 4, 11, 16])
def test_every_clip_is_seen_once_per_pass(audio_data, batch_size):
    batches = data.prepare(audio_data, [crop], batch_size)
    steps = 5 * COUNT["train"]
    stream = np.concatenate(
        [label for _, label in take(batches.train(), steps)]
    )
    assert len(stream) == steps * batch_size
    for p in range(5):
        labels = stream[p * COUNT["train"] : (p + 1) * COUNT["train"]]
        assert sorted(labels) == list(range(COUNT["train"]))


def labels_of_pass(audio_data, seed, number):
    batches = data.prepare(audio_data, [crop], COUNT["train"], seed)
    ((_, labels),) = take(batches.train(number), 1)
    return tuple(labels)


def test_passes_and_seeds_differ_in_order(audio_data):
    orders = {
        labels_of_pass(audio_data, seed, number)
        for seed in (0, 1, 2)
        for number in (0, 1, 2)
    }
    assert len(orders) == 9


@pytest.mark.slow
def test_every_clip_comes_first_equally_often(tmp_path):
    few = make(tmp_path, counts={"train": 4, "test": 1})
    batches = data.prepare(few, [crop], 4)
    firsts = [labels[0] for _, labels in take(batches.train(), 400)]
    # The standard deviation of each count is 8.7.
    assert all(60 < count < 140 for count in np.bincount(firsts, minlength=4))


def test_crops_are_random_in_training_and_uniform(tmp_path):
    one = make(tmp_path, lengths=[34], counts={"train": 1, "test": 1})
    batches = data.prepare(one, [crop], 1)
    starts = [
        round(float(audio[0, 0]) * 100)
        for audio, _ in take(batches.train(), 500)
    ]
    counts = np.bincount(starts)
    assert len(counts) == 5
    # The standard deviation of each count is 8.9.
    assert all(60 < count < 140 for count in counts)


def test_the_same_clip_is_cropped_differently_under_other_seeds(tmp_path):
    one = make(tmp_path, lengths=[2000], counts={"train": 1, "test": 1})
    starts = {
        float(take(data.prepare(one, [crop], 1, s).train(), 1)[0][0][0, 0])
        for s in range(8)
    }
    assert len(starts) == 8


def test_evaluation_crops_the_centre_in_stored_order(audio_data):
    batches = data.prepare(audio_data, [crop], 3)
    for split, dataset in batches.evaluation.items():
        for _ in range(2):
            seen = list(dataset)
            audio = np.concatenate([a for a, _ in seen])
            labels = np.concatenate([label for _, label in seen])
            np.testing.assert_array_equal(labels, range(COUNT[split]))
            for i, clip in enumerate(audio):
                length = 40 + 5 * i
                expected = i + ((length - 30) // 2 + np.arange(30)) / 100
                np.testing.assert_allclose(clip, expected, rtol=1e-6)


def test_evaluation_order_is_validation_then_test(audio_data):
    batches = data.prepare(audio_data, [crop], 3)
    assert list(batches.evaluation) == ["validation", "test"]


def test_short_clips_get_zeros_at_the_end(audio_data):
    batches = data.prepare(
        audio_data, [functools.partial(data.align, seq_len=100)], 7
    )
    for dataset in (batches.train(), batches.evaluation["validation"]):
        ((audio, labels),) = take(dataset, 1)
        for clip, label in zip(audio, labels, strict=True):
            length = 40 + 5 * (label % 10)
            expected = label + np.arange(length) / 100
            np.testing.assert_allclose(clip[:length], expected, rtol=1e-6)
            assert not clip[length:].any()


@pytest.mark.parametrize("batch_size, steps", [(4, 3), (11, 1), (16, 1)])
def test_an_epoch_covers_a_pass(audio_data, batch_size, steps):
    batches = data.prepare(audio_data, [crop], batch_size)
    assert batches.steps_per_epoch == steps


def test_training_batches_have_one_shape_and_never_end(audio_data):
    batches = data.prepare(audio_data, [crop], 4)
    for audio, label in take(batches.train(5), 20):
        assert (audio.shape, audio.dtype) == ((4, 30), np.float32)
        assert (label.shape, label.dtype) == ((4,), np.int32)
    assert [len(a) for a, _ in batches.evaluation["test"]] == [4, 1]
    assert batches.example_shape == (30,)


@pytest.mark.parametrize("fns", [[], [lambda s: s[: len(s) // 2]]])
def test_clips_of_several_lengths_are_an_error(audio_data, fns):
    with pytest.raises(ValueError, match="`transform_fns` must bring all"):
        data.prepare(audio_data, fns)


def test_a_clip_of_another_length_is_named(audio_data):
    def cut_some(samples):
        return samples[:-1] if 5 <= samples[0] < 6 else samples

    batches = data.prepare(audio_data, [crop, cut_some], 4)
    with pytest.raises(ValueError, match=r"\(29,\) for clip 5 of validation"):
        list(batches.evaluation["validation"])


def test_clips_of_one_length_need_no_alignment(tmp_path):
    batches = data.prepare(make(tmp_path, lengths=[50]), [], 4)
    assert batches.example_shape == (50,)
    assert next(iter(batches.train()))[0].shape == (4, 50)


def test_integers_are_divided_by_the_largest_int16(tmp_path):
    integers = make(tmp_path, lengths=[30], dtype="int16")
    ((audio, labels),) = take(data.prepare(integers, [], 11).train(), 1)
    np.testing.assert_allclose(audio[:, 0], labels / 32767, rtol=1e-6)
    assert audio.dtype == np.float32


def test_transforms_are_called_in_order_and_seeded_by_signature(audio_data):
    generators = []

    def double(samples):
        return 2 * samples

    def noise(samples, *, rng):
        generators.append(rng)
        if rng is None:
            return samples + 1
        return samples + rng.standard_normal(30)

    batches = data.prepare(audio_data, [double, crop, noise, noise], 11)
    generators.clear()
    evaluated = np.concatenate([a for a, _ in batches.evaluation["test"]])
    np.testing.assert_allclose(evaluated[0, 0], 2 * 0.05 + 2, rtol=1e-6)
    assert generators == [None] * 2 * COUNT["test"]
    first, second = take(batches.train(), 2)
    plain = data.prepare(audio_data, [double, crop], 11)
    assert_equal_batches(
        [(np.zeros(11), first[1])],
        [(np.zeros(11), take(plain.train(), 1)[0][1])],
    )
    difference = first[0] - take(plain.train(), 1)[0][0]
    # Had both been seeded alike, the two draws would add up to twice one.
    assert abs(difference.std() - np.sqrt(2)) < 0.25
    assert len(np.unique(difference[:, 0])) == 11
    assert not np.array_equal(first[0], second[0])


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda d: data.prepare(d, batch_size=0), "`batch_size`.*batch_size=0"),
        (
            lambda d: data.prepare(d, [crop]).train(-1),
            "`first_step`.*first_step=-1",
        ),
        (
            lambda d: data.prepare(
                d, [functools.partial(data.align, seq_len=0)]
            ),
            "`align.seq_len`.*seq_len=0",
        ),
        (lambda d: data.prepare(d, [crop], seed=-1), "`seed`.*seed=-1"),
        (lambda d: data.prepare(d, [crop], seed=0.5), "`seed`.*seed=0.5"),
        (
            lambda d: data.prepare(d, [crop], mixup_alpha=-0.1),
            "`mixup_alpha`.*mixup_alpha=-0.1",
        ),
    ],
)
def test_a_wrong_value_is_named(audio_data, call, message):
    with pytest.raises(ValueError, match=message):
        call(audio_data)


@pytest.mark.parametrize("max_cache_bytes", [0, 10**9])
def test_training_reads_parts_of_long_clips(
    tmp_path, monkeypatch, max_cache_bytes
):
    """Training decodes eight lengths of an example, and evaluation all."""
    counts = {"train": 4, "validation": 1}
    audio_data = make(tmp_path, lengths=[5000], counts=counts)
    # By the number of clips of the set: training reads ahead in threads
    # while the validation set is read.
    asked = {4: [], 1: []}
    original = Clips.reader

    def counting(self, in_memory=False):
        read = original(self, in_memory)

        def counted(index, begin=0, end=None):
            audio, label = read(index, begin, end)
            asked[len(self)].append(len(audio))
            return audio, label

        return counted

    monkeypatch.setattr(Clips, "reader", counting)
    align = functools.partial(data.align, seq_len=30)
    align.__name__ = "align"
    batches = data.prepare(
        audio_data, [align], 4, max_cache_bytes=max_cache_bytes
    )
    asked[4].clear()
    found = take(batches.train(), 60)
    assert set(asked[4]) == {8 * 30}
    starts = np.concatenate([100 * (a[:, 0] - y) for a, y in found])
    # They are spread over the clips, to both ends.
    assert starts.min() < 100
    assert starts.max() > 4850
    assert abs(starts.mean() - 2485) < 300
    asked[1].clear()
    ((audio, label),) = batches.evaluation["validation"]
    assert asked[1] == [5000]
    np.testing.assert_allclose(100 * audio[0, 0], 2485, rtol=1e-3)
    again = data.prepare(
        audio_data, [align], 4, max_cache_bytes=max_cache_bytes
    )
    assert_equal_batches(take(again.train(first_step=7), 3), found[7:10])


@pytest.mark.parametrize("first_step", [0, 5])
@pytest.mark.parametrize("count", [2, 3])
def test_parts_of_batches_make_the_whole(audio_data, count, first_step):
    batches = data.prepare(audio_data, [crop], 6)
    whole = take(batches.train(first_step), 7)
    parts = [
        take(batches.train(first_step, share=(i, count)), 7)
        for i in range(count)
    ]
    joined = [
        tuple(map(np.concatenate, zip(*some, strict=True)))
        for some in zip(*parts, strict=True)
    ]
    assert_equal_batches(joined, whole)


def test_parts_of_mixed_batches_draw_differently(audio_data):
    batches = data.prepare(audio_data, [crop], 6, mixup_alpha=1.0)
    shares = [
        np.sort(take(batches.train(share=(i, 2)), 1)[0][1], axis=1)[:, -1]
        for i in range(2)
    ]
    assert not np.intersect1d(*shares).size


@pytest.mark.parametrize("share", [(0, 4), (2, 2), (-1, 2), (0, 0)])
def test_a_batch_must_be_divisible_into_parts(audio_data, share):
    with pytest.raises(ValueError, match="`share` must be"):
        data.prepare(audio_data, [crop], 6).train(share=share)


def test_other_transforms_get_whole_clips(tmp_path):
    def every_tenth(samples):
        return np.pad(samples, (0, 5000))[:300:10]

    audio_data = make(tmp_path, lengths=[5000], counts={"train": 3})
    seen = []

    def watching(samples):
        seen.append(len(samples))
        return every_tenth(samples)

    batches = data.prepare(audio_data, [watching], 3)
    seen.clear()
    take(batches.train(), 2)
    assert set(seen) == {5000}


@pytest.mark.parametrize("length", [2**20 - 1, 2**20 + 500])
def test_long_clips_need_not_be_cropped(tmp_path, length):
    audio_data = make(tmp_path, lengths=[length], counts={"train": 2})
    batches = data.prepare(audio_data, [data.loudness_normalization], 2)
    assert batches.example_shape == (length,)
    assert take(batches.train(), 1)[0][0].shape == (2, length)
