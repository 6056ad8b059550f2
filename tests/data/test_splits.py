"""Drawn splits: stratified by label, stable; folds."""

import collections
import hashlib
import math
import time
import unicodedata

import pytest

from leaf_audio.data import splits, stratified
from leaf_audio.data.entries import Entry

pytestmark = pytest.mark.any_backend

NONE = {"validation": None, "test": None}


def entries(n_files, labels="abcdefgh", **options):
    return [
        Entry(f"{label}/{i}.wav", (label,), **options)
        for label in labels
        for i in range(n_files)
    ]


def assign(some, folds=NONE, **fractions):
    found = splits.assign_splits(some, NONE | fractions, folds)
    return {(r.file, r.start): r.split for r in found}


def counts(some, **fractions):
    """Counts the files of each label in each split."""
    drawn = assign(some, **fractions)
    return collections.Counter(
        (*entry.labels, drawn[entry.file, entry.start]) for entry in some
    )


@pytest.mark.parametrize(
    "n_files, fractions",
    [
        (5, {}),
        (9, {}),
        (40, {}),
        (200, {}),
        (5, {"validation": 0.2, "test": 0.2}),
        (20, {"validation": 0.05, "test": 0.6}),
        (30, {"validation": 0, "test": 0.5}),
    ],
)
def test_each_split_holds_about_its_share_of_each_label(n_files, fractions):
    some = entries(n_files)
    found = counts(some, **fractions)
    shares = splits.choose_fractions(NONE | fractions)
    shares["train"] = 1 - sum(shares.values())
    for split, share in shares.items():
        for label in "abcdefgh":
            least = max(1, int(share * n_files / 2)) if share else 0
            most = math.ceil(1.5 * share * n_files - 1e-9)
            assert least <= found[label, split] <= most


def test_a_share_of_less_than_half_a_file_takes_no_file_by_force():
    found = counts(entries(60), test=1e-6)
    assert not any(found[label, "test"] for label in "abcdefgh")


def test_the_files_that_are_moved_are_the_nearest_in_hash():
    some = entries(10, [f"label {i}" for i in range(60)])
    found = assign(some, validation=0, test=0.2)
    counted = collections.Counter()
    for i in range(60):
        files = [e.file for e in some if e.labels == (f"label {i}",)]
        draws = {
            file: int(hashlib.sha256(file.encode()).hexdigest()[:16], 16)
            / 2**64
            for file in files
        }
        drawn = sum(draw < 0.2 for draw in draws.values())
        # The share is 2 files. From 1 to 3 are allowed.
        kept = min(max(drawn, 1), 3)
        expected = set(sorted(files, key=draws.get)[:kept])
        assert {f for f in files if found[f, None] == "test"} == expected
        counted[kept - drawn > 0, kept - drawn < 0] += 1
    # Some got too few by the hash, and some too many.
    assert counted[True, False] > 3 and counted[False, True] > 3


def test_a_label_of_one_file_is_for_training():
    some = entries(30, "a") + [
        Entry(f"{i}/only.wav", (str(i),)) for i in range(40)
    ]
    assert all(counts(some)[str(i), "train"] == 1 for i in range(40))


def test_a_file_keeps_its_split_when_files_are_added():
    some = entries(40)
    before = assign(some)
    more = (
        some
        + entries(40, "xyz")
        + [Entry(f"a/new {i}.wav", ("a",)) for i in range(100)]
    )
    after = assign(more)
    moved = [key for key, split in before.items() if after[key] != split]
    # Only files that were moved for the sake of a label may move back.
    assert len(moved) <= 1
    assert assign(more[::-1]) == after


def test_labels_with_enough_in_each_split_are_drawn_by_the_hash_alone():
    """These are the splits of earlier versions."""
    found = assign(entries(50, "ab"))
    numbers = collections.defaultdict(list)
    for (file, _), split in found.items():
        numbers[file[0], split].append(int(file[2:-4]))
    assert numbers["a", "test"] == [20, 29, 31, 41, 45]
    assert numbers["a", "validation"] == [3, 13, 17, 19, 26, 28, 48]
    assert numbers["b", "test"] == [6, 24, 26, 40]
    assert numbers["b", "validation"] == [7, 10, 14, 30, 36, 37, 44]


