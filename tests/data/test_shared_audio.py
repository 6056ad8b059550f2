"""Audio that is in several splits is told."""

import os
import pathlib
import shutil
import time
import warnings

import numpy as np
import pytest
import soundfile
from audio_files import RATE, put, sine
from stored import clips, prepare

from leaf_audio import data
from leaf_audio.data import DataWarning, audio_folder, shared_audio
from leaf_audio.data.entries import Recording

pytestmark = pytest.mark.any_backend

# In which split each of these frequencies is.
SPLITS = {"train": (300, 400), "validation": (500, 600), "test": (700, 800)}


@pytest.fixture
def recordings(tmp_path):
    """A folder of six different recordings, of two labels."""
    folder = tmp_path / "recordings"
    for split, frequencies in SPLITS.items():
        for label, hz in zip(("no", "yes"), frequencies, strict=True):
            put(folder / split / label / f"{hz}.wav", sine(hz))
    return folder


def shared(folder, tmp_path):
    """Returns what is told, by a warning and by the result alike."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", DataWarning)
        found = audio_folder(str(folder), data_dir=str(tmp_path / "prepared"))
    told = [str(one.message) for one in caught]
    assert told == list(found.warnings)
    return told


def write_index(folder, lines):
    text = "\n".join(["file,label,split,start,end", *lines])
    (folder / "index.csv").write_text(text)


def test_different_recordings_are_nothing_to_tell(recordings, tmp_path):
    assert shared(recordings, tmp_path) == []


def test_digital_silence_is_told_as_silence_alone(recordings, tmp_path):
    for split in SPLITS:
        put(recordings / split / "silence" / "0.wav", 0 * sine(300))
    (told,) = shared(recordings, tmp_path)
    assert "3 clips are silent" in told and "same audio" not in told


def by_copy(source, target):
    shutil.copy(source, target)


def by_link(source, target):
    target.symlink_to(source)


def by_another_format(source, target):
    samples, rate = soundfile.read(source, dtype="int16")
    put(target.with_suffix(".flac"), samples, rate)


@pytest.mark.parametrize("bring", [by_copy, by_link, by_another_format])
def test_a_recording_in_training_and_in_the_test_is_told(
    recordings, tmp_path, bring
):
    bring(
        recordings / "train" / "no" / "300.wav",
        recordings / "test" / "no" / "other.wav",
    )
    (told,) = shared(recordings, tmp_path)
    assert "several splits" in told
    names = r"'test/no/other.(wav|flac)' .there 'train/no/300.wav'"
    with pytest.raises(UserWarning, match=f"train has 1 clip of test.*{names}"):
        raise UserWarning(told)
    # The data is prepared already.
    assert shared(recordings, tmp_path) == [told]


def test_each_pair_of_splits_has_its_count(recordings, tmp_path):
    for i in range(3):
        for split in ("validation", "test"):
            put(recordings / split / "yes" / f"more{i}.wav", sine(1000 + i))
    put(recordings / "train" / "yes" / "again.wav", sine(1001))
    (told,) = shared(recordings, tmp_path)
    assert "train has 1 clip of validation" in told
    assert "train has 1 clip of test" in told
    assert "validation has 3 clips of test" in told


def test_a_copy_within_a_split_is_nothing_to_tell(recordings, tmp_path):
    for split, (hz, _) in SPLITS.items():
        put(recordings / split / "no" / "copy.wav", sine(hz))
    assert shared(recordings, tmp_path) == []


@pytest.mark.parametrize("split", ["train", "validation"])
def test_audio_with_two_labels_is_told(recordings, tmp_path, split):
    put(recordings / split / "yes" / "again.wav", sine(300))
    told = [
        one
        for one in shared(recordings, tmp_path)
        if "different labels: 1 clip has" in one
    ]
    (line,) = told
    assert f"'{split}/yes/again.wav' (first 'train/no/300.wav')" in line


def test_audio_with_other_labels_of_several_is_told(tmp_path):
    folder = tmp_path / "recordings"
    for i, hz in enumerate((300, 400, 400, 400, 0)):
        put(folder / f"{i}.wav", sine(hz))
    put(folder / "5.wav", 0 * sine(300))
    lines = ["file,labels,split", "0.wav,a;b,train", "1.wav,a;b,train"]
    lines += ["2.wav,b;a,train", "3.wav,b,train", "4.wav,a,train"]
    lines += ["5.wav,b,train"]
    (folder / "index.csv").write_text("\n".join(lines))
    silent, told = shared(folder, tmp_path)
    assert "2 clips are silent" in silent
    assert "1 clip has other labels" in told
    assert "'3.wav' (first '1.wav')" in told


@pytest.mark.parametrize(
    "held_out, count",
    [
        ("long.wav,no,test,1,3", 1),
        ("long.wav,no,test,0.5,1.5", 1),
        ("long.wav,no,test,,", 1),
        ("linked.wav,no,test,1.9,3", 1),
        ("long.wav,no,test,2,3", 0),
        ("other.wav,no,test,0,2", 0),
    ],
)
def test_segments_that_overlap_are_told(tmp_path, held_out, count):
    folder = tmp_path / "recordings"
    rng = np.random.default_rng(0)
    for name in ("long.wav", "other.wav"):
        put(folder / name, rng.uniform(-0.5, 0.5, 4 * RATE))
    os.link(folder / "long.wav", folder / "linked.wav")
    lines = [
        "long.wav,no,train,0,0.25",
        "long.wav,yes,train,0.25,2",
        "other.wav,yes,train,3,4",
        "other.wav,yes,test,2,3",
        # All files are in the table, so that nothing else is told.
        "linked.wav,yes,train,3.5,4",
        held_out,
    ]
    write_index(folder, lines)
    told = shared(folder, tmp_path)
    assert len(told) == count
    if count:
        assert "train has 1 clip of test" in told[0]
        assert held_out.split(",")[0] in told[0]


def test_long_recordings_are_compared_by_all_of_their_records(tmp_path):
    rng = np.random.default_rng(0)
    first, second, third = (rng.normal(0, 0.1, 2**20) for _ in range(3))
    folder = tmp_path / "recordings"
    for name, *parts in (
        ("train/no/long.wav", first, second),
        ("train/yes/a.wav", third),
        ("test/yes/b.wav", second),
        ("test/no/same beginning.wav", first, third),
    ):
        put(folder / name, np.concatenate(parts))
    assert shared(folder, tmp_path) == []
    put(folder / "test/no/long.wav", np.concatenate([first, second]))
    (told,) = shared(folder, tmp_path)
    assert "'test/no/long.wav' (there 'train/no/long.wav'" in told


def test_records_of_any_source_tell_the_names_of_clips(tmp_path):
    shared_clips = {"train": clips(0, 9), "test": clips(8, 12)}
    audio_data = prepare(tmp_path, shared_clips)
    with pytest.warns(DataWarning, match="train has 1 clip of test.*'clip 8'"):
        warned = shared_audio.warned(audio_data)
    (told,) = warned.warnings
    assert "'clip 8' (there 'clip 8')" in told
    assert isinstance(warned, data.AudioData)


def test_the_search_among_many_clips_is_quick():
    class Many:
        def __init__(self, seed, count):
            rng = np.random.default_rng(seed)
            self.content = rng.integers(256, size=(count, 16), dtype=np.uint8)

        def reader(self, in_memory):
            return lambda number: (np.array([0.0, 0.1], np.float32), 0)

    many = {"train": Many(0, 80_000), "test": Many(1, 20_000)}
    many["test"].content[7] = many["train"].content[12_345]
    segments = {
        split: [
            Recording(f"{i % 100}.wav", (), split, start=i, end=i + 1)
            for i in range(first, 100_000, 5)
        ]
        for split, first in (("train", 0), ("test", 1))
    }
    begin = time.process_time()
    found = shared_audio.by_content(many)
    by_interval = shared_audio.by_interval(pathlib.Path("nowhere"), segments)
    assert time.process_time() - begin < 5
    assert found == {("train", "test"): {7: 12_345}}
    assert by_interval == {("train", "test"): {}}
