"""Transforms of the library audiomentations as augmentations."""

import random

import gin
import numpy as np
import pytest
from test_batches import assert_equal_batches, crop, make, take

from leaf_audio import data
from leaf_audio.app import configurables, configuration  # noqa: F401

audiomentations = pytest.importorskip("audiomentations")

pytestmark = [pytest.mark.any_backend, pytest.mark.usefixtures("fresh_gin")]


def noise(count=4000):
    return np.random.default_rng(0).standard_normal(count, np.float32)


def several():
    """It draws from the generators of Python and of NumPy."""
    return audiomentations.Compose(
        [
            audiomentations.Gain(p=0.5),
            audiomentations.OneOf(
                [
                    audiomentations.AddGaussianNoise(p=1.0),
                    audiomentations.PolarityInversion(p=1.0),
                ]
            ),
        ]
    )


def test_the_generator_decides_what_is_drawn():
    augment = data.Audiomentation(several(), 16000)
    results = [
        augment(noise(), rng=np.random.default_rng(seed))
        for seed in (0, 1, 2, 3, 0, 1, 2, 3)
    ]
    for first, second in zip(results[:4], results[4:], strict=True):
        np.testing.assert_array_equal(first, second)
    assert len({float(result[0]) for result in results}) > 2


def test_evaluation_and_global_generators_stay_as_they_are():
    augment = data.Audiomentation(several(), 16000)
    np.testing.assert_array_equal(augment(noise()), noise())
    random.seed(5)
    np.random.seed(5)
    expected = random.random(), np.random.random()
    random.seed(5)
    np.random.seed(5)
    augment(noise(), rng=np.random.default_rng(0))
    assert (random.random(), np.random.random()) == expected


def test_batches_are_the_same_again_though_threads_make_them(tmp_path):
    audio_data = make(tmp_path)
    runs = [
        data.prepare(
            audio_data, [crop, data.Audiomentation(several(), 16000)], 4
        )
        for _ in range(2)
    ]
    whole = take(runs[0].train(), 30)
    assert_equal_batches(take(runs[1].train(), 30), whole)
    assert_equal_batches(take(runs[1].train(20), 10), whole[20:])


@pytest.mark.parametrize(
    "lines",
    [
        ["Audiomentation.sample_rate = 8000"],
        ["rate = 8000", "data.load.sample_rate = %rate"],
        ["Audiomentation.sample_rate = 8000", "data.load.sample_rate = 16000"],
    ],
)
def test_a_config_names_transforms_and_their_settings(lines):
    configuration.parse(
        [],
        [
            "import leaf_audio.app.augment",
            "data.prepare.transform_fns = [@data.align, @Audiomentation()]",
            "Audiomentation.transform = @Compose()",
            *lines,
            "Compose.transforms = [@audiomentations.Gain(), @BitCrush()]",
            "audiomentations.Gain.min_gain_db = 6.0",
            "audiomentations.Gain.max_gain_db = 6.0",
            "audiomentations.Gain.p = 1.0",
            "BitCrush.p = 0.0",
        ],
    )
    _, augment = gin.get_bindings("data.prepare")["transform_fns"]
    assert type(augment) is data.Audiomentation
    assert augment.sample_rate == 8000
    result = augment(noise(), rng=np.random.default_rng(0))
    np.testing.assert_allclose(result, 10**0.3 * noise(), rtol=1e-5)


@pytest.mark.parametrize("transform", [None, "Gain", audiomentations.Gain])
def test_what_is_no_transform_is_told(transform):
    with pytest.raises(ValueError, match="`Audiomentation.transform` must be"):
        data.Audiomentation(transform, 16000)
