"""Listing a folder: layouts, labels, splits, index.csv."""

import csv
import errno
import os
import shutil
import unicodedata

import numpy as np
import pytest
import soundfile
from audio_files import RATE, audio_of, labels_of, put, sine

from leaf_audio import data
from leaf_audio.data import recordings

pytestmark = pytest.mark.any_backend


def test_split_folders_are_read_in_the_order_of_paths(folder, read_folder):
    result = read_folder(folder)
    assert result.counts == {"train": 6, "validation": 2, "test": 4}
    assert result.label_names == ("no", "yes")
    assert result.sample_rate == RATE
    assert labels_of(result, "test") == ["no", "no", "yes", "yes"]
    expected, _ = soundfile.read(folder / "test/yes/1.wav", dtype="float32")
    np.testing.assert_array_equal(audio_of(result, "test")[3], expected)


def test_other_files_and_hidden_files_are_ignored(folder, read_folder):
    (folder / "README.txt").write_text("about")
    (folder / "train/yes/.DS_Store").write_text("about")
    (folder / "train/yes/._0.wav").write_text("about")
    (folder / ".cache").mkdir()
    (folder / ".cache/x.wav").write_text("about")
    assert read_folder(folder).counts == {
        "train": 6,
        "validation": 2,
        "test": 4,
    }


def test_unicode_names_nested_folders_and_links_are_followed(
    folder, read_folder
):
    put(folder / "train/größe/a b/ça va ☂.wav")
    put(folder / "train/größe/not UTF-8.wav").rename(
        folder / "train/größe/\udcff.wav"
    )
    elsewhere = put(folder.parent / "elsewhere/x.wav").parent
    os.symlink(elsewhere, folder / "train/größe/linked")
    os.symlink(folder, folder / "train/größe/loop")
    with pytest.warns(data.DataWarning, match="validation lacks 'größe'"):
        result = read_folder(folder)
    assert result.label_names == ("größe", "no", "yes")
    assert labels_of(result).count("größe") == 3


