"""Folders of recordings: layouts, decoding, splitting, errors, staleness."""

import csv
import os
import shutil
import threading
import unicodedata

import gin
import numpy as np
import pytest
import soundfile

from leaf_audio.data import audio_folder as module
from leaf_audio.data import batches as data
from leaf_audio.data.audio_folder import audio_folder

pytestmark = pytest.mark.any_backend

RATE = 16000


@pytest.fixture(autouse=True)
def no_bindings():
    gin.clear_config()
    yield
    gin.clear_config()


def sine(hz, rate=RATE, seconds=0.25, level=0.5):
    return level * np.sin(
        2 * np.pi * hz * np.arange(int(rate * seconds)) / rate
    )


def put(path, samples=None, rate=RATE, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = sine(440) if samples is None else samples
    soundfile.write(path, samples, rate, **options)
    return path


@pytest.fixture
def folder(tmp_path):
    """Two labels and three splits."""
    root = tmp_path / "clips"
    for split, count in (("train", 3), ("validation", 1), ("test", 2)):
        for k, label in enumerate(("no", "yes")):
            for i in range(count):
                put(root / split / label / f"{i}.wav", sine(300 + 100 * k + i))
    return root


@pytest.fixture
def load(tmp_path):
    def load(path, **options):
        return audio_folder(
            path=str(path), data_dir=str(tmp_path / "prepared"), **options
        )

    return load


def audio_of(audio_data, split="train"):
    return [a for a, _ in audio_data.splits[split].as_numpy_iterator()]


def labels_of(audio_data, split="train"):
    return [
        audio_data.label_names[label]
        for _, label in audio_data.splits[split].as_numpy_iterator()
    ]


def test_split_folders_are_read_in_the_order_of_paths(folder, load):
    result = load(folder)
    assert result.counts == {"train": 6, "validation": 2, "test": 4}
    assert result.label_names == ("no", "yes")
    assert result.sample_rate == RATE
    assert labels_of(result, "test") == ["no", "no", "yes", "yes"]
    expected, _ = soundfile.read(folder / "test/yes/1.wav", dtype="float32")
    np.testing.assert_array_equal(audio_of(result, "test")[3], expected)


def test_other_files_and_hidden_files_are_ignored(folder, load):
    (folder / "README.txt").write_text("about")
    (folder / "train/yes/.DS_Store").write_text("about")
    (folder / "train/yes/._0.wav").write_text("about")
    (folder / ".cache").mkdir()
    (folder / ".cache/x.wav").write_text("about")
    assert load(folder).counts == {"train": 6, "validation": 2, "test": 4}


@pytest.mark.parametrize(
    "name", ["x.wav", "x.FLAC", "x.ogg", "x.Mp3", "x.aiff"]
)
def test_every_format_is_decoded(folder, load, name):
    put(folder / "train/yes" / name, sine(1000), format=name[2:].upper())
    audio = audio_of(load(folder))[-1]
    spectrum = np.abs(np.fft.rfft(audio[:4000] * np.hanning(4000)))
    assert np.argmax(spectrum) == 250
    assert abs(np.std(audio[800:3200]) - 0.5 / np.sqrt(2)) < 0.01


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
def test_any_rate_is_resampled(folder, load, rate):
    put(
        folder / "train/yes/x.wav", sine(1000, rate, 1.0), rate, subtype="FLOAT"
    )
    audio = audio_of(load(folder))[-1]
    assert len(audio) == RATE
    middle = slice(1000, -1000)
    error = audio[middle] - sine(1000, RATE, 1.0)[middle]
    assert np.sqrt(np.mean(error**2)) < 1e-4


def test_the_rate_can_be_chosen(folder, load):
    result = load(folder, sample_rate=8000)
    assert result.sample_rate == 8000
    assert {len(audio) for audio in audio_of(result)} == {2000}


def test_content_beyond_the_new_nyquist_rate_is_removed(folder, load):
    put(folder / "train/yes/x.wav", sine(11000, 48000, 1.0), 48000)
    audio = audio_of(load(folder))[-1]
    assert np.std(audio[1000:-1000]) < 1e-3


def test_channels_are_averaged(folder, load):
    left, right = sine(500), sine(900)
    stereo = np.stack([left, right, 0 * left], axis=1)
    put(folder / "train/yes/x.wav", stereo, subtype="FLOAT")
    audio = audio_of(load(folder))[-1]
    np.testing.assert_allclose(audio, (left + right) / 3, atol=1e-6)


def test_unicode_names_nested_folders_and_links_are_followed(folder, load):
    put(folder / "train/größe/a b/ça va ☂.wav")
    put(folder / "train/größe/not UTF-8.wav").rename(
        folder / "train/größe/\udcff.wav"
    )
    elsewhere = put(folder.parent / "elsewhere/x.wav").parent
    os.symlink(elsewhere, folder / "train/größe/linked")
    os.symlink(folder, folder / "train/größe/loop")
    result = load(folder)
    assert result.label_names == ("größe", "no", "yes")
    assert labels_of(result).count("größe") == 3


@pytest.fixture
def label_tree(tmp_path):
    root = tmp_path / "labels"
    for label in ("no", "yes"):
        for i in range(60):
            put(root / label / f"{i}.wav", sine(200 + i, seconds=0.02))
    return root


def files_by_split(path, **fractions):
    fractions = {"validation_fraction": None, "test_fraction": None} | fractions
    recordings = module._list(path, **fractions, for_training=True)
    return {r.file: r.split for r in recordings}


def test_label_folders_are_split_in_the_asked_shares(label_tree, load):
    counts = load(label_tree, validation_fraction=0.2, test_fraction=0.3).counts
    assert counts["train"] + counts["validation"] + counts["test"] == 120
    assert 12 <= counts["validation"] <= 36
    assert 22 <= counts["test"] <= 50
    counts = load(label_tree, validation_fraction=0, test_fraction=0.2).counts
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


def test_the_split_does_not_depend_on_the_spelling_of_accents():
    for i in range(50):
        names = [
            unicodedata.normalize(form, f"é/{i}.wav") for form in ("NFC", "NFD")
        ]
        assert names[0] != names[1]
        first, second = (module._draw_split(n, 0.3, 0.3) for n in names)
        assert first == second


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
def test_splits_of_other_names_are_not_taken_for_labels(tmp_path, load, names):
    for name in names:
        for label in ("no", "yes"):
            put(tmp_path / name / label / "0.wav")
    with pytest.raises(ValueError, match="must name its splits") as error:
        load(tmp_path)
    assert all(name in str(error.value) for name in names if name != "train")
    put(tmp_path / names[0] / "stray.wav")
    with pytest.raises(ValueError, match="must name its splits|stray"):
        load(tmp_path)


def test_an_evaluation_needs_no_training_clips_and_not_all_labels(
    tmp_path, load
):
    for label in ("no", "yes"):
        put(tmp_path / "splits/validation" / label / "0.wav")
    put(tmp_path / "splits/test/no/0.wav")
    put(tmp_path / "labels/no/0.wav")

    def counts(folder, **options):
        return load(tmp_path / folder, for_training=False, **options).counts

    assert counts("splits") == {"validation": 2, "test": 1}
    assert counts("labels", test_fraction=1) == {"test": 1}
    with pytest.raises(ValueError, match="without any for 'train'"):
        load(tmp_path / "splits")
    with pytest.raises(ValueError, match="two labels"):
        load(tmp_path / "labels", test_fraction=1)


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
        rows.append([f"clips/é{i}.flac", f"l{i % 2}", split, "someone"])
    put(root / "clips/unlisted.flac")
    return root, rows


def test_an_index_decides_on_labels_and_splits(indexed, load):
    root, rows = indexed
    write_index(root, rows)
    result = load(root)
    assert result.counts == {"train": 4, "test": 2}
    assert labels_of(result, "test") == ["l0", "l1"]


def test_an_index_without_splits_leaves_them_to_be_drawn(label_tree, load):
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
def test_a_wrong_index_row_is_named(indexed, load, row, message):
    root, rows = indexed
    write_index(root, [*rows, row])
    with pytest.raises(ValueError, match=message):
        load(root)


def test_an_index_without_its_columns_is_an_error(indexed, load):
    root, rows = indexed
    write_index(root, rows, ["path", "label", "split", "speaker"])
    with pytest.raises(ValueError, match="columns=.*path"):
        load(root)


@pytest.mark.parametrize(
    "content",
    [
        "file,label\nx.wav,größe\n".encode("latin-1"),
        b'file,label\n"x.wav,a\n' + 30000 * b"y.wav,a\n",
    ],
)
def test_an_index_that_cannot_be_read_is_named(folder, load, content):
    (folder / "index.csv").write_bytes(content)
    with pytest.raises(ValueError, match="text in UTF-8. Received: .*index"):
        load(folder)


def spoil(path, how):
    if how == "no audio":
        path.write_bytes(b"this is no audio at all" * 9)
    elif how == "empty file":
        path.write_bytes(b"")
    elif how == "no samples":
        put(path, np.zeros(0))
    elif how == "not finite":
        samples = sine(300)
        samples[7] = np.nan
        put(path, samples, subtype="FLOAT")
    elif how == "cut off":
        path.write_bytes(path.read_bytes()[:-1000])
    elif how == "cut off flac":
        put(path, format="FLAC")
        path.write_bytes(path.read_bytes()[:-1000])
    elif how == "absurd rate":
        put(path, rate=3)
    elif how == "too short":
        put(path, np.zeros(1), 96000)


SPOILS = [
    ("no audio", "not recognised|unknown"),
    ("empty file", "the file is empty"),
    ("no samples", "no samples"),
    ("not finite", "not finite"),
    ("cut off", "cut off: 1000 bytes"),
    ("cut off flac", "flac decoder"),
    ("absurd rate", "3 Hz"),
    ("too short", "empty at 16000 Hz"),
]


@pytest.mark.parametrize("how, reason", SPOILS)
def test_an_unusable_file_is_named_with_the_reason(folder, load, how, reason):
    spoil(folder / "train/yes/1.wav", how)
    with pytest.raises(ValueError, match="train/yes/1.wav") as error:
        load(folder)
    assert error.match(f"(?i){reason}")
    assert str(folder) not in str(error.value)
    assert ".." not in str(error.value)
    assert "audio_folder.on_error = 'skip'" in str(error.value)


@pytest.mark.parametrize(
    "name, reason",
    [
        ("x.m4a", "converted"),
        ("x.aiff", "converted"),
        ("x.mp3", "not recognised"),
    ],
)
def test_what_no_decoder_reads_is_named(folder, load, name, reason):
    (folder / "train/yes" / name).write_bytes(b"this is no audio at all" * 99)
    with pytest.raises(ValueError, match=f"train/yes/{name}.*{reason}"):
        load(folder)
    load(folder, on_error="skip")


def test_all_unusable_files_are_named_at_once(folder, load):
    files = sorted((folder / "train").rglob("*.wav"))
    for file in files[1:]:
        spoil(file, "empty file")
    with pytest.raises(ValueError) as error:
        load(folder)
    assert str(error.value).count("the file is empty") == len(files) - 1
    assert files[0].relative_to(folder).as_posix() not in str(error.value)


def test_an_error_names_five_unusable_files_and_counts_the_rest(folder, load):
    for file in folder.rglob("*.wav"):
        spoil(file, "empty file")
    count = len(list(folder.rglob("*.wav")))
    with pytest.raises(ValueError, match=f"and {count - 5} more") as error:
        load(folder)
    assert str(error.value).count("the file is empty") == 5


def test_an_error_leaves_no_decoder_threads_behind(folder, load):
    """Joined by the garbage collector, they could lock up a later thread."""
    spoil(folder / "train/yes/1.wav", "cut off")
    before = threading.active_count()
    with pytest.raises(ValueError) as error:
        load(folder)
    assert threading.active_count() == before, error


@pytest.mark.parametrize("how, reason", SPOILS)
def test_an_unusable_file_is_skipped_when_asked(folder, load, how, reason):
    spoil(folder / "train/yes/1.wav", how)
    for _ in range(2):  # prepared, then read back
        result = load(folder, on_error="skip")
        assert result.counts["train"] == 5
        assert list(result.skipped) == ["train/yes/1.wav"]


def test_a_wav_written_to_a_pipe_is_not_taken_for_cut_off(folder, load):
    path = folder / "train/yes/1.wav"
    content = bytearray(path.read_bytes())
    content[4:8] = b"\xff\xff\xff\xff"
    path.write_bytes(content)
    assert load(folder).counts["train"] == 6


def test_a_file_at_another_than_the_declared_rate_is_named(folder, load):
    put(folder / "train/yes/1.wav", rate=44100)
    with pytest.raises(ValueError, match="train/yes/1.wav.*44100.*16000"):
        load(folder, source_sample_rate=16000)
    result = load(folder, source_sample_rate=16000, on_error="skip")
    assert "44100" in result.skipped["train/yes/1.wav"]


def test_skipping_may_not_empty_a_split_or_a_label(folder, load):
    for i in range(3):
        spoil(folder / f"train/yes/{i}.wav", "no audio")
    with pytest.raises(ValueError, match=r"training.*\['yes'\]"):
        load(folder, on_error="skip")
    for label in ("no", "yes"):
        spoil(folder / f"validation/{label}/0.wav", "no audio")
    with pytest.raises(ValueError, match="'validation'"):
        load(folder, on_error="skip")


def test_a_layout_that_cannot_be_meant_is_an_error(folder, load, tmp_path):
    def check(message, path=folder):
        with pytest.raises(ValueError, match=message):
            load(path)

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


@pytest.mark.parametrize(
    "options",
    [
        {"on_error": "ignore"},
        {"sample_rate": 10},
        {"sample_rate": "8k"},
        {"source_sample_rate": 10**7},
        {"validation_fraction": "some"},
        {"test_fraction": float("nan")},
        {"validation_fraction": 0.1},  # the folder brings its own splits
    ],
)
def test_a_wrong_option_is_named_with_its_value(folder, load, options):
    ((name, value),) = options.items()
    with pytest.raises(
        ValueError, match=rf"`audio_folder.{name}`.*{name}={value!r}"
    ):
        load(folder, **options)


def test_wrong_fractions_are_named(label_tree, load):
    for name in ("validation_fraction", "test_fraction"):
        for value in (-0.1, 1.1, float("nan"), "some"):
            with pytest.raises(ValueError, match=f"{name}={value!r}"):
                load(label_tree, **{name: value})
        with pytest.raises(ValueError, match=f"{name}=1e-06 .* too small"):
            load(label_tree, **{name: 1e-6})


def test_an_unset_path_is_an_error_that_says_how_to_set_it(tmp_path):
    message = '--gin_bindings="audio_folder.path = .*path=None'
    with pytest.raises(ValueError, match=message):
        audio_folder(data_dir=str(tmp_path))


def test_a_folder_that_did_not_change_is_not_prepared_again(
    folder, load, monkeypatch
):
    first = load(folder)
    monkeypatch.setattr(module, "decode", None)
    assert load(folder).path == first.path


def test_changed_files_are_never_served_stale(folder, load):
    seen = [load(folder).fingerprint]
    file = folder / "train/yes/1.wav"

    def check(expected):
        result = load(folder)
        assert result.fingerprint != seen[-1]
        seen.append(result.fingerprint)
        assert result.counts["train"] == expected
        return audio_of(result)[4]

    old_times = file.stat()
    put(file, 0.5 * sine(301))
    assert np.abs(check(6)).max() < 0.3
    # Same size and same time of modification, as `cp -p` would leave them.
    put(file, 0.1 * sine(301))
    os.utime(file, ns=(old_times.st_atime_ns, old_times.st_mtime_ns))
    assert np.abs(check(6)).max() < 0.06
    os.utime(file)
    check(6)
    put(folder / "train/yes/new.wav")
    check(7)
    (folder / "train/yes/new.wav").unlink()
    check(6)
    (folder / "train/yes/0.wav").rename(folder / "train/yes/9.wav")
    check(6)


def test_a_changed_index_is_prepared_again(indexed, load):
    root, rows = indexed
    write_index(root, rows)
    first = load(root)
    rows[0][2] = "test"
    write_index(root, rows)
    second = load(root)
    assert second.counts == {"train": 3, "test": 3}
    assert first.fingerprint != second.fingerprint


def test_gin_bindings_reach_it_through_load(folder, tmp_path):
    gin.parse_config(
        f"""
        audio_folder.path = {str(folder)!r}
        audio_folder.sample_rate = 8000
        audio_folder.on_error = 'skip'
        """
    )
    result = data.load("audio_folder", data_dir=str(tmp_path))
    assert (result.name, result.sample_rate) == ("audio_folder", 8000)
    with pytest.raises(ValueError, match="8000.*16000"):
        data.load("audio_folder", data_dir=str(tmp_path), sample_rate=16000)


def test_the_rate_asked_of_load_is_the_default(folder, tmp_path):
    gin.parse_config(f"audio_folder.path = {str(folder)!r}")
    result = data.load("audio_folder", str(tmp_path), sample_rate=11025)
    assert result.sample_rate == 11025


@pytest.mark.parametrize(
    "options", [{"audio_key": "a"}, {"split_names": {"train": "train"}}]
)
def test_options_of_tfds_sets_are_refused(folder, tmp_path, options):
    gin.parse_config(f"audio_folder.path = {str(folder)!r}")
    with pytest.raises(ValueError, match=next(iter(options))):
        data.load("audio_folder", str(tmp_path), **options)


def test_real_recordings_are_counted_right(speech_commands, load):
    result = load(speech_commands)
    assert result.counts == {"train": 2684, "validation": 576, "test": 575}
    assert len(result.label_names) == 12
    assert not result.skipped
    first = next(result.splits["validation"].as_numpy_iterator())
    path = sorted((speech_commands / "validation/_silence_").iterdir())[0]
    expected, _ = soundfile.read(path, dtype="float32")
    np.testing.assert_array_equal(first[0], expected)
