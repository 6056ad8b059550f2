"""The store of prepared clips: complete, exact, safe under kills and races."""

import json
import os
import pathlib
import sys

import numpy as np
import pytest
from stored import (
    CLIPS,
    REFUSED,
    Clip,
    age,
    clips,
    prepare,
    shards,
    tone,
)

from leaf_audio.data import UnusableFileError, split_writer

pytestmark = pytest.mark.any_backend


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("in_memory", [False, True])
@pytest.mark.parametrize("bits", [16, 24])
def test_clips_come_back_from_several_shards_and_parts(
    tmp_path, in_memory, bits
):
    made = [Clip(tone(i), i % 3, bits=bits) for i in range(9)]
    audio_data = prepare(tmp_path, {"train": made})
    assert len(shards(audio_data)) > 1
    read = audio_data.clips["train"].reader(in_memory)
    for i in (8, 0, 5):
        audio, label = read(i)
        assert audio.dtype == np.float32
        assert label == i % 3
        np.testing.assert_allclose(audio, tone(i), atol=0.51 / 2 ** (bits - 1))
    for begin, end in ((100, 300), (8000, 17000), (8192, 16384), (5, 5)):
        part, _ = read(5, begin, end)
        np.testing.assert_array_equal(part, read(5)[0][begin:end])
    # No further than to the end of the clip.
    np.testing.assert_array_equal(read(5, 19990, 10**6)[0], read(5)[0][19990:])


@pytest.mark.usefixtures("small")
def test_each_clip_knows_where_it_comes_from(tmp_path):
    # A name need not be valid UTF-8. The first clip has several records.
    names = ["yes/a\udcff.wav", "b.flac, 1 s to 2 s", ""]
    made = [Clip(tone(i), i, name) for i, name in enumerate(names)]
    train = prepare(tmp_path, {"train": made}).clips["train"]
    assert [train.source_of(i) for i in range(3)] == names


