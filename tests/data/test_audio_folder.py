"""The reader of a folder: options, unusable files, staleness."""

import os
import threading

import numpy as np
import pytest
import soundfile
from audio_files import SPOILS, audio_of, put, sine, spoil

from leaf_audio.data import DataWarning, audio_folder, decoding

pytestmark = pytest.mark.any_backend


def test_the_rate_can_be_chosen(folder, read_folder):
    result = read_folder(folder, sample_rate=8000)
    assert result.sample_rate == 8000
    assert {len(audio) for audio in audio_of(result)} == {2000}


def test_a_data_dir_that_cannot_be_made_is_named(folder, tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(ValueError, match="`data_dir` must be a folder.*file"):
        audio_folder(str(folder), data_dir=str(tmp_path / "file"))


def test_all_unusable_files_are_named_at_once(folder, read_folder):
    files = sorted((folder / "train").rglob("*.wav"))
    for file in files[1:]:
        spoil(file, "empty file")
    with pytest.raises(ValueError) as error:
        read_folder(folder)
    assert str(error.value).count("the file is empty") == len(files) - 1
    assert files[0].relative_to(folder).as_posix() not in str(error.value)


def test_an_error_names_five_unusable_files_and_counts_the_rest(
    folder, read_folder
):
    for file in folder.rglob("*.wav"):
        spoil(file, "empty file")
    count = len(list(folder.rglob("*.wav")))
    with pytest.raises(ValueError, match=f"and {count - 5} more") as error:
        read_folder(folder)
    assert str(error.value).count("the file is empty") == 5


def test_an_error_leaves_no_decoder_threads_behind(folder, read_folder):
    """Joined by the garbage collector, they could lock up a later thread."""
    spoil(folder / "train/yes/1.wav", "cut off")
    before = threading.active_count()
    with pytest.raises(ValueError) as error:
        read_folder(folder)
    assert threading.active_count() == before, error


@pytest.mark.parametrize("how, reason", SPOILS)
def test_an_unusable_file_is_skipped_when_asked(
    folder, read_folder, how, reason
):
    spoil(folder / "train/yes/1.wav", how)
    for _ in range(2):  # prepared, then read back
        result = read_folder(folder, on_error="skip")
        assert result.counts["train"] == 5
        assert list(result.skipped) == ["train/yes/1.wav"]


def test_skipping_may_not_empty_a_split_or_a_label(folder, read_folder):
    for i in range(3):
        spoil(folder / f"train/yes/{i}.wav", "no audio")
    with pytest.raises(ValueError, match=r"training.*\['yes'\]"):
        read_folder(folder, on_error="skip")
    for label in ("no", "yes"):
        spoil(folder / f"validation/{label}/0.wav", "no audio")
    with pytest.raises(ValueError, match="'validation'"):
        read_folder(folder, on_error="skip")


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
        {"validation_folds": 3},
    ],
)
def test_a_wrong_option_is_named_with_its_value(folder, read_folder, options):
    ((name, value),) = options.items()
    with pytest.raises(
        ValueError, match=rf"`audio_folder.{name}`.*{name}={value!r}"
    ):
        read_folder(folder, **options)


def test_an_unset_path_is_an_error_that_says_how_to_set_it(tmp_path):
    message = '--gin_bindings="audio_folder.path = .*path=None'
    with pytest.raises(ValueError, match=message):
        audio_folder(data_dir=str(tmp_path))


def test_a_folder_that_did_not_change_is_not_prepared_again(
    folder, read_folder, monkeypatch
):
    first = read_folder(folder)
    monkeypatch.setattr(decoding, "decode_blocks", None)
    assert read_folder(folder).path == first.path


def test_changed_files_are_never_served_stale(folder, read_folder):
    seen = [read_folder(folder).path]
    file = folder / "train/yes/1.wav"

    def check(expected):
        result = read_folder(folder)
        assert result.path != seen[-1]
        seen.append(result.path)
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


def put_labels(root, counts):
    for label, count in counts.items():
        for i in range(count):
            put(root / label / f"{i}.wav")
    return root


