"""Preparations that are interrupted, or done by several processes at once."""

import concurrent.futures
import multiprocessing
import os
import pathlib
import threading
import time

import numpy as np
import pytest
from stored import (
    CLIPS,
    REFUSED,
    Clip,
    Source,
    age,
    clips,
    partial_folders,
    prepare,
    shards,
    tone,
)

from leaf_audio.data import split_writer

pytestmark = pytest.mark.any_backend


def failing_after(count, first_clip=None):
    """A source that fails, after some clips, until it may go on."""
    asked = []

    def some(first):
        asked.append(first)
        for i in range(first, 9):
            if i == count and len(asked) == 1:
                raise RuntimeError("half way")
            is_given = i == 0 and first_clip is not None
            yield first_clip if is_given else clips(i, i + 1)[0]

    return Source(9, some), asked


def interrupted(data_dir, **options):
    """Has a preparation fail after some shards.

    Returns its folder, the source, which does not fail again, and a list of how
    many clips it was asked to leave out.
    """
    source, asked = failing_after(8)
    with pytest.raises(RuntimeError, match="half way"):
        prepare(data_dir, CLIPS | {"train": source}, **options)
    (partial,) = partial_folders(data_dir)
    return partial, source, asked


def test_an_error_in_the_first_shard_leaves_nothing(tmp_path):
    source, _ = failing_after(5)
    with pytest.raises(RuntimeError, match="half way"):
        prepare(tmp_path, {"train": source})
    assert not [p for p in tmp_path.glob("leaf_audio/*/*") if p.is_dir()]


@pytest.mark.usefixtures("small")
def test_complete_shards_are_not_written_again(tmp_path):
    expected = prepare(tmp_path / "whole")
    partial, source, asked = interrupted(tmp_path)
    left = sorted(path.name for path in partial.iterdir())
    assert all(name.startswith("clips-train") for name in left)
    before = (partial / left[0]).stat().st_mtime_ns
    found = prepare(tmp_path, CLIPS | {"train": source})
    assert 0 < asked[1] < 9
    assert os.stat(shards(found)[0]).st_mtime_ns == before
    assert found.fingerprint == expected.fingerprint
    assert not partial_folders(tmp_path)
    assert sorted(os.listdir(found.path)) == sorted(os.listdir(expected.path))


@pytest.mark.usefixtures("small")
def test_silent_clips_of_complete_shards_are_told_too(tmp_path):
    silent = Clip(np.zeros_like(tone(0)), 0, "silent.wav")
    source, asked = failing_after(8, silent)
    with pytest.raises(RuntimeError, match="half way"):
        prepare(tmp_path, {"train": source})
    (told,) = prepare(tmp_path, {"train": source}).warnings
    assert asked[1] > 0
    assert told.startswith("1 clip is silent") and "'silent.wav'" in told


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("damage", ["truncated", "no summary", "summary of {}"])
def test_a_damaged_shard_of_an_interrupted_preparation_is_written_again(
    tmp_path, damage
):
    partial, source, _ = interrupted(tmp_path)
    shard = partial / "clips-train.array_record-00000"
    summary = shard.with_name(f"{shard.name}.json")
    if damage == "truncated":
        shard.write_bytes(shard.read_bytes()[:-9])
    elif damage == "no summary":
        summary.unlink()
    else:
        summary.write_text("{}")
    found = prepare(tmp_path, CLIPS | {"train": source})
    expected = prepare(tmp_path / "whole")
    assert found.fingerprint == expected.fingerprint


def test_a_preparation_stopped_before_its_last_step_is_not_repeated(tmp_path):
    expected = prepare(tmp_path)
    partial = pathlib.Path(f"{expected.path}.partial")
    os.rename(expected.path, partial)
    assert prepare(tmp_path, REFUSED).path == expected.path


def hang_after_shards(data_dir, ready):
    split_writer.SHARD_BYTES = 1
    os.cpu_count = lambda: 1

    def some(first):
        for i in range(first, 9):
            (folder,) = partial_folders(data_dir)
            if len(list(folder.glob("*.json"))) > 1:
                ready.set()
                time.sleep(600)
            yield clips(i, i + 1)[0]
            time.sleep(0.05)

    prepare(data_dir, CLIPS | {"train": Source(9, some)})


@pytest.mark.slow
def test_a_killed_preparation_is_gone_on_with(tmp_path):
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    process = context.Process(target=hang_after_shards, args=(tmp_path, ready))
    process.start()
    assert ready.wait(60)
    process.kill()
    process.join()

    asked = []
    source = Source(9, lambda first: asked.append(first) or clips(first, 9))
    found = prepare(tmp_path, CLIPS | {"train": source})
    assert asked[0] >= 1
    assert found.fingerprint == prepare(tmp_path / "other").fingerprint
    assert not partial_folders(tmp_path)
    assert not list(pathlib.Path(found.path).glob("*.partial"))


@pytest.mark.usefixtures("small")
def test_an_unfinished_preparation_that_is_old_is_removed(tmp_path):
    abandoned, *_ = interrupted(tmp_path, name="another set")
    prepare(tmp_path)
    # It might have been the folder of a process that is still at work.
    assert abandoned.exists()
    age(abandoned)
    prepare(tmp_path, state=["y"])
    assert not abandoned.exists()


