"""What an exported model does to clips is what an evaluation does."""

import functools

import keras
import numpy as np
import pytest

from leaf_audio import data
from leaf_audio.data import chunks
from leaf_audio.serving import portable_preparation

align = functools.partial(data.align, seq_len=900)
wrap = functools.partial(data.align, seq_len=900, padding="wrap")
loud = functools.partial(
    data.loudness_normalization, target_db=0, max_gain_db=60
)
peak = data.peak_normalization


def own(samples):
    return samples[::-1]


def as_batch(array):
    return keras.ops.convert_to_tensor(array[None])


def first_of(tensor):
    return keras.ops.convert_to_numpy(tensor)[0]


@pytest.mark.parametrize("gain", [0, 1e-30, 1e-3, 0.1, 1, 3e4])
@pytest.mark.parametrize(
    "fns",
    [[align, loud], [loud, align], [peak, wrap], [wrap, peak], [loud], []],
    ids=["align loud", "loud align", "peak wrap", "wrap peak", "loud", "none"],
)
def test_clips_are_prepared_as_in_an_evaluation(fns, gain):
    generator = np.random.default_rng(0)
    before, included = portable_preparation.split(fns, has_one_length=False)
    assert before == [] and len(included) == len(fns)
    for time in (1, 7, 899, 900, 901, 2002):
        clip = (gain * generator.normal(0.3, 1, time)).astype("float32")
        found = portable_preparation.prepare(as_batch(clip), included)
        expected = data.transform(clip, fns)
        # The result may be denormal, which some processors round to 0.
        np.testing.assert_allclose(
            first_of(found), expected, rtol=1e-5, atol=1e-37
        )


@pytest.mark.parametrize("hop", [100, 333, 900])
@pytest.mark.parametrize("time", [1, 899, 900, 901, 1800, 2002])
def test_windows_are_those_of_an_evaluation(time, hop):
    samples = np.random.default_rng(0).normal(0, 1, time).astype("float32")
    _, starts = chunks.cut(np.array([time]), 900, hop)
    expected = np.stack([samples[start : start + 900] for start in starts])
    found = portable_preparation.cut(as_batch(samples), 900, hop)
    np.testing.assert_array_equal(first_of(found), expected)


@pytest.mark.any_backend
@pytest.mark.parametrize(
    "fns, has_one_length, before, included",
    [
        ([align, loud], False, [], ["align", "loudness_normalization"]),
        ([align, loud], True, ["align"], ["loudness_normalization"]),
        ([loud, align], True, ["loudness_normalization", "align"], []),
        ([data.gain, align, peak], True, ["align"], ["peak_normalization"]),
        (
            [align, own, peak],
            False,
            ["align", f"{__name__}.own"],
            ["peak_normalization"],
        ),
    ],
)
def test_what_cannot_be_included_comes_first(
    fns, has_one_length, before, included
):
    parts = portable_preparation.split(fns, has_one_length)
    names = [[one["name"] for one in part] for part in parts]
    assert names == [before, included]


@pytest.mark.any_backend
def test_steps_have_all_arguments():
    _, (step,) = portable_preparation.split(
        [functools.partial(data.loudness_normalization, target_db=3)], True
    )
    assert step == {
        "name": "loudness_normalization",
        "target_db": 3,
        "max_gain_db": 30.0,
    }
