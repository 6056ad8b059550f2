"""LEAF by plan: as exact as promised, for any sizes and inputs."""

import keras
import numpy as np
import pytest
import soundfile
from gradients import grad_mean_square
from keras import ops
from leaf_pairs import kernels, leaf_and_exact, log_error, noise

from leaf_audio import convolution, fast, frontend, initializers, pooling

SIZES = {
    "default": {},
    "8 kHz": {"sample_rate": 8000},
    "44.1 kHz": {"sample_rate": 44100},
    "64 filters": {"n_filters": 64},
    "128 filters": {"n_filters": 128},
    "stride that few hops divide": {"window_stride": 10.2},
    "stride over window": {"window_len": 10.0, "window_stride": 16.0},
    "even window": {"sample_rate": 11025},
    "valid": {"pooling_padding": "valid"},
    "centred": {"pooling_padding": "centred", "n_filters": 64},
    "causal": {"pooling_padding": "causal", "window_stride": 10.2},
    "frozen": {"learn_filters": False, "learn_pooling": False},
}


@pytest.mark.parametrize("settings", SIZES.values(), ids=SIZES)
@pytest.mark.slow_on_jax
def test_energies_are_within_the_tolerance(settings):
    leaf, exact = leaf_and_exact(**settings)
    x = noise(2, 12345)
    assert leaf.planned_for is not None
    assert 0 < log_error(leaf(x), exact(x)) < 3e-3


@pytest.mark.parametrize("tolerance", [1e-4, 1e-3, 1e-2])
@pytest.mark.slow_on_jax
def test_the_tolerance_is_kept_and_used(tolerance):
    leaf, exact = leaf_and_exact(tolerance=tolerance)
    x = noise(4, 16000)
    error = log_error(leaf(x), exact(x))
    assert tolerance / 30 < error < tolerance


@pytest.mark.parametrize("padding", ["same", "valid", "centred", "causal"])
@pytest.mark.parametrize("time", [401, 640, 641, 1000, 1599, 1600, 1601])
@pytest.mark.slow_on_jax
def test_frames_at_the_edges_are_within_it_too(time, padding):
    """Loud to the last sample, where a full-rate window is cut off."""
    leaf, exact = leaf_and_exact(pooling_padding=padding)
    x = noise(4, time)
    assert log_error(leaf(x), exact(x)) < 5e-3


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"sample_rate": 22050},
        {"window_stride": 10.2},
        {
            "n_filters": 5,
            "sample_rate": 11025,
            "window_len": 10.0,
            "window_stride": 20.0,
        },
    ],
)
@pytest.mark.slow_on_jax
def test_the_first_causal_frame_follows_its_only_sample(settings):
    """Energies before the audio say little about it, however loud it is."""
    pair = leaf_and_exact(pooling_padding="causal", **settings)
    # So loud that all energies are above the floor.
    x = 50 * noise(16, 1600)
    of_known, of_unknown, of_streams = [], [], []
    for part in pair:
        model = keras.Sequential([keras.Input((None,)), part])
        of_known.append(part(x)[:, :1])
        of_unknown.append(model.predict(x, verbose=0)[:, :1])
        of_streams.append(part.stream(len(x)).push(x)[:, :1])
    for planned, expected in (of_known, of_unknown, of_streams):
        assert log_error(planned, expected) < 2.5e-3


@pytest.mark.parametrize("time", [1, 2, 100, 400])
@pytest.mark.slow_on_jax
def test_inputs_shorter_than_a_window(time):
    leaf, exact = leaf_and_exact()
    # Energies of a few samples lie orders of magnitude below the floor.
    outputs, expected = (
        np.maximum(ops.convert_to_numpy(part(noise(2, time))), 1e-5)
        for part in (leaf, exact)
    )
    assert log_error(outputs, expected) < 5e-3


class PlannedEnergies(keras.layers.Layer):
    """Computes energies with the weights of two layers, by a given plan."""

    def __init__(self, convolve, pool, plan, geometry):
        super().__init__()
        self.convolve, self.pool = convolve, pool
        self._plan, self._geometry = plan, geometry

    def call(self, audio):
        return fast.planned_energies(
            audio[..., None],
            self.convolve.impulse_responses(),
            self.pool.widths(),
            plan=self._plan,
            geometry=self._geometry,
            padding=self.pool.padding,
        )


class ExactEnergies(keras.layers.Layer):
    """Computes energies by two layers at the full rate."""

    def __init__(self, convolve, pool):
        super().__init__()
        self.convolve, self.pool = convolve, pool

    def call(self, audio):
        parts = self.convolve(audio[..., None])
        return self.pool(parts[..., 0::2] ** 2 + parts[..., 1::2] ** 2)


@pytest.mark.parametrize("padding", ["same", "valid", "centred", "causal"])
@pytest.mark.parametrize("window_size, stride", [(21, 12), (22, 12)])
@pytest.mark.parametrize("far_share", [0.2, 1.0])
@pytest.mark.slow_on_jax
def test_spectra_with_all_offsets_are_exact(
    far_share, window_size, stride, padding
):
    """Of odd and even windows; the longest distance meets its mirror image."""
    geometry = fast.Geometry(window_size, window_size, stride)
    assert geometry.symmetric == (window_size == 21)
    offsets = (geometry.fft_length - 1) // 2
    bins = (-offsets, 2 * offsets)
    far = round(far_share * offsets)
    group = fast.SpectralGroup((0, 1, 2), ((far, bins), (offsets, bins)))
    plan = fast.Plan(np.ones((3, 3)), np.full(3, np.inf), (group,))
    convolve = convolution.GaborConv1D(
        6,
        window_size,
        kernel_initializer=initializers.GaborInit(
            sample_rate=8000, min_freq=60.0, max_freq=3900.0
        ),
    )
    pool = pooling.GaussianLowpass(window_size, stride, padding=padding)
    exact = ExactEnergies(convolve, pool)
    x = noise(2, 300)
    expected_energies = exact(x)
    planned = PlannedEnergies(convolve, pool, plan, geometry)
    assert log_error(planned(x), expected_energies) < 1e-4
    by_input, by_weight = grad_mean_square(planned, x)
    input_expected, expected = grad_mean_square(exact, x)
    pairs = zip(
        [by_input, *by_weight], [input_expected, *expected], strict=True
    )
    for gradient, right in pairs:
        distance = np.linalg.norm(gradient - right) / np.linalg.norm(right)
        assert distance < 1e-3


