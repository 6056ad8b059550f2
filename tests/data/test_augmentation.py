"""Augmentations: what they do, by how much and how often."""

import concurrent.futures
import functools
import time

import numpy as np
import pytest
from audio_files import put

from leaf_audio import data
from leaf_audio.data import background as background_module

pytestmark = pytest.mark.any_backend


def noise(count=4000, seed=0):
    return np.random.default_rng(seed).standard_normal(count, np.float32)


def draws(augmentation, samples, count=200, **settings):
    """What an augmentation makes of one clip, under several generators."""
    return [
        augmentation(samples, rng=np.random.default_rng(seed), **settings)
        for seed in range(count)
    ]


def snr_db(samples, result):
    return 20 * np.log10(samples.std() / (result - samples).std())


@pytest.fixture
def background(tmp_path):
    """A bound `background_noise`, and its two recordings."""
    recordings = [noise(9000, 1), np.sin(np.arange(300) / 7)]
    for i, recording in enumerate(recordings):
        put(tmp_path / "deep" / f"{i}.wav", 0.1 * recording, subtype="FLOAT")
    (tmp_path / "notes.txt").write_text("no audio")
    bound = functools.partial(
        data.background_noise,
        folder=str(tmp_path),
        sample_rate=16000,
        probability=1,
    )
    return bound, recordings


AUGMENTATIONS = [
    data.circular_shift,
    data.colored_noise,
    data.gain,
    data.polarity_inversion,
    data.speed_change,
    data.time_mask,
    data.time_shift,
    data.white_noise,
]


@pytest.fixture(params=[*AUGMENTATIONS, "background_noise"])
def augmentation(request):
    if request.param == "background_noise":
        return request.getfixturevalue("background")[0]
    return request.param


def test_evaluation_changes_nothing(augmentation):
    np.testing.assert_array_equal(augmentation(noise()), noise())


def test_the_generator_decides_what_is_drawn(augmentation):
    results = [
        augmentation(noise(), rng=np.random.default_rng(seed), probability=1)
        for seed in (7, 7, 8)
    ]
    np.testing.assert_array_equal(results[0], results[1])
    assert all(result.dtype == np.float32 for result in results)
    if augmentation is not data.polarity_inversion:
        assert not np.array_equal(results[0], results[2])


def test_the_argument_stays_as_it_is(augmentation):
    samples = noise()
    samples.flags.writeable = False
    draws(augmentation, samples, 5, probability=1)


def test_the_probability_is_the_share_of_clips_that_change(augmentation):
    changed = [
        not np.array_equal(result, noise(500))
        for result in draws(augmentation, noise(500), 400, probability=0.3)
    ]
    # The standard deviation of the count is 9.2. A shift or a mask may be of
    # length 0.
    assert 80 < sum(changed) < 160


@pytest.mark.parametrize("probability", [-0.1, 1.5, "often", float("nan")])
def test_a_wrong_probability_is_named(augmentation, probability):
    with pytest.raises(ValueError, match="probability` must be a number in"):
        augmentation(
            noise(), probability=probability, rng=np.random.default_rng(0)
        )


def test_silence_and_one_sample_stay_finite(augmentation):
    for samples in (np.zeros(2000, np.float32), np.ones(1, np.float32)):
        for result in draws(augmentation, samples, 20, probability=1):
            assert np.isfinite(result).all()


def test_a_time_shift_moves_a_clip_both_ways_and_fills_up_with_zeros():
    samples = np.arange(1, 11, dtype=np.float32)
    padded = np.pad(samples, 3)
    seen = set()
    for shifted in draws(data.time_shift, samples, 60, max_shift=3):
        starts = [
            start
            for start in range(7)
            if np.array_equal(shifted, padded[start : start + 10])
        ]
        assert len(starts) == 1
        seen.update(starts)
    assert seen == set(range(7))


def test_a_circular_shift_goes_both_ways_up_to_its_share():
    samples = np.arange(20, dtype=np.float32)
    results = draws(data.circular_shift, samples, max_share=0.1)
    assert {int(result[0]) for result in results} == {18, 19, 0, 1, 2}
    assert all((np.sort(result) == samples).all() for result in results)


def test_a_gain_is_uniform_in_decibels():
    results = draws(data.gain, noise(), 400, min_db=-12, max_db=6)
    gains = [20 * np.log10(r[0] / noise()[0]) for r in results]
    assert -12 <= min(gains) < -11 and 5 < max(gains) <= 6
    # The standard error of the mean is 0.26.
    assert np.mean(gains) == pytest.approx(-3, abs=1)


@pytest.mark.parametrize("augmentation", [data.white_noise, data.colored_noise])
@pytest.mark.parametrize("level", [0.01, 3])
def test_noise_has_the_drawn_ratio_to_the_clip(augmentation, level):
    samples = np.float32(level) * noise(seed=3000)
    results = draws(augmentation, samples, min_snr_db=10, max_snr_db=30)
    ratios = [snr_db(samples, result) for result in results]
    assert 9.7 < min(ratios) < 12 and 28 < max(ratios) < 30.3


