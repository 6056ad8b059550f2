"""The store of prepared clips: complete, exact, safe under kills and races."""

import json
import multiprocessing
import os
import pathlib
import time

import numpy as np
import pytest

from leaf_audio.data import clip_store

pytestmark = pytest.mark.any_backend


def ramp(i):
    return np.arange(i, i + 40000 + i, dtype=np.float32)


def write(writer):
    for i in range(12):
        writer.add("train" if i < 9 else "test", ramp(i), i % 3)
    return {"label_names": list("abc"), "sample_rate": 8000, "skipped": {}}


def prepare(data_dir, write=write, **changes):
    arguments = {"settings": {"a": 1}, "state": ["x"], "dtype": "float32"}
    return clip_store.prepare_once(
        "set", str(data_dir), write=write, **(arguments | changes)
    )


def refuse(writer):
    raise AssertionError("prepared again without need")


def partial_folders(data_dir):
    return list(pathlib.Path(data_dir).glob("leaf_audio/*/*.partial"))


@pytest.mark.parametrize("in_memory", [False, True])
def test_clips_come_back_exactly_from_several_files(tmp_path, in_memory):
    train = prepare(tmp_path).clips["train"]
    assert len(list(train.directory.iterdir())) > 1
    read = train.reader(in_memory)
    for i in (8, 0, 5):
        audio, label = read(i)
        np.testing.assert_array_equal(audio, ramp(i))
        assert label == i % 3


def test_splits_and_counts_describe_what_was_written(tmp_path):
    data = prepare(tmp_path)
    assert data.counts == {"train": 9, "test": 3}
    assert data.label_names == ("a", "b", "c")
    assert data.sample_rate == 8000
    firsts = [a[0] for a, _ in data.splits["test"].as_numpy_iterator()]
    assert firsts == [9, 10, 11]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_clip_that_is_not_finite_is_not_stored(tmp_path, value):
    def write_one(writer):
        writer.add("train", ramp(0), 0)
        samples = ramp(1)
        samples[-1] = value
        writer.add("train", samples, 0)

    with pytest.raises(ValueError, match="infinity in clip 1 of 'train'"):
        prepare(tmp_path, write=write_one)
    assert not list(pathlib.Path(tmp_path).rglob("info.json"))


def test_a_stored_clip_that_is_not_finite_is_told(tmp_path):
    """An earlier version may have stored it."""
    train = prepare(tmp_path).clips["train"]
    samples = np.fromfile(train.directory / "1", "<f4")
    samples[3] = np.nan
    samples.tofile(train.directory / "1")
    with pytest.raises(ValueError, match="train/1. Remove the folder"):
        train.reader(in_memory=True)


def test_stored_samples_that_were_changed_are_told(tmp_path):
    train = prepare(tmp_path).clips["train"]
    train.reader(in_memory=True)
    samples = np.fromfile(train.directory / "1", "<f4")
    samples[3] += 1
    samples.tofile(train.directory / "1")
    with pytest.raises(ValueError, match="other samples in .*/train. Remove"):
        prepare(tmp_path).clips["train"].reader(in_memory=True)


def test_prepared_clips_are_used_again(tmp_path):
    first = prepare(tmp_path)
    again = prepare(tmp_path, write=refuse)
    assert (again.path, again.fingerprint) == (first.path, first.fingerprint)
    assert again.counts == first.counts


@pytest.mark.parametrize(
    "change", [{"state": ["y"]}, {"settings": {"a": 2}}, {"dtype": "int16"}]
)
def test_another_state_or_setting_is_prepared_anew(tmp_path, change):
    first = prepare(tmp_path)
    other = prepare(tmp_path, **change)
    assert other.path != first.path


def test_labels_may_be_integers_of_numpy(tmp_path):
    def write_one(writer):
        writer.add("train", ramp(0), np.int64(1), group=np.int32(0))
        return {"label_names": list("ab"), "sample_rate": 8000, "skipped": {}}

    (label,) = prepare(tmp_path, write=write_one).clips["train"].labels
    assert label == 1


def test_the_fingerprint_is_that_of_the_clips(tmp_path):
    first = prepare(tmp_path)
    same = prepare(tmp_path, state=["y"], settings={"a": 2})
    assert same.fingerprint == first.fingerprint

    def other_label(writer):
        info = write(writer)
        return info | {"label_names": ["a", "b", "d"]}

    def another_clip(writer):
        info = write(writer)
        writer.add("test", ramp(3), 0)
        return info

    for change in (other_label, another_clip):
        other = prepare(tmp_path, state=[change.__name__], write=change)
        assert other.fingerprint != first.fingerprint


def age(directory):
    directory = pathlib.Path(directory)
    for path in [*directory.iterdir(), directory]:
        os.utime(path, (0, 0))


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
    prepare(tmp_path, write=refuse)
    prepare(tmp_path, state=["y"])
    audio, _ = first.clips["train"].reader()(0)
    np.testing.assert_array_equal(audio, ramp(0))