@pytest.mark.slow_on_jax
@pytest.mark.parametrize(
    "band, tone", [((7000, 7900), 2500), ((200, 700), 5000)]
)
def test_a_loud_tone_that_leaks_in_from_afar_is_followed(band, tone):
    """It swells and fades, 70 dB above all that the filters hear else."""
    leaf, exact = leaf_and_exact(n_filters=64)
    centre = 2 * np.pi * np.linspace(*band, 64) / 16000
    for part in (leaf, exact):
        kernel, _ = kernels(part)
        filters = np.stack([centre, np.full(64, 0.4 * 401)], axis=1)
        kernel.assign(filters.astype("float32"))
    time = np.arange(8000) / 16000
    x = 1e-4 * noise(2, 8000)
    swelling = 1 + np.sin(2 * np.pi * 50 * time)
    x += (0.3 * np.sin(2 * np.pi * tone * time) * swelling).astype("float32")
    assert log_error(leaf(x), exact(x)) < 1e-2
    groups = leaf.plan.groups
    assert all(isinstance(group, fast.SpectralGroup) for group in groups)


@pytest.mark.slow_on_jax
def test_few_offsets_suffice_where_the_length_cuts_filters_off():
    """By samples these filters cost as much as without a plan."""
    leaf, exact = leaf_and_exact(n_filters=64, sample_rate=8000)
    groups = leaf.plan.groups
    spectral = [g for g in groups if isinstance(g, fast.SpectralGroup)]
    assert sum(len(g.filters) for g in spectral) > 20
    assert all(g.hop > 4 for g in groups if g not in spectral)
    x = noise(2, 4000)
    outputs, expected = (
        ops.convert_to_numpy(part(x)) for part in (leaf, exact)
    )
    filters = [n for g in spectral for n in g.filters]
    assert log_error(outputs[..., filters], expected[..., filters]) < 3e-3


@pytest.mark.slow_on_jax
def test_a_burst_outside_a_window_does_not_leak_into_it():
    """What is 60 dB louder half a frame away, in filters of all lengths."""
    leaf, exact = leaf_and_exact(n_filters=64, sample_rate=8000)
    x = noise(2, 4000)
    x[:, 2000:2040] *= 1000
    assert log_error(leaf(x), exact(x)) < 5e-2


@pytest.mark.slow_on_jax
def test_real_speech_is_within_the_tolerance(speech_commands):
    """At the level of the published inputs, and at the trainer's."""
    leaf, exact = leaf_and_exact()
    paths = sorted(speech_commands.glob("train/*/*.flac"))
    clips = [soundfile.read(path)[0] for path in paths[:: len(paths) // 32]]
    clips = np.stack([np.resize(clip, 16000) for clip in clips])
    for std, highest, median in ((0.1, 5e-3, 5e-3), (5.6, 2e-2, 5e-3)):
        x = (clips / clips.std(axis=1, keepdims=True) * std).astype("float32")
        squares = []
        for some in np.array_split(x, 8):
            outputs, expected = (
                np.log(np.maximum(ops.convert_to_numpy(part(some)), 1e-5))
                for part in (leaf, exact)
            )
            squares.append((outputs - expected) ** 2)
        by_filter = np.sqrt(np.mean(np.concatenate(squares), axis=(0, 1)))
        assert np.sqrt(np.mean(by_filter**2)) < highest
        assert np.median(by_filter) < median


@pytest.mark.parametrize(
    "n_filters", [40, pytest.param(128, marks=pytest.mark.slow_on_jax)]
)
def test_gradients_are_those_of_the_exact_frontend(n_filters):
    leaf, exact = leaf_and_exact(n_filters=n_filters)
    x = noise(2, 8000)
    by_input, by_weight = grad_mean_square(leaf, x)
    input_expected, expected = grad_mean_square(exact, x)
    pairs = zip(
        [by_input, *by_weight], [input_expected, *expected], strict=True
    )
    for gradient, right in pairs:
        distance = np.linalg.norm(gradient - right) / np.linalg.norm(right)
        assert distance < 1e-2


def test_exact_by_request_and_where_plans_do_not_apply():
    assert frontend.Leaf(tolerance=0).planned_for is None
    squares = frontend.Leaf(activation="relu", n_filters=8)
    with pytest.raises(ValueError, match="no weights"):
        squares.replan()
    with pytest.raises(ValueError, match="tolerance=0.01 with"):
        frontend.Leaf(activation=ops.square, tolerance=0.01)
    with pytest.raises(ValueError, match="is fixed in a SincNet"):
        frontend.SincNet(tolerance=0.01)


@pytest.mark.parametrize("tolerance", [-1e-3, float("nan"), "low", 1.0])
def test_a_tolerance_that_cannot_be_is_rejected(tolerance):
    with pytest.raises(ValueError, match="`tolerance`"):
        frontend.Leaf(tolerance=tolerance)
