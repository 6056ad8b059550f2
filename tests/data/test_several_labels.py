"""Several labels for each clip: index.csv, splits, storage, batches."""

import collections
import functools
import itertools
import math
import pathlib
import warnings

import numpy as np
import pytest
from audio_files import audio_of, put, sine
from stored import Clip, store

from leaf_audio import data
from leaf_audio.data import DataWarning, index_csv, mixup, splits
from leaf_audio.data.entries import Entry

pytestmark = pytest.mark.any_backend

# By file: the labels and the split.
CLIPS = {
    "0.wav": ("dog;rain", "train"),
    "1.wav": ("rain", "train"),
    "2.wav": ("wind ; dog", "train"),
    "3.wav": ("dog", "validation"),
    "4.wav": ("dog;rain;wind", "test"),
}
NAMES = ("dog", "rain", "wind")
TARGETS = {
    "train": [[1, 1, 0], [0, 1, 0], [1, 0, 1]],
    "validation": [[1, 0, 0]],
    "test": [[1, 1, 1]],
}
NONE = {"validation": None, "test": None}


def write_index(root, clips=CLIPS, header="file,labels,split"):
    for i, file in enumerate(clips):
        if not (root / file).exists():
            put(root / file, sine(300 + 10 * i))
    lines = [",".join((file, *values)) for file, values in clips.items()]
    (root / "index.csv").write_text("\n".join([header, *lines]) + "\n")
    return root


@pytest.fixture
def several(tmp_path):
    return write_index(tmp_path / "several")


@pytest.fixture
def read_several(read_folder):
    """Reads a folder whose validation lacks two labels."""

    def read(path, **options):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DataWarning)
            return read_folder(path, **options)

    return read


def test_a_column_of_labels_makes_targets_of_all_labels(several, read_several):
    for _ in range(2):  # prepared, then read back
        result = read_several(several)
        assert result.label_names == NAMES
        assert result.is_multilabel
        for split, expected in TARGETS.items():
            clips = result.clips[split]
            assert clips.labels.dtype == bool
            np.testing.assert_array_equal(clips.labels, expected)
            audio, target = clips.reader()(0)
            assert (audio.dtype, target.dtype) == (np.float32, np.float32)
            assert target.tolist() == expected[0]
    assert result.used_labels == {
        "train": set(NAMES),
        "validation": {"dog"},
        "test": set(NAMES),
    }
    pairs = list(result.splits["train"].as_numpy_iterator())
    np.testing.assert_array_equal([t for _, t in pairs], TARGETS["train"])


def test_labels_that_a_split_lacks_are_warned_of(several, read_folder):
    with pytest.warns(DataWarning, match="validation lacks 'rain', 'wind'"):
        read_folder(several)


def test_one_label_a_clip_stays_an_integer(folder, read_folder):
    result = read_folder(folder)
    assert not result.is_multilabel
    assert result.clips["train"].labels.shape == (6,)
    assert result.clips["train"].count_labels(2).tolist() == [3, 3]


def test_a_column_of_labels_with_one_each_is_of_several(
    folder, read_folder, tmp_path
):
    clips = {
        file.relative_to(folder).as_posix(): (
            file.parent.name,
            file.parent.parent.name,
        )
        for file in sorted(folder.rglob("*.wav"))
    }
    single = read_folder(write_index(folder, clips, "file,label,split"))
    several = read_folder(write_index(folder, clips))
    assert several.is_multilabel and not single.is_multilabel
    assert several.fingerprint != single.fingerprint
    for split, some in single.clips.items():
        np.testing.assert_array_equal(
            several.clips[split].labels.argmax(axis=1), some.labels
        )


def test_the_separator_can_be_chosen(several, read_several):
    clips = {
        file: (labels.replace(";", " | "), split)
        for file, (labels, split) in CLIPS.items()
    }
    write_index(several, clips)
    result = read_several(several, label_separator="|")
    assert result.label_names == NAMES
    np.testing.assert_array_equal(
        result.clips["train"].labels, TARGETS["train"]
    )


