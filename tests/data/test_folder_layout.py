"""Folders whose names are not taken for labels."""

import pytest
from audio_files import labels_of, put, sine

from leaf_audio.data import DataWarning, folder_layout, recordings

pytestmark = pytest.mark.any_backend


def touch(root, *files):
    for file in files:
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def splits_of(root, **options):
    found = recordings.list_recordings(root, **options).recordings
    return {r.file: (*r.labels, r.split) for r in found}


@pytest.mark.parametrize(
    "names",
    [
        [f"fold{i}" for i in range(1, 11)],
        ["cv1", "cv2"],
        ["part1", "part2", "part3"],
        ["split1", "split2"],
        ["Fold_01", "Fold_02"],
        ["fold-a", "fold-b"],
        ["k-fold 1", "k-fold 2"],
        ["1st fold", "2nd fold"],
        ["fold1of5", "fold2of5"],
        ["subset 1", "subset 2"],
        ["batch_1", "batch_2"],
        ["fold1", "fold2", "background"],
        ["fold_one", "fold_two"],
        ["foldA", "foldB"],
        ["FoldOne", "FoldTwo"],
        ["first fold", "second fold"],
        ["fold_I", "fold_II", "fold_III", "fold_IV"],
        ["part ii", "part iii"],
        ["Fold 1 (train)", "Fold 2 (test)"],
        ["cv2-val", "cv3-val", "noise"],
        ["group1", "group2"],
        ["Group_01", "Group_02", "Group_03"],
    ],
)
def test_names_of_folds_are_not_taken_for_labels(tmp_path, names):
    touch(tmp_path, *[f"{name}/{i}.wav" for name in names for i in range(9)])
    with pytest.raises(ValueError, match="look like folds") as error:
        splits_of(tmp_path)
    assert names[0] in str(error.value)
    assert "index.csv, with the columns file, label and fold" in str(
        error.value
    )
    # There are no labels in the folders, so that this would not help.
    assert "test_folds" not in str(error.value)


@pytest.mark.parametrize(
    "names",
    [
        ["0", "1", "2"],
        ["fold", "unfold"],
        ["folding1", "party1", "cvs1"],
        ["part of speech 1", "part of speech 2"],
        ["part1", "whole"],
        ["class1", "class2"],
        ["sunset1", "sunset2"],
        ["group1", "noise"],
        ["group1", "group2", "noise"],
        ["group a", "group b"],
        ["part mix", "part civil"],
        ["train horn", "train bell"],
        ["test tone 1", "test tone 2"],
        ["train", "car"],
        ["test", "rehearsal"],
        ["1", "test"],
    ],
)
def test_labels_with_numbers_are_labels(tmp_path, names):
    touch(tmp_path, *[f"{name}/{i}.wav" for name in names for i in range(9)])
    assert {label for label, _ in splits_of(tmp_path).values()} == set(names)


@pytest.mark.parametrize(
    "names",
    [
        ["Train", "Test"],
        ["train", "Test"],
        ["train", "val"],
        ["TRAINING", "validation"],
        ["train1", "train2"],
        ["train_1", "train_2", "test"],
        ["dev", "eval"],
    ],
)
@pytest.mark.parametrize("below", ["", "a/", "b/c/"])
def test_names_of_splits_are_not_taken_for_labels(tmp_path, names, below):
    for name in names:
        touch(tmp_path, *[f"{name}/{below}{i}.wav" for i in range(9)])
    with pytest.raises(
        ValueError, match="must name its splits train, val"
    ) as e:
        splits_of(tmp_path)
    if names[0] != "train" or not below:
        assert names[0] in str(e.value) and "index.csv" in str(e.value)


def test_files_directly_in_splits_are_named_with_what_to_do(tmp_path):
    touch(tmp_path, "train/1.wav", "test/2.wav")
    with pytest.raises(ValueError, match="test/2.wav.* index.csv with the col"):
        splits_of(tmp_path)


def test_folds_below_splits_are_not_taken_for_labels(tmp_path):
    for split in ("train", "test"):
        for fold in ("fold1", "fold2"):
            touch(tmp_path, f"{split}/{fold}/x.wav")
    with pytest.raises(ValueError, match="look like folds") as error:
        splits_of(tmp_path)
    assert "test_folds" not in str(error.value)