@pytest.mark.parametrize("in_memory", [False, True])
def test_integers_come_back_exactly(tmp_path, in_memory):
    rng = np.random.default_rng(0)
    samples = rng.integers(-32768, 32768, 999, np.int16)
    made = [Clip(samples, 0), Clip(samples[:5] // 9, 1)]
    audio_data = prepare(tmp_path, {"train": made}, "ab")
    train = audio_data.clips["train"]
    assert train.nbytes == 2 * 1004
    read = train.reader(in_memory)
    for i, clip in enumerate(made):
        expected = clip.samples.astype(np.float32) / np.float32(32767)
        np.testing.assert_array_equal(read(i)[0], expected)


@pytest.mark.parametrize("level", [1e-20, 1e-3, 1.0, 3e4])
@pytest.mark.parametrize("bits", [16, 24])
def test_samples_of_any_level_are_not_clipped(tmp_path, bits, level):
    samples = level * tone(3)
    audio_data = prepare(tmp_path, {"train": [Clip(samples, 0, bits=bits)]})
    audio, _ = audio_data.clips["train"].reader()(0)
    peak = np.abs(samples).max()
    step = peak / 2**22 if bits == 24 else max(peak, 1) / 2**14
    np.testing.assert_allclose(audio, samples, atol=step)


def test_splits_and_counts_describe_what_was_stored(tmp_path):
    data = prepare(tmp_path)
    assert data.counts == {"train": 9, "test": 3}
    assert data.label_names == ("a", "b", "c")
    assert data.sample_rate == 8000
    lengths = [len(a) for a, _ in data.splits["test"].as_numpy_iterator()]
    assert lengths == [20009, 20010, 20011]


def test_clips_are_a_data_set_of_tensorflow_datasets(tmp_path, small):
    import io

    import soundfile
    import tensorflow_datasets as tfds

    audio_data = prepare(tmp_path)
    builder = tfds.builder_from_directory(audio_data.path)
    assert builder.info.features["label"].names == ["a", "b", "c"]
    parts = list(builder.as_data_source("test"))
    assert [part["start"] for part in parts[:4]] == [0, 8192, 16384, 0]
    assert [part["label"] for part in parts[::3]] == [0, 1, 2]
    assert parts[3]["file"] == b"clip 10"
    files = [io.BytesIO(part["audio"]) for part in parts]
    assert soundfile.info(files[0]).samplerate == 8000
    files[0].seek(0)
    clip = np.concatenate([soundfile.read(one)[0] for one in files[:3]])
    audio, _ = audio_data.clips["test"].reader()(0)
    # Floating-point samples are stored with 24 bits.
    np.testing.assert_allclose(clip * float(parts[0]["scale"]), audio)


def test_any_names_of_labels_keep_their_places_in_tensorflow_datasets(tmp_path):
    """TFDS writes each to a line, and removes space at its ends."""
    import tensorflow_datasets as tfds

    names = ("a\nb", " c", "c", "d\u2028e")
    made = {"train": [Clip(tone(i), i) for i in range(4)]}
    audio_data = prepare(tmp_path, made, names)
    builder = tfds.builder_from_directory(audio_data.path)
    expected = ["'a\\nb'", "' c'", "c", "'d\\u2028e'"]
    assert builder.info.features["label"].names == expected
    assert audio_data.label_names == names


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_clip_that_is_not_finite_is_not_stored(tmp_path, value):
    samples = tone(1)
    samples[-1] = value
    splits = {"train": [*clips(0, 1), Clip(samples, 0, "bad.wav")]}
    with pytest.raises(ValueError, match="infinity in 'bad.wav' of 'train'"):
        prepare(tmp_path, splits)
    assert not [p for p in tmp_path.glob("leaf_audio/*/*") if p.is_dir()]


def test_a_clip_without_samples_is_not_stored(tmp_path):
    with pytest.raises(ValueError, match="none in 'empty' of 'train'"):
        prepare(tmp_path, {"train": [Clip(tone(1)[:0], 0, "empty")]})


def test_clips_that_cannot_be_read_are_skipped_and_told(tmp_path):
    def fail():
        yield tone(0)
        raise UnusableFileError("it is cut off")

    made = [Clip(fail, 0, "bad.wav"), *clips(0, 3)]
    data = prepare(tmp_path, {"train": made, "test": made[:1]})
    assert data.counts == {"train": 3}
    assert data.skipped == {"bad.wav": "it is cut off"}
    np.testing.assert_allclose(
        data.clips["train"].reader()(2)[0], tone(2), atol=1e-6
    )


def test_remarks_reach_the_description(tmp_path):
    seen = []

    def describe(stored):
        seen.append(stored)
        return {"label_names": ["a", "b", "c"], "warnings": stored.remarked}

    made = [Clip(tone(0), 2, "odd", remark=lambda: True), *clips(1, 3)]
    data = prepare(tmp_path, {"train": made}, describe=describe)
    assert data.warnings == ("odd",)
    assert seen[0].labels == {"train": [2, 1, 2]}


def test_silent_clips_are_counted_and_the_first_named(tmp_path):
    constant = [
        Clip(np.full(50, value, np.float32), 0, f"{value}.wav")
        for value in (0.0, 0.25, 0.5, 0.75)
    ]
    data = prepare(tmp_path, {"train": [*constant, *clips(0, 3)]})
    (told,) = data.warnings
    assert told.startswith("4 clips are silent")
    assert "'0.0.wav', '0.25.wav', '0.5.wav' and 1 more" in told
    # One record is constant, and so is the next, at another value.
    step = np.repeat(np.float32([0, 0.5]), split_writer.PART_SAMPLES)
    data = prepare(tmp_path, {"test": [Clip(step, 0)]}, state=["z"])
    assert data.warnings == ()
    almost = np.zeros(50, np.float32)
    almost[7] = 1e-3
    data = prepare(tmp_path, {"test": [Clip(almost, 0)]}, state=["y"])
    assert data.warnings == ()


def test_prepared_clips_are_used_again(tmp_path):
    first = prepare(tmp_path)
    again = prepare(tmp_path, REFUSED)
    assert (again.path, again.fingerprint) == (first.path, first.fingerprint)
    assert again.counts == first.counts


@pytest.mark.parametrize("change", [{"state": ["y"]}, {"settings": {"a": 2}}])
def test_another_state_or_setting_is_prepared_anew(tmp_path, change):
    first = prepare(tmp_path)
    other = prepare(tmp_path, **change)
    assert other.path != first.path
    assert other.fingerprint == first.fingerprint


def test_labels_may_be_integers_of_numpy(tmp_path):
    made = [Clip(tone(0), np.int64(1), group=np.int32(0))]
    (label,) = prepare(tmp_path, {"train": made}).clips["train"].labels
    assert label == 1


def test_the_fingerprint_is_that_of_the_clips(tmp_path):
    first = prepare(tmp_path)
    another_label = [Clip(tone(9), 1), *clips(10, 12)]
    another_sample = clips(9, 12)
    another_sample[1] = Clip(np.roll(tone(10), 1), 1)
    for i, change in enumerate(
        (
            {"label_names": "abd"},
            {"splits": CLIPS | {"test": another_label}},
            {"splits": CLIPS | {"test": another_sample}},
            {"splits": CLIPS | {"test": clips(9, 13)}},
        )
    ):
        other = prepare(tmp_path, **change, state=[i])
        assert other.fingerprint != first.fingerprint


def test_the_fingerprint_does_not_depend_on_shards(tmp_path, monkeypatch):
    first = prepare(tmp_path)
    monkeypatch.setattr(split_writer, "SHARD_BYTES", 1)
    second = prepare(tmp_path, state=["y"])
    assert (len(shards(first)), len(shards(second))) == (1, 9)
    assert second.fingerprint == first.fingerprint


def test_outdated_clips_that_nobody_opened_of_late_are_removed(tmp_path):
    first = prepare(tmp_path)
    other_settings = prepare(tmp_path, settings={"a": 2})
    age(first.path)
    age(other_settings.path)
    prepare(tmp_path, state=["y"])
    assert not os.path.exists(first.path)
    assert os.path.exists(other_settings.path)


def test_outdated_clips_that_a_run_may_still_read_are_kept(tmp_path):
    first = prepare(tmp_path)
    age(first.path)
    prepare(tmp_path, REFUSED)
    prepare(tmp_path, state=["y"])
    assert len(first.clips["train"].reader()(0)[0]) == 20000


@pytest.mark.parametrize("damage", ["truncate", "unlink"])
@pytest.mark.parametrize(
    "file", ["clips-train.array_record-00000", "test.npz", "info.json"]
)
def test_damaged_clips_are_prepared_again(tmp_path, file, damage):
    data = prepare(tmp_path)
    path = pathlib.Path(data.path) / file
    if damage == "truncate":
        path.write_bytes(path.read_bytes()[:-8])
    else:
        path.unlink()
    again = prepare(tmp_path)
    assert len(again.clips["train"].reader()(0)[0]) == 20000


@pytest.mark.parametrize("file", ["info.json", "train.npz", "labels"])
def test_files_that_are_something_else_are_prepared_again(tmp_path, file):
    folder = pathlib.Path(prepare(tmp_path).path)
    if file == "info.json":
        info = json.loads((folder / file).read_text()) | {"shards": None}
        (folder / file).write_text(json.dumps(info))
    elif file == "labels":
        # The index of another split.
        os.replace(folder / "test.npz", folder / "train.npz")
    else:
        (folder / file).write_bytes(b"")
    assert len(prepare(tmp_path).clips["train"].reader()(0)[0]) == 20000


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("in_memory", [False, True])
def test_every_flipped_bit_of_a_shard_is_harmless_or_told(tmp_path, in_memory):
    audio_data = prepare(tmp_path, {"train": clips(0, 2)})
    (shard, *_) = shards(audio_data)
    whole = shard.read_bytes()
    sound = [audio_data.clips["train"].reader()(i)[0] for i in range(2)]
    rng = np.random.default_rng(0)
    told = 0
    for position in rng.integers(len(whole), size=99):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << int(rng.integers(8))
        shard.write_bytes(damaged)
        try:
            opened = prepare(tmp_path, REFUSED).clips["train"]
            read = opened.reader(in_memory)
            found = [read(i)[0] for i in range(2)]
            names = [opened.source_of(i) for i in range(2)]
        except ValueError as error:
            assert "Prepared clips must be as they were" in str(error)
            told += 1
            continue
        assert names == ["clip 0", "clip 1"]
        for one, other in zip(found, sound, strict=True):
            np.testing.assert_array_equal(one, other)
    assert told > 9


def test_equal_lengths_are_known_statically(tmp_path):
    equal = [Clip(tone(i)[:10], 0) for i in range(4)]
    data = prepare(tmp_path, {"train": equal}, sample_rate=None)
    assert data.splits["train"].element_spec[0].shape == (10,)
    data = prepare(tmp_path, state=["y"])
    assert data.splits["train"].element_spec[0].shape == (None,)


def test_the_name_of_a_configuration_is_kept(tmp_path):
    result = prepare(tmp_path, name="nsynth/full:2.*")
    assert result.name == "nsynth/full:2.*"
    assert len(os.listdir(tmp_path / "leaf_audio")) == 1


def test_groups_are_kept_where_all_clips_have_one(tmp_path):
    made = [Clip(tone(i), 0, group=i // 2) for i in range(4)]
    found = prepare(tmp_path, {"train": made, "test": clips(0, 3)})
    np.testing.assert_array_equal(found.clips["train"].groups, [0, 0, 1, 1])
    assert found.clips["test"].groups is None
    other = found.relabelled(["c", "a", "b"])
    np.testing.assert_array_equal(other.clips["train"].groups, [0, 0, 1, 1])
    assert other.clips["test"].labels.tolist() == [1, 2, 0]


def test_without_array_record_a_message_says_so(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "array_record.python", None)
    with pytest.raises(ImportError, match="array_record, which cannot be"):
        prepare(tmp_path)


def test_settings_may_be_numbers_of_numpy(tmp_path):
    first = prepare(tmp_path, settings={"rate": 8000, "share": 0.5})
    settings = {"rate": np.int64(8000), "share": np.float32(0.5)}
    assert prepare(tmp_path, REFUSED, settings=settings).path == first.path
