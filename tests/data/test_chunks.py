"""Chunks of clips that are longer than the input of a model."""

import functools

import numpy as np
import pytest
from test_batches import make

from leaf_audio import data
from leaf_audio.data import chunks

pytestmark = pytest.mark.any_backend

crop = functools.partial(data.align, seq_len=30)


@pytest.mark.parametrize(
    "length, hop, expected",
    [
        (10, 30, [0]),
        (30, 30, [0]),
        (31, 30, [0, 1]),
        (60, 30, [0, 30]),
        (75, 20, [0, 20, 40, 45]),
    ],
)
def test_chunks_cover_a_clip_from_its_start_to_its_end(length, hop, expected):
    clips, starts = chunks.cut(np.array([length]), 30, hop)
    assert list(starts) == expected
    assert set(clips) == {0}
    covered = np.zeros(length, bool)
    for start in starts:
        covered[start : start + 30] = True
    assert covered.all()


def test_chunks_are_in_the_order_of_the_clips():
    clips, starts = chunks.cut(np.array([75, 5, 40]), 30, 30)
    assert list(clips) == [0, 0, 0, 1, 2, 2]
    assert list(starts) == [0, 30, 45, 0, 0, 10]


@pytest.mark.parametrize("max_cache_bytes", [0, 10**9])
def test_batches_of_chunks_hold_all_parts_of_each_clip(
    tmp_path, max_cache_bytes
):
    made = make(tmp_path, lengths=[75, 12], counts={"train": 2, "test": 3})
    batches = data.prepare(
        made, [crop], 2, max_cache_bytes=max_cache_bytes, evaluation_hop=20
    )
    some, clips = batches.chunks("test")
    audio = np.concatenate([audio for audio, _ in some])
    labels = np.concatenate([label for _, label in some])
    assert list(clips) == [0] * 4 + [1] + [2] * 4
    np.testing.assert_array_equal(labels, clips)
    expected = 2 + np.arange(45, 75) / 100
    np.testing.assert_allclose(audio[-1], expected, rtol=1e-6)
    # A shorter clip is padded, as elsewhere.
    np.testing.assert_allclose(
        audio[4], [*(1 + np.arange(12) / 100), *[0] * 18], rtol=1e-6
    )
    # Validation in training takes the centre of each clip.
    centre = np.concatenate([audio for audio, _ in batches.evaluation["test"]])
    np.testing.assert_allclose(centre[0], np.arange(22, 52) / 100, rtol=1e-6)
    np.testing.assert_array_equal(batches.labels["test"], [0, 1, 2])
    assert batches.groups == {"test": None}


def test_each_chunk_is_transformed_as_a_clip(tmp_path):
    made = make(tmp_path, lengths=[75], counts={"train": 1, "test": 1})
    batches = data.prepare(
        made, [crop, data.peak_normalization], 4, evaluation_hop=30
    )
    ((audio, _),) = batches.chunks("test")[0]
    np.testing.assert_allclose(audio.max(axis=-1), 1, rtol=1e-6)


def test_without_a_hop_each_clip_is_one_chunk(tmp_path):
    batches = data.prepare(make(tmp_path), [crop], 4)
    some, clips = batches.chunks("test")
    assert some is batches.evaluation["test"]
    assert list(clips) == list(range(5))


@pytest.mark.parametrize(
    "hop, transforms, message",
    [
        (0, [crop], "`evaluation_hop` must be a positive integer"),
        (31, [crop], "at most the length of a clip of the model, 30 samples"),
        (
            3,
            [crop, lambda samples: samples.reshape(15, 2)],
            "must be None unless the transforms give waveforms",
        ),
    ],
)
def test_a_hop_that_cannot_be_used_is_named(tmp_path, hop, transforms, message):
    with pytest.raises(ValueError, match=message):
        data.prepare(make(tmp_path), transforms, 4, evaluation_hop=hop)