def test_an_index_can_say_that_such_names_are_labels(tmp_path):
    names = ("part1", "part2")
    files = [f"{name}/{i}.wav" for name in names for i in range(9)]
    touch(tmp_path, *files)
    lines = [f"{file},{file[:5]}" for file in files]
    (tmp_path / "index.csv").write_text("\n".join(["file,label", *lines]))
    assert {label for label, _ in splits_of(tmp_path).values()} == set(names)


@pytest.fixture
def fold_tree(tmp_path):
    root = tmp_path / "folds"
    for fold in range(1, 5):
        for label in ("no", "yes"):
            hz = 300 + fold + 50 * (label == "yes")
            put(root / f"fold{fold}" / label / "x.wav", sine(hz))
    return root


def test_folds_above_labels_are_chosen_by_settings(fold_tree, read_folder):
    with pytest.raises(ValueError, match="look like folds") as error:
        read_folder(fold_tree)
    assert "audio_folder.validation_folds = ['fold3']" in str(error.value)
    assert "audio_folder.test_folds = ['fold4']" in str(error.value)
    result = read_folder(
        fold_tree, validation_folds=["fold3"], test_folds=["fold4"]
    )
    assert result.counts == {"train": 4, "validation": 2, "test": 2}
    assert labels_of(result) == ["no", "yes", "no", "yes"]
    other = read_folder(fold_tree, test_folds=["fold1", "fold4"])
    assert other.counts == {"train": 4, "test": 4}
    assert other.fingerprint != result.fingerprint


def test_folds_that_are_not_there_or_hold_no_labels_are_named(fold_tree):
    with pytest.raises(ValueError, match=r"'fold4'\].*unknown \['fold5'\]"):
        splits_of(fold_tree, test_folds=["fold5"])
    touch(fold_tree, "fold2/stray.wav")
    with pytest.raises(ValueError, match="fold2/stray.wav.*of a fold"):
        splits_of(fold_tree, test_folds=["fold1"])


@pytest.mark.parametrize(
    "below",
    [
        ("train", "test"),
        ("Train", "Val", "Test"),
        ("training", "validation"),
        ("fold1", "fold2", "fold3"),
        ("cv_1", "cv_2"),
    ],
)
def test_splits_and_folds_below_labels_are_not_mixed(tmp_path, below):
    for label in ("no", "yes"):
        touch(tmp_path, *[f"{label}/{name}/{label}.wav" for name in below])
    with pytest.raises(ValueError, match="above those of labels") as error:
        splits_of(tmp_path)
    assert all(name in str(error.value) for name in below)
    assert "index.csv" in str(error.value)


@pytest.mark.parametrize(
    "below",
    [("2026", "2027"), ("part1", "part2"), ("test",), ("test", "rehearsal")],
)
def test_other_folders_below_labels_are_no_splits(tmp_path, below):
    for label in ("no", "yes"):
        for name in below:
            touch(tmp_path, *[f"{label}/{name}/{i}.wav" for i in range(9)])
    assert {label for label, _ in splits_of(tmp_path).values()} == {"no", "yes"}


def test_many_folds_are_named_in_part(tmp_path):
    touch(tmp_path, *[f"fold{i}/{i}.wav" for i in range(40)])
    with pytest.raises(ValueError, match=r" and 30 more\], which look"):
        splits_of(tmp_path)
    assert folder_layout.looks_like_fold("fold 7", {"fold"})
    assert not folder_layout.looks_like_fold("fold", {"fold"})


@pytest.mark.parametrize(
    "places", [["{label}"], ["train/{label}", "validation/{label}"]]
)
def test_an_empty_folder_beside_labels_is_told(tmp_path, read_folder, places):
    for place in places:
        for label in "ab":
            for i in range(8):
                put(tmp_path / "in" / place.format(label=label) / f"{i}.wav")
    root = (tmp_path / "in" / places[0]).parent
    (root / "c" / "deep").mkdir(parents=True)
    (root / "c" / ".DS_Store").touch()
    (root / ".cache").mkdir()
    with pytest.warns(DataWarning, match="without any file .* labels: 'c'[.]"):
        found = read_folder(tmp_path / "in")
    assert found.label_names == ("a", "b")