def test_clips_without_any_label_are_taken_when_asked(several, read_several):
    clips = {**CLIPS, "5.wav": (" ", "train"), "6.wav": ("", "test")}
    write_index(several, clips)
    message = r"`labels` must be given in line 7 of .*index.csv. Received: "
    message += r"file='5.wav', labels=' '.*allow_unlabelled = True"
    with pytest.raises(ValueError, match=message):
        read_several(several)
    result = read_several(several, allow_unlabelled=True)
    assert result.counts == {"train": 4, "validation": 1, "test": 2}
    assert not result.clips["train"].labels[3].any()
    assert len(audio_of(result)) == 4


def test_one_label_is_enough_where_some_clips_lack_it(several, read_folder):
    clips = {
        f"{i}.wav": ("dog" * (i % 2), "train" if i < 4 else "test")
        for i in range(7)
    }
    result = read_folder(write_index(several, clips), allow_unlabelled=True)
    assert result.label_names == ("dog",)
    assert result.clips["train"].labels.tolist() == [[0], [1], [0], [1]]
    all_have_it = {file: ("dog", split) for file, (_, split) in clips.items()}
    with pytest.raises(ValueError, match=r"not all recordings share.*'dog'"):
        read_folder(write_index(several, all_have_it))


@pytest.mark.parametrize(
    "cell, message",
    [
        ("a;b;a", "name each label once in line 2 .*'a;b;a', with 'a' more"),
        ("a; a ", "name each label once in line 2 .*'a; a ', with 'a' more"),
        ("a;;b", "before and after each ';' in line 2 .*'a;;b', with an empty"),
        ("a;b;", "before and after each ';' in line 2 .*'a;b;'"),
        (";", "before and after each ';' in line 2"),
        ("", "`file` and `labels` must be given in line 2"),
    ],
)
def test_wrong_labels_are_named_with_their_line(tmp_path, cell, message):
    (tmp_path / "index.csv").write_text(f"file,labels\nx.wav,{cell}\n")
    with pytest.raises(ValueError, match=message):
        index_csv.read_index(tmp_path)


@pytest.mark.parametrize(
    "header, message",
    [
        ("file,label,labels", "one of the columns label, .*with both"),
        ("file,tags", "unknown 'tags'. Did you mean 'labels'"),
        ("file,classes", "unknown 'classes'. Did you mean 'labels'"),
        ("labels,split", r"columns file and label \(or labels\)"),
    ],
)
def test_wrong_columns_of_labels_are_named(tmp_path, header, message):
    (tmp_path / "index.csv").write_text(f"{header}\n")
    with pytest.raises(ValueError, match=message):
        index_csv.read_index(tmp_path)


def test_a_file_listed_once_for_each_label_is_told_the_remedy(tmp_path):
    (tmp_path / "index.csv").write_text("file,label\nx.wav,a\nx.wav,b\n")
    with pytest.raises(ValueError, match="twice.*in a column labels instead"):
        index_csv.read_index(tmp_path)


def test_labels_that_look_like_several_are_warned_of(folder, read_folder):
    clips = {
        file.relative_to(folder).as_posix(): ("a;b" if i % 2 else "a", "train")
        for i, file in enumerate(sorted(folder.rglob("*.wav")))
    }
    write_index(folder, clips, "file,label,split")
    with pytest.warns(DataWarning, match="hold ';': 'a;b'. Each of them is"):
        result = read_folder(folder)
    assert result.label_names == ("a", "a;b")