def test_the_split_does_not_depend_on_the_spelling_of_accents():
    drawn = [
        [
            r.split
            for r in splits.assign_splits(
                [
                    Entry(unicodedata.normalize(form, f"é/{i}.wav"), ("é",))
                    for i in range(50)
                ],
                {"validation": 0.3, "test": 0.3},
                NONE,
            )
        ]
        for form in ("NFC", "NFD")
    ]
    assert drawn[0] == drawn[1]
    assert len(set(drawn[0])) == 3


def test_all_recordings_of_a_speaker_fall_into_one_split():
    some = [
        Entry(f"{label}/{i}.wav", (label,), speaker=f"speaker {i // 4}")
        for label in "abc"
        for i in range(80)
    ]
    found = assign(some)
    by_speaker = collections.defaultdict(set)
    for entry in some:
        by_speaker[entry.speaker].add(found[entry.file, None])
    assert len(by_speaker) == 20
    assert all(len(of_one) == 1 for of_one in by_speaker.values())
    assert len(counts(some)) == 9


def test_speakers_of_one_label_each_are_stratified():
    some = [
        Entry(f"{label}/{i}.wav", (label,), speaker=f"{label}{i // 2}")
        for label in "abcdefgh"
        for i in range(12)
    ]
    found = counts(some)
    assert len(found) == 24
    assert all(count % 2 == 0 for count in found.values())


def test_speakers_with_many_recordings_do_not_fill_a_small_split():
    for heavy in range(10):
        some = [
            Entry(f"{label}/{s}_{i}.wav", (label,), speaker=f"{label}{s}")
            for label in "ab"
            for s in range(10)
            for i in range(60 if s == heavy else 1)
        ]
        found = counts(some)
        for label in "ab":
            assert found[label, "train"] > 60
            assert found[label, "validation"] and found[label, "test"]


def test_many_speakers_beside_one_with_half_of_the_recordings_take_no_time():
    some = entries(10000, "a")
    numbers = [stratified.draw_number(entry.file) for entry in some]
    # It is drawn for the test, and belongs into training.
    heavy = some[min(range(10000), key=numbers.__getitem__)].file
    some += [Entry(heavy, ("a",), start=i, end=i + 1) for i in range(10000)]
    begin = time.monotonic()
    found = collections.Counter(assign(some).values())
    assert time.monotonic() - begin < 5
    assert found["train"] > 15000 and found["test"] > 500


@pytest.mark.parametrize("place", range(20))
def test_long_files_count_by_their_segments(place):
    lengths = (2000, 1000, 500, 200, 100, 50, 20, 10, 5, 2)
    some = [
        Entry(f"{place}/{j}.wav", ("ab"[i % 2],), start=i, end=i + 1)
        for j, length in enumerate(lengths)
        for i in range(length)
    ]
    found = collections.Counter(assign(some).values())
    assert found["train"] > sum(lengths) / 2
    assert min(found["validation"], found["test"]) > 0.03 * sum(lengths)


def test_too_few_speakers_for_a_split_are_named():
    some = [
        Entry(f"{i}.wav", ("ab"[i % 2],), speaker=f"s{i % 3}")
        for i in range(60)
    ]
    found = splits.assign_splits(some, NONE, NONE)
    with pytest.raises(ValueError, match="0.1 of 60 recordings .*groups=3"):
        splits.check_drawn(NONE, some, found)
    more = NONE | {"validation": 0.25, "test": 0.25}
    splits.check_drawn(more, some, splits.assign_splits(some, more, NONE))


def test_all_segments_of_a_file_fall_into_one_split():
    some = [
        Entry(f"{i}.wav", (label,), start=start, end=start + 1)
        for i in range(60)
        for label, start in (("a", 0.0), ("b", 1.0), ("a", 2.0))
    ]
    found = assign(some)
    for i in range(60):
        assert len({found[f"{i}.wav", start] for start in (0, 1, 2)}) == 1