def test_a_folder_that_cannot_be_read_is_an_error(
    folder, read_folder, monkeypatch
):
    """Otherwise its recordings would be missing without a word."""
    scan = os.scandir

    def refuse(path):
        if str(path).endswith("yes"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(PermissionError, match="denied: .*yes"):
        read_folder(folder)


@pytest.fixture
def label_tree(tmp_path):
    root = tmp_path / "labels"
    for k, label in enumerate(("no", "yes")):
        for i in range(60):
            put(root / label / f"{i}.wav", sine(200 + 60 * k + i, seconds=0.02))
    return root


def files_by_split(path, **fractions):
    found = recordings.list_recordings(path, **fractions)
    return {r.file: r.split for r in found.recordings}


def test_label_folders_are_split_in_the_asked_shares(label_tree, read_folder):
    counts = read_folder(
        label_tree, validation_fraction=0.2, test_fraction=0.3
    ).counts
    assert counts["train"] + counts["validation"] + counts["test"] == 120
    assert 12 <= counts["validation"] <= 36
    assert 22 <= counts["test"] <= 50
    counts = read_folder(
        label_tree, validation_fraction=0, test_fraction=0.2
    ).counts
    assert list(counts) == ["train", "test"]


def test_adding_and_removing_files_moves_no_other(label_tree):
    before = files_by_split(label_tree)
    for i in range(20):
        put(label_tree / f"maybe/{i}.wav")
    (label_tree / "no/7.wav").unlink()
    after = files_by_split(label_tree)
    assert set(before) - set(after) == {"no/7.wav"}
    assert {f: s for f, s in after.items() if f in before} == {
        f: s for f, s in before.items() if f in after
    }


def test_train_can_be_a_label(tmp_path):
    for label in ("train", "plane"):
        for i in range(40):
            put(tmp_path / label / f"{i}.wav", sine(200, seconds=0.01))
    assert {f.split("/")[0] for f in files_by_split(tmp_path)} == {
        "train",
        "plane",
    }
    assert set(files_by_split(tmp_path).values()) == {
        "train",
        "validation",
        "test",
    }


@pytest.mark.parametrize(
    "names",
    [
        ("Train", "Test", "val"),
        ("train", "valid"),
        ("training", "dev"),
        ("val", "test"),
        ("train_set", "test-clean"),
    ],
)
def test_splits_of_other_names_are_not_taken_for_labels(
    tmp_path, read_folder, names
):
    for name in names:
        for label in ("no", "yes"):
            put(tmp_path / name / label / "0.wav")
    with pytest.raises(ValueError, match="must name its splits") as error:
        read_folder(tmp_path)
    assert all(name in str(error.value) for name in names if name != "train")
    put(tmp_path / names[0] / "stray.wav")
    with pytest.raises(ValueError, match="must name its splits|stray"):
        read_folder(tmp_path)


def test_an_evaluation_needs_no_training_clips_and_not_all_labels(
    tmp_path, read_folder
):
    for label in ("no", "yes"):
        put(tmp_path / "splits/validation" / label / "0.wav")
    put(tmp_path / "splits/test/no/0.wav")
    put(tmp_path / "labels/no/0.wav")

    def counts(folder, **options):
        return read_folder(
            tmp_path / folder, for_training=False, **options
        ).counts

    assert counts("splits") == {"validation": 2, "test": 1}
    assert counts("labels", test_fraction=1) == {"test": 1}
    with pytest.raises(ValueError, match="without any for 'train'"):
        read_folder(tmp_path / "splits")
    with pytest.raises(ValueError, match="two labels"):
        read_folder(tmp_path / "labels", test_fraction=1)


def test_labels_may_be_called_as_splits_are(tmp_path):
    for label in ("Train", "Test", "plane"):
        for i in range(20):
            put(tmp_path / label / "2026" / f"{i}.wav", sine(200, seconds=0.01))
    labels = {f.split("/")[0] for f in files_by_split(tmp_path)}
    assert labels == {"Train", "Test", "plane"}


def write_index(root, rows, columns=("file", "label", "split", "speaker")):
    with open(root / "index.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([columns, *rows])


@pytest.fixture
def indexed(tmp_path):
    root = tmp_path / "indexed"
    rows = []
    for i, split in enumerate(["train"] * 4 + ["test"] * 2):
        put(root / "clips" / f"é{i}.flac", sine(300 + i))
        rows.append([f"clips/é{i}.flac", f"l{i % 2}", split, f"of the {split}"])
    return root, rows


def test_an_index_decides_on_labels_and_splits(indexed, read_folder):
    root, rows = indexed
    write_index(root, rows)
    result = read_folder(root)
    assert result.counts == {"train": 4, "test": 2}
    assert labels_of(result, "test") == ["l0", "l1"]


def test_an_index_without_splits_leaves_them_to_be_drawn(
    label_tree, read_folder
):
    rows = [[file, file.split("/")[0]] for file in files_by_split(label_tree)]
    drawn = files_by_split(label_tree)
    write_index(label_tree, rows, ["file", "label"])
    assert files_by_split(label_tree) == drawn


@pytest.mark.parametrize(
    "row, message",
    [
        (["clips/é0.flac", "l0", "train"], "twice.*é0.flac"),
        (["./clips/é0.flac", "l0", "train"], "twice.*é0.flac"),
        (["clips/gone.flac", "l0", "train"], "clips/gone.flac"),
        (["clips/unlisted.flac", "l0", "dev"], "unlisted.flac.*'dev'"),
        (["clips/unlisted.flac", "l0", ""], "unlisted.flac.*split=''"),
        (["clips/unlisted.flac", "", "train"], "unlisted.flac.*label=''"),
        (["clips/unlisted.flac", "l2", "test"], r"training.*\['l2'\]"),
    ],
)
def test_a_wrong_index_row_is_named(indexed, read_folder, row, message):
    root, rows = indexed
    put(root / "clips/unlisted.flac")
    write_index(root, [*rows, row])
    with pytest.raises(ValueError, match=message):
        read_folder(root)


def test_an_index_without_its_columns_is_an_error(indexed, read_folder):
    root, rows = indexed
    write_index(root, rows, ["path", "label", "split", "speaker"])
    with pytest.raises(ValueError, match="columns=.*path"):
        read_folder(root)


@pytest.mark.parametrize(
    "content",
    [
        "file,label\nx.wav,größe\n".encode("latin-1"),
        b'file,label\n"x.wav,a\n' + 30000 * b"y.wav,a\n",
    ],
)
def test_an_index_that_cannot_be_read_is_named(folder, read_folder, content):
    (folder / "index.csv").write_bytes(content)
    with pytest.raises(ValueError, match="text in UTF-8. Received: .*index"):
        read_folder(folder)


def test_a_layout_that_cannot_be_meant_is_an_error(
    folder, read_folder, tmp_path
):
    def check(message, path=folder):
        with pytest.raises(ValueError, match=message):
            read_folder(path)

    stray = put(folder / "stray.wav")
    check("stray.wav")
    stray.unlink()
    stray = put(folder / "train/stray.wav")
    check("train/stray.wav")
    stray.unlink()
    put(folder / "valid/yes/0.wav")
    check("folder='valid'")
    shutil.rmtree(folder / "valid")
    shutil.rmtree(folder / "test/no")
    put(folder / "test/maybe/0.wav")
    check(r"training.*\['maybe'\]")
    shutil.rmtree(folder / "test")
    (folder / "test").mkdir()
    check("without any for 'test'")
    put(tmp_path / "one/label/0.wav")
    check("two labels", tmp_path / "one")
    check("must hold audio files", folder / "test")
    check("must be a folder", tmp_path / "nowhere")
    check("must be a folder", folder / "train/no/0.wav")


def test_wrong_fractions_are_named(label_tree, read_folder):
    for name in ("validation_fraction", "test_fraction"):
        for value in (-0.1, 1.1, float("nan"), "some"):
            with pytest.raises(ValueError, match=f"{name}={value!r}"):
                read_folder(label_tree, **{name: value})
        with pytest.raises(ValueError, match=f"{name}=1e-06 .* too small"):
            read_folder(label_tree, **{name: 1e-6})


def test_a_changed_index_is_prepared_again(indexed, read_folder):
    root, rows = indexed
    write_index(root, rows)
    first = read_folder(root)
    rows[0][2:] = ["test", "of the test"]
    write_index(root, rows)
    second = read_folder(root)
    assert second.counts == {"train": 3, "test": 3}
    assert first.fingerprint != second.fingerprint


def test_a_link_does_not_take_the_place_of_the_folder_it_leads_to(tmp_path):
    for label in "bc":
        put(tmp_path / label / "1.wav")
    os.symlink("b", tmp_path / "a")
    os.symlink("../c", tmp_path / "b/before")
    assert recordings.audio_files(tmp_path) == ["b/1.wav", "c/1.wav"]


@pytest.mark.parametrize("on_disk, in_index", [("NFC", "NFD"), ("NFD", "NFC")])
def test_an_index_may_spell_accents_otherwise_than_the_disk(
    tmp_path, read_folder, on_disk, in_index
):
    rows = ["file,label,split"]
    for split in ("train", "validation", "test"):
        for label in "ab":
            name = f"{split} {label} Müller.wav"
            put(tmp_path / "in" / unicodedata.normalize(on_disk, name))
            spelled = unicodedata.normalize(in_index, name)
            rows.append(f"{spelled},{label},{split}")
    text = "\n".join(rows)
    (tmp_path / "in/index.csv").write_text(text, encoding="utf-8")
    found = read_folder(tmp_path / "in")
    assert found.counts == {"train": 2, "validation": 2, "test": 2}


def test_an_index_may_come_from_windows(tmp_path, read_folder):
    rows = [" file, label ,split "]
    for split in ("train", "validation", "test"):
        for label in "ab":
            put(tmp_path / "in" / split / f"{label}.wav")
            rows.append(f".\\{split}\\{label}.wav , {label},{split}")
    text = "\r\n".join(rows)
    (tmp_path / "in/index.csv").write_text(text, encoding="utf-8-sig")
    found = read_folder(tmp_path / "in")
    assert found.counts == {"train": 2, "validation": 2, "test": 2}
    assert found.label_names == ("a", "b")
    with open(tmp_path / "in/index.csv", "a", encoding="utf-8") as file:
        file.write("\r\ntest/a.wav,b,train")
    with pytest.raises(ValueError, match="twice.*file='test/a.wav'"):
        read_folder(tmp_path / "in")


def test_a_file_is_listed_once_whatever_paths_lead_to_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("x.wav", "d/x.wav", "d/e/y.wav"):
        put(tmp_path / name)
    (tmp_path / "link").symlink_to("d/e")
    (tmp_path / "d/z.wav").symlink_to("x.wav")
    same = [
        "./x.wav",
        str(tmp_path / "x.wav"),
        "d/../x.wav",
        tmp_path / "x.wav",
    ]
    assert recordings.files_of(["x.wav", *same, "x.wav"]) == ["x.wav"]
    assert recordings.files_of(same) == ["./x.wav"]
    found = recordings.files_of(["d/e/y.wav", "d", tmp_path / "d", "link"])
    assert found == ["d/e/y.wav", "d/x.wav", "d/z.wav"]
    # Not the file here: the folder above that which the link leads to.
    both = ["x.wav", "link/../x.wav"]
    assert recordings.files_of(both) == both
    assert recordings.files_of(["no.wav", "./no.wav"]) == ["no.wav"]