@pytest.mark.parametrize("separator", ["|", ", ", "/", ";", "+"])
def test_another_separator_is_warned_of(tmp_path, read_folder, separator):
    joined = f"a{separator}b"
    clips = {
        f"{i}.wav": (f'"{labels}"', "train")
        for i, labels in enumerate(["a", "b", joined, f"b{separator}d"])
    }
    options = {"label_separator": ":"} if separator == ";" else {}
    with pytest.warns(DataWarning) as caught:
        read_folder(write_index(tmp_path / "x", clips), **options)
    ((message,),) = [one.message.args for one in caught]
    named = separator.strip()
    assert f"hold {named!r}" in message and f": {joined!r}. " in message
    assert f"bind audio_folder.label_separator = {named!r}." in message


def test_a_wrong_separator_is_named_where_it_makes_labels_that_are_lost(
    several, read_several
):
    message = r"every label.*'dog;rain;wind'.*If ';' stands between two "
    message += "labels, bind audio_folder.label_separator = ';'"
    with pytest.raises(ValueError, match=message):
        read_several(several, label_separator=",")


def test_names_that_hold_a_separator_are_not_warned_of(tmp_path, read_folder):
    labels = ["rock/pop", "rock", "jazz;rock", "R&B/soul", '"folk, indie"']
    clips = {f"{i}.wav": (one, "train") for i, one in enumerate(labels)}
    with warnings.catch_warnings():
        warnings.simplefilter("error", DataWarning)
        read_folder(write_index(tmp_path / "x", clips))


@pytest.mark.parametrize(
    "options", [{"label_separator": "|"}, {"allow_unlabelled": True}]
)
@pytest.mark.parametrize("has_index", [False, True])
def test_settings_of_several_labels_need_the_column(
    folder, read_folder, options, has_index
):
    if has_index:
        write_index(folder, {"train/no/0.wav": ("a", "train")}, "file,label,x")
    ((name, value),) = options.items()
    with pytest.raises(ValueError, match=f"`audio_folder.{name}` must be .*"):
        read_folder(folder, **options)


def test_labels_are_stored_as_bits(several, read_several):
    result = read_several(several)
    path = pathlib.Path(result.path)
    with np.load(path / "train.npz") as arrays:
        assert "labels" not in arrays
        assert arrays["label_bits"].dtype == np.uint8
        assert arrays["label_bits"].shape == (3, 1)


def test_a_skipped_file_leaves_the_targets_of_the_others(several, read_several):
    (several / "1.wav").write_bytes(b"")
    result = read_several(several, on_error="skip")
    np.testing.assert_array_equal(
        result.clips["train"].labels, [[1, 1, 0], [1, 0, 1]]
    )
    (several / "2.wav").write_bytes(b"")
    with pytest.raises(ValueError, match=r"every label.*\['wind'\]"):
        read_several(several, on_error="skip")


def test_labels_are_numbered_anew_for_a_model(several, read_several):
    result = read_several(several)
    more = result.relabelled(["wind", "cat", "rain", "dog"])
    assert more.clips["train"].labels.tolist() == [
        [False, False, True, True],
        [False, False, True, False],
        [True, False, False, True],
    ]
    with pytest.raises(ValueError, match=r"trained for.*'dog', 'rain'.*'wind'"):
        result.relabelled(["dog", "rain"])
    with pytest.raises(ValueError, match="one label for each clip.*several"):
        result.relabelled(NAMES, is_multilabel=False)


def test_one_label_becomes_targets_for_a_model_of_several(folder, read_folder):
    single = read_folder(folder)
    several = single.relabelled(["yes", "maybe", "no"], is_multilabel=True)
    assert several.is_multilabel
    expected = [[0, 0, 1]] * 3 + [[1, 0, 0]] * 3
    np.testing.assert_array_equal(several.clips["train"].labels, expected)
    assert several.used_labels["train"] == {"yes", "no"}


def random_entries(count, labels, seed=0, **options):
    rng = np.random.default_rng(seed)
    shares = 1 / np.arange(1, labels + 1)
    shares /= shares.sum()
    return [
        Entry(
            f"{seed}/{i}.wav",
            tuple(
                f"label {k}"
                for k in rng.choice(
                    labels, rng.integers(4), replace=False, p=shares
                )
            ),
            **options,
        )
        for i in range(count)
    ]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("count, labels", [(80, 6), (300, 20)])