def test_a_drawn_split_without_a_label_is_told_with_the_remedy(
    tmp_path, read_folder
):
    root = put_labels(tmp_path / "few", {"no": 20, "yes": 20, "so": 2})
    with pytest.warns(DataWarning, match="Some splits lack labels") as caught:
        result = read_folder(root)
    (sentence,) = result.warnings
    assert [str(one.message) for one in caught] == [sentence]
    assert "validation lacks 'so'" in sentence and "'no'" not in sentence
    assert "raise audio_folder.validation_fraction" in sentence
    assert "index.csv" in sentence
    # An evaluation may lack labels.
    read_folder(root, for_training=False)
    put_labels(root, {"so": 5})
    read_folder(root)


def test_a_given_split_without_a_label_is_told_with_the_remedy(
    folder, read_folder
):
    for label in "abcdef":
        put(folder / "train" / label / "0.wav")
    with pytest.warns(DataWarning) as caught:
        read_folder(folder)
    (message,) = (str(one.message) for one in caught)
    for split in ("validation", "test"):
        assert f"{split} lacks 'a', 'b', 'c', 'd', 'e' and 1 more" in message
    assert "Add recordings of them to these splits" in message
    assert "fraction" not in message


def test_an_error_about_a_label_without_training_clips_names_the_remedy(
    folder, read_folder
):
    put(folder / "test/maybe/0.wav")
    with pytest.raises(ValueError, match=r"\['maybe'\]. Move or add rec"):
        read_folder(folder)


def test_real_recordings_are_counted_right(speech_commands, read_folder):
    with pytest.warns(DataWarning, match="not used: 'duration_s'"):
        result = read_folder(speech_commands)
    assert result.counts == {"train": 2684, "validation": 576, "test": 575}
    assert len(result.label_names) == 12
    assert not result.skipped
    first = next(result.splits["validation"].as_numpy_iterator())
    path = sorted((speech_commands / "validation/_silence_").iterdir())[0]
    expected, _ = soundfile.read(path, dtype="float32")
    np.testing.assert_array_equal(first[0], expected)


def groups_of(path, read_folder, speakers, ends=("",) * 6):
    """Reads six recordings of two files and three splits."""
    lines = ["file,label,split,speaker,start,end"]
    for i, (speaker, end) in enumerate(zip(speakers, ends, strict=True)):
        if not (path / f"{i}.wav").exists():
            put(path / f"{i}.wav")
        split = ("train", "validation", "test")[i // 2]
        label = ("no", "yes")[i % 2]
        lines.append(f"{i}.wav,{label},{split},{speaker},,{end}")
    (path / "index.csv").write_text("\n".join(lines))
    found = read_folder(path)
    groups = {split: clips.groups for split, clips in found.clips.items()}
    return found.fingerprint, groups


def test_recordings_of_a_speaker_are_a_group(tmp_path, read_folder):
    apart, groups = groups_of(tmp_path / "set", read_folder, "abcdef")
    assert set(groups.values()) == {None}
    unknown, groups = groups_of(tmp_path / "set", read_folder, [""] * 6)
    assert set(groups.values()) == {None}
    # Nothing was prepared again.
    assert unknown == apart
    together, groups = groups_of(tmp_path / "set", read_folder, "abccde")
    assert together != apart
    assert len(set(groups["validation"])) == 1
    assert len(set(groups["test"])) == 2


def test_segments_of_a_file_are_a_group(folder, read_folder):
    lines = ["file,label,split,start,end"]
    for file in ("train/no/0.wav", "test/yes/0.wav", "test/yes/1.wav"):
        split = file.partition("/")[0]
        lines.append(f"{file},no,{split},0,0.1")
        lines.append(f"{file},yes,{split},0.1,")
    (folder / "index.csv").write_text("\n".join(lines))
    with pytest.warns(DataWarning, match="does not list"):
        found = read_folder(folder)
    groups = found.clips["test"].groups
    assert len(groups) == 4
    assert groups[0] == groups[1] != groups[2] == groups[3]