def test_of_several_processes_one_prepares_and_the_others_wait(
    tmp_path, capsys
):
    """Threads with locks of their own stand for processes."""
    begun, asked = threading.Event(), []

    def some(first):
        asked.append(first)
        begun.set()
        time.sleep(0.3)
        yield from clips(first, 9)

    def run():
        return prepare(tmp_path, CLIPS | {"train": Source(9, some)})

    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        first = pool.submit(run)
        assert begun.wait(10)
        others = [pool.submit(run) for _ in range(2)]
        found = [one.result() for one in (first, *others)]
    assert asked == [0]
    assert {one.path for one in found} == {found[0].path}
    assert "waiting for another process" in capsys.readouterr().err
    assert not partial_folders(tmp_path)


def prepare_many(data_dir, start, failures):
    start.wait()
    try:
        made = [Clip(tone(i)[:300], i % 3) for i in range(60)]
        prepare(data_dir, {"train": made, "validation": made[:20]})
    except BaseException as error:
        failures.put(repr(error))
        raise


@pytest.mark.slow
def test_processes_may_prepare_at_the_same_time(tmp_path):
    context = multiprocessing.get_context("spawn")
    start, failures = context.Barrier(3), context.Queue()
    for i in range(3):
        group = [
            context.Process(
                target=prepare_many, args=(tmp_path / str(i), start, failures)
            )
            for _ in range(3)
        ]
        for process in group:
            process.start()
        for process in group:
            process.join(120)
            assert process.exitcode == 0
    assert failures.empty()


@pytest.mark.usefixtures("small")
def test_what_a_killed_process_has_left_is_removed(tmp_path):
    partial, source, _ = interrupted(tmp_path)
    (partial / "clips-train.array_record-00007.partial").write_bytes(b"half")
    found = prepare(tmp_path, CLIPS | {"train": source})
    assert not list(pathlib.Path(found.path).glob("*.partial"))


@pytest.mark.usefixtures("small")
def test_a_shard_without_content_is_written_again(tmp_path):
    """As a file system may leave it when the power fails."""
    partial, source, _ = interrupted(tmp_path)
    shard = partial / "clips-train.array_record-00001"
    shard.write_bytes(bytes(shard.stat().st_size))
    found = prepare(tmp_path, CLIPS | {"train": source})
    assert found.fingerprint == prepare(tmp_path / "whole").fingerprint


@pytest.mark.parametrize("kind", ["shards", "indices"])
def test_swapped_files_are_told(tmp_path, kind):
    same = {"train": clips(0, 4), "validation": clips(4, 8)}
    found = prepare(tmp_path, same)
    names = {
        "shards": "clips-{}.array_record-00000",
        "indices": "{}.npz",
    }
    one, other = (
        pathlib.Path(found.path, names[kind].format(split)) for split in same
    )
    content = one.read_bytes(), other.read_bytes()
    one.write_bytes(content[1])
    other.write_bytes(content[0])
    read = prepare(tmp_path, same).clips["train"].reader()
    with pytest.raises(ValueError, match="must be as they were written"):
        read(0, 0, 10)


def test_flipped_bits_of_the_indices_are_found(tmp_path):
    whole = prepare(tmp_path)
    rng = np.random.default_rng(0)
    for name in ("info.json", "train.npz"):
        path = pathlib.Path(whole.path) / name
        content = path.read_bytes()
        for position in rng.integers(len(content), size=60):
            damaged = bytearray(content)
            damaged[position] ^= 1 << int(rng.integers(8))
            path.write_bytes(damaged)
            again = prepare(tmp_path)
            assert again.fingerprint == whole.fingerprint
            assert again.label_names == whole.label_names
            np.testing.assert_array_equal(
                again.clips["train"].labels, whole.clips["train"].labels
            )
            path.write_bytes(content)


@pytest.mark.parametrize("rate", [0.5, 16000.5, 65537, 131072, 655349, 2e6])
def test_any_sample_rate_is_kept(tmp_path, rate):
    found = prepare(tmp_path, {"train": clips(0, 2)}, sample_rate=rate)
    assert found.sample_rate == rate
    assert len(found.clips["train"].reader()(1)[0]) == 20001


def test_names_of_labels_need_not_be_utf_8(tmp_path):
    names = ["a", "\udce9a", "\\udce9a"]
    found = prepare(tmp_path, label_names=names)
    assert found.label_names == tuple(names)


def test_a_full_disk_is_an_error_of_the_file(tmp_path, monkeypatch):
    from leaf_audio.data import records

    class Full:
        def write(self, record):
            raise RuntimeError("write() failed: No space left; more")

        def is_open(self):
            return False

    original = records.ShardWriter.__init__

    def full(self, path):
        original(self, path)
        self._writer.close()
        self._writer = Full()

    monkeypatch.setattr(records.ShardWriter, "__init__", full)
    with pytest.raises(OSError, match="cannot be written: write.. failed: No"):
        prepare(tmp_path)
    assert not partial_folders(tmp_path)


def test_a_source_gives_what_it_promised(tmp_path):
    source = Source(10, lambda first: clips(first, 9))
    with pytest.raises(ValueError, match="9 instead of 10 for 'train'"):
        prepare(tmp_path, {"train": source})
