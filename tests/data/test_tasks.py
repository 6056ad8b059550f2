"""Several data sets joined into one: labels, order by weights, errors."""

import functools
import itertools

import numpy as np
import pytest
from stored import Clip, store
from test_batches import assert_equal_batches, take

from leaf_audio import data
from leaf_audio.data.tasks import (
    JoinedClips,
    ShuffledOrder,
    TaskOrder,
    task_numbers,
)

pytestmark = pytest.mark.any_backend

COUNTS = (30, 6)
LABELS = {"animals": "xyz", "words": "ab"}
LENGTH = 40


def clip(value, label):
    """A clip that all samples tell by their value, in steps of 1/64."""
    return Clip(np.full(LENGTH, value / 64, "float32"), label, f"clip {value}")


def ramp(value, label):
    """A clip that is not the same value throughout, as silence is."""
    samples = (value + np.linspace(0, 1, LENGTH)) / 64
    return Clip(samples.astype("float32"), label, f"clip {value}")


def reader(name, counts, first=0, make=clip, **changes):
    """A reader of a data set with `counts` clips in each split."""
    labels = LABELS[name]

    def read(data_dir=None, fallback_sample_rate=16000, for_training=True):
        numbers = itertools.count(first)
        return store(
            data_dir,
            {
                split: [make(next(numbers), i % len(labels)) for i in range(n)]
                for split, n in counts.items()
            },
            labels,
            name=name,
            **{"sample_rate": fallback_sample_rate, **changes},
        )

    return read


SETS = {
    "words": reader("words", {"train": COUNTS[1], "test": 2}, first=40),
    "animals": reader("animals", {"train": COUNTS[0], "test": 3}),
}


def load(folder, sets=SETS, **settings):
    return data.load(
        "tasks",
        data_dir=str(folder),
        readers={"tasks": functools.partial(data.tasks, sets=sets, **settings)},
    )


def order(weights, seed=0):
    orders = [ShuffledOrder(count, seed) for count in COUNTS]
    return TaskOrder(orders, COUNTS, weights, seed)


def first(an_order, number):
    return np.array([an_order(position) for position in range(number)])


@pytest.mark.parametrize(
    "weights, expected",
    [((1, 1), (18, 18)), ((3, 1), (27, 9)), ((1, 17), (2, 34))],
)
def test_each_pass_has_the_clips_of_tasks_in_proportion_to_the_weights(
    weights, expected
):
    length = sum(expected)
    passes = first(order(weights), 5 * length).reshape(5, length)
    for one in passes:
        assert ((one < COUNTS[0]).sum(), (one >= COUNTS[0]).sum()) == expected


@pytest.mark.parametrize("weights", [(1, 1000), (1000, 1), (0.3, 0.7), (1, 7)])
def test_shares_are_exact_over_all_passes(weights):
    made = order(weights)
    share = weights[1] / sum(weights)
    for position in (36, 360, 3600, 36000):
        # At the end of a pass, whose positions are shuffled.
        near = range(position - 3, position + 4)
        own = np.cumsum([made(i) >= COUNTS[0] for i in range(position + 4)])
        assert min(abs(own[i - 1] - share * i) for i in near) <= 1


def test_every_clip_of_a_task_comes_once_before_one_comes_again():
    indices = first(order((1, 1)), 4 * 36)
    for begin, count in ((0, 30), (30, 6)):
        own = indices[(begin <= indices) & (indices < begin + count)] - begin
        # A pass of the task may end within a pass of all, which is shuffled.
        times = np.bincount(own, minlength=count)
        assert times.max() - times.min() <= 1


def test_tasks_are_mixed_within_a_pass_and_passes_differ():
    one, two = first(order((1, 1)), 72).reshape(2, 36)
    assert one.tobytes() != two.tobytes()
    assert first(order((1, 1), seed=1), 36).tobytes() != one.tobytes()
    changes = (np.diff(one >= COUNTS[0]) != 0).sum()
    assert 8 < changes < 28


