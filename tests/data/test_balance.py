"""Balanced sampling: each label equally often, reproducibly."""

import functools
import itertools

import numpy as np
import pytest
from stored import Clip, store
from test_batches import assert_equal_batches, take

from leaf_audio import data
from leaf_audio.data.balance import BalancedOrder

pytestmark = pytest.mark.any_backend

COUNTS = (30, 7, 2)
LABELS = np.repeat(np.arange(3), COUNTS)
COUNT = len(LABELS)


def passes(labels, number, seed=0):
    """Returns the indices of some passes, of shape (passes, clips)."""
    order = BalancedOrder(labels, seed)
    count = len(labels)
    indices = [order(position) for position in range(number * count)]
    return np.reshape(indices, (number, count))


def test_each_pass_has_each_label_equally_often():
    for indices in passes(LABELS, 5):
        assert np.bincount(LABELS[indices]).tolist() == [13, 13, 13]
        # A clip comes as often as another one of its label, or once more.
        times = np.bincount(indices, minlength=COUNT)
        for label in range(3):
            some = times[label == LABELS]
            assert some.max() - some.min() <= 1


def test_every_clip_comes_in_the_course_of_passes():
    times = np.bincount(passes(LABELS, 60).ravel(), minlength=COUNT)
    expected = 60 * COUNT / 3 / np.array(COUNTS)[LABELS]
    # The standard deviation is below half of sqrt(60).
    assert (np.abs(times - expected) < 16).all()


def test_the_order_of_a_pass_is_random():
    one, two = passes(LABELS, 2)
    (other,) = passes(LABELS, 1, seed=1)
    assert len({one.tobytes(), two.tobytes(), other.tobytes()}) == 3
    # Labels do not follow one another.
    changes = (np.diff(LABELS[one]) != 0).sum()
    assert 16 < changes < 36


def test_neighbours_are_drawn_together_as_often_as_others():
    """As successive clips of a recording are neighbours."""
    drawn = np.array(
        [np.bincount(one, minlength=COUNT) for one in passes(LABELS, 90)]
    )
    some = drawn[:, LABELS == 0]
    # 13 of 30 clips are drawn: a pair in 0.18 of the passes.
    together = (some[:, :-1] * some[:, 1:]).mean(axis=0)
    assert (0.03 < together).all() and (together < 0.4).all()


def test_several_labels_are_weighted_by_the_rarest():
    rng = np.random.default_rng(0)
    labels = rng.random((300, 4)) < [0.6, 0.2, 0.05, 0.02]
    labels[:5] = False
    indices = passes(labels, 20).ravel()
    times = np.bincount(indices, minlength=300) / 20
    counts = np.append(labels.sum(axis=0), (~labels.any(axis=1)).sum())
    lowest = np.where(
        labels.any(axis=1),
        np.where(labels, counts[:4], 1000).min(axis=1),
        counts[4],
    )
    weights = 1 / lowest
    expected = 300 * weights / weights.sum()
    np.testing.assert_allclose(times, expected, rtol=0.5, atol=0.3)
    before, after = labels.mean(axis=0), labels[indices].mean(axis=0)
    assert after.max() / after.min() < 0.15 * before.max() / before.min()


def make(data_dir, several=False):
    clips = [
        Clip(
            (i + np.arange(40) / 100).astype("float32"),
            [int(label), 3] if several else int(label),
        )
        for i, label in enumerate(LABELS)
    ]
    splits = {"train": clips, "test": clips[-1:]}
    return store(data_dir, splits, "abcd", settings={"several": several})


crop = functools.partial(data.align, seq_len=30)
crop.__name__ = "crop"


@pytest.mark.parametrize("several", [False, True])
def test_batches_are_balanced_when_asked(tmp_path, several):
    audio_data = make(tmp_path, several)
    batches = data.prepare(audio_data, [crop], COUNT, balance=True)
    assert batches.steps_per_epoch == 1
    for _, labels in take(batches.train(), 3):
        if several:
            assert labels.sum(axis=0).tolist() == [13, 13, 13, COUNT]
        else:
            assert np.bincount(labels).tolist() == [13, 13, 13]
    ((_, labels),) = batches.evaluation["test"]
    assert len(labels) == 1


def test_a_clip_that_comes_twice_in_a_pass_is_cropped_anew(tmp_path):
    batches = data.prepare(make(tmp_path), [crop], COUNT, balance=True)
    ((audio, labels),) = take(batches.train(), 1)
    starts = audio[labels == 2, 0]
    assert len(np.unique(starts)) > 6


@pytest.mark.parametrize("first_step", [1, 7, 20])
def test_balanced_batches_are_the_same_after_a_resumption(tmp_path, first_step):
    audio_data = make(tmp_path)
    arguments = {"balance": True, "mixup_alpha": 0.2, "seed": 3}
    whole = data.prepare(audio_data, [crop], 4, **arguments).train()
    again = data.prepare(audio_data, [crop], 4, **arguments)
    rest = list(itertools.islice(whole, first_step + 9))[first_step:]
    assert_equal_batches(take(again.train(first_step), 9), rest)


def test_a_wrong_value_is_named(tmp_path):
    with pytest.raises(ValueError, match="`balance`.*balance=1"):
        data.prepare(make(tmp_path), [crop], 4, balance=1)