@pytest.mark.parametrize(
    "speakers",
    [
        # Two speakers of a file, each of whom also speaks in others.
        lambda i: (f"s{i // 4}", f"t{i // 2}", f"s{i // 4}"),
        # Some segments without a speaker.
        lambda i: (f"s{i // 3}", None, None),
        lambda i: (None, f"s{i // 3}", None),
        # Files without a speaker between those of speakers.
        lambda i: (f"s{i // 3}", f"t{i}", None) if i % 2 else 3 * (None,),
        # A speaker who is named as a file.
        lambda i: (f"{i + 1}.wav", None, None) if i % 3 else 3 * (None,),
    ],
)
def test_files_and_speakers_are_not_torn_apart(speakers):
    some = [
        Entry(f"{i}.wav", (label,), speaker=who, start=start, end=start + 1)
        for i in range(90)
        for who, label, start in zip(
            speakers(i), "aba", (0.0, 1.0, 2.0), strict=True
        )
    ]
    found = assign(some)
    together = collections.defaultdict(set)
    for entry in some:
        split = found[entry.file, entry.start]
        together["file", entry.file].add(split)
        if entry.speaker:
            together["speaker", entry.speaker].add(split)
    assert all(len(of_one) == 1 for of_one in together.values())
    assert set(found.values()) == {"train", "validation", "test"}
    assert assign(some[::-1]) == found


def test_speakers_who_are_all_joined_leave_no_split_to_draw():
    some = [
        Entry(f"{i}.wav", ("ab"[k],), speaker=f"s{i + k}", start=k, end=k + 1)
        for i in range(40)
        for k in range(2)
    ]
    found = splits.assign_splits(some, NONE, NONE)
    with pytest.raises(ValueError, match="of 80 recordings .*groups=1"):
        splits.check_drawn(NONE, some, found)


def test_speakers_in_several_given_splits_are_told():
    some = [
        Entry(f"{i}.wav", ("ab"[i % 2],), split=split, speaker=speaker)
        for i, (split, speaker) in enumerate(
            [
                *(("train", "ann"), ("train", "bob"), ("train", None)),
                *(("test", "bob"), ("test", "eve"), ("test", None)),
            ]
        )
    ]
    found = splits.assign_splits(some, NONE, NONE)
    (sentence,) = splits.describe_torn_speakers(some, found)
    assert "several splits: 'bob'. " in sentence
    assert not splits.describe_torn_speakers(some[:3], found[:3])
    folds = [Entry("1", ("a",), fold="1", speaker="x")] + [
        Entry(f"2/{i}", ("a",), fold="2", speaker="x") for i in range(2)
    ]
    found = splits.assign_splits(folds, NONE, NONE | {"test": ["2"]})
    assert "'x'" in splits.describe_torn_speakers(folds, found)[0]


def in_folds(*names):
    return [
        Entry(f"{fold}/{label}/0.wav", (label,), fold=fold)
        for fold in names
        for label in "ab"
    ]


def test_folds_go_to_the_splits_that_name_them():
    some = in_folds("1", "2", "3", "4")
    found = assign(some, {"validation": ["3"], "test": (4,)})
    by_fold = {file[0]: split for (file, _), split in found.items()}
    assert by_fold == {
        "1": "train",
        "2": "train",
        "3": "validation",
        "4": "test",
    }
    found = assign(some, {"validation": None, "test": ["1", "2"]})
    assert sorted(found.values()) == ["test"] * 4 + ["train"] * 4


@pytest.mark.parametrize(
    "folds, message",
    [
        (NONE, r"must say which folds.*test_folds = \['3'\].*'1', '2', '3'"),
        ({"test": ["4"]}, r"test_folds=\['4'\], with the unknown \['4'\]"),
        ({"test": [3], "validation": [2, "3"]}, "'3' twice"),
    ],
)
def test_wrong_folds_are_named(folds, message):
    with pytest.raises(ValueError, match=message):
        assign(in_folds("1", "2", "3"), NONE | folds)


@pytest.mark.parametrize("names", ["3", 3, [True], [1.0]])
def test_names_of_folds_are_a_list(names):
    with pytest.raises(ValueError, match="`audio_folder.test_folds` must be a"):
        splits.check_fold_names("test", names)


def test_a_setting_that_the_folder_has_no_use_for_is_an_error():
    with pytest.raises(ValueError, match="test_folds.*has no folds"):
        assign(entries(4), {"validation": None, "test": ["1"]})
    with pytest.raises(ValueError, match="test_fraction.*brings its own"):
        assign(in_folds("1", "2"), test=0.1)
    split = [Entry("a.wav", ("a",), split="train")]
    with pytest.raises(ValueError, match="test_fraction.*brings its own"):
        assign(split, test=0.1)
    with pytest.raises(ValueError, match="validation_folds.*has no folds"):
        assign(split, {"validation": [1], "test": None})