def test_labels_and_clips_are_those_of_each_task_in_turn(tmp_path):
    found = load(tmp_path, weights={"words": 2, "animals": 0.5})
    assert found.label_names == (
        *("animals/x", "animals/y", "animals/z"),
        *("words/a", "words/b"),
    )
    assert [(one.name, one.weight) for one in found.tasks] == [
        ("animals", 0.5),
        ("words", 2.0),
    ]
    assert found.counts == {"train": 36, "test": 5}
    train = found.clips["train"]
    assert train.labels[:4].tolist() == [0, 1, 2, 0]
    assert train.labels[30:].tolist() == [3, 4, 3, 4, 3, 4]
    numbers = task_numbers(found.tasks, train.labels)
    assert np.bincount(numbers).tolist() == [30, 6]
    for in_memory in (False, True):
        read = train.reader(in_memory)
        for index, value in ((0, 0), (29, 29), (30, 40), (35, 45)):
            audio, label = read(index, 10, 15)
            np.testing.assert_allclose(audio, value / 64, atol=1e-4)
            assert (len(audio), label) == (5, train.labels[index])


def batches(folder, **settings):
    align = functools.partial(data.align, seq_len=20)
    return data.prepare(load(folder), [align], batch_size=8, **settings)


@pytest.mark.parametrize("balance", [False, True])
def test_batches_are_the_same_from_any_first_step(tmp_path, balance):
    made = batches(tmp_path, balance=balance)
    whole = take(made.train(), 12)
    assert_equal_batches(take(made.train(first_step=7), 5), whole[7:])
    labels = np.concatenate([labels for _, labels in whole])
    # 96 clips are two passes and 24 of the third.
    assert 0.4 < (labels < 3).mean() < 0.6


def test_balance_is_for_the_labels_of_each_task(tmp_path):
    made = batches(tmp_path, balance=True)
    labels = np.concatenate([own for _, own in take(made.train(), 9)])
    counts = np.bincount(labels)
    assert counts[:3].sum() == counts[3:].sum() == 36
    assert np.ptp(counts[:3]) <= 2 and np.ptp(counts[3:]) <= 2


def test_two_states_of_a_data_set_have_two_fingerprints(tmp_path):
    other = {**SETS, "words": reader("words", {"train": 6, "test": 2}, 50)}
    found = {
        load(tmp_path / "one").fingerprint,
        load(tmp_path / "other", other).fingerprint,
    }
    assert len(found) == 2
    assert load(tmp_path / "again").fingerprint in found


def test_groups_of_tasks_stay_apart(tmp_path):
    found = load(tmp_path)
    assert found.clips["test"].groups is None
    parts = found.clips["test"].joined
    parts[1].groups = np.array([7, 7])
    joined = JoinedClips(dict(zip((0, 3), parts, strict=True)))
    assert joined.groups.tolist() == [0, 1, 2, 3, 3]


def test_a_task_without_validation_has_no_clips_there(tmp_path):
    splits = {"train": 4, "validation": 3, "test": 2}
    animals = {"train": COUNTS[0], "test": 3}
    sets = {
        "words": reader("words", splits, first=40, make=ramp),
        "animals": reader("animals", animals, make=ramp),
    }
    found = load(tmp_path, sets)
    assert list(found.clips) == ["train", "validation", "test"]
    # The labels of the animals come first.
    assert found.clips["validation"].labels.tolist() == [3, 4, 3]
    read = found.clips["validation"].reader()
    assert [read(i)[0][0] * 64 for i in range(3)] == [44, 45, 46]
    (warning,) = found.warnings
    assert warning.startswith("animals: There are no clips for validation")


@pytest.mark.parametrize(
    "sets",
    [
        None,
        {},
        ["words"],
        {"a/b": "speech_commands"},
        {"": "speech_commands"},
        {"words": 3},
        {"..": "speech_commands"},
        {"a": "speech_commands", "a_b": "speech_commands"},
    ],
)
def test_wrong_sets_are_named(tmp_path, sets):
    message = "`sets` must (be a dictionary|have names)"
    with pytest.raises(ValueError, match=message):
        load(tmp_path, sets)