def test_white_noise_has_by_default_the_level_of_the_recipe():
    ratios = [snr_db(noise(), r) for r in draws(data.white_noise, noise())]
    exponents = -np.array(ratios) / 20
    assert -2.52 < exponents.min() < -2.4 and -0.9 < exponents.max() < -0.78


@pytest.mark.parametrize("exponent", [-1, 0, 1, 2])
@pytest.mark.parametrize("count", [4000, 4001])
def test_the_spectrum_of_coloured_noise_falls_as_it_should(exponent, count):
    samples = noise(count)
    added = [
        result - samples
        for result in draws(
            data.colored_noise,
            samples,
            min_snr_db=0,
            max_snr_db=0,
            min_exponent=exponent,
            max_exponent=exponent,
        )
    ]
    power = (np.abs(np.fft.rfft(added)) ** 2).mean(axis=0)[1:-1]
    frequencies = np.log(np.arange(1, len(power) + 1))
    slope, _ = np.polyfit(frequencies, np.log(power), 1)
    assert slope == pytest.approx(-exponent, abs=0.05)


def test_a_time_mask_silences_one_stretch_up_to_its_share():
    lengths, starts = [], []
    for result in draws(data.time_mask, np.ones(100, np.float32), 400):
        (zeros,) = np.nonzero(result == 0)
        lengths.append(len(zeros))
        if len(zeros):
            assert zeros[-1] - zeros[0] == len(zeros) - 1
            starts.append(zeros[0])
    assert set(lengths) == set(range(11))
    assert min(starts) < 5 and max(starts) > 85


def test_an_inverted_clip_has_the_other_sign():
    signs = [r[0] / noise()[0] for r in draws(data.polarity_inversion, noise())]
    assert set(signs) == {-1, 1}


@pytest.mark.parametrize("factor", [0.8, 1.25])
def test_speed_changes_length_and_pitch(factor):
    hz, rate = 500, 8000
    samples = np.sin(2 * np.pi * hz * np.arange(rate) / rate).astype(np.float32)
    (result,) = draws(
        data.speed_change, samples, 1, min_factor=factor, max_factor=factor
    )
    assert len(result) == pytest.approx(rate / factor, abs=1)
    spectrum = np.abs(np.fft.rfft(result))
    found = spectrum.argmax() * rate / len(result)
    assert found == pytest.approx(factor * hz, abs=2)


def test_speeds_are_hundredths_within_the_range():
    samples = noise(10000)
    lengths = {len(result) for result in draws(data.speed_change, samples, 300)}
    allowed = {round(10000 * 100 / k) for k in range(90, 111)}
    assert lengths == allowed


@pytest.mark.parametrize("low, high", [(0.962, 0.968), (0.996, 1.004)])
def test_a_narrow_range_has_many_speeds(low, high):
    settings = {"min_factor": low, "max_factor": high}
    results = draws(data.speed_change, noise(40000), 30, **settings)
    lengths = {len(result) for result in results}
    assert len(lengths) > 20
    assert min(lengths) >= 40000 / high - 1
    assert max(lengths) <= 40000 / low + 1


