"""Transforms of one clip, and what a function must be to be one."""

import functools

import numpy as np
import pytest

from leaf_audio import data

pytestmark = pytest.mark.any_backend


def noise(count=4000, seed=0):
    return np.random.default_rng(seed).standard_normal(count, np.float32)


@pytest.mark.parametrize("level", [1e18, 1e25, 3e38])
@pytest.mark.parametrize("has_offset", [True, False])
def test_loudness_stays_finite_for_every_finite_clip(level, has_offset):
    samples = np.full(4000, level, np.float32)
    samples[1::2] *= 0.5 if has_offset else -1
    result = data.loudness_normalization(samples)
    assert np.isfinite(result).all()
    np.testing.assert_allclose(result.std(), 10**0.75, rtol=1e-3)


@pytest.mark.parametrize("level", [0.0, 1e-4, 0.03, 0.5, 7.0])
def test_loudness_is_brought_to_the_target_up_to_the_largest_gain(level):
    samples = np.float32(level) * noise()
    result = data.loudness_normalization(samples)
    gain = 10**1.5
    if level:
        gain = min(gain, 10**0.75 / samples.std())
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, gain * samples, rtol=1e-4)
    assert np.isfinite(result).all()


@pytest.mark.parametrize("level", [0.0, 1e-3, 0.5, 7.0])
def test_the_peak_is_brought_to_the_target_up_to_the_largest_gain(level):
    samples = np.float32(level) * noise()
    result = data.peak_normalization(samples, target_db=-6.0, max_gain_db=20.0)
    peak = min(10 * np.abs(samples).max(), 10 ** (-6 / 20))
    np.testing.assert_allclose(np.abs(result).max(), peak, rtol=1e-5)
    assert result.dtype == np.float32


@pytest.mark.parametrize(
    "normalization", [data.loudness_normalization, data.peak_normalization]
)
@pytest.mark.parametrize("name", ["target_db", "max_gain_db"])
def test_a_level_that_is_no_number_is_named(normalization, name):
    full = f"{normalization.__name__}.{name}"
    with pytest.raises(ValueError, match=f"`{full}` .*{name}='loud'"):
        normalization(noise(), **{name: "loud"})


@pytest.mark.parametrize(
    "samples", [np.zeros((2, 8)), np.zeros(8, complex), np.array(["a"]), 3.0]
)
def test_what_is_no_clip_is_named(samples):
    with pytest.raises(ValueError, match="`samples` must be .* shape .time,."):
        data.transform(samples, [data.align])


def test_a_short_clip_is_continued_by_zeros_or_by_itself():
    samples = np.arange(1, 4, dtype=np.float32)
    for rng in (None, np.random.default_rng(0)):
        padded = data.align(samples, 8, rng=rng)
        np.testing.assert_array_equal(padded, [1, 2, 3, 0, 0, 0, 0, 0])
        wrapped = data.align(samples, 8, padding="wrap", rng=rng)
        np.testing.assert_array_equal(wrapped, [1, 2, 3, 1, 2, 3, 1, 2])
    with pytest.raises(ValueError, match="`align.padding`.*padding='mirror'"):
        data.align(samples, 8, padding="mirror")


def test_one_clip_is_transformed_as_in_evaluation():
    crop = functools.partial(data.align, seq_len=4)
    samples = np.arange(10, dtype=np.float32)
    result = data.transform(samples, [data.time_shift, crop])
    np.testing.assert_array_equal(result, samples[3:7])
    integers = np.array([0, 32767], np.int16)
    result = data.transform(integers, [])
    np.testing.assert_array_equal(result, [0, 1])
    assert result.dtype == np.float32


def test_a_transform_may_change_its_argument():
    def silence_start(samples):
        samples[:2] = 0
        return samples

    samples = np.ones(4, np.float32)
    samples.flags.writeable = False
    result = data.transform(samples, [silence_start])
    np.testing.assert_array_equal(result, [0, 0, 1, 1])
    np.testing.assert_array_equal(samples, 1)


@pytest.mark.parametrize(
    "fn",
    [
        np.negative,
        lambda samples: -samples.astype(np.float64),
        lambda samples: [-value for value in samples],
        lambda samples, rng: -samples,
        functools.partial(np.multiply, -1),
    ],
)
def test_any_function_of_the_samples_is_a_transform(fn):
    result = data.transform(noise(), [fn])
    np.testing.assert_array_equal(result, -noise())
    assert result.dtype == np.float32


def old_style(samples, seed=None):
    return samples


@pytest.mark.parametrize(
    "fn",
    [
        old_style,
        functools.partial(old_style, seed=3),
        lambda samples, *, seed: samples,
    ],
)
@pytest.mark.parametrize(
    "use", [data.example_shape, lambda fns: data.transform(noise(), fns)]
)
def test_a_function_with_a_seed_is_told_what_to_write_now(fn, use):
    with pytest.raises(ValueError, match="Replace `seed` by `rng`"):
        use([data.align, fn])


def test_a_function_that_returns_nothing_is_named():
    def forgetful(samples):
        samples *= 2

    with pytest.raises(ValueError, match="forgetful, which returned None"):
        data.transform(noise(), [forgetful])


def test_the_shape_of_an_example_is_known_before_the_data():
    assert data.example_shape([data.align]) == (16000,)
    assert data.example_shape([data.loudness_normalization]) is None
    assert data.example_shape([data.align, lambda s: s[:100]]) == (100,)
    assert data.example_shape([data.speed_change, data.align]) == (16000,)
    assert data.example_shape([data.align, data.speed_change]) is None