def test_a_reader_that_was_called_is_told_to_be_none(tmp_path):
    called = SETS["words"](data_dir=tmp_path)
    with pytest.raises(ValueError, match="without parentheses.*'words'"):
        load(tmp_path, {"words": called})


def test_a_reader_must_return_one_data_set(tmp_path):
    for sets in (
        {"words": lambda **_: 3},
        {"both": lambda **kwargs: data.tasks(SETS, **kwargs)},
    ):
        with pytest.raises(ValueError, match="return a data set each"):
            load(tmp_path, sets)


@pytest.mark.parametrize(
    "weights, named",
    [
        ({"words": 1}, r"`weights` must be .*\['animals', 'words'\]"),
        ({"words": 1, "animals": 1, "x": 1}, "`weights` must be"),
        ([1, 2], "`weights` must be"),
        ({"words": 0, "animals": 1}, r"weights\['words'\]=0"),
        ({"words": "1", "animals": 1}, r"weights\['words'\]='1'"),
    ],
)
def test_wrong_weights_are_named(tmp_path, weights, named):
    with pytest.raises(ValueError, match=named):
        load(tmp_path, weights=weights)


def test_data_sets_that_do_not_fit_each_other_are_named(tmp_path):
    words = SETS["words"]
    split = {"words": words, "animals": reader("animals", {"train": 3})}
    with pytest.raises(ValueError, match="the same splits.*animals with"):
        load(tmp_path, split)
    rate = reader("animals", {"train": 3, "test": 2}, sample_rate=8000)
    with pytest.raises(ValueError, match="one sample rate.*words with 16000"):
        load(tmp_path, {"words": words, "animals": rate})


def test_clips_with_several_labels_are_refused(tmp_path):
    def several(data_dir, fallback_sample_rate, for_training):
        clips = [Clip(np.ones(40, "float32"), [0, 1], "a")]
        return store(
            data_dir,
            {"train": clips, "test": clips},
            "ab",
            sample_rate=fallback_sample_rate,
        )

    with pytest.raises(ValueError, match="one label for each clip.*tags"):
        load(tmp_path, {**SETS, "tags": several})


def test_mixup_is_refused(tmp_path):
    with pytest.raises(ValueError, match="`mixup_alpha` must be 0"):
        batches(tmp_path, mixup_alpha=0.2)


def test_two_views_have_no_tasks_and_the_numbers_of_their_clips(tmp_path):
    made = batches(tmp_path, views=2)
    audio, labels = take(made.train(), 1)[0]
    assert made.tasks == ()
    assert audio.shape == (8, 2, 20)
    # The value of a sample tells the clip.
    first = {
        int(number): round(64 * float(views.max()))
        for views, number in zip(audio, labels, strict=True)
    }
    assert len({*first.values()}) == len(first)


def test_audio_in_splits_of_two_tasks_is_told(tmp_path):
    sets = {
        "words": reader("words", {"train": 6, "test": 2}, 40, ramp),
        # Its values 40 to 42, in the test split, are those of the other's
        # first training clips.
        "animals": reader("animals", {"train": 20, "test": 3}, 20, ramp),
    }
    with pytest.warns(data.DataWarning, match="several splits") as caught:
        found = load(tmp_path, sets)
    (told,) = found.warnings
    assert told == str(caught[0].message)
    assert "train has 3 clips of test" in told
    assert "'animals: clip 40' (there 'words: clip 40')" in told


def test_clips_of_joined_sets_have_the_names_of_their_sets(tmp_path):
    clips = load(tmp_path).clips["test"]
    assert [clips.source_of(i) for i in range(len(clips))] == [
        *("clip 30", "clip 31", "clip 32", "clip 46", "clip 47"),
    ]


def test_a_reader_of_other_arguments_is_named(tmp_path):
    with pytest.raises(ValueError, match="`tasks.sets` must hold .*lambda"):
        load(tmp_path, {**SETS, "words": lambda path: None})
