"""Transforms and augmentations of one clip."""

import functools

import numpy as np
import pytest
import tensorflow as tf

from leaf_audio import data

pytestmark = pytest.mark.any_backend


@pytest.mark.parametrize("level", [1e18, 1e25, 3e38])
@pytest.mark.parametrize("has_offset", [True, False])
def test_loudness_stays_finite_for_every_finite_clip(level, has_offset):
    samples = np.full(4000, level, np.float32)
    samples[1::2] *= 0.5 if has_offset else -1
    result = data.loudness_normalization(tf.constant(samples)).numpy()
    assert np.isfinite(result).all()
    np.testing.assert_allclose(result.std(), 10**0.75, rtol=1e-3)


@pytest.mark.parametrize("level", [0.0, 1e-4, 0.03, 0.5, 7.0])
def test_loudness_is_brought_to_the_target_up_to_the_largest_gain(level):
    samples = level * np.random.default_rng(0).standard_normal(4000)
    samples = samples.astype(np.float32)
    result = data.loudness_normalization(tf.constant(samples)).numpy()
    gain = 10**1.5
    if level:
        gain = min(gain, 10**0.75 / samples.std())
    np.testing.assert_allclose(result, gain * samples, rtol=1e-4)
    assert np.isfinite(result).all()


def test_a_time_shift_moves_a_clip_both_ways_and_fills_up_with_zeros():
    samples = np.arange(1, 11, dtype=np.float32)
    padded = np.pad(samples, 3)
    seen = set()
    for seed in range(60):
        shifted = data.time_shift(samples, max_shift=3, seed=[seed, 0]).numpy()
        starts = [
            start
            for start in range(7)
            if np.array_equal(shifted, padded[start : start + 10])
        ]
        assert len(starts) == 1
        seen.update(starts)
    assert seen == set(range(7))


def test_a_time_shift_changes_nothing_in_evaluation():
    samples = np.arange(10, dtype=np.float32)
    np.testing.assert_array_equal(data.time_shift(samples), samples)


@pytest.mark.parametrize("max_shift", [-1, 0.5])
def test_a_time_shift_of_no_whole_number_is_named(max_shift):
    with pytest.raises(ValueError, match=f"max_shift.*max_shift={max_shift}"):
        data.time_shift(np.zeros(10, np.float32), max_shift)


def test_one_clip_is_transformed_as_in_evaluation():
    crop = functools.partial(data.align, seq_len=4)
    samples = np.arange(10, dtype=np.float32)
    result = data.transform(samples, [data.time_shift, crop])
    np.testing.assert_array_equal(result, samples[3:7])
    integers = np.array([0, 32767], np.int16)
    np.testing.assert_array_equal(data.transform(integers, []), [0, 1])


def test_the_shape_of_an_example_is_known_before_the_data():
    assert data.example_shape([data.align]) == (16000,)
    assert data.example_shape([data.loudness_normalization]) is None
    assert data.example_shape([data.align, lambda s: s[:100]]) == (100,)