def test_an_error_while_preparing_leaves_nothing(tmp_path):
    def fail(writer):
        write(writer)
        raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        prepare(tmp_path, write=fail)
    assert not list(tmp_path.glob("leaf_audio/*/*"))
    assert prepare(tmp_path).counts == {"train": 9, "test": 3}


def prepare_and_hang(data_dir, ready):
    def hang(writer):
        write(writer)
        ready.set()
        time.sleep(600)

    prepare(data_dir, write=hang)


@pytest.mark.slow
def test_clips_half_written_by_a_killed_process_are_not_used(tmp_path):
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    process = context.Process(target=prepare_and_hang, args=(tmp_path, ready))
    process.start()
    assert ready.wait(60)
    process.kill()
    process.join()
    (abandoned,) = partial_folders(tmp_path)

    assert prepare(tmp_path).counts == {"train": 9, "test": 3}
    # It might have been the folder of a process that is still at work.
    assert abandoned.exists()
    age(abandoned)
    prepare(tmp_path, state=["y"])
    assert not abandoned.exists()


def test_the_second_of_two_processes_takes_the_result_of_the_first(tmp_path):
    inner = []

    def write_while_another_finishes(writer):
        inner.append(prepare(tmp_path))
        return write(writer)

    outer = prepare(tmp_path, write=write_while_another_finishes)
    assert outer.path == inner[0].path
    assert outer.counts == {"train": 9, "test": 3}
    assert not partial_folders(tmp_path)
    prepare(tmp_path, write=refuse)


@pytest.mark.parametrize("damage", ["truncate", "unlink"])
@pytest.mark.parametrize("file", ["train/0", "test.npz", "info.json"])
def test_damaged_clips_are_prepared_again(tmp_path, file, damage):
    data = prepare(tmp_path)
    path = pathlib.Path(data.path) / file
    if damage == "truncate":
        path.write_bytes(path.read_bytes()[:-8])
    else:
        path.unlink()
    again = prepare(tmp_path)
    audio, _ = again.clips["train"].reader()(0)
    np.testing.assert_array_equal(audio, ramp(0))


@pytest.mark.parametrize("file", ["info.json", "train.npz"])
def test_files_that_are_something_else_are_prepared_again(tmp_path, file):
    path = pathlib.Path(prepare(tmp_path).path) / file
    if file == "info.json":
        info = json.loads(path.read_text()) | {"samples_sha256": None}
        path.write_text(json.dumps(info))
    else:
        path.write_bytes(b"")
    audio, _ = prepare(tmp_path).clips["train"].reader()(0)
    np.testing.assert_array_equal(audio, ramp(0))


def test_equal_lengths_are_known_statically(tmp_path):
    def write_equal(writer):
        for i in range(4):
            writer.add("train", np.full(10, i), 0)
        return {"label_names": ["a"], "sample_rate": None, "skipped": {}}

    data = prepare(tmp_path, write=write_equal)
    assert data.splits["train"].element_spec[0].shape == (10,)
    data = prepare(tmp_path, state=["y"])
    assert data.splits["train"].element_spec[0].shape == (None,)


def test_the_name_of_a_configuration_is_kept(tmp_path):
    def write(writer):
        writer.add("train", np.zeros(3), 0)
        return {"label_names": ["a"], "sample_rate": 1, "skipped": {}}

    result = clip_store.prepare_once(
        "nsynth/full:2.*", str(tmp_path), {}, [], "float32", write
    )
    assert result.name == "nsynth/full:2.*"
    assert len(os.listdir(tmp_path / "leaf_audio")) == 1


def test_groups_are_kept_where_all_clips_have_one(tmp_path):
    def write_groups(writer):
        for i in range(4):
            writer.add("train", ramp(i), 0, group=i // 2)
            writer.add("test", ramp(i), 1)
        return {"label_names": ["a", "b"], "sample_rate": 1, "skipped": {}}

    found = prepare(tmp_path, write=write_groups)
    np.testing.assert_array_equal(found.clips["train"].groups, [0, 0, 1, 1])
    assert found.clips["test"].groups is None
    other = found.relabelled(["b", "a"])
    np.testing.assert_array_equal(other.clips["train"].groups, [0, 0, 1, 1])


@pytest.mark.parametrize("in_memory", [False, True])
def test_a_part_of_a_clip_can_be_read(tmp_path, in_memory):
    read = prepare(tmp_path).clips["train"].reader(in_memory)
    audio, label = read(5, 100, 300)
    np.testing.assert_array_equal(audio, ramp(5)[100:300])
    assert label == 2
    # No further than to the end of the clip.
    np.testing.assert_array_equal(read(5, 39990, 10**6)[0], ramp(5)[39990:])
