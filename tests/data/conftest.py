"""Fixtures for folders of recordings."""

import os

import pytest
import soundfile
from audio_files import put, sine

from leaf_audio.data import audio_folder, split_writer


@pytest.fixture
def folder(tmp_path):
    """Two labels and three splits."""
    root = tmp_path / "clips"
    counts = (("train", 3), ("validation", 1), ("test", 2))
    for number, (split, count) in enumerate(counts):
        for k, label in enumerate(("no", "yes")):
            for i in range(count):
                hz = 300 + 100 * k + 10 * number + i
                put(root / split / label / f"{i}.wav", sine(hz))
    return root


@pytest.fixture
def read_folder(tmp_path):
    def read_folder(path, **options):
        return audio_folder(
            path=str(path), data_dir=str(tmp_path / "prepared"), **options
        )

    return read_folder


@pytest.fixture
def decoded_counts(monkeypatch, called_by_this_test):
    """A list that gets the number of samples of each block that is decoded."""
    counts = []
    original = soundfile.SoundFile.read

    def counting(self, *args, **options):
        samples = original(self, *args, **options)
        if called_by_this_test():
            counts.append(len(samples))
        return samples

    monkeypatch.setattr(soundfile.SoundFile, "read", counting)
    return counts


@pytest.fixture
def small(monkeypatch):
    """Shards of one clip, of several records, and few clips at a time."""
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    monkeypatch.setattr(split_writer, "SHARD_BYTES", 2**15)
    monkeypatch.setattr(split_writer, "PART_SAMPLES", 2**13)
    monkeypatch.setattr("leaf_audio.data.clip_store.PART_SAMPLES", 2**13)