def test_drawn_splits_hold_their_share_of_each_label(count, labels, seed):
    some = random_entries(count, labels, seed)
    drawn = splits.assign_splits(some, NONE, NONE)
    found = collections.Counter(
        (label, one.split) for one in drawn for label in one.labels or ("",)
    )
    totals = collections.Counter(
        label for one in drawn for label in one.labels or ("",)
    )
    for label, total in totals.items():
        for split, share in (("validation", 0.1), ("test", 0.1)):
            least = max(int(share * total / 2), share * total >= 0.5)
            most = math.ceil(1.5 * share * total - 1e-9)
            assert least <= found[label, split] <= most, (label, split)
    assert splits.assign_splits(some[::-1], NONE, NONE) == drawn[::-1]


def batches_of(several, read_several, batch_size=2):
    return data.prepare(
        read_several(several), [lambda samples: samples[:100]], batch_size
    )


def test_batches_hold_targets_of_all_labels(several, read_several):
    batches = batches_of(several, read_several)
    assert batches.is_multilabel and batches.num_labels == 3
    for _, targets in itertools.islice(batches.train(), 3):
        assert (targets.shape, targets.dtype) == ((2, 3), np.float32)
        assert all(row in TARGETS["train"] for row in targets.tolist())
    ((_, targets),) = batches.evaluation["test"]
    assert targets.tolist() == TARGETS["test"]


def test_clips_of_several_labels_have_groups_and_chunks(several, read_several):
    speakers = "xxyzz"
    clips = {
        file: (*values, speaker)
        for (file, values), speaker in zip(CLIPS.items(), speakers, strict=True)
    }
    write_index(several, clips, "file,labels,split,speaker")
    result = read_several(several)
    assert result.clips["train"].groups.tolist() == [0, 0, 1]
    more = result.relabelled((*reversed(NAMES), "new"))
    assert more.clips["train"].groups.tolist() == [0, 0, 1]
    assert more.clips["train"].labels.shape == (3, 4)
    read = more.clips["test"].reader()
    whole, _ = read(0)
    part, target = read(0, 100, 300)
    np.testing.assert_array_equal(part, whole[100:300])
    assert target.tolist() == [1, 1, 1, 0]
    length = len(whole) // 2
    batches = data.prepare(
        more,
        [functools.partial(data.align, seq_len=length)],
        evaluation_hop=length,
    )
    chunks, numbers = batches.chunks("test")
    ((audio, targets),) = chunks
    assert audio.shape == (len(numbers), length) and len(numbers) >= 2
    np.testing.assert_array_equal(targets, [[1, 1, 1, 0]] * len(numbers))
    assert batches.labels["test"].dtype == bool


def test_mixup_mixes_targets_of_several_labels(several, read_several):
    batches = data.prepare(
        read_several(several),
        [lambda samples: samples[:100]],
        3,
        mixup_alpha=1.0,
    )
    plain = batches_of(several, read_several, 3)
    _, mixed = next(iter(batches.train()))
    _, targets = next(iter(plain.train()))
    rng = batches._generator(0)
    expected = mixup.mixup(np.zeros((3, 1), np.float32), targets, 1.0, rng)[1]
    np.testing.assert_allclose(mixed, expected, rtol=1e-6)
    assert ((mixed > 0) & (mixed < 1)).any()


def test_a_reader_stores_a_list_of_labels_for_each_clip(tmp_path):
    silence = np.zeros(5, np.float32)
    clips = [Clip(silence, [0, 1]), Clip(silence, [])]
    result = store(tmp_path, {"train": clips}, "ab")
    assert result.clips["train"].labels.tolist() == [
        [True, True],
        [False, False],
    ]