@pytest.mark.parametrize("low, high", [(0.9, 1.1), (0.5, 0.7), (1.3, 2.0)])
def test_speed_change_resamples_only_what_align_needs(low, high):
    settings = {"min_factor": low, "max_factor": high, "seq_len": 1000}
    results = draws(data.speed_change, noise(50000), **settings)
    lengths = [len(result) for result in results]
    assert min(lengths) >= 1000
    assert max(lengths) <= 1000 * high / low + 1
    # The part comes from anywhere in the clip.
    ramp = np.arange(50000, dtype=np.float32)
    middles = [
        float(result[len(result) // 2])
        for result in draws(data.speed_change, ramp, **settings)
    ]
    assert min(middles) < 2500 and max(middles) > 47500


def test_speed_change_treats_a_short_clip_as_a_whole():
    samples = noise(1100)
    for seed in range(20):
        whole, limited = (
            data.speed_change(
                samples, rng=np.random.default_rng(seed), **settings
            )
            for settings in ({}, {"seq_len": 1000})
        )
        np.testing.assert_array_equal(whole, limited)


def test_background_is_a_part_of_a_recording_at_the_drawn_ratio(background):
    bound, recordings = background
    samples = noise(500, seed=2)
    results = draws(bound, samples, 60, min_snr_db=5, max_snr_db=15)
    ratios = [snr_db(samples, result) for result in results]
    assert 4.99 < min(ratios) < 7 and 13 < max(ratios) < 15.01
    found = set()
    for result in results:
        added = result - samples
        for i, recording in enumerate(recordings):
            repeated = np.resize(recording, max(len(recording), 500))
            parts = np.lib.stride_tricks.sliding_window_view(repeated, 500)
            lengths = np.linalg.norm(parts, axis=1) * np.linalg.norm(added)
            (starts,) = np.nonzero(parts @ added > 0.9999 * lengths)
            found.update((i, int(start)) for start in starts)
    assert {i for i, _ in found} == {0, 1}
    assert len(found) > 10


@pytest.mark.parametrize("folder", [None, "empty", "nowhere"])
def test_a_background_without_recordings_is_told(tmp_path, folder):
    (tmp_path / "empty").mkdir()
    path = folder and str(tmp_path / folder)
    with pytest.raises(ValueError, match="`background_noise.folder` must be"):
        data.background_noise(
            noise(),
            folder=path,
            sample_rate=16000,
            rng=np.random.default_rng(0),
        )


def test_threads_decode_a_background_once(tmp_path, monkeypatch):
    decoded = []

    def read(file, sample_rate):
        decoded.append(file)
        time.sleep(0.1)
        return noise(500)

    monkeypatch.setattr(background_module, "read_recording", read)
    (tmp_path / "a.wav").touch()

    def augment(seed):
        return data.background_noise(
            noise(),
            folder=str(tmp_path),
            sample_rate=16000,
            rng=np.random.default_rng(seed),
        )

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(augment, range(8)))
    assert len(decoded) == 1


def test_all_backgrounds_that_cannot_be_read_are_named(tmp_path):
    for name in ("bad.wav", "worse.flac"):
        (tmp_path / name).write_bytes(b"no audio")
    with pytest.raises(ValueError, match="'bad.wav' .*'worse.flac' .Format"):
        data.background_noise(
            np.ones(9, np.float32),
            str(tmp_path),
            sample_rate=8000,
            rng=np.random.default_rng(0),
        )


@pytest.mark.parametrize(
    "augmentation, settings",
    [
        (
            data.background_noise,
            {"sample_rate": 16000, "min_snr_db": 9, "max_snr_db": 1},
        ),
        (data.background_noise, {"sample_rate": 0}),
        (data.background_noise, {"sample_rate": 16000, "probability": 2}),
        (data.background_noise, {"sample_rate": 16000, "folder": 5}),
        (data.circular_shift, {"max_share": 1.5}),
        (data.colored_noise, {"max_exponent": 99}),
        (data.colored_noise, {"min_snr_db": -1000}),
        (data.gain, {"max_db": 1000}),
        (data.gain, {"min_db": True}),
        (data.speed_change, {"max_factor": 1e9}),
        (data.speed_change, {"min_factor": 1e-9}),
        (data.colored_noise, {"min_exponent": 3}),
        (data.colored_noise, {"max_snr_db": "high"}),
        (data.gain, {"min_db": 7}),
        (data.speed_change, {"min_factor": 0}),
        (data.speed_change, {"max_factor": 0.5}),
        (data.speed_change, {"seq_len": 0}),
        (data.time_mask, {"max_share": -0.1}),
        (data.time_shift, {"max_shift": -1}),
        (data.time_shift, {"max_shift": 0.5}),
        (data.white_noise, {"max_snr_db": float("nan")}),
    ],
)
@pytest.mark.parametrize("in_training", [False, True])
def test_a_wrong_setting_is_named(augmentation, settings, in_training):
    rng = np.random.default_rng(0) if in_training else None
    ((name, value),) = list(settings.items())[-1:]
    with pytest.raises(
        ValueError, match=f"{augmentation.__name__}.*{name}={value!r}"
    ):
        augmentation(noise(), rng=rng, **settings)


@pytest.mark.parametrize("augmentation", [data.white_noise, data.colored_noise])
@pytest.mark.parametrize("level", [1e-18, 1.0, 1e25])
def test_noise_is_added_to_clips_of_any_level(augmentation, level):
    samples = np.float32(level) * noise()
    rng = np.random.default_rng(0)
    result = augmentation(samples, min_snr_db=20, max_snr_db=20, rng=rng)
    assert np.isfinite(result).all()
    added = (result - samples).std(dtype=np.float64)
    ratio = samples.std(dtype=np.float64) / added
    assert ratio == pytest.approx(10, rel=0.05)


@pytest.mark.parametrize("exponent", [-8, 8])
def test_the_steepest_noise_is_added_to_long_clips(exponent):
    samples = np.random.default_rng(0).normal(0, 1, 160000).astype("float32")
    result = data.colored_noise(
        samples,
        min_exponent=exponent,
        max_exponent=exponent,
        min_snr_db=20,
        max_snr_db=20,
        rng=np.random.default_rng(1),
    )
    assert (result - samples).std() == pytest.approx(0.1, rel=0.05)


def test_a_folder_in_the_home_directory_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    put(tmp_path / "rain" / "x.wav", noise(), 16000)
    rng = np.random.default_rng(0)
    settings = {"sample_rate": 16000, "probability": 1.0, "rng": rng}
    samples = noise()
    found = data.background_noise(samples, folder="~/rain", **settings)
    assert not np.array_equal(found, samples)
    with pytest.raises(ValueError, match="~/snow', which is not there"):
        data.background_noise(samples, folder="~/snow", **settings)
